"""The words for one attempt: what came back (`Reply`) and what it means (`Verdict`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

#: Why an answer ended that is a call of a tool: `response_format` is about texts.
CALLS = frozenset({"tool_calls", "function_call"})


class Kind(enum.Enum):
    """What an attempt means for its row and its key."""

    #: The row has its output.
    OK = "ok"
    #: Too many calls: the row goes on with another key, this key cools.
    RATE_LIMITED = "rate_limited"
    #: The key is dead or out of money: the row goes on with another key, this key is retired.
    KEY_FINISHED = "key_finished"
    #: Refused without a word on whose fault it is: the row is tried again, at the cost of one
    #: retry; a key that refuses several rows in a row is retired.
    FORBIDDEN = "forbidden"
    #: Something broke on the way: the row is tried again, at the cost of one retry.
    TRANSIENT = "transient"
    #: No connection came about: says nothing about the row, so it costs no retry.
    UNREACHABLE = "unreachable"
    #: This row cannot succeed: null, with its reason.
    ROW_FAULT = "row_fault"
    #: The model refuses a parameter by name: corrected for the whole run, then tried again.
    REFUSED_PARAM = "refused_param"
    #: The model is not known to this key.
    NO_MODEL = "no_model"
    #: No request of this run can succeed: wrong path, host name or certificate.
    WRONG_ENDPOINT = "wrong_endpoint"

    # Looked for in sets at every call; Enum's own is ten times as slow.
    __hash__ = object.__hash__


class Reply:
    """One HTTP answer; headers stay raw until one is asked for."""

    __slots__ = ("_parsed", "body", "raw_headers", "status")

    def __init__(self, status: int, raw_headers: bytes, body: bytes) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.body = body
        self._parsed: dict[str, str] | None = None

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name, None when it was not sent."""
        if self._parsed is None:
            self._parsed = {}
            # The last block counts: a proxy's or a 100's header lines may come before it.
            block = self.raw_headers.decode("latin-1").rstrip("\r\n").rpartition("\r\n\r\n")[2]
            for line in block.split("\r\n"):
                key, colon, value = line.partition(":")
                if colon:
                    self._parsed[key.strip().lower()] = value.strip()
        return self._parsed.get(name)


class RateLimit(NamedTuple):
    """What a provider says of one limit of the key (requests or tokens)."""

    limit: float
    remaining: float
    #: Seconds until the limit is whole again; None when not sent.
    reset_s: float | None


class RateLimits(NamedTuple):
    """Both limits a provider may announce."""

    requests: RateLimit | None
    tokens: RateLimit | None


class Answer(NamedTuple):
    """What a model returned; `text` may be None when only the bill is known."""

    text: str | None
    finish_reason: str | None
    model: str | None
    usage: dict[str, Any] | None


@dataclass(slots=True)
class Verdict:
    """What an attempt means.

    Attributes:
        kind: what to do.
        code: one short word: the provider's error code where it has one, else ours.
        message: one line for the user; empty when OK.
        answer: set when the model answered, even if the answer is of no use (it was billed).
        retry_after_s: seconds the provider asks to wait, None when it does not say.
        param: the parameter a REFUSED_PARAM is about.
        limits: what the headers say about the key's limits.
        of_server: whether a TRANSIENT failure says something about the server; an exception in a
            user's function does not.
    """

    kind: Kind
    code: str = "ok"
    message: str = ""
    answer: Answer | None = None
    retry_after_s: float | None = None
    param: str | None = None
    limits: RateLimits | None = None
    of_server: bool = True


class AttemptError(Exception):
    """An attempt made on behalf of a user's function did not succeed; the verdict says how."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.code}: {verdict.message}")
        self.verdict = verdict
