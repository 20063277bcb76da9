r"""Bytes as they come from a file or a pipe, unpacked where they are gzip or zstd, cut into lines.

Everything here is a generator that reads no more than its reader asks for: a row that came through
a pipe waits for no other.
"""

from __future__ import annotations

import itertools
import zlib
from typing import IO, TYPE_CHECKING, Any

from ..errors import InputError
from ..rows import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes read at once.
CHUNK = 256 * 1024
#: Bytes of zstd data unpacked at once: its library cannot be told how much to give, and text that
#: is packed to a hundredth is nothing special.
_ZSTD_CHUNK = 8 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
#: What begins a frame that zstd passes over.
_SKIPPABLE = b"\x2a\x4d\x18"
#: Files whose name says that they are packed.
PACKED = (".gz", ".zst")


def packing_of(head: bytes) -> str:
    """Return how data is packed by its first four bytes: `.gz`, `.zst`, or nothing."""
    if head.startswith(_GZIP):
        return ".gz"
    is_skippable = head[1:4] == _SKIPPABLE and 0x50 <= head[0] <= 0x5F
    return ".zst" if head.startswith(_ZSTD) or is_skippable else ""


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what a stream holds, in pieces as they come."""
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    while chunk := read(CHUNK):
        yield chunk


def with_head(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, `size` at the least where there are so many, and all of the data."""
    head = b""
    while len(head) < size and (chunk := next(chunks, b"")):
        head += chunk
    return head, itertools.chain([head] if head else [], chunks)


def unpacked(chunks: Iterator[bytes], name: str, *, said: str = "") -> Iterator[bytes]:
    """Yield data as it is when it is unpacked; what is not packed as it comes.

    Args:
        chunks: the data.
        name: what messages call its file.
        said: how it is packed by the name of the file; nothing where that says nothing.

    Raises:
        InputError: it is damaged, cut off, or not packed although it should be.
    """
    head, chunks = with_head(chunks, 4)
    packing = packing_of(head)
    if packing == ".gz":
        yield from _unzipped(chunks, name)
    elif packing == ".zst":
        yield from _unpacked_zstd(chunks, name)
    elif said and head:
        what = "gzip" if said == ".gz" else "zstd"
        raise InputError(f"{name}: this is no {what} data, although its name ends in {said}")
    else:
        yield from chunks


def _unzipped(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yield the data of all members of a gzip file, one after the other."""
    member: Any = None
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if member is None:
                    data = data.lstrip(b"\0")  # tapes pad with zeros, and gzip takes no offence
                    if not data:
                        break
                    member = zlib.decompressobj(wbits=31)
                if out := member.decompress(data, CHUNK):
                    yield out
                data = member.unconsumed_tail
                if member.eof:
                    data, member = member.unused_data, None
            while member is not None and (out := member.decompress(b"", CHUNK)):
                yield out
    except zlib.error as error:
        raise _damaged(name, "gzip", error) from None
    if member is not None:
        raise _cut_off(name, "gzip")


def _unpacked_zstd(chunks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Yield the data of all frames of a zstd file, one after the other."""
    zstandard = needed("zstandard", name, "zstd files")
    frame: Any = None
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _ZSTD_CHUNK):
                data = chunk[start : start + _ZSTD_CHUNK]
                while data:
                    if frame is None:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    if out := frame.decompress(data):
                        yield out
                    data = b""
                    if frame.eof:
                        data, frame = frame.unused_data, None
    except zstandard.ZstdError as error:
        raise _damaged(name, "zstd", error) from None
    if frame is not None:
        raise _cut_off(name, "zstd")


def needed(module: str, name: str, what: str) -> Any:
    """Return a module that reads one kind of files.

    Raises:
        InputError: it is not installed.
    """
    import importlib  # noqa: PLC0415  # most runs need none of them

    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(
            f"{name}: {what} need the package {package}: pip install 'jsonl-runner[data]'"
        ) from None


def _damaged(name: str, what: str, error: Exception) -> InputError:
    return InputError(f"{name}: the {what} data is damaged ({error}); get the file again")


def _cut_off(name: str, what: str) -> InputError:
    return InputError(f"{name}: the {what} data is cut off before its end; get the file again")


def lines_of(chunks: Iterator[bytes], longest: int = MAX_ROW_BYTES) -> Iterator[bytes | None]:
    r"""Yield lines without their `\n`; None for one that is too long, which is passed over.

    Args:
        chunks: the data.
        longest: bytes a line may have.
    """
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        if b"\n" not in chunk:
            size += len(chunk)
            if size <= longest + CHUNK:
                rest.append(chunk)
            else:
                rest.clear()
            continue
        first, *lines = chunk.split(b"\n")
        yield None if size + len(first) > longest + 1 else b"".join((*rest, first))
        rest = [lines.pop()]
        size = len(rest[0])
        yield from lines
    if size:
        yield None if size > longest + 1 else b"".join(rest)
