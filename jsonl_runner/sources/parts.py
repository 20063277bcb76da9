"""The parts of a dataset: each a file, or some that count their rows on, with its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A row, or the reason why there is none.
Row: TypeAlias = "dict[str, Any] | str"


class Part(Protocol):
    """Rows of one file, or of some that belong together."""

    #: What messages call it.
    name: str
    #: Its file's name, where rows take theirs from it.
    file: str
    #: What its rows are counted in: `row`, `item`; nothing for the lines of a file.
    unit: str

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the number of each row, from 1 and growing, and the row; anew with each call.

        Raises:
            InputError: the file cannot be read on.
        """

    def raw(self) -> Iterator[bytes] | None:
        """Return the lines as they are, in pieces, where they are JSONL already; else None."""
