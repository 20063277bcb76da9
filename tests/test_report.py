"""The report: numbers that agree with the files, and a page on which nothing from them runs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from typing import IO, TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import row, write_rows

from jsonl_runner.calllog import path_for
from jsonl_runner.errors import InputError, LedgerError
from jsonl_runner.indexes import place_of
from jsonl_runner.pricefile import parse_price
from jsonl_runner.pricing import Prices
from jsonl_runner.report import gather, page
from jsonl_runner.report.latency import Histogram
from jsonl_runner.report.numbers import Batch, Example, Group, Report, Row, Text, Timeline
from jsonl_runner.report.page import money, share
from jsonl_runner.report.sample import Lottery, rank_of
from jsonl_runner.report.timeline import MAX_SLICES, Clockwork, stretches
from jsonl_runner.status import status

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from support import Stage

USAGE = {"prompt_tokens": 10, "completion_tokens": 3}
NOON = 1_790_000_000.0


def lay(folder: Path, outputs: Iterable[tuple[str, Any]], *calls: Mapping[str, Any]) -> Path:
    """Write a ledger and, if there are entries, its call log."""
    ledger = write_rows(folder / "output.jsonl", [{index: output} for index, output in outputs])
    if calls:
        write_rows(path_for(ledger), calls)
    return ledger


def call(index: str, **more: Any) -> dict[str, Any]:
    """Return an entry of a row that was done."""
    times = {"latency_s": 1.0, "started": NOON, "ended": NOON + 1}
    entry = {"index": index, "status": "ok", "code": "ok", "message": "", "attempts": 1}
    return (
        {**entry, "model": "none-such", "usage": USAGE, "cost": 0.5, "key": "#1(…a)"} | times | more
    )


def failed(index: str, code: str = "timeout", message: str = "slow", **more: Any) -> dict[str, Any]:
    lost = {"status": "failed", "code": code, "message": message, "usage": None, "cost": None}
    return call(index, **(lost | more))


# --- numbers


def test_it_agrees_with_status(stage: Stage) -> None:
    """After a run with faults and a resume: the same counts, reasons, calls and tokens."""
    rows = [
        *(row(number) for number in range(20)),
        row(20, "[[fault:content_policy]]"),
        row(21, "[[fault:500*1]]"),
        row(22, "[[fault:context_length]]"),
    ]
    stage.run(rows)
    stage.run()
    found, known = gather(stage.output, stage.data), status(stage.data, stage.output)
    assert found.rows.done == known.done == 21
    assert (found.rows.failed, found.rows.left) == (known.failed, known.left) == (2, 0)
    assert {group.code: group.count for group in found.failures} == {
        code: failure.count for code, failure in known.failures.items()
    }
    assert found.work.calls == known.calls
    assert (found.total.prompt, found.total.completion) == (
        known.tokens.prompt,
        known.tokens.completion,
    )
    assert found.log.runs == 2
    assert sum(use.done for use in found.keys) == 21
    assert sum(item.done for item in found.timeline.slices) == 21
    assert json.loads(orjson.dumps(found.to_dict()))["rows"]["done"] == 21


def test_the_last_output_counts_and_a_null_hides_none(tmp_path: Path) -> None:
    """As in `status`; what was paid counts for every entry."""
    ledger = lay(
        tmp_path,
        [("0", None), ("1", "a"), ("0", "b"), ("1", None), ("2", None), ("3", "c"), ("3", "d")],
        failed("0"),
        call("1"),
        call("0", attempts=3),
        failed("1", attempts=2, usage=USAGE, cost=0.25),
        failed("2"),
        call("3"),
        call("3"),
    )
    found = gather(ledger)
    assert (found.rows.done, found.rows.failed, found.rows.left) == (3, 1, None)
    assert (found.work.calls, found.work.retries) == (10, 3)
    assert (found.total.prompt, found.total.completion) == (50, 15)
    assert found.total.cost == found.total.cost_told == 2.25
    assert found.failures == [Group("timeout", 1, [Example("2", "slow")])]
    outputs = {item.index: item.output for item in found.sample}
    assert outputs == {"0": Text("b", 1), "1": Text("a", 1), "2": None, "3": Text("d", 1)}
    assert found.sample[0].index == "2", "failed rows first"


def test_a_row_fails_for_the_last_reason_given(tmp_path: Path) -> None:
    """With up to five examples of each reason, and those of which nothing is known apart."""
    ledger = lay(
        tmp_path,
        [(str(number), None) for number in range(10)] + [("x", "y")],
        *(failed(str(number), message=f"m{number}") for number in range(9)),
        failed("0", "refusal", "no"),
        failed("0", "refusal", "never"),
        failed("x"),
        call("x"),
    )
    reasons = gather(ledger).failures
    assert [(group.code, group.count) for group in reasons] == [
        ("timeout", 8),
        ("refusal", 1),
        ("unknown", 1),
    ]
    assert reasons[0].examples == [Example(str(n), f"m{n}") for n in range(1, 6)]
    assert reasons[1].examples == [Example("0", "never")]
    assert [example.index for example in reasons[2].examples] == ["9"]


def test_models_live_and_in_batches(tmp_path: Path) -> None:
    """Told costs and estimated ones apart; a batch at its own price; what has none is counted."""
    priced = {"model": "gpt-4.1-mini", "cost": None}
    tokens = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    ledger = lay(
        tmp_path,
        [(str(number), "x") for number in range(5)],
        call("0", **priced, usage=tokens),
        call("1", **priced, usage=tokens, batch="batch_1", latency_s=0.0, started=NOON - 9000),
        call("2", cost=0.125),
        call("3", cost=None),
        call("4", model="gpt-4.1-mini", usage=None, cost=None, cached=True, attempts=0),
    )
    assert {item.cost for item in gather(ledger).spent} == {None, 0.125}, "run priced no more"
    found = gather(ledger, prices=Prices(own={"gpt-4.1-*": parse_price("input=0.4,output=1.6")}))
    spent = {(item.model, item.batch): item for item in found.spent}
    live, batch = spent["gpt-4.1-mini", False], spent["gpt-4.1-mini", True]
    assert live.cost_estimated == pytest.approx(0.4)
    assert batch.cost_estimated == pytest.approx(0.2)
    assert (live.entries, batch.entries, live.cost_told) == (2, 1, None)
    assert (spent["none-such", False].cost, spent["none-such", False].unpriced) == (0.125, 1)
    assert found.total.cost == pytest.approx(0.725)
    assert found.price_source == "--price"
    assert (found.work.batch, found.work.cached, found.latency.count) == (1, 1, 3)
    assert found.timeline.peak_in_flight <= 3, "nobody waited for the batch"
    assert sum(item.done for item in found.timeline.slices) == 4, "nor does it count as a burst"
    assert found.batches == [Batch("batch_1", 1, 0, NOON - 9000, NOON + 1)]
    assert found.log.first == NOON - 9000
    text = " ".join(found.notes)
    assert "1 row came in batches" in text
    assert "1 row answered from the cache" in text
    assert "no cost of 1 entries" in text
    html = page(found)
    assert "estimated" in html
    assert ">batch</span>" in html


def test_what_the_input_tells(tmp_path: Path) -> None:
    """Rows that are left, of another input, and that cannot be used; texts beside the outputs."""
    ledger = lay(tmp_path, [("0", "a"), ("1", None), ("x", "y")], call("0"), failed("1"), call("x"))
    messages = [{"role": "user", "content": "Hi"}, {"role": "user", "content": [{"type": "x"}]}]
    data = write_rows(
        tmp_path / "data.jsonl",
        [row(5), {"index": 0, "messages": messages}, row(1), row(1), {"index": 9}],
    )
    found = gather(ledger, data)
    rows = found.rows
    assert (rows.total, rows.left, rows.foreign, rows.bad) == (3, 1, 1, 2)
    assert [item.index for item in found.sample] == ["1", "0", "x"]
    assert found.sample[0].instruction == Text("Repeat.", 7)
    turns = found.sample[1].input
    assert turns is not None
    assert turns.shown == 'user: Hi\n\nuser: {"type":"x"}'
    assert found.sample[2].input is None


def test_without_a_call_log(tmp_path: Path) -> None:
    """What can be said is said, and what cannot is named with its reason."""
    found = gather(lay(tmp_path, [("0", "a"), ("1", None)]))
    assert (found.rows.done, found.rows.failed, found.log.found) == (1, 1, False)
    assert [(group.code, group.count) for group in found.failures] == [("unknown", 1)]
    assert any("no call log (output.calls.jsonl)" in note for note in found.notes)
    html = page(found)
    assert "no call log (output.calls.jsonl)" in html
    assert "<svg" not in html


def test_an_empty_ledger(tmp_path: Path) -> None:
    """Nothing is divided by nothing."""
    found = gather(lay(tmp_path, []))
    assert (found.rows.done, found.rows.failed) == (0, 0)
    assert "<h2" in page(found)


def test_damaged_lines_and_those_of_a_later_version(tmp_path: Path) -> None:
    """They are passed over and counted; a line that is being written is not."""
    ledger = lay(tmp_path, [("0", "a"), ("1", "b")], call("0"))
    with path_for(ledger).open("a", encoding="utf-8") as stream:
        stream.write('{"index":"1","sta\n[1]\n{"index":7,"status":"ok"}\n')
        stream.write('{"index":"1","status":"postponed"}\n{"v":2}\n\n{"run":{"of":"later"}}\n')
        stream.write('{"index":"1","status":"o')
    with ledger.open("a", encoding="utf-8") as stream:
        stream.write('{"2":\n')
    found = gather(ledger)
    assert (found.log.entries, found.log.passed_over, found.log.runs) == (1, 5, 1)
    assert found.rows.damaged == 1
    text = " ".join(found.notes)
    assert "5 lines of the call log" in text
    assert "1 entries for 2 rows" in text
    assert "1 line of the ledger" in text


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from([1e308, -1, 2**63, 2**70, "gpt-4.1-mini", "#1(…a)", "HTTP 429: x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "code",
                    "message",
                    "attempts",
                    "model",
                    "finish_reason",
                    "usage",
                    "cost",
                    "latency_s",
                    "key",
                    "started",
                    "ended",
                    "cached",
                    "batch",
                    "fingerprint",
                ]
            ),
            ANY | st.fixed_dictionaries({"prompt_tokens": ANY, "completion_tokens": ANY}),
        ),
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_stands_in_a_field(tmp_path_factory: Any, fields: list[dict[str, Any]]) -> None:
    """Nothing in a call log breaks a report, neither as a page nor as JSON."""
    folder = tmp_path_factory.getbasetemp() / "fields"
    folder.mkdir(exist_ok=True)
    calls = [
        {"index": str(number), "status": ("ok", "failed")[number % 2], **more}
        for number, more in enumerate(fields)
    ]
    ledger = lay(folder, [("0", "a"), ("1", None)], *calls, call("9"))
    found = gather(ledger)
    json.loads(orjson.dumps(found.to_dict()))
    assert found.log.entries + found.log.passed_over == len(calls) + 1
    assert page(found) == page(gather(ledger))


def test_what_is_no_ledger(tmp_path: Path) -> None:
    """A missing file, a folder, a foreign file: errors that name them."""
    with pytest.raises(InputError, match="no such ledger"):
        gather(tmp_path / "none")
    with pytest.raises(InputError, match="no such ledger"):
        gather(tmp_path)
    with pytest.raises(LedgerError, match="no ledger"):
        gather(write_rows(tmp_path / "data.jsonl", [row(1)]))


# --- time


def timeline_of(calls: Iterable[tuple[float, float]]) -> Timeline:
    clockwork = Clockwork()
    for started, ended in calls:
        clockwork.add(ended, is_done=True, started=started)
    return clockwork.result()


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 5000)).map(
            lambda pair: (NOON + round(pair[0], 3), NOON + round(sum(pair), 3))
        ),
        min_size=1,
        max_size=600,
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_time_in_few_slices(calls: list[tuple[float, float]], chance: random.Random) -> None:
    """However many there are and in whatever order: every row once, every second in flight once."""
    found = timeline_of(calls)
    assert len(found.slices) <= MAX_SLICES
    assert sum(item.done for item in found.slices) == len(calls)
    seconds = sum(item.in_flight for item in found.slices) * found.width_s
    for before, after in itertools.pairwise(found.slices):  # what went on where no slice is
        seconds += before.after * (after.start - before.start - found.width_s)
    assert seconds == pytest.approx(sum(e - s for s, e in calls), rel=1e-3, abs=found.width_s)
    assert found.slices[-1].after == 0
    shuffled = calls.copy()
    chance.shuffle(shuffled)
    again = timeline_of(shuffled)
    assert [(s.start, s.done) for s in again.slices] == [(s.start, s.done) for s in found.slices]


def test_a_pause_is_left_out() -> None:
    """Two runs a week apart are drawn as if they followed each other, unless a call went on."""
    runs = [(NOON + n / 10, NOON + n / 10 + 1) for n in range(100)]
    later = [(start + 7 * 86_400, end + 7 * 86_400) for start, end in runs]
    found = timeline_of(runs + later)
    assert len(stretches(found)) == 2
    assert found.width_s < 1
    assert found.rows_per_s == pytest.approx(200 / 22, rel=0.1)
    assert len(stretches(timeline_of([*runs, *later, (NOON, NOON + 7 * 86_400)]))) == 1


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_percentiles_within_their_error(durations: list[float]) -> None:
    """Of the exact ones; the bands hold every call once."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    found, ordered = histogram.result(), sorted(durations)
    for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = ordered[max(0, -int(-part * len(ordered) // 1) - 1)]
        # It is told in tenths of a millisecond, and the middle of a band is no round number.
        assert abs(getattr(found, name) - exact) <= found.relative_error * exact + 1e-4
    assert found.longest == pytest.approx(ordered[-1], abs=1e-4)
    assert found.mean == pytest.approx(statistics.fmean(durations), abs=1e-3)
    assert sum(band.count for band in found.bands) == found.count == len(durations)
    assert len(found.bands) <= 40


# --- sample


@given(st.lists(st.integers(0, 400), max_size=300), st.integers(0, 20))
def test_the_sample_is_that_of_the_lowest_ranks(indices: list[int], size: int) -> None:
    """Whatever the order and the repetitions; each with the last place it stands at."""
    lottery = Lottery(size)
    lottery.put((place_of(str(index)), at) for at, index in enumerate(indices))
    lowest = sorted({place_of(str(index)) for index in indices}, key=rank_of)[:size]
    last = {place_of(str(index)): at for at, index in enumerate(indices)}
    assert lottery.chosen() == {place: last[place] for place in lowest}


def test_half_of_the_sample_are_failures(tmp_path: Path) -> None:
    """Unless there are fewer of them, or of the others; all over the file."""
    outputs = [(str(number), "x" if number % 3 else None) for number in range(3000)]
    found = gather(lay(tmp_path, outputs), sample=60).sample
    assert [item.output is None for item in found] == [True] * 30 + [False] * 30
    assert len({item.index for item in found}) == 60
    assert min(sum(int(item.index) // 1000 == k for item in found) for k in range(3)) > 5
    few = gather(lay(tmp_path, outputs[:6]), sample=60).sample
    assert [item.output is None for item in few] == [True] * 2 + [False] * 4
    assert gather(lay(tmp_path, outputs), sample=0).sample == []


# --- page

EVIL = (
    "</script></style></title></textarea><script>document.documentElement.dataset.ran='script';"
    "fetch('https://evil.invalid/')</script><img src=https://evil.invalid/x.png onerror="
    "\"document.documentElement.dataset.ran='img'\"><svg onload='document.documentElement."
    "dataset.ran=1'></svg><iframe src=\"javascript:top.ran=1\"></iframe><!-- <b style='color:red' "
    "onclick=ran()> ]]> {{ 7*7 }} {% raw %} \u2028\u2029\u202e\0 &lt;i&gt; \" ' ` "
)


@pytest.fixture
def evil(tmp_path: Path) -> Report:
    """A report whose every text from outside is hostile."""
    ledger = lay(
        tmp_path,
        [(EVIL + str(number), EVIL * 30 if number % 2 else None) for number in range(60)],
        *(
            call(
                EVIL + str(number),
                model=EVIL,
                key=EVIL,
                finish_reason=EVIL,
                batch=EVIL * (number == 7),
            )
            if number % 2
            else failed(EVIL + str(number), EVIL, EVIL, key=f"#{number}{EVIL}")
            for number in range(60)
        ),
    )
    data = [row(EVIL + str(n), EVIL * 9) | {"instruction": EVIL} for n in range(0, 60, 3)]
    found = gather(ledger, write_rows(tmp_path / f"{'<b onclick=ran()>'}.jsonl", data))
    found.ledger = EVIL
    return found


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def test_no_element_comes_from_data(evil: Report) -> None:
    """The same elements and attributes whatever the texts; no links, no handlers, no styles."""
    elements = Elements(page(evil))
    assert {tag for tag, _ in elements.found} & {"img", "iframe", "a", "b", "link"} <= {"b"}
    names = {name for _, attributes in elements.found for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"href", "src", "srcdoc", "style", "action", "xlink:href"}
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert [tag for tag, _ in elements.found].count("style") == 1
    values = [str(value) for _, attributes in elements.found for value in attributes.values()]
    assert not [value for value in values if "evil" in value or "ran" in value.split()]
    text = "".join(elements.texts)
    assert "document.documentElement.dataset.ran='script'" in text
    assert "{{ 7*7 }}" in text
    assert "\0" not in text


def test_the_policy_names_our_own_script_and_style(evil: Report) -> None:
    """By the hashes of what stands in the page, and nothing else may load."""
    html = page(evil)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;;") or "default-src 'none'" in policy[1]
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"sha256-{digest}" in policy[1].replace("&#43;", "+")


def test_the_same_page_for_the_same_files(evil: Report, stage: Stage) -> None:
    """No time of making, no chance: the same bytes, in another process too."""
    stage.run([row(n) for n in range(9)] + [row(9, "[[fault:content_policy]]")])
    pages = []
    for name in ("a.html", "b.html"):
        words = ("report", stage.output, "--data", stage.data, "-o", name)
        assert stage.cli(*words).returncode == 0
        pages.append((stage.folder / name).read_bytes())
    assert pages[0] == pages[1]
    assert page(evil) == page(evil)


@pytest.mark.parametrize("size", [200, 2000])
@pytest.mark.parametrize("text", ['"&<' * 700_000, "\N{SMILING FACE WITH SUNGLASSES}" * 500_000])
def test_a_page_stays_below_five_megabytes(tmp_path: Path, size: int, text: str) -> None:
    """Whatever the size of texts, and however many keys, models and reasons there are."""
    name = '"&' * 60
    rows = [
        Row(
            name, Text(text[:400], len(text)), Text(text[:400], 9), Text(text[:400], 9), {"a": name}
        )
        for _ in range(size)
    ]
    calls = [
        (call if n % 2 else failed)(str(n), model=f"{n}{name}", key=f"{n}{name}", code=f"{n}{name}")
        | {"message": f"{n}" + '"' * 1000, "ended": NOON + n * n}
        for n in range(4000)
    ]
    found = gather(
        lay(tmp_path, [(str(n), "x" * (n % 2) or None) for n in range(4000)], *calls), sample=0
    )
    found.sample = rows
    assert len(page(found).encode()) < 5_000_000


def test_texts_of_megabytes(tmp_path: Path) -> None:
    """They are cut in the page, and it says by how much."""
    ledger = lay(tmp_path, [(str(n), "y" * 2_000_000) for n in range(5)], call("0"))
    html = page(gather(ledger))
    assert len(html) < 100_000
    assert "1,996,000 characters left out" in html


def test_numbers_for_people() -> None:
    """Never rounded to nothing or to all."""
    assert [money(x) for x in (None, 0.0, 0.000123, 1.5, 1234.5)] == [
        "–",
        "$0.00",
        "$0.0001230",
        "$1.500",
        "$1,234.50",
    ]
    assert [share(*x) for x in ((0, 0), (0, 9), (1, 10**6), (10**6 - 1, 10**6), (1, 3))] == [
        "–",
        "0 %",
        "0.01 %",
        "99.99 %",
        "33.33 %",
    ]


# --- command


def test_the_command(stage: Stage) -> None:
    """A page where it is told to, numbers on stdout, and no file of the run overwritten."""
    stage.run([row(0), row(1, "[[fault:content_policy]]")])
    result = stage.cli("report", stage.output)
    assert (result.returncode, result.stdout) == (0, "")
    assert "done 1, failed 1" in result.stderr
    assert (stage.folder / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    (stage.folder / "report.html").unlink()
    result = stage.cli("report", stage.output, "--data", stage.data, "--json")
    assert json.loads(result.stdout) == json.loads(
        orjson.dumps(gather(stage.output, stage.data).to_dict())
    )
    assert not (stage.folder / "report.html").exists()
    before = stage.output.read_bytes()
    for target in (stage.output, path_for(stage.output)):
        result = stage.cli("report", stage.output, "-o", target)
        assert result.returncode == 2
        assert "would overwrite" in result.stderr
    assert stage.output.read_bytes() == before
    result = stage.cli("report", "none.jsonl")
    assert result.returncode == 2
    assert "no such ledger" in result.stderr


# --- a real browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
#: Chromium reads commands from descriptor 3 and writes answers to 4.
_EXEC = """import os, sys
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"""


class Browser:
    """Chromium, told what to do by its DevTools protocol through two pipes."""

    def __init__(self, answers: IO[bytes], commands: IO[bytes]) -> None:
        self._in, self._out = answers, commands
        self._rest, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    session: str | None = None

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 60)[0], "the browser says nothing"
            data = self._in.read(1 << 16)
            assert data, "the browser ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def open(self, path: Path) -> None:
        self.send("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, script: str) -> Any:
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def said(self, *methods: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") in methods]


def high_pipe() -> list[int]:
    """Make a pipe of high numbers, so that making them 3 and 4 closes none of them."""
    import fcntl  # noqa: PLC0415  # Windows has none, and skips these tests

    pipe = os.pipe()
    high = [fcntl.fcntl(number, fcntl.F_DUPFD, 20) for number in pipe]
    for number in pipe:
        os.close(number)
    return high


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, ended with the test."""
    if BROWSER is None or os.name == "nt":
        pytest.skip("there is no chromium that listens to pipes")
    inner_in, outer_out = high_pipe()
    outer_in, inner_out = high_pipe()
    words = [sys.executable, "-c", _EXEC, str(inner_in), str(inner_out), BROWSER, *FLAGS]
    with subprocess.Popen(
        [*words, f"--user-data-dir={tmp_path / 'profile'}"],
        pass_fds=(inner_in, inner_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path)},
    ) as process:
        os.close(inner_in)
        os.close(inner_out)
        with os.fdopen(outer_in, "rb", 0) as answers, os.fdopen(outer_out, "wb", 0) as commands:
            try:
                yield Browser(answers, commands)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()


PHONE = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
TYPE = """(words) => {
    const input = document.getElementById("words");
    input.value = words;
    input.dispatchEvent(new Event("input"));
    return [...document.querySelectorAll(".row")].filter((r) => !r.hidden).length;
}"""


def test_nothing_of_the_data_runs(browser: Browser, evil: Report, tmp_path: Path) -> None:
    """In a real browser: no script of theirs, no request, no complaint; the search works."""
    target = tmp_path / "evil.html"
    target.write_text(page(evil), encoding="utf-8", newline="")
    browser.open(target)
    assert browser.run("document.documentElement.dataset.ran ?? window.ran ?? null") is None
    assert browser.run("document.querySelectorAll('img, iframe, main svg:not(.chart)').length") == 0
    assert browser.run("document.scripts.length") == 1
    assert browser.run(f"({TYPE})('')") == 20, "our own script ran"
    assert browser.run(f"({TYPE})('<SCRIPT> fetch')") == 20
    assert browser.run(f"({TYPE})('nowhere')") == 0
    assert browser.run("document.getElementById('found').textContent").startswith("0 of 60")
    assert browser.run(f"({TYPE})('{'zz'}')") == 0
    browser.run("document.getElementById('kind').value = 'failed'")
    assert browser.run(f"({TYPE})('')") == 20
    browser.run("document.getElementById('more').click()")
    assert browser.run("document.querySelectorAll('.row:not([hidden])').length") == 30
    assert browser.said("Log.entryAdded", "Runtime.consoleAPICalled") == []
    assert browser.said("Runtime.exceptionThrown") == []
    requests = [event["request"]["url"] for event in browser.said("Network.requestWillBeSent")]
    assert requests == [target.as_uri()]
    browser.send("Emulation.setDeviceMetricsOverride", **PHONE)
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_it_can_be_read_on_a_phone_in_the_dark_and_on_paper(browser: Browser, stage: Stage) -> None:
    """Nothing sticks out at 360 px, even where a text has no spaces; dark colours where asked."""
    rows = [row(n, "x" * 300) for n in range(30)] + [row(30, "[[fault:content_policy]]")]
    stage.run(rows)
    target = stage.folder / "report.html"
    target.write_text(page(gather(stage.output, stage.data)), encoding="utf-8", newline="")
    browser.send("Emulation.setDeviceMetricsOverride", **PHONE)
    browser.open(target)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    colour = "getComputedStyle(document.body).backgroundColor"
    schemes = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.send("Emulation.setEmulatedMedia", features=features)
        schemes[scheme] = browser.run(colour)
    assert schemes == {"light": "rgb(246, 247, 249)", "dark": "rgb(18, 22, 28)"}
    browser.send("Emulation.setEmulatedMedia", media="print", features=features)
    assert browser.run(colour) == "rgb(255, 255, 255)"
    assert browser.run("document.querySelectorAll('svg.chart[role=img][aria-label]').length") == 3
    pdf = browser.send("Page.printToPDF")["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")


# --- quality


@pytest.mark.parametrize("has_data", [True, False])
def test_what_would_spoil_training_is_named_with_examples(
    tmp_path: Path, *, has_data: bool
) -> None:
    """The last output counts; echoes and formats are known with the input alone."""
    rows = [row(number, f"Why is number {number} the best of all?") for number in range(8)]
    rows[6]["params"] = {"response_format": {"type": "json_object"}}
    rows[7]["index"] = "bad</script>"
    same = "One and the same long sentence under two different questions."
    asked = f"{rows[5]['instruction']} {rows[5]['input']}"
    outputs: list[tuple[str, Any]] = [
        ("0", "I'm sorry, but I can't help with that."),
        ("0", "It is round."),
        ("1", "It is"),
        ("2", " "),
        ("4", same),
        ("3", same),
        ("5", asked),
        ("6", "no JSON"),
        ("bad</script>", "抱歉，我无法提供该信息。<script>alert(1)</script>"),
    ]
    ends = [call("1", finish_reason="length"), call("0", finish_reason="length"), call("0")]
    ledger = lay(tmp_path, [*outputs, ("x", None)], *ends, failed("x", "content_filter"))
    data = write_rows(tmp_path / "data.jsonl", rows) if has_data else None
    report = gather(ledger, data)
    found = report.quality
    counts = {finding.reason: finding.outputs for finding in found.findings}
    expected = {"empty": 1, "length": 1, "refusal": 1, "duplicate": 1, "echo": 1, "schema": 1}
    if not has_data:
        expected |= {"echo": 0, "schema": 0}
    assert counts == expected
    assert (found.outputs, found.spoilt) == (8, sum(expected.values()))
    assert found["refusal"].nulls == 1
    assert [item.index for item in found["duplicate"].examples] == ["4" if has_data else "3"]
    assert json.loads(orjson.dumps(report.to_dict()))["quality"]["spoilt"] == found.spoilt
    html = page(report)
    assert "Quality of the data" in html
    assert "<code>merge --drop-reasons length</code>" in html
    assert "bad&lt;/script&gt;" in html
    assert "<script>alert" not in html
    assert ("Without the input (--data)" in html) != has_data


def test_report_prices_what_run_did_not_with_your_prices_alone(stage: Stage) -> None:
    """A server of one's own costs nothing by the log, whatever its model is called."""
    ledger = lay(stage.folder, [("0", "x")], call("0", model="gpt-4.1-mini", cost=None))

    def told(*words: str) -> Any:
        result = stage.cli("report", str(ledger), "--json", *words)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["total"]

    assert (told()["cost_estimated"], told()["unpriced"]) == (None, 1)
    assert told("--price", "input=1,output=10")["cost_estimated"] == pytest.approx(4e-05)
    prices = stage.folder / "prices.json"
    prices.write_text('{"gpt-*": {"input": 2, "output": 20}}', encoding="utf-8")
    assert told("--prices", str(prices))["cost_estimated"] == pytest.approx(8e-05)
