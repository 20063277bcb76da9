"""What a worker on a cluster does: a crew of its own, with its keys, on its node.

No key is sent to it. It is told digests, and finds its keys by them among those that the
environment or the configuration file of its node holds.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from .. import config as settings
from ..assembly import StandIn, assemble
from ..clock import Stop, SystemClock
from ..errors import ConfigError
from ..secret import Secret
from ..spending import Spending
from .posts import share_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..config import Config
    from ..keys import KeysView
    from ..records import Outcome, Record
    from ..snapshot import KeyView
    from ..spending import Use
    from .purse import Grant

#: Bytes of a key's digest, and of the salt that is another in each run.
_DIGEST_BYTES, SALT_BYTES = 16, 16
#: Seconds between two looks at the keys that are told.
_LOOK_S = 0.25


class Word(NamedTuple):
    """What a worker hears with its orders.

    Attributes:
        sharers, place: how many workers have its keys now, and which of them it is, from 0.
        retired: keys of no more use, by label, and why.
        cooled: keys that others were told to let rest: seconds, and what was said.
        grant: what it may spend; None: whatever it takes.
    """

    sharers: int
    place: int
    retired: Mapping[str, str]
    cooled: Mapping[str, tuple[float, str]]
    grant: Grant | None = None


@dataclass(frozen=True)
class Brief:
    """What a worker is sent at the beginning; it can be read by whoever reads the cluster.

    Attributes:
        config: the settings, without keys.
        file: the configuration file's path; None: there was none.
        keys: digests of the worker's keys, and their positions.
        salt: of the digests.
        word: the first.
        function: stands in for the provider.
        is_priced: whether costs are told.
    """

    config: Config
    file: Path | None
    keys: Mapping[bytes, int]
    salt: bytes = field(repr=False)
    word: Word
    function: StandIn | None
    is_priced: bool


class Told(NamedTuple):
    """What a worker tells.

    Attributes:
        view: its keys at a glance.
        keys: each of them.
        notes: for the user, since the last time.
        has_worked: whether any row has its output.
        use: what it has used of its grant.
    """

    view: KeysView
    keys: tuple[KeyView, ...]
    notes: tuple[str, ...]
    has_worked: bool
    use: Use | None = None


def digest_of(key: str, salt: bytes) -> bytes:
    """Return what names a key without holding it."""
    return hashlib.blake2b(key.encode(), key=salt, digest_size=_DIGEST_BYTES).digest()


class CrewDuty:
    """Does rows with keys of its own; see `engines.station.Duty`.

    Args:
        brief: what it is to do.

    Raises:
        ConfigError: this node lacks a key.
    """

    def __init__(self, brief: Brief) -> None:
        keys = _keys_here(brief)
        config = replace(brief.config, api_keys=keys)
        self._notes: deque[str] = deque()
        self._has_worked = False
        self._looked_at = float("-inf")
        self._share = (1, 0)
        self._calls = config.per_key_concurrency
        clock = SystemClock()
        self.stop = Stop()
        self._spending = Spending(config, clock, is_part=True) if brief.is_priced else None
        self._crew = assemble(
            config,
            clock=clock,
            stop=self.stop,
            note=self._notes.append,
            function=brief.function,
            spending=self._spending,
        )
        self._notes += self._crew.notes
        self.threads = self._crew.threads
        self.hear(brief.word)

    def work(self, record: Record) -> Outcome | None:
        """Do one Record."""
        outcome = self._crew.work(record)
        if outcome is not None and outcome.output is not None:
            self._has_worked = True
        return outcome

    def hear(self, word: Word) -> None:
        """Take note of how many share the keys, and of what those were told."""
        share = (word.sharers, word.place)
        if share != self._share:
            self._share = share
            self._crew.rotator.share(1 / word.sharers, share_of(self._calls, *share))
        if word.grant is not None and self._spending is not None:
            self._spending.grant(*word.grant)
        for label, why in word.retired.items():
            self._crew.rotator.learn(label, retired=why, why=why)
        for label, (cooldown_s, why) in word.cooled.items():
            self._crew.rotator.learn(label, cooldown_s=cooldown_s, why=why)

    def tell(self) -> Told | None:
        """Return the state of the keys; not more often than anybody looks."""
        now = time.monotonic()
        use = None
        if self._spending is not None and self._spending.is_limited:
            use = self._spending.use()
        has_news = use is not None or self._notes or self.stop.requested
        if now - self._looked_at < _LOOK_S and not has_news:
            return None
        self._looked_at = now
        rotator = self._crew.rotator
        notes = tuple(self._notes.popleft() for _ in range(len(self._notes)))
        return Told(rotator.view(), tuple(rotator.keys()), notes, self._has_worked, use)

    def close(self) -> None:
        """Close connections and cache."""
        self._crew.close()


def _keys_here(brief: Brief) -> tuple[Secret, ...]:
    """Return the worker's keys, as this node's environment and file have them.

    Raises:
        ConfigError: one is missing.
    """
    file = brief.file if brief.file is not None and brief.file.is_file() else None
    found = {}
    for key in settings.load(file).api_keys:
        digest = digest_of(key.reveal(), brief.salt)
        if digest in brief.keys:
            found[digest] = Secret(key.reveal(), brief.keys[digest])
    missing = sorted(position for digest, position in brief.keys.items() if digest not in found)
    if missing:
        where = f" or {brief.file}" if brief.file is not None else ""
        raise ConfigError(
            f"{socket.gethostname()} has no key #{missing[0]}: put the keys into the environment "
            f"(OPENAI_API_KEYS){where} of every node"
        )
    return tuple(sorted(found.values(), key=lambda key: key.position))
