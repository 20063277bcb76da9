"""From rows to batches: each is created once, whatever is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from batch_support import Bench, bench
from support import KEYS

from jsonl_runner.batch.desk import Pace
from jsonl_runner.batch.plan import Wishes
from jsonl_runner.clock import Stop
from jsonl_runner.errors import (
    BadRowsError,
    ConfigError,
    LedgerError,
    NoUsableKeyError,
    RunStoppedError,
)

__all__ = ["bench"]

CREATE = "POST /v1/batches"


def test_rows_go_in_parts_and_every_one_has_its_output(bench: Bench) -> None:
    """3,000 rows in 4 parts; the manifest knows their files, hashes and keys, never the key."""
    rows = bench.rows(3000)
    batches = bench.run(750)
    bench.check(rows)
    assert (batches.summary.done, batches.summary.left, batches.summary.exit_code) == (3000, 0, 0)
    parts = bench.parts()
    assert [part.requests for part in parts] == [750] * 4
    assert {part.state for part in parts} == {"collected"}
    assert sorted(bench.created()) == sorted(part.sha256 for part in parts)
    assert parts[0].key_label == "#1(…0001)"
    for path in bench.stage.folder.rglob("*"):
        assert not path.is_file() or KEYS[0].encode() not in path.read_bytes(), path
    polls = bench.simulator.journal.routes()["GET /v1/batches"]
    assert polls <= 8, "one list call for all batches, every 15 seconds and more"


@pytest.mark.parametrize("what", ["answer", "answer_500"])
def test_a_batch_whose_creation_was_not_answered_is_found(bench: Bench, what: str) -> None:
    """A lost answer, or a 500 after all was done: the batch is adopted, not created again."""
    rows = bench.rows(20)
    bench.simulator.lose_next(CREATE, what)  # type: ignore[arg-type]
    bench.run(5)
    bench.check(rows)
    assert len(bench.created()) == bench.created().total() == 4
    assert any("is there after all" in note for note in bench.notes)


def test_a_batch_that_was_not_created_is_created_after_the_settle_time(bench: Bench) -> None:
    """A lost request looks the same: only when the list has not shown it for long, it is sent."""
    rows = bench.rows(5)
    bench.simulator.lose_next(CREATE, "request")
    before = bench.clock.now()
    bench.run()
    bench.check(rows)
    assert bench.created().total() == 1
    assert any("over 900 s before anything is created again" in note for note in bench.notes)
    assert bench.clock.now() - before >= 900


def test_a_list_that_lags_less_than_the_settle_time_costs_nothing(bench: Bench) -> None:
    """The batch shows after ten minutes: it is waited for."""
    rows = bench.rows(5)
    bench.set(batch_in_progress_s=60.0, list_lag_s=600.0, batch_hidden_s=600.0)
    bench.simulator.lose_next(CREATE, "answer")
    bench.run()
    bench.check(rows)
    assert bench.created().total() == 1


def test_a_list_that_lags_more_than_the_settle_time_is_noticed(bench: Bench) -> None:
    """The one assumption fails: the twin is ended when it shows, and the user is told."""
    rows = bench.rows(40)
    bench.set(batch_in_progress_s=3600.0, list_lag_s=1200.0, batch_answered_share=0.0)
    bench.simulator.lose_next(CREATE, "answer")
    bench.run()
    assert bench.created().most_common(1)[0][1] == 2
    states = sorted(bench.simulator.batches.statuses().values())
    assert states == ["cancelled", "completed"]
    assert any("was created beside" in note and "cancelled" in note for note in bench.notes)
    bench.check(rows)


def test_a_young_batch_may_be_unknown_for_a_while(bench: Bench) -> None:
    """404 for ten minutes after its creation is no reason to give it up."""
    rows = bench.rows(5)
    bench.set(batch_in_progress_s=60.0, batch_hidden_s=600.0, list_lag_s=600.0)
    bench.run()
    bench.check(rows)


def test_a_batch_that_vanishes_lets_its_rows_go(bench: Bench) -> None:
    """Nobody can get its results any more: the rows are sent again, and it is said."""
    bench.rows(5)
    stop = Stop()
    with bench.open(stop=stop) as batches:
        batches.plan(bench.stage.data, Wishes())
        batches.submit()
        (part,) = batches.manifest.parts()
    bench.simulator.batches.vanish(part.batch)
    batches = bench.run()
    assert batches.summary.left == 0
    assert [part.state for part in bench.parts()] == ["lost", "collected"]
    assert any("does not know batch" in note for note in bench.notes)


@pytest.mark.parametrize("what", ["request", "answer"])
def test_an_upload_is_looked_for_before_it_is_repeated(bench: Bench, what: str) -> None:
    """What arrived is used; what did not is sent again."""
    rows = bench.rows(5)
    bench.simulator.lose_next("POST /v1/files", what)  # type: ignore[arg-type]
    bench.run()
    bench.check(rows)
    assert len(bench.simulator.journal.batches.uploads) == 1


def test_a_file_that_is_not_ready_is_waited_for(bench: Bench) -> None:
    """A provider that still processes the upload refuses the batch: it is asked again."""
    rows = bench.rows(5)
    bench.set(batch_in_progress_s=60.0, file_ready_s=30.0)
    bench.run()
    bench.check(rows)


def test_refused_management_calls_wait_as_long_as_they_are_told(bench: Bench) -> None:
    """429 with Retry-After on any call: nothing fails, nothing is made twice."""
    rows = bench.rows(20)
    for route in ("POST /v1/files", CREATE, "GET /v1/batches", "GET /v1/files/{id}/content"):
        bench.simulator.fail_next(route, "429")
        bench.simulator.fail_next(route, "503")
    bench.run(5)
    bench.check(rows)
    assert bench.created().total() == 4


def test_a_key_without_money_gives_way_to_the_next(bench: Bench) -> None:
    """A refused key is named; its upload goes, and the part is sent with another key."""
    rows = bench.rows(5)
    bench.set(batch_in_progress_s=60.0, separate_keys=True)
    bench.simulator.fail_next(CREATE, "insufficient_quota")
    bench.run()
    bench.check(rows)
    assert bench.simulator.journal.routes()["DELETE /v1/files/{id}"] == 1
    assert bench.parts()[0].key_label == "#2(…0002)"
    assert any("key #1(…0001) cannot send batches" in note for note in bench.notes)


def test_no_key_of_use_ends_it(bench: Bench) -> None:
    """All are refused: one error with each reason, and nothing was created."""
    bench.rows(5)
    bench.set(key_faults=dict.fromkeys(KEYS, "401"))
    with pytest.raises(NoUsableKeyError, match="no key can send batches: #1"):
        bench.run()
    assert not bench.created()


def test_a_batch_belongs_to_its_key(bench: Bench) -> None:
    """With other keys it cannot be seen, and that is said."""
    bench.rows(5)
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        batches.submit()
    with (
        bench.open(config={"api_keys": [KEYS[1]]}) as batches,
        pytest.raises(ConfigError, match=r"part 1 belongs to the key #1\(…0001\)"),
    ):
        batches.fetch()


@pytest.mark.parametrize("route", ["GET /v1/batches", "GET /v1/files/{id}/content"])
def test_a_key_that_is_refused_later_ends_the_wait(bench: Bench, route: str) -> None:
    """No waiting mends it; the batch goes on, and so does the command once the key is in order."""
    rows = bench.rows(5)
    bench.simulator.fail_next(route, "401")
    with pytest.raises(RunStoppedError, match="the key of the batches is refused"):
        bench.run()
    bench.run()
    bench.check(rows)


def test_a_part_that_was_changed_is_not_sent(bench: Bench) -> None:
    """Its hash stands in the manifest."""
    bench.rows(5)
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        path = bench.stage.folder / batches.manifest.parts()[0].path
        path.write_bytes(path.read_bytes().replace(b"row 3", b"row 4"))
        with pytest.raises(LedgerError, match="was changed since it was written"):
            batches.submit()
    assert not bench.created()


def test_rows_in_a_batch_are_not_sent_again(bench: Bench) -> None:
    """A second submit has nothing to do; a third row that came meanwhile is sent alone."""
    bench.rows(5)
    with bench.open() as batches:
        assert batches.plan(bench.stage.data, Wishes()).rows == 5
        batches.submit()
        assert batches.plan(bench.stage.data, Wishes()).rows == 0
    rows = bench.rows(6)
    bench.run()
    bench.check(rows)
    assert [part.requests for part in bench.parts()] == [5, 1]


def test_what_the_provider_would_refuse_stops_everything_before_it_is_sent(bench: Bench) -> None:
    """Nothing planned stays behind; a dry run writes nothing at all."""
    bench.rows(4, r2="x" * 9000)
    with bench.open() as batches:
        wishes = Wishes(max_tokens=2000, max_requests=1)
        with pytest.raises(BadRowsError, match="1 row cannot be used"):
            batches.plan(bench.stage.data, wishes)
        assert not batches.manifest.parts(live=True)
        planned = batches.plan(bench.stage.data, replace(wishes, dry=True, bad_rows="skip"))
        assert (planned.rows, len(planned.parts)) == (3, 3)
        assert not batches.manifest.parts(live=True)
        assert not list(bench.stage.folder.glob("output.batches/*"))


def test_too_many_enqueued_tokens_wait_and_go_on(bench: Bench) -> None:
    """The provider refuses a second batch until the first is over: it is sent again then."""
    rows = bench.rows(20)
    bench.set(batch_in_progress_s=60.0, max_enqueued_tokens={"gpt-4.1-mini": 40})
    bench.run(10)
    bench.check(rows)
    assert any("Enqueued token limit reached" in note for note in bench.notes)


def test_a_part_beyond_the_limit_itself_is_not_waited_with(bench: Bench) -> None:
    """It would wait for ever: it is refused, with the option that makes it smaller."""
    bench.set(batch_in_progress_s=60.0, max_enqueued_tokens={"gpt-4.1-mini": 100})
    bench.rows(200)
    with pytest.raises(RunStoppedError, match="make smaller parts with --max-enqueued-tokens 100"):
        bench.run()
    assert bench.created().total() == 1


def test_what_cannot_be_sent_for_half_an_hour_ends_a_submit(bench: Bench) -> None:
    """The stall timeout of any run; the part stays as it is, for another time."""
    rows = bench.rows(4)
    bench.simulator.fail_next("POST /v1/files", "503", 1000)
    with bench.open() as batches:
        batches.plan(bench.stage.data, Wishes())
        with pytest.raises(RunStoppedError, match="no batch could be sent for 1800 s"):
            batches.submit()
    assert [part.state for part in bench.parts()] == ["uploading"]
    bench.simulator._endpoints.management.mishaps._asked.clear()
    bench.run()
    bench.check(rows)


def test_an_unreachable_provider_changes_nothing(bench: Bench) -> None:
    """Network errors while it is looked after: the batch goes on, and so does the wait."""
    rows = bench.rows(4)
    bench.set(batch_in_progress_s=3000.0)
    bench.simulator.fail_next("GET /v1/batches", "close", 5)
    bench.simulator.fail_next("GET /v1/batches", "html", 2)
    bench.run()
    bench.check(rows)
    assert any("they go on meanwhile" in note for note in bench.notes)


def test_our_own_bound_on_enqueued_tokens_keeps_parts_back(bench: Bench) -> None:
    """With --max-enqueued-tokens nothing is refused: one part waits for the other."""
    rows = bench.rows(20)
    with bench.open(max_enqueued=500) as batches:
        batches.plan(bench.stage.data, Wishes(max_tokens=500))
        assert len(batches.manifest.parts()) >= 2
        batches.submit()
        assert len(batches.manifest.parts("submitted")) == 1
        batches.wait()
    bench.check(rows)
    assert not any("Enqueued" in note for note in bench.notes)


def test_ctrl_c_leaves_a_stuck_batch_running(bench: Bench) -> None:
    """A batch that never ends: the wait ends when it is asked to, and the next run goes on."""
    rows = bench.rows(5)
    stop = Stop()
    bench.set(batch_in_progress_s=60.0, stuck_batches=1.0)
    reason = RunStoppedError("enough")
    seen = 0

    def pause(event: object, seconds: float) -> bool:
        nonlocal seen
        seen += 1
        bench.clock.advance(seconds)
        if seen == 1700:
            stop.request(reason)
        return stop.requested

    own, bench.clock.pause = bench.clock.pause, pause  # type: ignore[method-assign]
    with pytest.raises(RunStoppedError, match="enough"):
        bench.run(stop=stop)
    bench.clock.pause = own  # type: ignore[method-assign]
    (part,) = bench.parts()
    assert (part.state, part.status) == ("submitted", "in_progress")
    assert any("should be over since its 24h are; batch cancel" in note for note in bench.notes)
    bench.simulator.batches.stick(part.batch, None)
    bench.run()
    bench.check(rows)


def test_polls_become_rarer_and_never_more_than_five_minutes_apart(bench: Bench) -> None:
    """A day of waiting is some 300 list calls, and no call for each batch."""
    bench.rows(8)
    bench.set(batch_in_progress_s=86_000.0)
    bench.run(2)
    routes = bench.simulator.journal.routes()
    assert 280 < routes["GET /v1/batches"] < 400
    assert routes.get("GET /v1/batches/{id}", 0) <= 4


def test_a_settle_time_of_nought_is_the_users_own_word(bench: Bench) -> None:
    """It is looked for all the same, three times."""
    rows = bench.rows(5)
    bench.simulator.lose_next(CREATE, "request")
    bench.run(pace=Pace(settle_s=0.0))
    bench.check(rows)
