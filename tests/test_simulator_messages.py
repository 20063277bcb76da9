"""The simulator's messages and their batches, through Anthropic's own SDK."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic import Anthropic
from test_simulator import call

from jsonl_runner.simulator import FAULT_KINDS, Simulator, SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

MODEL = "claude-haiku-4-5"
CREATE = "POST /v1/messages/batches"


class Clock:
    """A clock that stands still until it is moved."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def params(text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "max_tokens": 100, "messages": messages, **more}


def request(custom_id: str, text: str | None = None, **more: Any) -> Any:
    asked = params(f"row {custom_id}" if text is None else text, **more)
    return {"custom_id": custom_id, "params": asked}


def requests(count: int) -> list[Any]:
    return [request(f"r{number}") for number in range(count)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(clock: Clock) -> Iterator[Simulator]:
    with Simulator(now=clock) as running:
        yield running


def connect(sim: Simulator, key: str = "sk-ant-one", **more: Any) -> Anthropic:
    base = sim.base_url.removesuffix("/v1")
    return Anthropic(api_key=key, base_url=base, max_retries=0, timeout=10, **more)


@pytest.fixture
def sdk(sim: Simulator) -> Iterator[Anthropic]:
    with connect(sim) as client:
        yield client


def submit(sdk: Anthropic, asked: list[Any]) -> str:
    return sdk.messages.batches.create(requests=asked).id


def results(sdk: Anthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    return {one.custom_id: one for one in sdk.messages.batches.results(batch_id)}


def counts(batch: MessageBatch) -> tuple[int, int, int, int, int]:
    found = batch.request_counts
    return (found.processing, found.succeeded, found.errored, found.canceled, found.expired)


def test_a_message(sim: Simulator, sdk: Anthropic) -> None:
    """A Message has its text, its reason to stop, its usage; the journal has its prompt."""
    found = sdk.messages.create(**params("hello"))
    (block,) = found.content
    assert block.type == "text"
    assert block.text == answer_text(params("hello"))
    assert (found.role, found.model, found.stop_reason) == ("assistant", MODEL, "end_turn")
    assert found.usage.output_tokens == len(block.text) // 4
    assert found._request_id
    assert sim.journal.prompts() == Counter(["hello"])
    thought = sdk.messages.create(**params("x", thinking={"type": "adaptive"}))
    assert [block.type for block in thought.content] == ["thinking", "text"]


def test_both_headers_take_a_key(sim: Simulator) -> None:
    """`x-api-key` and `Authorization` are both taken, by messages only."""
    sim.settings = SimulatorSettings(keys=("sk-ant-one",))
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "sk-ant-one"}
    with connect(
        sim, "sk-none", default_headers={"Authorization": anthropic.Omit(), **headers}
    ) as c:
        assert c.messages.create(**params("x")).content
    with connect(sim, "sk-none") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**params("x"))
    with connect(sim, "sk-none") as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.batches.list()


def test_sampling_depends_on_the_version(sim: Simulator, sdk: Anthropic) -> None:
    """The API of 2026-10-21 takes no temperature, the one before it does; one must be named."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        sdk.messages.create(**params("x"), extra_body={"temperature": 1})
    assert "temperature: Extra inputs are not permitted" in str(caught.value)
    assert caught.value.type == "invalid_request_error"
    old = {"anthropic-version": "2023-06-01"}
    asked = params("x")
    assert sdk.messages.create(**asked, extra_body={"top_p": 1}, extra_headers=old).content
    reply = call(sim, params("x"), path="/v1/messages")
    assert (reply.status, reply.error["message"]) == (400, "anthropic-version: header is required")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"messages": "x"}, "messages: Input should be a valid list"),
        ({"logprobs": True}, "logprobs"),
        ({"stream": True}, "not simulated"),
    ],
)
def test_bad_params(sim: Simulator, sdk: Anthropic, changes: dict[str, Any], message: str) -> None:
    """What is wrong with a request is named."""
    sim.settings = SimulatorSettings(unsupported_params=("logprobs",))
    with pytest.raises(anthropic.BadRequestError, match=message):
        sdk.messages.create(**params("x"), extra_body=changes)


ERRORS: dict[str, tuple[int, str, str | None]] = {
    "400": (400, "invalid_request_error", None),
    "401": (401, "authentication_error", None),
    "403": (403, "permission_error", None),
    "404_model": (404, "not_found_error", None),
    "413": (413, "request_too_large", None),
    "429": (429, "rate_limit_error", None),
    "insufficient_quota": (429, "rate_limit_error", "enforced_spend_limit_reached"),
    "credit_balance_exhausted": (400, "invalid_request_error", None),
    "slow_down": (429, "rate_limit_error", "ramp_limit_exceeded"),
    "context_length": (400, "invalid_request_error", None),
    "500": (500, "api_error", None),
    "529": (529, "overloaded_error", None),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_in_anthropics_shape(sdk: Anthropic, kind: str) -> None:
    """Every refusal has Anthropic's type, and a spent limit does not say for how long."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        sdk.messages.create(**params(f"[[fault:{kind}]]"))
    error = caught.value
    assert (error.status_code, error.type, error.error_code) == ERRORS[kind]
    assert error.request_id
    assert ("retry-after" in error.response.headers) == (kind == "429")


@pytest.mark.parametrize(
    ("kind", "reason", "blocks"),
    [
        ("length", "max_tokens", ["text"]),
        ("tool_calls", "tool_use", ["tool_use"]),
        ("content_filter", "refusal", []),
        ("refusal", "refusal", []),
        ("empty_answer", "end_turn", ["text"]),
        ("null_answer", "end_turn", []),
        ("no_choices", "end_turn", []),
        ("surrogate", "end_turn", ["text"]),
    ],
)
def test_other_endings(sdk: Anthropic, kind: str, reason: str, blocks: list[str]) -> None:
    """Messages that stop for other reasons, with other contents."""
    found = sdk.messages.create(**params(f"[[fault:{kind}]]"))
    assert (found.stop_reason, [block.type for block in found.content]) == (reason, blocks)


def test_limits_are_told_in_anthropics_headers(sim: Simulator, sdk: Anthropic) -> None:
    """A bucket's state stands in headers with times; an empty one is 429 with retry-after."""
    sim.settings = SimulatorSettings(requests_per_second=0.1)
    raw = sdk.messages.with_raw_response.create(**params("x"))
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert raw.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    with pytest.raises(anthropic.RateLimitError) as caught:
        sdk.messages.create(**params("x"))
    assert caught.value.response.headers["retry-after"] == "10"


def test_a_truncated_message(sdk: Anthropic) -> None:
    """Breakages break messages too."""
    with pytest.raises(Exception, match=r"peer closed|[Cc]onnection"):
        sdk.messages.create(**params("[[fault:truncated]]"))


def test_a_batch_ends(sim: Simulator, sdk: Anthropic, clock: Clock) -> None:
    """All counts but `processing` stay 0 until the end; the results come in another order."""
    sim.settings = SimulatorSettings(batch_in_progress_s=100)
    made = sdk.messages.batches.create(requests=requests(30))
    assert (made.processing_status, counts(made)) == ("in_progress", (30, 0, 0, 0, 0))
    assert made.expires_at - made.created_at == timedelta(days=1)
    clock.now_s += 99
    assert sdk.messages.batches.retrieve(made.id) == made
    with pytest.raises(anthropic.AnthropicError, match="results"):
        sdk.messages.batches.results(made.id)
    clock.now_s += 1
    batch = sdk.messages.batches.retrieve(made.id)
    assert (batch.processing_status, counts(batch)) == ("ended", (0, 30, 0, 0, 0))
    assert batch.ended_at is not None
    found = results(sdk, batch.id)
    wanted = [f"r{number}" for number in range(30)]
    assert list(found) != wanted
    for custom_id in wanted:
        result = found[custom_id].result
        assert result.type == "succeeded"
        assert result.message.content[0].type == "text"
        assert result.message.content[0].text == answer_text(params(f"row {custom_id}"))
        assert result.message.usage.service_tier == "batch"
    assert sim.journal.batches.billed_ids() == Counter(wanted)
    (created,) = sim.journal.batches.created
    assert (created.batch_id, created.custom_ids) == (batch.id, tuple(wanted))


def test_params_are_looked_at_after_acceptance(sim: Simulator, sdk: Anthropic) -> None:
    """A wrong field is accepted, and errors line by line; nothing of that is billed."""
    sim.settings = SimulatorSettings(models=(MODEL,))
    asked = [
        request("warm", temperature=1),
        request("model", model="claude-none"),
        request("poor", "[[fault:credit_balance_exhausted]]"),
        request("busy", "[[fault:529]]"),
        request("page", "[[fault:502_html]]"),
        request("odd", "[[fault:nonsense]]"),
        {"custom_id": "bare", "params": {}},
        request("good"),
    ]
    batch_id = submit(sdk, asked)
    found = {
        custom_id: one.result.error.error.type if one.result.type == "errored" else None
        for custom_id, one in results(sdk, batch_id).items()
    }
    assert found == {
        "warm": "invalid_request_error",
        "model": "not_found_error",
        "poor": "invalid_request_error",
        "busy": "overloaded_error",
        "page": "api_error",
        "odd": "invalid_request_error",
        "bare": "invalid_request_error",
        "good": None,
    }
    assert counts(sdk.messages.batches.retrieve(batch_id)) == (0, 1, 7, 0, 0)
    assert sim.journal.batches.billed_ids() == Counter(["good"])


def test_every_kind_can_stand_in_a_line(sdk: Anthropic) -> None:
    """Each fault of live calls means something to a batch, too; none stops it."""
    kinds = [kind for kind in FAULT_KINDS if kind not in ("huge", "404_model")]
    batch_id = submit(sdk, [request(kind, f"[[fault:{kind}]]") for kind in kinds])
    batch = sdk.messages.batches.retrieve(batch_id)
    assert batch.processing_status == "ended"
    assert sum(counts(batch)) == len(kinds)


def test_odd_lines(sim: Simulator, sdk: Anthropic) -> None:
    """Lines that are missing, cut, or hold no message; all of them were paid."""
    kinds = ["batch_missing", "batch_cut", "batch_not_utf8", "batch_string", "batch_status_0"]
    kinds += ["empty", "html", "batch_expired", "batch_cancelled"]
    batch_id = submit(sdk, [request(kind, f"[[fault:{kind}]]") for kind in kinds])
    url = sdk.messages.batches.retrieve(batch_id).results_url
    assert url is not None
    raw = sdk.get(url, cast_to=str)
    lines = [line for line in raw.split("\n") if line]
    assert len(lines) == len(kinds) - 1
    good = {}
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        good[found["custom_id"]] = found["result"]
    assert "batch_cut" not in good
    assert (good["batch_expired"], good["batch_cancelled"]) == (
        {"type": "expired"},
        {"type": "canceled"},
    )
    assert (good["batch_status_0"]["message"], good["empty"]["message"]) == ({}, {})
    assert isinstance(good["batch_string"]["message"], str)
    assert set(sim.journal.batches.billed_ids()) == set(kinds[:-2])


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [request("a"), request("a")],
        [request("a b")],
        [request("x" * 65)],
        [{"custom_id": "a"}],
        ["a"],
    ],
)
def test_creations_that_are_refused(sim: Simulator, sdk: Anthropic, asked: list[Any]) -> None:
    """Ids must be unique and plain, and there must be requests."""
    with pytest.raises(anthropic.BadRequestError):
        submit(sdk, asked)
    assert sim.journal.batches.created == []


def test_cancelling(sim: Simulator, sdk: Anthropic) -> None:
    """A cancelled batch ends with what was answered; the rest is canceled."""
    sim.settings = SimulatorSettings(batches_by_hand=True, batch_answered_share=0.3)
    batch_id = submit(sdk, requests(10))
    with pytest.raises(anthropic.BadRequestError, match="while it is processing"):
        sdk.messages.batches.delete(batch_id)
    for _ in range(2):
        assert sdk.messages.batches.cancel(batch_id).processing_status == "canceling"
    assert sim.message_batches.advance() == {batch_id: "ended"}
    batch = sdk.messages.batches.retrieve(batch_id)
    assert (counts(batch), batch.cancel_initiated_at is None) == ((0, 3, 0, 7, 0), False)
    types = Counter(one.result.type for one in results(sdk, batch_id).values())
    assert types == {"succeeded": 3, "canceled": 7}
    assert len(sim.journal.batches.billed) == 3
    with pytest.raises(anthropic.BadRequestError, match="already ended"):
        sdk.messages.batches.cancel(batch_id)
    assert sdk.messages.batches.delete(batch_id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.retrieve(batch_id)


def test_expiry(sim: Simulator, sdk: Anthropic, clock: Clock) -> None:
    """A batch that took too long ends with expired lines, by the clock or by hand."""
    sim.settings = SimulatorSettings(batch_in_progress_s=100, batch_window_s=50)
    batch_id = submit(sdk, requests(10))
    clock.now_s += 50
    assert counts(sdk.messages.batches.retrieve(batch_id)) == (0, 5, 0, 0, 5)
    other = submit(sdk, requests(10))
    assert sim.message_batches.advance(other, to="expired") == {other: "ended"}
    assert counts(sdk.messages.batches.retrieve(other))[4] == 10


def test_results_are_archived(sdk: Anthropic, clock: Clock) -> None:
    """After 29 days a batch is still shown, without its results."""
    batch_id = submit(sdk, requests(1))
    url = sdk.messages.batches.retrieve(batch_id).results_url or ""
    clock.now_s += 29 * 86_400
    batch = sdk.messages.batches.retrieve(batch_id)
    assert (batch.results_url, batch.archived_at is None) == (None, False)
    with pytest.raises(anthropic.NotFoundError, match="no longer available"):
        sdk.get(url, cast_to=str)


def test_lists_and_young_batches(sim: Simulator, sdk: Anthropic, clock: Clock) -> None:
    """Newest first, in pages both ways; a young batch is 404 and not in the list."""
    sim.settings = SimulatorSettings(list_lag_s=5, batch_hidden_s=2)
    ids = [submit(sdk, requests(1)) for _ in range(5)]
    assert list(sdk.messages.batches.list()) == []
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.retrieve(ids[0])
    clock.now_s += 5
    assert [batch.id for batch in sdk.messages.batches.list(limit=2)] == ids[::-1]
    page = sdk.messages.batches.list(limit=2, before_id=ids[0])
    assert ([batch.id for batch in page.data], page.has_more) == ([ids[2], ids[1]], True)
    with pytest.raises(anthropic.BadRequestError):
        sdk.messages.batches.list(after_id="msgbatch_none")


def test_lost_and_failing_calls(sim: Simulator, sdk: Anthropic) -> None:
    """A batch whose answer was lost is there; its errors have Anthropic's shape."""
    sim.lose_next(CREATE, "request")
    sim.lose_next(CREATE, "answer")
    for count in (0, 1):
        with pytest.raises(anthropic.APIConnectionError):
            submit(sdk, requests(1))
        assert len(sim.journal.batches.created) == count
    sim.fail_next(CREATE, "529")
    with pytest.raises(anthropic.APIStatusError) as caught:
        submit(sdk, requests(1))
    assert caught.value.type == "overloaded_error"
    (batch,) = sdk.messages.batches.list()
    sim.lose_next("GET /v1/messages/batches/{id}/results")
    with pytest.raises(Exception, match=r"peer closed|[Cc]onnection|incomplete"):
        results(sdk, batch.id)
    assert results(sdk, batch.id).keys() == {"r0"}
    sim.message_batches.stick(batch.id)
    sim.message_batches.vanish(batch.id)
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.retrieve(batch.id)


def test_many_requests(sim: Simulator, sdk: Anthropic) -> None:
    """A large batch goes through while other calls are answered; no thread stays behind."""
    before = threading.active_count()
    batch_id = submit(sdk, requests(10_000))
    assert counts(sdk.messages.batches.retrieve(batch_id)) == (0, 10_000, 0, 0, 0)
    assert len(results(sdk, batch_id)) == 10_000
    sim.stop()
    assert threading.active_count() < before
