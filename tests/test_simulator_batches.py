"""The simulator's files and batches, through OpenAI's own SDK and through real sockets."""

from __future__ import annotations

import gc
import io
import json
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import openai
import pytest
from openai import OpenAI
from test_simulator import open_call

from jsonl_runner.simulator import (
    BATCH_FAULT_KINDS,
    FAULT_KINDS,
    ROUTES,
    Simulator,
    SimulatorSettings,
    UnknownRouteError,
    answer_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types import Batch

MODEL = "gpt-4.1-mini"
CHAT: Final = "/v1/chat/completions"
CREATE = "POST /v1/batches"


class Clock:
    """A clock that stands still until it is moved."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def line(custom_id: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    asked = body(f"row {custom_id}" if text is None else text)
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked, **more}


def lines(count: int) -> list[dict[str, Any]]:
    return [line(f"r{number}") for number in range(count)]


def jsonl(items: list[Any]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


class Client:
    """A short way to the SDK, which repeats nothing by itself."""

    def __init__(self, sim: Simulator, key: str = "sk-one") -> None:
        self.sdk = OpenAI(api_key=key, base_url=sim.base_url, max_retries=0, timeout=10)

    def upload(self, data: bytes | list[Any], name: str = "in.jsonl") -> str:
        content = data if isinstance(data, bytes) else jsonl(data)
        file = (name, io.BytesIO(content))
        return self.sdk.files.create(file=file, purpose="batch").id

    def create(self, file_id: str, **more: Any) -> Batch:
        return self.sdk.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=file_id, **more
        )

    def submit(self, data: bytes | list[Any], **more: Any) -> str:
        return self.create(self.upload(data), **more).id

    def get(self, batch_id: str) -> Batch:
        return self.sdk.batches.retrieve(batch_id)

    def content(self, file_id: str | None) -> bytes:
        assert file_id
        return self.sdk.files.content(file_id).content

    def results(self, file_id: str | None) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.content(file_id).split(b"\n") if one]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(clock: Clock) -> Iterator[Simulator]:
    with Simulator(now=clock) as running:
        yield running


@pytest.fixture
def client(sim: Simulator) -> Iterator[Client]:
    found = Client(sim)
    with found.sdk:
        yield found


def by_hand(sim: Simulator, **more: Any) -> None:
    sim.settings = SimulatorSettings(batches_by_hand=True, **more)


def found_errors(batch: Batch) -> list[tuple[str | None, int | None]]:
    assert batch.status == "failed"
    assert batch.errors is not None
    return [(error.code, error.line) for error in batch.errors.data or []]


def test_files_round_trip(sim: Simulator, client: Client, tmp_path: Path) -> None:
    """A handle is uploaded, shown, listed, read in blocks, deleted; its bytes stay as they were."""
    data = b'{"a": "--boundary\r\n\r\n\xe2\x80\xa8"}\n' * 200_000
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    with path.open("rb") as handle:
        made = client.sdk.files.create(
            file=handle,
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    assert (made.filename, made.bytes, made.purpose) == ("data.jsonl", len(data), "batch")
    assert (made.status, made.expires_at) == ("processed", made.created_at + 3600)
    assert client.sdk.files.retrieve(made.id) == made
    with client.sdk.files.with_streaming_response.content(made.id) as response:
        assert b"".join(response.iter_bytes()) == data
    others = [client.upload([], f"{number}.jsonl") for number in range(4)]
    everyone = [file.id for file in client.sdk.files.list(limit=2)]
    assert everyone == [*reversed(others), made.id]
    assert [f.id for f in client.sdk.files.list(order="asc")] == everyone[::-1]
    assert list(client.sdk.files.list(purpose="vision")) == []
    assert client.sdk.files.delete(made.id).deleted
    for call in (client.sdk.files.retrieve, client.sdk.files.content, client.sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    uploads = sim.journal.batches.uploads
    assert [(one.filename, one.size) for one in uploads][:2] == [
        ("data.jsonl", len(data)),
        ("0.jsonl", 0),
    ]


def test_uploads_that_are_refused(sim: Simulator, client: Client) -> None:
    """Wrong names, purposes, sizes and expiries are 400, and nothing is kept."""
    sim.settings = SimulatorSettings(max_batch_bytes=100)
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        client.upload([], "in.json")
    with pytest.raises(openai.BadRequestError, match="too large"):
        client.upload(b"x" * 101)
    client.upload(b"x" * 100)
    for more in ({"purpose": "vision"}, {"expires_after": {"anchor": "created_at", "seconds": 5}}):
        given: dict[str, Any] = {"purpose": "batch", "file": ("a.jsonl", io.BytesIO(b"{}")), **more}
        with pytest.raises(openai.BadRequestError):
            client.sdk.files.create(**given)
    assert len(sim.journal.batches.uploads) == len(list(client.sdk.files.list())) == 1


def test_files_are_not_ready_at_once_and_expire(
    sim: Simulator, client: Client, clock: Clock
) -> None:
    """A young file is `uploaded` and cannot be used; an old one is gone."""
    sim.settings = SimulatorSettings(file_ready_s=5)
    file_id = client.upload(lines(1))
    assert client.sdk.files.retrieve(file_id).status == "uploaded"
    with pytest.raises(openai.BadRequestError, match="still being processed"):
        client.create(file_id)
    clock.now_s += 5
    assert client.sdk.files.retrieve(file_id).status == "processed"
    assert client.create(file_id).status == "validating"
    clock.now_s += 30 * 86_400
    with pytest.raises(openai.NotFoundError):
        client.sdk.files.retrieve(file_id)


def test_a_batch_completes(sim: Simulator, client: Client) -> None:
    """Every line is answered as the live endpoint would, in another order; all is echoed."""
    file_id = client.upload(lines(50))
    made = client.create(file_id, metadata={"token": "t1"})
    assert (made.status, made.metadata, made.input_file_id) == (
        "validating",
        {"token": "t1"},
        file_id,
    )
    batch = client.get(made.id)
    assert (batch.status, batch.output_file_id is None, batch.error_file_id) == (
        "completed",
        False,
        None,
    )
    found = client.results(batch.output_file_id)
    ids = [one["custom_id"] for one in found]
    wanted = [f"r{number}" for number in range(50)]
    assert sorted(ids) == sorted(wanted)
    assert ids != wanted
    for one in found:
        assert (one["error"], one["response"]["status_code"]) == (None, 200)
        text = one["response"]["body"]["choices"][0]["message"]["content"]
        assert text == answer_text(body(f"row {one['custom_id']}"))
    counts = batch.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (50, 50, 0)
    used = [one["response"]["body"]["usage"]["total_tokens"] for one in found]
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(used)
    assert sim.journal.batches.billed_ids() == Counter(wanted)
    assert sim.journal.batches.billed_prompts()["row r7"] == 1
    assert sim.journal.prompts() == Counter()
    (created,) = sim.journal.batches.created
    assert (created.batch_id, created.custom_ids) == (batch.id, tuple(wanted))
    assert created.sha256 == sim.journal.batches.uploads[0].sha256
    assert sim.journal.routes()["GET /v1/batches/{id}"] == 1


def test_states_follow_the_clock(sim: Simulator, client: Client, clock: Clock) -> None:
    """Each state lasts as long as it should; times and counts tell of it."""
    sim.settings = SimulatorSettings(
        batch_validating_s=10, batch_in_progress_s=100, batch_finalizing_s=5
    )
    batch_id = client.submit(lines(10))
    seen = []
    for wait in (9, 1, 50, 50, 5):
        clock.now_s += wait
        batch = client.get(batch_id)
        assert batch.request_counts is not None
        seen.append((batch.status, batch.request_counts.total, batch.request_counts.completed))
    assert seen == [
        ("validating", 0, 0),
        ("in_progress", 10, 0),
        ("in_progress", 10, 5),
        ("finalizing", 10, 10),
        ("completed", 10, 10),
    ]
    start = batch.created_at
    assert abs((batch.completed_at or 0) - start - 115) <= 1
    assert abs((batch.expires_at or 0) - start - 86_400) <= 1


def test_states_by_hand(sim: Simulator, client: Client, clock: Clock) -> None:
    """`advance` moves a batch a state at a time, or on to one; time does nothing."""
    by_hand(sim)
    one, two = client.submit(lines(2)), client.submit(lines(2))
    clock.now_s += 1e6
    assert client.get(one).status == "validating"
    assert set(sim.batches.advance().values()) == {"in_progress"}
    assert sim.batches.advance(one, to="completed") == {one: "completed"}
    assert client.get(two).status == "in_progress"
    assert sim.batches.statuses() == {one: "completed", two: "in_progress"}
    with pytest.raises(ValueError, match="will not be expired"):
        sim.batches.advance(one, to="expired")
    with pytest.raises(KeyError):
        sim.batches.advance("batch_none")
    assert sim.batches.advance(one) == {one: "completed"}


FINDINGS: dict[str, tuple[bytes, list[tuple[str, int | None]]]] = {
    "empty": (b"", [("empty_file", None)]),
    "json": (jsonl([line("a")]) + b"{oops\n", [("invalid_json_line", 2)]),
    "bom": (b"\xef\xbb\xbf" + jsonl([line("a")]), [("invalid_json_line", 1)]),
    "list": (b"[]\n", [("invalid_request", 1)]),
    "twice": (jsonl([line("a"), line("b"), line("a")]), [("duplicate_custom_id", 3)]),
    "model": (
        jsonl([line("a"), line("b", body=body("x") | {"model": "gpt-4.1"})]),
        [("model_mismatch", 2)],
    ),
    "unknown": (jsonl([line("a", body=body("x") | {"model": "m"})]), [("model_not_found", 1)]),
    "url": (jsonl([line("a", url="/v1/embeddings")]), [("url_mismatch", 1)]),
    "method": (jsonl([line("a", method="GET")]), [("invalid_request", 1)]),
    "body": (
        jsonl([line("a", body=None), line("b", body={"model": "m"})]),
        [("invalid_request", 1), ("invalid_request", 2)],
    ),
    "no id": (
        jsonl([line(""), line("a") | {"custom_id": 5}]),
        [("invalid_request", 1), ("invalid_request", 2)],
    ),
    "too many": (jsonl(lines(4)), [("too_many_tasks", None)]),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_validation_fails_later(sim: Simulator, client: Client, name: str) -> None:
    """Garbage is accepted as `validating`, and fails with code and line; nothing is billed."""
    sim.settings = SimulatorSettings(models=(MODEL, "gpt-4.1"), max_batch_requests=3)
    data, wanted = FINDINGS[name]
    batch = client.get(client.submit(data))
    assert found_errors(batch) == wanted
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert sim.journal.batches.billed == []


def test_enqueued_tokens(sim: Simulator, client: Client) -> None:
    """A model's unfinished batches have a limit together; the one beyond it fails, with no line."""
    by_hand(sim, max_enqueued_tokens={MODEL: 10})
    first, second = client.submit(lines(10)), client.submit(lines(1))
    sim.batches.advance()
    assert found_errors(client.get(second)) == [("token_limit_exceeded", None)]
    sim.batches.advance(first, to="completed")
    third = client.submit(lines(10))
    assert sim.batches.advance(third, to="completed") == {third: "completed"}


def test_creations_that_are_refused(sim: Simulator, client: Client) -> None:
    """A wrong window, endpoint, file or metadata is 400; no batch is created."""
    file_id = client.upload(lines(1))
    done = client.get(client.create(file_id).id)
    given = {"completion_window": "24h", "endpoint": CHAT, "input_file_id": file_id}
    for wrong in (
        {"completion_window": "1h"},
        {"endpoint": "/v1/none"},
        {"input_file_id": "file-none"},
        {"input_file_id": done.output_file_id},
        {"metadata": {f"n{number}": "v" for number in range(17)}},
        {"metadata": {"n": "v" * 513}},
    ):
        with pytest.raises(openai.BadRequestError):
            client.sdk.batches.create(**(given | wrong))
    assert len(sim.journal.batches.created) == 1


FAULTS: dict[str, tuple[str, Any]] = {
    "400": ("error", (400, "invalid_request_error")),
    "429": ("error", (429, "requests")),
    "context_length": ("error", (400, "invalid_request_error")),
    "500": ("error", (500, "server_error")),
    "502_html": ("error", (502, str)),
    "hang": ("error", "batch_expired"),
    "batch_expired": ("error", "batch_expired"),
    "batch_cancelled": ("error", "batch_cancelled"),
    "empty": ("output", (200, {})),
    "html": ("output", (200, str)),
    "malformed": ("output", (200, str)),
    "batch_string": ("output", (200, str)),
    "batch_status_0": ("output", (0, {})),
    "whitespace": ("output", (200, dict)),
    "surrogate": ("output", (200, dict)),
    "null_choices": ("output", (200, dict)),
    "refusal": ("output", (200, dict)),
    "batch_cut": ("output", ValueError),
    "batch_not_utf8": ("output", UnicodeDecodeError),
    "batch_missing": ("", None),
    "close": ("", None),
    "nonsense": ("error", (400, "invalid_request_error")),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_lines_that_go_wrong(sim: Simulator, client: Client, kind: str) -> None:
    """Each kind of bad line lies in the right file and the right shape, beside a good one."""
    where, wanted = FAULTS[kind]
    batch = client.get(client.submit([line("good"), line("bad", f"[[fault:{kind}]]")]))
    assert batch.status == "completed"
    files = {
        "output": client.content(batch.output_file_id),
        "error": client.content(batch.error_file_id) if batch.error_file_id else b"",
    }
    bad = [raw for raw in files.get(where, b"").split(b"\n") if raw and b"good" not in raw]
    if not where:
        assert b"bad" not in files["output"] + files["error"]
        return
    (raw,) = [one for one in bad if one.strip()]
    if isinstance(wanted, type):
        with pytest.raises(wanted):
            json.loads(raw.decode())
        return
    found = json.loads(raw)
    if isinstance(wanted, str):
        assert (found["response"], found["error"]["code"]) == (None, wanted)
        return
    status, shape = wanted
    assert (found["error"], found["response"]["status_code"]) == (None, status)
    answer = found["response"]["body"]
    if isinstance(shape, type):
        assert isinstance(answer, shape)
    elif isinstance(shape, str):
        assert answer["error"]["type"] == shape
    else:
        assert answer == shape


def test_every_kind_of_batches_has_a_test() -> None:
    """No kind that only batches know is left out above."""
    assert set(BATCH_FAULT_KINDS) <= FAULTS.keys()


def test_faults_of_lines_are_billed_or_not(sim: Simulator, client: Client) -> None:
    """Lost and spoilt answers were paid, errors were not; a marker with `*1` passes later."""
    rows = [
        line("lost", "[[fault:batch_missing*1]]"),
        line("cut", "[[fault:batch_cut]]"),
        line("500", "[[fault:500*1]]"),
        line("late", "[[fault:batch_expired*1]]"),
    ]
    file_id = client.upload(rows)
    client.get(client.create(file_id).id)
    assert sim.journal.batches.billed_ids() == Counter(["lost", "cut"])
    batch = client.get(client.create(file_id).id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 4
    assert sim.journal.batches.billed_ids()["lost"] == 2


def test_live_calls_pay_no_heed_to_faults_of_batches(client: Client) -> None:
    """A row that a batch lost can be asked live."""
    messages: Any = body("[[fault:batch_missing]] hi")["messages"]
    assert client.sdk.chat.completions.create(model=MODEL, messages=messages).choices


def test_rates_of_lines(sim: Simulator, client: Client) -> None:
    """A share of the lines meets a fault; the same seed, the same lines."""
    sim.settings = SimulatorSettings(
        line_faults={"500": 0.2, "batch_missing": 0.1}, unsupported_params=("logprobs",), seed=3
    )
    rows = [
        *lines(200),
        line("odd", body=body("x", logprobs=True)),
        line("s", body=body("", stream=True)),
    ]
    batch = client.get(client.submit(rows))
    bad = client.results(batch.error_file_id)
    assert 20 <= len(bad) <= 70
    assert {"odd", "s"} <= {one["custom_id"] for one in bad}
    assert 100 <= len(client.results(batch.output_file_id)) < 202 - len(bad)


def test_all_lines_failed(client: Client) -> None:
    """A completed batch of failures has no output file."""
    batch = client.get(client.submit([line("a", "[[fault:500]]")]))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert len(client.results(batch.error_file_id)) == 1


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_partial_results(sim: Simulator, client: Client, end: str) -> None:
    """An expired or cancelled batch carries its finished lines, and names the others."""
    by_hand(sim, batch_answered_share=0.3)
    batch_id = client.submit(lines(10))
    sim.batches.advance()
    if end == "cancelled":
        assert client.sdk.batches.cancel(batch_id).status == "cancelling"
        assert client.sdk.batches.cancel(batch_id).status == "cancelling"
    sim.batches.advance(to=end)
    batch = client.get(batch_id)
    assert (batch.status, getattr(batch, f"{end}_at") is None) == (end, False)
    done, undone = client.results(batch.output_file_id), client.results(batch.error_file_id)
    assert (len(done), len(undone)) == (3, 7)
    assert {one["error"]["code"] for one in undone} == {f"batch_{end}"}
    assert sim.journal.batches.billed_ids() == Counter(one["custom_id"] for one in done)
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 7)
    with pytest.raises(openai.ConflictError, match="Cannot cancel"):
        client.sdk.batches.cancel(batch_id)


def test_expiry_by_the_clock(sim: Simulator, client: Client, clock: Clock) -> None:
    """What is not done within the window expires, with as many lines as its time allowed."""
    sim.settings = SimulatorSettings(batch_in_progress_s=100, batch_window_s=50)
    batch_id = client.submit(lines(10))
    clock.now_s += 60
    batch = client.get(batch_id)
    assert (batch.status, len(client.results(batch.output_file_id))) == ("expired", 5)


def test_cancelled_before_it_began(sim: Simulator, client: Client) -> None:
    """A batch cancelled in validation has answered nothing."""
    by_hand(sim)
    batch_id = client.submit(lines(3))
    client.sdk.batches.cancel(batch_id)
    sim.batches.advance()
    batch = client.get(batch_id)
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    assert len(client.results(batch.error_file_id)) == 3
    assert sim.journal.batches.billed == []


def test_odd_objects(sim: Simulator, client: Client) -> None:
    """Counts that do not add up, no counts, and every way to have no file."""
    rows = [line("a"), line("b", "[[fault:500]]")]
    sim.settings = SimulatorSettings(batch_counts="odd")
    batch = client.get(client.submit(rows))
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 0)
    sim.settings = SimulatorSettings(batch_counts="null", absent_files="blank")
    batch = client.get(client.submit(rows[:1]))
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 1, "completed": None, "failed": None}
    assert batch.error_file_id == ""
    sim.settings = SimulatorSettings(absent_files="missing")
    assert "error_file_id" not in client.get(batch.id).to_dict()
    sim.settings = SimulatorSettings(absent_files="empty_file")
    batch = client.get(client.submit(rows[:1]))
    assert client.content(batch.error_file_id) == b""


def test_loud_objects(sim: Simulator, client: Client) -> None:
    """Some providers write states and times in their own way."""
    by_hand(sim, loud_batches=True)
    batch_id = client.submit(lines(1))
    assert str(client.sdk.batches.cancel(batch_id).status) == "CANCELING"
    sim.batches.advance()
    found = client.sdk.batches.with_raw_response.retrieve(batch_id).http_response.json()
    assert (found["status"], found["request_counts"]) == (
        "CANCELED",
        {"total": "1", "completed": "0", "failed": "1"},
    )
    assert str(found["cancelled_at"]).endswith("Z")
    assert str(found["created_at"]).isdigit()


def test_every_kind_can_stand_in_a_line(client: Client) -> None:
    """Each fault of live calls means something to a batch, too; none stops it."""
    kinds = [*FAULT_KINDS, *BATCH_FAULT_KINDS]
    batch = client.get(client.submit([line(kind, f"[[fault:{kind}]]") for kind in kinds]))
    assert batch.status == "completed"
    data = client.content(batch.output_file_id) + client.content(batch.error_file_id)
    missing = {kind for kind in kinds if f'"custom_id":"{kind}"'.encode() not in data}
    assert missing - {"surrogate"} == {"close", "reset", "batch_missing"}
    assert len(data) > 80_000_000  # `huge`


def upload_request(extra: str = "") -> bytes:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n',
        b"{}\n" * 1000 + b"\r\n--b--\r\n",
    ]
    form = b"".join(parts)
    head = (
        "POST /v1/files HTTP/1.1\r\nAuthorization: Bearer k\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\n{extra}Content-Length: {len(form)}\r\n"
    )
    return head.encode() + b"\r\n" + form


def test_uploads_piece_by_piece(sim: Simulator) -> None:
    """A client may wait for leave to send, send in pieces, go on after it, or break off."""
    whole = upload_request()
    with open_call(sim, whole[: len(whole) // 2]):
        pass
    head, _, form = upload_request("Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with open_call(sim, head + b"\r\n\r\n") as raw:
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for start in range(0, len(form), 700):
            raw.sendall(form[start : start + 700])
        assert raw.recv(65536).startswith(b"HTTP/1.1 200 OK")
        last = upload_request("Connection: close\r\n").replace(b"boundary=b", b"boundary=c")
        raw.sendall(whole + last)
        with raw.makefile("rb") as stream:
            answers = stream.read()
    found = [answers.count(b"HTTP/1.1 " + status) for status in (b"200", b"400")]
    assert found == [1, 1]
    assert [(one.filename, one.size) for one in sim.journal.batches.uploads] == [
        ("a.jsonl", 3000)
    ] * 2
    elsewhere = whole.replace(b"/v1/files", b"/v1/other")
    with open_call(sim, elsewhere) as raw:
        assert raw.recv(65536).startswith(b"HTTP/1.1 404")


def test_stuck_and_vanished_batches(sim: Simulator, client: Client, clock: Clock) -> None:
    """Some never end unless they are cancelled; some are gone one day."""
    sim.settings = SimulatorSettings(stuck_batches=1.0)
    batch_id = client.submit(lines(2))
    clock.now_s += 1e6
    assert client.get(batch_id).status == "in_progress"
    client.sdk.batches.cancel(batch_id)
    assert client.get(batch_id).status == "cancelled"
    sim.settings = SimulatorSettings()
    other = client.submit(lines(1))
    sim.batches.stick(other, "finalizing")
    assert client.get(other).status == "finalizing"
    sim.batches.stick(other, None)
    assert client.get(other).status == "completed"
    sim.batches.vanish(other)
    with pytest.raises(openai.NotFoundError):
        client.get(other)
    assert [batch.id for batch in client.sdk.batches.list()] == [batch_id]


def test_lists(sim: Simulator, client: Client, clock: Clock) -> None:
    """Newest first, in pages; a young batch is missing in it, and 404 for a while."""
    sim.settings = SimulatorSettings(list_lag_s=5, batch_hidden_s=2)
    file_id = client.upload(lines(1))
    ids = [client.create(file_id).id for _ in range(5)]
    assert list(client.sdk.batches.list()) == []
    with pytest.raises(openai.NotFoundError):
        client.get(ids[0])
    clock.now_s += 2
    assert client.get(ids[0]).id == ids[0]
    clock.now_s += 3
    assert [batch.id for batch in client.sdk.batches.list(limit=2)] == ids[::-1]
    assert sim.journal.routes()["GET /v1/batches"] == 4
    with pytest.raises(openai.BadRequestError):
        client.sdk.batches.list(limit=101)
    with pytest.raises(openai.BadRequestError):
        client.sdk.batches.list(after="batch_none")
    sim.settings = SimulatorSettings(endless_lists=True)
    pages = client.sdk.batches.list(limit=2)
    for _ in range(5):
        assert [batch.id for batch in pages.data] == ids[:2:-1]
        pages = pages.get_next_page()


def test_input_deleted_while_it_is_needed(sim: Simulator, client: Client) -> None:
    """A batch goes on with an input file that was deleted."""
    by_hand(sim)
    file_id = client.upload(lines(2))
    batch_id = client.create(file_id).id
    client.sdk.files.delete(file_id)
    sim.batches.advance(to="completed")
    assert len(client.results(client.get(batch_id).output_file_id)) == 2


def test_keys(sim: Simulator, client: Client) -> None:
    """No key, a wrong or a dead one is refused; another's batch is not found where keys differ."""
    sim.settings = SimulatorSettings(
        keys=("sk-one", "sk-two", "sk-dead"), key_faults={"sk-dead": "401"}, separate_keys=True
    )
    batch_id = client.submit(lines(1))
    for key in ("sk-none", "sk-dead"):
        with Client(sim, key).sdk as sdk, pytest.raises(openai.AuthenticationError):
            sdk.batches.list()
    with Client(sim, "sk-two").sdk as sdk:
        assert not list(sdk.batches.list())
        assert not list(sdk.files.list())
        with pytest.raises(openai.NotFoundError):
            sdk.batches.retrieve(batch_id)
    assert [batch.id for batch in client.sdk.batches.list()] == [batch_id]


def test_lost_calls(sim: Simulator, client: Client) -> None:
    """A lost request did nothing; after a lost answer all is done, which only the server knows."""
    file_id = client.upload(lines(1))
    sim.lose_next(CREATE, "request")
    sim.lose_next(CREATE, "answer")
    sim.lose_next(CREATE, "answer_500")
    for count, error in enumerate(
        (openai.APIConnectionError, openai.APIConnectionError, openai.InternalServerError)
    ):
        with pytest.raises(error):
            client.create(file_id)
        assert len(sim.journal.batches.created) == count
    assert [batch.input_file_id for batch in client.sdk.batches.list()] == [file_id, file_id]
    found = [call.fault for call in sim.journal.calls if call.path == "/v1/batches"]
    assert found == ["lost request", "lost answer", "lost answer_500", None]
    sim.lose_next("POST /v1/files", "request")
    with pytest.raises(openai.APIConnectionError):
        client.upload(lines(3))
    assert len(sim.journal.batches.uploads) == 1
    with pytest.raises(UnknownRouteError, match="POST /v1/batches"):
        sim.lose_next("POST /v1/batch")
    with pytest.raises(ValueError, match="cannot be lost"):
        sim.lose_next(CREATE, "patience")  # type: ignore[arg-type]


def test_a_download_that_breaks_off(sim: Simulator, client: Client) -> None:
    """Half of the file comes, then the connection is closed; the next time all of it."""
    data = jsonl(lines(20_000))
    file_id = client.upload(data)
    sim.lose_next("GET /v1/files/{id}/content")
    with pytest.raises((openai.APIConnectionError, Exception)) as caught:
        client.content(file_id)
    assert "incomplete" in str(caught.value) or isinstance(caught.value, openai.APIConnectionError)
    assert client.content(file_id) == data


def test_failing_calls(sim: Simulator, client: Client) -> None:
    """429 with Retry-After, 500 and a hang on demand; nothing is done by them."""
    sim.fail_next("GET /v1/files", "429")
    with pytest.raises(openai.RateLimitError) as limited:
        client.sdk.files.list()
    assert limited.value.response.headers["retry-after"] == "1"
    sim.fail_next("POST /v1/files", "500", times=2)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.upload(lines(1))
    sim.fail_next("GET /v1/batches", "hang")
    with pytest.raises(openai.APITimeoutError):
        client.sdk.with_options(timeout=0.1).batches.list()
    sim.fail_next("GET /v1/batches", "reset")
    with pytest.raises(openai.APIConnectionError):
        client.sdk.batches.list()
    assert sim.journal.batches.uploads == []
    with pytest.raises(openai.NotFoundError, match="Unknown request URL"):
        client.sdk.get("/files/a/b/c", cast_to=object)


def test_losses_are_seeded(clock: Clock) -> None:
    """The same seed loses the same calls of a route, however often others are made."""

    def found(seed: int, polls: int) -> list[str | None]:
        settings = SimulatorSettings(
            lost_requests={CREATE: 0.2},
            lost_answers={CREATE: 0.2},
            management_faults={"429": 0.1},
            seed=seed,
        )
        with Simulator(settings) as sim, Client(sim).sdk as sdk:
            for _ in range(40):
                for route in (["/models"] * polls) + ["/batches"]:
                    call = sdk.get if route == "/models" else sdk.post
                    with suppress(openai.OpenAIError):
                        call(route, cast_to=object)
            return [call.fault for call in sim.journal.calls if call.path == "/v1/batches"]

    first = found(1, 0)
    assert found(1, 2) == first != found(2, 0)
    assert set(first) == {None, "429", "lost request", "lost answer"}


def test_settings_are_checked() -> None:
    """Unknown routes and kinds, and numbers that make no sense, are refused."""
    wrong: list[dict[str, Any]] = [
        {"lost_requests": {"POST /batches": 0.1}},
        {"lost_answers": {CREATE: 1.1}},
        {"line_faults": {"batch_gone": 0.1}},
        {"management_faults": {"500": 0.6, "429": 0.6}},
        {"batch_window_s": -1},
        {"stuck_batches": 2},
        {"max_batch_requests": 0},
    ]
    for given in wrong:
        with pytest.raises(ValueError, match=r"."):
            SimulatorSettings(**given)
    assert all(SimulatorSettings(lost_requests={route: 0.5}) for route in ROUTES)


def test_batches_outlive_a_restart(sim: Simulator, client: Client) -> None:
    """A server that was down for a while has its files and batches still."""
    batch_id = client.submit(lines(1))
    sim.stop()
    with pytest.raises(openai.APIConnectionError):
        client.get(batch_id)
    sim.start()
    assert len(client.results(client.get(batch_id).output_file_id)) == 1


def test_the_folder_goes_with_the_simulator() -> None:
    """Nothing stays on disk."""
    with Simulator() as sim, Client(sim).sdk as sdk:
        sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
        folder = sim._endpoints.management.files._folder
        assert folder is not None
        assert folder.is_dir()
    del sim
    gc.collect()
    assert not folder.exists()


def test_fifty_thousand_lines(sim: Simulator, client: Client) -> None:
    """A whole file of the largest size goes through while other calls are answered."""
    sim.settings = replace(sim.settings, record_bodies=False)
    made = client.create(client.upload(lines(50_000)))
    batch = client.sdk.with_options(timeout=60).batches.retrieve(made.id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 50_000


def test_simulate_knows_batches(tmp_path: Path) -> None:
    """`jsonl-runner simulate` delays, spoils and loses batches as its options say."""
    words = ["--port", "0", "--batch-delay", "1000", "--batch-fault", "batch_cut=0.5"]
    command = [sys.executable, "-m", "jsonl_runner", "simulate", *words]
    lost = ["--lost-answer", "POST /v1/batches/{id}/cancel=1"]
    with subprocess.Popen(
        command + lost, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        base_url = server.stdout.readline().split()[1]
        with OpenAI(api_key="sk-any", base_url=base_url, max_retries=0, timeout=10) as sdk:
            file = sdk.files.create(file=("in.jsonl", jsonl(lines(1))), purpose="batch")
            batch = sdk.batches.create(
                completion_window="24h", endpoint=CHAT, input_file_id=file.id
            )
            assert sdk.batches.retrieve(batch.id).status == "in_progress"
            with pytest.raises(openai.APIConnectionError):
                sdk.batches.cancel(batch.id)
            assert sdk.batches.retrieve(batch.id).status == "cancelled"
        server.terminate()
        assert server.wait(10) == 0
    wrong = [*command, "--lost-answer", "POST /batches=1"]
    result = subprocess.run(wrong, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "POST /v1/batches" in result.stderr) == (2, True)
