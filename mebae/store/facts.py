"""What the database knows of one lead, for `mebae.conditions.evaluate`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from mebae.conditions import Facts, Pattern
from mebae.store.conditions_sql import COLUMNS, pattern_sql
from mebae.store.tables import Event, Lead
from mebae.words import STAGES


class LeadFacts(Facts):
    """Facts of a lead's row, its entry's properties and its stored events. Events are asked for when a condition needs them,
    each question once: make a new one after storing more."""

    def __init__(
        self,
        session: Session,
        lead: Lead,
        now: datetime,
        entry: Mapping[str, object] | None = None,
        *,
        stages: Sequence[str] = STAGES,
    ) -> None:
        self._session, self._lead, self._now, self._stages = session, lead, now, stages
        self._entry: Mapping[str, object] = entry if entry is not None else {}
        self._times: dict[tuple[str, datetime | None], Sequence[datetime]] = {}

    @property
    def now(self) -> datetime:
        return self._now

    @property
    def stages(self) -> Sequence[str]:
        return self._stages

    def value(self, ref: str) -> object:
        root, _, name = ref.partition(".")
        if root == "entry":
            return self._entry.get(name)
        return getattr(self._lead, name) if name in COLUMNS else self._lead.attributes.get(name)

    def tags(self) -> Collection[str]:
        return self._lead.tags

    def times(self, pattern: Pattern, after: datetime | None) -> Sequence[datetime]:
        key = (pattern.model_dump_json(), after)
        if key not in self._times:
            query = select(Event.occurred_at).where(Event.lead_id == self._lead.id, pattern_sql(pattern))
            if after is not None:
                query = query.where(Event.occurred_at > after)
            self._times[key] = self._session.exec(query.order_by(col(Event.occurred_at))).all()
        return self._times[key]
