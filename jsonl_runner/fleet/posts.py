"""Which worker has which keys, and how much of them: plain arithmetic.

Providers limit organisations, so a group of keys that share their limits stays with one worker:
then its own rotator keeps them, as on one machine. Only where there are more workers than groups,
several have the same group, and each a part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Config


@dataclass(frozen=True)
class Post:
    """What one worker has.

    Attributes:
        keys: positions of its keys, in order.
        sharers: workers that have the same keys, itself included.
        threads: calls at the same time.
    """

    keys: tuple[int, ...]
    sharers: int
    threads: int


def groups_of(config: Config) -> list[tuple[int, ...]]:
    """Return the groups of keys by position: as configured, and each other key by itself.

    Raises:
        ConfigError: a position is none of a key.
    """
    positions = [key.position for key in config.api_keys]
    grouped = [position for group in config.key_groups for position in group]
    for position in grouped:
        if position not in positions:
            raise ConfigError(
                f"key_groups names key {position}, and there are {len(positions)} keys"
            )
    alone = [(position,) for position in positions if position not in grouped]
    return [*(tuple(sorted(group)) for group in config.key_groups), *alone]


def posts_of(groups: Sequence[tuple[int, ...]], workers: int, threads: int) -> list[Post]:
    """Divide groups of keys, and threads, among workers.

    Args:
        groups: of positions.
        workers: how many at the most; never more than threads.
        threads: calls at the same time, of all together.
    """
    workers = min(workers, threads)
    shared: list[tuple[tuple[int, ...], int]] = []
    if workers <= len(groups):
        hands: list[list[int]] = [[] for _ in range(workers)]
        for group in sorted(groups, key=len, reverse=True):
            min(hands, key=len).extend(group)  # the largest first, each to who has least
        shared = [(tuple(sorted(hand)), 1) for hand in hands]
    else:
        sharers = dict.fromkeys(groups, 1)
        for _ in range(workers - len(groups)):  # each further worker to where it helps most
            sharers[max(groups, key=lambda group: len(group) / sharers[group])] += 1
        shared = [(group, count) for group, count in sharers.items() for _ in range(count)]
    parts = _in_parts(threads, [max(1, len(keys)) / count for keys, count in shared])
    return [Post(keys, count, part) for (keys, count), part in zip(shared, parts, strict=True)]


def share_of(total: int, sharers: int, place: int) -> int:
    """Return what one of some workers may do of a number of calls; 1 at least.

    Args:
        total: what all may do together.
        sharers: how many they are.
        place: which of them it is, from 0.
    """
    return max(1, total // sharers + (place < total % sharers))


def _in_parts(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a whole number in proportion to weights, each part 1 at least; exact in sum."""
    whole = sum(weights)
    ideal = [1 + (total - len(weights)) * weight / whole for weight in weights]
    parts = [int(part) for part in ideal]
    by_rest = sorted(range(len(parts)), key=lambda place: parts[place] - ideal[place])
    for place in by_rest[: total - sum(parts)]:
        parts[place] += 1
    return parts
