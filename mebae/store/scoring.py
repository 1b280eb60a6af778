"""Scores where the leads are: the published model, what a lead's events and attributes come to, and the ledger of why.

`score_leads` runs in the transaction that stores the events, under the leads' locks (`ingest.EventLog.write`). What it must
remember of a lead stands on its row as an `Account`: the tally, the points that the ledger has noted, and which stage and
qualification have been told as events.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, Self

from sqlalchemy import insert
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from mebae.events import BY_VERB
from mebae.scoring import Event, EventLike, Life, Profile, Score, Tally, is_human, reckon, replay, time_dependent_until
from mebae.scoring_decay import next_change
from mebae.scoring_loading import LoadedScoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.store.conditions_sql import COLUMNS
from mebae.store.tables import Lead, PublishedScoring, ScoreChange, ScoringVersionRow
from mebae.words import STAGE_TITLES, STAGES

STAGE_REACHED = BY_VERB["stage_reached"].name
QUALIFIED = BY_VERB["qualified"].name

SOON = timedelta(days=1)
"""How often, at most, time alone is let change a lead's row. What a journey asks is exact at any moment all the same."""
NOT_QUALIFIED = ("none", "lost")
"""What may become an MQL. A lost lead keeps its name until then."""
BY_RULES = ("mql",)
"""What a lead becomes by the rules alone. Everything beyond is for sales to say (DESIGN §9)."""


class Scoring(NamedTuple):
    """A published model with its table of titles and industries."""

    version: str
    model: ScoringModel
    mapping: Mapping


# The published model ----------------------------------------------------------------------------------------------------


def active_scoring(session: Session) -> Scoring | None:
    """The model that scores now; None if none was ever published."""
    row = session.get(PublishedScoring, 1)
    if row is None:
        return None
    session.info["scoring"] = row  # the session itself holds on to it only as long as somebody else does
    return scoring_version(session, row.active)


def scoring_version(session: Session, version: str) -> Scoring:
    """A published model by its version."""
    known = _loaded.get(version)
    if known is None:
        row = session.get(ScoringVersionRow, version)
        assert row is not None
        known = _loaded[version] = Scoring(version, _model(row.model), Mapping.model_validate_json(row.mapping))
    return known


_loaded: dict[str, Scoring] = {}
"""Versions never change, so that what was read once holds."""


@lru_cache(maxsize=8)
def _model(text: str) -> ScoringModel:
    return ScoringModel.load(text)


def stages_of(session: Session) -> tuple[str, ...]:
    """The stages in their order, as the active model has them."""
    active = active_scoring(session)
    return STAGES if active is None else active.model.stage_ids


def stage_titles_of(session: Session) -> dict[str, str]:
    """The stages in their order with their titles, by which traits and lists may call them."""
    active = active_scoring(session)
    return STAGE_TITLES if active is None else active.model.stage_titles


def rule_title(session: Session, rule: str, language: str = "en") -> str:
    """What readers of a language call a rule, as the active model has it."""
    active = active_scoring(session)
    return rule if active is None else active.model.titled(rule, language)


def publish_scoring(session: Session, loaded: LoadedScoring | None, now: datetime) -> bool:
    """Publishes what the files say; whether `mebae rescore` is due, as there are leads that are not scored by it.

    The first one ever is active at once. A file that is gone changes nothing.
    """
    if loaded is None:
        return False
    if session.get(ScoringVersionRow, loaded.version) is None:
        row = ScoringVersionRow(
            version=loaded.version,
            model=loaded.model.dump(),
            mapping=loaded.mapping.model_dump_json(),
            published_at=now,
        )
        session.add(row)
        session.flush()
    current = session.get(PublishedScoring, 1)
    if current is None:
        session.add(PublishedScoring(active=loaded.version, published=loaded.version))
        session.flush()
        return session.exec(select(Lead.id).limit(1)).first() is not None
    current.published = loaded.version
    return current.active != current.published


# One lead's account -----------------------------------------------------------------------------------------------------

Given = dict[tuple[str, str | None], float]
"""Rule and event (None for what the lead is) → points without decay, as the ledger has them."""


@dataclass
class Account:
    """What is remembered of a lead between two scorings."""

    tally: Tally | None = None
    given: Given = field(default_factory=dict)
    stage: str | None = None
    """The one told last."""
    qualification: str | None = None

    def dump(self) -> str:
        tally = "null" if self.tally is None else self.tally.dump()
        given = [[rule, event, worth] for (rule, event), worth in self.given.items()]
        rest = json.dumps({"given": given, "told": [self.stage, self.qualification]}, ensure_ascii=False, separators=(",", ":"))
        return f'{{"tally":{tally},{rest[1:]}'

    @classmethod
    def of(cls, lead: Lead) -> Self:
        if lead.tally is None:
            return cls()
        data = json.loads(lead.tally)
        tally = None if data["tally"] is None else Tally.of_data(data["tally"])
        return cls(tally, {(rule, event): worth for rule, event, worth in data["given"]}, *data["told"])


def tally_of(lead: Lead, scoring: Scoring) -> Tally | None:
    """The lead's tally under this model; None where it has to be counted anew."""
    return Account.of(lead).tally if lead.scoring_version == scoring.version else None


def profile_of(lead: Lead, mapping: Mapping) -> Profile:
    """What the lead is, for the rules."""
    return Profile.of({**lead.attributes, **{name: getattr(lead, name) for name in COLUMNS}}, mapping)


# Scoring in the transaction that stores ---------------------------------------------------------------------------------


@dataclass
class Touched:
    """A locked lead with what is new of it."""

    lead: Lead
    events: list[EventLike] = field(default_factory=list)
    changed: bool = False
    """Whether attributes changed, or who it is."""
    unstored: list[EventLike] = field(default_factory=list)
    """Events that this transaction has scored before and not stored yet."""


class Told(NamedTuple):
    """Something that became of a lead, to be stored as an event of it."""

    lead: Lead
    name: str
    properties: dict[str, Any]


class Tale:
    """Takes what `score_leads` writes: ledger rows, and events to tell."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []
        self.told: list[Told] = []

    def change(self, lead: Lead, rule: str, event: str | None, points: float, version: str, now: datetime) -> None:
        """One row of the ledger."""
        row = {"lead_id": lead.id, "at": now, "rule": rule, "message_id": event, "points": points, "version": version}
        self.changes.append(row)

    def write(self, session: Session) -> None:
        """Writes the ledger rows in one statement."""
        if self.changes:
            session.execute(insert(ScoreChange), self.changes)
            self.changes = []


def score_leads(session: Session, touched: Sequence[Touched], now: datetime) -> Tale:
    """Brings scores, stages and qualifications up to date for what is new of these leads, and says what is to be told."""
    scoring, tale = active_scoring(session), Tale()
    works = [_Work(one, scoring, now) for one in touched if one.lead.erased_at is None]
    if scoring is not None:
        asks = [work for work in works if work.needs_history]
        history: dict[int, list[EventLike]] = defaultdict(list)
        if asks:
            for lead_id, event in stored_events(session, [work.id for work in asks]):
                history[lead_id].append(event)
        for work in works:
            work.score(scoring, history.get(work.id, []), now, tale, session)
    for work in works:
        _tell(work.lead, work.account, tale)
        dumped = work.account.dump()
        if dumped != work.lead.tally:
            work.lead.tally = dumped
    tale.write(session)
    return tale


class _Work:
    """The scoring of one lead. Events that cannot count under any rule cost next to nothing."""

    def __init__(self, one: Touched, scoring: Scoring | None, now: datetime) -> None:
        self.lead, self.events = one.lead, one.events
        assert one.lead.id is not None
        self.id = one.lead.id
        self.account = account = Account.of(one.lead)
        self.unstored = one.unstored
        has_history = one.lead.last_seq > len(one.events) + len(one.unstored)
        stages = STAGES if scoring is None else scoring.model.stage_ids
        if one.lead.stage not in stages:
            one.lead.stage = stages[0]
        if account.stage is None:  # what it is when it is first seen is no news, a list may say that it is an MQL
            account.stage, account.qualification = one.lead.stage, one.lead.qualification
        self._due = self.needs_history = False
        self._held, self._qualified = one.lead.stage, set[str]()
        """What it became at the moments of its events, before they faded."""
        self._profile: Profile | None = None
        self._anew = True
        """Whether it may be another than at the last scoring, for rules that look at what a lead is."""
        if scoring is None:
            return
        if account.tally is None or one.lead.scoring_version != scoring.version:
            account.tally = None
            self._due, self.needs_history = True, has_history
            return
        self._anew = one.changed
        due = one.lead.score_changes_at
        self._due = one.changed or (due is not None and due <= now)
        self._count(scoring, account.tally, now)

    def _count(self, scoring: Scoring, tally: Tally, now: datetime) -> None:
        """Adds what is new, and asks at the moment of each event that counts what the lead became by it, as `replay` does.

        Between an event and its scoring points fade: 50 are 49.99 a second later, and none a week later. If one that counts is
        older than what was counted before, the lead's whole life is gone through.
        """
        life: Life | None = None
        order = sorted(self.events, key=lambda event: (event.occurred_at, event.message_id))
        for at, together in groupby(order, key=lambda event: event.occurred_at):
            counts = False
            for event in together:
                late = tally.is_late(event)
                if tally.add(scoring.model, event):
                    self._due, counts, self.needs_history = True, True, self.needs_history or late
            if not counts or self.needs_history or at >= now:
                continue
            if life is None:
                life = Life(scoring.model, tally, self._profile_by(scoring), self._known(scoring.model))
            self._held, qualified = life.ask(at.astimezone(UTC), self._held)
            self._qualified.update(qualified)

    def _profile_by(self, scoring: Scoring) -> Profile:
        if self._profile is None:
            self._profile = profile_of(self.lead, scoring.mapping)
        return self._profile

    def _known(self, model: ScoringModel) -> dict[int, bool] | None:
        return None if self._anew else _as_before(model, self.account, self.lead)

    def score(
        self, scoring: Scoring, history: Sequence[EventLike], now: datetime, tale: Tale, session: Session | None = None
    ) -> None:
        """Writes the score, its reasons, stage and qualification on the lead. Without a session `history` is its whole life."""
        if not self._due:
            return
        lead, account = self.lead, self.account
        profile, held, qualified = self._profile_by(scoring), self._held, self._qualified
        found: Score | None = None
        if self.needs_history or account.tally is None:
            lived = replay(scoring.model, profile, [*history, *self.unstored, *self.events], now)
            account.tally = lived.tally
            qualified = {move.to for move in lived.moves if move.kind == "qualification"}
            held = max(lead.stage, lived.score.stage, key=scoring.model.stage_ids.index)
            if lived.score.stage == held:
                found = lived.score  # `reckon` would say the same
        if found is None:
            found = reckon(scoring.model, account.tally, profile, now, held=held, known=self._known(scoring.model))
        write_score(lead, account, scoring, profile, found, now, tale)
        rules = {*found.qualifications, *qualified}
        if rules and lead.nurtured_since is not None and lead.qualification in NOT_QUALIFIED:
            stored = history if session is None else (event for _, event in stored_events(session, [self.id]))
            rules = qualified_again(lead, scoring, profile, [*stored, *self.unstored, *self.events], now)
        become(lead, found, rules)


def write_score(
    lead: Lead, account: Account, scoring: Scoring, profile: Profile, found: Score, now: datetime, tale: Tale
) -> None:
    """Writes a score on its lead's row, and on the ledger what it gained and lost. Not its stage: see `become`."""
    assert account.tally is not None
    given: Given = {(reason.rule, reason.event): reason.worth for reason in found.reasons}
    for (rule, event), worth in account.given.items():
        if given.get((rule, event)) != worth:
            tale.change(lead, rule, event, -worth, scoring.version, now)
    for (rule, event), worth in given.items():
        if account.given.get((rule, event)) != worth:
            tale.change(lead, rule, event, worth, scoring.version, now)
    account.given = given
    values: dict[str, Any] = {
        "score": found.whole,
        "rank": profile.lead["rank"],
        "industry_group": profile.lead["industry_group"],
        "topics": list(found.topics),
        "excluded": list(found.excluded),
        "scoring_version": scoring.version,
    }
    for name, value in values.items():
        if getattr(lead, name) != value:
            setattr(lead, name, value)
    lead.scored_at = now
    # Without events, and with rules that no date bears on, nothing ever changes by itself.
    may_change = account.tally.kept or not scoring.model.fit_is_steady or scoring.model.looks_at_dates
    lead.score_changes_at = now + SOON if may_change or lead.nurtured_since is not None else None


def become(lead: Lead, found: Score, rules: Collection[str]) -> None:
    """Moves the lead to its stage, and qualifies it. `rules`: what it qualifies for by now."""
    if found.excluded:
        return
    lead.stage = found.stage
    if lead.qualification in NOT_QUALIFIED:
        lead.qualification = next((to for to in BY_RULES if to in rules), lead.qualification)


def qualified_again(
    lead: Lead, scoring: Scoring, profile: Profile, events: Iterable[EventLike], now: datetime
) -> set[str]:
    """What a lead that came back from sales qualifies for by what it did since then, and after its rest: what it did before has
    been judged. The rules are asked as if it had become known on that day, and without anything that it did they say nothing."""
    from mebae.store.ingest import NOT_BY_THE_LEAD

    since, rests_until = lead.nurtured_since, lead.rests_until
    if since is None or (rests_until is not None and now < rests_until):
        return set()
    after = [event for event in events if event.occurred_at > since]
    if not any(event.name not in NOT_BY_THE_LEAD and is_human(event) for event in after):
        return set()
    lived = replay(scoring.model, profile, after, now)
    moved = {move.to for move in lived.moves if move.kind == "qualification" and (rests_until is None or move.at >= rests_until)}
    return moved | set(lived.score.qualifications)


def _as_before(model: ScoringModel, account: Account, lead: Lead) -> dict[int, bool]:
    """What the conditions that only a change of attributes can change said at the last scoring."""
    known = {id(rule.when): (rule.id, None) in account.given for rule in model.fit}
    known.update({id(rule.when): rule.id in lead.excluded for rule in model.exclusions})
    return known


def _tell(lead: Lead, account: Account, tale: Tale) -> None:
    """Says what the lead became since the last time."""
    if lead.stage != account.stage:
        tale.told.append(Told(lead, STAGE_REACHED, {"stage": lead.stage, "from": account.stage, "score": lead.score}))
    if lead.qualification != account.qualification:
        said = {"qualification": lead.qualification, "from": account.qualification, "score": lead.score}
        tale.told.append(Told(lead, QUALIFIED, said))
    account.stage, account.qualification = lead.stage, lead.qualification


def stored_events(session: Session, leads: Sequence[int]) -> Iterator[tuple[int, Event]]:
    """Lead and event of everything that these leads did, in each lead's order."""
    row = SQLModel.metadata.tables["events"].c
    columns = (row.lead_id, row.message_id, row.name, row.properties, row.occurred_at)
    query = select_columns(*columns).where(row.lead_id.in_(leads)).order_by(row.lead_id, row.seq)
    for lead_id, message_id, name, properties, occurred_at in session.execute(query):
        yield lead_id, Event(message_id, name, properties, occurred_at)


# With time --------------------------------------------------------------------------------------------------------------


def refresh(session: Session, now: datetime, most: int = 500) -> int:
    """Brings leads up to date whose score, stage, topics or qualification time alone may have changed; how many were due.

    A lead that stays as it is for long is not looked at again before that. Call it until it answers 0.
    """
    from mebae.store.ingest import EventLog

    scoring = active_scoring(session)
    if scoring is None:
        return 0
    # Leads of another version are for a rescore that is under way, which says itself whether journeys hear of it.
    ours = col(Lead.scoring_version) == scoring.version
    due = select(Lead.id).where(col(Lead.score_changes_at) <= now, col(Lead.erased_at).is_(None), ours)
    leads = session.exec(
        select(Lead)
        .where(col(Lead.id).in_(due.order_by(col(Lead.score_changes_at)).limit(most)))
        .order_by(col(Lead.id))
        .with_for_update()
    ).all()
    log = EventLog(now)
    for lead in leads:
        log.touch(lead)
    log.write(session)
    for lead in leads:
        tally = tally_of(lead, scoring)
        if tally is None:
            continue
        profile = profile_of(lead, scoring.mapping)
        moments = [
            next_change(scoring.model, tally, profile, now),
            time_dependent_until(scoring.model, tally, profile, now),
            lead.rests_until if lead.rests_until is not None and lead.rests_until > now else None,
        ]
        next_at = min((one for one in moments if one is not None), default=None)
        lead.score_changes_at = None if next_at is None else max(next_at, now + SOON)
    session.flush()
    return len(leads)
