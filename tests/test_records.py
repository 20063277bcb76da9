"""Reading the input: every good row as it was written, every bad one with its line and reason."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jsonl_runner.errors import InputError
from jsonl_runner.reader import RowReader, open_input
from jsonl_runner.records import BadRow, Record, fingerprint, to_record
from jsonl_runner.rows import MAX_ROW_BYTES, parse_row

if TYPE_CHECKING:
    from pathlib import Path

GOOD = b'{"index": 1, "instruction": "x"}'
DEPTH = 300


def reader(content: bytes, **options: Any) -> RowReader:
    return RowReader(io.BytesIO(content), "d.jsonl", **options)


def read(content: bytes, **options: Any) -> list[Record | BadRow]:
    return list(reader(content, **options).records())


def line_of(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def records(content: bytes) -> list[Record]:
    found = read(content)
    assert [item for item in found if isinstance(item, BadRow)] == []
    return [item for item in found if isinstance(item, Record)]


def reason(content: bytes, **options: Any) -> str:
    """Return the reason of the one bad row."""
    (bad,) = (item for item in read(content, **options) if isinstance(item, BadRow))
    return bad.reason


def test_an_index_is_kept_as_its_string() -> None:
    """Integers and strings name rows alike; only an integer's spelling is made one."""
    indices = [0, 17, -3, 2**63, "0017", "a b", "7.0", "\N{SNOWMAN}", "x" * 1000]
    content = b"".join(line_of(index=index, instruction="x") for index in indices)
    assert [record.index for record in records(content)] == [str(index) for index in indices]


@pytest.mark.parametrize("fields", [{}, {"input": ""}, {"input": None}, {"params": None}])
def test_what_a_row_may_leave_out(fields: dict[str, Any]) -> None:
    """Missing, empty and null are the same: a row without an input or params of its own."""
    assert records(line_of(index="a", instruction="x", **fields)) == [Record("a", "x", line=1)]


def test_a_row_of_messages_needs_no_instruction() -> None:
    """A conversation stands for itself, with content of any kind."""
    parts = [{"type": "x"}]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": parts},
    ]
    (record,) = records(line_of(index=1, messages=messages, params={"seed": 1, "n": 1}))
    assert record == Record("1", "", "", messages, {"seed": 1, "n": 1}, 1)


def test_other_fields_are_kept_for_merge() -> None:
    """What has no meaning for us stays in the row, in its order."""
    fields = {"source": {"page": [1, 2.5, None]}, "index": "a", "instruction": "x", "tags": True}
    (row,) = reader(line_of(**fields)).rows()
    assert isinstance(row, dict)
    assert list(row.items()) == list(fields.items())


def test_byte_order_mark_line_ends_and_blank_lines() -> None:
    r"""A BOM, `\r\n`, blank lines and a last line without its end are taken as they come."""
    content = b"\xef\xbb\xbf" + line_of(index=1, instruction="a") + b"\r\n \t \n"
    content += line_of(index=2, instruction="b").replace(b"\n", b"\r\n") + b"\n\n"
    content += line_of(index=3, instruction="c").rstrip()
    found = records(content)
    assert [(record.index, record.instruction) for record in found] == [
        ("1", "a"),
        ("2", "b"),
        ("3", "c"),
    ]
    assert [record.line for record in found] == [1, 4, 7]


def test_a_byte_order_mark_elsewhere_is_no_json() -> None:
    """Only the first line may begin with one (files glued together have others)."""
    assert reason(GOOD + b"\n\xef\xbb\xbf" + GOOD).startswith("not JSON")


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\r", "\r\n"])
def test_only_a_line_feed_ends_a_line(inside: str) -> None:
    """Other line ends of Unicode are text; a lone carriage return between fields is a blank."""
    text = f"one{inside}two"
    content = line_of(index=1, instruction=text).replace(b", ", b",\r ")
    (record,) = records(content + GOOD.replace(b"1", b"2"))[:1]
    assert record.instruction == text


BAD_ROWS: list[tuple[bytes, str]] = [
    (b"{broken", "not JSON ("),
    (b'{"index": 1, "instruction": "x"} {}', "not JSON ("),
    (b"{'index': 1}", "not JSON ("),
    (b'{"index": 1, "instruction": "x"},', "a comma behind the object, where JSONL has none (sed"),
    (b"{", "an object over several lines, where JSONL has one a line (jq -c"),
    (b'{"a": [1, NaN]}', "NaN and Infinity are none; write null"),
    (b'{"a": -Infinity, "b": 1234567890123456789}', "NaN and Infinity are none; write null"),
    (b'{"a": 1234567890123456789, "b": ' + b"[" * 99_999, "not JSON ("),
    (b'{"index": 1, "instruction": NaN}', "not JSON ("),
    (b'{"index": 1, "instruction": "\xff"}', "not UTF-8; it looks like Windows-1252: convert"),
    (b"[1]", "not a JSON object but a list"),
    (b"[]", "not a JSON object but an empty list"),
    (b'"x"', "not a JSON object but a text"),
    (b"null", "not a JSON object but null"),
    (b"7", "not a JSON object but the number 7"),
    (b'{"instruction": "x"}', 'it has no "index" (a string or an integer that names the row)'),
    (b'{"index": null, "instruction": "x"}', 'it has no "index"'),
    (b'{"index": "", "instruction": "x"}', '"index" is empty'),
    (b'{"index": true, "instruction": "x"}', "string or an integer, not true or false"),
    (b'{"index": 1.5, "instruction": "x"}', "string or an integer, not the number 1.5"),
    (b'{"index": 1.0, "instruction": "x"}', "string or an integer, not the number 1.0"),
    (b'{"index": [1], "instruction": "x"}', "string or an integer, not a list"),
    (b'{"index": {}, "instruction": "x"}', "string or an integer, not an object"),
    (b'{"index": 1, "instruction": 5}', '"instruction" must be a text, not the number 5'),
    (b'{"index": 1, "instruction": ["x"]}', '"instruction" must be a text, not a list'),
    (b'{"index": 1, "instruction": " "}', '"instruction" is empty and there is no "input"'),
    (b'{"index": 1, "instruction": "x", "input": 5}', '"input" must be a text, not the number 5'),
    (b'{"index": 1, "instruction": "x", "input": {}}', '"input" must be a text, not an object'),
    (b'{"index": 1}', 'it has no "instruction"'),
    (b'{"index": 1, "messages": []}', '"messages" must be a list of'),
    (b'{"index": 1, "messages": "x"}', '"messages" must be a list of'),
    (b'{"index": 1, "messages": [{"role": "user"}, "x"]}', '"messages"[1] has no "role"'),
    (b'{"index": 1, "messages": [{"content": "x"}]}', '"messages"[0] has no "role"'),
    (b'{"index": 1, "messages": [{"role": 1}]}', '"messages"[0] has no "role"'),
    (b'{"index": 1, "messages": [{"role": "user"}], "input": 1}', '"input" must be a text'),
    (b'{"index": 1, "instruction": "x", "params": 1}', '"params" must be an object, not the'),
    (b'{"index": 1, "instruction": "x", "params": []}', '"params" must be an object, not an'),
    (b'{"index": 1, "instruction": "x", "params": {"stream": true}}', "cannot hold stream"),
    (b'{"index": 1, "instruction": "x", "params": {"n": 2}}', "cannot hold n above 1"),
    (b'{"index": 1, "instruction": "x", "params": {"model": 5}}', "model that is the number 5"),
    (b'{"index": 1, "instruction": "x", "params": {"messages": []}}', "cannot hold messages"),
    (
        b'{"index": 1, "instruction": "x", "params": {"response_format": {"type": "json_object", "schema": 1}}}',  # noqa: E501
        '"params" has a response_format that cannot be used: a JSON schema is an object',
    ),
]


@pytest.mark.parametrize(("line", "says"), BAD_ROWS)
def test_a_bad_row_is_named(line: bytes, says: str) -> None:
    """File, line and reason; the rows around it are read."""
    others = [b'{"index": "a", "instruction": "x"}\n', b'\n{"index": "b", "instruction": "x"}\n']
    first, bad, last = read(others[0] + b"\n" + line + others[1])
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert (first.index, last.index) == ("a", "b")
    assert isinstance(bad, BadRow)
    assert str(bad).startswith("d.jsonl:3: ")
    assert says in bad.reason


@pytest.mark.parametrize("params", [{"stream": False}, {"stream": None}, {"n": 1}, {"model": "m"}])
def test_harmless_params_are_taken(params: dict[str, Any]) -> None:
    """What says the usual is no reason to refuse a row."""
    (record,) = records(line_of(index=1, instruction="x", params=params))
    assert record.params == params


def test_a_row_with_other_names_says_which_to_rename() -> None:
    """Who calls the prompt otherwise sees the names that the row has."""
    says = reason(line_of(index=1, prompt="x", label=3, input="y"))
    assert says.endswith("its fields are prompt, label: --map instruction=prompt takes one of them")
    many = reason(line_of(index=1, **{f"f{number}": 1 for number in range(9)}))
    assert many.endswith("its fields are f0, f1, f2, f3, f4, …: --template FILE makes it of them")


def test_a_bad_row_shows_little_of_itself() -> None:
    """A megabyte of rubbish makes a line of a message, not a screen."""
    assert len(reason(b"rubbish " * 100_000)) < 200


def test_an_index_may_stand_once() -> None:
    """The second row of an index is bad, also where one is a string and the other an integer."""
    lines = [line_of(index=index, instruction="x") for index in (1, "1", "01", "a", "a")]
    found = read(b"".join(lines))
    assert [item.index if isinstance(item, Record) else str(item) for item in found] == [
        "1",
        "d.jsonl:2: index '1' stands in an earlier line already",
        "01",
        "a",
        "d.jsonl:5: index 'a' stands in an earlier line already",
    ]


def test_a_bad_row_does_not_take_its_index() -> None:
    """A good row may come after a bad one of the same index."""
    bad, good = read(b'{"index": 1}\n' + GOOD)
    assert isinstance(bad, BadRow)
    assert isinstance(good, Record)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_the_greatest_size_is_read(end: bytes) -> None:
    """A row of just the stated bytes is a row, whatever ends its line."""
    content = b'{"index": 1, "instruction": "%s"}'
    row = content % (b"x" * (1000 - len(content) + 2))
    assert len(row) == 1000
    assert isinstance(read(row + end, max_row_bytes=1000)[0], Record)


@pytest.mark.parametrize("size", [1003, 5000, 3 * 1024 * 1024])
@pytest.mark.parametrize("after", [b"", b"\n", b"\n" + GOOD])
def test_a_line_that_is_too_long_is_passed_over(size: int, after: bytes) -> None:
    """It is one bad row with the size in its reason, and what follows is read."""
    found = read(b"x" * size + after, max_row_bytes=1000)
    assert str(found[0]).startswith("d.jsonl:1: the line is longer than 0.000953")
    rest = found[1:]
    assert len(rest) == after.count(b"{")
    assert all(isinstance(item, Record) and item.line == 2 for item in rest)


def test_the_stated_size_is_sixteen_mebibytes() -> None:
    """Without other settings, 16 MiB; the message says so."""
    assert reason(b"x" * (MAX_ROW_BYTES + 2)) == "the line is longer than 16 MiB"


def test_rows_come_as_they_are_read() -> None:
    """A reader never reads ahead of the row that it gives: a pipe's rows come at once."""
    ends, writes = os.pipe()
    with os.fdopen(ends, "rb") as stream, os.fdopen(writes, "wb", buffering=0) as pipe:
        rows = RowReader(stream, "pipe").rows()
        for number in range(3):
            pipe.write(line_of(index=number, instruction="x"))
            assert next(rows) == {"index": str(number), "instruction": "x"}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SOME_TEXT = TEXTS.filter(str.strip)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PARAM_NAMES = TEXTS.filter(lambda name: name not in {"stream", "n", "messages", "model"})
ROWS = st.builds(
    Record,
    index=SOME_TEXT | st.integers(-(2**63), 2**63 - 1).map(str),
    instruction=SOME_TEXT,
    input=TEXTS,
    messages=st.none()
    | st.lists(st.builds(lambda c: {"role": "user", "content": c}, TEXTS), min_size=1, max_size=2),
    params=st.none() | st.dictionaries(PARAM_NAMES, JSON_VALUES, min_size=1, max_size=2),
)


def written(rows: list[Record], *, ascii_only: bool, end: str) -> bytes:
    lines = []
    for row in rows:
        fields = {name: getattr(row, name) for name in ("index", "instruction", "input")}
        more = {"messages": row.messages, "params": row.params}
        lines.append(json.dumps({**fields, **more}, ensure_ascii=ascii_only))
    return end.join(lines).encode()


@given(
    rows=st.lists(ROWS, max_size=8, unique_by=lambda row: row.index),
    ascii_only=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n", " \n\t"]),
)
def test_what_is_written_is_read(*, rows: list[Record], ascii_only: bool, end: str) -> None:
    """For every list of rows, however spelt: the reader gives the same records."""
    found = read(written(rows, ascii_only=ascii_only, end=end))
    for record in found:
        assert isinstance(record, Record), str(record)
        record.line = 0
    assert found == rows


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([GOOD, b"\n", b"{", b"\xff", b'"'])).map(b"".join)
)
def test_every_line_with_something_in_it_is_a_row_or_a_bad_row(content: bytes) -> None:
    """For every bytes: nothing is passed over silently, and nothing but a BadRow goes wrong."""
    mark = b"\xef\xbb\xbf"
    assume(mark not in content[1:])
    body = content.removeprefix(mark)
    filled = [line for line in body.split(b"\n") if line.strip(b" \t\r\n")]
    assert len(read(content)) == len(filled)


@given(ROWS, ROWS)
def test_a_fingerprint_is_of_the_content(one: Record, other: Record) -> None:
    """For every two records: the same fingerprint if and only if they say the same."""

    def content(row: Record) -> str:
        return json.dumps([row.instruction, row.input, row.messages, row.params], sort_keys=True)

    assert (fingerprint(one) == fingerprint(other)) == (content(one) == content(other))
    before = fingerprint(one)
    one.index, one.line = "elsewhere", 99
    assert fingerprint(one) == before


def test_a_deeply_nested_row_is_a_record_or_a_bad_row() -> None:
    """What the reader has let through has a fingerprint."""
    nested = b"[" * DEPTH + b"]" * DEPTH
    try:
        row = parse_row(b'{"index": 1, "instruction": "x", "params": {"p": %s}}' % nested)
    except ValueError:
        return
    assert len(fingerprint(to_record(row))) == 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "there is no such file; check the path"),
        ("folder", "this is a directory; give the JSONL file in it"),
        ("empty", "the file is empty; it needs one JSON object a line"),
    ],
)
def test_an_input_that_is_none(folder: Path, name: str, says: str) -> None:
    """The path is named with what to do about it."""
    with pytest.raises(InputError) as caught:
        open_input(folder / name)
    assert str(caught.value) == f"{folder / name}: {says}"


def test_an_input_that_is_one(tmp_path: Path) -> None:
    """It is opened at its first byte."""
    (tmp_path / "data").write_bytes(GOOD)
    with open_input(tmp_path / "data") as stream:
        assert stream.read() == GOOD


def test_a_long_number_in_another_field_is_kept() -> None:
    """An identifier of 20 digits comes out as it went in, or its row is named as bad."""
    fields = {"index": 1, "instruction": "x", "id": 12345678901234567890123}
    try:
        row = parse_row(line_of(**fields))
    except ValueError:
        return
    assert str(row["id"]) == "12345678901234567890123"
