"""Conditions of a scoring model as plain functions: whether they hold, without how long.

A replay asks for stage and qualifications at every event of a lead's life, and a rescore does that for all leads: there
`mebae.conditions.evaluate`, which also foresees when each part changes, costs most of the time. A property test holds the
two equal (`tests/test_scoring_quick.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from mebae.conditions import All, Any_, Compare, Condition, Did, Not, OlderThan, evaluate, parts_of, refs_of
from mebae.timing import window

_MICRO = timedelta(microseconds=1)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


class Moment(Protocol):
    """What a test asks: a lead at one moment (`mebae.scoring._Facts`)."""

    at: int
    """Microseconds since 1970."""
    score: int | None

    def kept(self, key: str) -> Any:
        """The events that the tally keeps under this key."""
        ...

    def meets(self, condition: Condition) -> bool: ...


Test = Callable[[Any], bool]


def test_of(condition: Condition, did_keys: Mapping[int, str]) -> Test:
    """The condition as a function of a moment. `did_keys`: the key of each pattern in it, by its identity."""
    match condition:
        case All() | Any_():
            stops_at = isinstance(condition, Any_)
            tests = [test_of(part, did_keys) for part in condition.of]

            def several(moment: Moment) -> bool:
                for test in tests:
                    if test(moment) is stops_at:
                        return stops_at
                return not stops_at

            return several
        case Not():
            inner = test_of(condition.of, did_keys)
            return lambda moment: not inner(moment)
        case Did(times=times, within=within):
            key = did_keys[id(condition.pattern)]
            if within is None:
                return lambda moment: len(moment.kept(key)) >= times
            span = window(within) // _MICRO
            return lambda moment: sum(one.at > moment.at - span for one in moment.kept(key)) >= times
        case Compare(ref="lead.score", op=op, to=int() | float() as to) if op in _ORDERS and not isinstance(to, bool):
            order = _ORDERS[op]
            return lambda moment: order(moment.score, to)
        case _:
            return lambda moment: bool(moment.meets(condition))


def is_steady(condition: Condition) -> bool:
    """Whether neither time nor events change what it says, of a lead that stays what it is."""
    parts = parts_of(condition)
    changing = any(isinstance(part, (Did, OlderThan)) for part in parts)
    return not changing and not {"lead.score", "lead.stage"} & set(refs_of(condition))


def only_fades(condition: Condition) -> bool:
    """Whether it can become true by an event only (or by another stage), as long as the score does not rise by itself."""
    match condition:
        case All() | Any_():
            return all(only_fades(part) for part in condition.of)
        case Did():
            return True
        case Compare(ref="lead.score", op="ge" | "gt"):
            return True
        case OlderThan():
            return False
        case _:
            return not {"lead.score"} & set(refs_of(condition)) and not any(
                isinstance(part, (Did, OlderThan)) for part in parts_of(condition)
            )


__all__ = ["Moment", "Test", "evaluate", "is_steady", "only_fades", "test_of"]
