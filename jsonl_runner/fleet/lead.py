"""Where a run over a cluster is led: what each worker is told, and what all have told, as one.

It is the books of the run's keys, as the rotator is where there is one process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ..errors import JsonlRunnerError, NoUsableKeyError, WrongEndpointError
from ..keys import KeysView
from ..limits import in_words
from ..snapshot import KeyView
from .duty import SALT_BYTES, Brief, CrewDuty, Told, Word, digest_of
from .purse import Purse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..assembly import StandIn
    from ..clock import Clock, Stop
    from ..config import Config
    from ..engines.station import Duty
    from ..spending import Spending
    from .posts import Post

#: Seconds. For a shorter cooldown a row is not given to another worker.
_A_WHILE_S = 1.0


@dataclass
class _Member:
    """A worker as its lead knows it."""

    post: Post
    told: Told | None = None
    told_at: float = 0.0
    #: Why it does no more; None while it does.
    ended: JsonlRunnerError | None = None
    #: What it is to be told of its keys: why they are retired; until when they rest, and why.
    retired: dict[str, str] = field(default_factory=dict)
    cooled: dict[str, tuple[float, str]] = field(default_factory=dict)


class RunLead:
    """Leads the workers of a run; see `engines.ray.Lead`, and `keys.Books`.

    Args:
        config: the settings.
        posts: what each worker has.
        clock: where the time comes from.
        stop: requested when nobody can succeed.
        note: tells the user.
        function: stands in for the provider.
        spending: what calls cost and may cost; None: nobody asks.
    """

    def __init__(
        self,
        config: Config,
        posts: Sequence[Post],
        *,
        clock: Clock,
        stop: Stop,
        note: Callable[[str], None],
        function: StandIn | None,
        spending: Spending | None,
    ) -> None:
        # A worker has no other engine below it.
        self._config = replace(config, api_keys=(), engine="local", origins={})
        self._keys = {key.position: key for key in config.api_keys}
        self._clock = clock
        self._stop = stop
        self._note = note
        self._function = function
        self._spending = spending
        is_limited = spending is not None and spending.is_limited
        self._purse = Purse(spending, len(posts)) if spending is not None and is_limited else None
        self._salt = os.urandom(SALT_BYTES)
        self._members = [_Member(post) for post in posts]
        self._sharers: dict[tuple[int, ...], list[_Member]] = {}
        for member in self._members:
            self._sharers.setdefault(member.post.keys, []).append(member)
        #: Keys of no more use, by label, and why.
        self._retired: dict[str, str] = {}
        self._has_worked = False
        #: Calls, errors and refusals of workers that are gone, by label.
        self._past: dict[str, tuple[int, int, int]] = {}

    # -- to the workers --------------------------------------------------------------------------

    @property
    def threads(self) -> Sequence[int]:
        """Calls at the same time of each worker."""
        return [member.post.threads for member in self._members]

    def duty(self, number: int) -> Callable[[], Duty]:
        """Return what a worker is to do."""
        member = self._members[number]
        labels = {self._keys[position].label for position in member.post.keys}
        member.retired |= {label: self._retired[label] for label in labels & self._retired.keys()}
        config = replace(self._config, threads=member.post.threads)
        brief = Brief(
            config,
            config.file,
            {digest_of(self._keys[p].reveal(), self._salt): p for p in member.post.keys},
            self._salt,
            self._word(member, number),
            self._function,
            self._spending is not None,
        )
        return partial(CrewDuty, brief)

    def word(self, number: int) -> Word | None:
        """Return what a worker is to know; nothing, where it shares its keys with nobody."""
        member = self._members[number]
        has_news = member.post.sharers > 1
        if self._purse is not None:
            self._purse.gave(number)
            has_news = True
        return self._word(member, number) if has_news else None

    def _word(self, member: _Member, number: int) -> Word:
        now = self._clock.now()
        sharers = [other for other in self._sharers[member.post.keys] if other.ended is None]
        place = sharers.index(member) if member in sharers else 0
        cooled = {
            label: (until - now, why)
            for label, (until, why) in member.cooled.items()
            if until > now
        }
        retired, member.retired, member.cooled = member.retired, {}, {}
        grant = self._purse.grant(number) if self._purse is not None else None
        return Word(max(1, len(sharers)), place, retired, cooled, grant)

    # -- from the workers ------------------------------------------------------------------------

    def heard(self, number: int, told: Told, *, has_rows: bool) -> None:
        """Take note of what a worker tells; tell those who share its keys."""
        if self._purse is not None and self._spending is not None and told.use is not None:
            lack = self._purse.heard(number, told.use, has_rows=has_rows)
            if lack is not None:
                self._stop.request(self._spending.reached(lack))
        member = self._members[number]
        before = {key.label: key for key in member.told.keys} if member.told is not None else {}
        member.told, member.told_at = told, self._clock.now()
        self._has_worked = self._has_worked or told.has_worked
        for note in told.notes:
            self._note(note)
        self._retired |= {key.label: key.reason for key in told.keys if key.state == "retired"}
        if member.post.sharers > 1:
            others = [other for other in self._sharers[member.post.keys] if other is not member]
            for key in told.keys:
                last = before.get(key.label, KeyView(key.label))
                self._pass_on(key, last, others)

    def _pass_on(self, key: KeyView, last: KeyView, others: Iterable[_Member]) -> None:
        """Have others heed what one was told of a key by the provider."""
        if key.state == "retired" and last.state != "retired":
            for other in others:
                other.retired[key.label] = key.reason
        elif key.state == "cooling" and key.refused > last.refused:
            until = self._clock.now() + key.cooldown_s
            for other in others:
                other.cooled[key.label] = (until, key.reason)

    def is_stuck(self, number: int) -> bool:
        """Return whether all keys of a worker are to rest for a while."""
        member = self._members[number]
        if member.told is None or member.told.view.ready or member.told.view.in_flight:
            return False
        waits = [key.cooldown_s for key in member.told.keys if key.state == "cooling"]
        return bool(waits) and min(waits) - (self._clock.now() - member.told_at) >= _A_WHILE_S

    def lost(self, number: int, rows: int, why: str) -> None:
        """Take note that a worker is gone."""
        self._note(f"worker {number + 1} is gone, and its {rows:,} rows are done again: {why}")
        member = self._members[number]
        if self._purse is not None:
            self._purse.lost(number, min(rows, member.post.threads))
        for key in member.told.keys if member.told is not None else ():
            calls, errors, refused = self._past.get(key.label, (0, 0, 0))
            past = (calls + key.calls, errors + key.errors, refused + key.refused)
            self._past[key.label] = past
        member.told = None

    def ended(self, number: int, why: JsonlRunnerError, *, is_last: bool) -> None:
        """Take note that a worker can do no more; end the run where nobody can."""
        member = self._members[number]
        member.ended = why
        if self._purse is not None:
            self._purse.ended(number)
        lacks_keys = member.told is not None and not (
            member.told.view.ready or member.told.view.cooling
        )
        if isinstance(why, WrongEndpointError) and not self._has_worked and not lacks_keys:
            self._stop.request(why)  # an address is wrong for everybody
        elif not is_last:
            self._note(f"worker {number + 1} does no more, others do its rows: {why}")
        else:
            self._stop.request(self._why_nobody(why))

    def _why_nobody(self, last: JsonlRunnerError) -> JsonlRunnerError:
        reasons = [member.ended for member in self._members if member.ended is not None]
        if self._has_worked or not all(isinstance(why, WrongEndpointError) for why in reasons):
            keys = self.keys()
            if keys and all(key.state == "retired" for key in keys):
                return NoUsableKeyError.of([(key.label, key.reason) for key in keys])
        return last

    # -- books -----------------------------------------------------------------------------------

    def keys(self) -> list[KeyView]:
        """Return every key as people see it, over all workers."""
        now = self._clock.now()
        found = {key.label: KeyView(key.label) for key in self._keys.values()}
        heard: set[str] = set()
        for member in self._members:
            for key in member.told.keys if member.told is not None else ():
                view = _aged(key, now - member.told_at, has_ended=member.ended is not None)
                found[key.label] = _together(found[key.label], view) if key.label in heard else view
                heard.add(key.label)
        for label, why in self._retired.items():
            key = found.get(label, KeyView(label))
            found[label] = replace(key, state="retired", reason=why, cooldown_s=0.0)
        for label, (calls, errors, refused) in self._past.items():
            key = found.get(label, KeyView(label))
            found[label] = replace(
                key,
                calls=key.calls + calls,
                errors=key.errors + errors,
                refused=key.refused + refused,
            )
        return list(found.values())

    def view(self) -> KeysView:
        """Return the state of all keys at a glance."""
        keys = self.keys()
        states = [key.state for key in keys]
        views = [
            member.told.view
            for member in self._members
            if member.told is not None and member.ended is None
        ]
        return KeysView(
            states.count("ready"),
            states.count("cooling"),
            states.count("retired"),
            in_flight=sum(key.in_flight for key in keys),
            calls=sum(key.calls for key in keys),
            waiting_for=_waiting_for(keys, views, len(self._members)),
            trouble=next((view.trouble for view in views if view.trouble), ""),
            losses=tuple(
                f"key {key.label} is retired: {key.reason}"
                for key in keys
                if key.state == "retired"
            ),
        )


def _waiting_for(keys: Sequence[KeyView], views: Sequence[KeysView], workers: int) -> str:
    """Return why no call can be made now, in a few words; empty when calls can."""
    if not views:
        return f"Ray starts {workers} workers"
    usable = [key for key in keys if key.state != "retired"]
    if usable and all(key.state == "cooling" for key in usable):
        wait_s = min(key.cooldown_s for key in usable)
        return f"all {len(usable)} keys are cooling, next ready in {in_words(wait_s)}"
    if all(view.waiting_for for view in views):
        return views[0].waiting_for
    return ""


def _aged(key: KeyView, seconds: float, *, has_ended: bool) -> KeyView:
    """Return a key as it may be now, so long after it was told of."""
    if has_ended:
        key = replace(key, in_flight=0, limit=0)
    if key.state != "cooling":
        return key
    left_s = key.cooldown_s - seconds
    if left_s <= 0:
        return replace(key, state="ready", reason="", cooldown_s=0.0)
    return replace(key, cooldown_s=left_s)


def _together(one: KeyView, other: KeyView) -> KeyView:
    """Return a key as two workers who share it see it."""
    worst = max(one, other, key=lambda key: ("ready", "cooling", "retired").index(key.state))
    return replace(
        worst,
        calls=one.calls + other.calls,
        limit=one.limit + other.limit,
        in_flight=one.in_flight + other.in_flight,
        errors=one.errors + other.errors,
        refused=one.refused + other.refused,
        requests_per_minute=_sum(one.requests_per_minute, other.requests_per_minute),
        tokens_per_minute=_sum(one.tokens_per_minute, other.tokens_per_minute),
        requests_left=_sum(one.requests_left, other.requests_left),
        tokens_left=_sum(one.tokens_left, other.tokens_left),
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None and other is None else (one or 0.0) + (other or 0.0)
