"""Files elsewhere: object stores and servers by their URL, read and written through fsspec.

Which protocols there are is fsspec's to say: `s3://`, `gs://`, `hf://`, `https://` and more, each
with a package of its own. What logs in is that package's to find (environment, profile, role).
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, LedgerError
from .secret import without_login

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Two slashes in a text; one where pathlib made a path of it. A letter alone is a drive.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
#: Bytes read ahead: few requests for who reads all of a file.
_BLOCK = 8 * 1024 * 1024
#: Protocols that only give.
_READ_ONLY = ("http", "https")
#: Where secrets stand in a signed URL.
_QUERY = re.compile(r"\?.*")


def url_of(place: str | Path) -> str | None:
    """Return the URL that a place is, also where pathlib took one of its slashes; None for a path.

    A folder here that has such a name goes first.
    """
    text = place.as_posix() if isinstance(place, Path) else place
    found = _URL.match(text)
    if found is None or Path(text[: found.end(1) + 1]).exists():
        return None
    return f"{found[1]}://{text[found.end() :]}"


def name_of(url: str) -> str:
    """Return what messages call it: without login and query."""
    return _QUERY.sub("", without_login(url))


def shown(path: str | Path) -> str:
    """Return what messages call a path, which may be a URL."""
    url = url_of(path)
    return str(path) if url is None else name_of(url)


def matching(pattern: str) -> list[str]:
    """Return the URLs that a pattern fits (`s3://bucket/shard-*.jsonl`), in no order.

    Raises:
        InputError: they cannot be listed, or a package for the protocol is missing.
    """
    system, path = _system_of(pattern)
    with _telling(pattern):
        return [system.unstrip_protocol(found) for found in system.glob(path)]


def opened(url: str) -> io.BufferedReader:
    """Open a file for reading; it can go back if its server gives parts of files.

    Raises:
        InputError: it is not there or cannot be read, or a package for its protocol is missing.
    """
    system, path = _system_of(url)
    with _telling(url):
        in_parts = url.partition(":")[0] not in _READ_ONLY or system.info(path).get("partial")
        block = _BLOCK if in_parts else 0  # fsspec's word for a stream
        stream = system.open(path, "rb", block_size=block, cache_type="readahead")
    return io.BufferedReader(_Remote(stream, url, in_parts=bool(in_parts)), _BLOCK)


@contextlib.contextmanager
def written_to(target: Path) -> Iterator[Path]:
    """Yield where to write a file, and others that shall stand beside it.

    A path is yielded as it is. For a URL it is a path in a folder of its own, whose files are sent
    when all are whole, and each is there whole or not at all; on any error none is sent.

    Raises:
        InputError: a package for the protocol is missing.
        LedgerError: it cannot be written.
    """
    url = url_of(target)
    if url is None:
        yield target
        return
    scheme = url.partition(":")[0]
    if scheme in _READ_ONLY:
        raise LedgerError(f"{name_of(url)}: {scheme}:// is for reading only; name another place")
    system, path = _system_of(url)
    parent, _, name = path.rpartition("/")
    import tempfile  # noqa: PLC0415  # few need it

    with tempfile.TemporaryDirectory(prefix="jsonl-runner-") as folder:
        yield Path(folder) / name
        for file in sorted(Path(folder).iterdir()):
            try:
                system.put_file(str(file), f"{parent}/{file.name}")
            except Exception as error:  # noqa: BLE001  # each protocol has its own
                place = f"{name_of(url).rpartition('/')[0]}/{file.name}"
                raise LedgerError(f"{place}: cannot be written ({_reason(error)})") from None


def check_is_local(output: Path) -> None:
    """Check that a ledger is a file of this machine.

    Raises:
        LedgerError: it is a URL.
    """
    url = url_of(output)
    if url is not None:
        raise LedgerError(
            f"{name_of(url)}: a run appends to its output row by row, which object stores cannot; "
            "name a local file, and have merge write to the URL"
        )


class _Remote(io.RawIOBase):
    """A file elsewhere, whose errors say which it is."""

    def __init__(self, stream: Any, url: str, *, in_parts: bool) -> None:
        self._stream, self._url, self._in_parts = stream, url, in_parts

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._in_parts

    def readinto(self, buffer: Any) -> int:
        with _telling(self._url):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _telling(self._url):
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _system_of(url: str) -> tuple[Any, str]:
    scheme = url.partition(":")[0]
    try:
        import fsspec  # noqa: PLC0415  # an extra, and few need it

        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or error.name
        package = "jsonl-runner[remote]" if missing == "fsspec" else missing or f"fsspec[{scheme}]"
        raise InputError(
            f"{name_of(url)}: {scheme}:// needs a package that is missing: pip install '{package}'"
        ) from None
    except ValueError:
        raise InputError(
            f"{name_of(url)}: there is no protocol {scheme}://; give a path, or a URL of s3, gs, "
            "hf, https or another one that fsspec knows"
        ) from None
    return found


@contextlib.contextmanager
def _telling(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # with a cause also where there is no such server
        why = f" ({_reason(error.__cause__)})" if error.__cause__ else ""
        raise InputError(f"{name_of(url)}: there is no such file{why}; check the URL") from None
    except Exception as error:  # noqa: BLE001  # each protocol has its own
        raise InputError(f"{name_of(url)}: cannot be read ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    """Return the first line of an error, short, without logins and queries."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return _QUERY.sub("", without_login(text))[:200]
