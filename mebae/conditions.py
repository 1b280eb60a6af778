"""Conditions as data: what an author writes as `lead.score >= 50` is a frozen model that two evaluators read.

Logic is two-valued. A comparison with a missing attribute, or with a value of another kind, is false; `!=` and `not_in`
are exactly the negation of `==` and `in_`, and so are true for a missing attribute.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, NoReturn, Protocol

from pydantic import BaseModel, ConfigDict, Field

from mebae.errors import AuthoringError
from mebae.events import is_human
from mebae.timing import Duration, window
from mebae.words import STAGES

Scalar = bool | int | float | str
Match = Scalar | tuple[Scalar, ...]
"""What a property must be: equal, one of several, or (a string with `*`) matching a glob."""


ListRef = Literal["lead.tags", "lead.topics", "lead.excluded"]
"""What of a lead is a list of words."""


class Data(BaseModel):
    """Frozen data of a graph: unknown fields are refused, so that an old worker never misreads a newer graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pattern(Data):
    """An event by its (canonical) name and properties."""

    event: str
    where: dict[str, Match] = {}

    def _no_logic(self, *_: object) -> NoReturn:
        raise AuthoringError(
            "an event is not yes or no, and events do not combine: as a condition write did(visited(\"/pricing\")); "
            "to wait for several events write wait_for(on(event, […]), on(event, […]), within=…)"
        )

    # `visited("/a") or visited("/b")` would silently mean the first: whoever tests `arm.on` writes `is not None`.
    __bool__ = __and__ = __rand__ = __or__ = __ror__ = __invert__ = _no_logic


class _Logic(Data):
    """What every condition can do: `&`, `|`, `~`; never `and`, `or`, `not` (authoring raises)."""

    def __and__(self, other: object) -> All:
        return All(of=(*_parts(All, self, "&"), *_parts(All, other, "&")))

    def __or__(self, other: object) -> Any_:
        return Any_(of=(*_parts(Any_, self, "|"), *_parts(Any_, other, "|")))

    def __rand__(self, other: object) -> NoReturn:
        raise _not_a_condition(other, "&")

    def __ror__(self, other: object) -> NoReturn:
        raise _not_a_condition(other, "|")

    def __invert__(self) -> Condition:
        return self.of if isinstance(self, Not) else Not(of=self)

    def __bool__(self) -> NoReturn:
        # Python asks this for `and`, `or`, `not`, `if`, `in` and chained comparison, and would keep only half of it.
        raise AuthoringError(
            "a condition is data and has no truth of its own: instead of `a and b` write (a) & (b), instead of "
            "`a or b` write (a) | (b), instead of `not a` write ~(a), with the parentheses; instead of "
            "`10 <= lead.score <= 50` write (lead.score >= 10) & (lead.score <= 50); instead of "
            '`lead.industry in ("a", "b")` write lead.industry.in_("a", "b")'
        )


class Compare(_Logic):
    """`lead.score >= 50`. Order (`gt` …) is for numbers only; equality is of the same kind (1 is not "1", True is not 1)."""

    op: Literal["eq", "gt", "ge", "lt", "le"]
    ref: str
    to: Scalar


class Among(_Logic):
    """`lead.industry.in_("manufacturing", "construction")`."""

    op: Literal["in"] = "in"
    ref: str
    to: tuple[Scalar, ...]


class Like(_Logic):
    """`lead.title.like("*部長*")`: case-sensitive, `*` stands for any run of characters."""

    op: Literal["like"] = "like"
    ref: str
    to: str


class AtLeast(_Logic):
    """`lead.stage.at_least("consideration")`: this stage or a later one."""

    op: Literal["at_least"] = "at_least"
    ref: Literal["lead.stage"] = "lead.stage"
    to: str


class Known(_Logic):
    """`lead.company.is_known()`: present and not empty (None and "")."""

    op: Literal["known"] = "known"
    ref: str


class Tagged(_Logic):
    """`lead.tags.has("exhibition-2026")`, `lead.topics.has("automation")`: the list holds this word."""

    op: Literal["tagged"] = "tagged"
    ref: ListRef = "lead.tags"
    to: str


class OlderThan(_Logic):
    """`lead.created_at.older_than(days(180))`: the moment plus the span is not after now. Becomes true with time."""

    op: Literal["older"] = "older"
    ref: str
    span: Duration


class Did(_Logic):
    """`did(visited("/pricing"), times=2, within=days(30))`: at least so many such events, of any time or in the window up to now."""

    op: Literal["did"] = "did"
    pattern: Pattern
    times: int = Field(default=1, ge=1)
    within: Duration | None = None


class All(_Logic):
    op: Literal["and"] = "and"
    of: tuple[Condition, ...]


class Any_(_Logic):
    op: Literal["or"] = "or"
    of: tuple[Condition, ...]


class Not(_Logic):
    op: Literal["not"] = "not"
    of: Condition


Condition = Annotated[
    Compare | Among | Like | AtLeast | Known | Tagged | OlderThan | Did | All | Any_ | Not, Field(discriminator="op")
]


def _not_a_condition(value: object, operator: str) -> AuthoringError:
    return AuthoringError(
        f"{value!r} is not a condition: each side of `{operator}` needs parentheses and a comparison, such as "
        f'(lead.score >= 50) {operator} (lead.stage == "interest"); an event becomes a condition by did(…)'
    )


def _parts(kind: type[All] | type[Any_], value: object, operator: str) -> tuple[Condition, ...]:
    """Its operands if it is the same kind, so that `a & b & c` is one flat condition however it was grouped."""
    if not isinstance(value, _Logic):
        raise _not_a_condition(value, operator)
    return value.of if isinstance(value, (All, Any_)) and isinstance(value, kind) else (value,)  # type: ignore[return-value]

for _model in (All, Any_, Not):
    _model.model_rebuild()


# The Python evaluator, for one lead. `mebae.store.conditions_sql` is the other one; a property test holds them equal.


class Facts(Protocol):
    """What is known of one lead at one moment."""

    @property
    def now(self) -> datetime: ...

    @property
    def stages(self) -> Sequence[str]:
        """The stages in their order."""
        ...

    def value(self, ref: str) -> object:
        """The value of `lead.score` or `entry.content`; None if there is none. Dates of the lead's row are aware UTC."""
        ...

    def tags(self, ref: ListRef) -> Collection[str]:
        """The words of the list: the lead's tags, topics or exclusions."""
        ...

    def times(self, pattern: Pattern, after: datetime | None) -> Sequence[datetime]:
        """When the events that match occurred, those later than `after` only."""
        ...

    def until(self, part: Condition) -> datetime | None:
        """How long what a comparison says surely stays so, of a value that changes with time (`lead.score`); None: for ever."""
        return None


class Verdict(NamedTuple):
    """Whether a condition holds, and how long that surely stays so if nothing happens (None: for ever)."""

    value: bool
    valid_until: datetime | None = None
    """The first moment at which the value may be another one; always after `now`."""


@dataclass(frozen=True)
class SimpleFacts:
    """Facts from memory, for tests and the simulator.

    >>> now = datetime(2026, 4, 1, tzinfo=UTC)
    >>> facts = SimpleFacts(now, lead={"score": 50}, events=[("Page Viewed", {"path": "/pricing"}, now)])
    >>> evaluate(Compare(op="ge", ref="lead.score", to=50), facts)
    Verdict(value=True, valid_until=None)
    """

    now: datetime
    lead: Mapping[str, object] = field(default_factory=dict)
    entry: Mapping[str, object] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, object], datetime]] = ()
    stages: Sequence[str] = STAGES

    def value(self, ref: str) -> object:
        root, _, name = ref.partition(".")
        return self.entry.get(name) if root == "entry" else self.lead.get(name)

    def tags(self, ref: ListRef) -> Collection[str]:
        return self.lead.get(ref.partition(".")[2]) or ()  # type: ignore[return-value]

    def times(self, pattern: Pattern, after: datetime | None) -> Sequence[datetime]:
        return [
            at
            for name, properties, at in self.events
            if (after is None or at > after) and matches(pattern, name, properties)
        ]

    def until(self, part: Condition) -> datetime | None:
        return None


def evaluate(condition: Condition, facts: Facts) -> Verdict:
    """Whether the condition holds for this lead now, and until when that surely stays so if nothing happens.

    Only time that passes is foreseen: a window that runs out, an `older_than` that comes true. Windows and spans count a
    day as 24 hours (`mebae.timing.window`). An event is in a window if it occurred after `now - within`.
    """
    match condition:
        case All():
            return _all([evaluate(part, facts) for part in condition.of], stops_at=False)
        case Any_():
            return _all([evaluate(part, facts) for part in condition.of], stops_at=True)
        case Not():
            inner = evaluate(condition.of, facts)
            return Verdict(not inner.value, inner.valid_until)
        case Did():
            return _did(condition, facts)
        case OlderThan():
            return _older(facts.value(condition.ref), facts.now, window(condition.span))
        case Tagged():
            return Verdict(condition.to in facts.tags(condition.ref))
        case AtLeast():
            stage, stages = facts.value(condition.ref), facts.stages
            return Verdict(condition.to in stages and stage in stages[stages.index(condition.to) :])
        case Compare():
            return Verdict(_compare(condition.op, facts.value(condition.ref), condition.to), facts.until(condition))
        case Among():
            value = facts.value(condition.ref)
            return Verdict(any(same(value, one) for one in condition.to), facts.until(condition))
        case Like():
            value = facts.value(condition.ref)
            return Verdict(isinstance(value, str) and like(value, condition.to))
        case Known():
            value = facts.value(condition.ref)
            return Verdict(value is not None and value != "")


def matches(pattern: Pattern, name: str, properties: Mapping[str, object]) -> bool:
    """Whether an event is what the pattern means: the same name, and every property that it names as it says.

    An open or click of a machine is none, unless the pattern itself names the `verdict`.

    >>> paper = Pattern(event="Content Downloaded", where={"content": "whitepaper-*"})
    >>> matches(paper, "Content Downloaded", {"content": "whitepaper-7", "pages": 12})
    True
    """
    if name != pattern.event:
        return False
    for key, want in pattern.where.items():  # not `all(…)`: asked for every event of every lead
        if not _meets(properties.get(key), want):
            return False
    return "verdict" in pattern.where or is_human(name, properties)


def refs_of(condition: Condition) -> tuple[str, ...]:
    """What the condition looks at, such as `lead.score`, once each and in the order written (events: `patterns_of`)."""
    refs: dict[str, None] = {}
    for part in parts_of(condition):
        if isinstance(part, (Compare, Among, Like, AtLeast, Known, Tagged, OlderThan)):
            refs[part.ref] = None
    return tuple(refs)


def patterns_of(condition: Condition) -> tuple[Pattern, ...]:
    """The events that the condition counts."""
    return tuple(part.pattern for part in parts_of(condition) if isinstance(part, Did))


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The condition and everything in it, from left to right."""
    yield condition
    if isinstance(condition, Not):
        yield from parts_of(condition.of)
    elif isinstance(condition, (All, Any_)):
        for part in condition.of:
            yield from parts_of(part)


def same(value: object, to: Scalar) -> bool:
    """Equal and of the same kind: 1 is 1.0, but neither True nor "1"."""
    if isinstance(to, bool) or isinstance(value, bool):
        return value is to
    if isinstance(to, str):
        return isinstance(value, str) and value == to
    return isinstance(value, (int, float)) and value == to


def like(value: str, glob: str) -> bool:
    """Whether `*`, which stands for any run of characters, makes the two the same; everything else stands for itself."""
    return _glob(glob).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def _glob(glob: str) -> re.Pattern[str]:
    # Runs of stars are one star: two in a row would only make the search slow.
    return re.compile(".*".join(re.escape(part) for part in re.sub(r"\*+", "*", glob).split("*")), re.DOTALL)


def _meets(value: object, want: Match) -> bool:
    if isinstance(want, tuple):
        return any(_meets(value, one) for one in want)
    if isinstance(want, str) and "*" in want:
        return isinstance(value, str) and like(value, want)
    return same(value, want)


def _compare(op: str, value: object, to: Scalar) -> bool:
    if op == "eq":
        return same(value, to)
    if isinstance(value, bool) or isinstance(to, bool):
        return False
    return isinstance(value, (int, float)) and isinstance(to, (int, float)) and _ORDERS[op](value, to)


_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def _all(verdicts: list[Verdict], *, stops_at: bool) -> Verdict:
    """`and`, which one false part decides (`stops_at=False`), or `or`, which one true part decides."""
    deciding = [verdict.valid_until for verdict in verdicts if verdict.value is stops_at]
    if deciding:  # as long as one of them stands
        return Verdict(stops_at, None if None in deciding else max(until for until in deciding if until is not None))
    return Verdict(not stops_at, min((until for _, until in verdicts if until is not None), default=None))


def _did(condition: Did, facts: Facts) -> Verdict:
    if condition.within is None:
        return Verdict(len(facts.times(condition.pattern, None)) >= condition.times)
    span = window(condition.within)
    times = sorted(facts.times(condition.pattern, back(facts.now, span)), reverse=True)
    if len(times) < condition.times:
        return Verdict(False)  # a window only loses events with time
    return Verdict(True, ahead(times[condition.times - 1], span))


def _older(value: object, now: datetime, span: timedelta) -> Verdict:
    """Of the row's own times to the microsecond. An attribute is text: its first ten characters, if they look like a
    date, are that day in UTC, whatever follows. So says SQL, which can compare text but not read what may be no date."""
    if isinstance(value, datetime):
        due = ahead(value, span)
        return Verdict(due is not None and due <= now, due if due is not None and due > now else None)
    if not isinstance(value, str) or not _DATE.match(value):
        return Verdict(False)
    since = back(now, span)
    day, today = value[:10], since.date().isoformat()
    if day <= today:
        return Verdict(True)
    try:
        due = ahead(datetime.fromisoformat(day).replace(tzinfo=UTC), span)
    except ValueError:  # no such day (February 30): it may come true at any midnight
        due = ahead(datetime.combine(since.date(), time(), UTC), span + timedelta(days=1))
    return Verdict(False, due)


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def back(now: datetime, span: timedelta) -> datetime:
    """`now - span`, or the first of times if the span is longer than history."""
    try:
        return max(now - span, _FIRST)
    except OverflowError:
        return _FIRST


def ahead(moment: datetime, span: timedelta) -> datetime | None:
    """`moment + span`, or None (never) if that is beyond the year 9999."""
    try:
        return moment + span if moment + span < _LAST else None
    except OverflowError:
        return None
