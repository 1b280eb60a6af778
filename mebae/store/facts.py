"""What the database knows of one lead, for `mebae.conditions.evaluate`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.conditions import Among, Compare, Condition, Facts, ListRef, Pattern
from mebae.scoring_decay import score_valid_until
from mebae.store.conditions_sql import COLUMNS, pattern_sql
from mebae.store.scoring import stages_of
from mebae.store.standing import Standing, standing
from mebae.store.tables import Event, Lead


class LeadFacts(Facts):
    """Facts of a lead's row, its score at this moment, its entry's properties and its stored events.

    Events are asked for when a condition needs them, each question once: make a new one after storing more.
    """

    def __init__(
        self,
        session: Session,
        lead: Lead,
        now: datetime,
        entry: Mapping[str, object] | None = None,
        *,
        stages: Sequence[str] | None = None,
    ) -> None:
        self._session, self._lead, self._now = session, lead, now
        self._stages = stages
        self._entry: Mapping[str, object] = entry if entry is not None else {}
        self._times: dict[tuple[str, datetime | None], Sequence[datetime]] = {}
        self._stood, self._standing = False, None  # type: bool, Standing | None

    @property
    def now(self) -> datetime:
        return self._now

    @property
    def stages(self) -> Sequence[str]:
        return stages_of(self._session) if self._stages is None else self._stages

    def value(self, ref: str) -> object:
        root, _, name = ref.partition(".")
        if root == "entry":
            return self._entry.get(name)
        if name == "score" and self.standing is not None:
            return self.standing.score.whole
        return getattr(self._lead, name) if name in COLUMNS else self._lead.attributes.get(name)

    def tags(self, ref: ListRef) -> Collection[str]:
        return getattr(self._lead, ref.partition(".")[2])  # type: ignore[no-any-return]

    def until(self, part: Condition) -> datetime | None:
        if not isinstance(part, (Compare, Among)) or part.ref != "lead.score" or self.standing is None:
            return None
        held = self.standing
        return score_valid_until(held.scoring.model, held.tally, held.profile, part, self._now)

    @property
    def standing(self) -> Standing | None:
        """The score at this very moment, with what it comes from; None where the row's own is all that is known."""
        # No cached_property: Python 3.11 holds one lock for all leads meanwhile, and this asks the database, which may wait.
        if not self._stood:
            self._stood, self._standing = True, standing(self._session, self._lead, self._now, recount=False)
        return self._standing

    def times(self, pattern: Pattern, after: datetime | None) -> Sequence[datetime]:
        key = (pattern.model_dump_json(), after)
        if key not in self._times:
            query = select(Event.occurred_at).where(Event.lead_id == self._lead.id, pattern_sql(pattern))
            if after is not None:
                query = query.where(Event.occurred_at > after)
            self._times[key] = self._session.exec(query.order_by(col(Event.occurred_at))).all()
        return self._times[key]
