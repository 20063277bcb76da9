"""Who does a run's rows: threads of this process, or workers on a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..assembly import assemble, keys_of, sizes
from ..config import ARGUMENTS, ENV_PREFIX
from ..engines.local import LocalEngine
from ..errors import ConfigError
from .lead import RunLead
from .posts import groups_of, posts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..assembly import StandIn
    from ..clock import Clock, Stop
    from ..config import Config
    from ..engines.base import Engine
    from ..keys import Books
    from ..spending import Spending


@dataclass(frozen=True)
class Team:
    """An engine, ready to begin.

    Attributes:
        engine: does the rows.
        books: its keys.
        notes: what the user should know of the choices made here.
        close: lets go of connections, cache and cluster.
    """

    engine: Engine
    books: Books
    notes: tuple[str, ...]
    close: Callable[[], None]


def team_of(
    config: Config,
    *,
    clock: Clock,
    stop: Stop,
    note: Callable[[str], None],
    function: StandIn | None = None,
    rows: int | None = None,
    spending: Spending | None = None,
) -> Team:
    """Return what the settings ask for; the arguments are those of `assemble`.

    Raises:
        ConfigError: there is no key, no cluster, or what is asked for does not go together.
    """
    if config.engine == "ray":
        return _on_ray(config, clock, stop, note, function, rows, spending)
    crew = assemble(
        config, clock=clock, stop=stop, note=note, function=function, rows=rows, spending=spending
    )
    engine = LocalEngine(crew.work, threads=crew.threads, stop=stop)
    return Team(engine, crew.rotator, crew.notes, crew.close)


def _on_ray(  # as `team_of`
    config: Config,
    clock: Clock,
    stop: Stop,
    note: Callable[[str], None],
    function: StandIn | None,
    rows: int | None,
    spending: Spending | None,
) -> Team:
    from ..engines.cluster import LOCAL, Cluster  # noqa: PLC0415  # for whoever asks for it
    from ..engines.ray import RayEngine  # noqa: PLC0415

    is_local = config.ray_address == LOCAL
    _check(config, is_local=is_local)
    if function is not None and not function.uses_keys:
        config = replace(config, api_keys=())
    threads, per_key = sizes(config, len(keys_of(config, function)), rows)
    config = replace(config, per_key_concurrency=per_key)
    groups = groups_of(config) or [()]
    cluster = Cluster(config.ray_address, _environ(config) if is_local else {})
    try:
        cluster.check_sending((function, config.post))
        posts = posts_of(groups, config.workers or cluster.nodes, threads)
        lead = RunLead(
            config,
            posts,
            clock=clock,
            stop=stop,
            note=note,
            function=function,
            spending=spending,
        )
        engine = RayEngine(cluster, lead, stop=stop)
    except BaseException:
        cluster.close()
        raise
    said = f"{len(posts)} workers on Ray ({config.ray_address}), {threads} calls at the same time"
    return Team(engine, lead, (said,), cluster.close)


def _check(config: Config, *, is_local: bool) -> None:
    """Refuse what workers on other machines cannot do.

    Raises:
        ConfigError: the settings ask for it.
    """
    if not is_local and config.origins.get("api_keys") == ARGUMENTS:
        raise ConfigError(
            f"--ray-address {config.ray_address}: keys that are given as arguments reach no other "
            "machine; put them into the environment or a configuration file of every node"
        )
    if not is_local and config.cache:
        raise ConfigError(
            f"--ray-address {config.ray_address}: a cache is one machine's; leave --cache out"
        )


def _environ(config: Config) -> dict[str, str]:
    """Return what workers of our own cluster need to find keys that stand nowhere else."""
    if config.origins.get("api_keys") != ARGUMENTS or not config.api_keys:
        return {}  # they read what this process has read
    return {f"{ENV_PREFIX}API_KEYS": ",".join(key.reveal() for key in config.api_keys)}
