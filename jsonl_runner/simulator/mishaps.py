"""What goes wrong with calls of files and batches: by the settings' rates, or because a test asks.

Each route has its own seeded dice, so that polling more often does not change which upload is lost.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Literal, get_args

from .faults import check_kind
from .routes import check_route

if TYPE_CHECKING:
    from .settings import SimulatorSettings

#: `request`: the connection is cut, nothing was done. `answer`: all was done, then the connection
#: is cut (a download: in the middle). `answer_500`: all was done, and the answer says 500.
Loss = Literal["request", "answer", "answer_500"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


class Mishaps:
    """What the next calls meet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: defaultdict[str, deque[str]] = defaultdict(deque)
        self._dice: dict[tuple[int, str], random.Random] = {}

    def lose_next(self, route: str, what: Loss = "answer", times: int = 1) -> None:
        """Let the next `times` calls of `route` be lost. Raises ValueError for unknown words."""
        check_route(route)
        if what not in LOSSES:
            raise ValueError(f"{what!r} cannot be lost; what can: {', '.join(LOSSES)}")
        with self._lock:
            self._asked[route].extend([f"lost {what}"] * times)

    def fail_next(self, route: str, kind: str, times: int = 1) -> None:
        """Let the next `times` calls of `route` meet a fault, such as `429`, and not be done."""
        check_route(route)
        check_kind(kind)
        with self._lock:
            self._asked[route].extend([kind] * times)

    def draw(self, route: str, settings: SimulatorSettings) -> str | None:
        """What this call meets: None, `lost request`, `lost answer` or a fault kind."""
        with self._lock:
            dice = self._dice.setdefault(
                (settings.seed, route), random.Random(f"{settings.seed} {route}")
            )
            # All are drawn each time: one rate does not change what another does.
            lost_request, lost_answer, failed = dice.random(), dice.random(), dice.random()
            asked = self._asked.get(route)
            if asked:
                return asked.popleft()
        if lost_request < settings.lost_requests.get(route, 0.0):
            return "lost request"
        if lost_answer < settings.lost_answers.get(route, 0.0):
            return "lost answer"
        for kind, rate in settings.management_faults.items():
            if failed < rate:
                return kind
            failed -= rate
        return None
