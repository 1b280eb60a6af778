"""The scoring language: `from mebae.scoring_language import *` is all that `scenarios/scoring.py` needs (DESIGN §7).

A scoring model is data, like a scenario. A spelling that can not mean what it says raises `AuthoringError` at once and
shows the right one; what only the whole model can show (a stage that does not exist, two rules of one name) is reported
by `mebae.scoring_compiling`, all together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mebae.authoring import (
    OneOrMore,
    _condition,
    _event,
    _scalar,
    _show,
    _span,
    _text,
    all_of,
    answered,
    any_of,
    attended,
    auto_replied,
    bounced,
    called,
    clicked,
    complained,
    contacted,
    created,
    days,
    did,
    did_not,
    downloaded,
    handed_over,
    handover_accepted,
    handover_expired,
    handover_rejected,
    handover_returned,
    hours,
    imported,
    minutes,
    not_,
    opened,
    opportunity_lost,
    opportunity_opened,
    opportunity_won,
    registered,
    requested_quote,
    resubscribed,
    sales_qualified,
    submitted,
    tracked,
    unsubscribed,
    unsubscribed_topic,
    viewed_screen,
    visited,
    weeks,
)
from mebae.conditions import Among, AtLeast, Compare, Condition, Not, Pattern, Scalar
from mebae.errors import AuthoringError
from mebae.references import Lead, Ref
from mebae.scoring_model import LIMIT, By, Engagement, Exclusion, Fit, Graded, Points, Qualification, Stage, Topic
from mebae.timing import Duration

__all__ = [
    "Scoring",
    "all_of",
    "answered",
    "any_of",
    "attended",
    "auto_replied",
    "bounced",
    "by",
    "called",
    "clicked",
    "complained",
    "contacted",
    "created",
    "days",
    "did",
    "did_not",
    "downloaded",
    "engagement",
    "event",
    "exclude",
    "fit",
    "graded",
    "handed_over",
    "handover_accepted",
    "handover_expired",
    "handover_rejected",
    "handover_returned",
    "hours",
    "imported",
    "lead",
    "minutes",
    "not_",
    "opened",
    "opportunity_lost",
    "opportunity_opened",
    "opportunity_won",
    "qualify",
    "registered",
    "requested_quote",
    "resubscribed",
    "sales_qualified",
    "several",
    "stage",
    "submitted",
    "topic",
    "tracked",
    "unsubscribed",
    "unsubscribed_topic",
    "viewed_screen",
    "visited",
    "visits",
    "weeks",
]


@dataclass(frozen=True, eq=False)
class Scoring:
    """The whole scoring model, as written. Its lists hold the rules; `ranks` and `stages` are in order, the lowest first.

    >>> Scoring(stages=[stage("new"), stage("warm", when=lead.score >= 30)], fit=[fit("large", lead.company_size >= 50, 10)]).fit[0].id
    'large'
    """

    stages: Iterable[Stage]
    ranks: Iterable[str] = ()
    fit: Iterable[Fit] = ()
    engagement: Iterable[Engagement] = ()
    exclusions: Iterable[Exclusion] = ()
    qualifications: Iterable[Qualification] = ()
    topics: Iterable[Topic] = ()
    time_zone: str = "Asia/Tokyo"

    def __post_init__(self) -> None:
        kinds = {
            "stages": (Stage, "stage"), "fit": (Fit, "fit"), "engagement": (Engagement, "engagement"),
            "exclusions": (Exclusion, "exclude"), "qualifications": (Qualification, "qualify"), "topics": (Topic, "topic"),
        }  # fmt: skip
        for name, (kind, verb) in kinds.items():
            given: Any = getattr(self, name)
            if isinstance(given, (kind, str)) or not isinstance(given, Iterable):
                raise AuthoringError(f"{name}={_show(given)}: rules stand in a list: {name}=[{verb}(…), …]")
            rules = tuple(given)
            for rule in rules:
                if not isinstance(rule, kind):
                    raise AuthoringError(f"{name}=[…, {_show(rule)}]: here stand {verb}(…) only")
            object.__setattr__(self, name, rules)
        if isinstance(self.ranks, str):
            raise AuthoringError(
                f'ranks={self.ranks!r}: ranks stand in a list, the lowest first: ranks=["担当者", "課長", "部長"]'
            )
        object.__setattr__(self, "ranks", tuple(_text(one, 'ranks=["担当者", "課長", "部長"]') for one in self.ranks))
        _text(self.time_zone, 'time_zone="Asia/Tokyo"')


# -- references


class _Word(Ref):
    """A reference to one of the words that the user's own model or table names; the compiler checks them all together."""

    __slots__ = ()

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Compare(op="eq", ref=self.ref, to=self._word(other))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Not(of=Compare(op="eq", ref=self.ref, to=self._word(other)))

    def in_(self, *values: Scalar) -> Condition:
        several: tuple[Any, ...] = values
        if len(several) == 1 and isinstance(several[0], (list, tuple)):
            several = tuple(several[0])
        if not several:
            raise AuthoringError(f'{self.ref}.in_() needs at least one value: {self.ref}.in_("…", "…")')
        return Among(ref=self.ref, to=tuple(self._word(one) for one in several))

    def at_least(self, stage: str) -> Condition:
        word = self._word(stage)
        if self.ref == "lead.stage":
            return AtLeast(to=word)
        if self.ref == "lead.rank":
            return Compare(
                op="ge", ref=self.ref, to=word
            )  # The compiler, which knows the ranks, lists those that are meant.
        raise AuthoringError(f'{self.ref} has no order: write {self.ref}.in_("…", "…")')

    def _order(self, value: object) -> NoReturn:
        cure = f'{self.ref}.in_("…", "…")' if self.ref == "lead.industry_group" else f'{self.ref}.at_least("…")'
        raise AuthoringError(f"{self.ref} has no order by < and >: write {cure}")

    def _word(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise AuthoringError(f'{self.ref} is a word, {value!r} is none: write {self.ref} == "…"')
        return value


class _ScoredLead(Lead):
    """The lead, as a scoring model speaks of it: with `lead.rank` and `lead.industry_group`, which the table gives."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        return (
            _Word(f"lead.{name}", "text") if name in ("rank", "industry_group", "stage") else super().__getattr__(name)
        )

    def __getitem__(self, name: str) -> Ref:
        return (
            _Word(f"lead.{name}", "text") if name in ("rank", "industry_group", "stage") else super().__getitem__(name)
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AuthoringError("nothing is set while a scoring model is read")


class _EventProperties:
    """The event that a rule looks at: `event.seconds` is its property `seconds`; or `event["Page Title"]`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("_"):
            raise AttributeError(name)
        return Ref(f"event.{name}", "any")

    def __getitem__(self, name: str) -> Ref:
        return Ref(f"event.{name}", "any")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AuthoringError("an event has happened and can not be changed")

    def __repr__(self) -> str:
        return "event"


lead = _ScoredLead()
event = _EventProperties()


# -- points


def fit(name: str, when: Condition, points: Points, /, *, en: str = "") -> Fit:
    """Points for what a lead is. Negative ones are possible. `en`: what readers of English call the rule.

    >>> fit("部長以上", lead.rank.at_least("部長"), 20, en="Head of department or above").points
    20
    """
    spelling = 'fit("部長以上", lead.rank.at_least("部長"), 20)'
    return Fit(
        id=_text(name, spelling), when=_condition(when, f"fit({name!r}, …)"), points=_points(points, spelling),
        title_en=_text(en, 'en="Head of department or above"') if en != "" else "",
    )  # fmt: skip


@dataclass(frozen=True)
class Series:
    """Several events within a span; see `several`."""

    event: Pattern
    times: int
    within: Duration


def engagement(
    name: str,
    event: Pattern | Series,
    points: Points | By | Graded,
    /,
    *,
    where: Condition | None = None,
    at_most: int | None = None,
    per: Duration | None = None,
    once_for: Ref | None = None,
    half_life: Duration | None = None,
    en: str = "",
) -> Engagement:
    """Points for what a lead does: a number, `by(…)` or `graded(…)`. Negative ones are possible.

    - `where`: what the event's properties must be, beyond the pattern: `where=event.seconds >= 60`.
    - `at_most`: so many events count, the latest; 100 if it is left out, and one series of `visits`.
    - `per`: so many in each period instead of ever. Periods are fixed (days begin at midnight of the model's `time_zone`).
    - `once_for`: events with the same value count once: `once_for=event.content`.
    - `half_life`: after this span the points are half, after two a quarter; without it they stay.
    - `en`: what readers of English call the rule.

    >>> engagement("ホワイトペーパー", downloaded("whitepaper-*"), 20, at_most=2, half_life=days(90)).at_most
    2
    >>> engagement("料金ページ", visited("/pricing"), 30, per=days(30))
    Traceback (most recent call last):
    mebae.errors.AuthoringError: engagement('料金ページ', …, per=…): how many count in each period? write at_most=1, per=days(30)
    """
    place = f"engagement({_show(name)}, …)"
    spelling = 'engagement("料金ページ", visited("/pricing"), 30)'
    series = event if isinstance(event, Series) else None
    if per is not None and at_most is None:
        raise AuthoringError(
            f"engagement({_show(name)}, …, per=…): how many count in each period? write at_most=1, per=days(30)"
        )
    if at_most is not None and (isinstance(at_most, bool) or not isinstance(at_most, int) or not 1 <= at_most <= LIMIT):
        raise AuthoringError(f"{place}: at_most={at_most!r}: write a whole number from 1 to {LIMIT}")
    if series is not None and isinstance(points, (By, Graded)):
        raise AuthoringError(f"{place}: several events have no one property: write a number of points")
    if series is not None and once_for is not None:
        raise AuthoringError(f"{place}: once_for= is for single events, not for visits(…) or several(…)")
    if once_for is not None and not (isinstance(once_for, Ref) and once_for.ref.startswith("event.")):
        raise AuthoringError(
            f"{place}: once_for={_show(once_for)}: write a property of the event: once_for=event.content"
        )
    return Engagement(
        id=_text(name, spelling),
        title_en=_text(en, 'en="Pricing page"') if en != "" else "",
        event=_event(series.event if series is not None else event, place),
        where=None if where is None else _condition(where, f"{place}: where="),
        points=points if isinstance(points, (By, Graded)) else _points(points, spelling),
        at_most=at_most if at_most is not None else LIMIT if series is None else 1,
        per=None if per is None else _span(per, "per=days(30)"),
        once_for=None if once_for is None else once_for.ref,
        half_life=None if half_life is None else _span(half_life, "half_life=days(90)"),
        times=1 if series is None else series.times,
        within=None if series is None else series.within,
    )


def several(event: Pattern, *, times: int, within: Duration) -> Series:
    """In an `engagement`: so many of these events within a span. The event that completes the series gives the points.

    >>> several(clicked(), times=3, within=days(7)).times
    3
    """
    if isinstance(times, bool) or not isinstance(times, int) or not 2 <= times <= LIMIT:
        raise AuthoringError(f"times={times!r}: write a whole number from 2 to {LIMIT}")
    return Series(_event(event, "several(…)"), times, _span(within, "within=days(14)"))


def visits(path: OneOrMore | None = None, *, times: int, within: Duration) -> Series:
    """In an `engagement`: so many views of such a page within a span.

    >>> engagement("製品ページを繰り返し閲覧", visits("/products/*", times=3, within=days(14)), 15).times
    3
    """
    return several(visited(path), times=times, within=within)


def by(property: Ref, points: Mapping[Scalar, Points], /, *, otherwise: Points | None = None) -> By:
    """Points by the value of a property of the event. Without `otherwise`, an event with another value does not count.

    >>> by(event.budget, {"確保済み": 20, "検討中": 10}).of[0]
    ('確保済み', 20)
    """
    spelling = 'by(event.budget, {"確保済み": 20, "検討中": 10})'
    ref = _property(property, spelling)
    if not isinstance(points, Mapping) or not points:
        raise AuthoringError(f"by({ref}, {_show(points)}): write {spelling}")
    pairs = tuple((_scalar(value, f"by({ref}, …)"), _points(its, spelling)) for value, its in points.items())
    return By(ref=ref, of=pairs, otherwise=None if otherwise is None else _points(otherwise, spelling))


def graded(property: Ref, grades: Mapping[Points, Points], /) -> Graded:
    """Points by how much: those of the highest grade that the property reaches.

    >>> graded(event.seconds, {180: 5, 60: 2}).grades
    ((60, 2), (180, 5))
    """
    spelling = "graded(event.seconds, {60: 2, 180: 5})"
    ref = _property(property, spelling)
    if not isinstance(grades, Mapping) or not grades:
        raise AuthoringError(f"graded({ref}, {_show(grades)}): write {spelling}")
    return Graded(
        ref=ref, grades=tuple(sorted((_points(one, spelling), _points(its, spelling)) for one, its in grades.items()))
    )


# -- who is not meant, stages, qualification, topics


def exclude(name: str, when: Condition, /) -> Exclusion:
    """Who is no lead of ours: keeps its score, moves to no stage, is never qualified, and is listed with this name.

    >>> exclude("学生", lead.title.like("*学生*")).id
    '学生'
    """
    return Exclusion(
        id=_text(name, 'exclude("学生", lead.title.like("*学生*"))'), when=_condition(when, f"exclude({name!r}, …)")
    )


def stage(name: str, /, *, title: str = "", when: Condition | None = None, falls: bool = False, en: str = "") -> Stage:
    """One stage; the first has no `when`. A lead is in the highest whose condition held at any time.

    With `falls=True` it leaves the stage when the condition no longer holds; else decay moves it down never. `en`: what readers of
    English call it.

    >>> stage("interest", title="興味", when=(lead.score >= 50) | did(visited("/blog/*"), times=3)).title
    '興味'
    """
    if not isinstance(falls, bool):
        raise AuthoringError(f"stage({_show(name)}, falls={falls!r}): write falls=True, or leave it out")
    return Stage(
        id=_text(name, 'stage("interest", when=lead.score >= 50)'),
        title=_text(title, 'title="興味"'),
        when=None if when is None else _condition(when, f"stage({name!r}, when=…)"),
        falls=falls,
        title_en=_text(en, 'en="Interest"') if en != "" else "",
    )


def qualify(to: str, /, *, when: Condition) -> Qualification:
    """When a lead is qualified: `"mql"` or `"sql"`.

    >>> qualify("mql", when=(lead.score >= 100) & did(visited("/pricing"))).to
    'mql'
    """
    return Qualification(to=_text(to, 'qualify("mql", when=…)'), when=_condition(when, f"qualify({to!r}, when=…)"))


def topic(name: str, /, *events: Pattern, times: int = 1, within: Duration | None = None) -> Topic:
    """An interest that the lead shows by any of these events, together so many times, ever or in the window up to now.

    >>> topic("automation", visited("/products/automation*"), downloaded("*automation*"), times=2).times
    2
    """
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= LIMIT:
        raise AuthoringError(f"topic({_show(name)}, …, times={times!r}): write a whole number from 1 to {LIMIT}")
    return Topic(
        id=_text(name, 'topic("automation", visited("/products/automation*"))'),
        events=tuple(_event(one, f"topic({name!r}, …)") for one in events),
        times=times,
        within=None if within is None else _span(within, "within=days(180)"),
    )


def _points(value: object, spelling: str) -> Points:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AuthoringError(f"{_show(value)} is no number: write {spelling}")
    # 20.0 and 20 are the same model and so must be the same version.
    return int(value) if value == int(value) else value


def _property(value: object, spelling: str) -> str:
    if not isinstance(value, Ref) or not value.ref.startswith("event."):
        raise AuthoringError(f"{_show(value)} is no property of the event: write {spelling}")
    return value.ref
