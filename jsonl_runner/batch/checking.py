"""Looking at a file of requests as the provider will, before it is uploaded.

A provider takes any file and says hours later what is wrong with it. The codes are its own
(https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch, whose engine is OpenAI's); those
that only an account knows (`model_not_found`, `token_limit_exceeded` without a budget) are not.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from ..errors import InputError
from ..indexes import IndexSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .profiles import Profile

_BLOCK = 256 * 1024
_BYTES_PER_TOKEN = 4
#: Models that are named; a file may hold more.
_NAMED_MODELS = 20
_SAMPLING = ("temperature", "top_p", "top_k")


class Problem(NamedTuple):
    """One thing a provider would refuse.

    Attributes:
        code: the provider's word for it.
        message: what is wrong.
        line: its number, from 1; None when it is about the file.
    """

    code: str
    message: str
    line: int | None


@dataclass
class Checked:
    """What a file holds.

    Attributes:
        requests: lines that are not blank.
        size: bytes.
        tokens: of the prompts, estimated from their bytes.
        models: the first twenty of them.
        problems: how many, by code.
    """

    requests: int = 0
    size: int = 0
    tokens: int = 0
    models: list[str] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def is_good(self) -> bool:
        """Whether a provider would take it."""
        return not self.problems


def check(
    path: Path,
    profile: Profile,
    report: Callable[[Problem], None],
    *,
    max_tokens: int | None = None,
) -> Checked:
    """Read a file of requests and report every problem in it, in the order of its lines.

    Memory does not grow with the file, but for some bytes a `custom_id`.

    Args:
        path: the file.
        profile: the provider's it is for.
        report: is given each problem.
        max_tokens: the account's limit on enqueued tokens; None: not looked at.

    Raises:
        InputError: the file cannot be read.
    """
    checker = _Checker(profile, report)
    try:
        if path.suffix != ".jsonl" and profile.dialect != "anthropic":
            checker.say("invalid_file_format", "the file's name must end in .jsonl", None)
        with path.open("rb") as stream:
            checker.read(stream)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    found = checker.found
    if not found.requests:
        checker.say("empty_file", "there is not one request in it", None)
    if found.size > profile.max_bytes:
        text = f"it has {found.size:,} bytes; {profile.name} takes {profile.max_bytes:,}: split it"
        checker.say("file_too_large", text, None)
    if max_tokens is not None and found.tokens > max_tokens:
        text = f"its prompts have some {found.tokens:,} tokens, {max_tokens:,} may be enqueued"
        checker.say("token_limit_exceeded", text, None)
    return found


class _Checker:
    def __init__(self, profile: Profile, report: Callable[[Problem], None]) -> None:
        self._profile = profile
        self._report = report
        self._ids = IndexSet()
        self._id_pattern = re.compile(profile.id_pattern)
        self._url: str | None = None
        self._model: str | None = None
        self.found = Checked()

    def say(self, code: str, message: str, line: int | None) -> None:
        self.found.problems[code] += 1
        self._report(Problem(code, message, line))

    def read(self, stream: IO[bytes]) -> None:
        limit = self._profile.max_line_bytes
        number, blank = 0, 0
        while line := stream.readline(limit + 1):
            number += 1
            self.found.size += len(line)
            if not line.strip():
                blank = blank or number
                continue
            if blank:
                self.say("invalid_json_line", "the line is blank", blank)
                blank = 0
            self.found.requests += 1
            if self.found.requests == self._profile.max_requests + 1:
                text = f"{self._profile.name} takes {self._profile.max_requests:,} requests a file"
                self.say("too_many_tasks", text, number)
            if len(line) > limit and not line.endswith(b"\n"):
                while rest := stream.readline(_BLOCK):
                    self.found.size += len(rest)
                    if rest.endswith(b"\n"):
                        break
                self.say("invalid_request", f"the line is longer than {limit:,} bytes", number)
                continue
            for code, message in self._problems(line, number):
                self.say(code, message, number)

    def _problems(self, line: bytes, number: int) -> Iterator[tuple[str, str]]:
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            yield "invalid_json_line", "the file begins with a byte order mark; save it without"
            line = line[3:]
        try:
            request = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            hint = "; the file is a JSON array, not lines" if line.lstrip()[:1] == b"[" else ""
            yield "invalid_json_line", f"not JSON ({error}){hint}"
            return
        if not isinstance(request, dict):
            yield "invalid_json_line", "not a JSON object"
            return
        yield from self._id_problems(request.get("custom_id"))
        if self._profile.dialect == "anthropic":
            body, name = request.get("params"), "params"
        else:
            body, name = request.get("body"), "body"
            yield from self._url_problems(request)
        if not isinstance(body, dict):
            yield "invalid_request", f'"{name}" must be an object'
            return
        try:
            size = len(orjson.dumps(body))
        except orjson.JSONEncodeError:
            yield "invalid_request", f'"{name}" is nested too deeply'
            return
        self.found.tokens += -(-size // _BYTES_PER_TOKEN)  # as `requests.prompt_tokens` has it
        yield from self._model_problems(body)
        if body.get("stream"):
            yield "invalid_request", "a batch cannot stream: leave out stream"
        if self._profile.dialect == "anthropic":
            yield from _anthropic_problems(body)
        elif isinstance(self._url, str) and self._url.endswith("/chat/completions"):
            yield from _messages_problems(body)

    def _id_problems(self, custom_id: object) -> Iterator[tuple[str, str]]:
        if not isinstance(custom_id, str) or not custom_id:
            yield "invalid_request", '"custom_id" must be a text that is not empty'
            return
        if not self._id_pattern.fullmatch(custom_id):
            text = f'"custom_id" must match {self._profile.id_pattern}'
            yield "invalid_request", text
        if not self._ids.add(custom_id):
            shown = custom_id[:80]
            yield "duplicate_custom_id", f"custom_id {shown!r} stands in an earlier line already"

    def _url_problems(self, request: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if request.get("method") != "POST":
            yield "invalid_request", '"method" must be "POST"'
        url = request.get("url")
        if not isinstance(url, str) or not url:
            yield "invalid_request", '"url" is missing, such as ' + self._profile.endpoints[0]
        elif self._url is None:
            self._url = url
            if url not in self._profile.endpoints:
                takes = ", ".join(self._profile.endpoints)
                yield "url_mismatch", f"{self._profile.name} takes {takes}, not {url[:80]}"
        elif url != self._url:
            text = f"url {url[:80]} is another than {self._url[:80]}: one file, one url"
            yield "url_mismatch", text

    def _model_problems(self, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            yield "invalid_request", '"model" is missing'
            return
        if model not in self.found.models and len(self.found.models) < _NAMED_MODELS:
            self.found.models.append(model)
        if self._model is None:
            self._model = model
        elif model != self._model and self._profile.one_model:
            text = f"model {model[:80]} is another than {self._model[:80]}: one file, one model"
            yield "model_mismatch", text


def _messages_problems(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "invalid_request", '"messages" must be a list with a message in it'
        return
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            yield "invalid_request", f'"messages"[{place}] has no "role"'
            return


def _anthropic_problems(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _messages_problems(body)
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        yield "invalid_request", '"max_tokens" must be a whole number above 0'
    messages = body.get("messages")
    spoken = messages if isinstance(messages, list) else []
    if any(isinstance(message, dict) and message.get("role") == "system" for message in spoken):
        yield "invalid_request", 'a message of role "system": its text belongs into "system"'
    sent = [name for name in _SAMPLING if body.get(name) is not None]
    if sent:
        yield "invalid_request", f"{', '.join(sent)}: refused since anthropic-version 2026-10-21"
