"""When a score that nobody touches passes a threshold: computed, not polled.

What decays is a sum of exponentials, one for each half-life. Between the turning points of that sum (none, unless there are
negative points too) it only falls or only rises, so that bisection finds each passing to the microsecond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from mebae.conditions import Among, Compare, Condition, evaluate, parts_of
from mebae.scoring import Profile, Tally, _counted, _Facts, decayed, micros, moment
from mebae.scoring_model import Points, ScoringModel

_HORIZON = micros(datetime(9999, 12, 30, tzinfo=UTC))
_SECOND = 1_000_000


def crossing(model: ScoringModel, tally: Tally, profile: Profile, threshold: float, now: datetime) -> datetime | None:
    """The first moment after `now` at which the total is below the threshold, if nothing else happens.

    None if it is below already, or stays above for ever. Exact: a microsecond earlier the total is still at the threshold.
    """
    curve = Curve.of(model, tally, profile, now)
    return _moment(curve.flips(threshold, micros(now))) if curve.at(micros(now)) >= threshold else None


def next_change(model: ScoringModel, tally: Tally, profile: Profile, now: datetime) -> datetime | None:
    """The first moment after `now` at which the whole-numbered score (`lead.score`) is another, if nothing else happens."""
    curve, at = Curve.of(model, tally, profile, now), micros(now)
    whole = math.floor(curve.at(at))
    return _earliest(
        *(_moment(curve.flips(one, at)) for one in (whole, whole + 1)), _fit_until(model, tally, profile, now)
    )


def score_valid_until(
    model: ScoringModel, tally: Tally, profile: Profile, condition: Condition, now: datetime
) -> datetime | None:
    """How long what the condition says of `lead.score` surely stays so, if nothing else happens (None: for ever).

    Take the earlier of this and of what `mebae.conditions.evaluate` answers, which knows of all but the score.
    """
    thresholds = dict.fromkeys(one for part in parts_of(condition) for one in _thresholds(part))
    if not thresholds:
        return None
    curve, at = Curve.of(model, tally, profile, now), micros(now)
    return _earliest(*(_moment(curve.flips(one, at)) for one in thresholds), _fit_until(model, tally, profile, now))


@dataclass(frozen=True)
class Curve:
    """A score as a function of time: what stays, and what decays (points, since when, half-life), in microseconds."""

    stays: tuple[float, ...]
    decays: tuple[tuple[Points, int, int], ...]

    @classmethod
    def of(cls, model: ScoringModel, tally: Tally, profile: Profile, now: datetime) -> Curve:
        facts = _Facts(model, tally, profile, now)
        stays = [float(rule.points) for rule in model.fit if evaluate(rule.when, facts).value]
        decays = []
        for _, half, counted in _counted(model, tally):
            if half is None:
                stays += [float(one.points) for one in counted]
            else:
                decays += [(one.points, one.at, half) for one in counted if one.points]
        return cls(tuple(stays), tuple(decays))

    def at(self, at: int) -> float:
        """The total at a moment: the same sum, rounded once, as `mebae.scoring.reckon` gives."""
        return math.fsum((*self.stays, *(decayed(points, since, half, at=at) for points, since, half in self.decays)))

    def flips(self, threshold: float, after: int) -> int | None:
        """The first moment after `after` at which "the total is at least the threshold" is no longer what it is then."""
        above = self.at(after) >= threshold
        edges = sorted({after, _HORIZON, *(since for _, since, _ in self.decays if since > after)})
        for start, end in pairwise(edges):
            for low, high in pairwise([start, *self._turns(start, end), end]):
                if (self.at(high) >= threshold) != above:
                    low, high = self._bracket(threshold, above, low, high)
                    return _bisect(lambda at: (self.at(at) >= threshold) != above, low, high)
        return None

    def _terms(self, start: int) -> dict[int, float]:
        """The points at `start` of all that decays then, by half-life."""
        terms: dict[int, float] = {}
        for points, since, half in self.decays:
            if since <= start:
                terms[half] = terms.get(half, 0.0) + decayed(points, since, half, at=start)
        return terms

    def _turns(self, start: int, end: int) -> list[int]:
        """Where it turns from falling to rising or back, between two moments."""
        slopes = [(1 / half, -points / half) for half, points in self._terms(start).items()]
        return [at for x in _roots(slopes, 0.0, float(end - start)) if start < (at := start + round(x)) < end]

    def _bracket(self, threshold: float, above: bool, low: int, high: int) -> tuple[int, int]:
        """Of one half-life the moment is known in closed form; within a second of it, if rounding agrees."""
        terms = self._terms(low)
        if len(terms) == 1 and all(since <= low for _, since, _ in self.decays):
            [(half, points)] = terms.items()
            rest = threshold - math.fsum(self.stays)
            if points and rest / points > 0:
                near = low + round(half * math.log2(points / rest))
                first, last = max(low, near - _SECOND), min(high, near + _SECOND)
                if first < last and (self.at(first) >= threshold) == above and (self.at(last) >= threshold) != above:
                    return first, last
        return low, high


def _roots(terms: Iterable[tuple[float, float]], low: float, high: float) -> list[float]:
    """Where `Σ b · 2^(-r·x)` is zero, by Rolle: between two zeros its derivative has one, with a term less once the slowest
    is divided out. It has no more zeros than its coefficients change sign (Descartes)."""
    terms = sorted((rate, factor) for rate, factor in terms if factor)
    if all((one > 0) == (other > 0) for (_, one), (_, other) in pairwise(terms)):
        return []
    slowest = terms[0][0]
    terms = [(rate - slowest, factor) for rate, factor in terms]

    def value(x: float) -> float:
        return math.fsum(factor * math.exp2(-rate * x) for rate, factor in terms)

    edges = [low, *_roots([(rate, -factor * rate) for rate, factor in terms[1:]], low, high), high]
    found = []
    for first, last in pairwise(edges):
        left, right = first, last
        if (value(left) > 0) == (value(right) > 0):
            continue
        for _ in range(100):
            middle = (left + right) / 2
            if not left < middle < right:
                break
            left, right = (middle, right) if (value(middle) > 0) == (value(first) > 0) else (left, middle)
        found.append(right)
    return found


def _bisect(is_past: Callable[[int], bool], low: int, high: int) -> int:
    """The first moment that is past, between one that is not and one that is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_past(middle) else (middle, high)
    return high


def _thresholds(part: Condition) -> list[int]:
    """Those that the total passes when a comparison of the whole-numbered score changes."""
    match part:
        case Compare(ref="lead.score", op=op, to=int() | float() as to) if not isinstance(to, bool):
            up, down = math.ceil(to), math.floor(to) + 1
            return {"ge": [up], "lt": [up], "gt": [down], "le": [down]}.get(op, [up, down])
        case Among(ref="lead.score", to=values):
            numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
            return [edge for one in numbers for edge in (math.ceil(one), math.floor(one) + 1)]
    return []


def _fit_until(model: ScoringModel, tally: Tally, profile: Profile, now: datetime) -> datetime | None:
    """Until when the points for what the lead is surely stay (a date in a fit rule may come)."""
    facts = _Facts(model, tally, profile, now)
    return _earliest(*(evaluate(rule.when, facts).valid_until for rule in model.fit))


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((one for one in moments if one is not None), default=None)


def _moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)
