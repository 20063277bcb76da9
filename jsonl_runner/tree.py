"""Two folders, one the mirror of the other: what lies in them, and how an output gets to its place.

What a run needs besides the outputs lies in a work folder in the output folder. An output is made
there in a private folder, `<name>.part`; when it is whole and on the disk, that folder's name
becomes `<name>.whole`, and the files in it are moved to their places. A crash leaves a `.part`,
which is thrown away, or a `.whole`, whose moves the next run finishes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import replacing
from .errors import InputError, LedgerError
from .locking import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The work folder's name.
WORK = ".jsonl-runner"
_PART, _WHOLE = ".part", ".whole"
#: What the disk says when nothing more can be written at all.
_NO_ROOM = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS") if hasattr(errno, name)}


def folders_of(source: Path, target: Path) -> list[tuple[str, list[str]]]:
    """Return the files below a folder that are not hidden, sorted.

    Links to files count as files; links to folders are followed, but never in a circle. What lies
    in the output folder is no input.

    Args:
        source: the input folder.
        target: the output folder; need not be there yet.

    Returns:
        Each folder's path from `source` on (`""` for itself, `/` between names), and the names of
        the files in it.

    Raises:
        InputError: the input folder is missing, no folder, the output folder too, or cannot be
            read; or outputs would land among the inputs.
    """
    if not source.exists():
        raise InputError(f"{source}: there is no such folder; check the path")
    if not source.is_dir():
        raise InputError(f"{source}: this is a file; give the folder with the files")
    if target.exists() and target.samefile(source):
        raise InputError(f"{source}: input and output are the same folder; name another output")
    real_target = os.path.realpath(target)
    found = []
    pending: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    while pending:
        folder, above = pending.pop()
        real = os.path.realpath(source / folder)
        if real == real_target or real in above:
            continue
        files, folders = _names_in(source / folder)
        found.append((folder, files))
        prefix = folder and f"{folder}/"
        above |= {real}
        pending += [(f"{prefix}{name}", above) for name in reversed(folders)]
    _refuse_overlap(source, real_target, found)
    return found


def _names_in(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's files and folders that are not hidden, sorted."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError:  # a link that leads to itself
                    is_folder = is_file = False
                if is_folder:
                    folders.append(entry.name)
                elif is_file or entry.is_symlink():  # a link to nothing fails by its name, later
                    files.append(entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(files), sorted(folders)


def _refuse_overlap(source: Path, target: str, found: list[tuple[str, list[str]]]) -> None:
    """Refuse outputs that would land in the input folder, where this lies in the output folder."""
    try:
        inside = Path(os.path.realpath(source)).relative_to(target).as_posix()
    except ValueError:
        return
    for folder, files in found:
        if files and f"{folder}/".startswith(f"{inside}/"):
            raise InputError(
                f"{source / folder}: the outputs of these files would land in the input folder; "
                "name an output folder that does not hold it"
            )


def names_in(target: Path, folder: str) -> set[str]:
    """Return the names of an output folder's files in a mirrored folder, without hidden ones.

    Raises:
        LedgerError: there is a file in the folder's place, or it cannot be read.
    """
    place = target / folder
    try:
        with os.scandir(place) as entries:
            return {e.name for e in entries if not e.name.startswith(".") and e.is_file()}
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        hint = "move it away, or name another output folder"
        raise LedgerError(f"{place}: a folder of outputs must go here; {hint}") from None
    except OSError as error:
        raise LedgerError(f"{place}: cannot be read ({error.strerror})") from None


def shown(name: str) -> str:
    """Return a file's name as it can be written anywhere; one that is not UTF-8 gets escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_full(error: BaseException) -> bool:
    """Return whether nothing more can be written: another file would fare no better."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """Make an output folder with its work folder, and hold them against other runs.

    Raises:
        LedgerLockedError: another run holds them; the message says who.
        LedgerError: they cannot be made.
    """
    work = target / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise LedgerError(
            f"{target}: there is a file in the way; give a folder for the outputs"
        ) from None
    except OSError as error:
        raise LedgerError(f"{work}: cannot be made ({error.strerror})") from None
    try:
        with locked(target, work / "lock"):
            yield work
    finally:
        with contextlib.suppress(OSError):  # something in it is still wanted
            work.rmdir()


class Staging:
    """Where outputs are made and kept until they are whole; may be used by many threads.

    Args:
        target: the output folder.
        work: its work folder, which the caller holds.

    Attributes:
        target: the output folder.

    Raises:
        LedgerError: what an earlier run left cannot be put in order.
    """

    def __init__(self, target: Path, work: Path) -> None:
        self.target = target
        self._work = work
        self._lock = threading.Lock()
        self._closed = False
        #: Each thread's empty Room, kept for its next file: folders are dear to make and remove.
        self._own = threading.local()
        self._recover()

    def _recover(self) -> None:
        """Finish what a crash interrupted, or throw it away."""
        for left in sorted(self._work.glob(f"*{_WHOLE}")):
            try:
                self._move(left, _files_below(left))
            except OSError as error:
                raise LedgerError(
                    f"{left}: the outputs in it cannot be moved to their place ({error.strerror}: "
                    f"{error.filename2 or error.filename}); make way, or remove them"
                ) from None
        for left in (*self._work.glob(f"*{_WHOLE}"), *self._work.glob(f"*{_PART}")):
            shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Let nothing more get to its place: threads that were left behind may still be at work."""
        with self._lock:
            self._closed = True
        for left in self._work.glob(f"*{_PART}"):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def room(self, folder: str) -> Iterator[Room]:
        """Yield a private folder in which the output for a mirrored folder can be made.

        What is in it at the end and was not placed is removed.

        Raises:
            OSError: it cannot be made.
        """
        room: Room | None = getattr(self._own, "room", None)
        if room is None or room.mirrored != folder:
            if room is not None:
                shutil.rmtree(room.root, ignore_errors=True)
            room = self._own.room = self._new_room(folder)
        room.is_clean = False
        try:
            yield room
        finally:
            if not room.is_clean:
                self._own.room = None
                shutil.rmtree(room.root, ignore_errors=True)

    def _new_room(self, folder: str) -> Room:
        with self._lock:
            if self._closed:
                raise FileNotFoundError(errno.ENOENT, "the run is over", str(self._work))
            root = Path(tempfile.mkdtemp(_PART, "", self._work))
        (root / folder).mkdir(parents=True, exist_ok=True)
        return Room(self, root, folder)

    def place(self, room: Room, files: list[str]) -> bool:
        """Move files from a private folder to their places; return whether it was done.

        Not done is it after `close`. Until it has returned, none or some of the files are at their
        places; those that are, are whole.

        Raises:
            OSError: they could not all be moved.
        """
        for name in files:
            _sync(room.root / name)
        if len(files) == 1:  # one move is whole by itself
            with self._lock:
                if not self._closed:
                    self._move(room.root, files)
                    room.is_clean = True
            return room.is_clean
        for name in files:  # nothing may stand in the way once it counts as whole
            place = self.target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
        with self._lock:
            if self._closed:
                return False
            whole = room.root.with_suffix(_WHOLE)
            room.root.rename(whole)
            self._move(whole, files)
        shutil.rmtree(whole, ignore_errors=True)
        return True

    def _move(self, root: Path, files: list[str]) -> None:
        for name in files:
            made, place = os.path.join(root, name), os.path.join(self.target, name)  # noqa: PTH118
            try:
                _replace(made, place)
            except FileNotFoundError:
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                _replace(made, place)


class Room:
    """A private folder in which one output is made.

    Attributes:
        root: the folder that mirrors the output folder.
        mirrored: path of the folder in it that the output is for.
        folder: that folder itself: where to make the output.
        is_clean: whether nothing is in it.
    """

    def __init__(self, staging: Staging, root: Path, mirrored: str) -> None:
        self._staging = staging
        self.root = root
        self.mirrored = mirrored
        self.folder = root / mirrored
        self.is_clean = False

    def names(self) -> list[str]:
        """Return the paths of the files made so far, from the output folder on."""
        return _files_below(self.root)

    def place(self, is_output: Callable[[str], bool] = bool) -> bool:
        """Move all files in it to their places; see `Staging.place`.

        Args:
            is_output: told each file's path; those by which an output is known to be there are
                moved last.

        Raises:
            OSError: they could not all be moved.
        """
        return self._staging.place(self, sorted(self.names(), key=is_output))


def _replace(made: str, place: str) -> None:
    try:
        os.replace(made, place)  # noqa: PTH105  # pathlib costs as much as the move
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A linked folder on another disk.
        with Path(made).open("rb") as source, replacing(Path(place)) as stream:
            shutil.copyfileobj(source, stream)
        Path(made).unlink()


def _files_below(root: Path) -> list[str]:
    return sorted(
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
    )


def _sync(path: Path) -> None:
    """Force a file onto the disk, so that a power cut cannot leave its name without its bytes."""
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
