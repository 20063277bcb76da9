"""Compact sets and maps of record indices, for ten million rows in little memory.

Indices that look like integers (`"0"`, `"17"`) lie in a dense array: one bit each in a set, eight
bytes in a map. All others are kept as 128-bit BLAKE2b digests. Two different indices with one
digest would make a row look done that is not; at ten million rows the chance of that is 1e-25, far
below that of a memory fault, and unlike a comparison with the file it costs no reading.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

#: Integers below this are dense: 16 MiB at the most for a set, whatever the order they come in.
_DENSE_SET_LIMIT = 1 << 27
#: The same for a map (128 MiB at the most).
_DENSE_MAP_LIMIT = 1 << 24
#: Bytes of a digest that are stored; two more choose the bucket.
_REST = 14
_DIGEST = _REST + 2
_VALUE = 8


def _dense(index: str, limit: int) -> int:
    """Return the integer an index stands for, -1 when it is none that may be dense."""
    # Only the canonical form: "07", "+7" and "७" are other indices than "7".
    if index.isdecimal() and index.isascii() and (index[0] != "0" or index == "0"):
        # No integer below the limit is longer; int() of a long text would be slow.
        value = int(index) if len(index) < 10 else limit
        return value if value < limit else -1
    return -1


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


def _digest(index: str) -> bytes:
    return blake2b(index.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


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
        value = _dense(index, _DENSE_SET_LIMIT)
        if value < 0:
            return self._hashed.locate(_digest(index))[1] >= 0
        byte = value >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (value & 7) & 1)

    def add(self, index: str) -> bool:
        """Put an index in; return whether it is new."""
        value = _dense(index, _DENSE_SET_LIMIT)
        if value < 0:
            digest = _digest(index)
            if self._hashed.locate(digest)[1] >= 0:
                return False
            self._hashed.append(digest, b"")
        else:
            byte, bit = value >> 3, 1 << (value & 7)
            if byte >= len(self._bits):
                self._bits.extend(bytes(byte + 1 + byte // 8 - len(self._bits)))
            elif self._bits[byte] & bit:
                return False
            self._bits[byte] |= bit
        self._count += 1
        return True


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
        value = _dense(index, _DENSE_MAP_LIMIT)
        if value >= 0:
            return (self._dense[value] or 0) - 1 if self._has(value) else None
        bucket, at = self._hashed.locate(_digest(index))
        if bucket is None or at < 0:
            return None
        return int.from_bytes(bucket[at + _REST : at + _REST + _VALUE], "little")

    def _has(self, value: int) -> bool:
        return value < len(self._dense) and self._dense[value] != 0

    def set(self, index: str, number: int) -> None:
        """Give an index a number; the last one given holds."""
        value = _dense(index, _DENSE_MAP_LIMIT)
        if value >= 0:
            if value >= len(self._dense):
                self._dense.frombytes(bytes(_VALUE * (value + 1 + value // 8 - len(self._dense))))
            self._count += not self._dense[value]
            self._dense[value] = number + 1
            return
        digest, packed = _digest(index), number.to_bytes(_VALUE, "little")
        bucket, at = self._hashed.locate(digest)
        if bucket is None or at < 0:
            self._hashed.append(digest, packed)
            self._count += 1
        else:
            bucket[at + _REST : at + _REST + _VALUE] = packed
