"""Which texts stand in many rows: ten bytes a text in memory, however long the texts are.

A text is kept as 64 bits of Python's own hash of it, and what it answers as 32. At ten million
rows the chance that any text looks like another that it is not is one in 400,000; such a text would
be counted, never changed.
"""

from __future__ import annotations

from typing import NamedTuple

#: Bytes of a text's digest beside the 16 bits that choose its bucket, and of what it answers.
_REST, _ASKED = 6, 4
_SIZE = _REST + _ASKED
_BUCKETS = 1 << 16
_REST_BITS, _ASKED_BITS = (1 << 8 * _REST) - 1, (1 << 8 * _ASKED) - 1
#: Texts that stand twice or more are counted one by one, up to so many. Beyond them the rarer half
#: is forgotten, so that counts may then be too low by what was seen before.
MOST_COUNTED = 4096
#: Characters kept of each of those.
_SHOWN = 300


class Frequent(NamedTuple):
    """A text that stands in many rows.

    Attributes:
        text: its first characters.
        rows: that have it.
    """

    text: str
    rows: int


class _Counted:
    """A text that stands twice or more: its beginning, its rows, what the first of them asked."""

    __slots__ = ("asked", "count", "text")

    def __init__(self, text: str, asked: int) -> None:
        self.text = text
        self.asked = asked
        self.count = 1


class Repeats:
    """Counts texts that stand in many rows."""

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * _BUCKETS
        self._counted: dict[int, _Counted] = {}
        #: Whether there were more texts to count than can be kept.
        self.has_forgotten = False

    def add(self, text: str, asked: int) -> bool:
        """Count a text; return whether it stood in a row before that asked something else.

        Args:
            text: of the row's output.
            asked: a hash of what the row asks; equal for rows that ask the same.
        """
        digest, asked = hash(text), asked & _ASKED_BITS
        counted = self._counted.get(digest)
        if counted is None:
            first = self._first(digest, asked)
            if first is None:
                return False
            counted = self._count(digest, text, first)
        counted.count += 1
        return counted.asked != asked

    def _first(self, digest: int, asked: int) -> int | None:
        """Return what the first row with a text asked; keep it, and None, when this is it."""
        number = digest & (_BUCKETS - 1)
        rest = (digest >> 16 & _REST_BITS).to_bytes(_REST, "little")
        bucket = self._buckets[number]
        if bucket is None:
            bucket = self._buckets[number] = bytearray()
        at = bucket.find(rest)
        while at >= 0 and at % _SIZE:  # found across two texts: look on
            at = bucket.find(rest, at + 1)
        if at >= 0:
            return int.from_bytes(bucket[at + _REST : at + _SIZE], "little")
        bucket += rest + asked.to_bytes(_ASKED, "little")
        return None

    def _count(self, digest: int, text: str, asked: int) -> _Counted:
        if len(self._counted) >= MOST_COUNTED:
            self.has_forgotten = True
            often = sorted(self._counted.items(), key=lambda item: -item[1].count)
            self._counted = dict(often[: MOST_COUNTED // 2])
        counted = self._counted[digest] = _Counted(text[:_SHOWN], asked)
        return counted

    def most_frequent(self, size: int) -> list[Frequent]:
        """Return the texts that stand in the most rows, of those that stand in two or more."""
        often = sorted(self._counted.values(), key=lambda counted: (-counted.count, counted.text))
        return [Frequent(counted.text, counted.count) for counted in often[:size]]
