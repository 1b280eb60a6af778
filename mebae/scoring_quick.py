"""Conditions of a scoring model as plain functions: whether they hold, without how long.

A replay asks for stage and qualifications at every event of a lead's life, and a rescore does that for all leads: there
`mebae.conditions.evaluate`, which also foresees when each part changes, costs most of the time. A property test holds the
two equal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from mebae.conditions import (
    All,
    Among,
    Any_,
    Compare,
    Condition,
    Did,
    Facts,
    Like,
    Match,
    Not,
    OlderThan,
    Pattern,
    Scalar,
    Tagged,
    evaluate,
    like,
    parts_of,
    refs_of,
    same,
)
from mebae.timing import window

_MICRO = timedelta(microseconds=1)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


class Moment(Facts, Protocol):
    """What is asked: a lead at one moment of its life."""

    at: int
    """Microseconds since 1970."""
    score: int | None

    def kept(self, key: str) -> Sequence[Any]:
        """The events that the tally keeps under this key."""
        ...


Quick = Callable[[Moment], bool]
QuickPattern = Callable[[Mapping[str, Any]], bool]


def quick(condition: Condition, did_keys: Mapping[int, str]) -> Quick:
    """The condition as a function of a moment. `did_keys`: the key of each pattern in it, by the pattern's identity."""
    match condition:
        case All() | Any_():
            return _several([quick(part, did_keys) for part in condition.of], stops_at=isinstance(condition, Any_))
        case Not():
            inner = quick(condition.of, did_keys)
            return lambda moment: not inner(moment)
        case Did(times=times, within=None):
            key = did_keys[id(condition.pattern)]
            return lambda moment: len(moment.kept(key)) >= times
        case Did(times=times, within=within) if within is not None:
            key, span = did_keys[id(condition.pattern)], window(within) // _MICRO
            return lambda moment: sum(one.at > moment.at - span for one in moment.kept(key)) >= times
        case Compare(ref="lead.score", op=op, to=int() | float() as to) if op in _ORDERS and not isinstance(to, bool):
            order = _ORDERS[op]
            return lambda moment: order(moment.score, to)
        case Compare(op="eq", ref=ref, to=to):
            return lambda moment: same(moment.value(ref), to)
        case Compare(ref=ref, op=op, to=int() | float() as to) if not isinstance(to, bool):
            order = _ORDERS[op]
            return lambda moment: _is_number(value := moment.value(ref)) and order(value, to)
        case Among(ref=ref, to=values):
            return lambda moment: _among(moment.value(ref), values)
        case Like(ref=ref, to=glob):
            return lambda moment: isinstance(value := moment.value(ref), str) and like(value, glob)
        case Tagged(ref=tags, to=to):
            return lambda moment: to in moment.tags(tags)
        case _:
            return lambda moment: evaluate(condition, moment).value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _among(value: object, values: Sequence[Scalar]) -> bool:
    for one in values:  # noqa: SIM110  (a generator costs more than the values)
        if same(value, one):
            return True
    return False


def quick_pattern(pattern: Pattern) -> QuickPattern:
    """Whether an event of the pattern's name has the properties that it names: `mebae.conditions.matches`.

    >>> paper = quick_pattern(Pattern(event="Content Downloaded", where={"content": "whitepaper-*"}))
    >>> paper({"content": "whitepaper-7"}), paper({"content": "brochure"}), paper({})
    (True, False, False)
    """
    wanted = [(key, _wanted(want)) for key, want in pattern.where.items()]
    if len(wanted) == 1:
        [(key, test)] = wanted
        return lambda properties: test(properties.get(key))
    return lambda properties: all(test(properties.get(key)) for key, test in wanted)


def _wanted(want: Match) -> Callable[[object], bool]:
    if isinstance(want, tuple):
        several = [_wanted(one) for one in want]
        return lambda value: any(test(value) for test in several)
    if not isinstance(want, str):
        return lambda value: same(value, want)
    head, star, tail = want.partition("*")
    if not star:
        return lambda value: value == want
    if not tail:  # most globs are the beginning of a path, and no regular expression is needed for that
        return lambda value: isinstance(value, str) and value.startswith(head)
    return lambda value: isinstance(value, str) and like(value, want)


def _several(tests: Sequence[Quick], *, stops_at: bool) -> Quick:
    def of_them(moment: Moment) -> bool:
        for test in tests:
            if test(moment) is stops_at:
                return stops_at
        return not stops_at

    return of_them


def is_steady(condition: Condition) -> bool:
    """Whether neither time nor events change what it says, of a lead that stays what it is."""
    return not _looks_at(condition, "lead.score", "lead.stage") and not _counts(condition)


def only_fades(condition: Condition) -> bool:
    """Whether it needs an event to become true, or another stage, where no score rises by itself."""
    match condition:
        case All() | Any_():
            return all(only_fades(part) for part in condition.of)
        case Did() | Compare(ref="lead.score", op="ge" | "gt"):
            return True
        case _:
            return not _looks_at(condition, "lead.score") and not _counts(condition)


def _looks_at(condition: Condition, *refs: str) -> bool:
    return any(ref in refs for ref in refs_of(condition))


def _counts(condition: Condition) -> bool:
    return any(isinstance(part, (Did, OlderThan)) for part in parts_of(condition))
