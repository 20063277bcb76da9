"""Every way to use it wrongly: one line that says what to do, the right exit code, nothing made."""

from __future__ import annotations

import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support import row, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from support import Stage


@pytest.fixture
def files(stage: Stage) -> Stage:
    """A stage with three rows and a configuration that works."""
    write_rows(stage.data, [row(number) for number in range(3)])
    stage.config_file()
    return stage


RUN = ("run", "data.jsonl", "output.jsonl", "--config", "settings.json")


def refused(stage: Stage, *words: str, code: int = 2, lines: int = 1) -> str:
    """Run a command that must fail; return its error line after checking its manners."""
    before = contents(stage)
    result = stage.cli(*words)
    error = error_line(result, lines)
    assert result.returncode == code, result.stderr
    assert contents(stage) == before, "something was written"
    return error


def contents(stage: Stage) -> dict[Path, int]:
    return {path: path.stat().st_size for path in stage.folder.rglob("*")}


def error_line(result: subprocess.CompletedProcess[str], lines: int = 1) -> str:
    assert result.stdout == ""
    told = result.stderr.splitlines()
    assert len(told) == lines, result.stderr
    assert [line.startswith("error: ") for line in told] == [False] * (lines - 1) + [True]
    return told[-1].removeprefix("error: ")


INPUTS = {
    "missing.jsonl": "missing.jsonl: there is no such file; check the path",
    "folder": "folder: this is a directory; give the JSONL file in it",
    "empty.jsonl": "empty.jsonl: the file is empty; it needs one JSON object a line",
}
REST = {
    "run": ["output.jsonl", "--config", "settings.json"],
    "validate": [],
    "status": ["ledger.jsonl"],
    "merge": ["ledger.jsonl", "merged.json"],
}


@pytest.mark.parametrize("command", list(REST))
def test_an_input_that_is_none(files: Stage, command: str) -> None:
    """A missing, empty or wrong kind of input is named, by every command that reads one."""
    (files.folder / "folder").mkdir()
    (files.folder / "empty.jsonl").touch()
    (files.folder / "ledger.jsonl").write_text('{"0": "x"}\n', encoding="utf-8")
    lines = [[command, data, *REST[command]] for data in INPUTS]
    before = contents(files)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda words: files.cli(*words), lines))
    assert contents(files) == before, "something was written"
    assert [error_line(result) for result in results] == list(INPUTS.values())
    assert {result.returncode for result in results} == {2}


def test_a_dry_run_tries_the_judge(files: Stage) -> None:
    """Its template is a mistake that costs nothing either."""
    dry = (*RUN, "--dry-run", "--judge", "judge.j2")
    assert refused(files, *dry).startswith("judge.j2: cannot be read")
    (files.folder / "judge.j2").write_text("{{ ouput }}", encoding="utf-8")
    assert refused(files, *dry) == "judge.j2: it takes no output; write {{ output }}"
    (files.folder / "judge.j2").write_text("{{ output }} {{ instrction }}", encoding="utf-8")
    assert 'did you mean "instruction"? (and so for all 3 rows)' in refused(files, *dry)


@pytest.mark.parametrize("words", ["run data.jsonl {}", "status data.jsonl {}", "report {}"])
@pytest.mark.parametrize("nameless", [".", "/"])
def test_an_output_without_a_name(files: Stage, words: str, nameless: str) -> None:
    """A folder that no file could stand beside is told as any other folder is."""
    error = refused(files, *words.format(nameless).split(), code=4)
    assert error.endswith(": this is a directory; give a file name for the output")


@pytest.mark.skipif(os.name == "nt", reason="POSIX devices")
@pytest.mark.parametrize("output", ["-", "/dev/full", "/dev/stdout"])
def test_an_output_that_is_no_file(files: Stage, output: str) -> None:
    """What a rerun could not read again is refused; `/dev/full` would be read without end."""
    error = refused(files, "run", "data.jsonl", output, "--config", "settings.json", code=4)
    assert error == f"{output}: this is no file; a rerun reads its output again: name a file"


def test_the_field_to_be_mapped_is_a_likely_one(files: Stage) -> None:
    """Of a dataset's own fields the one is told that holds what is asked."""
    words = (*RUN, "--index-field", "id")
    for fields, best in (
        (
            {"id": "a", "answer": "A long answer to it", "prompt": "Ask"},
            "add --map instruction=prompt",
        ),
        ({"id": 7, "score": 1, "aufgabe": "Wie heißt das?"}, "add --map instruction=aufgabe"),
        ({"id": 7, "score": 1}, "write a --template FILE that makes a question of them"),
    ):
        write_rows(files.data, [fields, {**fields, "id": 8}])
        assert f": {best} (and so for all 2 rows)" in refused(files, *words)


def test_an_input_without_a_usable_row(files: Stage) -> None:
    """Blank lines are no rows."""
    files.data.write_text("\n\n\n", encoding="utf-8")
    assert refused(files, *RUN) == "data.jsonl: no row in it can be used"


def test_rows_that_cannot_be_used(files: Stage) -> None:
    """Each bad row is listed with its line and what is wrong, before the one error."""
    bad = ['{"index": 0', '"text"', '{"instruction": "x"}', '{"index": 3}', '{"index": "7"}']
    good = '{"index": 7, "instruction": "x"}'
    files.data.write_text("\n".join([good, *bad, ""]), encoding="utf-8")
    result = files.cli(*RUN)
    error = error_line(result, 6)
    assert result.returncode == 2
    assert error.startswith("data.jsonl: 5 rows cannot be used; mend them, or leave them out with ")
    for number, line in enumerate(result.stderr.splitlines()[:5], 2):
        assert line.startswith(f"data.jsonl:{number}: ")
    assert files.simulator.journal.calls == []
    assert not files.output.exists()


def test_output_and_input_are_one_file(files: Stage) -> None:
    """The input is never written over, whichever way it is named."""
    (files.folder / "link.jsonl").symlink_to(files.data)
    (files.folder / "data.calls.jsonl").write_bytes(files.data.read_bytes())
    for data, output in (
        ("data.jsonl", "data.jsonl"),
        ("data.jsonl", "./data.jsonl"),
        ("data.jsonl", "link.jsonl"),
        ("data.calls.jsonl", "data.jsonl"),
    ):
        error = refused(files, "run", data, output, "--config", "settings.json")
        assert "input and output are the same file; name another output" in error


def test_no_key_anywhere(files: Stage) -> None:
    """Without a key it says where to put one, and how to try it without."""
    error = refused(files, "run", "data.jsonl", "output.jsonl")
    assert error.startswith("no API key: put it into config.json (api_keys) or OPENAI_API_KEY")
    assert error.endswith("or try --simulate")
    assert refused(files, "keys", "check").startswith("no API key: put it into config.json")


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("ftp://127.0.0.1/v1", "--api-base must begin with http:// or https://"),
        ("127.0.0.1:8000/v1", "--api-base must begin with http:// or https://"),
        ("http://127.0.0.1 :1/v1", "--api-base must hold no blanks"),
        ("http://no-such-host.invalid/v1", "dns: the name no-such-host.invalid cannot be resolved"),
        ("http://127.0.0.1:99999/v1", "check api_base"),
    ],
)
def test_an_address_that_cannot_be_right(files: Stage, base: str, says: str) -> None:
    """Exit 2 with the setting's name; an address is tried before it is believed to be wrong."""
    assert says in refused_run(files, "--api-base", base)


def refused_run(stage: Stage, *words: str) -> str:
    """Run into an error that only a call can show: it may sum up before the error."""
    result = stage.cli(*RUN, *words)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    told = result.stderr.splitlines()
    assert [line for line in told if line.startswith("error: ")] == told[-1:]
    assert {path.name for path in stage.folder.iterdir()} == {"data.jsonl", "settings.json"}
    return told[-1]


def test_a_wrong_path_and_a_wrong_model_name_their_setting(files: Stage) -> None:
    """404 says which setting to check: exit 2, nothing written."""
    base = files.simulator.base_url
    assert refused_run(files, "--api-base", f"{base}/v2").endswith(
        ": check api_base, which mostly ends in /v1"
    )
    files.simulator.settings = type(files.simulator.settings)(models=("gpt-4.1-mini",))
    error = refused_run(files, "--model", "gpt-99")
    assert "gpt-99" in error
    assert error.endswith(": check model (--model)")
    assert len(files.simulator.journal.calls) <= 4


def test_a_pasted_full_endpoint_is_taken_as_its_base(files: Stage) -> None:
    """The address with /chat/completions behind it is what many copy: it works."""
    base = files.simulator.base_url
    result = files.cli(*RUN, "--api-base", f"{base}/chat/completions/", "-q")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--thread", "4"], "--threads"),
        (["--threads", "many"], "'many' is not a valid integer"),
        (["--threads", "0"], "threads must be a whole number of at least 1"),
        (["--timeout", "-1"], "timeout must be a number of at least 0.001"),
        (["--timeout", "nan"], "timeout must be a number of at least 0.001"),
        (["--max-retries", "-1"], "--max-retries must be a whole number of 0 or more"),
        (["--temperature", "warm"], "'warm' is not a valid float"),
        (["--bad-rows", "ignore"], "'fail', 'skip'"),
        (["--param", "seed"], "'seed' is not NAME=VALUE"),
        (["--param", "=1"], "'=1' is not NAME=VALUE"),
        (["--param", "stream=true"], "stream"),
        (["--param", 'messages=[{"role": "user"}]'], "messages"),
        (["--proxy", "127.0.0.1:1"], "proxy must begin with one of http://"),
        (["--model", " "], "model must be a text"),
        (["more.jsonl"], "output.jsonl: there is no such file; check the path"),  # it is no DATA
        (["--config", "nowhere.json"], "nowhere.json: there is no such configuration file; copy"),
    ],
)
def test_wrong_options(files: Stage, words: list[str], says: str) -> None:
    """A wrong option or value is named with what would be right; nothing is begun."""
    error = refused(files, *RUN, *words)
    assert says in error
    assert files.simulator.journal.calls == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["rum"],
            "there is no command 'rum'; did you mean 'run'? (jsonl-runner --help tells more)",
        ),
        (["keys", "chek"], "there is no command 'chek'; did you mean 'check'?"),
        (["xyzzy"], "there is no command 'xyzzy'; see jsonl-runner --help"),
        (
            ["run", "data.jsonl"],
            "Missing argument 'OUTPUT'; write jsonl-runner run DATA... OUTPUT (",
        ),
        (["simulate", "--fault", "500"], "'500' is not NAME=VALUE"),
        (["simulate", "--fault", "501=0.1"], "unknown fault kind '501'; the nearest are: "),
        (["simulate", "--fault", "500=often"], "'often' is no number"),
        (["compact", "missing.jsonl"], "missing.jsonl: there is no such "),
    ],
)
def test_wrong_words(files: Stage, words: list[str], says: str) -> None:
    """A command that is not there brings the nearest one; a missing argument brings its name."""
    assert says in refused(files, *words)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.json", '{"thread": 4}', "c.json: unknown setting 'thread'; did you mean 'threads'?"),
        ("c.json", '{"threads": "4"}', "c.json: threads must be a whole number of at least 1 or"),
        ("c.json", '{"api_keys": "sk one"}', "c.json: api_keys entry 1 is no key; put your"),
        (
            "c.json",
            '{"api_keys": [7]}',
            "c.json: api_keys must be a list of texts; entry 1 is none",
        ),
        ("c.json", '{\n"model": "x",\n}', "c.json:3: not valid JSON: "),
        ("c.json", "[1]", "c.json: must hold an object with settings"),
        ("c.json", "", "c.json: the file is empty; copy config.json.example to it, or let "),
        ("c.json", '{"api_keys": [\n"k",\n]}', "c.json:3: not valid JSON: "),
        ("c.json", "\udcff\udcfe", "c.json: is not UTF-8; save it as such"),
        ("c.yaml", "api_keys:\n\t- k", "c.yaml:2: not valid YAML: a tab stands at its beginning; "),
        ("c.yaml", "a: [1\nb: {", "c.yaml:2: not valid YAML: "),
        ("c.yaml", "just words", "c.yaml: must hold an object with settings"),
        ("c.yaml", "a: b: c", "c.yaml:1: not valid YAML: "),
    ],
)
def test_a_broken_configuration(files: Stage, name: str, content: str, says: str) -> None:
    """The file, the line or field, and what it should be stand in the one line."""
    (files.folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert refused(files, "run", "data.jsonl", "output.jsonl", "--config", name).startswith(says)


def test_a_merge_with_another_ledger(files: Stage) -> None:
    """A ledger that holds none of the input's rows is no ledger of it; nothing is written."""
    (files.folder / "other.jsonl").write_text('{"other": "text"}\n', encoding="utf-8")
    error = refused(files, "merge", "data.jsonl", "other.jsonl", "merged.json")
    assert error.startswith("other.jsonl: it holds no output for any of the 3 rows of data.jsonl")
    error = refused(files, "merge", "data.jsonl", "none.jsonl", "merged.json")
    assert error.startswith("none.jsonl: there is no such ledger; make it with")
    error = refused(files, "merge", "data.jsonl", "other.jsonl", "other.jsonl")
    assert "would overwrite other.jsonl; name another" in error


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("merged.xlsx", 2, "merged.xlsx: .xlsx is not written; name a file that ends in .json, "),
        ("merged.tsv.gz", 2, "merged.tsv.gz: .tsv is not written; name a file that ends in .json"),
        ("folder/merged.json", 4, "its folder does not exist; make it first"),
    ],
)
def test_a_merged_file_that_cannot_be(files: Stage, target: str, code: int, says: str) -> None:
    """JSON under the name of a workbook would be found out late."""
    (files.folder / "ledger.jsonl").write_text('{"0": "x"}\n', encoding="utf-8")
    assert says in refused(files, "merge", "data.jsonl", "ledger.jsonl", target, code=code)


def test_requests_into_a_folder_that_is_missing(files: Stage) -> None:
    """It is said as of every other file."""
    words = ("requests", "data.jsonl", "-o", "nodir/x.jsonl", "--provider", "openai")
    assert "x.jsonl: its folder does not exist; make it first" in refused(files, *words, code=4)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--threads", "0"), "--threads must be "),
        (("--max-retries", "-1"), "--max-retries must be "),
        (("--api-base", "here"), "--api-base must begin with http"),
    ],
)
def test_an_option_is_called_as_it_is_typed(
    files: Stage, words: tuple[str, ...], says: str
) -> None:
    """Not as a setting of a file."""
    assert refused(files, *RUN, *words).startswith(says)


@pytest.mark.parametrize("command", ["render", "estimate"])
def test_what_makes_no_calls_has_no_option_of_calls(files: Stage, command: str) -> None:
    """It would do nothing there; in a configuration file it may stand."""
    told = files.cli(command, "--help").stdout
    assert "--api-base" in told
    assert "--transport" not in told
    assert "--proxy" not in told
    config = files.config_file(transport="curl", proxy="http://127.0.0.1:1")
    assert files.cli(command, "data.jsonl", "--config", config).returncode == 0


def test_files_into_a_file(files: Stage) -> None:
    """The outputs of a folder of texts want a folder."""
    (files.folder / "texts").mkdir()
    (files.folder / "texts" / "a.txt").write_text("a", encoding="utf-8")
    words = ("files", "texts", "data.jsonl", "--instruction", "x", "--config", "settings.json")
    assert "there is a file in the way" in refused(files, *words, code=4)


@pytest.mark.skipif(os.name == "nt", reason="POSIX shells and devices")
def test_streams_that_are_closed_or_full(files: Stage) -> None:
    """As under cron: the run is done, and no file of it has the number of a closed stream."""
    words = " ".join(map(shlex.quote, files.command(*RUN)))
    for streams, code in (("<&- >&- 2>&-", 0), ("--json > /dev/full", 4)):
        result = subprocess.run(
            ["sh", "-c", f"{words} {streams}"],
            cwd=files.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == code, result.stderr
        assert "defect" not in result.stderr
        assert len(files.output.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("text", ["my notes\nof the year", '{\n  "settings": 1\n}\n'])
def test_a_file_that_is_no_ledger_is_left_alone(files: Stage, text: str) -> None:
    """An existing file without one ledger line in it is refused as output, exit 4, untouched."""
    notes = files.folder / "notes"
    notes.write_text(text, encoding="utf-8")
    result = files.cli("run", "data.jsonl", "notes", "--config", "settings.json")
    assert notes.read_text(encoding="utf-8") == text
    assert result.returncode == 4
    assert files.simulator.journal.calls == []
