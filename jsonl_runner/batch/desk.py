"""What every step of a batch works with: manifest, provider, keys, time and a voice."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..backoff import Backoff
from ..errors import ConfigError, NoUsableKeyError, RunStoppedError
from ..secret import MAX_MESSAGE, Redactor, shorten, without_login
from .base import Order
from .fileless import first_answered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..clock import Clock, Stop
    from ..secret import Secret
    from .base import BatchProvider, ProviderError
    from .manifest import Manifest
    from .parts import Part


@dataclass(frozen=True)
class Pace:
    """How often things are done, in seconds.

    Attributes:
        poll_s, longest_poll_s: between two looks at running batches, at first and in the end.
        settle_s: after a creating call without an answer, the time in which a batch it may have
            made is sure to show in the provider's list. No provider says how long that is: too
            short may pay twice.
        looks: how often at the least it is looked for.
        missing_s: for which a batch or file that was made may be unknown to the provider.
        enqueued_s: the first wait after a refusal because too many tokens were waiting.
        retry: waits after calls that did not succeed.
    """

    poll_s: float = 15.0
    longest_poll_s: float = 300.0
    settle_s: float = 900.0
    looks: int = 3
    missing_s: float = 900.0
    enqueued_s: float = 60.0
    retry: Backoff = field(default_factory=lambda: Backoff(2.0, 120.0))


@dataclass(frozen=True)
class Time:
    """Where the time comes from, who ends the work, and how often things are done."""

    clock: Clock
    stop: Stop
    pace: Pace = field(default_factory=Pace)


@dataclass
class Watched:
    """Who is told what happens.

    Attributes:
        note: is told what the user should know.
        changed: is told of each change of a part.
        over: is told of each part whose batch is over, once.
    """

    note: Callable[[str], None] = field(default=lambda _: None)
    changed: Callable[[Part], None] = field(default=lambda _: None)
    over: Callable[[Part], None] = field(default=lambda _: None)


def key_hash(key: str) -> str:
    """Return what tells a key from others and not what it is."""
    return hashlib.sha256(b"jsonl-runner " + key.encode()).hexdigest()[:16]


class Keys:
    """The keys of the settings, for batches that belong to one each.

    Args:
        secrets: the keys in the order of the settings.
        note: is told when one is of no use.
    """

    def __init__(self, secrets: Sequence[Secret], note: Callable[[str], None]) -> None:
        self._secrets = {key_hash(secret.reveal()): secret for secret in secrets}
        self._dead: dict[str, str] = {}
        self._note = note

    def first(self) -> Secret:
        """Return the first key of use.

        Raises:
            ConfigError: there is none in the settings.
            NoUsableKeyError: all were refused.
        """
        for fingerprint, secret in self._secrets.items():
            if fingerprint not in self._dead:
                return secret
        if not self._secrets:
            raise ConfigError(
                "no API key: put it into config.json (api_keys) or OPENAI_API_KEY, or try "
                "batch run --simulate"
            )
        raise NoUsableKeyError(
            "no key can send batches: " + "; ".join(sorted(set(self._dead.values())))
        )

    def of(self, part: Part) -> str:
        """Return the key that a part belongs to.

        Raises:
            ConfigError: the settings do not have it.
        """
        secret = self._secrets.get(part.key_hash)
        if secret is None:
            raise ConfigError(
                f"part {part.number} belongs to the key {part.key_label}, which is not among the "
                "settings' keys; a batch can be seen with the key that made it alone: add it again"
            )
        return secret.reveal()

    def retire(self, part: Part, error: ProviderError) -> None:
        """Send nothing more with the key of a part."""
        if part.key_hash not in self._dead:
            self._dead[part.key_hash] = f"{part.key_label} {error}"
            self._note(f"key {part.key_label} cannot send batches: {error}")


class Desk:
    """See above.

    Args:
        manifest: opened for writing.
        provider: makes the calls.
        secrets: the keys of the settings.
        folder: where the ledger lies; the manifest's paths begin there.
        base_url: where the provider is, without a login.
        time: see there.
        note: is told what the user should know, each once.
    """

    def __init__(
        self,
        manifest: Manifest,
        provider: BatchProvider,
        secrets: Sequence[Secret],
        folder: Path,
        base_url: str,
        time: Time,
        note: Callable[[str], None],
    ) -> None:
        self.manifest = manifest
        self.provider = provider
        self.folder = folder
        self.base_url = base_url
        self.clock, self.stop, self.pace = time.clock, time.stop, time.pace
        self.redact = Redactor(secrets)
        self._note = note
        self.keys = Keys(secrets, self.note)
        self.rng = random.Random()
        self._failures: dict[int, int] = {}

    def note(self, text: str) -> None:
        """Tell the user."""
        self._note(self.clean(text))

    def clean(self, text: object) -> str:
        """Return a text as it may be shown and kept."""
        return shorten(self.redact(without_login(str(text))), MAX_MESSAGE)

    def key(self, part: Part) -> str:
        """Return the key of a part, whose provider must be the one of the settings.

        Raises:
            ConfigError: it is not there.
        """
        if part.base_url != self.base_url:
            raise ConfigError(
                f"part {part.number} lies at {part.base_url} and api_base is {self.base_url}: "
                "set api_base back, or give the part up with batch cancel --forget"
            )
        return self.keys.of(part)

    def check_key(self, error: ProviderError) -> None:
        """Raise what no waiting mends: a key that may not look at its own batches any more.

        Raises:
            RunStoppedError: it is about the key.
        """
        if error.is_of_key:
            raise RunStoppedError(
                f"the key of the batches is refused ({self.clean(error)}); they go on at the "
                "provider, and with the key in order again the same command collects them"
            )

    def order(self, part: Part) -> Order:
        """Return what is to be created of a part."""
        first = None if self.provider.uses_files else first_answered(self, part)
        left_out = frozenset() if first is None else frozenset({first})
        return Order(
            self.folder / part.path,
            part.file,
            part.token,
            part.name,
            part.requests - len(left_out),
            part.endpoint,
            part.window,
            left_out,
        )

    def wait_s(self, part: Part, error: ProviderError | None = None) -> float:
        """Return the seconds until a step that did not succeed is taken again."""
        tries = self._failures.get(part.number, 0)
        self._failures[part.number] = tries + 1
        asked = None if error is None else error.verdict.retry_after_s
        # Half at the least: nobody else waits, and a management call is not worth a storm.
        own = self.pace.retry.wait_s(tries, self.rng)
        return max(asked or 0.0, own, self.pace.retry.base_s / 2)

    def went_well(self, part: Part) -> None:
        """Begin the waits anew."""
        self._failures.pop(part.number, None)
