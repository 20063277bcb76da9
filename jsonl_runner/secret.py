"""Keys that cannot be printed by accident, and texts cleaned of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Characters. A shorter "key" (`EMPTY`, `none`) is a placeholder for servers that check none; to
#: cut such a word out of messages would spoil them and protect nothing.
MIN_SECRET_LENGTH = 8

#: `user:password@` of a proxy address.
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]+@")


#: Characters of a message and of an error's code that are kept. What comes from outside is cut only
#: after keys are taken out: half a key at the cut would not be known for one.
MAX_MESSAGE, MAX_CODE = 400, 64


class Secret:
    """One API key: shown as its label wherever it is printed, read only through `reveal`."""

    __slots__ = ("_value", "label", "position")

    def __init__(self, value: str, position: int) -> None:
        self._value = value
        self.position = position
        #: Position in the configuration, from 1, and the last four characters.
        self.label = f"#{position}(…{value[-4:]})"

    def reveal(self) -> str:
        """Return the key itself: for an Authorization header and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.label})"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is not written into files")


class Redactor:
    """Removes keys and proxy passwords from texts that came from outside."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._labels = {
            secret.reveal(): secret.label
            for secret in secrets
            if len(secret.reveal()) >= MIN_SECRET_LENGTH
        }
        # Longest first, so that a key which begins another does not leave the rest of it.
        ordered = sorted(self._labels, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return the text with every key replaced by its label."""
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._labels[match[0]], text)
        return without_login(text)


def shorten(text: str, limit: int) -> str:
    """Return a text cut to `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_login(text: str) -> str:
    """Return the text with `user:password@` taken out of every address in it."""
    return _URL_LOGIN.sub("…@", text)
