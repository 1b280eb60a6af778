"""The score of a lead: a pure function of the set of its distinct events, of what it is, and of the moment.

There are two ways to the same figure. `score` recounts from all events. A `Tally` keeps of each rule only the events
that still can count, takes one event at a time in any order, repeated or late, and `reckon` reads it at any moment.

What a tally keeps, of one lead, whatever it does: of an engagement rule its `at_most` latest events (with a `per` of
each period), and of any rule at most `LIMIT`; of a `did(…)` or a topic as many as it asks for.

The *latest* events count, by when they occurred and then by message id, so that a fresh download is worth its points
although the cap was used up two years ago, and the last answer to a question is the one that counts. Periods of a `per` are fixed
(the same for all leads), because a window that began with the first event would be moved by one that comes late.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from mebae.conditions import Condition, Facts, ListRef, Pattern, Scalar, SimpleFacts, evaluate, same
from mebae.events import is_human as _is_human
from mebae.scoring_mapping import Mapping as TitleMapping
from mebae.scoring_model import (
    LIMIT,
    By,
    Counter,
    Engagement,
    Graded,
    Points,
    ScoringModel,
    Stage,
    did_key,
    rule_key,
    topic_key,
)
from mebae.timing import Duration, window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


class EventLike(Protocol):
    """What scoring needs of an event; a row of the events table has it."""

    @property
    def message_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def properties(self) -> Mapping[str, Any]: ...
    @property
    def occurred_at(self) -> datetime: ...


class Event(NamedTuple):
    """An event from memory."""

    message_id: str
    name: str
    properties: Mapping[str, Any]
    occurred_at: datetime


@dataclass(frozen=True)
class Profile:
    """What a lead is: its attributes as `lead.…` names them, with its mapped `rank` and `industry_group`."""

    lead: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, lead: Mapping[str, object], mapping: TitleMapping) -> Self:
        """The profile of a lead whose title and industry are raw.

        >>> table = TitleMapping.load("kind,raw,means\\nrank,部長,部長\\n")
        >>> Profile.of({"title": "営業部長"}, table).lead["rank"]
        '部長'
        """
        return cls(
            {**lead, "rank": mapping.rank(lead.get("title")), "industry_group": mapping.group(lead.get("industry"))}
        )


class Kept(NamedTuple):
    """One event that a rule keeps. Sorted as it stands: by when it occurred, then by message id."""

    at: int
    """Microseconds since 1970."""
    id: str
    points: Points = 0
    value: str = ""
    """Of a rule that counts each value once."""


@dataclass
class Tally:
    """What is kept of one lead's events, under one version of the model. Adding is idempotent and in any order the same.

    A repeated event must be the same event: that a message id has one moment is for the store to see to.
    """

    version: str
    kept: dict[str, list[Kept]] = field(default_factory=dict)
    newest: int | None = None
    """When the latest of those events occurred that a rule looks at. The others move no lead, so that none is late for them:
    not even for `Lead Created`, which in a backlog is later than all that the lead did."""

    @classmethod
    def of(cls, model: ScoringModel, events: Iterable[EventLike] = ()) -> Self:
        tally = cls(model.version)
        for event in events:
            tally.add(model, event)
        return tally

    def add(self, model: ScoringModel, event: EventLike) -> bool:
        """Takes one event; says whether anything that can count has changed.

        Raises `ValueError` if the tally is of another version of the model: it must be counted anew from the events.
        """
        if self.version != model.version:
            raise ValueError(f"the tally is of scoring model {self.version}, not of {model.version}: count it anew")
        changed = False
        counters = model.counters.get(event.name, ())
        if not counters or not is_human(event):
            return False
        at = micros(event.occurred_at)
        properties = event.properties
        for counter in counters:
            if not any([test(properties) for test in counter.tests]):  # noqa: C419  (a generator costs more than the tests)
                continue
            kept = _kept(counter.rule, at, event)
            if kept is not None:
                self.newest = at if self.newest is None else max(self.newest, at)
                changed |= _insert(self.kept.setdefault(counter.key, []), kept, counter, model.time_zone)
        return changed

    def is_late(self, event: EventLike) -> bool:
        """Whether a later one was counted before: then the history of stages may be another (`replay` tells)."""
        return self.newest is not None and micros(event.occurred_at) < self.newest

    def dump(self) -> str:
        """Compact JSON; the same for equal tallies."""
        kept = {key: [_short(one) for one in its] for key, its in sorted(self.kept.items())}
        whole = {"version": self.version, "newest": self.newest, "kept": kept}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Self:
        return cls.of_data(json.loads(text))

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Self:
        """What `dump` wrote, already read as JSON."""
        kept = {key: [Kept(*one) for one in its] for key, its in data["kept"].items()}
        return cls(version=data["version"], kept=kept, newest=data["newest"])


class Reason(NamedTuple):
    """Why there are points: a rule, and the event that it counts (None for what the lead is)."""

    rule: str
    points: float
    event: str | None = None
    """The message id."""
    occurred_at: datetime | None = None
    worth: float = 0.0
    """The points without decay."""


@dataclass(frozen=True)
class Score:
    """A lead's score at one moment, with all of its reasons."""

    fit: float
    engagement: float
    total: float
    reasons: tuple[Reason, ...]
    stage: str
    qualifications: tuple[str, ...]
    """Those whose rule holds now. Whether the lead becomes it is for the caller, who knows what sales said before."""
    topics: tuple[str, ...]
    excluded: tuple[str, ...]
    """The exclusions that hold; such a lead moves to no other stage and is never qualified. Its score is still shown."""

    @property
    def whole(self) -> int:
        """What `lead.score` is: the total rounded down, so that `lead.score >= 50` is true exactly when the total is."""
        return math.floor(self.total)


class Move(NamedTuple):
    """Something that a lead became, and by which event (None: by time alone)."""

    at: datetime
    kind: Literal["stage", "qualification"]
    to: str
    event: str | None


class Replay(NamedTuple):
    score: Score
    tally: Tally
    moves: tuple[Move, ...]


def score(model: ScoringModel, profile: Profile, events: Iterable[EventLike], now: datetime) -> Score:
    """The score at `now`, from all events: whatever their order, however often each is repeated."""
    return replay(model, profile, events, now).score


def replay(
    model: ScoringModel, profile: Profile, events: Iterable[EventLike], now: datetime, *, held: str | None = None
) -> Replay:
    """Goes through the events as they occurred, with the lead as it is today, and says what it became when.

    Stages and qualifications are asked at each event and at `now`. Asking is idempotent, so an event that comes late gets its place.
    """
    tally = Tally(model.version)
    moves: list[Move] = []
    stage, qualified = held or model.stages[0].id, frozenset[str]()
    met: dict[int, bool] = {}
    life = Life(model, tally, profile, met)

    def became(at: datetime, event: str | None, reached: str, holding: Sequence[str]) -> None:
        nonlocal stage, qualified
        if reached != stage:
            moves.append(Move(at, "stage", reached, event))
        if holding or qualified:
            moves.extend(Move(at, "qualification", to, event) for to in holding if to not in qualified)
            qualified = frozenset(holding)
        stage = reached

    # Of several at one moment none came first: they are one.
    for at, together in groupby(distinct(events), key=lambda event: event.occurred_at):
        news = False
        for event in together:
            news |= tally.add(model, event)
        if at <= now and (news or qualified or not life.is_calm()):
            at = at.astimezone(UTC)
            became(at, event.message_id, *life.ask(at, stage))
    found = _reckon(_Facts(model, tally, profile, now, met), stage)
    became(now, None, found.stage, found.qualifications)
    return Replay(found, tally, tuple(moves))


def distinct(events: Iterable[EventLike]) -> list[EventLike]:
    """Each message id once (of different ones with the same id that which occurred first), in the order they occurred."""
    first: dict[str, EventLike] = {}
    for event in events:
        known = first.get(event.message_id)
        if known is None or (known is not event and _before(event, known)):
            first[event.message_id] = event
    return sorted(first.values(), key=_order)


def reckon(
    model: ScoringModel,
    tally: Tally,
    profile: Profile,
    now: datetime,
    *,
    held: str | None = None,
    known: dict[int, bool] | None = None,
) -> Score:
    """The score at `now` from a tally. `held` is the stage that the lead has had so far (the first if None).

    `known`: what the model's `steady` conditions say of this profile, by the identity of the condition, if that is known.
    """
    return _reckon(_Facts(model, tally, profile, now, known), held)


def facts_at(model: ScoringModel, tally: Tally, profile: Profile, now: datetime, *, held: str | None = None) -> Facts:
    """What the model's own conditions are asked of: the score and the stage of this moment, the events that count."""
    facts = _Facts(model, tally, profile, now)
    _reckon(facts, held)
    return facts


def _reckon(facts: _Facts, held: str | None) -> Score:
    model, tally = facts.model, facts.tally
    fit = [Reason(rule.id, rule.points, worth=rule.points) for rule in model.fit if facts.meets(rule.when)]
    done = [
        Reason(rule.id, decayed(one.points, one.at, half, at=facts.at), one.id, moment(one.at), one.points)
        for rule, half, counted in _counted(model, tally)
        for one in counted
    ]
    total = math.fsum(reason.points for reason in (*fit, *done))
    facts.score = math.floor(total)
    excluded = tuple(rule.id for rule in model.exclusions if facts.meets(rule.when))
    stage = held if held in model.stage_ids else model.stages[0].id
    assert stage is not None
    if not excluded:
        stage = _stage(model, facts, model.stage_ids.index(stage))
    facts.stage = stage
    return Score(
        fit=math.fsum(reason.points for reason in fit),
        engagement=math.fsum(reason.points for reason in done),
        total=total,
        reasons=(*fit, *done),
        stage=stage,
        qualifications=() if excluded else tuple(rule.to for rule in model.qualifications if facts.meets(rule.when)),
        topics=_topics(model, tally, facts.at),
        excluded=excluded,
    )


def time_dependent_until(model: ScoringModel, tally: Tally, profile: Profile, now: datetime) -> datetime | None:
    """Until when stages, qualifications, exclusions and topics surely stay, the score aside, if nothing else happens."""
    facts = _Facts(model, tally, profile, now)
    _reckon(facts, None)  # fills in the score
    moments = [evaluate(condition, facts).valid_until for condition in model.conditions()]
    for topic in model.topics:
        if topic.within is not None and (kept := tally.kept.get(topic_key(topic))):
            span = window(topic.within)
            moments += [moment(one.at) + span for one in kept if moment(one.at) + span > now]
    return min((one for one in moments if one is not None), default=None)


def differences(before: Score | None, after: Score) -> list[Reason]:
    """The rows for the ledger: every reason gained, and every reason lost with its points negative. Decay is no change."""
    old = {(one.rule, one.event): one for one in before.reasons} if before is not None else {}
    new = {(one.rule, one.event): one for one in after.reasons}
    lost = [
        one._replace(points=-one.points, worth=-one.worth)
        for key, one in old.items()
        if key not in new or new[key].worth != one.worth
    ]
    return [*lost, *(one for key, one in new.items() if key not in old or old[key].worth != one.worth)]


def is_human(event: EventLike) -> bool:
    """See `mebae.events.is_human`."""
    return _is_human(event.name, event.properties)


# Moments and decay ---------------------------------------------------------------------------------------------------


def micros(when: datetime) -> int:
    return (when - _EPOCH) // _MICRO


def moment(at: int) -> datetime:
    return _EPOCH + at * _MICRO


def decayed(points: Points, since: int, half_life: int | None, *, at: int) -> float:
    """`points × 2^(−age / half-life)`, in microseconds. What has yet to occur has its full points.

    >>> decayed(40, 0, 90, at=180)
    10.0
    """
    return float(points) if half_life is None or at <= since else points * math.exp2((since - at) / half_life)


# What counts ---------------------------------------------------------------------------------------------------------


def counted_of(rule: Engagement, kept: Sequence[Kept], zone: str) -> Sequence[Kept]:
    """The events of a rule that give points: all that it keeps, or of a `visits` rule the latest that complete a series."""
    if rule.times == 1:
        return kept
    found: list[Kept] = []
    of_period: dict[int, int] = {}
    for one in reversed([kept[i] for i in _completions(rule, kept)]):
        period = _period(rule.per, one.at, zone)
        if of_period.get(period, 0) < rule.at_most:
            of_period[period] = of_period.get(period, 0) + 1
            found.append(one)
    return found[::-1]


def _counted(model: ScoringModel, tally: Tally) -> Iterable[tuple[Engagement, int | None, Sequence[Kept]]]:
    for rule in model.engagement:
        if kept := tally.kept.get(rule_key(rule)):
            yield rule, model.half_lives.get(rule.id), counted_of(rule, kept, model.time_zone)


def _completions(rule: Engagement, kept: Sequence[Kept]) -> list[int]:
    """Where the events stand that are the `times`-th within the span."""
    assert rule.within is not None
    span, before = window(rule.within) // _MICRO, rule.times - 1
    return [i for i in range(before, len(kept)) if kept[i].at - kept[i - before].at < span]


def _kept(rule: Engagement | None, at: int, event: EventLike) -> Kept | None:
    if rule is None:
        return Kept(at, event.message_id)
    properties = event.properties
    if rule.where is not None and not evaluate(rule.where, SimpleFacts(event.occurred_at, lead=properties)).value:
        return None
    points = _points(rule, properties)
    if points is None:
        return None
    return Kept(at, event.message_id, points, "" if rule.once_for is None else _value(properties, rule.once_for))


def _value(properties: Mapping[str, Any], ref: str) -> str:
    value = repr(properties.get(ref.partition(".")[2]))
    return value if len(value) <= 40 else hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _points(rule: Engagement, properties: Mapping[str, Any]) -> Points | None:
    match rule.points:
        case By(ref=ref, of=of, otherwise=otherwise):
            value = properties.get(ref.partition(".")[2])
            return next((points for one, points in of if _equal(value, one)), otherwise)
        case Graded(ref=ref, grades=grades):
            value = properties.get(ref.partition(".")[2])
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return None
            return next((points for least, points in reversed(grades) if value >= least), None)
        case points:
            return points


def _equal(value: object, one: Scalar) -> bool:
    """Forms with several choices send lists: one of them is enough."""
    return any(same(part, one) for part in value) if isinstance(value, list) else same(value, one)


def _insert(its: list[Kept], new: Kept, counter: Counter, zone: str) -> bool:
    """Puts an event among those kept, and drops what can never count again; says whether that changed anything."""
    at = bisect_left(its, new[:2], key=lambda one: one[:2])
    if at < len(its) and its[at][:2] == new[:2]:
        return False
    before = tuple(its)
    its.insert(at, new)
    rule = counter.rule
    if rule is None:
        del its[: -counter.limit]
    elif rule.times == 1:
        _trim_period(its, at, rule, zone)
        del its[:-LIMIT]
    else:
        del its[:-LIMIT]
        done = _completions(rule, its)
        if rule.per is None and len(done) >= rule.at_most:
            # Events only ever add completions: older ones than the latest `at_most` are out for good.
            del its[: done[-rule.at_most] - rule.times + 1]
    return tuple(its) != before


def _trim_period(its: list[Kept], at: int, rule: Engagement, zone: str) -> None:
    """Of the period of the event at `at`: each value once if so wished, then the latest `at_most`."""
    period = _period(rule.per, its[at].at, zone)
    first = last = at  # The events of one period stand together.
    while first > 0 and _period(rule.per, its[first - 1].at, zone) == period:
        first -= 1
    while last + 1 < len(its) and _period(rule.per, its[last + 1].at, zone) == period:
        last += 1
    if rule.once_for is not None:
        twins = [i for i in range(first, last + 1) if its[i].value == its[at].value]
        for i in twins[:-1]:
            del its[i]
            last -= 1
    if last - first + 1 > rule.at_most:
        del its[first]


def _period(per: Duration | None, at: int, zone: str) -> int:
    """Which period a moment is in: whole days begin at midnight of the model's zone, the rest is elapsed time."""
    if per is None:
        return 0
    if per.hours or per.minutes:
        return at // (window(per) // _MICRO)
    try:
        return moment(at).astimezone(_zone(zone)).toordinal() // per.days
    except OverflowError:  # at the edges of the calendar, where only a broken clock can be
        return moment(at).toordinal() // per.days


@lru_cache(maxsize=8)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


# Stages, topics, conditions ------------------------------------------------------------------------------------------


def _stage(model: ScoringModel, facts: _Facts, held: int) -> str:
    """The highest stage whose condition holds, or the one held before, unless that one falls."""
    holds = [stage.when is None or facts.meets(stage.when) for stage in model.stages]
    while held > 0 and model.stages[held].falls and not holds[held]:
        held -= 1
    return model.stages[max(held, *(i for i, one in enumerate(holds) if one))].id


def _topics(model: ScoringModel, tally: Tally, at: int) -> tuple[str, ...]:
    found = []
    for topic in model.topics:
        kept = tally.kept.get(topic_key(topic), ())
        since = None if topic.within is None else at - window(topic.within) // _MICRO
        if sum(since is None or one.at > since for one in kept) >= topic.times:
            found.append(topic.id)
    return tuple(found)


class _Facts(Facts):
    """A lead's facts from its profile and tally; score and stage are filled in as they become known."""

    def __init__(
        self, model: ScoringModel, tally: Tally, profile: Profile, now: datetime, met: dict[int, bool] | None = None
    ) -> None:
        self.model, self.tally, self._profile, self._now = model, tally, profile, now
        self._met = met
        """What is known already of conditions that neither time nor events change, of this profile."""
        self.at = micros(now)
        self.score: int | None = None
        self.stage: str | None = None

    def meets(self, condition: Condition) -> bool:
        key = id(condition)
        if self._met is None or key not in self.model.steady:
            return self.model.quick[key](self)
        if key not in self._met:
            self._met[key] = self.model.quick[key](self)
        return self._met[key]

    def move(self, now: datetime) -> None:
        """To another moment of the same life."""
        self._now, self.at = now, micros(now)
        self.score = self.stage = None

    def kept(self, key: str) -> Sequence[Kept]:
        return self.tally.kept.get(key, ())

    @property
    def now(self) -> datetime:
        return self._now

    @property
    def stages(self) -> Sequence[str]:
        return self.model.stage_ids

    def value(self, ref: str) -> object:
        name = ref.partition(".")[2]
        if name == "score":
            return self.score
        return self.stage if name == "stage" else self._profile.lead.get(name)

    def tags(self, ref: ListRef) -> Collection[str]:
        return self._profile.lead.get(ref.partition(".")[2]) or ()  # type: ignore[return-value]

    def times(self, pattern: Pattern, after: datetime | None) -> Sequence[datetime]:
        moments = (
            moment(one.at) for one in self.tally.kept.get(self.model.did_keys.get(id(pattern)) or did_key(pattern), ())
        )
        return [at for at in moments if after is None or at > after]


def _holds(stage: Stage, meets: Callable[[Condition], bool]) -> bool:
    return stage.when is None or meets(stage.when)


class Life:
    """A lead's life, asked at one moment after the other: stage and qualifications as `reckon` gives them, and nothing else.

    The tally may grow between two questions. `met`: what the model's `steady` conditions say of this profile, as far as that is known.
    """

    def __init__(self, model: ScoringModel, tally: Tally, profile: Profile, met: dict[int, bool] | None) -> None:
        self._model, self._tally = model, tally
        self._facts = _Facts(model, tally, profile, _EPOCH, met)
        self._fit: list[Points] | None = None
        self._asked = False

    def is_calm(self) -> bool:
        """Whether, by time alone, the lead can have moved to no other stage since it was asked, nor have qualified."""
        kept = self._tally.kept
        return self._asked and self._model.only_fades and not any(key in kept for key in self._model.rising)

    def ask(self, now: datetime, held: str) -> tuple[str, tuple[str, ...]]:
        model, facts = self._model, self._facts
        self._asked = True
        facts.move(now)
        if self._fit is None or not model.fit_is_steady:
            self._fit = [rule.points for rule in model.fit if facts.meets(rule.when)]
        facts.score = math.floor(math.fsum((*self._fit, *self._done(facts.at))))
        at = model.stage_ids.index(held) if held in model.stage_ids else 0
        for rule in model.exclusions:
            if facts.meets(rule.when):
                return model.stage_ids[at], ()
        stage = facts.stage = self._stage(at)
        return stage, tuple(rule.to for rule in model.qualifications if facts.meets(rule.when))

    def _done(self, at: int) -> Iterator[float]:
        for key, kept in self._tally.kept.items():
            if key in self._model.engagement_by_key:
                rule, half = self._model.engagement_by_key[key]
                for one in kept if rule.times == 1 else counted_of(rule, kept, self._model.time_zone):
                    yield decayed(one.points, one.at, half, at=at)

    def _stage(self, held: int) -> str:
        # The highest first, and no lower one: most moments move no lead.
        stages, meets = self._model.stages, self._facts.meets
        while held > 0 and stages[held].falls and not _holds(stages[held], meets):
            held -= 1
        return next(
            (stages[i].id for i in range(len(stages) - 1, held, -1) if _holds(stages[i], meets)), stages[held].id
        )


def _short(kept: Kept) -> list[object]:
    values: list[object] = list(kept)
    if not kept.value:
        values.pop()
        if not kept.points:
            values.pop()
    return values


def _order(event: EventLike) -> tuple[datetime, str]:
    return event.occurred_at, event.message_id


def _before(event: EventLike, other: EventLike) -> bool:
    """Which of two with one message id is meant: some one, the same in any order."""
    keys = [
        (micros(one.occurred_at), one.name, json.dumps(one.properties, sort_keys=True, default=str))
        for one in (event, other)
    ]
    return keys[0] < keys[1]
