"""From a provider's results into the ledger: every end of a batch, and what is left over."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from batch_support import Bench, bench
from support import expected, read_calls, read_ledger, row, write_rows

from jsonl_runner.batch import collect
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.batch.tidy import cancel, clean, to_clean
from jsonl_runner.batch.watch import poll
from jsonl_runner.calllog import read
from jsonl_runner.dataset import Dataset
from jsonl_runner.errors import ConfigError, LedgerError, RunStoppedError
from jsonl_runner.job import Job
from jsonl_runner.merge import merge
from jsonl_runner.runner import run

if TYPE_CHECKING:
    from jsonl_runner.batch.parts import Part

__all__ = ["bench"]


def submitted(bench: Bench, size: int | None = None) -> list[Part]:
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes(max_requests=size))
        batches.submit()
        return batches.manifest.parts()


def fetched(bench: Bench) -> list[Part]:
    with bench.open() as batches:
        batches.fetch()
        return batches.manifest.parts()


def test_the_call_log_knows_where_an_output_came_from(bench: Bench) -> None:
    """Batch, model, usage, key, fingerprint and times; a cost where prices are known."""
    bench.rows(3)

    def cost_of(
        model: str,
        usage: dict[str, object],
        wall: float,
        batch: bool,  # noqa: FBT001
    ) -> tuple[float | None, str]:
        assert (model, wall > 1e9, batch) == ("gpt-4.1-mini", True, True)
        return 0.25, "prices"

    batches = bench.run(cost_of=cost_of)
    assert batches.summary.cost == 0.75
    (part,) = bench.parts()
    entry = read_calls(bench.stage.output)["1"]
    assert entry["batch"] == part.batch
    assert (entry["cost"], entry["cost_from"]) == (0.25, "prices")
    assert entry["usage"]["total_tokens"] > 0
    assert len(entry["fingerprint"]) == 16
    assert entry["key"] == "#1(…0001)"
    assert entry["started"] < entry["ended"]


def test_an_expired_batch_keeps_its_finished_half_and_the_rest_is_sent_again(bench: Bench) -> None:
    """The window is over: what was answered is not paid again, what was not is."""
    rows = bench.rows(20)
    bench.set(batch_in_progress_s=60.0, batch_answered_share=0.5)
    submitted(bench)
    bench.simulator.batches.advance(to="expired")
    batches = bench.run()
    bench.check(rows)
    first, second = bench.parts()
    assert (first.status, second.status) == ("expired", "completed")
    assert second.requests == 20 - 10
    assert batches.summary.exit_code == 0
    assert any("10 rows are left to be sent again, batch_expired" in n for n in bench.notes)


def test_what_a_batch_leaves_can_be_done_live(bench: Bench) -> None:
    """`fetch` writes no line for what expired, so `run` takes it; one ledger, one merge."""
    rows = bench.rows(20)
    bench.set(batch_in_progress_s=60.0, batch_answered_share=0.5)
    submitted(bench)
    bench.simulator.batches.advance(to="expired")
    fetched(bench)
    assert len(read_ledger(bench.stage.output)) == 10
    bench.stage.run()
    bench.check(rows)
    target = bench.stage.folder / "merged.json"
    assert merge(bench.stage.data, bench.stage.output, target).written == 20
    assert [item["index"] for item in json.loads(target.read_text())] == [str(n) for n in range(20)]


def test_a_dataset_begun_live_is_finished_in_batches(bench: Bench) -> None:
    """Half by `run`, half by `batch run`: each row once, nothing paid twice."""
    rows = bench.rows(30)
    write_rows(bench.stage.data, rows[:15])
    bench.stage.run()
    write_rows(bench.stage.data, rows)
    batches = bench.run()
    bench.check(rows)
    assert (batches.summary.skipped, batches.summary.done) == (15, 15)
    logged = Counter("batch" in entry for entry in read(bench.stage.output))
    assert logged == {False: 15, True: 15}
    assert bench.stage.run().skipped == 30


def test_run_leaves_rows_to_their_batch(bench: Bench) -> None:
    """What lies in a batch is counted, said and not called."""
    rows = bench.rows(10)
    write_rows(bench.stage.data, rows[:6])
    submitted(bench)
    write_rows(bench.stage.data, rows)
    summary = bench.stage.run()
    assert (summary.done, summary.left, summary.exit_code) == (4, 6, 3)
    assert summary.stopped is not None
    assert "6 rows lie in batches that are not over" in summary.stopped
    assert bench.stage.run().exit_code == 3, "with nothing else to do, too"
    bench.clock.advance(60)
    fetched(bench)
    bench.check(rows)
    assert bench.stage.run().exit_code == 0


def test_whoever_wants_to_pays_twice(bench: Bench) -> None:
    """--include-batched calls the rows; what the batch brings then changes nothing."""
    rows = bench.rows(4)
    submitted(bench)
    work = Job(bench.stage.data, bench.stage.output, quiet=True, include_batched=True)
    assert run(bench.stage.config(), work).done == 4
    bench.clock.advance(60)
    fetched(bench)
    assert read_ledger(bench.stage.output) == {str(r["index"]): expected(r) for r in rows}
    assert len(bench.stage.output.read_bytes().splitlines()) == 4
    assert set(bench.billed().values()) == {2}


def test_a_cancelled_batch_gives_what_it_has_finished(bench: Bench) -> None:
    """Half is done when its end is asked for: it is collected, the rest is left."""
    bench.rows(20)
    (part,) = submitted(bench)
    bench.clock.advance(30)
    with bench.open() as batches:
        (after,) = cancel(batches.desk, part.batch)
        assert after.cancelling
    (part,) = fetched(bench)
    assert (part.state, part.status) == ("collected", "cancelled")
    done = len(read_ledger(bench.stage.output))
    assert 8 <= done <= 12
    assert bench.simulator.journal.batches.billed_prompts().total() == done


def test_a_part_that_was_not_sent_is_given_up(bench: Bench) -> None:
    """Its rows are free again, and nothing was asked of the provider."""
    bench.rows(4)
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        assert [part.state for part in cancel(batches.desk)] == ["withdrawn"]
        with pytest.raises(ConfigError, match="no batch 'batch_x' was made"):
            cancel(batches.desk, "batch_x")
    assert bench.stage.run().done == 4


def test_a_batch_that_fails_validation_says_why_and_lets_its_rows_go(bench: Bench) -> None:
    """The provider's own reason; nothing is sent again in vain."""
    bench.rows(4)
    bench.set(models=("gpt-4.1",))
    with pytest.raises(RunStoppedError, match=r"4 rows are left .* model_not_found: The provided"):
        bench.run()
    assert [part.state for part in bench.parts()] == ["refused", "withdrawn"]
    assert bench.created().total() == 1
    bench.set()
    assert bench.stage.run().done == 4


def test_a_batch_in_which_everything_failed_has_an_error_file_alone(bench: Bench) -> None:
    """Completed, no output file: each row is null with its reason."""
    bench.rows(5, **{f"r{n}": f"[[fault:context_length]] {n}" for n in range(5)})
    bench.set(batch_in_progress_s=60.0)
    batches = bench.run()
    assert batches.summary.failed == 5
    assert batches.summary.exit_code == 1
    assert set(read_ledger(bench.stage.output).values()) == {None}
    codes = {entry["code"] for entry in read_calls(bench.stage.output).values()}
    assert codes == {"context_length_exceeded"}


def test_lasting_and_passing_failures_are_told_apart(bench: Bench) -> None:
    """A bad row is null, once; what may pass is sent again until it went well."""
    rows = bench.rows(
        12,
        r1="[[fault:context_length]] one",
        r2="[[fault:500*1]] two",
        r3="[[fault:429*1]] three",
        r4="[[fault:batch_missing*1]] four",
        r5="[[fault:batch_cut*1]] five",
        r6="[[fault:batch_expired*1]] six",
        r7="[[fault:batch_status_0*1]] seven",
        r8="[[fault:batch_string]] eight",
    )
    batches = bench.run()
    assert (batches.summary.done, batches.summary.failed) == (11, 1)
    found = read_ledger(bench.stage.output)
    assert found.pop("1") is None
    assert found == {str(r["index"]): expected(r) for r in rows if r["index"] != 1}
    assert len(bench.stage.output.read_bytes().splitlines()) == 12
    assert [part.requests for part in bench.parts()] == [12, 6]


def test_what_fails_for_ever_in_a_passing_way_ends_too(bench: Bench) -> None:
    """Two rounds that bring nothing are enough; the reason is said, the row is left."""
    bench.rows(3, r1="[[fault:500]] never")
    with pytest.raises(RunStoppedError, match="1 rows are left"):
        bench.run()
    assert len(bench.parts()) <= 5
    assert len(read_ledger(bench.stage.output)) == 2


@pytest.mark.parametrize("absent", ["blank", "missing", "empty_file"])
def test_counts_and_files_that_are_not_said(bench: Bench, absent: str) -> None:
    """Null counts, blank or missing ids, an error file without a byte: all of them are seen."""
    rows = bench.rows(6)
    bench.set(batch_in_progress_s=60.0, batch_counts="null", absent_files=absent)
    bench.run()
    bench.check(rows)


def test_lists_that_repeat_themselves_end(bench: Bench) -> None:
    """A provider that ignores `after` and says nothing of more pages."""
    rows = bench.rows(6)
    bench.set(batch_in_progress_s=60.0, endless_lists=True)
    bench.simulator.lose_next("POST /v1/files", "answer")
    bench.simulator.lose_next("POST /v1/batches", "answer")
    bench.run(2)
    bench.check(rows)


def test_a_download_that_breaks_off_is_begun_anew(bench: Bench) -> None:
    """Half a file is none: its name is there only when all of it is."""
    rows = bench.rows(50)
    bench.simulator.lose_next("GET /v1/files/{id}/content", "answer", 2)
    bench.run()
    bench.check(rows)
    assert not list(bench.stage.folder.glob("output.batches/*.part"))


def test_a_full_disk_is_told_before_a_download(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results stay where they are; the same command fetches them when there is room."""
    rows = bench.rows(5)
    usage = shutil.disk_usage(bench.stage.folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(LedgerError, match="the results stay at the provider"):
            bench.run()
    bench.run()
    bench.check(rows)


def test_a_result_file_that_was_changed_is_not_believed(bench: Bench) -> None:
    """Its hash stands in the manifest since it came."""
    bench.rows(5)
    submitted(bench)
    bench.clock.advance(60)
    with bench.open() as batches:
        poll(batches.desk, batches.manifest.parts("submitted"))
        (part,) = batches.manifest.parts("ended")
        collect.fetch(batches.desk, part)
        (file,) = [f for f in batches.manifest.files(1) if f.kind == "result"]
        path = bench.stage.folder / file.path
        path.write_bytes(path.read_bytes().replace(b"row 3", b"row 4"))
    with bench.open() as batches, pytest.raises(LedgerError, match="was changed"):
        batches.fetch()


def test_odd_indices_come_back_as_they_are(bench: Bench) -> None:
    """Whatever may not stand in a custom_id: blanks, Chinese, quotes, great length."""
    names = ["a b", "你好", 'say "hi"', "x" * 300, "h-" + "0" * 32, "plain-1", "7"]
    rows = [row(name) for name in names]
    write_rows(bench.stage.data, rows)
    bench.run(3)
    bench.check(rows)


def test_rows_of_several_models_go_in_parts_of_their_own(bench: Bench) -> None:
    """A file of requests asks one model."""
    rows = [row(n, params={"model": "gpt-4.1"} if n % 2 else None) for n in range(6)]
    write_rows(bench.stage.data, rows)
    bench.run()
    assert {part.model: part.requests for part in bench.parts()} == {
        "gpt-4.1-mini": 3,
        "gpt-4.1": 3,
    }
    assert read_ledger(bench.stage.output)["1"] == expected(rows[1], "gpt-4.1")


def test_only_what_is_merged_is_cleaned_up(bench: Bench) -> None:
    """A running batch is refused; a merged one loses its files, once."""
    bench.rows(4)
    submitted(bench)
    with bench.open() as batches, pytest.raises(ConfigError, match="is not merged"):
        to_clean(batches.manifest, "1")
    with bench.open() as batches:
        assert to_clean(batches.manifest, None) == []
    bench.clock.advance(60)
    fetched(bench)
    with bench.open() as batches:
        wall = bench.clock.wall()
        assert to_clean(batches.manifest, None, before=wall - 3600) == []
        (cleaning,) = to_clean(batches.manifest, None, limit=1)
        assert [file.kind for file in cleaning.files] == ["input", "result"]
        assert clean(batches.desk, cleaning, local=True) == 0
        assert to_clean(batches.manifest, None) == []
        assert batches.manifest.parts()[0].cleaned
    assert bench.simulator.journal.routes()["DELETE /v1/files/{id}"] == 2
    assert not list(bench.stage.folder.glob("output.batches/*"))


def test_a_damaged_manifest_is_one_line(bench: Bench) -> None:
    """Whatever is in the file: what is wrong, and that the batches are safe."""
    bench.rows(4)
    submitted(bench)
    path = bench.stage.folder / "output.batches.sqlite"
    path.write_bytes(b"no database " * 100)
    with pytest.raises(LedgerError, match=r"output\.batches\.sqlite: cannot be used") as caught:
        bench.run()
    assert "\n" not in str(caught.value)
    with pytest.raises(LedgerError, match="cannot be used"):
        bench.stage.run()


def test_a_manifest_of_another_version_is_left_alone(bench: Bench) -> None:
    """It says which version it wants."""
    bench.rows(4)
    submitted(bench)
    with bench.open() as batches:
        batches.manifest._db.execute("PRAGMA user_version=99")
    with pytest.raises(LedgerError, match="its format is 99"):
        bench.run()


def test_one_writer_at_a_time(bench: Bench) -> None:
    """The ledger's lock is the manifest's."""
    bench.rows(4)
    with bench.open(), pytest.raises(LedgerError, match="another run is writing it"):
        bench.run()


def test_a_batch_collected_without_its_call_log_says_nothing_of_how_rows_were_made(
    bench: Bench,
) -> None:
    """Else the same command would be refused from then on: "its rows have their index from …"."""
    bench.rows(3)
    data = Dataset(bench.stage.data, n=2)
    with bench.open() as batches:
        batches.plan(data, Wishes())
        batches.submit()
    bench.stage.output.with_name("output.calls.jsonl").unlink()
    bench.clock.advance(120)
    fetched(bench)
    assert len(read_ledger(bench.stage.output)) == 6
    assert run(bench.stage.config(), Job(data, bench.stage.output, quiet=True)).skipped == 6
    assert not any(call.prompt for call in bench.simulator.journal.calls)


def test_rows_sent_as_they_are_cannot_be_run_under_other_names(bench: Bench) -> None:
    """What a batch was made of is known from the moment it is sent."""
    bench.rows(3)
    submitted(bench)
    data = Dataset(bench.stage.data, n=2)
    with pytest.raises(ConfigError, match="by other names they would all be paid for again"):
        run(bench.stage.config(), Job(data, bench.stage.output, quiet=True))
