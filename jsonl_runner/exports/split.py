"""Parts of a dataset: which row goes into which, for ever.

A row's part depends on the seed and on its prompt (instruction, input, messages, the names of its
images), and on nothing else. So rows that are added or put in another order move no other row,
several answers to one prompt are never on two sides, and shares are met as dice meet them.
"""

from __future__ import annotations

import math
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from .. import jsontext
from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a part may be called: it becomes part of a file's name.
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BITS = 64


class Split:
    """Parts and their shares.

    Args:
        shares: the share of each part; together 1.
        seed: another one gives another split.

    Raises:
        ConfigError: the shares are no split.
    """

    def __init__(self, shares: Mapping[str, float], seed: int = 0) -> None:
        for name, share in shares.items():
            if not _NAME.fullmatch(name):
                raise ConfigError(f"split: {name!r} is no name of a part; use letters and digits")
            if not 0 < share <= 1:
                raise ConfigError(f"split: {name}={share:g} is no share; give one above 0, up to 1")
        if len({name.lower() for name in shares}) < len(shares):
            raise ConfigError(
                "split: two parts differ in case only, which some file systems ignore"
            )
        if not math.isclose(math.fsum(shares.values()), 1, abs_tol=1e-9):
            total = math.fsum(shares.values())
            raise ConfigError(f"split: the shares are {total:g} together; they must be 1")
        self.names = tuple(shares)
        self._seed = b"%d\n" % seed
        self._limits: list[int] = []
        reached = 0.0
        for share in shares.values():
            reached += share
            self._limits.append(round(reached * 2**_BITS))
        self._limits[-1] = 2**_BITS  # whatever rounding left over

    def part_of(self, row: Mapping[str, Any]) -> str:
        """Return the part that a row belongs to."""
        digest = blake2b(self._seed + prompt_of(row), digest_size=_BITS // 8).digest()
        number = int.from_bytes(digest, "big")
        return next(
            name for name, limit in zip(self.names, self._limits, strict=True) if number < limit
        )


def prompt_of(row: Mapping[str, Any]) -> bytes:
    """Return what a row asks, as bytes that are the same for the same prompt."""
    asked = [row["instruction"], row["input"], row.get("messages")]
    pictures = [row[name] for name in ("image", "images") if row.get(name)]
    return jsontext.dump(asked + pictures, sort_keys=True)


def parse_split(text: str) -> dict[str, float]:
    """Return the shares that `train=0.95,test=0.05` names.

    Raises:
        ConfigError: it names none.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = (word.strip() for word in part.partition("="))
        try:
            number = float(share)
        except ValueError:
            raise ConfigError(
                f"split: {part.strip()!r} is no part; give train=0.95,test=0.05"
            ) from None
        if name in shares:
            raise ConfigError(f"split: {name} stands twice")
        shares[name] = number
    return shares
