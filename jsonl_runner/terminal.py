"""What may be written to a terminal: a model's words, but none of its commands.

A model repeats what it was given, and a text off the web may hold sequences that move the cursor,
rename the window or fill the clipboard of whoever reads the answer.
"""

from __future__ import annotations

#: Control characters (C0, DEL, C1) become U+FFFD, so that one sees that something stood there. Line
#: ends and tabs stay; a carriage return goes: alone it would let a text overwrite itself.
_HARMLESS = {
    number: "\ufffd" for number in (*range(0x20), *range(0x7F, 0xA0)) if chr(number) not in "\n\t"
} | {ord("\r"): None}


def harmless(text: str) -> str:
    """Return a text that a terminal shows and does not obey.

    Character by character: the pieces of a text may be given one after the other, however a
    sequence is spread over them.
    """
    return text.translate(_HARMLESS)


def counted(count: int, name: str) -> str:
    """Return a number of things for people: `1 row`, `2,000 rows`."""
    return f"{count:,} {name}" + ("" if count == 1 else "s")
