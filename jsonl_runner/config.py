"""Settings: defaults < config file < environment < arguments, decided in one place."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import backoff, configfile
from .errors import ConfigError
from .settings.checks import DEFAULT_API_BASE
from .settings.groups import Given, entries, known, known_variable, merged
from .settings.table import BY_NAME, parse_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .secret import Secret

__all__ = [
    "DEFAULT_API_BASE",
    "DEFAULT_CONFIG_FILES",
    "DEFAULT_MODEL",
    "DEFAULT_PER_KEY_CONCURRENCY",
    "SETTINGS",
    "Config",
    "load",
    "parse_value",
]

#: One is taken when no other is named and it lies in the current folder. Two are an error: if one
#: of them went first, somebody would change the other and wonder.
DEFAULT_CONFIG_FILES = ("config.json", "config.yaml", "config.yml")
DEFAULT_MODEL = "gpt-4.1-mini"
#: Calls at once on one key where nothing is set: enough to fill a paid key's limits at a second a
#: call, little enough not to trip a small key's.
DEFAULT_PER_KEY_CONCURRENCY = 16
#: Before the name of a setting in capitals: `JSONL_RUNNER_MODEL`.
ENV_PREFIX = "JSONL_RUNNER_"
#: What the command of `--notify-command` is told, which may call us again.
_TOLD_TO_HOOKS = frozenset(f"{ENV_PREFIX}BATCH_{name}" for name in ("ID", "STATE", "OUTPUT"))
#: What other programs call some of them; the last one that is set decides, ours before all.
_OTHER_NAMES = (
    ("OPENAI_API_KEY", "api_keys"),
    ("OPENAI_API_KEYS", "api_keys"),
    ("OPENAI_BASE_URL", "api_base"),
)

#: Names of the settings, in the order in which they are shown.
SETTINGS = tuple(BY_NAME)

ENVIRONMENT, ARGUMENTS = "environment", "arguments"


@dataclass(frozen=True)
class Config:
    """The settings of a run, as `load` has checked them.

    What each is for stands in `settings.table`, for all that show it. None means: what the table
    says of an unset one.

    Attributes:
        notes: what is odd about the settings and was put right; for the user.
        origins: where each came from that is no default, in words: `config.yaml (openai.model)`,
            `environment OPENAI_API_KEY`, `arguments`.
        file: the whole path of the file that was read; None: none was.
    """

    api_keys: tuple[Secret, ...] = ()
    api_base: str = field(default=DEFAULT_API_BASE, repr=False)  # it may hold a login
    model: str = DEFAULT_MODEL
    params: Mapping[str, Any] = field(default_factory=dict)
    max_retries: int = 5
    schema_retries: int = 2
    retry_delay: float = backoff.ROW.base_s
    timeout: float = 300
    connect_timeout: float = 30
    body_timeout: float = 60
    stall_timeout: float = 1800
    threads: int | None = None
    per_key_concurrency: int = DEFAULT_PER_KEY_CONCURRENCY
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    proxy: str | None = field(default=None, repr=False)
    transport: str = "curl"
    http2: bool = False
    engine: str = "local"
    ray_address: str = "local"
    workers: int | None = None
    key_groups: list[list[int]] = field(default_factory=list)
    max_cost: float | None = None
    max_tokens_total: int | None = None
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    post: str | Callable[..., Any] | None = None
    cache: bool | None = None
    cache_directory: Path | None = None
    cache_expiry_days: float = 7
    cache_max_size_mb: float = 1024
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    file: Path | None = field(default=None, repr=False, compare=False)


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the settings in force.

    Args:
        path: a JSON or YAML file; None takes `config.json` or `config.yaml` in the current folder
            if it is there.
        overrides: settings by name that go before all others; None values say nothing.
        environ: the environment; None: the process's own.

    Raises:
        ConfigError: a file or a setting is wrong; the message names the file and the field.
    """
    environ = os.environ if environ is None else environ
    config = Config()
    is_named = path is not None
    path = _found_here() if path is None else Path(path)
    if path is not None:
        config = replace(_from_file(path, environ), file=path.absolute())
    if config.post is not None and not is_named:  # nobody means to run whatever lies in a folder
        raise ConfigError(
            f"{path}: post names code to run, and this file was only found here: name the file "
            f"(--config {path}), or give --post"
        )
    of_file = config.api_keys
    config = _apply(config, _from_environment(environ), ENVIRONMENT)
    unused = {key.reveal() for key in of_file} - {key.reveal() for key in config.api_keys}
    if unused:
        note = f"keys come from the environment; the {len(of_file)} in {path} are not used"
        config = replace(config, notes=(*config.notes, note))
    given = [
        Given(known(name, ARGUMENTS), value, name)
        for name, value in (overrides or {}).items()
        if value is not None and (name, value) != ("params", {})
    ]
    return _with_params_of(config, _apply(config, given, ARGUMENTS))


def _with_params_of(below: Config, config: Config) -> Config:
    """Return settings whose parameters add to those of the settings below, and say so."""
    origins = dict(config.origins)
    if below.params and origins["params"] == ARGUMENTS:
        origins["params"] = f"{below.origins['params']}, {ARGUMENTS}"
    return replace(config, params={**below.params, **config.params}, origins=origins)


def _found_here() -> Path | None:
    found = [name for name in DEFAULT_CONFIG_FILES if Path(name).is_file()]
    if len(found) > 1:
        raise ConfigError(f"{' and '.join(found)} are both here: name one with --config")
    return Path(found[0]) if found else None


def _from_file(path: Path, environ: Mapping[str, str]) -> Config:
    source = str(path)
    written = list(entries(configfile.read(path), source))
    given = merged((_looked_up(entry, environ, source) for entry in written), source)
    config = _apply(Config(), given, source)
    keys = next((entry.value for entry in written if entry.name == "api_keys"), ())
    keys = [keys] if isinstance(keys, str) else keys
    # Windows has no such bits; its st_mode always says "readable by others".
    if (
        os.name == "posix"
        and config.api_keys
        and not all(map(configfile.reference_in, keys))
        and path.stat().st_mode & stat.S_IROTH
    ):
        note = f"{path} holds keys and everybody on this machine can read it: chmod 600 {path}"
        return replace(config, notes=(*config.notes, note))
    return config


def _looked_up(given: Given, environ: Mapping[str, str], source: str) -> Given:
    """Return a setting of a file with what it takes from the environment."""
    is_parameter = given.name == "params"
    if configfile.half_reference(given.value) and not is_parameter:  # there it may be meant
        rule = "only a whole value can be ${NAME}"
        raise ConfigError(f"{source}: {given.written} has ${{…}} inside; {rule}")
    parse = parse_value if is_parameter else BY_NAME[given.name].parse
    within = str if given.name == "api_keys" else parse_value
    try:
        value = configfile.look_up(given.value, given.written, environ, parse, within)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return given._replace(value=value, is_reference=value != given.value)


def _from_environment(environ: Mapping[str, str]) -> Iterable[Given]:
    found: dict[str, Given] = {}
    for variable in sorted(environ.keys() - _TOLD_TO_HOOKS):
        if variable.startswith(ENV_PREFIX) and environ[variable]:
            known_variable(variable, ENV_PREFIX, ENVIRONMENT)
    for variable, name in (*_OTHER_NAMES, *((ENV_PREFIX + name.upper(), name) for name in BY_NAME)):
        text = environ.get(variable, "")
        if variable.startswith("OPENAI_"):
            text = text.strip(" ,\n\r\t")
        if not text:
            continue
        value = [text] if variable == "OPENAI_API_KEY" else BY_NAME[name].parse(text)
        found[name] = Given(name, value, variable)
    return found.values()


def _apply(config: Config, settings: Iterable[Given], source: str) -> Config:
    """Return the settings with others over them, checked."""
    changes: dict[str, Any] = {}
    origins = dict(config.origins)
    for given in settings:
        try:
            changes[given.name] = BY_NAME[given.name].check(given.value)
        except ValueError as error:
            raise ConfigError(f"{source}: {_complaint(given, error, source)}") from None
        origins[given.name] = _origin(given, source)
    if "api_keys" in changes:
        secrets, notes = changes["api_keys"]
        changes["api_keys"] = secrets
        changes["notes"] = (*config.notes, *(f"{source}: {note}" for note in notes))
    return replace(config, **changes, origins=origins)


def _complaint(given: Given, error: ValueError, source: str) -> str:
    name = given.name if source == ENVIRONMENT or given.name == "params" else given.written
    text = str(error)
    if given.is_reference:  # perhaps a key in the wrong place
        text = text.partition(", got ")[0] + "; what it has from the environment is not shown"
    return f"{name} {text}"


def _origin(given: Given, source: str) -> str:
    if source == ENVIRONMENT:
        return f"{source} {given.written}"
    return source if given.written == given.name else f"{source} ({given.written})"
