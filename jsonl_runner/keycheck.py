"""Which keys work, which are finished, and what their limits are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .assembly import make_transport
from .attempts import Kind
from .callers import ChatCaller
from .errors import ConfigError
from .limits import in_words
from .prompts import Composer
from .records import Record
from .secret import MAX_MESSAGE, Redactor, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock
    from .config import Config
    from .secret import Secret

#: Keys asked at the same time.
_AT_ONCE = 16
#: Attempts for a key whose model refuses a parameter: two words for the limit, and none.
_CORRECTIONS = 3
#: The question: one token in, one out, so that a check costs next to nothing.
_QUESTION = Record("check", "Hi", params={"max_tokens": 1})

_STATES = {
    Kind.OK: "works",
    Kind.ROW_FAULT: "works",
    Kind.RATE_LIMITED: "cooling",
    Kind.KEY_FINISHED: "finished",
    Kind.FORBIDDEN: "finished",
    Kind.NO_MODEL: "no such model",
    Kind.WRONG_ENDPOINT: "no answer",
    Kind.TRANSIENT: "no answer",
    Kind.UNREACHABLE: "no answer",
}


@dataclass(frozen=True)
class KeyCheck:
    """What came of asking one key.

    Attributes:
        label: position and last four characters.
        state: `works`, `cooling`, `finished`, `no such model` or `no answer`.
        reason: why, where it does not simply work.
        request_limit, token_limit: as the provider announces them; None when it does not.
        requests_left, tokens_left: what is left of them.
    """

    label: str
    state: str
    reason: str
    request_limit: float | None
    requests_left: float | None
    token_limit: float | None
    tokens_left: float | None


def check_keys(
    config: Config, clock: Clock, note: Callable[[str], None] = lambda _: None
) -> list[KeyCheck]:
    """Ask one token of every key (it costs that one token).

    Args:
        config: the settings.
        clock: tells the present, for headers that name a moment.
        note: is told what the user should know.

    Raises:
        ConfigError: there is no key.
    """
    if not config.api_keys:
        raise ConfigError(
            "no API key: put it into config.json (api_keys; see config init) or OPENAI_API_KEY"
        )
    transport = make_transport(config, note)
    caller = ChatCaller(transport, Composer(config.model, {}), clock)
    redact = Redactor(config.api_keys)
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        return list(pool.map(lambda key: _check(caller, key, redact), config.api_keys))
    except BaseException:
        transport.abort()  # Ctrl-C waits for nobody
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        transport.close()


def _check(caller: ChatCaller, key: Secret, redact: Redactor) -> KeyCheck:
    for _ in range(_CORRECTIONS):
        request = caller.prepare(_QUESTION)
        verdict = caller.attempt(_QUESTION, request, key.reveal())
        if verdict.kind is not Kind.REFUSED_PARAM or not caller.correct(request, verdict)[0]:
            break
    state = _STATES.get(verdict.kind, "works")
    said = shorten(redact(f"{verdict.code}: {verdict.message}"), MAX_MESSAGE)
    reason = "" if state == "works" else said
    if state == "cooling" and verdict.retry_after_s is not None:
        reason += f" (for {in_words(verdict.retry_after_s)})"
    requests, tokens = verdict.limits or (None, None)
    return KeyCheck(
        key.label,
        state,
        reason,
        requests.limit if requests else None,
        requests.remaining if requests else None,
        tokens.limit if tokens else None,
        tokens.remaining if tokens else None,
    )
