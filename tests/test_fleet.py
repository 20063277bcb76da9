"""Sharing out keys and threads, and what a lead makes of what its workers tell; without Ray."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import KEYS, FakeClock, row, write_rows

from jsonl_runner import ParallelToolkit, __version__
from jsonl_runner.clock import Stop
from jsonl_runner.config import load
from jsonl_runner.engines.station import Station
from jsonl_runner.errors import ConfigError, NoUsableKeyError, WrongEndpointError
from jsonl_runner.fleet.duty import Brief, CrewDuty, Told, Word, digest_of
from jsonl_runner.fleet.lead import RunLead
from jsonl_runner.fleet.posts import Post, groups_of, posts_of, share_of
from jsonl_runner.fleet.purse import Purse
from jsonl_runner.keys import KeysView
from jsonl_runner.snapshot import KeyView
from jsonl_runner.spending import Lack, Spending, Spent, Use, _Learnt

if TYPE_CHECKING:
    from support import Stage

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=12)


def grouped(sizes: list[int]) -> list[tuple[int, ...]]:
    positions = iter(range(1, sum(sizes) + 1))
    return [tuple(next(positions) for _ in range(size)) for size in sizes]


@given(SIZES, st.integers(1, 40), st.integers(1, 300))
def test_every_key_has_a_worker_and_every_thread_is_given(
    sizes: list[int], workers: int, threads: int
) -> None:
    """For every sharing out: groups stay whole, keys are with one worker or with all sharers."""
    groups = grouped(sizes)
    posts = posts_of(groups, workers, threads)
    assert len(posts) == min(workers, threads)
    assert sum(post.threads for post in posts) == threads
    assert min(post.threads for post in posts) >= 1
    for group in groups:
        having = [post for post in posts if set(group) & set(post.keys)]
        assert all(set(group) <= set(post.keys) for post in having)
        assert {post.sharers for post in having} == {len(having)}
    if len(posts) <= len(groups):
        assert all(post.sharers == 1 for post in posts)


@given(st.integers(1, 100), st.integers(1, 100))
def test_shares_of_calls_are_all_there_is(total: int, sharers: int) -> None:
    """For every number of sharers: no call too many, as long as there is one for each."""
    assert sum(share_of(total, sharers, place) for place in range(sharers)) == max(total, sharers)


def test_groups_are_as_configured_and_each_other_key_by_itself() -> None:
    """A position beyond the keys is named."""
    config = load(None, {"api_keys": [*KEYS, "sk-test-c"], "key_groups": [[3, 1]]}, {})
    assert groups_of(config) == [(1, 3), (2,)]
    wrong = load(None, {"api_keys": list(KEYS), "key_groups": [[3]]}, {})
    with pytest.raises(ConfigError, match="key_groups names key 3, and there are 2 keys"):
        groups_of(wrong)


@given(
    workers=st.integers(1, 8),
    limit=st.integers(0, 3000),
    steps=st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 9)), max_size=80),
    is_known=st.booleans(),
)
def test_what_workers_spend_is_never_more_than_the_limit_and_all_of_it_is_used(
    workers: int, limit: int, steps: list[tuple[int, bool, int]], *, is_known: bool
) -> None:
    """For every number of workers, also when some die: calls of 10 tokens, one at a time each."""
    config = load(None, {"max_tokens_total": max(1, limit)}, {})
    learnt = _Learnt()
    if is_known:
        learnt.add(20, 5, 5)
    spending = Spending(config, FakeClock(), Spent(learnt=learnt))
    purse = Purse(spending, workers)
    used = [0] * workers
    lost = 0
    lack = None
    # After these steps, all in turn until nobody can pay.
    turns = itertools.chain(steps, ((turn % workers, True, 1) for turn in range(2000)))
    for which, has_rows, dies in turns:
        number = which % workers
        if dies == 0:
            purse.lost(number, 0)  # with nothing in flight
            lost, used[number] = lost + used[number], 0
        purse.gave(number)
        grant = purse.grant(number)
        assert grant.tokens is not None
        while has_rows and used[number] + 10 <= grant.tokens:
            used[number] += 10
        why = Lack("--max-tokens-total", 10) if has_rows else None
        spent = Spent(0.0, used[number], 0, grant.known.learnt)
        lack = purse.heard(number, Use(spent, 0, why, grant[:2]), has_rows=has_rows)
        assert lost + sum(used) <= max(1, limit)
        if lack is not None:
            break
    assert lack is not None
    assert lost + sum(used) > limit - 10
    assert spending.view()["tokens_spent"] == lost + sum(used)


class Led:
    """A lead of some workers, and what it has said."""

    def __init__(self, *posts: Post, keys: int = 2) -> None:
        self.clock = FakeClock()
        self.stop = Stop()
        self.notes: list[str] = []
        names = [f"sk-test-{number:04}" for number in range(1, keys + 1)]
        config = load(None, {"api_keys": names}, {})
        self.labels = [key.label for key in config.api_keys]
        self.lead = RunLead(
            config,
            posts,
            clock=self.clock,
            stop=self.stop,
            note=self.notes.append,
            function=None,
            spending=None,
        )

    def hear(self, number: int, *keys: KeyView, has_worked: bool = True, **view: Any) -> None:
        states = [key.state for key in keys]
        given_ = {"in_flight": 0, "calls": 0, "waiting_for": "", "trouble": "", **view}
        for state in ("ready", "cooling", "retired"):
            given_[state] = states.count(state)
        self.lead.heard(number, Told(KeysView(**given_), keys, (), has_worked), has_rows=True)


def test_keys_of_several_workers_are_shown_as_one_table() -> None:
    """Numbers of sharers add up, what a dead worker did stays counted, cooldowns go on."""
    led = Led(Post((1,), 2, 4), Post((1,), 2, 4), Post((2,), 1, 4))
    one, two = led.labels
    assert led.lead.view().waiting_for == "Ray starts 3 workers"
    led.hear(0, KeyView(one, calls=10, in_flight=2, limit=4))
    led.hear(1, KeyView(one, "cooling", "slow_down", calls=5, refused=1, cooldown_s=8.0, limit=2))
    led.hear(2, KeyView(two, "cooling", "slow_down", calls=1, cooldown_s=5.0))
    first, second = led.lead.keys()
    assert (first.calls, first.in_flight, first.limit, first.state) == (15, 2, 6, "cooling")
    assert led.lead.view().waiting_for == "all 2 keys are cooling, next ready in 5.0 s"
    assert led.lead.is_stuck(2)
    assert not led.lead.is_stuck(0)
    led.clock.advance(6)
    first, second = led.lead.keys()
    assert (first.state, second.state) == ("cooling", "ready")
    led.lead.lost(1, 7, "its node is gone")
    assert led.notes == ["worker 2 is gone, and its 7 rows are done again: its node is gone"]
    first, second = led.lead.keys()
    assert (first.calls, first.refused, first.state) == (15, 1, "ready")
    assert (second.calls, led.lead.view().calls) == (1, 16)


def test_what_one_is_told_of_a_key_its_sharers_hear_once() -> None:
    """A refusal's cooldown and a retirement go to the others with their next orders."""
    led = Led(Post((1,), 2, 4), Post((1,), 2, 4), keys=1)
    (label,) = led.labels
    led.hear(0, KeyView(label, "cooling", "slow_down", refused=1, cooldown_s=8.0))
    led.clock.advance(3)
    assert led.lead.word(1) == Word(2, 1, {}, {label: (5.0, "slow_down")})
    assert led.lead.word(1) == Word(2, 1, {}, {})
    # It rests because it was told to, not because it was refused: that is no news to the first.
    led.hear(1, KeyView(label, "cooling", "slow_down", cooldown_s=5.0))
    assert led.lead.word(0) == Word(2, 0, {}, {})
    led.hear(1, KeyView(label, "retired", "invalid_api_key: no"))
    assert led.lead.word(0) == Word(2, 0, {label: "invalid_api_key: no"}, {})
    assert led.lead.view().losses == (f"key {label} is retired: invalid_api_key: no",)


def test_the_share_of_a_worker_that_ends_goes_to_the_others() -> None:
    """Whoever is left hears that there are fewer of them."""
    led = Led(Post((1,), 2, 4), Post((1,), 2, 4), keys=1)
    led.lead.ended(0, ConfigError("this node lacks a key"), is_last=False)
    assert led.lead.word(1) == Word(1, 0, {}, {})
    assert led.notes == ["worker 1 does no more, others do its rows: this node lacks a key"]


def test_a_wrong_address_ends_the_run_and_a_model_some_keys_lack_does_not() -> None:
    """As on one machine: the run ends when nobody can succeed."""
    led = Led(Post((1,), 1, 4), Post((2,), 1, 4))
    led.hear(0, KeyView(led.labels[0], "retired", "model_not_found: no"), has_worked=False)
    led.lead.ended(0, WrongEndpointError("model_not_found: check model"), is_last=False)
    assert not led.stop.requested
    led.hear(1, KeyView(led.labels[1], "retired", "invalid_api_key: no"), has_worked=False)
    led.lead.ended(1, NoUsableKeyError.of([("#2", "no")]), is_last=True)
    assert str(led.stop.reason).startswith("all 2 keys are finished: #1")
    led = Led(Post((1,), 1, 4), Post((2,), 1, 4))
    led.hear(0, KeyView(led.labels[0]), has_worked=False)
    led.lead.ended(0, WrongEndpointError("http_404: check api_base"), is_last=False)
    assert isinstance(led.stop.reason, WrongEndpointError)


def test_a_brief_holds_no_key_and_its_worker_finds_them(stage: Stage) -> None:
    """Digests lead to the keys of the node's own file, under the labels that they have here."""
    config = load(stage.config_file(), None, {})
    lead = RunLead(
        config,
        [Post((2,), 1, 3)],
        clock=FakeClock(),
        stop=Stop(),
        note=print,
        function=None,
        spending=Spending(config, FakeClock()),
    )
    made = lead.duty(0)
    assert not any(key in repr(made) for key in KEYS)
    duty = made()
    assert isinstance(duty, CrewDuty)
    assert duty.threads == 3
    told = duty.tell()
    assert told is not None
    assert [key.label for key in told.keys] == [config.api_keys[1].label]
    duty.close()


def test_a_node_that_lacks_a_key_says_so(stage: Stage) -> None:
    """It is named by its position."""
    config = load(stage.config_file(), None, {})
    keys = {digest_of("sk-test-other", b"salt"): 3}
    brief = Brief(config, config.file, keys, b"salt", Word(1, 0, {}, {}), None, is_priced=False)
    with pytest.raises(ConfigError, match="has no key #3: put the keys into"):
        CrewDuty(brief)


@pytest.mark.parametrize(
    ("version", "make", "words"),
    [
        ("0.0", b"unread", "and the run is led by 0.0: install the same on every node"),
        (
            __version__,
            b"cnowhere\nthing\n.",
            "No module named 'nowhere'.: install the same",
        ),
    ],
)
def test_a_node_with_other_packages_says_so(version: str, make: bytes, words: str) -> None:
    """Another version by its number, before anything of it is read; a package by its name."""
    report = Station().open(version, make)
    assert report.is_over
    assert isinstance(report.ended, ConfigError)
    assert re.search(words, str(report.ended))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"api_keys": list(KEYS)}, "keys that are given as arguments reach no other machine"),
        ({"cache": True}, "a cache is one machine's"),
    ],
)
def test_what_cannot_be_done_elsewhere_is_refused(
    stage: Stage, overrides: dict[str, Any], words: str
) -> None:
    """Before Ray is even looked for, in one line."""
    write_rows(stage.data, [row(1)])
    tool = ParallelToolkit(
        stage.config_file(),
        stage.data,
        stage.output,
        quiet=True,
        engine="ray",
        ray_address="auto",
        **overrides,
    )
    with pytest.raises(ConfigError, match=words):
        tool.run()


def test_without_a_key_it_says_so_as_on_one_machine(stage: Stage) -> None:
    """Nobody looks for a cluster either."""
    write_rows(stage.data, [row(1)])
    config = stage.config_file(api_keys=[])
    tool = ParallelToolkit(config, stage.data, stage.output, quiet=True, engine="ray")
    with pytest.raises(ConfigError, match="no API key: put it into"):
        tool.run()


def test_without_ray_it_says_what_to_install(stage: Stage) -> None:
    """One line with the command."""
    try:
        import ray  # noqa: F401, PLC0415
    except ImportError:
        write_rows(stage.data, [row(1)])
        result = stage.run_cli("--engine", "ray")
        assert result.returncode == 2
        assert "pip install 'jsonl-runner[ray]'" in result.stderr
    else:
        pytest.skip("Ray is here")
