"""What becomes of an answer: checked against its schema, put through a function, kept for later."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support import KEYS, Stage, read_calls, read_ledger, row, write_rows

from jsonl_runner.calllog import read
from jsonl_runner.errors import BudgetReachedError, NoUsableKeyError, RunStoppedError
from jsonl_runner.job import Job
from jsonl_runner.models import CallFailedError, OpenAIModel, Prompt
from jsonl_runner.post import load_post
from jsonl_runner.prompts import ASK_AGAIN
from jsonl_runner.records import Record
from jsonl_runner.runner import run
from jsonl_runner.simulator import answer_text
from jsonl_runner.toolkit import ParallelToolkit

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "gpt-4.1-mini"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
SHAPE = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
JSON_MODE = {"type": "json_object"}
PRICES = {"*": {"input": 1, "output": 4}}
NOT_OBJECT = 'at the top: ["something else"] is not of type "object"'


def messages_of(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": item["instruction"]},
        {"role": "user", "content": item["input"]},
    ]


def told(item: Mapping[str, Any], *wrong: tuple[str, str], shape: Any = SHAPE) -> str:
    """Return what the simulator answers to a row, after answers that would not do."""
    messages = messages_of(item)
    for answer, reason in wrong:
        messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": ASK_AGAIN.format(reason=reason)})
    return answer_text({"model": MODEL, "messages": messages, "response_format": shape})


def calls(stage: Stage) -> int:
    return len(stage.simulator.journal.calls)


def spent(stage: Stage) -> float:
    """Return what the runs on the ledger cost, by its call log."""
    return sum(float(entry["cost"] or 0) for entry in read(stage.output))


# -- the check ------------------------------------------------------------------------------------


def test_an_answer_that_fits_is_kept_as_it_came(stage: Stage) -> None:
    """One call a row, and nothing beside in the call log."""
    rows = [row(n) for n in range(5)]
    summary = stage.run(rows, params={"response_format": SHAPE})
    assert (summary.done, calls(stage)) == (5, 5)
    assert read_ledger(stage.output) == {str(n): told(rows[n]) for n in range(5)}
    assert not any("raw" in entry for entry in read_calls(stage.output).values())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("other_json", NOT_OBJECT),
        ("fenced_json", "not JSON: it stands in a Markdown code fence (```)"),
    ],
)
def test_a_wrong_answer_is_asked_again_with_what_is_wrong(
    stage: Stage, kind: str, reason: str
) -> None:
    """The conversation, the answer and its error; the bill has both answers, and says so."""
    item = row("a", f"[[fault:{kind}*1]] please")
    config = {"response_format": SHAPE}
    stage.run([item], params=config, prices=PRICES)
    wrong = '["something else"]' if kind == "other_json" else f"```json\n{told(item)}\n```"
    assert read_ledger(stage.output) == {"a": told(item, (wrong, reason))}
    first, second = stage.simulator.journal.calls
    assert first.prompt == item["input"]
    assert second.prompt == ASK_AGAIN.format(reason=reason)
    entry = read_calls(stage.output)["a"]
    assert (entry["status"], entry["code"], entry["attempts"]) == ("ok", "ok", 2)
    assert "raw" not in entry
    usage = entry["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 2 * (len(item["input"]) // 4)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    cost = (usage["prompt_tokens"] + 4 * usage["completion_tokens"]) / 1e6
    assert entry["cost"] == pytest.approx(cost)
    assert entry["cost_from"] == "prices"


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize(
    ("kind", "shape", "code"),
    [
        ("other_json", SHAPE, "schema"),
        ("broken_json", SHAPE, "json"),
        ("broken_json", JSON_MODE, "json"),
    ],
)
def test_what_stays_wrong_is_null_and_kept_in_the_call_log(
    stage: Stage, kind: str, shape: Any, code: str, retries: int
) -> None:
    """`schema_retries` more calls, and no other; the last answer is there to be looked at."""
    item = row("a", f"[[fault:{kind}]] please")
    given: dict[str, Any] = {"schema_retries": retries, "max_retries": 0}
    given["params"] = {"response_format": shape}
    summary = stage.run([item, row("b")], **given)
    assert (summary.done, summary.failed, calls(stage)) == (1, 1, 2 + retries)
    assert read_ledger(stage.output)["a"] is None
    entry = read_calls(stage.output)["a"]
    assert (entry["code"], entry["attempts"]) == (code, 1 + retries)
    assert entry["message"].startswith("at the top" if code == "schema" else "not JSON")
    assert entry["raw"].startswith('["something else"]' if code == "schema" else '{"')
    assert set(summary.failures) == {code}


def test_a_rows_own_format_goes_before_that_of_the_run(stage: Stage) -> None:
    """`text` is not checked; a row's own schema is, where the run has none."""
    text = row("text", params={"response_format": {"type": "text"}})
    own = row("own", "[[fault:other_json]] please", params={"response_format": SHAPE})
    rows = [text, own, row("free", "[[fault:other_json]] too")]
    stage.run(rows, schema_retries=0)
    found = read_ledger(stage.output)
    assert found["own"] is None
    assert found["text"] == told(text, shape=None)
    assert found["free"] == '["something else"]'
    stage.output.unlink()
    stage.run(rows[:1], params={"response_format": SHAPE})
    assert read_ledger(stage.output)["text"] == told(text, shape=None)


def test_what_is_cut_off_is_not_asked_again(stage: Stage) -> None:
    """It would be cut off again: null with `length`, and how to mend it; text is kept as ever."""
    item = row("a", "[[fault:length]] and a text that is long enough to be cut")
    stage.run([item], params={"response_format": SHAPE})
    entry = read_calls(stage.output)["a"]
    assert (calls(stage), entry["code"], entry["finish_reason"]) == (1, "length", "length")
    assert "raise max_tokens" in entry["message"]
    assert entry["raw"] == told(item)[: len(entry["raw"])]
    stage.output.unlink()
    stage.run([item])
    assert read_ledger(stage.output)["a"]


def test_calls_of_tools_and_refusals_are_no_wrong_json(stage: Stage) -> None:
    """A tool's call is no text of the schema; a refusal has its own reason."""
    rows = [row("tool", "[[fault:tool_calls]]"), row("no", "[[fault:refusal]]")]
    stage.run(rows, params={"response_format": SHAPE})
    assert "look_up" in (read_ledger(stage.output)["tool"] or "")
    assert read_calls(stage.output)["no"]["code"] == "refusal"
    assert calls(stage) == 2


def test_an_error_after_a_wrong_answer_still_costs_that_answer(stage: Stage) -> None:
    """The reason is the last attempt's; usage and answer of the one before are in the log."""
    marker = "[[fault:other_json*1]] [[fault:500*2]]"
    item = row("a", f"{marker} please")
    stage.run([item], params={"response_format": SHAPE}, max_retries=0)
    entry = read_calls(stage.output)["a"]
    assert (entry["code"], entry["attempts"]) == ("server_error", 2)
    assert entry["raw"] == '["something else"]'
    assert entry["usage"]["completion_tokens"] == len('["something else"]') // 4


def test_the_cost_of_a_run_is_the_sum_of_its_call_log(stage: Stage) -> None:
    """Repaired or given up: every answer is in it, and the budget holds with them."""
    markers = ("", "[[fault:other_json*1]]", "[[fault:other_json*2]]", "[[fault:other_json]]")
    rows = [row(n, f"{markers[n % 4]} row {n}") for n in range(40)]
    given: dict[str, Any] = {"params": {"response_format": SHAPE}, "prices": PRICES}
    summary = stage.run(rows, threads=8, **given)
    assert (summary.done, summary.failed) == (30, 10)
    assert calls(stage) == 10 * (1 + 2 + 3 + 3)
    total = summary.cost
    assert total == pytest.approx(spent(stage))
    for path in stage.folder.glob("output*"):
        path.unlink()
    assert total is not None
    with pytest.raises(BudgetReachedError) as caught:
        stage.run(rows, threads=8, max_cost=total / 3, **given)
    assert caught.value.summary.cost == pytest.approx(spent(stage))
    assert total / 4 < spent(stage) < total / 3 * 1.1


def test_a_stop_between_an_answer_and_its_repair_loses_neither_money_nor_answer(
    stage: Stage,
) -> None:
    """The row is null with its reason and its answer in the log, as if no repair were left."""
    item = row("a", "[[fault:other_json*1]] [[fault:insufficient_quota]] please")
    with pytest.raises(NoUsableKeyError):
        stage.run([item], params={"response_format": SHAPE})
    assert calls(stage) == 1 + len(KEYS)
    entry = read_calls(stage.output)["a"]
    assert (entry["code"], entry["attempts"]) == ("schema", 3)
    assert entry["raw"] == '["something else"]'
    assert entry["usage"]["total_tokens"] > 0


def test_a_function_in_the_providers_place_is_checked_and_called_again(stage: Stage) -> None:
    """It builds its own requests, so that it is only called once more."""
    asked: list[str] = []

    def call(_instruction: str, text: str) -> str:
        asked.append(text)
        return "nothing" if len(asked) == 1 else '{"name": "a", "size": 1}'

    write_rows(stage.data, [row("a")])
    given: dict[str, Any] = {"params": {"response_format": SHAPE}, "quiet": True}
    ParallelToolkit(None, stage.data, stage.output, call=call, **given).run()
    assert asked == ["row a", "row a"]
    assert read_ledger(stage.output) == {"a": '{"name": "a", "size": 1}'}


def test_a_generate_of_ones_own_is_checked_by_what_it_returns(stage: Stage) -> None:
    """What the provider said within it is its own business."""

    class Unfenced(OpenAIModel):
        def generate(self, instruction: str, input: str = "") -> str:  # noqa: A002
            text = super().generate(instruction, input)
            return text.removeprefix("```json\n").removesuffix("\n```")

    item = row("a", "[[fault:fenced_json]] please")
    write_rows(stage.data, [item])
    ParallelToolkit(
        stage.config_file(), stage.data, stage.output, quiet=True,
        openai_model=Unfenced(MODEL, response_format=SHAPE),
    ).run()  # fmt: skip
    assert (read_ledger(stage.output), calls(stage)) == ({"a": told(item)}, 1)


# -- the cache ------------------------------------------------------------------------------------


def test_only_what_passes_is_kept_and_under_its_own_request(stage: Stage) -> None:
    """A wrong answer is asked for again by a second run; the repair's is not."""
    item = row("a", "[[fault:other_json*1]] please")
    kept = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    given: dict[str, Any] = {"params": {"response_format": SHAPE}, **kept}
    stage.run([item, row("b")], **given)
    before, answers = calls(stage), read_ledger(stage.output)
    assert before == 3
    stage.output.unlink()
    summary = stage.run(**given)
    # The first request is answered otherwise this time: its fault is used up.
    assert (summary.cached, calls(stage) - before) == (1, 1)
    assert read_ledger(stage.output) == {"a": told(item), "b": answers["b"]}
    stage.output.unlink()
    assert (stage.run(**given).cached, calls(stage) - before) == (2, 1)


def test_a_kept_answer_that_will_not_do_is_asked_for_anew_and_replaced(stage: Stage) -> None:
    """A function may refuse today what passed yesterday: that answer is as if it were not there."""
    kept: dict[str, Any] = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    item = row("a", "[[fault:other_json*1]] please")
    stage.run([item], **kept)
    assert read_ledger(stage.output) == {"a": '["something else"]'}
    for _ in range(2):
        stage.output.unlink()
        summary = stage.run(post=lambda text: None if "something" in text else text, **kept)
        assert read_ledger(stage.output) == {"a": told(item, shape=None)}
    assert (summary.cached, calls(stage)) == (1, 2)


def test_equal_rows_share_an_answer_and_not_what_became_of_it(stage: Stage) -> None:
    """Each has its own output of it; the function sees the answer as it came, once a row."""
    stage.simulator.settings = replace(stage.simulator.settings, latency_s=0.1)
    seen: list[tuple[str, str]] = []

    def post(answer: str, record: Record) -> str:
        seen.append((record.index, answer))
        return f"{record.index}: {answer}"

    rows = [row(n, "the same") for n in range(8)]
    kept: dict[str, Any] = {"cache": True, "cache_directory": str(stage.folder / "kept")}
    stage.run(rows, post=post, threads=8, **kept)
    answer = told(rows[0], shape=None)
    assert calls(stage) == 1
    assert sorted(seen) == [(str(n), answer) for n in range(8)]
    assert read_ledger(stage.output) == {str(n): f"{n}: {answer}" for n in range(8)}


# -- the user's function --------------------------------------------------------------------------


def test_a_function_makes_the_outputs(stage: Stage) -> None:
    """One parameter or two; a dict becomes JSON; the answer itself stays in the call log."""
    rows = [row(n) for n in range(3)]
    stage.run(rows, post=str.upper)
    assert read_ledger(stage.output) == {
        str(n): told(rows[n], shape=None).upper() for n in range(3)
    }
    entry = read_calls(stage.output)["0"]
    assert (entry["raw"], entry["attempts"]) == (told(rows[0], shape=None), 1)
    stage.output.unlink()

    def judged(answer: str, record: Record, *, limit: int = 5) -> dict[str, Any]:
        return {"é": answer[:limit], "of": record.input}

    stage.run(rows, post=judged)
    assert read_ledger(stage.output)["1"] == '{"é":"[simu","of":"row 1"}'
    stage.output.unlink()
    stage.run(rows, post=lambda text, strict=True: text if strict is True else None)
    assert "raw" not in {key for entry in list(read(stage.output))[-3:] for key in entry}


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_a_function_sees_all_of_the_row(stage: Stage, source: str) -> None:
    """The fields that are no part of the question: the right answer, names; live and recalled."""
    rows = [row(n, gold=f"gold {n}", more={"name": [n]}) for n in range(3)]

    def post(_answer: str, record: Record) -> str:
        assert record.row is not None
        return f"{record.row['gold']} {record.row['more']['name']}"

    def not_yet(_answer: str) -> None: ...

    expected = {str(n): f"gold {n} [{n}]" for n in range(3)}
    if source == "pipe":
        data = write_rows(stage.folder / "pipe.jsonl", rows)
        job = Job(None, stage.output, quiet=True)
        with data.open("rb") as stdin:
            run(stage.config(post=post), job, stdin=stdin)
    else:
        stage.run(rows, post=not_yet)
        stage.run(post=post)
    assert read_ledger(stage.output) == expected
    assert calls(stage) == 3


def failing(text: str) -> Any:
    """Fail in a way that the text names."""
    if "raise" in text:
        raise ValueError(f"no\nnumber in {KEYS[0]}")
    if "exit" in text:
        raise SystemExit(3)
    if "stop" in text:
        raise KeyboardInterrupt
    if "loop" in text:
        return failing(text)
    if "set" in text:
        return {"a": {1}}
    return {"none": None, "empty": " \n", "number": 7}.get(text.rsplit(maxsplit=1)[-1], text)


def test_whatever_it_does_costs_its_row_at_the_most(stage: Stage) -> None:
    """SystemExit in a worker thread too; the reason is a line without keys, the answer is kept."""
    said = {
        "raise": "ValueError: no number in #1(…0001)",
        "exit": "SystemExit: 3",
        "stop": "KeyboardInterrupt",
        "loop": "RecursionError: maximum recursion depth exceeded",
        "set": "TypeError: ",
        "none": "it returned None: a text, a dict or a list would be an output",
        "empty": "it returned an empty text",
        "number": "it returned int",
    }
    rows = [row(word, word) for word in said] + [row("good")]
    summary = stage.run(rows, post=failing)
    assert (summary.done, summary.failed, calls(stage)) == (1, len(said), len(rows))
    entries = read_calls(stage.output)
    for word, reason in said.items():
        assert read_ledger(stage.output)[word] is None
        assert entries[word]["code"] == "post"
        assert entries[word]["message"].startswith(reason)
        assert entries[word]["raw"] == told(row(word, word), shape=None)
        assert entries[word]["usage"]["total_tokens"] > 0


def test_the_check_comes_first(stage: Stage) -> None:
    """The function gets JSON that fits, whatever the first answer was."""
    seen: list[Any] = []
    item = row("a", "[[fault:broken_json*1]] please")
    stage.run(
        [item], params={"response_format": SHAPE},
        post=lambda text: seen.append(json.loads(text)) or "done",  # type: ignore[func-returns-value]
    )  # fmt: skip
    assert [set(each) for each in seen] == [{"name", "size"}]
    assert read_ledger(stage.output) == {"a": "done"}


def test_a_mended_function_has_its_rows_for_nothing(stage: Stage) -> None:
    """No call for an answer in the call log; what still fails is asked for anew, once a run."""
    rows = [row(n) for n in range(6)]

    def broken(_text: str) -> str:
        raise KeyError("name")

    assert stage.run(rows, post=broken).failed == 6
    assert calls(stage) == 6

    def mended(text: str, record: Record) -> str:
        if record.index == "5":
            raise KeyError("still")
        return text.upper()

    summary = stage.run(post=mended)
    assert (summary.done, summary.failed, calls(stage)) == (5, 1, 7)
    assert read_ledger(stage.output)["0"] == told(rows[0], shape=None).upper()
    entry = read_calls(stage.output)["0"]
    assert (entry["status"], entry["attempts"], entry["usage"]) == ("ok", 0, None)
    assert entry["raw"] == told(rows[0], shape=None)
    assert "without a call" in entry["message"]
    assert stage.run().done == 1, "without the function the answer is the output"
    assert calls(stage) == 7
    assert read_ledger(stage.output)["5"] == told(rows[5], shape=None)


def test_a_mended_schema_has_its_rows_for_nothing(stage: Stage) -> None:
    """An answer that fits the new one is taken, unless the row has changed since."""
    rows = [row(n, f"[[fault:other_json]] {n}") for n in range(3)]
    given: dict[str, Any] = {"schema_retries": 0}
    stage.run(rows, params={"response_format": SHAPE}, **given)
    write_rows(stage.data, [*rows[:2], row(2, "[[fault:other_json]] another")])
    before = calls(stage)
    wider = {"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": "array"}}}
    summary = stage.run(params={"response_format": wider}, **given)
    assert (summary.done, calls(stage) - before) == (3, 1)
    assert set(read_ledger(stage.output).values()) == {'["something else"]'}


def test_a_function_that_always_fails_ends_the_first_run_soon(stage: Stage) -> None:
    """Twenty rows are paid for, not a million; and they are not lost."""
    with pytest.raises(RunStoppedError, match=r"failed alike \(post: ZeroDivisionError"):
        stage.run([row(n) for n in range(200)], post=lambda _: 1 / 0, threads=2)
    made = calls(stage)
    assert made < 40
    summary = stage.run(post=str.strip)
    assert (summary.done, calls(stage)) == (200, 200)


# -- from the command line and in Python ----------------------------------------------------------

CLEAN = """
import threading
import beside

def clean(answer, record):
    assert threading.current_thread() is not threading.main_thread()
    return beside.PREFIX + record.index
"""


def test_a_function_beside_the_data(stage: Stage) -> None:
    """`--post` and `--response-format` together; what the module imports beside it is found."""
    (stage.folder / "mypost.py").write_text(CLEAN, encoding="utf-8")
    (stage.folder / "beside.py").write_text("PREFIX = 'row '\n", encoding="utf-8")
    (stage.folder / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
    write_rows(stage.data, [row(0), row(1, "[[fault:other_json*1]]")])
    words = ("--post", "mypost:clean", "--response-format", "schema.json")
    done = stage.run_cli(*words)
    assert done.returncode == 0, done.stderr
    assert read_ledger(stage.output) == {"0": "row 0", "1": "row 1"}
    assert calls(stage) == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mypost", "post must be module:function"),
        ("mypost.py:clean", "post must be module:function (without .py)"),
        ("nowhere:clean", "post nowhere:clean: there is no module nowhere"),
        ("mypost:dirty", "post mypost:dirty: mypost has no dirty"),
        ("mypost:TEXT", "post mypost:TEXT: this is str, not a function"),
        ("mypost:nothing", "it must take (answer) or (answer, record)"),
        ("mypost:three", "it must take (answer) or (answer, record)"),
        ("mypost:later", "it is an async function"),
        ("leaves:clean", "post leaves:clean: leaves cannot be imported (SystemExit: 2)"),
        ("broken:clean", "broken cannot be imported (SyntaxError: "),
        ("needs:clean", "needs cannot be imported (ModuleNotFoundError: No module named 'absent_"),
    ],
)
def test_a_function_that_cannot_be_had_is_told_before_anything_is_paid(
    stage: Stage, name: str, said: str
) -> None:
    """One line, exit 2, no file."""
    texts = {
        "mypost": "TEXT = ''\ndef nothing(): pass\ndef three(a, b, c): pass\n"
        "async def later(a): pass\ndef clean(a): return a\n",
        "leaves": "raise SystemExit(2)",
        "broken": "def clean(",
        "needs": "import absent_module",
    }
    for module, text in texts.items():
        (stage.folder / f"{module}.py").write_text(text, encoding="utf-8")
    write_rows(stage.data, [row(0)])
    done = stage.run_cli("--post", name)
    assert (done.returncode, calls(stage)) == (2, 0)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert said in line
    assert not stage.output.exists()


def test_what_the_folder_holds_hides_no_module_of_ours(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder goes first for the function's module alone."""
    import sys  # noqa: PLC0415

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine_alone.py").write_text("def clean(a): return a + '!'\n", encoding="utf-8")
    post = load_post("mine_alone:clean")
    assert post is not None
    assert post("a", Record("1")) == "a!"
    assert sys.path[-1] == str(tmp_path)
    built_in = load_post("json:loads")
    assert built_in is not None
    assert built_in('{"a": 1}', Record("1")) == '{"a":1}'


def test_a_single_question_is_reviewed_too(stage: Stage) -> None:
    """`api` returns what is made of the answer; the error of one that fails brings the answer."""
    tool = ParallelToolkit(
        stage.config_file(), quiet=True, params={"response_format": SHAPE}, post=json.loads
    )
    prompt = Prompt("Repeat.", "row a")
    assert json.loads(tool.api(prompt)) == json.loads(told(row("a")))
    with pytest.raises(CallFailedError, match=r"^schema: ") as caught:
        tool.api(Prompt("Repeat.", "[[fault:other_json]]"))
    assert caught.value.raw == '["something else"]'
    assert tool.parallel_api({1: prompt, 2: Prompt("[[fault:other_json]]")})[2] is None
    tool.close()


def test_a_question_on_the_command_line(stage: Stage) -> None:
    """The same options for `query`; with --json a wrong answer can be seen."""
    (stage.folder / "mypost.py").write_text("def clean(a): return a[:11]", encoding="utf-8")
    config = stage.config_file(cache=False)
    done = stage.cli("query", "Hi!", "--post", "mypost:clean", "--config", config)
    assert (done.stdout, done.returncode) == ("[simulated]\n", 0)
    words = ("query", "[[fault:broken_json]]", "--response-format", "json", "--json")
    done = stage.cli(*words, "--config", config)
    found = json.loads(done.stdout)
    assert (found["answer"], found["code"], found["raw"][:11]) == (None, "json", '{"answer":"')
    assert done.returncode == 1


def test_functions_run_side_by_side(stage: Stage) -> None:
    """In the worker threads: a slow one holds up its own row alone."""
    barrier = threading.Barrier(4, timeout=20)

    def meet(text: str) -> str:
        barrier.wait()
        return text

    assert stage.run([row(n) for n in range(4)], post=meet, threads=4).done == 4
