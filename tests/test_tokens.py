"""Tokens: counted as tiktoken counts, without any network, in steady memory; texts cut by them."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jsonl_runner import config, tokens
from jsonl_runner.errors import ConfigError, InputError, JsonlRunnerError
from jsonl_runner.rows import parse_row
from jsonl_runner.tokens import (
    TokenCount,
    count_tokens,
    num_tokens_from_string,
    split_string_by_tokens,
    tokenizer_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ENCODINGS = ("o200k_base", "cl100k_base")
DATA = Path(__file__).parent.parent / "data" / "samples" / "data.jsonl"

#: What texts are made of: words, marks, line ends of every kind and what lies between characters.
PIECES = [
    *(
        "a",
        "Hello",
        "HTTP",
        "don't",
        "'s",
        "'",
        "naïve",
        "e\u0301",
        "Straße",
        "ª",
        "x1y22",
        "12345",
    ),
    *(
        "你好",
        "，世界。",
        "「引用」",
        "カタカナ",
        "ひらがな",
        "한국어",
        "\u3000",
        "नमस्ते",
        "ไทย",
        "العربية",
    ),
    *("👩‍👩‍👧‍👦", "👍🏽", "🇫🇷", "😀", "\u200d", "\ufe0f"),
    *(
        "def f(x):",
        "    return x",
        "// note",
        "/*",
        "*/",
        "/",
        "//",
        "->",
        "{",
        "}",
        ";",
        "`",
        "_",
        "$",
    ),
    *("\n", "\r\n", "\r", "\n\n", " ", "  ", "\t", " \n", "\x0b", "\x1c", "\x85", "\xa0", "\u2028"),
    *("\ufeff", "\ud800", "\udc00", "\x00", "<|endoftext|>", ".", "...", "!?", "-", "=", '"', "\\"),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=40).map("".join)
signals = st.one_of(
    st.sampled_from([" ", "\n", "\r\n", "\n\n", "。", ".", "a", "😀", "/", "'"]), texts
)


def reference(text: str, encoding: str) -> int:
    """Return tiktoken's own count."""
    return len(tiktoken.get_encoding(encoding).encode_ordinary(text))


@pytest.fixture(autouse=True, scope="module")
def _vocabularies() -> None:
    """Let tiktoken have both, so that the reference asks no network either."""
    for encoding in ENCODINGS:
        num_tokens_from_string("", encoding)


# ---- counting


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [
        ("", 0, 0),
        ("hello world", 2, 2),
        ("你好，世界。", 4, 7),
        ("👩‍👩‍👧‍👦 family", 12, 19),
        ("def f(x):\n    return x ** 2  # squared\n", 14, 14),
        ("a\r\n\r\nb\n\n  c\r", 7, 7),
        ("<|endoftext|>", 7, 7),
        ("x\ud800y", 3, 3),
        ("Internationalization isn't 12345678", 7, 8),
        ("//////////\n//\n/", 4, 4),
    ],
)
def test_golden_counts(text: str, o200k: int, cl100k: int) -> None:
    """Counts as tiktoken 0.14 gives them; special tokens are plain text, surrogates do no harm."""
    assert num_tokens_from_string(text) == o200k
    assert num_tokens_from_string(text, "gpt-4") == cl100k
    assert num_tokens_from_string(text, encoding_name="gpt-3.5-turbo") == cl100k


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        *((name, "o200k_base") for name in ("gpt-4o", "gpt-4o-mini", "gpt-4o-2024-05-13")),
        *((name, "o200k_base") for name in ("chatgpt-4o-latest", "gpt-4.1", "gpt-4.1-nano")),
        *((name, "o200k_base") for name in ("gpt-4.5-preview", "gpt-5", "gpt-5-mini", "gpt-5.5")),
        *(
            (name, "o200k_base")
            for name in ("o1", "o1-preview", "o3-mini", "o4-mini", "gpt-oss-20b")
        ),
        *((name, "o200k_base") for name in ("o200k_base", "o200k_harmony", " GPT-4o ")),
        *((name, "o200k_base") for name in ("openai/gpt-4o", "openrouter/openai/gpt-4o:extended")),
        *((name, "o200k_base") for name in ("ft:gpt-4o-mini-2024-07-18:org::id",)),
        *((name, "cl100k_base") for name in ("gpt-4", "gpt-4-0613", "gpt-4-32k", "gpt-4-turbo")),
        *((name, "cl100k_base") for name in ("gpt-3.5-turbo", "gpt-3.5", "gpt-35-turbo-16k")),
        *((name, "cl100k_base") for name in ("azure/gpt-35-turbo", "cl100k_base", "davinci-002")),
        *((name, "cl100k_base") for name in ("text-embedding-3-small", "text-embedding-ada-002")),
        *(
            (name, "cl100k_base")
            for name in ("ft:gpt-3.5-turbo-0125:org::id", "openai/ft:gpt-4:a/b:")
        ),
    ],
)
def test_models_that_are_known(model: str, encoding: str) -> None:
    """Each family has its encoding, whatever stands before and behind its name."""
    assert tokenizer_of(model) == (encoding, None)


@pytest.mark.parametrize(
    "model", ["claude-5", "gpt-6", "gpt-4.7", "gpt-42", "o1x", "qwen/qwen3", "p50k_base", ""]
)
def test_models_that_are_not_known(model: str) -> None:
    """They are counted as o200k_base counts, and a note says so and names them."""
    encoding, note = tokenizer_of(model)
    assert encoding == "o200k_base"
    assert note == f"the tokenizer of {model!r} is not known; counted as o200k_base counts"


def test_the_models_tiktoken_knows() -> None:
    """Where tiktoken knows a model of these encodings, it says the same."""
    from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING  # noqa: PLC0415

    theirs = {**MODEL_TO_ENCODING, **{f"{k}-x": v for k, v in MODEL_PREFIX_TO_ENCODING.items()}}
    for model, encoding in theirs.items():
        name = encoding.replace("o200k_harmony", "o200k_base")
        if name in ENCODINGS:
            assert tokenizer_of(model) == (name, None), model


def test_a_guess_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A million rows for one model that is not known make one line of log."""
    for _ in range(3):
        assert num_tokens_from_string("hello world", "some-model") == 2
    assert [line.message for line in caplog.records] == [
        "the tokenizer of 'some-model' is not known; counted as o200k_base counts"
    ]


def test_the_default_is_the_projects() -> None:
    """What is counted for when no model is named is what a run calls when none is."""
    assert tokens.DEFAULT_MODEL == config.DEFAULT_MODEL


# ---- blocks


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=600, deadline=None)
@given(text=texts)
@example("a!\n/b")
@example("a \n \n  b \r\n//")
@example("x  y\n\x1c z")
def test_the_sides_of_a_seam_can_be_counted_alone(encoding: str, text: str) -> None:
    """Cut at every seam there is, a text has the tokens it has as a whole."""
    seams = [0, *(found.start() for found in tokens._SEAM.finditer(text)), len(text)]
    blocks = [text[a:b] for a, b in itertools.pairwise(seams)]
    assert "".join(blocks) == text
    assert sum(reference(block, encoding) for block in blocks) == reference(text, encoding)


@settings(deadline=None)
@given(text=texts, chunk=st.integers(1, 40))
def test_a_file_counts_as_its_text(text: str, chunk: int) -> None:
    """Read in pieces of any size and cut into blocks, a file has the tokens of its text."""
    data = text.encode("utf-8", "replace")
    whole = data.decode("utf-8-sig")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_CHUNK", chunk)
        patch.setattr(tokens, "_BLOCK", 8)
        patch.setattr(tokens, "_LONGEST_BLOCK", 64)
        found = count_tokens(io.BytesIO(data), "file")
        pieces = list(tokens.read_text(io.BytesIO(data), "file"))
    assert "".join(pieces) == whole
    if found.exact:
        assert found.tokens == reference(whole, "o200k_base")


LONG = 1_100_000  # white characters in a row at which tiktoken panics


@pytest.mark.parametrize(
    ("text", "tokens_", "exact"),
    [
        ("word " * 300_000, 300_001, True),
        ("你好，世界。" * 200_000, None, True),
        ("0f9a" * 300_000, None, True),
        ("  if x:\n" * 200_000, None, True),
        (" " * LONG + "x", None, False),
        ("\t " * LONG, None, False),
        ("a" * LONG, 137_500, False),
        ("😀" * LONG, None, False),
    ],
    ids=["words", "chinese", "hex", "code", "spaces", "tabs", "letters", "emoji"],
)
def test_texts_that_are_hard_to_cut(text: str, tokens_: int | None, *, exact: bool) -> None:
    """A megabyte of anything is counted; where there is no seam, it is told, and hardly off."""
    found = tokens._count(tokens._load("o200k_base"), [text])
    assert found.exact is exact
    assert num_tokens_from_string(text) == found.tokens
    if tokens_ is not None:
        assert abs(found.tokens - tokens_) <= (0 if exact else 3)
    elif exact:
        assert found.tokens == reference(text, "o200k_base")


@pytest.mark.parametrize(
    "line", ["The quick brown fox, 1 of 12.\n", "没有空格的一行，很长。", "ab" * 50]
)
def test_memory_does_not_grow_with_the_file(line: str) -> None:
    """Thrice the text needs no more memory, line ends or not."""

    def peak(times: int) -> int:
        stream = io.BytesIO((line * (times * 2**20 // len(line))).encode())
        tracemalloc.start()
        try:
            count_tokens(stream, "file")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(6) < peak(2) * 1.2 + 2**20


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"abc\xff", "3"),
        (b"\xef\xbb\xbfabc\xe4\xbd", "6"),
        (b"x" * 2**18 + b"\x80", "262,144"),
        (b"x" * (2**18 - 1) + "你".encode()[:2] + b"!", "262,143"),
    ],
)
def test_a_file_that_is_not_utf8(data: bytes, at: str) -> None:
    """The byte is named by its offset in the file, wherever it was read."""
    with pytest.raises(InputError, match=rf"^book.txt: not UTF-8 at byte {at} \("):
        count_tokens(io.BytesIO(data), "book.txt")


def test_a_byte_order_mark_is_no_text() -> None:
    """It is left out, and only at the very beginning."""
    assert count_tokens(io.BytesIO(b"\xef\xbb\xbfhello world"), "file") == TokenCount(2, True)
    assert "".join(tokens.read_text(io.BytesIO("\ufeffa\ufeff".encode()), "file")) == "a\ufeff"


# ---- splitting


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=400, deadline=None)
@given(text=texts, limit=st.integers(1, 30), signal=signals.filter(bool))
@example("/\n" * 50, 5, "/")
@example("a" * 300, 3, "a")
def test_a_split_loses_nothing_and_keeps_the_limit(
    encoding: str, text: str, limit: int, signal: str
) -> None:
    """The parts are the text; each ends at a signal, and fits unless it is a single sentence."""
    parts = split_string_by_tokens(text, limit, signal, encoding)
    assert "".join(parts) == text
    assert all(parts)
    assert all(part.endswith(signal) for part in parts[:-1])
    for part in parts:
        sentences = len(part.removesuffix(signal).split(signal)) if part != signal else 1
        assert sentences == 1 or reference(part, encoding) <= limit


@pytest.mark.parametrize(
    ("text", "limit", "signal", "parts"),
    [
        ("", 5, "\n", []),
        ("no signal at all", 1, "\n", ["no signal at all"]),
        ("one.two.three.", 4, ".", ["one.two.", "three."]),
        ("\n\n\n", 1, "\n\n", ["\n\n\n"]),  # one token
        ("one two three four ", 3, " ", ["one two ", "three four "]),
        (
            "短句。这是一个长得多的句子，放不下。短句。",
            5,
            "。",
            ["短句。", "这是一个长得多的句子，放不下。", "短句。"],
        ),
        ("a\r\nb\nc", 2, "\n", ["a\r\n", "b\n", "c"]),
    ],
)
def test_where_a_text_is_split(text: str, limit: int, signal: str, parts: list[str]) -> None:
    """Behind the signal, as late as it fits; what is longer stays whole."""
    assert split_string_by_tokens(text, limit, signal) == parts


def test_parts_are_full() -> None:
    """Words flow into one another: the parts hold what fits, not what the words' sum would say."""
    text = "word " * 1000
    parts = split_string_by_tokens(text, 100, " ")
    assert [num_tokens_from_string(part) for part in parts[:-1]] == [100] * (len(parts) - 1)
    assert len(parts) <= 11


def test_a_sentence_that_flows_into_the_next_is_put_back() -> None:
    """Where joining costs tokens, the part that was too full gives its last sentences away."""
    real = tokens._Meter.add

    def too_low(meter: tokens._Meter, text: str) -> int:
        return real(meter, text) // 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens._Meter, "add", too_low)
        parts = split_string_by_tokens("one two. " * 30, 10, " ")
    assert "".join(parts) == "one two. " * 30
    assert all(num_tokens_from_string(part) <= 10 for part in parts)


@pytest.mark.parametrize(
    ("text", "signal"),
    [("aaaa " * 1000, " "), ("aaaa " * 1000, "a"), ("a" * 5000, "a"), ("😀" * 5000, "b")],
)
def test_the_work_grows_with_the_text_and_no_faster(text: str, signal: str) -> None:
    """However long the parts and whatever the signal, a character is counted some times only."""
    counted = 0
    real = tokens._count

    def count(encoding: tiktoken.Encoding, found: list[str]) -> TokenCount:
        nonlocal counted
        counted += sum(map(len, found))
        return real(encoding, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_count", count)
        split_string_by_tokens(text, 5000, signal)
    assert counted < 60 * len(text)


@pytest.mark.parametrize(
    ("limit", "signal", "says"),
    [(0, "\n", "thunk_len must be at least 1 token, not 0"), (5, "", "split_signal is empty")],
)
def test_what_cannot_be_split(limit: int, signal: str, says: str) -> None:
    """No tokens, or no signal: it is said which."""
    with pytest.raises(ConfigError, match=says):
        split_string_by_tokens("text", limit, signal)


# ---- without network

#: Before anything else: from here on, whoever asks the network is told off.
NO_NETWORK = """
import socket
def refuse(*_args, **_more):
    raise AssertionError("somebody asked the network")
socket.socket.__init__ = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture
def offline(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a fresh process: empty HOME and temporary folder, sockets disabled."""

    def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        env = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        env |= {"HOME": str(home), "TMPDIR": str(home), "TEMP": str(home), "TMP": str(home), **more}
        return subprocess.run(
            [sys.executable, "-c", NO_NETWORK + code],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            env=env,
            cwd=home,
        )

    return run


COUNT = """
from jsonl_runner.tokens import num_tokens_from_string as count
print(count("hello world"), count("你好，世界。", "gpt-4") > 4)
import os
print(os.environ.get("TIKTOKEN_CACHE_DIR"))
"""


def test_counting_needs_no_network(
    offline: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Both encodings, with sockets disabled; nothing is left behind, in files or environment."""
    result = offline(COUNT)
    assert (result.stderr, result.stdout) == ("", "2 True\nNone\n")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_cache_of_the_users_is_left_alone(
    offline: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    content: bytes | None,
) -> None:
    """Empty or damaged, it is neither needed nor written to, and its variable stays as it was."""
    cache = tmp_path / "cache"
    cache.mkdir()
    file = cache / tokens._FILES["o200k_base"][0]
    if content is not None:
        file.write_bytes(content)
    result = offline(COUNT, TIKTOKEN_CACHE_DIR=str(cache))
    assert (result.stderr, result.stdout) == ("", f"2 True\n{cache}\n")
    assert [path.read_bytes() for path in cache.iterdir()] == (
        [content] if content is not None else []
    )


def test_the_refusal_of_sockets_is_one(
    offline: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Guard of the guard: tiktoken left to itself does ask the network, and is told off."""
    result = offline("import tiktoken; tiktoken.get_encoding('o200k_base')")
    assert "somebody asked the network" in result.stderr


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_vocabulary_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    """It is not handed to tiktoken, which would delete it and ask the network."""
    file = tmp_path / tokens._FILES["o200k_base"][0]
    if damage == "cut":
        file.write_bytes(b"IQ== 0\n")
    monkeypatch.setattr(tokens, "_VOCABULARIES", tmp_path)
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _name: pytest.fail("handed over"))
    with pytest.raises(
        JsonlRunnerError, match="vocabulary o200k_base is damaged: install this again"
    ):
        tokens._load("o200k_base")
    assert file.exists() == (damage == "cut")
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


# ---- the command line


def cli(*words: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `jsonl-runner tokens`."""
    command = [sys.executable, "-m", "jsonl_runner", "tokens", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, input=stdin, timeout=60)


def test_count(tmp_path: Path) -> None:
    """As `wc` prints it: each file, and a total where there are several."""
    (tmp_path / "a.txt").write_text("hello world", encoding="utf-8")
    (tmp_path / "b.txt").write_text("", encoding="utf-8")
    result = cli("count", "a.txt")
    assert (result.stdout.split(), result.stderr) == ([b"2", b"a.txt"], b"")
    result = cli("count", "a.txt", "-", "b.txt", stdin="你好".encode())
    assert result.stdout.split() == [b"2", b"a.txt", b"1", b"-", b"0", b"b.txt", b"3", b"total"]
    assert cli("count", stdin=b"hello world").stdout.split() == [b"2"]


def test_count_json(tmp_path: Path) -> None:
    """--json for a program; what is a guess is said once, on stderr."""
    (tmp_path / "a.txt").write_text("hello world", encoding="utf-8")
    result = cli("count", "a.txt", "a.txt", "--json", "--model", "claude-5")
    row = {"file": "a.txt", "tokens": 2, "exact": True}
    assert json.loads(result.stdout) == {"encoding": "o200k_base", "files": [row, row], "total": 4}
    assert result.stderr.count(b"the tokenizer of 'claude-5' is not known") == 1


def test_count_says_what_is_an_estimate(tmp_path: Path) -> None:
    """A million spaces are counted (tiktoken alone would panic), and it is told."""
    (tmp_path / "a.txt").write_text(" " * LONG + "x", encoding="utf-8")
    result = cli("count", "a.txt")
    assert result.returncode == 0
    assert result.stderr.startswith(b"note: a.txt: an estimate")
    assert result.stderr.count(b"\n") == 1


def test_split_makes_rows_for_a_run(tmp_path: Path) -> None:
    """One JSON object a part, which `run` can take; together they are the file."""
    text = "Erstes.\r\n\r\nZweites: 你好。\n\n  Drittes 👍🏽\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    result = cli("split", "a.txt", "--tokens", "9", "--at", r"\n", "--instruction", "Sum up.")
    rows = [parse_row(line) for line in result.stdout.splitlines()]
    assert "".join(row["input"] for row in rows) == text
    assert [row["index"] for row in rows] == [str(number) for number in range(len(rows))]
    assert {row["instruction"] for row in rows} == {"Sum up."}
    assert result.stderr.decode() == f"a.txt: {len(rows)} rows\n"
    assert len(rows) > 1
    result = cli("split", "-", "--tokens", "1", "--at", r"\r\n\r\n", stdin=text.encode())
    assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == [
        "Erstes.\r\n\r\n",
        text.partition("\r\n\r\n")[2],
    ]
    assert result.stderr == b"-: 2 rows; 2 longer than 1 tokens, with nothing to cut at\n"


def test_split_takes_a_backslash_for_what_it_is() -> None:
    r"""`\\n` is a backslash and an n, `\d` is itself, and what is not ASCII stays as it is."""
    for signal, found in ((r"\\n", [r"a\n", "b"]), (r"\d", [r"a\n" + "b"]), ("。", [r"a\nb"])):
        result = cli("split", "-", "--tokens", "1", "--at", signal, stdin=rb"a\nb")
        assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("count", "nope.txt"), "error: nope.txt: there is no such file"),
        (("count", "."), "error: .: cannot be read (Is a directory)"),
        (("count", "bad.txt"), "error: bad.txt: not UTF-8 at byte 2 (invalid start byte)"),
        (("split", "bad.txt", "--tokens", "5"), "error: bad.txt: not UTF-8 at byte 2"),
        (("split", "bad.txt", "--tokens", "0"), "error: Invalid value for '--tokens': 0"),
        (("split", "bad.txt", "--tokens", "5", "--at", ""), "error: Invalid value for --at: give"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """What is wrong, where, on one line; exit code 2."""
    (tmp_path / "bad.txt").write_bytes(b"ab\xff")
    result = cli(*words)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode().startswith(says)
    assert result.stderr.count(b"\n") == 1


def test_help_does_not_wait_for_tiktoken() -> None:
    """Neither it nor the vocabularies are loaded before something is counted."""
    code = (
        "import sys, jsonl_runner.cli.main, jsonl_runner.tokens; print('tiktoken' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "False\n"
