"""Request files: every row once, in parts that fit, under a name that leads back to it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import row, write_rows

from jsonl_runner.batch import requests as module
from jsonl_runner.batch.anthropicform import params_of
from jsonl_runner.batch.checking import Checked, Problem, check
from jsonl_runner.batch.profiles import ANTHROPIC, OPENAI, PROFILES, profile_for, profile_named
from jsonl_runner.batch.requestfiles import Written, write_requests
from jsonl_runner.batch.requests import (
    Line,
    RequestMaker,
    Splitter,
    custom_id_of,
    index_in,
    usable_bytes,
)
from jsonl_runner.errors import BadRowsError, ConfigError, InputError, LedgerError
from jsonl_runner.prompts import Composer
from jsonl_runner.records import BadRow, Record
from jsonl_runner.sources.stream import bad_rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from support import Stage

    from jsonl_runner.batch.profiles import Profile

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
INDICES = st.text(min_size=1, max_size=80) | st.from_regex(r"(h-)?[0-9a-f]{32}", fullmatch=True)
#: Makes a BadRow of a row of the data file.
BAD_ROW = bad_rows_of(None, "data.jsonl")


def maker(profile: Profile = OPENAI, **params: Any) -> RequestMaker:
    return RequestMaker(profile, Composer("gpt-4.1-mini", params))


def sized(size: int, model: str = "m", number: int = 0, tokens: int = 1) -> Line:
    return Line(str(number), str(number), b"x" * size, model, tokens)


# --- custom_id


@given(INDICES, INDICES, st.sampled_from(["", "k3-0001_"]))
@example("h-" + "0" * 32, "x", "")
def test_a_custom_id_stands_for_one_index(first: str, second: str, prefix: str) -> None:
    """For every two indices: valid names, the same only for the same index, and the way back."""
    one, two = custom_id_of(first, prefix), custom_id_of(second, prefix)
    assert ID.fullmatch(one)
    assert one.startswith(prefix)
    assert (one == two) == (first == second)
    assert index_in(one, prefix) in {first, None}
    if re.fullmatch(r"[A-Za-z0-9_-]{1,30}", first):
        assert one == prefix + first
        assert index_in(one, prefix) == first


def test_names_that_are_not_ours() -> None:
    """What has another prefix stands for nothing; a prefix that cannot be is refused."""
    assert index_in("other_7", "k3_") is None
    assert index_in("k3_", "k3_") is None
    for prefix in ("a.b", "x" * 25):
        with pytest.raises(ValueError, match="cannot stand before"):
            custom_id_of("1", prefix)


def test_a_collision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows never share a name, whatever the digest does."""
    monkeypatch.setattr(module, "custom_id_of", lambda *_: "h-0")
    made = list(maker().lines([Record("a b", "x", line=1), Record("c d", "x", line=2)], BAD_ROW))
    assert isinstance(made[0], Line)
    assert str(made[1]).startswith("data.jsonl:2: index 'c d' would have the custom_id 'h-0'")


# --- the lines


def test_a_line_of_openai() -> None:
    """Its fields, in one line that ends with a newline; text is UTF-8, not escaped."""
    line = maker(temperature=0.5).line(Record("a/1", "Translate.", "\u6625\u2028\n"))
    assert line.data.endswith(b"}\n")
    assert line.data.count(b"\n") == 1
    assert "\u6625\u2028\\n".encode() in line.data
    assert json.loads(line.data) == {
        "custom_id": line.custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-4.1-mini",
            "temperature": 0.5,
            "messages": [
                {"role": "system", "content": "Translate."},
                {"role": "user", "content": "\u6625\u2028\n"},
            ],
        },
    }
    assert line.tokens >= 10


def test_a_rows_own_messages_and_params() -> None:
    """They go before those of the run."""
    messages = [{"role": "user", "content": "Hi"}]
    line = maker(top_p=1).line(Record("1", messages=messages, params={"model": "o4-mini"}))
    assert json.loads(line.data)["body"] == {"model": "o4-mini", "top_p": 1, "messages": messages}
    assert line.model == "o4-mini"


def test_a_line_of_anthropic() -> None:
    """System apart, max_tokens always, no sampling parameters; what is left out is said."""
    made = maker(ANTHROPIC, temperature=0.5, stop="END", seed=7)
    line = made.line(Record("1", "Be brief.", "Hi", params={"user": "u"}))
    assert json.loads(line.data) == {
        "custom_id": "1",
        "params": {
            "model": "gpt-4.1-mini",
            "max_tokens": 4096,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Hi"}],
            "stop_sequences": ["END"],
            "metadata": {"user_id": "u"},
        },
    }
    made.line(Record("2", "Be brief.", "Hi"))
    assert [note.partition(":")[0] for note in made.notes] == [
        "Anthropic knows no seed",
        "Anthropic's API takes no temperature any more",
        "max_tokens is 4,096 where none is given",
    ]


def test_anthropic_with_the_switch_and_limits() -> None:
    """Sampling is sent when it is asked for; the newer word for max_tokens is understood."""
    body = {"model": "c", "temperature": 0, "max_completion_tokens": 9,
            "messages": [{"role": "user", "content": "x"}]}  # fmt: skip
    params, notes = params_of(body, sampling=True)
    assert (params["temperature"], params["max_tokens"], notes) == (0, 9, [])


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (Record("1", messages=[{"role": "system", "content": "x"}]), "no message of a user"),
        (Record("1", messages=[{"role": "tool", "content": "x"}]), "is of role 'tool'"),
        (Record("1", messages=[{"role": "user", "content": " "}]), "is empty"),
        (Record("1", messages=[{"role": "user", "content": None}]), "no content"),
        (Record("1", messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
         "image_url in OpenAI's form"),
        (Record("1", messages=[{"role": "system", "content": 3}]), "no text"),
        (Record("1", "x", params={"max_tokens": 0}), "max_tokens must be"),
        (Record("1", "x", params={"tools": [{"type": "function", "function": {}}]}), '"tools"'),
    ],
)  # fmt: skip
def test_what_anthropic_would_refuse_hours_later(record: Record, says: str) -> None:
    """A bad row with its line, at once."""
    record.line = 7
    (bad,) = maker(ANTHROPIC).lines([record], BAD_ROW)
    assert isinstance(bad, BadRow)
    assert bad.line == 7
    assert says in bad.reason


def test_a_request_that_is_too_large_is_a_bad_row() -> None:
    """Named; the others are made."""
    small = PROFILES["dashscope-test"]
    rows: list[Record | BadRow] = [
        Record("1", "x", line=1),
        Record("2", "x" * 10**6, line=2),
        BadRow("f", 3, "no"),
    ]
    first, second, third = maker(small).lines(rows, BAD_ROW)
    assert isinstance(first, Line)
    assert re.match(r"data\.jsonl:2: its request has 1,000,\d+ bytes; dashscope-test", str(second))
    assert third is rows[2]


# --- splitting


def test_parts_are_full_by_count_and_by_bytes() -> None:
    """50,001 requests are two parts, and so are 201 MB: the limits, not one more."""
    splitter = Splitter(OPENAI)
    for number in range(50_001):
        splitter.place(sized(10, number=number))
    assert [part.requests for part in splitter.parts] == [50_000, 1]
    splitter = Splitter(OPENAI)
    megabyte = sized(10**6)
    for _ in range(201):
        splitter.place(megabyte)
    assert [part.size for part in splitter.parts] == [198_000_000, 3_000_000]
    splitter = Splitter(ANTHROPIC)
    for number in range(100_001):
        splitter.place(sized(10, number=number))
    assert [part.requests for part in splitter.parts] == [100_000, 1]


def test_parts_by_model_and_by_tokens() -> None:
    """A model has a part of its own where the provider wants it, and a budget of tokens."""
    lines = [sized(1, model) for model in "abab"]
    splitter = Splitter(OPENAI)
    assert [splitter.place(line).number for line in lines] == [1, 2, 1, 2]
    mixed = Splitter(ANTHROPIC)
    assert [mixed.place(line).number for line in lines] == [1, 1, 1, 1]
    budget = Splitter(OPENAI, max_tokens=10)
    placed = [budget.place(sized(1, tokens=tokens)).number for tokens in (6, 4, 1, 9, 10)]
    assert placed == [1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="some 11 tokens, a part 10 at most"):
        budget.place(sized(1, tokens=11))
    with pytest.raises(ValueError, match="a part 5 at most"):
        Splitter(OPENAI, max_bytes=5).place(sized(6))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.sampled_from("ab")), min_size=1, max_size=30),
    limits=st.tuples(st.integers(1, 9), st.integers(30, 90), st.integers(5, 20)),
    one_model=st.booleans(),
)
def test_the_parts_together_are_all_requests(
    sizes: list[tuple[int, str]], limits: tuple[int, int, int], *, one_model: bool
) -> None:
    """For every list of requests: each in one part, in order, and no part beyond a limit."""
    profile = OPENAI if one_model else ANTHROPIC
    splitter = Splitter(profile, max_requests=limits[0], max_bytes=limits[1], max_tokens=limits[2])
    lines = [
        sized(size, model, number, tokens=1 + number % 5)
        for number, (size, model) in enumerate(sizes)
    ]
    parts: dict[int, list[Line]] = {}
    for line in lines:
        parts.setdefault(splitter.place(line).number, []).append(line)
    assert sorted(int(line.index) for part in parts.values() for line in part) == list(
        range(len(lines))
    )
    for part in splitter.parts:
        held = parts[part.number]
        assert held == sorted(held, key=lambda line: int(line.index))
        assert len(held) == part.requests <= limits[0]
        assert sum(len(line.data) for line in held) == part.size <= limits[1]
        assert sum(line.tokens for line in held) == part.tokens <= limits[2]
        if one_model:
            assert {line.model for line in held} == {part.model}


# --- files


def write(
    target: Path, lines: Iterable[Line | BadRow], *, max_requests: int | None = None, **more: Any
) -> Written:
    return write_requests(lines, target, Splitter(OPENAI, max_requests=max_requests), "d", **more)


def made(count: int, model: str = "m") -> list[Line]:
    return [
        Line(str(n), str(n), f'{{"custom_id":"{n}"}}\n'.encode(), model, 1) for n in range(count)
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_file_or_several(tmp_path: Path) -> None:
    """Numbered when they need splitting; joined, they are all requests; the sum is told."""
    written = write(tmp_path / "r.jsonl", made(5))
    assert (written.files, written.requests) == ([tmp_path / "r.jsonl"], 5)
    assert (tmp_path / "r.jsonl").read_bytes() == b"".join(line.data for line in made(5))
    written = write(tmp_path / "s.jsonl", made(5), max_requests=2)
    assert [path.name for path in written.files] == [
        "s.0001.jsonl", "s.0002.jsonl", "s.0003.jsonl",
    ]  # fmt: skip
    joined = b"".join(path.read_bytes() for path in written.files)
    assert joined == b"".join(line.data for line in made(5))
    assert names(tmp_path) == {"r.jsonl", *(path.name for path in written.files)}


def test_many_parts_open_few_files(tmp_path: Path) -> None:
    """A part that is full is closed; two models take turns."""
    lines = [line for pair in zip(made(600, "a"), made(600, "b"), strict=True) for line in pair]
    written = write(tmp_path / "r.jsonl", lines, max_requests=1)
    assert len(written.files) == 1200


def test_indices_that_were_hashed_are_kept(tmp_path: Path) -> None:
    """In a file beside the requests; there is none when there is nothing to keep."""
    lines = [maker().line(Record(index, "x")) for index in ("plain", "a/b", "h-" + "0" * 32)]
    written = write(tmp_path / "r.jsonl", lines)
    assert written.ids == tmp_path / "r.ids.jsonl"
    kept = [json.loads(line) for line in written.ids.read_bytes().splitlines()]
    assert {item["custom_id"]: item["index"] for item in kept} == {
        custom_id_of("a/b"): "a/b",
        custom_id_of("h-" + "0" * 32): "h-" + "0" * 32,
    }


def test_files_of_an_earlier_split_are_in_the_way(tmp_path: Path) -> None:
    """They would be taken for parts of this one; what is there stays as it was."""
    write(tmp_path / "r.jsonl", made(5), max_requests=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for most in (3, None):
        with pytest.raises(ConfigError, match=r"r\.000[13]\.jsonl.* from an earlier time"):
            write(tmp_path / "r.jsonl", made(5), max_requests=most)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(tmp_path / "r.jsonl", made(6), max_requests=2)
    write(tmp_path / "t.jsonl", made(1))
    with pytest.raises(ConfigError, match=r"t\.jsonl: from an earlier time"):
        write(tmp_path / "t.jsonl", made(3), max_requests=1)


def test_nothing_is_half_written(tmp_path: Path) -> None:
    """Bad rows, an error on the way, no row at all: no file, and no folder left behind."""

    def breaking() -> Iterator[Line]:
        yield made(1)[0]
        raise InputError("broke")

    bad = BadRow("d", 3, "no")
    target = tmp_path / "r.jsonl"
    with pytest.raises(InputError, match="broke"):
        write(target, breaking())
    with pytest.raises(BadRowsError, match="1 row cannot be used"):
        write(target, [*made(2), bad])
    with pytest.raises(ConfigError, match="not one of its rows"):
        write(target, [bad], bad_rows="skip")
    with pytest.raises(ConfigError, match="do not fit into one file"):
        write(target, made(3), max_requests=1, may_split=False)
    with pytest.raises(LedgerError, match="a directory"):
        write(tmp_path, made(1))
    with pytest.raises(LedgerError, match="its folder does not exist"):
        write(tmp_path / "none" / "r.jsonl", made(1))
    assert names(tmp_path) == set()
    written = write(target, [*made(2), bad], bad_rows="skip")
    assert (written.requests, written.bad.first) == (2, [bad])
    too_large = Line("9", "9", b"x" * (usable_bytes(OPENAI) + 1), "m", 1, 4)
    written = write(target, [*made(1), too_large], bad_rows="skip")
    assert str(written.bad.first[0]).startswith("d:4: its request has")


# --- checking


def look(path: Path, profile: Profile = OPENAI, **more: Any) -> tuple[Checked, list[Problem]]:
    found: list[Problem] = []
    return check(path, profile, found.append, **more), found


def request(custom_id: Any = "1", **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **more.pop("body", {})}
    url = "/v1/chat/completions"
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **more}


def claude(custom_id: str = "1", **params: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {
        "custom_id": custom_id,
        "params": {"model": "m", "max_tokens": 5, "messages": messages, **params},
    }


def raw(item: dict[str, Any] | bytes) -> bytes:
    return item if isinstance(item, bytes) else json.dumps(item).encode()


@pytest.mark.parametrize(
    ("second", "code", "says"),
    [
        (request(), "duplicate_custom_id", "'1' stands in an earlier line"),
        (request("2", body={"model": "other"}), "model_mismatch", "other is another than m"),
        (request("2", body={"model": ""}), "invalid_request", '"model" is missing'),
        (request("2", url="/v1/embeddings"), "url_mismatch", "is another than"),
        (request("2", url=None), "invalid_request", '"url" is missing'),
        (request("2", method="GET"), "invalid_request", '"method"'),
        (request(2), "invalid_request", '"custom_id" must be a text'),
        (request(""), "invalid_request", '"custom_id" must be a text'),
        (request("x" * 513), "invalid_request", '"custom_id" must match'),
        (request("2", body={"messages": []}), "invalid_request", '"messages" must be a list'),
        (request("2", body={"messages": [{}]}), "invalid_request", '"messages"[0] has no "role"'),
        (request("2", body={"stream": True}), "invalid_request", "cannot stream"),
        ({**request("2"), "body": []}, "invalid_request", '"body" must be an object'),
        (b'{"custom_id":', "invalid_json_line", "not JSON"),
        (b"[1]", "invalid_json_line", "not a JSON object"),
        (b"[", "invalid_json_line", "a JSON array"),
        (raw(request("2")).replace(b'"x"', b'"\xff"'), "invalid_json_line", "not JSON"),
        (b"", "invalid_json_line", "blank"),
        (
            raw(request("2")).replace(b'"x"', b"[" * 500 + b"]" * 500),
            "invalid_request",
            "nested too deeply",
        ),
    ],
)
def test_each_problem_is_named_with_its_line(
    tmp_path: Path, second: dict[str, Any] | bytes, code: str, says: str
) -> None:
    """The provider's code, the line, and what is wrong; the lines around it are good."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n".join([raw(request()), raw(second), raw(request("3"))]) + b"\n")
    found, (problem,) = look(path)
    assert (problem.code, problem.line) == (code, 2)
    assert says in problem.message
    assert dict(found.problems) == {code: 1}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1}, "temperature: refused since"),
        ({"messages": [{"role": "system"}]}, 'role "system"'),
        ({"messages": "x"}, '"messages" must be a list'),
        ({"stream": True}, "cannot stream"),
    ],
)
def test_problems_of_anthropics_form(tmp_path: Path, params: dict[str, Any], says: str) -> None:
    """Those its API would tell only after hours, for each request."""
    path = tmp_path / "r.jsonl"
    write_rows(path, [claude(), claude("2", **params)])
    _, (problem,) = look(path, ANTHROPIC)
    assert (problem.code, problem.line) == ("invalid_request", 2)
    assert says in problem.message
    write_rows(path, [claude("a.b")])
    _, (problem,) = look(path, ANTHROPIC)
    assert "must match" in problem.message


def test_problems_of_the_file(tmp_path: Path) -> None:
    """Too many, too large, too many tokens, empty, a byte order mark, its name; a missing file."""
    small, path = PROFILES["dashscope-test"], tmp_path / "r.jsonl"
    write_rows(path, [request(str(n), url="/v1/chat/ds-test") for n in range(102)])
    _, found = look(path, small)
    assert [(problem.code, problem.line) for problem in found] == [("too_many_tasks", 101)]
    filler = {"messages": [{"role": "user", "content": "y" * 1_000_000}]}
    write_rows(path, [request(url="/v1/chat/ds-test", body=filler)])
    _, found = look(path, small)
    assert [problem.code for problem in found] == ["file_too_large"]
    _, found = look(path, PROFILES["dashscope-test"], max_tokens=10)
    assert [problem.code for problem in found] == ["file_too_large", "token_limit_exceeded"]
    path.write_bytes(b"\n\n")
    _, found = look(path)
    assert [problem.code for problem in found] == ["empty_file"]
    path.write_bytes(b"\xef\xbb\xbf" + raw(request()))
    _, found = look(path)
    assert [(problem.code, problem.line) for problem in found] == [("invalid_json_line", 1)]
    other = path.rename(tmp_path / "r.txt")
    _, found = look(other)
    assert "invalid_file_format" in [problem.code for problem in found]
    with pytest.raises(InputError, match="no such file"):
        look(path)
    with pytest.raises(InputError, match="cannot be read"):
        look(tmp_path)


def test_an_endless_line_is_passed_over(tmp_path: Path) -> None:
    """It is named, and those behind it are read."""
    path, profile = tmp_path / "r.jsonl", PROFILES["dashscope"]
    path.write_bytes(b"x" * 7_000_000 + b"\n" + raw(request("2")) + b"\n")
    found, (problem,) = look(path, profile)
    assert (problem.line, found.requests, found.size) == (1, 2, path.stat().st_size)
    assert "longer than" in problem.message


@given(st.lists(st.binary(max_size=30) | st.sampled_from([raw(request()), b'{"body":{}}'])))
def test_any_file_can_be_checked(scratch: Path, lines: list[bytes]) -> None:
    """For every file of bytes: problems with lines that are there, never an exception."""
    path = scratch / "r.jsonl"
    path.write_bytes(b"\n".join(lines))
    for profile in (OPENAI, ANTHROPIC):
        _, found = look(path, profile)
        assert all(
            problem.line is None or 1 <= problem.line <= path.read_bytes().count(b"\n") + 1
            for problem in found
        )


@pytest.mark.parametrize("profile", PROFILES.values(), ids=str)
def test_what_is_made_passes_the_check(tmp_path: Path, profile: Profile) -> None:
    """For each provider: our own files have no problem."""
    records = [Record(index, "Do.", "it") for index in ("1", "a b", "\u6625")]
    lines = maker(profile).lines(records, BAD_ROW)
    written = write_requests(lines, tmp_path / "r.jsonl", Splitter(profile), "d")
    found, problems = look(written.files[0], profile)
    assert problems == []
    assert found.requests == 3
    if profile.dialect == "openai":
        assert found.tokens == written.parts[0].tokens


# --- profiles


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1/", "openai"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://mine.openai.azure.com/openai/v1/", "azure"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.parasail.io/v1", "parasail"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://api.doubleword.ai/v1", "doubleword"),
        ("https://api.kluster.ai/v1", "kluster"),
        ("https://api.together.xyz/v1", "together"),
        ("http://127.0.0.1:8000/v1", "generic"),
        ("https://evil.example/?https://api.openai.com/", "generic"),
    ],
)
def test_a_profile_by_its_address(address: str, name: str) -> None:
    """And by its name."""
    assert profile_for(address).name == name
    assert profile_named(name.upper()).name == name


def test_every_profile_says_where_it_is_from() -> None:
    """Limits are claims; each has its source."""
    assert all(len(profile.source) > 20 for profile in PROFILES.values())
    with pytest.raises(ConfigError, match="no provider 'x' of batches; known are openai"):
        profile_named("x")


# --- the command


def test_the_command_writes_and_checks(stage: Stage) -> None:
    """A file, its sums on stderr, --json for programs; --check says whether it would be taken."""
    write_rows(stage.data, [row(0), row("a/b"), row(2, params={"model": "o4-mini"})])
    told = stage.cli("requests", "data.jsonl", "-o", "r.jsonl", "--model", "m", "--param", "n=1",
                     "--provider", "openai", "--json")  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert [(item["file"], item["requests"]) for item in found["files"]] == [
        ("r.0001.jsonl", 2),
        ("r.0002.jsonl", 1),
    ]
    assert found["ids"] == "r.ids.jsonl"
    checked = stage.cli("requests", "--check", "r.0001.jsonl")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "2 requests" in checked.stdout
    assert checked.stdout.endswith("openai would take it\n")
    both = b"".join((stage.folder / name).read_bytes() for name in ("r.0001.jsonl", "r.0002.jsonl"))
    (stage.folder / "m.jsonl").write_bytes(both)
    checked = stage.cli("requests", "--check", "m.jsonl")
    assert checked.returncode == 2
    assert checked.stdout.startswith("m.jsonl:3: model_mismatch: model o4-mini is another than m")
    checked = stage.cli("requests", "--check", "m.jsonl", "--json")
    found = json.loads(checked.stdout)
    assert (checked.returncode, found["problems"]) == (2, {"model_mismatch": 1})
    assert found["listed"][0]["line"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give one of DATA"),
        (("data.jsonl", "--check", "x"), "give one of DATA"),
        (("data.jsonl",), "say where to write"),
        (("data.jsonl", "-o", "data.jsonl"), "would overwrite"),
        (("data.jsonl", "-o", "r.jsonl", "--rows-only"), "goes with --grid"),
        (("data.jsonl", "-o", "r.jsonl", "--provider", "x"), "no provider 'x'"),
        (("data.jsonl", "-o", "r.jsonl", "--param", "x"), "is not NAME=VALUE"),
        (("none.jsonl", "-o", "r.jsonl"), "no such file"),
        (("--grid", "none.yaml", "-o", "r.jsonl"), "no such experiment"),
    ],
)
def test_wrong_use_is_one_line(stage: Stage, words: tuple[str, ...], says: str) -> None:
    """What to do about it, exit 2, and no file."""
    write_rows(stage.data, [row(0)])
    told = stage.cli("requests", *words)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("error: ")
    assert told.stderr.count("\n") == 1
    assert says in told.stderr
    assert not (stage.folder / "r.jsonl").exists()


def test_anthropic_from_the_command_line(stage: Stage) -> None:
    """What was left out is said, and who is asked where no model is named."""
    write_rows(stage.data, [row(0)])
    words = ("requests", "data.jsonl", "-o", "r.jsonl", "--provider", "anthropic")
    told = stage.cli(*words, "--param", "temperature=0")
    assert told.returncode == 0
    for note in ("ask for gpt-4.1-mini", "max_tokens is 4,096", "takes no temperature"):
        assert note in told.stderr
    told = stage.cli(*words, "--model", "claude-sonnet-5", "--sampling", "--param", "temperature=0",
                     "--param", "max_tokens=9")  # fmt: skip
    assert "note:" not in told.stderr
    checked = stage.cli("requests", "--check", "r.jsonl", "--provider", "anthropic")
    assert checked.stdout.startswith("r.jsonl:1: invalid_request: temperature: refused since")


def test_bad_rows_are_named_or_left_out(stage: Stage) -> None:
    """As everywhere: nothing is written unless they are to be skipped."""
    write_rows(stage.data, [row(0), {"index": 1}])
    told = stage.cli("requests", "data.jsonl", "-o", "r.jsonl")
    assert told.returncode == 2
    assert 'data.jsonl:2: it has no "instruction"' in told.stderr
    assert not (stage.folder / "r.jsonl").exists()
    told = stage.cli("requests", "data.jsonl", "-o", "r.jsonl", "--bad-rows", "skip")
    assert told.returncode == 0
    assert "left out data.jsonl:2" in told.stderr
    assert len((stage.folder / "r.jsonl").read_bytes().splitlines()) == 1
