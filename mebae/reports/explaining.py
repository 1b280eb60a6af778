"""A condition, part by part: what it says, whether that is so of a lead, and what the lead has instead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from mebae.conditions import (
    All,
    Any_,
    Condition,
    Did,
    Facts,
    Not,
    OlderThan,
    Tagged,
    back,
    evaluate,
)
from mebae.programs.wording import condition_words
from mebae.timing import window

_LONGEST = 80
"""Characters of a lead's value that are shown."""


class Explained(BaseModel):
    """One part of a condition, with the parts that it is made of."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["all", "any", "not", "one"]
    words: str
    value: bool
    actual: str = ""
    """What the lead has, of a part that looks at it."""
    until: datetime | None = None
    """How long that surely stays so if nothing happens; None: for ever."""
    of: tuple[Explained, ...] = ()

    @property
    def missing(self) -> str:
        """In English words, what would have to become true; empty if it is."""
        return _missing(self)


class Say(Protocol):
    """A language to explain in."""

    def words(self, condition: Condition) -> str: ...

    def actual(self, part: Condition, facts: Facts, zone: str) -> str:
        """What the lead has instead of what a part asks for; empty of one that is made of parts."""
        ...


class English:
    """The language of commands and reports."""

    def words(self, condition: Condition) -> str:
        return condition_words(condition)

    def actual(self, part: Condition, facts: Facts, zone: str) -> str:
        return _actual(part, facts, zone)


ENGLISH = English()


def explain(condition: Condition, facts: Facts, zone: str = "UTC", say: Say = ENGLISH) -> Explained:
    """Why a condition holds or not. The value of each part is what `evaluate` says of it. Times are shown in `zone`.

    >>> from datetime import UTC
    >>> from mebae.conditions import Compare, SimpleFacts
    >>> asked = Compare(op="ge", ref="lead.score", to=50) & Compare(op="eq", ref="lead.industry", to="it")
    >>> told = explain(asked, SimpleFacts(datetime(2026, 4, 1, tzinfo=UTC), lead={"score": 30, "industry": "it"}))
    >>> told.value, [(part.words, part.value, part.actual) for part in told.of]
    (False, [('score ≥ 50', False, '30'), ('industry is it', True, 'it')])
    >>> told.missing
    'score ≥ 50 (now: 30)'
    """
    words, until = say.words(condition), evaluate(condition, facts).valid_until
    match condition:
        case All():
            parts = _each(condition.of, facts, zone, say)
            value = all(part.value for part in parts)
            return Explained(kind="all", words=words, value=value, until=until, of=parts)
        case Any_():
            parts = _each(condition.of, facts, zone, say)
            value = any(part.value for part in parts)
            return Explained(kind="any", words=words, value=value, until=until, of=parts)
        case Not():
            parts = _each((condition.of,), facts, zone, say)
            return Explained(kind="not", words=words, value=not parts[0].value, until=until, of=parts)
        case _:
            value = evaluate(condition, facts).value
            return Explained(kind="one", words=words, value=value, actual=say.actual(condition, facts, zone), until=until)


def moment_words(moment: datetime, zone: str) -> str:
    """A moment as a person in this zone reads it.

    >>> from datetime import UTC
    >>> moment_words(datetime(2026, 4, 1, 1, 5, tzinfo=UTC), "Asia/Tokyo")
    '2026-04-01 10:05'
    """
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def distance_words(moment: datetime, now: datetime) -> str:
    """
    >>> from datetime import UTC
    >>> now = datetime(2026, 4, 10, tzinfo=UTC)
    >>> distance_words(datetime(2026, 4, 1, tzinfo=UTC), now), distance_words(datetime(2026, 4, 10, 3, tzinfo=UTC), now)
    ('9 days ago', 'in 3 hours')
    """
    span = abs(moment - now)
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if span >= length:
            count = span // length
            said = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"in {said}" if moment > now else f"{said} ago"
    return "now"


def _each(conditions: Sequence[Condition], facts: Facts, zone: str, say: Say) -> tuple[Explained, ...]:
    return tuple(explain(part, facts, zone, say) for part in conditions)


def times_of(part: Did, facts: Facts) -> Sequence[datetime]:
    """When they did it, as far back as the condition looks."""
    return facts.times(part.pattern, None if part.within is None else back(facts.now, window(part.within)))


def _actual(part: Condition, facts: Facts, zone: str) -> str:
    match part:
        case Did():
            times = times_of(part, facts)
            if not times:
                return "never" if part.within is None else "not in that time"
            often = f"{len(times)} times, last " if len(times) > 1 else "once, "
            return often + moment_words(max(times), zone)
        case Tagged():
            return ", ".join(sorted(facts.tags(part.ref))) or "none"
        case OlderThan():
            value = facts.value(part.ref)
            if isinstance(value, datetime):
                return f"{moment_words(value, zone)}, {distance_words(value, facts.now)}"
            return value_words(value)
        case All() | Any_() | Not():
            return ""
        case _:
            return value_words(facts.value(part.ref), zone)


def value_words(value: object, zone: str = "UTC") -> str:
    """What a lead has for an attribute, in a line.

    >>> value_words(None), value_words(True), value_words("a\\nb"), value_words(["x", "y"])
    ('not known', 'true', 'a b', 'x, y')
    """
    if value is None or value == "":
        return "not known"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return moment_words(value, zone)
    text = ", ".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _missing(told: Explained) -> str:
    if told.value:
        return ""
    lacking = [part for part in told.of if not part.value]
    match told.kind:
        case "all":
            return _missing(lacking[0]) if len(lacking) == 1 else " and ".join(_bracketed(part) for part in lacking)
        case "any":
            return ", or ".join(_missing(part) for part in lacking)
        case "not":
            # It holds, and should not: all that can be said is what it is.
            has = f" (now: {told.of[0].actual})" if told.of[0].actual else ""
            return f"{told.words}{has}"
        case "one":
            return f"{told.words} (now: {told.actual})"


def _bracketed(part: Explained) -> str:
    said = _missing(part)
    return f"({said})" if part.kind == "any" and len([one for one in part.of if not one.value]) > 1 else said


Explained.model_rebuild()
