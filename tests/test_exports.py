"""Training formats: what a merge writes is what a trainer's loader reads, or nothing at all."""

from __future__ import annotations

import base64
import csv
import gc
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from support import row, write_rows

from jsonl_runner.errors import BadRowsError, ConfigError, InputError, LedgerError
from jsonl_runner.exports.openai_chat import problems
from jsonl_runner.ledger import line_of
from jsonl_runner.merge import MergeSummary, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SOME = TEXTS.filter(lambda text: bool(text.strip()))
FORMATS = {
    "json": "m.json",
    "jsonl": "m.jsonl",
    "csv": "m.csv",
    "parquet": "m.parquet",
    "alpaca": "m.json",
    "sharegpt": "m.jsonl",
    "openai-chat": "m.jsonl",
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
IMAGE = {"type": "image_url", "image_url": {"url": DATA}}


class Bench:
    """An input, a ledger, and what a merge made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data.jsonl"
        self.ledger = folder / "output.jsonl"

    def lay(self, rows: list[dict[str, Any]], outputs: Mapping[str, Any] | None = None) -> None:
        """Write rows and their outputs: "A<index>" for each, or those given."""
        write_rows(self.data, rows)
        if outputs is None:
            outputs = {str(item["index"]): f"A{item['index']}" for item in rows}
        self.ledger.write_bytes(b"".join(line_of(*entry) for entry in outputs.items()))

    def merge(self, name: str = "m.json", **options: Any) -> MergeSummary:
        return merge(self.data, self.ledger, self.folder / name, **options)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a merged file, read by somebody else's reader."""
        return read(self.folder / name)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"data.jsonl", "output.jsonl"}


def read(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    name = path.name
    if name.endswith(".gz"):
        data, name = gzip.decompress(data), name[:-3]
    elif name.endswith(".zst"):
        data, name = zstandard.ZstdDecompressor().decompressobj().decompress(data), name[:-4]
    found: list[dict[str, Any]]
    if name.endswith(".parquet"):
        found = pq.read_table(path).to_pylist()
    elif name.endswith(".csv"):
        found = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    elif name.endswith(".jsonl"):
        found = [json.loads(line) for line in data.split(b"\n")[:-1]]
    else:
        found = json.loads(data)
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("scratch"))


def asked(*said: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a row of messages: the user first, by turns."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    for number, text in enumerate(said):
        messages.append({"role": "assistant" if number % 2 else "user", "content": text})
    return {"index": "m", "messages": messages, **more}


# What each format is.


def test_the_suffix_says_the_format(bench: Bench) -> None:
    """Each file is what its name says, compressed or not, with the same rows in it."""
    bench.lay([row(1, tags=["a"]), row("b", score=0.5)])
    want = [
        {**row("1", "row 1"), "output": "A1", "tags": ["a"]},
        {**row("b"), "output": "Ab", "score": 0.5},
    ]
    for name in ("a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.jsonl.zst"):
        assert bench.merge(name).written == 2
        assert bench.read(name) == want
    assert (bench.folder / "a.json").read_bytes() == (
        b'[\n{"index":"1","instruction":"Repeat.","input":"row 1","output":"A1","tags":["a"]},\n'
        b'{"index":"b","instruction":"Repeat.","input":"row b","output":"Ab","score":0.5}\n]\n'
    )
    bench.merge("a.parquet")
    filled = [{**item, "tags": item.get("tags"), "score": item.get("score")} for item in want]
    assert bench.read("a.parquet") == filled
    bench.merge("a.csv")
    assert (bench.folder / "a.csv").read_bytes() == (
        b"index,instruction,input,output,tags,score\n"
        b'1,Repeat.,row 1,A1,"[""a""]",\n'
        b"b,Repeat.,row b,Ab,,0.5\n"
    )


@pytest.mark.parametrize(
    ("item", "want"),
    [
        (row(1, "text"), {"instruction": "Repeat.", "input": "text"}),
        ({"index": 1, "instruction": "", "input": "Only this."}, {"instruction": "Only this."}),
        (asked("Hi"), {"instruction": "Hi"}),
        (asked("Hi", system="Be brief."), {"instruction": "Hi", "system": "Be brief."}),
        (asked("a", "b", "c"), {"instruction": "c", "history": [["a", "b"]]}),
    ],
)
def test_alpaca(bench: Bench, item: dict[str, Any], want: dict[str, Any]) -> None:
    """Instruction, input, output; a system prompt and earlier turns as LLaMA-Factory takes them."""
    bench.lay([{**item, "index": "1"}])
    bench.merge(format="alpaca")
    assert bench.read("m.json") == [{"instruction": "", "input": "", "output": "A1", **want}]


def test_alpaca_rows_have_the_same_fields(bench: Bench) -> None:
    """A loader takes the fields of a file from its first rows: they are those of all rows."""
    bench.lay([row(1), asked("a", "b", "c", system="s")])
    bench.merge("m.jsonl", format="alpaca")
    first, second = bench.read("m.jsonl")
    assert list(first) == list(second) == ["instruction", "input", "output", "system", "history"]
    assert (first["system"], first["history"]) == ("", [])


def test_sharegpt(bench: Bench) -> None:
    """What was sent, by turns; the answer is the last to speak. Lines, or an array in `.json`."""
    bench.lay([row(1, "text"), asked("a", "b", "c")])
    for name in ("m.jsonl", "m.json"):
        bench.merge(name, format="sharegpt")
        first, second = bench.read(name)
        assert [(turn["from"], turn["value"]) for turn in first["conversations"]] == [
            ("system", "Repeat."), ("human", "text"), ("gpt", "A1"),
        ]  # fmt: skip
        assert [(turn["from"], turn["value"]) for turn in second["conversations"]] == [
            ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "Am"),
        ]  # fmt: skip
        assert list(first) == ["conversations"]


def test_openai_chat(bench: Bench) -> None:
    """The messages as they were sent and the answer; parts of text become one text."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "Ann"},
        {"role": "assistant", "content": "no", "weight": 0, "tool_calls": None},
        {"role": "user", "content": [*parts, IMAGE]},
    ]
    bench.lay([row(1, "text"), {"index": 2, "messages": messages}])
    summary = bench.merge("m.jsonl", format="openai-chat")
    first, second = bench.read("m.jsonl")
    assert first == {
        "messages": [
            {"role": "system", "content": "Repeat."},
            {"role": "user", "content": "text"},
            {"role": "assistant", "content": "A1"},
        ]
    }
    assert second["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a\nb", "name": "Ann"},
        {"role": "assistant", "content": "no", "weight": 0},
        {"role": "user", "content": [*parts, IMAGE]},
        {"role": "assistant", "content": "A2"},
    ]
    (note,) = summary.notes
    assert note.endswith("2 examples; OpenAI takes no fewer than 10")


@pytest.mark.parametrize(
    ("item", "reasons"),
    [
        (asked("a", "b"), {"alpaca": "turns", "sharegpt": "turns", "openai-chat": None}),
        (
            {"index": "m", "messages": [{"role": "user", "content": [IMAGE]}]},
            {"alpaca": "image", "sharegpt": "image", "openai-chat": None},
        ),
        (
            {"index": "m", "messages": [{"role": "system", "content": [IMAGE]}]},
            {"alpaca": "turns", "sharegpt": "turns", "openai-chat": "image"},
        ),
        (
            {"index": "m", "messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]},
            {"alpaca": "tool_call", "sharegpt": "tool_call", "openai-chat": "tool_call"},
        ),
        (
            {"index": "m", "messages": [{"role": "user", "content": None}]},
            {"alpaca": "content", "sharegpt": "content", "openai-chat": "missing_content"},
        ),
        (
            {"index": "m", "messages": [{"role": "poet", "content": "a"}]},
            {"alpaca": "turns", "sharegpt": "turns", "openai-chat": "unrecognized_role"},
        ),
        (
            asked("word " * 70_000),
            {"alpaca": None, "sharegpt": None, "openai-chat": "too_long"},
        ),
        (
            asked("word " * 60_000),
            {"alpaca": None, "sharegpt": None, "openai-chat": None},
        ),
    ],
    ids=["prefill", "image", "system image", "tool", "no content", "role", "long", "nearly long"],
)
def test_a_row_that_does_not_fit_is_left_out(
    bench: Bench, item: dict[str, Any], reasons: dict[str, str | None]
) -> None:
    """It is counted by its reason, and never written wrong; the others are written."""
    bench.lay([row(1), item])
    for format_, reason in reasons.items():
        summary = bench.merge("m.jsonl", format=format_)
        assert summary.left_out == ({} if reason is None else {reason: 1}), format_
        assert summary.written == len(bench.read("m.jsonl")) == (2 if reason is None else 1)


def test_images_in_files(bench: Bench) -> None:
    """For OpenAI they become data; others have their paths, and a word in the text for each."""
    (bench.folder / "a.png").write_bytes(PNG)
    part = {"type": "image_url", "image_url": {"url": "a.png"}}
    said = {"role": "user", "content": [{"type": "text", "text": "Which?"}, part]}
    bench.lay(
        [
            row(1, "Who?", image="a.png"),
            {"index": 2, "messages": [said]},
            row(3),
            row(4, "An <image> tag?", image="a.png"),
        ]
    )
    assert bench.merge("m.jsonl", format="openai-chat").written == 4
    first, second = bench.read("m.jsonl")[:2]
    assert first["messages"][1]["content"] == [IMAGE, {"type": "text", "text": "Who?"}]
    assert second["messages"][0]["content"] == [{"type": "text", "text": "Which?"}, IMAGE]
    assert bench.merge("m.jsonl", format="sharegpt").left_out == {"image": 1}
    found = bench.read("m.jsonl")
    assert [item["images"] for item in found] == [["a.png"], ["a.png"], []]
    assert found[0]["conversations"][1] == {"from": "human", "value": "<image>\nWho?"}
    bench.merge("m.jsonl", format="alpaca")
    first, second, third = bench.read("m.jsonl")
    assert (first["system"], first["instruction"]) == ("Repeat.", "<image>\nWho?")
    assert (second["instruction"], second["images"]) == ("Which?\n<image>", ["a.png"])
    assert (third["instruction"], third["input"], third["images"]) == ("Repeat.", "row 3", [])


def test_an_empty_answer_is_no_example_for_openai(bench: Bench) -> None:
    """Its check refuses a message without content; other formats have it."""
    bench.lay([row(1), row(2)], {"1": "", "2": "x"})
    assert bench.merge("m.jsonl", format="openai-chat").left_out == {"missing_content": 1}
    assert bench.merge(format="alpaca").written == 2


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        ([], "data_type"),
        ({}, "missing_messages_list"),
        ({"messages": ["assistant"]}, "data_type"),
        ({"messages": [{"role": ["assistant"], "content": "a"}]}, "unrecognized_role"),
        ({"messages": [{"role": "assistant"}]}, "message_missing_key"),
        ({"messages": [{"role": "assistant", "content": "a", "x": 1}]}, "message_unrecognized_key"),
        ({"messages": [{"role": "poet", "content": "a"}]}, "unrecognized_role"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "tool_call"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "tool_call"),
        ({"messages": [], "tools": []}, "missing_messages_list"),
        ({"messages": [{"role": "assistant", "content": "a"}], "tools": [5]}, "tool_definition"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "missing_content"),
        ({"messages": [{"role": "user", "content": "a"}]}, "example_missing_assistant_message"),
        ({"messages": [{"role": "user", "content": "a", "weight": 1}]}, "weight"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "weight"),
        ({"messages": [{"role": "user", "content": [IMAGE] * 11}]}, "image"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "x.png"}]}
                ]
            },
            "image",
        ),
    ],
)
def test_what_openai_would_object_to(example: Any, problem: str) -> None:
    """Each of the cookbook's checks, and the guides' rules, finds what it is for."""
    assert problem in problems(example)


def cookbook(example: Any) -> None:
    """Assert what OpenAI's cookbook checks of an example, in its order and by its rules."""
    assert isinstance(example, dict)
    assert example["messages"]
    for message in example["messages"]:
        assert {"role", "content"} <= message.keys()
        assert message.keys() <= {"role", "content", "name", "function_call", "weight"}
        assert message["role"] in {"system", "user", "assistant", "function"}
        assert isinstance(message["content"], str)
        assert message["content"] or message.get("function_call")
    assert any(message["role"] == "assistant" for message in example["messages"])


# For every row and output: what is read back is what went in.

PAIRS = st.lists(
    st.tuples(SOME, TEXTS, TEXTS, st.one_of(st.none(), TEXTS, st.integers(), st.lists(TEXTS))),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("format_", FORMATS)
def test_real_questions_are_read_back(bench: Bench, format_: str) -> None:
    """Lines of GSM8K, with their dollars, apostrophes and line ends, and as many answers."""
    sample = Path(__file__).parent.parent / "data" / "samples" / "gsm8k.jsonl"
    pairs = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    rows = [
        {"index": n, "instruction": item["question"], "output": item["answer"]}
        for n, item in enumerate(pairs)
    ]
    answers = [item["answer"].replace("####", "The answer is") for item in pairs]
    bench.lay(rows, {str(n): answer for n, answer in enumerate(answers)})
    summary = bench.merge(FORMATS[format_], format=format_)
    assert (summary.written, summary.left_out, summary.notes) == (len(pairs), {}, [])
    found = bench.read(FORMATS[format_])
    if format_ in ("sharegpt", "openai-chat"):
        told = [tuple(said(item)) for item in found]
    else:
        told = [(item["instruction"], item["output"]) for item in found]
    assert told == [(item["question"], answer) for item, answer in zip(pairs, answers, strict=True)]
    if format_ == "openai-chat":
        for item in found:
            cookbook(item)
    elif format_ not in ("alpaca", "sharegpt"):
        assert [item["reference"] for item in found] == [item["answer"] for item in pairs]


@given(pairs=PAIRS)
@settings(deadline=None, max_examples=40)  # disks have slow moments
def test_every_text_is_read_back(scratch: Bench, pairs: list[tuple[str, str, str, Any]]) -> None:
    """For every Unicode text, in each format: an independent reader finds the same texts."""
    rows = [
        {"index": str(number), "instruction": first, "input": second, "extra": extra}
        for number, (first, second, _, extra) in enumerate(pairs)
    ]
    answers = [output for _, _, output, _ in pairs]
    scratch.lay(rows, {str(number): output for number, output in enumerate(answers)})
    want = [{**item, "output": output} for item, output in zip(rows, answers, strict=True)]
    names = ("index", "instruction", "input", "output")
    for format_, name in FORMATS.items():
        summary = scratch.merge(name, format=format_)
        found = scratch.read(name)
        assert summary.written == len(found)
        if format_ in ("json", "jsonl"):
            assert found == want
        elif format_ in ("csv", "parquet"):
            assert [{n: item[n] for n in names} for item in found] == [
                {n: item[n] for n in names} for item in want
            ]
        elif format_ == "alpaca":
            assert [(item["instruction"], item["input"], item["output"]) for item in found] == [
                (item["instruction"], item["input"], item["output"]) for item in want
            ]
        else:
            kept = [item for item in want if item["output"] or format_ == "sharegpt"]
            assert [said(item) for item in found] == [
                [t for t in (item["instruction"], item["input"]) if t] + [item["output"]]
                for item in kept
            ]
            for item in found if format_ == "openai-chat" else ():
                cookbook(item)


#: Stands for an answer of 200,000 letters.
LONG = "<long>"
ODD = st.one_of(
    st.sampled_from(
        ["\0", "a\u2028b\u2029c\u0085d", "\u202eright to left\u202c שלום مرحبا", "\ufeff", "\ufffe",
         "=1+1", "+1", "-1", "@sum(a1)", "\t=1", '"', '""', "'", ",", ";", "\r", "\r\n", "a\rb\n",
         "\ud83d", "a\udc00b", "\ud83d\ude00 \ud83d", "\\ud83d", "NULL", "null", "NaN", "1e5",
         "007", "<image>", '[{"function": 1}]', '{"content":"a"}', "e\u0301", "\U0010ffff", LONG]
    ),
    st.text(max_size=8),
)  # fmt: skip


@given(pairs=st.lists(st.tuples(ODD, ODD, ODD, ODD), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_every_odd_text_is_read_back(scratch: Bench, pairs: list[tuple[str, ...]]) -> None:
    """For every text, halves of emoji as JSON escapes them among them: each format has it.

    A half, which no UTF-8 can hold, is U+FFFD there; everything else is what it was.
    """
    want = []
    rows, ledger = b"", b""
    for number, texts in enumerate(pairs):
        index = str(number)
        first, *others = (f"Q{texts[0]}", *texts[1:])
        rows += ascii_line(
            {"index": index, "instruction": first, "input": others[0], "x": others[1]}
        )
        ledger += ascii_line({index: others[2]})
        want.append([mended(text) for text in (first, *others)])
    scratch.data.write_bytes(rows)
    scratch.ledger.write_bytes(ledger)
    for format_, name in FORMATS.items():
        summary = scratch.merge(name, format=format_)
        found = scratch.read(name)
        assert summary.written == len(found) == len(want) - sum(summary.left_out.values())
        if format_ in ("sharegpt", "openai-chat"):
            told = [said(item) for item in found]
            assert told == [
                [text for text in (first, second) if text] + [output]
                for first, second, _, output in want
                if output or format_ == "sharegpt"
            ]
            continue
        names = ["instruction", "input", "output"] + ["x"] * (format_ != "alpaca")
        assert [[item[n] for n in names] for item in found] == [
            [item[0], item[1], item[3], item[2]][: len(names)] for item in want
        ]


def ascii_line(value: Any) -> bytes:
    """Return a line as Python's json writes it: escapes for all that is not ASCII."""
    return json.dumps(value).encode("ascii") + b"\n"


def mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said(example: dict[str, Any]) -> list[str]:
    turns = example.get("conversations") or example.get("messages") or []
    return [turn["value"] if "value" in turn else turn["content"] for turn in turns]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(values=st.lists(JSON, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_every_value_comes_into_a_table(scratch: Bench, values: list[Any]) -> None:
    """For every list of JSON values: a Parquet column holds them, itself or each as its JSON."""
    rows = [row(number, field=value) for number, value in enumerate(values)]
    scratch.lay(rows)
    stored = [
        json.loads(line)["field"] for line in scratch.data.read_text("utf-8").split("\n")[:-1]
    ]
    scratch.merge("m.parquet")
    found = [item["field"] for item in scratch.read("m.parquet")]
    scratch.merge("m.csv")
    cells = [item["field"] for item in scratch.read("m.csv")]
    for value, kept, cell in zip(stored, found, cells, strict=True):
        assert alike(kept, value), (kept, value)
        if not isinstance(value, str):
            assert (json.loads(cell) if cell else None) == value
        else:
            assert cell == value


def alike(kept: Any, value: Any) -> bool:
    """Return whether a table's value is the row's: itself, with nulls for absent names, or JSON."""
    if kept == value and isinstance(kept, bool) == isinstance(value, bool):
        return True
    if isinstance(kept, dict) and isinstance(value, dict):
        return all(alike(kept[name], value.get(name)) for name in kept) and kept.keys() >= set(
            value
        )
    if isinstance(kept, list) and isinstance(value, list):
        return len(kept) == len(value) and all(map(alike, kept, value))
    return isinstance(kept, str) and json.loads(kept) == value


def test_types_that_do_not_go_together_become_json(bench: Bench) -> None:
    """All of such a column, so that the text "5" and the number 5 stay two; else the type stays."""
    rows = [row(1, a=5, b=1, c=True, d=[{"x": 1}], e=2**60), row(2, a="5", b=0.5, d=[], e=2**70)]
    bench.lay(rows)
    bench.merge("m.parquet")
    first, second = bench.read("m.parquet")
    assert [(item["a"], item["b"], item["c"]) for item in (first, second)] == [
        ("5", 1.0, True),
        ('"5"', 0.5, None),
    ]
    assert (first["d"], second["d"]) == ([{"x": 1}], [])
    assert (first["e"], second["e"]) == (str(2**60), str(2**70))


def test_a_table_comes_in_groups(bench: Bench) -> None:
    """A Parquet file is never one group: neither who writes nor who reads it holds all rows."""
    bench.lay([row(number) for number in range(10_001)])
    bench.merge("m.parquet")
    file = pq.ParquetFile(bench.folder / "m.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [10_000, 1]


@pytest.mark.parametrize("name", ["m.json", "m.jsonl.gz", "m.jsonl.zst", "m.csv", "m.parquet"])
def test_the_same_rows_are_the_same_bytes(bench: Bench, name: str) -> None:
    """Merging twice is merging once, whatever the file."""
    bench.lay([row(number, tags=[number]) for number in range(50)])
    bench.merge(name)
    first = (bench.folder / name).read_bytes()
    bench.merge(name)
    assert (bench.folder / name).read_bytes() == first


@pytest.mark.parametrize(
    ("package", "name", "says"),
    [
        ("pyarrow", "m.parquet", "Parquet files need the package pyarrow, which is not installed"),
        ("zstandard", "m.jsonl.zst", ".zst files need the package zstandard"),
    ],
)
def test_a_package_that_is_missing(bench: Bench, package: str, name: str, says: str) -> None:
    """One line with the command that brings it; the other formats do without."""
    bench.lay([row(1)])
    hidden = bench.folder / "hidden" / package
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError")
    path = os.pathsep.join([str(hidden.parent), str(Path(__file__).parent.parent)])
    for target, code in (("m.jsonl", 0), (name, 2)):
        done = subprocess.run(
            [sys.executable, "-m", "jsonl_runner", "merge", bench.data, bench.ledger, target],
            cwd=bench.folder, env={**os.environ, "PYTHONPATH": path},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.rstrip().endswith("pip install 'jsonl-runner[data]'")
    assert bench.files() == {"m.jsonl", "hidden"}


# Fields.


def test_fields_are_chosen_ordered_and_renamed(bench: Bench) -> None:
    """Null for a field that a row lacks; trainers' formats have them behind their own."""
    bench.lay([row(1, source="web"), row(2)])
    fields = ["answer=output", "source", "index"]
    bench.merge("m.jsonl", fields=fields)
    assert [list(item.items()) for item in bench.read("m.jsonl")] == [
        [("answer", "A1"), ("source", "web"), ("index", "1")],
        [("answer", "A2"), ("source", None), ("index", "2")],
    ]
    bench.merge("m.csv", fields=fields)
    assert (bench.folder / "m.csv").read_text() == "answer,source,index\nA1,web,1\nA2,,2\n"
    bench.merge("m.json", format="alpaca", fields=["id=index"])
    assert list(bench.read("m.json")[0]) == ["instruction", "input", "output", "id"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fields": []}, "there is none"),
        ({"fields": ["a", " a"]}, "'a' would be written twice; rename one"),
        ({"fields": ["=a"]}, "'=a' is no field"),
        ({"fields": ["output"], "format": "alpaca"}, "'output' would be written twice"),
        ({"fields": ["a"], "format": "openai-chat", "name": "m.jsonl"}, "nothing else"),
        ({"format": "xml"}, "there is no 'xml'; there are json, jsonl, csv"),
        ({"format": "csv"}, r"csv is not written into a \.json file; name it \.csv"),
        ({"format": "openai-chat"}, r"openai-chat is not .* name it \.jsonl"),
        ({"name": "m.parquet.gz"}, "is compressed inside; leave .gz away"),
        ({"format": "sharegpt", "keep_null": True}, "no example for sharegpt"),
        ({"split": {"a": 0.5}}, "the shares are 0.5 together; they must be 1"),
        ({"split": {"a": 0, "b": 1}}, "a=0 is no share"),
        ({"split": {"../x": 1}}, "is no name of a part"),
        ({"split": {"a": 0.5, "A": 0.5}}, "differ in case only"),
        ({"split": {}}, "the shares are 0 together"),
    ],
)
def test_what_cannot_be_asked(bench: Bench, options: dict[str, Any], says: str) -> None:
    """One line says what is wrong, before anything is read or written."""
    with pytest.raises(ConfigError, match=says):
        bench.merge(**{"name": "m.json", **options})
    assert bench.files() == set()


def test_a_field_that_no_row_has(bench: Bench) -> None:
    """It is taken for a slip, and nothing is written."""
    bench.lay([row(1)])
    for name in ("m.jsonl", "m.csv"):
        with pytest.raises(InputError, match="no row has a field 'scorr'"):
            bench.merge(name, fields=["index", "scorr"])
    assert bench.files() == set()
    bench.lay([row(1), row(2, score=1)], {"1": "a", "2": ""})
    assert bench.merge("m.jsonl", fields=["score"], drop_reasons=["empty"]).written == 1


# Parts.


def parts(bench: Bench, names: Iterable[str] = ("train", "test")) -> dict[str, str]:
    """Return the part that each index is in."""
    return {item["index"]: part for part in names for item in bench.read(f"m.{part}.jsonl")}


def test_no_row_moves_when_the_data_grows(bench: Bench) -> None:
    """A row's part depends on seed and prompt alone: not on the others, nor on their order."""
    rows = [row(number) for number in range(400)]
    shares = {"train": 0.9, "test": 0.1}
    bench.lay(rows[:200])
    summary = bench.merge("m.jsonl", split=shares)
    before = parts(bench)
    assert summary.parts == {"train": 200 - summary.parts["test"], "test": summary.parts["test"]}
    assert 5 <= summary.parts["test"] <= 40
    assert bench.files() == {"m.train.jsonl", "m.test.jsonl"}
    bench.lay(rows[::-1])
    assert bench.merge("m.jsonl", split=shares).written == 400
    after = parts(bench)
    assert {index: after[index] for index in before} == before
    bench.merge("m.jsonl", split=shares, seed=1)
    assert parts(bench) != after


def test_one_prompt_is_on_one_side(bench: Bench) -> None:
    """Several answers to the same prompt, whatever their indices, never leak from train to test."""
    bench.lay([row(f"{number}#{k}", f"text {number}") for number in range(40) for k in range(3)])
    bench.merge("m.jsonl", split={"train": 0.5, "test": 0.5})
    sides: dict[str, set[str]] = {}
    for index, part in parts(bench).items():
        sides.setdefault(index.partition("#")[0], set()).add(part)
    assert all(len(found) == 1 for found in sides.values())
    assert {part for found in sides.values() for part in found} == {"train", "test"}


def test_all_parts_or_none(bench: Bench) -> None:
    """What goes wrong, at whichever part, leaves all the old files as they were."""
    bench.lay([row(number) for number in range(20)])
    (bench.folder / "m.a.jsonl").write_text("old")
    (bench.folder / "m.b.jsonl").mkdir()
    with pytest.raises(LedgerError, match=r"m\.b\.jsonl: this is a directory"):
        bench.merge("m.jsonl", split={"a": 0.5, "b": 0.5})
    (bench.folder / "m.b.jsonl").rmdir()
    with bench.data.open("a") as stream:
        stream.write("{broken\n")
    for name in ("m.jsonl", "m.parquet"):
        with pytest.raises(BadRowsError):
            bench.merge(name, split={"a": 0.5, "b": 0.5})
    assert bench.files() == {"m.a.jsonl"}
    assert (bench.folder / "m.a.jsonl").read_text() == "old"


def test_a_part_that_is_a_source(bench: Bench) -> None:
    """Neither input nor ledger is written over by a part."""
    bench.lay([row(1)])
    with pytest.raises(InputError, match="the merged file would overwrite"):
        merge(bench.data, bench.data.rename(bench.folder / "m.a.jsonl"), bench.folder / "m.jsonl",
              split={"a": 1})  # fmt: skip


@pytest.mark.parametrize("name", ["m.json", "m.jsonl.gz", "m.csv", "m.parquet"])
def test_a_merge_that_fails_leaves_nothing(bench: Bench, name: str) -> None:
    """No file, and no complaint of a library about one that it would still write to."""
    bench.lay([row(1)])
    with pytest.raises(InputError, match="no row has a field 'nothing'"):
        bench.merge(name, fields=["index", "nothing"])
    gc.collect()
    assert bench.files() == set()


@pytest.mark.parametrize("name", ["m.json", "m.jsonl.gz", "m.csv", "m.parquet"])
def test_a_part_without_rows_is_a_whole_file(bench: Bench, name: str) -> None:
    """It can be read as any other, and is told."""
    bench.lay([row(1)])
    summary = bench.merge(name, split={"a": 0.5, "b": 0.5})
    (note,) = summary.notes
    assert note.endswith("not one row is in it")
    stem, _, suffix = name.partition(".")
    counts = [len(bench.read(f"{stem}.{part}.{suffix}")) for part in ("a", "b")]
    assert sorted(counts) == [0, 1]


# What is left out.


def test_dedupe_keeps_the_first(bench: Bench) -> None:
    """Of rows with the same prompt and output; one of another prompt or output stays."""
    rows = [row(1, "x"), row(2, "x"), row(3, "y"), row(4, "x"), asked("x"), asked("x")]
    rows[-1]["index"] = "n"
    bench.lay(rows, {"1": "a", "2": "a", "3": "a", "4": "b", "m": "a", "n": "a"})
    for name in ("m.jsonl", "m.csv"):
        summary = bench.merge(name, dedupe=True)
        assert [item["index"] for item in bench.read(name)] == ["1", "3", "4", "m"]
        assert summary.left_out == {"repeated": 2}
    assert bench.merge("m.jsonl").written == 6


def test_an_output_that_is_no_text(bench: Bench) -> None:
    """It stays what it is in the formats of rows, and is its JSON in those for trainers."""
    bench.lay([row(1)], {"1": {"n": 1}})
    bench.merge("m.jsonl")
    assert bench.read("m.jsonl")[0]["output"] == {"n": 1}
    bench.merge("m.jsonl", format="sharegpt")
    assert said(bench.read("m.jsonl")[0])[-1] == '{"n":1}'


@pytest.fixture
def spoilt(bench: Bench) -> Bench:
    """Rows with an answer cut off, a refusal, an empty one, an echo and a duplicate."""
    rows = [row(number, f"A question that is long enough: {number}?") for number in range(8)]
    answers = [f"The answer to question {number} is as good as any other." for number in range(8)]
    answers[2] = "I'm sorry, but I can't help with that."
    answers[3] = "  "
    answers[4] = f"{rows[4]['input']} Five."
    answers[5] = answers[0]
    bench.lay(rows, {str(number): answer for number, answer in enumerate(answers)})
    ends = [*((number, "stop") for number in range(8)), (1, "length"), (6, "length"), (6, "stop")]
    log = [{"index": str(number), "status": "ok", "finish_reason": end} for number, end in ends]
    write_rows(bench.folder / "output.calls.jsonl", log)
    return bench


def test_what_would_spoil_training_is_left_out_on_request(spoilt: Bench) -> None:
    """By the reasons of status and report, each row once; what is not asked for stays."""
    assert spoilt.merge("m.jsonl").written == 8
    reasons = ["empty", "length", "refusal", "duplicate", "echo", "schema"]
    for name in ("m.jsonl", "m.csv"):
        summary = spoilt.merge(name, drop_reasons=reasons)
        assert [item["index"] for item in spoilt.read(name)] == ["0", "6", "7"]
        assert summary.left_out == dict.fromkeys(
            ["empty", "length", "refusal", "duplicate", "echo"], 1
        )
        assert (summary.rows, summary.written) == (8, 3)
    assert spoilt.merge("m.jsonl", drop_reasons=["length"]).left_out == {"length": 1}
    with pytest.raises(ConfigError, match="there is no 'lenght'; there are empty, length"):
        spoilt.merge("m.jsonl", drop_reasons=["lenght"])


def test_without_a_call_log_nothing_is_known_to_be_cut_off(spoilt: Bench) -> None:
    """That is said: a file from which nothing was dropped must not look clean."""
    (spoilt.folder / "output.calls.jsonl").unlink()
    summary = spoilt.merge("m.jsonl", drop_reasons=["length", "empty"])
    assert (summary.left_out, summary.written) == ({"empty": 1}, 7)
    (note,) = summary.notes
    assert "output.calls.jsonl is not there: no output is known to be cut off" in note
