"""Who makes the attempts: the chat completions endpoint, or a function of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attempts import Answer, Kind, Verdict
from .errors import TransportError
from .prompts import Request
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
#: Calls whose headers are then not asked for: less than one in a hundred of what is left.
_AT_EASE = 9


def _at_ease_after(limits: RateLimits | None) -> int:
    """Return how many calls need not bring the limits after one that brought these.

    Far from a limit the rotator's own count is as good, and to take and read the headers costs more
    than all else that is done with an answer.
    """
    if limits is None:  # a server that tells none, most likely
        return _AT_EASE
    requests, tokens = limits
    has_room = requests is None or requests.remaining >= _MUCH_ROOM
    has_tokens = tokens is None or tokens.remaining >= _MUCH_ROOM * _TOKENS_A_CALL
    return _AT_EASE if has_room and has_tokens else 0


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
        #: For each key, how many calls need not bring its limits.
        self._at_ease: dict[str, int] = {}

    def prepare(self, record: Record) -> Request:
        """Return the request for a Record."""
        return self._composer.compose(record)

    def attempt(self, _record: Record, request: Request, key: str) -> Verdict:
        """Make one HTTP call."""
        # Threads may overwrite each other's count; it need not be exact.
        at_ease = self._at_ease.get(key, 0)
        self._at_ease[key] = max(0, at_ease - 1)
        try:
            reply = self._transport.post(CHAT_PATH, request.body, key, with_head=not at_ease)
        except TransportError as error:
            return classify_failure(error)
        try:
            verdict = classify(reply, self._clock.wall())
            if verdict.kind is not Kind.OK:
                self._at_ease[key] = 0
            elif not at_ease:
                self._at_ease[key] = _at_ease_after(verdict.limits)
        except Exception as error:  # noqa: BLE001  # one odd answer must not end a night's run
            message = f"the answer cannot be read ({type(error).__name__}: {error})"
            return Verdict(Kind.TRANSIENT, "unreadable", message)
        if verdict.answer is not None and verdict.answer.usage is not None:
            self._composer.learn(request, verdict.answer.usage)
        return verdict

    def correct(self, request: Request, verdict: Verdict) -> tuple[bool, str | None]:
        """Leave out or rename a parameter the model refuses."""
        return self._composer.correct(request, verdict.param or "")


class FunctionCaller:
    """Calls a function of the user's instead of a provider.

    Args:
        function: takes a Record and a key, returns the output, or an Answer with what it cost.
        clock: tells the present, for headers of an SDK's errors.
    """

    def __init__(self, function: Callable[[Record, str], str | Answer], clock: Clock) -> None:
        self._function = function
        self._clock = clock

    def prepare(self, record: Record) -> Request:
        """Return a request of the Record's rough size."""
        return Request(b"", max(1, (len(record.instruction) + len(record.input)) // 4), "")

    def attempt(self, record: Record, _request: Request, key: str) -> Verdict:
        """Call the function; an exception is classified by its `status_code` if it has one."""
        try:
            output = self._function(record, key)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            return classify_exception(error, self._clock.wall())
        answer = output if isinstance(output, Answer) else Answer(output, None, None, None)
        if not isinstance(answer.text, str):
            message = f"the function returned {type(answer.text).__name__}, not a text"
            return Verdict(Kind.ROW_FAULT, "no_text", message, answer._replace(text=None))
        return Verdict(Kind.OK, answer=answer)

    def correct(self, _request: Request, _verdict: Verdict) -> tuple[bool, str | None]:
        """Return that nothing can be corrected: the function builds its own requests."""
        return False, None
