"""The scoring model as data: what `scenarios/scoring.py` compiles to, with a content hash as a graph has one.

Every rule that looks at events is bounded, so that what must be kept of a lead (`mebae.scoring.Tally`) is bounded too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mebae.conditions import Condition, Data, Did, OlderThan, Pattern, Scalar, parts_of
from mebae.hashed import Hashed
from mebae.scoring_quick import Quick, QuickPattern, is_steady, only_fades, quick, quick_pattern
from mebae.timing import Duration, window
from mebae.words import STAGE_TITLES

FORMAT = 1
"""Raised when a model of today could not be read by the code of yesterday."""
LIMIT = 100
"""No rule ever looks at more than this many of a lead's events, the latest."""

Points = int | float


class By(Data):
    """`by(event.budget, {"fixed": 20, "planned": 10})`: points by the value of a property.

    Without `otherwise` an event with another value is not counted at all.
    """

    kind: Literal["by"] = "by"
    ref: str
    of: tuple[tuple[Scalar, Points], ...]
    otherwise: Points | None = None


class Graded(Data):
    """`graded(event.seconds, {60: 2, 180: 5})`: the points of the highest grade reached; below the lowest, not counted."""

    kind: Literal["graded"] = "graded"
    ref: str
    grades: tuple[tuple[Points, Points], ...]
    """From the lowest."""


class Fit(Data):
    """Points for what a lead is."""

    id: str
    when: Condition
    points: Points
    title_en: str = ""


class Engagement(Data):
    """Points for what a lead does. The latest `at_most` events count (of each period, if there is a `per`)."""

    id: str
    event: Pattern
    where: Condition | None = None
    """What the event's properties must meet beyond the pattern: `event.seconds >= 60`."""
    points: Points | Annotated[By | Graded, Field(discriminator="kind")]
    at_most: int = Field(default=LIMIT, ge=1, le=LIMIT)
    per: Duration | None = None
    once_for: str | None = None
    """A property such as `event.content`: of events with the same value (in the same period) only the latest counts."""
    half_life: Duration | None = None
    times: int = Field(default=1, ge=1, le=LIMIT)
    within: Duration | None = None
    """With `times`: what counts is an event that is the so-manieth within this span."""
    title_en: str = ""


class Exclusion(Data):
    """Who is no lead of ours, and why: never qualified, moves no stage, and listed with the reason."""

    id: str
    when: Condition


class Stage(Data):
    """One stage; the first has no condition, because everyone begins there."""

    id: str
    title: str = ""
    when: Condition | None = None
    falls: bool = False
    """Whether the lead leaves it when its condition no longer holds. Decay moves no stage down unless this is set."""
    title_en: str = ""


class Qualification(Data):
    to: str
    when: Condition


class Topic(Data):
    """What a lead is interested in, by what it reads."""

    id: str
    events: tuple[Pattern, ...]
    times: int = Field(default=1, ge=1, le=LIMIT)
    within: Duration | None = None


class Counter(NamedTuple):
    """Something that keeps events: a rule, a topic, or a `did(…)` in one of the conditions."""

    key: str
    patterns: tuple[Pattern, ...]
    limit: int
    rule: Engagement | None = None
    tests: tuple[QuickPattern, ...] = ()
    """Of the patterns for one event's name: whether the properties are what they want."""

    def of(self, name: str) -> Counter:
        return self._replace(tests=tuple(quick_pattern(one) for one in self.patterns if one.event == name))


class ScoringModel(Hashed):
    """A compiled scoring model. `version` is the hash of its content: equal content, equal version, on any machine."""

    newest_format = FORMAT
    called = "scoring model"

    ranks: tuple[str, ...] = ()
    """The lowest first."""
    fit: tuple[Fit, ...] = ()
    engagement: tuple[Engagement, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    stages: tuple[Stage, ...]
    qualifications: tuple[Qualification, ...] = ()
    topics: tuple[Topic, ...] = ()
    time_zone: str = "Asia/Tokyo"
    """Where a day begins, for caps of so many a day."""

    @cached_property
    def stage_ids(self) -> tuple[str, ...]:
        return tuple(stage.id for stage in self.stages)

    @cached_property
    def stage_titles(self) -> dict[str, str]:
        """The stages in their order, with what people call them."""
        return {stage.id: stage.title for stage in self.stages}

    def titled(self, rule: str, language: str = "en") -> str:
        """What readers of a language call a rule: its English title where it has one and they read no Japanese, else its name as
        written. Also of a rule that is not in the model any more."""
        return rule if language.lower().startswith("ja") else self._english.get(rule, rule)

    def stage_titled(self, stage: str, language: str = "en") -> str:
        """What readers of a language call a stage; empty where its id says it as well: of a stage that is called as it is here by
        default (認知) English readers have the id."""
        found = next((one for one in self.stages if one.id == stage), None)
        if found is None:
            return ""
        if language.lower().startswith("ja"):
            return found.title
        return found.title_en or ("" if found.title == STAGE_TITLES.get(stage) else found.title)

    @cached_property
    def _english(self) -> dict[str, str]:
        titles = {rule.id: rule.title_en for rule in self.fit}
        titles |= {rule.id: rule.title_en for rule in self.engagement}
        return {rule: title for rule, title in titles.items() if title}

    def conditions(self) -> Iterator[Condition]:
        """Every condition on a lead, in the order written."""
        yield from (rule.when for rule in self.fit)
        yield from (rule.when for rule in self.exclusions)
        yield from (stage.when for stage in self.stages if stage.when is not None)
        yield from (rule.when for rule in self.qualifications)

    @cached_property
    def half_lives(self) -> dict[str, int]:
        """In microseconds, by rule."""
        decaying = ((rule.id, rule.half_life) for rule in self.engagement if rule.half_life is not None)
        return {id: window(half_life) // timedelta(microseconds=1) for id, half_life in decaying}

    @cached_property
    def steady(self) -> frozenset[int]:
        """The conditions of `fit` and `exclusions`, by the identity of the object, that ask for nothing which time or events change."""
        conditions = [*(rule.when for rule in self.fit), *(rule.when for rule in self.exclusions)]
        return frozenset(id(when) for when in conditions if is_steady(when))

    @cached_property
    def fit_is_steady(self) -> bool:
        """Whether points for what a lead is, and exclusions, stay as they are until the lead is another."""
        whens = [*(rule.when for rule in self.fit), *(rule.when for rule in self.exclusions)]
        return all(id(when) in self.steady for when in whens)

    @cached_property
    def looks_at_dates(self) -> bool:
        """Whether a condition asks how long ago a date of the lead is: then a lead that does nothing may become another."""
        return any(isinstance(part, OlderThan) for condition in self.conditions() for part in parts_of(condition))

    @cached_property
    def quick(self) -> dict[int, Quick]:
        """Each condition as a plain function, by the identity of the object."""
        return {id(condition): quick(condition, self.did_keys) for condition in self.conditions()}

    @cached_property
    def engagement_by_key(self) -> dict[str, tuple[Engagement, int | None]]:
        """The rule that keeps events under a key, with its half-life in microseconds."""
        return {rule_key(rule): (rule, self.half_lives.get(rule.id)) for rule in self.engagement}

    @cached_property
    def only_fades(self) -> bool:
        """Whether without an event that counts no lead rises to a stage or qualifies, and none falls (see also `rising`)."""
        if not self.fit_is_steady or any(stage.falls for stage in self.stages):
            return False
        stages = [stage.when for stage in self.stages if stage.when is not None]
        return all(only_fades(when) for when in (*stages, *(rule.when for rule in self.qualifications)))

    @cached_property
    def rising(self) -> frozenset[str]:
        """The keys of rules whose points are negative and decay: where there are such, a score rises by itself."""
        return frozenset(
            rule_key(rule) for rule in self.engagement if rule.half_life is not None and _least(rule.points) < 0
        )

    @cached_property
    def did_keys(self) -> dict[int, str]:
        """The key of each pattern in the conditions, by the identity of the object: hashing it at every look would cost most."""
        parts = (part for condition in self.conditions() for part in parts_of(condition))
        return {id(part.pattern): did_key(part.pattern) for part in parts if isinstance(part, Did)}

    @cached_property
    def counters(self) -> dict[str, tuple[Counter, ...]]:
        """What keeps an event, by the event's name."""
        asked: dict[str, tuple[Pattern, int]] = {}
        for condition in self.conditions():
            for part in parts_of(condition):
                if isinstance(part, Did):
                    key = did_key(part.pattern)
                    asked[key] = part.pattern, max(part.times, asked[key][1] if key in asked else 1)
        every = [Counter(rule_key(rule), (rule.event,), rule.at_most, rule) for rule in self.engagement]
        every += [Counter(key, (pattern,), times) for key, (pattern, times) in asked.items()]
        every += [Counter(topic_key(topic), topic.events, topic.times) for topic in self.topics]
        index: dict[str, list[Counter]] = {}
        for counter in every:
            for name in dict.fromkeys(pattern.event for pattern in counter.patterns):
                index.setdefault(name, []).append(counter.of(name))
        return {name: tuple(its) for name, its in index.items()}


def _least(points: Points | By | Graded) -> Points:
    match points:
        case By(of=of, otherwise=otherwise):
            return min(*(its for _, its in of), otherwise or 0, 0)
        case Graded(grades=grades):
            return min(*(its for _, its in grades), 0)
        case plain:
            return plain


def rule_key(rule: Engagement) -> str:
    return f"rule/{rule.id}"


def topic_key(topic: Topic) -> str:
    return f"topic/{topic.id}"


def did_key(pattern: Pattern) -> str:
    """The same for patterns that mean the same, however their properties are ordered."""
    canonical = json.dumps(pattern.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)
    return f"did/{hashlib.sha256(canonical.encode()).hexdigest()[:16]}"
