"""A limit on what is spent: reserved before a call, settled after it.

Pure bookkeeping under one lock, in any unit (`spending` keeps one of dollars and one of tokens).
What is spent passes the limit only by what calls in flight took beyond their reservations.
"""

from __future__ import annotations

import threading


class Budget:
    """What may be spent, what is, and what calls in flight hold.

    Args:
        limit: of all spending; None: none, and everything fits.
        spent: before this run.
    """

    __slots__ = ("_in_flight", "_limit", "_lock", "_reserved", "_spent")

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._spent = spent
        self._reserved = 0.0
        self._in_flight = 0

    @property
    def limit(self) -> float | None:
        """What may be spent; None: all."""
        return self._limit

    def allow(self, limit: float | None) -> None:
        """Take another limit."""
        with self._lock:
            self._limit = limit

    def add(self, spent: float) -> None:
        """Count what was spent without a reservation here."""
        with self._lock:
            self._spent += spent

    @property
    def spent(self) -> float:
        """What is spent and settled."""
        return self._spent

    @property
    def in_flight(self) -> int:
        """How many reservations are not settled yet."""
        return self._in_flight

    @property
    def left(self) -> float:
        """What is neither spent nor reserved; below 0 once calls took more than they reserved."""
        if self._limit is None:
            return float("inf")
        return self._limit - self._spent - self._reserved

    def reserve(self, amount: float | None) -> float | None:
        """Set an amount aside for one call.

        Args:
            amount: what it may take; None: unknown. Then it gets all that is left, so that no other
                call begins before it is known what this one took.

        Returns:
            What was set aside, and must go back through `settle`; None: it does not fit now.
        """
        with self._lock:
            if self._limit is None:
                held = amount or 0.0
            else:
                held = self._limit - self._spent - self._reserved
                if amount is not None:
                    if amount > held:
                        return None
                    held = amount
                elif held <= 0 or self._in_flight:
                    return None
            self._reserved += held
            self._in_flight += 1
            return held

    def settle(self, held: float, spent: float) -> None:
        """Replace what was set aside for a call by what it took.

        Args:
            held: as `reserve` returned it.
            spent: 0 for a call that was not made, or is not billed.
        """
        with self._lock:
            self._spent += spent
            self._in_flight -= 1
            # Sums of floats drift: with nothing in flight, nothing is reserved.
            self._reserved = self._reserved - held if self._in_flight else 0.0
