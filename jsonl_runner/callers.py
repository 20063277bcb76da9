"""Who makes the attempts: the chat completions endpoint, or a function of the user's."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from .attempts import Answer, Kind, Verdict
from .errors import TransportError
from .prompts import Request, asking_again, shape_of
from .retry import classify, classify_exception, classify_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .attempts import RateLimits
    from .clock import Clock
    from .prompts import Composer
    from .records import Record
    from .transport.base import Transport

CHAT_PATH = "/chat/completions"
#: Requests that are left of a limit when one is far from it; and tokens for each of them.
_MUCH_ROOM, _TOKENS_A_CALL = 1000, 2000
#: Calls whose headers are not asked for where the server tells no limits; and at the most, where
#: they are less than one in a hundred of what is left.
_NONE_TOLD, _FAR_OFF = 9, 99


class _Ease:
    """How seldom the calls of one key ask for headers.

    Far from a limit the rotator's own count is as good, and to take and read the headers costs more
    than all else that is done with an answer. Threads may overwrite each other's counts; they need
    not be exact.
    """

    __slots__ = ("_left", "_untold")

    def __init__(self) -> None:
        #: Calls that need not ask after one that does; and how many of them are left.
        self._untold = self._left = 0

    def asks(self) -> bool:
        """Return whether the next call asks.

        The calls after it do not wait for its answer: hundreds would ask in the meantime.
        """
        if self._left > 0:
            self._left -= 1
            return False
        self._left = self._untold
        return True

    def told(self, limits: RateLimits | None) -> None:
        """Take note of the limits a success brought."""
        if limits is None:
            untold = _NONE_TOLD
        else:
            requests, tokens = limits
            room = min(
                requests.remaining if requests else math.inf,
                tokens.remaining / _TOKENS_A_CALL if tokens else math.inf,
            )
            untold = int(min(_FAR_OFF, room / 100 - 1)) if room >= _MUCH_ROOM else 0
        if untold != self._untold:
            self._untold = self._left = untold

    def ends(self) -> None:
        """Let every call ask: one went wrong."""
        self._untold = self._left = 0


class ChatCaller:
    """Calls an OpenAI-shaped chat completions endpoint.

    Args:
        transport: makes the HTTP calls.
        composer: builds the bodies.
        clock: tells the present, for headers that name a moment.
    """

    def __init__(self, transport: Transport, composer: Composer, clock: Clock) -> None:
        self._transport = transport
        self._composer = composer
        self._clock = clock
        self._eases: defaultdict[str, _Ease] = defaultdict(_Ease)

    def prepare(self, record: Record) -> Request:
        """Return the request for a Record."""
        return self._composer.compose(record)

    def attempt(self, _record: Record, request: Request, key: str) -> Verdict:
        """Make one HTTP call."""
        ease = self._eases[key]
        asks = ease.asks()
        try:
            reply = self._transport.post(CHAT_PATH, request.body, key, with_head=asks)
        except TransportError as error:
            return classify_failure(error)
        try:
            verdict = classify(reply, self._clock.wall())
            if verdict.kind is not Kind.OK:
                ease.ends()
            elif asks:
                ease.told(verdict.limits)
        except Exception as error:  # noqa: BLE001  # one odd answer must not end a night's run
            message = f"the answer cannot be read ({type(error).__name__}: {error})"
            return Verdict(Kind.TRANSIENT, "unreadable", message)
        if verdict.answer is not None and verdict.answer.usage is not None:
            self._composer.learn(request, verdict.answer.usage)
        return verdict

    def correct(self, request: Request, verdict: Verdict) -> tuple[bool, str | None]:
        """Leave out or rename a parameter the model refuses."""
        return self._composer.correct(request, verdict.param or "")

    def again(self, record: Record, answer: str, reason: str) -> Record:
        """Return the Record with the answer and what is wrong with it."""
        return asking_again(record, answer, reason)


class FunctionCaller:
    """Calls a function of the user's instead of a provider.

    Args:
        function: takes a Record and a key, returns the output, or an Answer with what it cost.
        clock: tells the present, for headers of an SDK's errors.
        shape: the `response_format` that its outputs are to have where a row names none.
    """

    def __init__(
        self,
        function: Callable[[Record, str], str | Answer],
        clock: Clock,
        shape: object = None,
    ) -> None:
        self._function = function
        self._clock = clock
        self._shape = shape

    def prepare(self, record: Record) -> Request:
        """Return a request of the Record's rough size."""
        tokens = max(1, (len(record.instruction) + len(record.input)) // 4)
        return Request(b"", tokens, "", shape=shape_of(record, self._shape))

    def attempt(self, record: Record, _request: Request, key: str) -> Verdict:
        """Call the function; an exception is classified by its `status_code` if it has one."""
        try:
            output = self._function(record, key)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's may raise anything
            return classify_exception(error, self._clock.wall())
        answer = output if isinstance(output, Answer) else Answer(output, None, None, None)
        if not isinstance(answer.text, str):
            message = f"the function returned {type(answer.text).__name__}, not a text"
            return Verdict(Kind.ROW_FAULT, "no_text", message, answer._replace(text=None))
        return Verdict(Kind.OK, answer=answer)

    def correct(self, _request: Request, _verdict: Verdict) -> tuple[bool, str | None]:
        """Return that nothing can be corrected: the function builds its own requests."""
        return False, None

    def again(self, record: Record, _answer: str, _reason: str) -> Record:
        """Return the Record: it is called once more, and asks as it likes."""
        return record
