"""Compact sets and maps of record indices, for ten million rows in little memory.

Indices that look like integers (`"0"`, `"17"`) lie in a dense array: one bit each in a set, eight
bytes in a map. All others are kept as 128-bit BLAKE2b digests. Two different indices with one
digest would make a row look done that is not; at ten million rows the chance of that is 1e-25, far
below that of a memory fault, and unlike a comparison with the file it costs no reading.

What an index becomes (its `Place`) is worked out once, for many indices at a time where there are
many: that is most of what a resume over a million rows costs.
"""

from __future__ import annotations

import struct
from array import array
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: A small integer that the index spells, or the digest of its text.
Place: TypeAlias = int | bytes

#: Integers below this are dense: 16 MiB at the most for a set, whatever the order they come in.
_DENSE_SET_LIMIT = 1 << 27
#: The same for a map (128 MiB at the most).
_DENSE_MAP_LIMIT = 1 << 24
#: Bytes of a digest that are stored; two more choose the bucket.
_REST = 14
_DIGEST = _REST + 2
_VALUE = 8
#: How a set begins where it is kept: members, bytes of its bits, buckets. Then, of each bucket, the
#: bytes that chose it and its size.
_SET_HEAD, _BUCKET_HEAD = struct.Struct("<QQI"), struct.Struct("<2sI")
#: Fewer places than this are put in one by one; and so are those that leave larger gaps.
_MANY, _MAX_SPARSE = 16, 16


def place_of(index: str) -> Place:
    """Return where an index lies."""
    # Only the canonical form: "07", "+7" and "७" are other indices than "7".
    if index.isdecimal() and index.isascii() and (index[0] != "0" or index == "0"):
        # No integer below the limit is longer; int() of a long text would be slow.
        value = int(index) if len(index) < 10 else _DENSE_SET_LIMIT
        if value < _DENSE_SET_LIMIT:
            return value
    return _digest(index)


def places_of(indices: list[str]) -> Sequence[Place]:
    """Return where each of many indices lies; quick where all of them are integers."""
    try:
        numbers = list(map(int, indices))
    except ValueError:  # a text, or more digits than Python converts
        numbers = []
    if _are_dense(numbers):
        digits = {len(str(min(numbers))), len(str(max(numbers)))}
        # As long as its number, and nothing but ASCII: the canonical form.
        if len(digits) == 1 and set(map(len, indices)) == digits and "".join(indices).isascii():
            return numbers
    return list(map(place_of, indices))


def places_of_integers(numbers: list[int]) -> Sequence[Place]:
    """Return where the indices lie that are these integers' decimal forms."""
    if _are_dense(numbers):
        return numbers
    return [place_of(str(number)) for number in numbers]


def _are_dense(numbers: list[int]) -> bool:
    return bool(numbers) and min(numbers) >= 0 and max(numbers) < _DENSE_SET_LIMIT


def _digest(index: str) -> bytes:
    return blake2b(index.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


class _Buckets:
    """Fixed-size records behind digests: 65,536 byte strings, searched by memmem."""

    __slots__ = ("_buckets", "_size")

    def __init__(self, value_size: int) -> None:
        self._buckets: dict[bytes, bytearray] = {}
        self._size = _REST + value_size

    def locate(self, digest: bytes) -> tuple[bytearray | None, int]:
        """Return the digest's bucket and its record's place in it, -1 when it has none."""
        bucket = self._buckets.get(digest[:2])
        if bucket is None:
            return None, -1
        rest = digest[2:]
        at = bucket.find(rest)
        while at >= 0 and at % self._size:  # found across two records: look on
            at = bucket.find(rest, at + 1)
        return bucket, at

    def append(self, digest: bytes, value: bytes) -> None:
        """Add a record that is not there."""
        self._buckets.setdefault(digest[:2], bytearray()).extend(digest[2:] + value)

    def __len__(self) -> int:
        return len(self._buckets)

    def dump(self, write: Callable[[bytes | bytearray], object]) -> None:
        """Write all records."""
        for key, bucket in self._buckets.items():
            write(_BUCKET_HEAD.pack(key, len(bucket)))
            write(bucket)

    def load(self, read: Callable[[int], bytes], count: int) -> None:
        """Read so many buckets as `dump` wrote them."""
        for _ in range(count):
            key, size = _BUCKET_HEAD.unpack(read(_BUCKET_HEAD.size))
            self._buckets[key] = bytearray(read(size))


class _Mask(NamedTuple):
    """Neighbouring integers as the bits of bytes `start` to `end` of a dense set."""

    start: int
    end: int
    bits: int


def _mask_of(places: Sequence[Place]) -> _Mask | None:
    """Return many integers as one, None when they are few, far apart, repeated or no integers.

    One sum of a thousand bits costs as much as a few Python steps.
    """
    if len(places) < _MANY or bytes in set(map(type, places)):
        return None
    numbers = cast("Sequence[int]", places)
    low, high = min(numbers), max(numbers)
    width = high - low + 1
    if width > _MAX_SPARSE * len(numbers):
        return None
    start = low >> 3
    if width == len(numbers) and list(range(low, high + 1)) == numbers:
        bits = (1 << width) - 1
    else:
        flags = bytearray(b"0") * width
        for number in numbers:
            flags[high - number] = 49  # "1"; the highest first, as numbers are written
        if flags.count(b"1") < len(numbers):
            return None
        bits = int(flags, 2)
    return _Mask(start, (high >> 3) + 1, bits << (low - 8 * start))


class IndexSet:
    """A set of indices that only grows."""

    __slots__ = ("_bits", "_count", "_hashed")

    def __init__(self) -> None:
        self._bits = bytearray()
        self._hashed = _Buckets(0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, index: str) -> bool:
        return self.has(place_of(index))

    def has(self, place: Place) -> bool:
        """Return whether the index of a place is in."""
        if isinstance(place, bytes):
            return self._hashed.locate(place)[1] >= 0
        byte = place >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (place & 7) & 1)

    def add(self, index: str) -> bool:
        """Put an index in; return whether it is new."""
        return self.put(place_of(index))

    def put_all(self, places: Sequence[Place]) -> list[int]:
        """Put the indices of many places in; return which of `places` were in already."""
        mask = _mask_of(places)
        if mask is not None and not self._window(mask) & mask.bits:
            new = self._window(mask) | mask.bits
            self._bits[mask.start : mask.end] = new.to_bytes(mask.end - mask.start, "little")
            self._count += len(places)
            return []
        return [number for number, place in enumerate(places) if not self.put(place)]

    def lacking(self, places: Sequence[Place]) -> list[int]:
        """Return which of `places` are not in."""
        mask = _mask_of(places)
        if mask is not None and self._window(mask) & mask.bits == mask.bits:
            return []
        return [number for number, place in enumerate(places) if not self.has(place)]

    def among(self, places: Sequence[Place]) -> list[int]:
        """Return which of `places` are in."""
        if not self._count:
            return []
        return [number for number, place in enumerate(places) if self.has(place)]

    def put(self, place: Place) -> bool:
        """Put the index of a place in; return whether it is new."""
        if isinstance(place, bytes):
            if self._hashed.locate(place)[1] >= 0:
                return False
            self._hashed.append(place, b"")
        else:
            byte, bit = place >> 3, 1 << (place & 7)
            self._reach(byte + 1)
            if self._bits[byte] & bit:
                return False
            self._bits[byte] |= bit
        self._count += 1
        return True

    def count_between(self, low: int, high: int) -> int:
        """Return how many of the integers from `low` to `high` are in, both of them included."""
        start = low >> 3
        bits = int.from_bytes(self._bits[start : (high >> 3) + 1], "little") >> (low - 8 * start)
        return (bits & ((1 << (high - low + 1)) - 1)).bit_count()

    def dump(self, write: Callable[[bytes | bytearray], object]) -> None:
        """Write the set, for `load`."""
        bits = self._bits.rstrip(b"\0")
        write(_SET_HEAD.pack(self._count, len(bits), len(self._hashed)))
        write(bits)
        self._hashed.dump(write)

    @classmethod
    def load(cls, read: Callable[[int], bytes]) -> IndexSet:
        """Return a set that `dump` wrote.

        Args:
            read: returns the next so many bytes.

        Raises:
            struct.error: there are fewer.
        """
        found = cls()
        found._count, size, buckets = _SET_HEAD.unpack(read(_SET_HEAD.size))
        found._bits = bytearray(read(size))
        found._hashed.load(read, buckets)
        return found

    def _reach(self, size: int) -> None:
        if size > len(self._bits):
            self._bits.extend(bytes(size + size // 8 - len(self._bits)))

    def _window(self, mask: _Mask) -> int:
        self._reach(mask.end)
        return int.from_bytes(self._bits[mask.start : mask.end], "little")


class IndexMap:
    """A map from indices to whole numbers from 0 to 2**64 - 2; nothing is ever taken out."""

    __slots__ = ("_count", "_dense", "_hashed")

    def __init__(self) -> None:
        self._dense = array("Q")  # value + 1; 0 where there is none
        self._hashed = _Buckets(_VALUE)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, index: str) -> int | None:
        """Return an index's number, None when it has none."""
        return self.at(place_of(index))

    def at(self, place: Place) -> int | None:
        """Return the number of a place, None when it has none."""
        if not isinstance(place, bytes):
            if place < _DENSE_MAP_LIMIT:
                return self._dense[place] - 1 if self._has(place) else None
            place = _digest(str(place))
        bucket, at = self._hashed.locate(place)
        if bucket is None or at < 0:
            return None
        return int.from_bytes(bucket[at + _REST : at + _REST + _VALUE], "little")

    def all_at(self, places: Sequence[Place]) -> list[int | None]:
        """Return the number of each of many places; quick where all are small integers."""
        if self._are_there(places):
            numbers = map(self._dense.__getitem__, cast("Sequence[int]", places))
            return [number - 1 if number else None for number in numbers]
        return list(map(self.at, places))

    def _are_there(self, places: Sequence[Place]) -> bool:
        """Return whether all of them are integers within the dense part as it is."""
        if bytes in set(map(type, places)):
            return False
        return max(cast("Sequence[int]", places), default=0) < len(self._dense)

    def _has(self, place: int) -> bool:
        return place < len(self._dense) and self._dense[place] != 0

    def set(self, index: str, number: int) -> None:
        """Give an index a number; the last one given holds."""
        self.put(place_of(index), number)

    def put_all(self, places: Sequence[Place], numbers: Sequence[int]) -> None:
        """Give the indices of many places a number each; quick where all are small integers."""
        integers = [place for place in places if not isinstance(place, bytes)]
        highest = max(integers, default=_DENSE_MAP_LIMIT)
        if len(integers) < len(places) or highest >= _DENSE_MAP_LIMIT:
            for place, number in zip(places, numbers, strict=True):
                self.put(place, number)
            return
        self._reach(highest)
        dense, new = self._dense, 0
        for at, number in zip(integers, numbers, strict=True):
            new += not dense[at]
            dense[at] = number + 1
        self._count += new

    def _reach(self, place: int) -> None:
        missing = place + 1 - len(self._dense)
        if missing > 0:
            self._dense.frombytes(bytes(_VALUE * (missing + place // 8)))

    def put(self, place: Place, number: int) -> None:
        """Give the index of a place a number; the last one given holds."""
        if not isinstance(place, bytes):
            if place < _DENSE_MAP_LIMIT:
                self._reach(place)
                self._count += not self._dense[place]
                self._dense[place] = number + 1
                return
            place = _digest(str(place))
        packed = number.to_bytes(_VALUE, "little")
        bucket, at = self._hashed.locate(place)
        if bucket is None or at < 0:
            self._hashed.append(place, packed)
            self._count += 1
        else:
            bucket[at + _REST : at + _REST + _VALUE] = packed
