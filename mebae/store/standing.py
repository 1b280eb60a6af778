"""How a lead stands at one moment: its score with every reason, exactly, whenever it is asked."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session

from mebae.conditions import Facts
from mebae.scoring import Profile, Score, Tally, facts_at, reckon
from mebae.store.scoring import Scoring, active_scoring, profile_of, stored_events, tally_of
from mebae.store.tables import Lead

REASONS = 3
"""Rules that are named in brief."""
_LONGEST = 40
"""Characters of a rule's name there."""


class Standing(NamedTuple):
    """A lead's score and what it comes from."""

    scoring: Scoring
    tally: Tally
    profile: Profile
    score: Score
    is_recounted: bool
    """Counted here from all of its events: the row has not been scored by this model yet."""

    def facts(self, lead: Lead, now: datetime) -> Facts:
        """What the scoring model's conditions see."""
        return facts_at(self.scoring.model, self.tally, self.profile, now, held=lead.stage)

    @property
    def by_rule(self) -> list[tuple[str, float]]:
        """Rules and what they give now, those that weigh most first."""
        found: dict[str, float] = {}
        for reason in self.score.reasons:
            found[reason.rule] = found.get(reason.rule, 0.0) + reason.points
        return sorted(found.items(), key=lambda one: (-abs(one[1]), one[0]))

    @property
    def in_brief(self) -> str:
        """The score and its main reasons in a line, by the rules' names: nothing of the lead itself, so Temporal may hold it."""
        rules = self.by_rule
        named = ", ".join(f"{self.scoring.model.titled(rule)[:_LONGEST]} {points_words(points)}" for rule, points in rules[:REASONS])
        more = ", …" if len(rules) > REASONS else ""
        return f"{self.score.whole}" + (f" ({named}{more})" if named else "")


def standing(session: Session, lead: Lead, now: datetime, *, recount: bool = True) -> Standing | None:
    """None where no model was ever published; without `recount` also where the lead has yet to be scored by the active one."""
    scoring = active_scoring(session)
    if scoring is None:
        return None
    tally, is_recounted = tally_of(lead, scoring), False
    if tally is None:
        if not recount:
            return None
        assert lead.id is not None
        tally, is_recounted = Tally.of(scoring.model, (event for _, event in stored_events(session, [lead.id]))), True
    profile = profile_of(lead, scoring.mapping)
    found = reckon(scoring.model, tally, profile, now, held=lead.stage)
    return Standing(scoring, tally, profile, found, is_recounted)


def points_words(points: float) -> str:
    """
    >>> points_words(20.0), points_words(18.249), points_words(-5)
    ('20', '18.2', '-5')
    """
    return f"{round(points, 1):g}"
