"""Answers kept for the next time, on disk: the full request's hash leads to the whole response.

Whatever is wrong with the cache costs the cache, never the run: nothing here raises for it (see
`cachefile`, which also tells why this library).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson
import platformdirs

from . import jsontext
from .attempts import Kind, Verdict
from .cachefile import CacheFile
from .retry import read_completion
from .secret import MIN_SECRET_LENGTH, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .clock import Clock
    from .config import Config

#: The folder in the cache's directory; another format gets another name, and so never meets this.
_FOLDER = "answers-1"
#: What a key begins with: another meaning of the hash, another version.
_KEY_FORMAT = b"1\n"
#: Request parameters that change how an answer is sent, not the answer.
_OF_SENDING = ("stream", "stream_options")
_LONG_NUMBER = re.compile(rb"[0-9]{19}")  # orjson would make a float of it
_DAY_S, _MB = 86_400.0, 1024 * 1024


class CachedAnswer(NamedTuple):
    """What the cache has for a request.

    Attributes:
        verdict: what the response means, as when it came; always a success. Its `answer` has the
            text, the finish reason, the model that answered and what it used then.
        stored_at: seconds since 1970.
        model: the one that was asked for.
        body: the whole response.
    """

    verdict: Verdict
    stored_at: float
    model: str
    body: bytes


@dataclass
class Share:
    """Answers of one model: how many, and the bytes of their responses."""

    entries: int = 0
    bytes: int = 0


@dataclass
class CacheStats:
    """What the cache holds.

    Attributes:
        folder: where it lies.
        entries: answers that have not expired.
        bytes: of its files.
        max_bytes: beyond this the oldest are dropped.
        expiry_s: seconds for which an answer is given again.
        oldest, newest: when answers were stored, in seconds since 1970; None where there is none.
        models: by the model that was asked for, the largest share first.
    """

    folder: str
    entries: int = 0
    bytes: int = 0
    max_bytes: int = 0
    expiry_s: float = 0.0
    oldest: float | None = None
    newest: float | None = None
    models: dict[str, Share] = field(default_factory=dict)


def default_directory() -> Path:
    """Return the directory of the cache where none is set: the system's place for such files."""
    return platformdirs.user_cache_path("jsonl-runner", appauthor=False)


def folder_in(directory: Path | None) -> Path:
    """Return the folder of the cache in its directory; None: the default one."""
    if directory is None:
        return default_directory() / _FOLDER
    # As the library would do; so that it finds nothing left to do.
    return Path(os.path.expandvars(directory.expanduser())) / _FOLDER


def key_of(base_url: str, body: bytes, sample: int = 0) -> str:
    """Return what tells a request from all others that may be answered differently.

    Args:
        base_url: where it goes; a login in it does not count.
        body: its JSON; the order of the fields and how the answer is streamed do not count.
        sample: which of several answers to one request; the first is that of whoever asks once.
    """
    scheme, _, rest = base_url.partition("://")
    host, slash, path = rest.partition("/")
    place = f"{scheme.lower()}://{host.rpartition('@')[2].lower()}{slash}{path}".rstrip("/")
    data = (json.loads if _LONG_NUMBER.search(body) else orjson.loads)(body)
    for name in _OF_SENDING:
        data.pop(name, None)
    content = jsontext.dump(data, sort_keys=True)
    whole = _KEY_FORMAT + place.encode() + b"\n" + content + (b"\n%d" % sample if sample else b"")
    return blake2b(whole, digest_size=32).hexdigest()


class Cache:
    """Whole responses by request, for any number of threads and processes.

    Args:
        directory: where its folder is made; None: the user's cache directory.
        expiry_s: seconds for which an answer is given again, by the clock.
        max_bytes: of its files; beyond this the oldest answers are dropped.
        clock: where the time comes from.
        note: is told, once each, what the cache could not do.
        secrets: keys; a response that holds one is not kept.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        expiry_s: float,
        max_bytes: int,
        clock: Clock,
        note: Callable[[str], None],
        secrets: Iterable[Secret] = (),
    ) -> None:
        #: Where it lies.
        self.folder = folder_in(directory)
        #: Where processes say what they are asking.
        self.claims = self.folder / "claims"
        self._file = CacheFile(self.folder, max_bytes=max_bytes, clock=clock, note=note)
        self._expiry_s = expiry_s
        self._max_bytes = max_bytes
        self._clock = clock
        words = [secret.reveal() for secret in secrets]
        patterns = [re.escape(jsontext.dump(w)[1:-1]) for w in words if len(w) >= MIN_SECRET_LENGTH]
        self._secrets = re.compile(b"|".join(patterns)) if patterns else None

    def get(self, key: str) -> CachedAnswer | None:
        """Return the answer kept for a request's key; None when there is none that can be used."""
        value = self._file.get(key)
        return None if value is None else self._read(key, value)

    def put(self, key: str, model: str, body: bytes) -> None:
        """Keep a response; one that is no success, or holds a key, is not kept.

        Args:
            key: of the request.
            model: the one it asked for.
            body: the whole response.
        """
        try:
            data = jsontext.load(body)
        except ValueError:
            return
        if not isinstance(data, dict) or read_completion(data).kind is not Kind.OK:
            return
        if self._secrets is not None and self._secrets.search(jsontext.dump(data)):
            return
        head = {"stored_at": self._clock.wall(), "model": model, "digest": _digest(key, body)}
        self._file.put(key, jsontext.dump(head) + b"\n" + body, model, self._expiry_s)

    def stats(self) -> CacheStats:
        """Return what it holds; it looks at every answer."""

        def at(key: str, value: bytes) -> tuple[str, float, int] | None:
            answer = self._read(key, value)
            return answer and (answer.model, answer.stored_at, len(answer.body))

        found = [facts for facts in self._file.look(at) if facts is not None]
        models: dict[str, Share] = {}
        for model, _, size in found:
            share = models.setdefault(model, Share())
            share.entries += 1
            share.bytes += size
        times = [stored_at for _, stored_at, _ in found]
        return CacheStats(
            str(self.folder),
            len(found),
            self._file.size(),
            self._max_bytes,
            self._expiry_s,
            min(times, default=None),
            max(times, default=None),
            dict(sorted(models.items(), key=lambda item: -item[1].bytes)),
        )

    def clear(self, *, older_than_s: float | None = None, model: str | None = None) -> int:
        """Remove answers and return how many; without arguments, all of them.

        Args:
            older_than_s: only those stored longer ago, in seconds.
            model: only those of requests to this model.
        """
        if older_than_s is None and model is None:
            return self._file.remove(None)
        before = self._clock.wall() - (older_than_s or 0.0)

        def goes(key: str, value: bytes) -> bool:
            answer = self._read(key, value)
            if answer is None:  # it would never be given
                return True
            is_old = older_than_s is None or answer.stored_at < before
            return is_old and (model is None or answer.model == model)

        return self._file.remove(goes)

    def close(self) -> None:
        """Let go of the files; later calls find nothing and keep nothing."""
        self._file.close()

    def _read(self, key: str, value: bytes) -> CachedAnswer | None:
        """Return an entry as an answer; None when it has expired or is not as it was stored."""
        head, _, body = value.partition(b"\n")
        try:
            fields = orjson.loads(head)
            stored_at, model = float(fields["stored_at"]), str(fields["model"])
            if fields["digest"] != _digest(key, body):
                return None
            verdict = read_completion(jsontext.load(body))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        # A time far ahead is one of a clock that was wrong: it would never expire.
        if verdict.kind is not Kind.OK or abs(self._clock.wall() - stored_at) >= self._expiry_s:
            return None
        return CachedAnswer(verdict, stored_at, model, body)


def _digest(key: str, body: bytes) -> str:
    return blake2b(key.encode() + body, digest_size=16).hexdigest()


def cache_of(config: Config, *, clock: Clock, note: Callable[[str], None]) -> Cache:
    """Return the cache the settings tell of; nothing is made or opened before it is asked."""
    return Cache(
        config.cache_directory,
        expiry_s=config.cache_expiry_days * _DAY_S,
        max_bytes=int(config.cache_max_size_mb * _MB),
        clock=clock,
        note=note,
        secrets=config.api_keys,
    )
