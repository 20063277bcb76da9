"""The command line as a user or a script meets it: help, streams, exit codes, what is sent."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from support import KEYS, expected, read_calls, read_ledger, row, write_rows

from jsonl_runner import __version__
from jsonl_runner.cli.main import cli
from jsonl_runner.simulator import Simulator, SimulatorSettings, answer_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Stage


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands(cli)), ids=" ".join)
def test_help(stage: Stage, words: tuple[str, ...]) -> None:
    """Each command's --help is there, on stdout, with an example for each that does something."""
    result = stage.cli(*words, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: jsonl-runner {' '.join(words)}".rstrip())
    if words not in {(), ("keys",)}:
        example = result.stdout.partition("Example:\n")[2].splitlines()[0]
        assert example.strip().startswith(f"jsonl-runner {' '.join(words)}")
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_help_tells_the_exit_codes_and_h_is_short_for_it(stage: Stage) -> None:
    """The first help names every exit code; -h is the same."""
    result = stage.cli("-h")
    assert result.stdout == stage.cli("--help").stdout
    for code in ("0 every", "1 some", "2 usage", "3 stopped", "4 the output", "130 and 143"):
        assert code in " ".join(result.stdout.split())


def test_help_puts_first_what_comes_first(stage: Stage) -> None:
    """The commands of the main job stand together, and so do a command's options of one kind."""
    told = stage.cli("--help").stdout
    main = told.partition("The main job:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in main.splitlines()] == ["validate", "run", "status", "merge"]
    for name in cli.commands:
        assert told.count(f"\n  {name} ") == 1
    told = stage.cli("run", "--help").stdout
    first = told.partition("To begin with:\n")[2].partition("\n\n")[0]
    assert "--dry-run" in first
    assert "--simulate" in first
    assert "\nOptions:" not in told  # each has its section
    assert "\nOptions:" in stage.cli("keys", "check", "--help").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--concurrency", "8"), "there is no option --concurrency; here it is --threads"),
        (("--base-url", "x"), "there is no option --base-url; here it is --api-base"),
        (("--api-key", KEYS[0]), "there is no option --api-key; keys go into config.json or "),
        (("--resume",), "there is no need: the same command goes on where it stopped"),
        (("-o", "x"), "there is no option -o; files stand alone: jsonl-runner run DATA... OUTPUT"),
        (("--rpm", "9"), "there is no option --rpm; it is a setting: requests_per_minute in "),
        (("--modle", "x"), "there is no option --modle; did you mean --model?"),
        (("--zzz",), "there is no option --zzz (jsonl-runner run --help tells more)"),
    ],
)
def test_options_as_other_programs_call_them(
    stage: Stage, words: tuple[str, ...], says: str
) -> None:
    """Who comes from elsewhere is told the word that is used here, or that there is no need."""
    result = stage.cli("run", "data.jsonl", "output.jsonl", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert KEYS[0] not in result.stderr


def test_a_forgotten_argument_shows_how_it_is_written(stage: Stage) -> None:
    """All arguments, since the one that is missing is not always the one that was forgotten."""
    for words in (("run",), ("run", "data.jsonl")):
        told = stage.cli(*words).stderr
        assert "Missing argument 'OUTPUT'; write jsonl-runner run DATA... OUTPUT (" in told
    assert "write jsonl-runner report OUTPUT (" in stage.cli("report", "a", "b").stderr


def test_version(stage: Stage) -> None:
    """`python -m jsonl_runner --version` says which one this is."""
    result = stage.cli("--version")
    assert (result.stdout, result.stderr) == (f"jsonl-runner, version {__version__}\n", "")


@pytest.fixture
def ran(stage: Stage) -> Stage:
    """A stage after a run with one null, one row changed since and one added."""
    rows = [row(0), row(1), row(2, "two [[fault:context_length]]")]
    stage.run(rows)
    write_rows(stage.data, [row(0), row(1, "changed"), rows[2], row(3)])
    stage.config_file()
    return stage


def test_merge_to_standard_output(ran: Stage) -> None:
    """The rows alone stand there, whole; what there is to say goes to stderr."""
    ran.cli("merge", "data.jsonl", "output.jsonl", "merged.json")
    words = ("merge", "data.jsonl", "output.jsonl", "-")
    result = ran.cli(*words)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (ran.folder / "merged.json").read_text(encoding="utf-8")
    assert result.stderr.splitlines()[-1].startswith("standard output: ")
    lines = ran.cli(*words, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == json.loads(result.stdout)
    for more in (("--split", "a=0.5,b=0.5"), ("--format", "parquet"), ("--json",)):
        refused = ran.cli(*words, *more)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"error: {more[0]}")
        assert len(refused.stderr.splitlines()) == 1
    assert not (ran.folder / "-").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX shells")
def test_merge_into_a_closed_pipe(stage: Stage) -> None:
    """`| head -n 1` ends quietly, with more rows than a pipe holds."""
    write_rows(stage.data, [row(number, "x" * 5000) for number in range(100)])
    stage.output.write_text("".join(f'{{"{n}": "y"}}\n' for n in range(100)), encoding="utf-8")
    words = stage.command("merge", stage.data, stage.output, "-", "--format", "jsonl")
    piped = subprocess.run(
        ["sh", "-c", f"{shlex.join(words)} | head -n 1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(piped.stdout)["index"] == "0"
    assert piped.stderr == ""


def test_merge_leaves_out_what_the_run_did(stage: Stage) -> None:
    """The call log tells that bad rows were skipped, so `merge` needs not be told again."""
    write_rows(stage.data, [row(1)])
    with stage.data.open("a", encoding="utf-8") as stream:
        stream.write("no JSON\n")
    first = stage.run_cli("--bad-rows", "skip")
    assert first.returncode == 1, first.stderr
    words = ("merge", "data.jsonl", "output.jsonl", "merged.json")
    merged = stage.cli(*words)
    assert merged.returncode == 0
    assert "note: rows that cannot be used are left out, as the run did" in merged.stderr
    assert "left out data.jsonl:2" in merged.stderr
    assert stage.cli(*words, "--bad-rows", "fail").returncode == 2
    told = stage.cli(*words, "--bad-rows", "skip")
    assert (told.returncode, "as the run did" in told.stderr) == (0, False)


def test_merge_hears_of_bad_rows_that_came_later(stage: Stage) -> None:
    """A run that has nothing to do but to skip them says so too."""
    write_rows(stage.data, [row(1)])
    stage.run_cli()
    with stage.data.open("a", encoding="utf-8") as stream:
        stream.write("no JSON\n")
    words = ("merge", "data.jsonl", "output.jsonl", "merged.json")
    assert stage.cli(*words).returncode == 2
    assert stage.run_cli("--bad-rows", "skip").returncode == 1
    assert stage.cli(*words).returncode == 0


def test_merge_for_a_trainer(ran: Stage) -> None:
    """The options reach the merge, and what is left out is told with what it means."""
    words = ("merge", "data.jsonl", "output.jsonl", "m.jsonl")
    told = json_of(
        ran.cli(*words, "--format", "sharegpt", "--fields", "id=index,input", "--split",
                "train=0.5, test=0.5", "--seed", "3", "--json")
    )  # fmt: skip
    lines = [
        json.loads(line)
        for part in ("train", "test")
        for line in (ran.folder / f"m.{part}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert sum(told["parts"].values()) == told["written"] == len(lines) == 2
    assert {item["id"] for item in lines} == {"0", "1"}
    assert all(list(item) == ["conversations", "id", "input"] for item in lines)
    write_rows(ran.data, [row(0), row(1), {"index": 2, "messages": [{"role": "assistant"}]}])
    (ran.output).write_text('{"0":"a"}\n{"1":""}\n{"2":"c"}\n', encoding="utf-8")
    result = ran.cli(*words, "--format", "alpaca", "--drop-reasons", "empty, schema", "--dedupe")
    assert "left out 1 empty: nothing but white space\n" in result.stderr
    assert "left out 1 turns: user and assistant do not take turns" in result.stderr
    assert result.stderr.endswith("m.jsonl: 1 row\n")
    result = ran.cli(*words, "--split", "train")
    assert (result.returncode, result.stdout) == (2, "")
    assert "split: 'train' is no part; give train=0.95,test=0.05" in result.stderr


def json_of(result: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """Return the JSON on stdout, which must hold nothing else."""
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)


def test_status(ran: Stage) -> None:
    """`status` counts rows by what became of them; --json says the same to a program."""
    found = json_of(ran.cli("status", "data.jsonl", "output.jsonl", "--json"))
    counts = {name: found[name] for name in ("rows", "done", "failed", "left", "changed", "calls")}
    assert counts == {"rows": 4, "done": 2, "failed": 1, "left": 1, "changed": 1, "calls": 3}
    reason = found["failures"]["context_length_exceeded"]
    assert (reason["count"], reason["example"]) == (1, "2")
    assert found["tokens"]["prompt"] > 0
    told = ran.cli("status", "data.jsonl", "output.jsonl")
    assert told.stderr == ""
    assert told.stdout.startswith("rows 4: done 2, failed 1, left 1\n")
    assert "failed, context_length_exceeded: 1, e.g. index 2: HTTP 400" in told.stdout
    assert "changed since they were answered: 1 (run --redo-changed)" in told.stdout


def test_merge(ran: Stage) -> None:
    """`merge` joins in input order, counts what it leaves out, and --json tells it to a program."""
    told = json_of(ran.cli("merge", "data.jsonl", "output.jsonl", "merged.json", "--json"))
    assert {name: told[name] for name in ("rows", "written", "without_output")} == {
        "rows": 4,
        "written": 2,
        "without_output": 2,
    }
    merged = json.loads((ran.folder / "merged.json").read_text(encoding="utf-8"))
    assert merged == [
        {**row(0), "index": "0", "output": expected(row(0))},
        {**row(1, "changed"), "index": "1", "output": expected(row(1))},
    ]
    result = ran.cli("merge", "data.jsonl", "output.jsonl", "merged.json", "--keep-null")
    assert result.stdout == ""
    assert "4 rows; 2 without an output kept with null" in result.stderr
    merged = json.loads((ran.folder / "merged.json").read_text(encoding="utf-8"))
    assert [item["output"] is None for item in merged] == [False, False, True, True]


def test_validate(ran: Stage) -> None:
    """`validate` names bad lines with their numbers: exit 2; with none of them exit 0."""
    plain = {"rows": 4, "turns": 0, "conversations": 0, "bad_rows": []}
    assert json_of(ran.cli("validate", "data.jsonl", "--json")) == plain
    with ran.data.open("a", encoding="utf-8") as stream:
        stream.write('{"index": 0, "instruction": "again"}\n[]\n')
    found = json_of(ran.cli("validate", "data.jsonl", "--json"), code=2)
    assert [bad["line"] for bad in found["bad_rows"]] == [5, 6]
    assert "stands in an earlier line already" in found["bad_rows"][0]["reason"]
    told = ran.cli("validate", "data.jsonl")
    assert told.stdout.endswith("data.jsonl: 4 rows can be used, 2 cannot\n")


def test_compact(ran: Stage) -> None:
    """`compact` leaves each index's last output, in the input's order, and tells what it saved."""
    ran.run(threads=1)
    ran.run(threads=1)  # its null once more
    before = read_ledger(ran.output)
    found = json_of(ran.cli("compact", "output.jsonl", "--order", "data.jsonl", "--json"))
    assert found["entries_before"] > found["entries_after"] == 4
    assert list(read_ledger(ran.output)) == ["0", "1", "2", "3"]
    assert read_ledger(ran.output) == before


def test_keys_check(ran: Stage) -> None:
    """`keys check` tells each key by its label; exit 3 only when none of them works."""
    ran.simulator.settings = SimulatorSettings(
        key_faults={KEYS[0]: "401"}, requests_per_second=0.01, requests_burst=5
    )
    words = ("keys", "check", "--config", "settings.json")
    found = json_of(ran.cli(*words, "--json"))
    assert [item["state"] for item in found] == ["finished", "works"]
    assert [item["label"] for item in found] == ["#1(…0001)", "#2(…0002)"]
    assert found[1]["request_limit"] == 5
    told = ran.cli(*words)
    assert told.stdout.splitlines()[1] == "#2(…0002)  works  requests 3 of 5 left"
    assert "1 of 2 keys work with gpt-4.1-mini at http://127.0.0.1" in told.stderr
    ran.simulator.stop()
    found = json_of(ran.cli(*words, "--json"), code=3)
    assert {item["state"] for item in found} == {"no answer"}
    assert all("refused: no connection to 127.0.0.1" in item["reason"] for item in found)


def test_run_json(ran: Stage) -> None:
    """`run --json` prints the summary on stdout and nothing else there."""
    found = json_of(ran.run_cli("--json"), code=1)
    assert (found["rows"], found["done"], found["failed"], found["left"]) == (4, 1, 1, 0)
    assert found["changed"] == {"count": 1, "examples": ["1"]}
    assert found["exit_code"] == 1


def test_run_json_of_a_stopped_run(ran: Stage) -> None:
    """A program learns from the JSON why a run stopped, and from stderr what a user does."""
    ran.simulator.settings = SimulatorSettings(key_faults=dict.fromkeys(KEYS, "401"))
    result = ran.run_cli("--json")
    found = json_of(result, code=3)
    assert found["exit_code"] == 3
    assert found["stopped"].startswith("all 2 keys are finished")
    assert result.stderr.splitlines()[-1] == f"error: {found['stopped']}"


def test_run_tells_people_on_stderr_what_comes_next(ran: Stage) -> None:
    """Without --json stdout stays empty; the last line is the next command, and it works."""
    rest = ran.run_cli("-v")
    assert (rest.stdout, rest.returncode) == ("", 1)
    assert rest.stderr.splitlines()[-1] == "next: the same command tries the 1 null again"
    assert "keys #1(…0001), #2(…0002)" in rest.stderr
    write_rows(ran.data, [row(0), row(3)])
    done = ran.run_cli()
    last = done.stderr.splitlines()[-1]
    assert last.startswith("next: jsonl-runner merge ")
    write_rows(ran.data, [row(0), {"index": 7}, row(3)])
    skipping = ran.run_cli("--bad-rows", "skip").stderr.splitlines()[-1]
    assert skipping == last
    merge = ran.cli(*skipping.removeprefix("next: jsonl-runner ").split())
    assert merge.returncode == 0
    assert len(json.loads((ran.folder / "merged.json").read_text(encoding="utf-8"))) == 2


def test_verbosely_it_says_whom_it_trusts(stage: Stage) -> None:
    """Over TLS, the file of trusted certificates is named."""
    write_rows(stage.data, [row(0)])
    result = stage.run_cli("-v", api_base="https://api.invalid/v1")
    named = [line for line in result.stderr.splitlines() if line.startswith("trusted cert")]
    assert Path(named[0].partition(": ")[2]).is_file()
    assert result.returncode == 2


def test_quiet_is_silent(stage: Stage) -> None:
    """-q prints nothing at all where all went well, and still the error where it did not."""
    write_rows(stage.data, [row(0)])
    for words in (
        ("run", "data.jsonl", "output.jsonl", "--config", stage.config_file(), "-q"),
        ("merge", "data.jsonl", "output.jsonl", "merged.json", "-q"),
        ("compact", "output.jsonl", "-q"),
    ):
        result = stage.cli(*words)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    result = stage.cli("run", "missing.jsonl", "output.jsonl", "-q")
    assert result.stderr == "error: missing.jsonl: there is no such file; check the path\n"


def test_simulate_flag_needs_nothing(stage: Stage) -> None:
    """`run --simulate` works without key, configuration or network, and says it is not real."""
    rows = [row(number) for number in range(20)]
    write_rows(stage.data, rows)
    result = stage.cli("run", "data.jsonl", "output.jsonl", "--simulate")
    assert result.returncode == 0
    assert "the answers are NOT real" in result.stderr
    wanted = {str(item["index"]): expected(item, "simulated-gpt-4.1-mini") for item in rows}
    assert read_ledger(stage.output) == wanted


def test_simulated_and_real_answers_are_kept_apart(stage: Stage) -> None:
    """Neither kind of run goes on with a ledger of the other kind; nothing is changed."""
    write_rows(stage.data, [row(0)])
    stage.cli("run", "data.jsonl", "output.jsonl", "--simulate")
    write_rows(stage.data, [row(0), row(1)])
    before = stage.output.read_bytes()
    real = stage.run_cli()
    assert (real.returncode, stage.output.read_bytes()) == (2, before)
    assert "output.jsonl holds simulated answers: remove it or name another output" in real.stderr
    other = stage.cli("run", "data.jsonl", "other.jsonl", "--config", stage.config_file())
    assert other.returncode == 0
    mixed = stage.cli("run", "data.jsonl", "other.jsonl", "--simulate")
    assert mixed.returncode == 2
    assert "other.jsonl holds real answers" in mixed.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_until_ctrl_c(stage: Stage, number: signal.Signals) -> None:
    """`simulate` prints its address, answers there with the faults asked for, and ends with 0."""
    command = stage.command("simulate", "--port", "0", "--latency", "0", "--key-fault", "k-0=401")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        base = server.stdout.readline().removeprefix("api_base ").strip()
        summary = stage.run([row(0), row(1)], api_base=base, api_keys=["k-0", "k-1"], threads=1)
        server.send_signal(number)
        assert server.wait(10) == 0
    assert summary.done == 2
    assert read_ledger(stage.output) == {str(n): expected(row(n)) for n in range(2)}


def test_a_port_that_is_taken(stage: Stage) -> None:
    """`simulate` on a port of another's says so: exit 2."""
    port = stage.simulator.base_url.rpartition(":")[2].removesuffix("/v1")
    result = stage.cli("simulate", "--port", port)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: port {port} cannot be had")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("--temperature", "0.2"), "temperature"),
        (("--max-tokens", "7"), "max_tokens"),
        (("--param", "seed=7"), "seed"),
        (("--param", 'stop=["a", "b"]'), "stop"),
        (("--param", "user=somebody"), "user"),
    ],
)
def test_parameters_reach_the_server(stage: Stage, words: tuple[str, str], sent: str) -> None:
    """A server that refuses just this parameter gets to see it; without the flag it does not."""
    write_rows(stage.data, [row(0)])
    stage.simulator.settings = SimulatorSettings(unsupported_params=(sent,))
    with_it = stage.run_cli(*words)
    assert stage.simulator.journal.count(status=400) == 1
    assert sent in with_it.stderr
    stage.output.unlink(missing_ok=True)
    assert stage.run().exit_code == 0
    assert stage.simulator.journal.count(status=400) == 1


def test_refused_parameters_are_corrected_for_the_whole_run(stage: Stage) -> None:
    """A model that does not take a parameter costs one refusal a worker, a note, and no row."""
    write_rows(stage.data, [row(number) for number in range(30)])
    stage.simulator.settings = SimulatorSettings(unsupported_params=("temperature", "max_tokens"))
    result = stage.run_cli("--temperature", "0.2", "--max-tokens", "7", "--threads", "2")
    assert result.returncode == 0
    for said in (
        "does not take temperature: left out for the whole run",
        "does not take max_tokens: sent as max_completion_tokens instead",
    ):
        assert result.stderr.count(f"note: gpt-4.1-mini {said}") == 1
    assert stage.simulator.journal.count(status=400) <= 4


def test_a_maximum_length_is_kept_to(stage: Stage) -> None:
    """--max-tokens reaches the server: the answer is cut there, kept, and marked."""
    write_rows(stage.data, [row(0, "word " * 40 + "[[fault:length]]")])
    result = stage.run_cli("--max-tokens", "5", "--json")
    assert json.loads(result.stdout)["cut_off"] == 1
    output = read_ledger(stage.output)["0"]
    assert output is not None
    assert len(output) == 5 * 4
    assert read_calls(stage.output)["0"]["finish_reason"] == "length"


def test_a_rows_own_model_params_and_messages_reach_the_server(stage: Stage) -> None:
    """`params` of a row go before the run's, and `messages` are sent as they stand."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye!"},
    ]
    rows = [
        row(0),
        row(1, params={"model": "gpt-4.1"}),
        {"index": 2, "messages": messages},
        {"index": 3, "instruction": "No input."},
    ]
    write_rows(stage.data, rows)
    assert stage.run_cli("--model", "gpt-x", "--threads", "1").returncode == 0
    calls = stage.simulator.journal.calls
    assert [call.model for call in calls] == ["gpt-x", "gpt-4.1", "gpt-x", "gpt-x"]
    assert [call.prompt for call in calls] == ["row 0", "row 1", "Bye!", "No input."]
    alone = [{"role": "user", "content": "No input."}]
    assert read_ledger(stage.output) == {
        "0": expected(rows[0], "gpt-x"),
        "1": expected(rows[1], "gpt-4.1"),
        "2": answer_text({"model": "gpt-x", "messages": messages}),
        "3": answer_text({"model": "gpt-x", "messages": alone}),
    }


def test_flags_go_before_the_environment_and_that_before_the_file(stage: Stage) -> None:
    """Precedence: flag, environment, configuration file, default."""
    write_rows(stage.data, [row(0)])
    stage.config_file(model="of-file", threads=1).rename(stage.folder / "config.json")
    environment = {**os.environ, "JSONL_RUNNER_MODEL": "of-environment"}
    models = []
    for name, words, env in (
        ("a", (), os.environ),
        ("b", (), environment),
        ("c", ("--model", "of-flag"), environment),
    ):
        stage.cli("run", "data.jsonl", f"{name}.jsonl", *words, env=dict(env))
        models.append(stage.simulator.journal.calls[-1].model)
    assert models == ["of-file", "of-environment", "of-flag"]


def test_keys_of_the_environment(stage: Stage, simulator: Simulator) -> None:
    """OPENAI_API_KEYS (comma list) and OPENAI_BASE_URL are enough to run."""
    write_rows(stage.data, [row(number) for number in range(40)])
    environment = {
        **os.environ,
        "OPENAI_API_KEYS": ", ".join(KEYS),
        "OPENAI_BASE_URL": simulator.base_url,
    }
    result = stage.cli("run", "data.jsonl", "output.jsonl", env=environment)
    assert result.returncode == 0, result.stderr
    assert {call.key for call in simulator.journal.calls} == set(KEYS)


def test_a_reader_that_has_had_enough(ran: Stage) -> None:
    """`status | head` ends without a traceback, with the shells' code for a broken pipe."""
    with subprocess.Popen(
        ran.command("status", "data.jsonl", "output.jsonl", "--json"),
        cwd=ran.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def folder_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_leaves_its_two_files_and_no_more(stage: Stage) -> None:
    """Ledger and call log lie beside the input afterwards; the lock is gone."""
    write_rows(stage.data, [row(0)])
    assert stage.run_cli().returncode == 0
    assert folder_names(stage.folder) == {
        "data.jsonl",
        "settings.json",
        "output.jsonl",
        "output.calls.jsonl",
    }
