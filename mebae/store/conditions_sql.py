"""The SQL evaluator of conditions: for all leads at once what `mebae.conditions.evaluate` says of one.

Both are two-valued: nothing here is ever NULL, so that `NOT` is plain negation. A property test holds the two equal, on
SQLite and PostgreSQL. Numbers are told apart exactly up to 2**53, as everywhere in JSON. A text with NUL or half a
surrogate pair equals nothing, because PostgreSQL cannot store one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, false, func, not_, or_, select, true
from sqlmodel import SQLModel

from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Known,
    Like,
    Match,
    Not,
    OlderThan,
    Pattern,
    Scalar,
    Tagged,
    back,
)
from mebae.errors import BadInput
from mebae.events import BY_MACHINES_TOO
from mebae.store import elements, tables
from mebae.timing import window
from mebae.words import STAGES

Truth = ColumnElement[bool]

_leads = SQLModel.metadata.tables[tables.Lead.__tablename__].c
_events = SQLModel.metadata.tables[tables.Event.__tablename__].c

TEXTS = (
    "email", "user_id", "name", "company", "title", "industry", "language", "time_zone", "stage", "qualification",
    "rank", "industry_group", "first_source", "first_campaign", "last_source", "last_campaign",
)  # fmt: skip
NUMBERS = ("score", "company_size")
TIMES = ("created_at", "updated_at", "opted_out_at", "active_at", "contacted_at")
LISTS = ("tags", "topics", "excluded")
COLUMNS = (*TEXTS, *NUMBERS, *TIMES, *LISTS)
"""What `lead.…` names that is a column of its own; any other name is a key of `attributes`."""


def to_sql(condition: Condition, now: datetime, *, stages: Sequence[str] = STAGES) -> Truth:
    """The condition as a `WHERE` over the leads table: `select(Lead).where(to_sql(condition, now))`.

    Raises `BadInput` for `entry.…`, which a lead has only within a journey, and for business days in a window.
    """
    match condition:
        case All():
            return and_(true(), *(to_sql(part, now, stages=stages) for part in condition.of))
        case Any_():
            return or_(false(), *(to_sql(part, now, stages=stages) for part in condition.of))
        case Not():
            return not_(to_sql(condition.of, now, stages=stages))
        case Did():
            return _did(condition, now)
        case Tagged():
            words = _leads[condition.ref.partition(".")[2]]
            return elements.HasTag(words, elements.text(condition.to)) if _storable(condition.to) else false()
        case AtLeast():
            later = list(stages)[list(stages).index(condition.to) :] if condition.to in stages else []
            return _leads.stage.in_(later) if later else false()
        case Compare(op="eq"):
            return _value(condition.ref).equals(condition.to)
        case Compare():
            if isinstance(condition.to, (bool, str)):
                return false()
            return _value(condition.ref).ordered(condition.op, condition.to)
        case Among():
            value = _value(condition.ref)
            return or_(false(), *(value.equals(one) for one in condition.to))
        case Like():
            return _value(condition.ref).like(condition.to)
        case Known():
            return _value(condition.ref).known()
        case OlderThan():
            return _value(condition.ref).older(back(now, window(condition.span)))


def pattern_sql(pattern: Pattern) -> Truth:
    """The pattern as a `WHERE` over the events table; what `mebae.conditions.matches` says of one event."""
    if not _storable(pattern.event):
        return false()
    properties = [_meets(_Attribute(_events.properties, key), want) for key, want in pattern.where.items()]
    if pattern.event in BY_MACHINES_TOO and "verdict" not in pattern.where:
        verdict = _Attribute(_events.properties, "verdict")
        properties.append(or_(verdict.kind.is_(None), verdict.equals("human")))
    return and_(_events.name == pattern.event, *properties)


def _meets(value: _Attribute, want: Match) -> Truth:
    if isinstance(want, tuple):
        return or_(false(), *(_meets(value, one) for one in want))
    if isinstance(want, str) and "*" in want:
        return value.like(want)
    return value.equals(want)


def _did(condition: Did, now: datetime) -> Truth:
    where = [_events.lead_id == _leads.id, pattern_sql(condition.pattern)]
    if condition.within is not None:
        where.append(_events.occurred_at > back(now, window(condition.within)))
    if condition.times == 1:
        return exists().where(*where).correlate(_leads.id.table)
    count = select(func.count(_events.id)).where(*where).correlate(_leads.id.table).scalar_subquery()
    return count >= condition.times


def _value(ref: str) -> _Value:
    root, _, name = ref.partition(".")
    if root == "entry":
        raise BadInput(
            f"'{ref}' is known only within a journey: a segment or sweep over leads can ask for lead.… and did(…)"
        )
    if root != "lead" or not name:
        raise BadInput(f"'{ref}' names nothing: write lead.… or entry.…")
    if name in TEXTS:
        return _TextColumn(_leads[name])
    if name in NUMBERS:
        return _NumberColumn(_leads[name])
    if name in TIMES:
        return _TimeColumn(_leads[name])
    if name in LISTS:
        return _Value()
    return _Attribute(_leads.attributes, name)


class _Value:
    """Something that conditions compare. What a kind of value cannot be is false."""

    def equals(self, to: Scalar) -> Truth:
        return false()

    def ordered(self, op: str, to: float) -> Truth:
        return false()

    def like(self, glob: str) -> Truth:
        return false()

    def known(self) -> Truth:
        return true()

    def older(self, since: datetime) -> Truth:
        return false()


class _Column(_Value):
    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column

    def known(self) -> Truth:
        return self.column.is_not(None)

    def _and(self, truth: Truth) -> Truth:
        # Not `coalesce(…, false)`: this form can use an index.
        return and_(self.column.is_not(None), truth)


class _TextColumn(_Column):
    def equals(self, to: Scalar) -> Truth:
        return self._and(self.column == to) if isinstance(to, str) and _storable(to) else false()

    def like(self, glob: str) -> Truth:
        return self._and(elements.glob(self.column, glob)) if _storable(glob) else false()

    def known(self) -> Truth:
        return self._and(self.column != "")

    def older(self, since: datetime) -> Truth:
        return self._and(_day_not_after(self.column, since))


class _NumberColumn(_Column):
    def equals(self, to: Scalar) -> Truth:
        return false() if isinstance(to, (bool, str)) else self.ordered("eq", to)

    def ordered(self, op: str, to: float) -> Truth:
        return self._and(_ORDERS[op](self.column, elements.numeric(to)))


class _TimeColumn(_Column):
    def older(self, since: datetime) -> Truth:
        return self._and(self.column <= since)


class _Attribute(_Value):
    """A key of a JSON object, which may be missing or of any kind. `CASE` asks for the kind before it reads the value."""

    def __init__(self, column: ColumnElement[Any], key: str) -> None:
        self.stored = _storable(key)
        self.kind, self.text, self.number = elements.json_parts(column, key if self.stored else "")

    def equals(self, to: Scalar) -> Truth:
        if isinstance(to, bool):
            return self._if(("true" if to else "false",), true())
        if isinstance(to, str):
            return self._if(_TEXT, self.text == elements.text(to)) if _storable(to) else false()
        return self.ordered("eq", to)

    def ordered(self, op: str, to: float) -> Truth:
        return self._if(_NUMBER, _ORDERS[op](self.number, elements.exact(to)))

    def like(self, glob: str) -> Truth:
        return self._if(_TEXT, elements.glob(self.text, glob)) if _storable(glob) else false()

    def known(self) -> Truth:
        there = func.coalesce(self.kind != "null", false())
        return case((self.kind.in_(_TEXT), self.text != ""), else_=there) if self.stored else false()

    def older(self, since: datetime) -> Truth:
        return self._if(_TEXT, _day_not_after(self.text, since))

    def _if(self, kinds: tuple[str, ...], truth: Truth) -> Truth:
        return case((self.kind.in_(kinds), truth), else_=false()) if self.stored else false()


_TEXT = ("text", "string")
_NUMBER = ("integer", "real", "number")
_ORDERS: dict[str, Callable[[ColumnElement[Any], ColumnElement[Any]], Truth]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _day_not_after(value: ColumnElement[Any], since: datetime) -> Truth:
    """Text compares as text: a cast would fail for the whole query at one lead's "2026-02-30"."""
    return and_(elements.LooksLikeADate(value), func.substr(value, 1, 10) <= elements.text(since.date().isoformat()))
