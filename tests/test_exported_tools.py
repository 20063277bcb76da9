"""Calls of tools in training data: what the API and LLaMA-Factory read, or nothing at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import row, write_rows

from jsonl_runner.errors import ConfigError
from jsonl_runner.ledger import line_of
from jsonl_runner.merge import MergeSummary, merge

if TYPE_CHECKING:
    from pathlib import Path

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is like.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
OFFERED = {"params": {"tools": [WEATHER]}}
ASKED = {"role": "user", "content": "Is it raining in Paris?"}


def call(name: Any = "weather", arguments: Any = '{"city":"Paris"}', id_: str = "c1") -> Any:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*of: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(of), **more}


def result(text: Any = "rain", id_: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": text}


class Bench:
    """Rows, their outputs, and what a merge makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def merge(
        self, rows: list[Any], outputs: list[Any], format_: str, **options: Any
    ) -> tuple[MergeSummary, list[dict[str, Any]]]:
        write_rows(self.folder / "data.jsonl", rows)
        ledger = self.folder / "output.jsonl"
        entries = zip((item["index"] for item in rows), outputs, strict=True)
        ledger.write_bytes(b"".join(line_of(str(index), output) for index, output in entries))
        target = self.folder / "m.jsonl"
        summary = merge(self.folder / "data.jsonl", ledger, target, format=format_, **options)
        lines = target.read_bytes().split(b"\n")[:-1]
        return summary, [json.loads(line) for line in lines]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("scratch"))


def llama_factory(example: dict[str, Any]) -> list[tuple[str, Any]]:
    """Read a conversation by LLaMA-Factory's rules, as its converter and its formatters do."""
    turns = example["conversations"]
    if turns[0]["from"] == "system":
        turns = turns[1:]
    found: list[tuple[str, Any]] = []
    for place, turn in enumerate(turns):
        assert turn["from"] in (("human", "observation"), ("gpt", "function_call"))[place % 2]
        said: Any = turn["value"]
        if turn["from"] == "function_call":
            told = json.loads(said)
            told = told if isinstance(told, list) else [told]
            said = [(one["name"], one["arguments"]) for one in told]
        found.append((turn["from"], said))
    assert len(turns) % 2 == 0
    for tool in json.loads(example.get("tools") or "[]"):
        for of in tool["parameters"]["properties"].values():
            assert isinstance(of, dict)
        assert isinstance(tool["name"] + tool["description"], str)
    return found


def test_an_answer_that_calls_a_tool(bench: Bench) -> None:
    """A call is a call in the example, not a text; the tools that were offered stand with it."""
    rows = [{"index": "1", "messages": [ASKED], **OFFERED}, row(2)]
    outputs = [json.dumps([call()]), "text"]
    summary, (first, second) = bench.merge(rows, outputs, "openai-chat")
    assert first == {
        "messages": [ASKED, {"role": "assistant", "tool_calls": [call()]}],
        "tools": [WEATHER],
    }
    assert list(second) == ["messages"]
    assert not any("call tools" in note for note in summary.notes)
    summary, (first, second) = bench.merge(rows, outputs, "sharegpt")
    assert llama_factory(first) == [
        ("human", "Is it raining in Paris?"),
        ("function_call", [("weather", {"city": "Paris"})]),
    ]
    assert json.loads(first["tools"]) == [WEATHER["function"]]
    assert second["tools"] == ""
    summary, found = bench.merge(rows, outputs, "alpaca")
    assert (summary.left_out, len(found)) == ({"tools": 1}, 1)
    _, (first, _) = bench.merge(rows, outputs, "jsonl")
    assert first["output"] == outputs[0]


def test_calls_and_their_results_in_a_conversation(bench: Bench) -> None:
    """Rows of messages that hold them, null and empty keys left away, as tables fill them in."""
    messages = [
        {**ASKED, "tool_calls": None, "tool_call_id": None},
        calls(call(arguments={"city": "Paris"}), refusal=None, annotations=[]),
        result([{"type": "text", "text": "rain"}]),
    ]
    rows = [{"index": "1", "messages": messages, **OFFERED}]
    _, (example,) = bench.merge(rows, ["It is."], "openai-chat")
    assert example["messages"] == [
        ASKED,
        {"role": "assistant", "tool_calls": [call()]},
        result(),
        {"role": "assistant", "content": "It is."},
    ]
    _, (example,) = bench.merge(rows, ["It is."], "sharegpt")
    assert llama_factory(example)[1:] == [
        ("function_call", [("weather", {"city": "Paris"})]),
        ("observation", "rain"),
        ("gpt", "It is."),
    ]


def test_what_was_said_beside_a_call(bench: Bench) -> None:
    """The chat format has a place for both, ShareGPT for one of them."""
    rows = [{"index": "1", "messages": [ASKED], **OFFERED}, row(2)]
    output = json.dumps({"content": "Let me look.", "tool_calls": [call()]})
    _, found = bench.merge(rows, [output, "text"], "openai-chat")
    assert found[0]["messages"][1] == {
        "role": "assistant", "content": "Let me look.", "tool_calls": [call()],
    }  # fmt: skip
    summary, found = bench.merge(rows, [output, "text"], "sharegpt")
    assert (summary.left_out, len(found)) == ({"tools": 1}, 1)


def test_other_forms_of_a_call(bench: Bench) -> None:
    """Of the Responses API; without an id; with no arguments at all."""
    outputs = [
        json.dumps(
            [{"type": "function_call", "call_id": "r", "name": "weather", "arguments": "{}"}]
        ),
        json.dumps([{"function": {"name": "weather", "arguments": ""}}]),
    ]
    rows = [{"index": str(number), "messages": [ASKED], **OFFERED} for number in range(2)]
    _, found = bench.merge(rows, outputs, "openai-chat")
    assert [item["messages"][1]["tool_calls"] for item in found] == [
        [call(arguments="{}", id_="r")],
        [call(arguments="{}", id_="call_0")],
    ]


NONE, TOOLS, BROKEN = None, "tools", "tool_call"


@pytest.mark.parametrize(
    ("messages", "output", "openai", "sharegpt"),
    [
        ([ASKED], [call(), call(id_="c2")], NONE, NONE),
        ([ASKED, calls(call(), call(id_="c2")), result(), result(id_="c2")], "x", NONE, TOOLS),
        ([ASKED, calls(call()), result(id_="c2")], "x", BROKEN, NONE),
        ([ASKED, calls(call()), result(), result()], "x", BROKEN, BROKEN),
        ([ASKED, calls(call()), ASKED], "x", BROKEN, BROKEN),
        ([ASKED, result()], "x", BROKEN, BROKEN),
        ([ASKED, calls(call(arguments='{"city":'))], "x", BROKEN, BROKEN),
        ([ASKED, calls(call(), call())], "x", BROKEN, BROKEN),
        ([ASKED, {**calls(call()), "role": "user"}, result()], "x", BROKEN, BROKEN),
        ([ASKED, {**calls(), "tool_calls": "weather"}], "x", BROKEN, BROKEN),
        ([ASKED], [call(arguments="[]")], BROKEN, BROKEN),
        ([ASKED], [call(arguments='{"x":NaN}')], BROKEN, BROKEN),
        ([ASKED], [call(name="what is it")], BROKEN, BROKEN),
        ([ASKED], [call(name=None)], BROKEN, BROKEN),
    ],
    ids=["two", "two results", "other id", "twice", "no result", "no call", "cut off", "same id",
         "user", "text", "list", "NaN", "name", "no name"],
)  # fmt: skip
def test_what_a_format_cannot_hold(
    bench: Bench, messages: list[Any], output: Any, openai: str | None, sharegpt: str | None
) -> None:
    """It is left out, counted by its reason, and never written wrong."""
    rows = [{"index": "1", "messages": messages, **OFFERED}, row(2)]
    text = output if isinstance(output, str) else json.dumps(output)
    for format_, reason in (("openai-chat", openai), ("sharegpt", sharegpt)):
        summary, found = bench.merge(rows, [text, "text"], format_)
        assert summary.left_out == ({} if reason is None else {reason: 1}), format_
        assert len(found) == (2 if reason is None else 1)


@pytest.mark.parametrize(
    "output",
    ['[{"id": "a", "function": "sin"}]', "[{", '{"content": "a", "tool_calls": []}', "[{}]",
     '{"content": 5, "tool_calls": [{"function": {"name": "a", "arguments": ""}}]}'],
)  # fmt: skip
def test_json_that_is_no_call_is_a_text(bench: Bench, output: str) -> None:
    """An answer that merely looks like one is written as it is."""
    _, (example,) = bench.merge([row(1)], [output], "openai-chat")
    assert example["messages"][-1] == {"role": "assistant", "content": output}
    _, (example,) = bench.merge([row(1)], [output], "alpaca")
    assert example["output"] == output


def test_the_tools_of_the_run(bench: Bench) -> None:
    """Those that `run --param tools=…` offered to all rows are given to merge; it says so."""
    rows = [{"index": "1", "messages": [ASKED]}, {"index": "2", "messages": [ASKED], **OFFERED}]
    outputs = [json.dumps([call()])] * 2
    for format_ in ("openai-chat", "sharegpt"):
        summary, found = bench.merge(rows, outputs, format_)
        assert [bool(item.get("tools")) for item in found] == [False, True]
        assert any(note.startswith("1 examples call tools") for note in summary.notes)
        other = {"type": "function", "function": {"name": "weather"}}
        summary, found = bench.merge(rows, outputs, format_, tools=[other])
        assert not any("call tools" in note for note in summary.notes)
        assert found[0]["tools"] != found[1]["tools"]
        if format_ == "sharegpt":
            for item in found:
                llama_factory(item)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format_": "alpaca", "tools": [WEATHER]}, "alpaca has no place for them"),
        ({"format_": "jsonl", "tools": [WEATHER]}, "jsonl has no place for them"),
        ({"format_": "sharegpt", "tools": []}, "give a list of functions"),
        ({"format_": "sharegpt", "tools": [WEATHER["function"]]}, "give a list of functions"),
    ],
)
def test_tools_that_cannot_be(bench: Bench, options: dict[str, Any], says: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(ConfigError, match=says):
        bench.merge([row(1)], ["a"], **options)


def test_tools_of_a_row_that_are_none(bench: Bench) -> None:
    """A row whose tools are written in another provider's way has no place in these formats."""
    rows = [row(1, params={"tools": [{"name": "weather", "input_schema": {}}]}), row(2)]
    for format_ in ("openai-chat", "sharegpt"):
        summary, found = bench.merge(rows, ["a", "b"], format_)
        assert (summary.left_out, len(found)) == ({"tool_definition": 1}, 1)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.tuples(st.from_regex(r"\A[A-Za-z0-9_-]{1,9}\Z"), st.dictionaries(TEXTS, VALUES, max_size=3)),
    min_size=1,
    max_size=3,
)


@given(answer=CALLS, rounds=st.lists(st.tuples(CALLS, TEXTS), max_size=3), is_ascii=st.booleans())
@settings(deadline=None, max_examples=50)
def test_every_call_is_read_back(
    scratch: Bench, answer: Any, rounds: list[Any], *, is_ascii: bool
) -> None:
    """For every name, arguments and result: a reader finds the same, or the row is counted."""

    def written(told: Any) -> list[Any]:
        return [
            call(name, json.dumps(arguments, ensure_ascii=is_ascii), f"c{number}")
            for number, (name, arguments) in enumerate(told)
        ]

    messages: list[Any] = [ASKED]
    for told, text in rounds:
        messages.append(calls(*written(told)))
        messages += [result(text, f"c{number}") for number in range(len(told))]
    rows = [{"index": "1", "messages": messages, **OFFERED}, row(2)]
    outputs = [json.dumps(written(answer)), "text"]
    _, found = scratch.merge(rows, outputs, "openai-chat")
    told = [
        [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in calls_]
        for calls_ in (message.get("tool_calls") for message in found[0]["messages"])
        if calls_
    ]
    assert told == [*(of for of, _ in rounds), answer]
    results = [item["content"] for item in found[0]["messages"] if item["role"] == "tool"]
    assert results == [text for of, text in rounds for _ in of]
    summary, found = scratch.merge(rows, outputs, "sharegpt")
    if any(len(of) > 1 for of, _ in rounds):
        assert (summary.left_out, len(found)) == ({"tools": 1}, 1)
        return
    want: list[Any] = [("human", ASKED["content"])]
    for of, text in rounds:
        want += [("function_call", of), ("observation", text)]
    assert llama_factory(found[0]) == [*want, ("function_call", answer)]
