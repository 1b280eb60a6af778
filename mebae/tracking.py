"""The tracking plan as data: which events a team uses, with which properties, on top of the standard table.

`scenarios/events.py` declares it (`mebae.tracking_language`). Scenarios, scoring and segments are checked against it, and
`mebae events` holds what really came beside it. Events are never refused because of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Literal, NamedTuple

from mebae.conditions import Match, Pattern, Scalar, like, same
from mebae.errors import did_you_mean
from mebae.events import EVENTS, IDENTIFIED, PROPERTIES, REQUESTED, canonical

Kind = Literal["text", "number", "boolean", "date", "one_of", "anything"]

_LONGEST_SHOWN = 30
"""Characters of a value that is shown: a longer one is no slip in a word."""

KINDS: dict[Kind, str] = {
    "text": "a text", "number": "a number", "boolean": "True or False", "date": "a date",
    "one_of": "one of a list", "anything": "anything",
}  # fmt: skip


class Property(NamedTuple):
    """What one property of an event may be."""

    kind: Kind
    values: tuple[Scalar, ...] = ()
    """Of `one_of`; a text with `*` stands for every text that it matches."""
    title: str = ""
    required: bool = False


class PlannedEvent(NamedTuple):
    """One event of the plan."""

    name: str
    title: str
    properties: Mapping[str, Property]
    is_open: bool = False
    """Whether it may have any other property too."""
    is_own: bool = False
    """Whether the team declares it, or narrows it."""


class Finding(NamedTuple):
    """What is wrong with a stored event, measured by the plan."""

    property: str
    kind: Literal["unknown", "wrong", "missing"]
    text: str
    """Says the kinds, and a value only where the plan has a closed list."""


STANDARD_PROPERTIES: dict[str, dict[str, Property]] = {
    name: {one: Property(kind) for one, kind in its.items()} for name, its in PROPERTIES.items()
}


@dataclass(frozen=True)
class TrackingPlan:
    """The standard events and those of the team, by name."""

    own: tuple[PlannedEvent, ...] = ()
    named: str = field(default="events.py", compare=False)
    """The file, as problems call it."""

    @cached_property
    def events(self) -> Mapping[str, PlannedEvent]:
        return {**STANDARD, **{event.name: _on_top(STANDARD.get(event.name), event) for event in self.own}}

    # -- what an author writes

    def wrong_event(self, name: str) -> str | None:
        """What is wrong with the name of an event, with the nearest right one; None if nothing is.

        >>> TrackingPlan().wrong_event("Content Downloded")
        "no event is called 'Content Downloded', did you mean 'Content Downloaded'?"
        """
        if name in self.events:
            return None
        near = self.nearest(name)
        cure = f", did you mean '{near}'?" if near else f": declare it in {self.named}, or use one of its events"
        return f"no event is called '{name}'{cure}"

    def nearest(self, name: str) -> str | None:
        """The planned event that was probably meant, also by one of its aliases.

        >>> TrackingPlan().nearest("White Paper Downloaded")
        'Content Downloaded'
        """
        if canonical(name) in self.events:
            return canonical(name)
        aliases = {alias.casefold(): spec.name for spec in EVENTS for alias in (spec.name, *spec.aliases)}
        aliases |= {one.casefold(): one for one in self.events}
        # Underscores and hyphens are how other tools write the same words.
        near = difflib.get_close_matches(name.casefold().replace("_", " ").replace("-", " "), aliases, n=1, cutoff=0.75)
        return aliases[near[0]] if near else None

    def wrong_property(self, event: str, name: str) -> str | None:
        """What is wrong with a property that is asked of an event; None if nothing is, or the event is unknown."""
        planned = self.events.get(event)
        if planned is None or planned.is_open or name in planned.properties:
            return None
        return f"'{event}' has no property '{name}'{did_you_mean(name, planned.properties)}"

    def wrong_value(self, event: str, name: str, want: Match) -> str | None:
        """Why a property of an event can never be this, with the nearest that it can be; None if it can.

        A text with `*` can be, if any text that it matches can.
        """
        planned = self.events.get(event)
        known = planned.properties.get(name) if planned is not None else None
        if known is None:
            return None
        for one in want if isinstance(want, tuple) else (want,):
            if not _possible(known, one):
                if known.kind == "one_of":
                    return f"'{name}' of '{event}' is never {one!r}{did_you_mean(str(one), map(str, known.values))}"
                return f"'{name}' of '{event}' is {KINDS[known.kind]}, {one!r} is none"
        return None

    def wrong_pattern(self, pattern: Pattern) -> list[str]:
        """Everything that is wrong with a pattern."""
        if (wrong := self.wrong_event(pattern.event)) is not None:
            return [wrong]
        found = []
        for name, want in pattern.where.items():
            wrong = self.wrong_property(pattern.event, name) or self.wrong_value(pattern.event, name, want)
            if wrong is not None:
                found.append(wrong)
        return found

    # -- what really came

    def findings(self, name: str, properties: Mapping[str, object]) -> list[Finding]:
        """What of a stored event is not as planned; nothing for an event that is not planned at all."""
        planned = self.events.get(name)
        if planned is None:
            return []
        found = []
        for key, value in properties.items():
            known = planned.properties.get(key)
            if known is None:
                if not planned.is_open:
                    near = difflib.get_close_matches(key, planned.properties, n=1, cutoff=0.6)
                    found.append(Finding(key, "unknown", f"did you mean '{near[0]}'?" if near else ""))
            elif not _is(known, value):
                found.append(Finding(key, "wrong", f"should be {KINDS[known.kind]}, came as {_came_as(known, value)}"))
        for key, known in planned.properties.items():
            if known.required and properties.get(key) in (None, ""):
                found.append(Finding(key, "missing", f"is required: {KINDS[known.kind]}"))
        return found


def _standard() -> dict[str, PlannedEvent]:
    found = {
        spec.name: PlannedEvent(
            spec.name,
            spec.meaning,
            ({spec.property: Property("text")} if spec.property is not None else {})
            | STANDARD_PROPERTIES.get(spec.name, {}),
            is_open=spec.is_open,
        )
        for spec in EVENTS
    }
    found[IDENTIFIED] = PlannedEvent(IDENTIFIED, "attributes of the lead changed", {}, is_open=True)
    found[REQUESTED] = PlannedEvent(REQUESTED, "a person or a scenario started a scenario", {}, is_open=True)
    return found


def _on_top(standard: PlannedEvent | None, own: PlannedEvent) -> PlannedEvent:
    if standard is None:
        return own
    properties = {**standard.properties, **own.properties}
    return own._replace(title=own.title or standard.title, properties=properties)


def _possible(known: Property, want: Scalar) -> bool:
    """Whether a property can ever be what a pattern asks for."""
    match known.kind:
        case "anything":
            return True
        case "one_of":
            return any(_overlap(one, want) for one in known.values)
        case "text" | "date":
            return isinstance(want, str)
        case "boolean":
            return isinstance(want, bool)
        case "number":
            return isinstance(want, (int, float)) and not isinstance(want, bool)


def _overlap(one: Scalar, other: Scalar) -> bool:
    """Whether two values, or globs, have a text in common."""
    if not isinstance(one, str) or not isinstance(other, str):
        return same(one, other)
    if "*" not in one or "*" not in other:
        return like(other, one) or like(one, other)
    (a, *_), (b, *_) = one.split("*"), other.split("*")
    (*_, c), (*_, d) = one.split("*"), other.split("*")
    # What is between two stars can always be put in: only the ends can exclude each other.
    return (a.startswith(b) or b.startswith(a)) and (c.endswith(d) or d.endswith(c))


def _is(known: Property, value: object) -> bool:
    """Whether a stored value is what the plan says. One that is missing is a matter of `required`."""
    if value is None:
        return True
    match known.kind:
        case "anything":
            return True
        case "one_of":
            return any(_equal(one, value) for one in known.values)
        case "text":
            return isinstance(value, str)
        case "date":
            return isinstance(value, str) and _is_date(value)
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(one: Scalar, value: object) -> bool:
    if isinstance(one, str) and "*" in one:
        return isinstance(value, str) and like(value, one)
    return same(value, one)


def _is_date(value: str) -> bool:
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _came_as(known: Property, value: object) -> str:
    """Its kind; of a closed list the value itself, which is a word that somebody chose, and not what a person typed."""
    if known.kind == "one_of" and isinstance(value, (str, int, float)) and len(str(value)) <= _LONGEST_SHOWN:
        return repr(value)
    return _kind_of(value)


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "True or False"
        case int() | float():
            return "a number"
        case str():
            return "another text" if value else "an empty text"
        case list():
            return "a list"
        case _:
            return "an object"


STANDARD: Mapping[str, PlannedEvent] = _standard()
