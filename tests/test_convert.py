"""Result files as text: every result has its place, and no custom_id gets out of the folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsonl_runner.convert import FAILED, convert_to_files, convert_to_jsonl, file_name
from jsonl_runner.errors import InputError, LedgerError

if TYPE_CHECKING:
    from pathlib import Path


def result(custom_id: str | None, text: str | None, **more: Any) -> dict[str, Any]:
    """Return a line of OpenAI's output; without a text it is one that expired."""
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    body = {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 1}}
    found: dict[str, Any] = {"response": {"status_code": 200, "body": body}, "error": None}
    if text is None:
        found = {"response": None, "error": {"code": "batch_expired", "message": "late"}}
    return {**({} if custom_id is None else {"custom_id": custom_id}), **found, **more}


def write(path: Path, *results: dict[str, Any] | bytes) -> Path:
    lines = [
        item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False).encode()
        for item in results
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_one_jsonl(tmp_path: Path) -> None:
    """A line for each result, with its text or the reason why there is none."""
    source = write(tmp_path / "r.jsonl", result("a", "one\u2028two"), result("b", None), b"{broken")
    converted = convert_to_jsonl([source], tmp_path / "t.jsonl")
    assert (converted.results, converted.texts, dict(converted.fates)) == (3, 1, {"passing": 2})
    first, second, third = read(tmp_path / "t.jsonl")
    assert first == {
        "custom_id": "a",
        "text": "one\u2028two",
        "model": "m",
        "usage": {"prompt_tokens": 1},
        "finish_reason": "stop",
        "error": None,
    }
    assert (second["text"], second["error"]["code"]) == (None, "batch_expired")
    assert (third["custom_id"], third["error"]["code"]) == (None, "malformed")


def test_anthropic_is_recognised(tmp_path: Path) -> None:
    """Nothing need be said."""
    message = {"content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    source = write(
        tmp_path / "r.jsonl",
        {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
        {"custom_id": "b", "result": {"type": "expired"}},
    )
    convert_to_jsonl([source], tmp_path / "t.jsonl")
    assert [item["text"] for item in read(tmp_path / "t.jsonl")] == ["hi", None]


def test_a_file_each(tmp_path: Path) -> None:
    """Byte for byte the text; what has none is listed; other line ends stay as they are."""
    source = write(tmp_path / "r.jsonl", result("a", "x\r\ny\n"), result("b", None))
    folder = tmp_path / "texts"
    folder.mkdir()
    convert_to_files([source], folder)
    assert {path.name for path in folder.iterdir()} == {"a.txt", FAILED}
    assert (folder / "a.txt").read_bytes() == b"x\r\ny\n"
    assert read(folder / FAILED)[0]["custom_id"] == "b"
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "texts"}


HOSTILE = ["../../x", "/etc/passwd", "..", ".", ".hidden", "a/b", "a\\b", "CON", "nul.x", "a\0b",
           "A", "a", "\u6625", "x" * 300, "x" * 301, "a b", "c:d", "%2F", "-rf"]  # fmt: skip


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    """Whatever a custom_id holds: one file each, in the folder, none over another."""
    source = write(tmp_path / "r.jsonl", *(result(name, name) for name in HOSTILE))
    convert_to_files([source], tmp_path / "texts")
    files = list((tmp_path / "texts").iterdir())
    assert sorted(path.read_bytes().decode() for path in files) == sorted(HOSTILE)
    assert all(path.is_file() and not path.name.startswith(".") for path in files)
    assert len({path.name.lower() for path in files}) == len(HOSTILE)
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "texts"}


@given(st.lists(st.text(), unique=True, max_size=8))
def test_names_are_safe_and_differ(names: list[str]) -> None:
    """For every custom_id a name that is one component, short enough and its own."""
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    for name in found:
        assert len(name) <= 240
        assert not name.startswith(".")
        assert not set(name) & set('/\\\0:*?"<>| ')


def test_results_without_a_custom_id_and_repeated_ones(tmp_path: Path) -> None:
    """The first text of a request stays, and none is lost for want of a name."""
    out = write(tmp_path / "o.jsonl", result(None, "1"), result("a", "first"), result("a", "2nd"))
    errors = write(tmp_path / "e.jsonl", result("a", None), result(None, "2"))
    converted = convert_to_files([out, errors], tmp_path / "texts")
    assert (converted.results, converted.texts, converted.repeated) == (3, 3, 2)
    texts = {path.read_text(encoding="utf-8") for path in (tmp_path / "texts").iterdir()}
    assert texts == {"1", "2", "first"}


def test_a_usage_that_is_nested_beyond_all_reason(tmp_path: Path) -> None:
    """It does not cost the text."""
    line = json.dumps(result("a", "x")).encode()
    deep = line.replace(b'{"prompt_tokens": 1}', b'{"a":' * 990 + b"1" + b"}" * 990)
    assert deep != line
    convert_to_jsonl([write(tmp_path / "r.jsonl", deep)], tmp_path / "t.jsonl")
    assert b'"text":"x"' in (tmp_path / "t.jsonl").read_bytes()


def test_indices_of_hashed_ids(tmp_path: Path) -> None:
    """With the file of ids each result has its index, and files are called by it."""
    source = write(tmp_path / "r.jsonl", result("h-1", "x"), result("7", "y"))
    ids = write(tmp_path / "i.jsonl", {"custom_id": "h-1", "index": "a/b"})
    convert_to_jsonl([source], tmp_path / "t.jsonl", ids=ids)
    assert [item["index"] for item in read(tmp_path / "t.jsonl")] == ["a/b", "7"]
    convert_to_files([source], tmp_path / "texts", ids=ids)
    assert {path.name for path in (tmp_path / "texts").iterdir()} == {"a%2Fb.txt", "7.txt"}
    with pytest.raises(InputError, match=r"i\.jsonl:2: is not \{"):
        convert_to_jsonl(
            [source], tmp_path / "t.jsonl", ids=write(ids, {"custom_id": "a", "index": 1}, b"[]")
        )
    with pytest.raises(InputError, match="no such file of ids"):
        convert_to_jsonl([source], tmp_path / "t.jsonl", ids=tmp_path / "none")


def test_what_is_no_result_file(tmp_path: Path) -> None:
    """One line says so, and nothing is written."""
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}
    for source, says in (
        (write(tmp_path / "q.jsonl", request), "not one line is a result"),
        (write(tmp_path / "empty.jsonl"), "not one result"),
        (tmp_path / "none.jsonl", "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            convert_to_jsonl([source], tmp_path / "t.jsonl")
        with pytest.raises(InputError, match=says):
            convert_to_files([source], tmp_path / "texts")
    assert {path.name for path in tmp_path.iterdir()} == {"q.jsonl", "empty.jsonl"}


def test_what_is_there_stays(tmp_path: Path) -> None:
    """A folder with something in it is not written into, nor a source over."""
    source = write(tmp_path / "r.jsonl", result("a", "x"))
    before = source.read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        convert_to_jsonl([source], source)
    with pytest.raises(InputError, match="not an empty folder"):
        convert_to_files([source], tmp_path)
    with pytest.raises(InputError, match="not an empty folder"):
        convert_to_files([source], source)
    with pytest.raises(LedgerError, match="its folder does not exist; make it first"):
        convert_to_files([source], tmp_path / "none" / "texts")
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl"}
