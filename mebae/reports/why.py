"""Why a lead entered a scenario or did not, and what its journeys wait for: from the rows that everything leaves behind."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_
from sqlmodel import Session, col, func, select

from mebae import contracts
from mebae.clock import WorldClock
from mebae.conditions import Condition, Match, Pattern, evaluate, matches
from mebae.entering import JOINED, OPEN
from mebae.errors import NotFound
from mebae.events import REQUESTED, is_human
from mebae.graph import Graph, Step, WaitFor, arms_of
from mebae.journey import EXIT
from mebae.programs.wording import condition_words, event_words, happened_words, span_words
from mebae.reports.explaining import distance_words, explain, moment_words, value_words
from mebae.reports.lead import reason_words
from mebae.reports.why_told import (
    Came,
    Check,
    Entry,
    Listening,
    StartEvent,
    UnderWay,
    WhyReport,
)
from mebae.store.conditions_sql import pattern_sql
from mebae.store.facts import LeadFacts
from mebae.store.graphs import graph_of
from mebae.store.places import places_taken_today
from mebae.store.segments import find_segment
from mebae.store.tables import (
    Delivery,
    Event,
    IntakeRow,
    JourneyRow,
    Lead,
    Nudge,
    PublishedScenario,
    ScenarioVersion,
    SegmentMember,
    Visitor,
)
from mebae.timing import Calendar, Duration, first_zone, moment_after
from mebae.words import DeliveryStatus, JourneyStatus

SHOWN = 5
"""Entries and events of each kind that are shown, the newest."""
LOOKED_AT = 500
"""Requests of the intake that are read for this lead."""


def why(
    session: Session, lead: Lead, scenario: str, now: datetime, *, zone: str, clock: WorldClock | None = None
) -> WhyReport:
    """The report; `NotFound` with the nearest names for a scenario that never was. `zone`: the workspace's."""
    graph, active = _published(session, scenario)
    return _Why(session, lead, graph, active, now, zone, clock or WorldClock()).report()


def _published(session: Session, scenario: str) -> tuple[Graph, bool]:
    row = session.get(PublishedScenario, scenario)
    if row is None:
        row = session.get(PublishedScenario, scenario.replace("_", "-"))
    if row is None:
        raise NotFound("scenario", scenario, session.exec(select(PublishedScenario.scenario)).all())
    return graph_of(session, row.version), row.active


class _Why:
    def __init__(
        self, session: Session, lead: Lead, graph: Graph, active: bool, now: datetime, zone: str, clock: WorldClock
    ) -> None:
        assert lead.id is not None
        self.session, self.lead, self.id, self.graph, self.active = session, lead, lead.id, graph, active
        self.now, self.clock, self.workspace = now, clock, zone
        self.zone = zone
        """Times are for the person who asks, so in the workspace's zone."""
        rows = session.exec(
            select(JourneyRow)
            .where(JourneyRow.scenario == graph.scenario, JourneyRow.lead_id == lead.id)
            .order_by(col(JourneyRow.entry).desc())
        ).all()
        self.rows = list(rows)

    def report(self) -> WhyReport:
        starts = [self._start(pattern) for pattern in self.graph.enters_on]
        pending, checks = self._pending(), self._checks()
        taken = [row for row in self.rows if row.status != JourneyStatus.REFUSED]
        refused = [row for row in self.rows if row.status == JourneyStatus.REFUSED]
        shown = sorted([*taken[:SHOWN], *refused[:SHOWN]], key=lambda row: -(row.entry or 0))
        return WhyReport(
            now=self.now,
            lead=self.id,
            called=self.lead.email or self.lead.user_id or f"lead {self.id}",
            scenario=self.graph.scenario,
            title=self.graph.title,
            version=self.graph.version,
            is_active=self.active,
            answer=self._answer(taken, refused, starts, pending, checks),
            starts=starts,
            entries=[self._entry(row) for row in shown],
            refused_in_all=len(refused),
            under_way=[self._under_way(row) for row in taken if row.status in OPEN],
            pending=pending,
            checks=checks,
        )

    def _answer(
        self,
        taken: Sequence[JourneyRow],
        refused: Sequence[JourneyRow],
        starts: Sequence[StartEvent],
        pending: Sequence[Came],
        checks: Sequence[Check],
    ) -> str:
        """The short answer."""
        if taken:
            row = taken[0]
            times = "" if len(taken) == 1 else f" {len(taken)} times, the last time"
            how = f"it entered{times} on {self._at(row.entered_at)} because {self._cause(row)}"
            return f"{how}; {self._fate_of(row)}"
        if refused:
            row = refused[0]
            return f"it was refused on {self._at(row.entered_at)}: {reason_words(row)}"
        if pending:
            return "it did not enter yet: events of it have been acknowledged and not been stored; does a worker run?"
        came = [one for start in starts for one in start.came]
        if came:
            last = max(came, key=lambda one: one.at)
            return f"it did not enter: it {last.words} ({self._at(last.at)}), which {last.fate}"
        if not starts:
            return "it did not enter: nothing starts this scenario by itself, and nobody has asked for it"
        wanted = " or ".join(start.words for start in starts)
        near = [one for start in starts for one in start.near]
        if near:
            last = max(near, key=lambda one: one.at)
            nearest = f"it {last.words} ({self._at(last.at)}), {last.fate}"
            return f"it did not enter: what starts it did not happen ({wanted}). Nearest: {nearest}"
        hurdles = [check.words for check in checks if not check.holds]
        besides = f" Besides: {hurdles[0]}." if hurdles else ""
        return f"it did not enter: what starts it did not happen ({wanted}).{besides}"

    # Start events -----------------------------------------------------------------------------------------------------

    def _start(self, pattern: Pattern) -> StartEvent:
        mine = and_(col(Event.lead_id) == self.id, pattern_sql(pattern))
        events = self.session.exec(select(Event).where(mine).order_by(col(Event.seq).desc()).limit(SHOWN)).all()
        in_all = self.session.exec(select(func.count(col(Event.id))).where(mine)).one()
        came = [self._came(event, self._fate(event)) for event in events]
        return StartEvent(words=event_words(pattern), in_all=in_all, came=came, near=[] if came else self._near(pattern))

    def _fate(self, event: Event) -> str:
        """What became of an event that starts the scenario."""
        row = next((row for row in self.rows if row.entry_event_id == event.id), None)
        if row is not None and row.status == JourneyStatus.REFUSED:
            return f"was refused: {reason_words(row)}"
        if row is not None:
            return f"made entry {row.entry}"
        if event.routed_at is None:
            return "is stored and has not been routed yet: does a worker run?"
        versions = self.session.exec(
            select(ScenarioVersion)
            .where(ScenarioVersion.scenario == self.graph.scenario)
            .order_by(col(ScenarioVersion.published_at))
        ).all()
        if versions and event.routed_at < versions[0].published_at:
            return f"came before the scenario was published ({self._at(versions[0].published_at)})"
        then = [one for one in versions if one.published_at <= event.routed_at]
        if then and not self._starts_on(then[-1].version, event):
            return f"was no start event of the version of then ({then[-1].version})"
        if event.routed_at == event.received_at:
            return "counts for the score only: it was old when it became known whose it was"
        return "was routed while the scenario was not published"

    def _starts_on(self, version: str, event: Event) -> bool:
        try:
            patterns = graph_of(self.session, version).enters_on
        except ValueError:  # a newer worker's
            return True
        return any(matches(pattern, event.name, event.properties) for pattern in patterns)

    def _near(self, pattern: Pattern) -> list[Came]:
        """The lead's events that nearly are such."""
        same_name = self.session.exec(
            select(Event)
            .where(Event.lead_id == self.id, Event.name == pattern.event)
            .order_by(col(Event.seq).desc())
            .limit(SHOWN)
        ).all()
        if same_name:
            return [self._came(event, _differs(pattern, event.properties)) for event in same_name]
        names = self.session.exec(select(Event.name).where(Event.lead_id == self.id).distinct()).all()
        alike = difflib.get_close_matches(pattern.event, names, n=2, cutoff=0.75)
        events = self.session.exec(
            select(Event).where(Event.lead_id == self.id, col(Event.name).in_(alike)).order_by(col(Event.seq).desc()).limit(2)
        ).all()
        return [self._came(event, f"but its name is '{event.name}', not '{pattern.event}'") for event in events]

    def _came(self, event: Event, fate: str) -> Came:
        return Came(at=event.occurred_at, words=happened_words(event.name, event.properties), fate=fate)

    def _pending(self) -> list[Came]:
        """Events of this lead in requests that were answered and wait to be stored."""
        if self.session.exec(select(IntakeRow.id).limit(1)).first() is None:
            return []
        from mebae.applier import Request, read_request  # loads the HTTP side

        browsers = set(self.session.exec(select(Visitor.anonymous_id).where(Visitor.lead_id == self.id)).all())
        found = []
        for row in self.session.exec(select(IntakeRow).order_by(col(IntakeRow.id).desc()).limit(LOOKED_AT)):
            read = read_request(Request(row.id or 0, row.kind, row.body, row.received_at), self.clock)
            for one in read.incoming:
                who = one.who
                mine = (
                    (who.email is not None and who.email == self.lead.email)
                    or (who.user_id is not None and who.user_id == self.lead.user_id)
                    or who.anonymous_id in browsers
                )
                if mine:
                    starts = any(matches(pattern, one.name, one.properties) for pattern in self.graph.enters_on)
                    fate = "would start the scenario" if starts else "does not start the scenario"
                    found.append(Came(at=one.occurred_at, words=happened_words(one.name, one.properties), fate=fate))
        return found[:SHOWN]

    # Entries ----------------------------------------------------------------------------------------------------------

    def _entry(self, row: JourneyRow) -> Entry:
        audience = None
        if row.status == JourneyStatus.REFUSED and row.reason == "audience":
            condition = graph_of(self.session, row.version).audience
            if condition is not None:
                audience = explain(condition, self._facts(row), self.zone)
        return Entry(
            entry=row.entry or 0,
            status=row.status,
            key=row.key,
            at=row.entered_at,
            cause=self._cause(row),
            reason=row.reason,
            words=self._fate_of(row),
            audience=audience,
        )

    def _cause(self, row: JourneyRow) -> str:
        """What made an entry."""
        kind, _, rest = row.cause.partition(":")
        if kind == "command":
            parts = rest.split(":")
            if len(parts) == 4 and parts[0] == "step" and parts[1].isdigit():
                other = self.session.get(JourneyRow, int(parts[1]))
                if other is not None:
                    return f"step {parts[2]} of {other.scenario} enrolled it (entry {other.entry})"
            return "somebody asked for it by command"
        event = self.session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
        if event is None:
            return row.cause
        words = happened_words(event.name, event.properties)
        return words if event.name == REQUESTED else f"it {words} ({self._at(event.occurred_at)})"

    def _fate_of(self, row: JourneyRow) -> str:
        """What became of an entry, in a sentence."""
        match row.status:
            case JourneyStatus.REFUSED:
                words = f"refused: {reason_words(row)}"
                if row.reason in ("entered-before", "too-soon", "under-way"):
                    earlier = self._earlier(row)
                    if earlier is not None:
                        since = earlier.ended_at or earlier.entered_at
                        done = "ended" if earlier.ended_at is not None else "began"
                        words += f" (entry {earlier.entry} {done} on {self._at(since)})"
                return words
            case JourneyStatus.STARTING:
                if row.starts_at is not None and row.starts_at > self.now:
                    most = graph_of(self.session, row.version).starts_at_most
                    limit = f", as at most {most.count} start in a day" if most is not None else ""
                    return f"it waits for its place and starts on {self._at(row.starts_at)}{limit}"
                return "it is about to start: do a worker and Temporal run?"
            case JourneyStatus.ENDED:
                how = f"it ended as {row.outcome}" if row.outcome != "exited" else "it left early"
                because = f", because {reason_words(row)}" if row.reason else ""
                return f"{how} on {self._at(row.ended_at)}{because}"
            case _:
                return self._where(row)

    def _earlier(self, row: JourneyRow) -> JourneyRow | None:
        return next(
            (
                one
                for one in self.rows
                if (one.entry or 0) < (row.entry or 0) and one.key == row.key and one.status != JourneyStatus.REFUSED
            ),
            None,
        )

    # What a journey waits for ------------------------------------------------------------------------------------------

    def _where(self, row: JourneyRow) -> str:
        paused = "paused, " if row.paused else ""
        if row.status == JourneyStatus.RUNNING:
            return f"it is {paused}on its way at {row.step}: an activity is under way"
        until = f" until {self._at(row.deadline)} at the latest ({distance_words(row.deadline, self.now)})" if row.deadline else ""
        if row.waiting_for == "postponed":
            return f"it is {paused}postponed at {row.step}{self._postponed(row)}{until}"
        what = "" if row.waiting_for in (None, "time") else f" for {self._awaited(row)}"
        return f"it is {paused}resting at {row.step}, waiting{what}{until}"

    def _awaited(self, row: JourneyRow) -> str:
        arms = self._arms(row)
        return " or ".join(words for words, _, _ in arms) if arms else (row.waiting_for or "")

    def _arms(self, row: JourneyRow) -> list[tuple[str, str, Condition | None]]:
        graph = graph_of(self.session, row.version)
        step = graph.step(row.step) if row.step is not None and graph.has(row.step) else None
        if step is None:
            return []
        return [
            (event_words(arm.on) if arm.on is not None else condition_words(arm.when), arm.to, arm.when)  # type: ignore[arg-type]
            for arm in arms_of(step)
        ]

    def _postponed(self, row: JourneyRow) -> str:
        mail = self.session.exec(
            select(Delivery)
            .where(Delivery.entry == row.entry, Delivery.step == row.step)
            .order_by(col(Delivery.id).desc())
        ).first()
        return f" ({mail.reason})" if mail is not None and mail.status == DeliveryStatus.POSTPONED and mail.reason else ""

    def _under_way(self, row: JourneyRow) -> UnderWay:
        graph = graph_of(self.session, row.version)
        facts = self._facts(row)
        step = graph.step(row.step) if row.step is not None and graph.has(row.step) else None
        heard = {one["id"] for one in row.listening} - {EXIT}
        listens = [
            Listening(words=words, to=to, of=explain(when, facts, self.zone) if when is not None else None)
            for words, to, when in self._arms(row)
        ] if heard else []  # fmt: skip
        signals = self.session.exec(
            select(func.count(col(Nudge.id))).where(Nudge.entry == row.entry, col(Nudge.sent_at).is_(None))
        ).one()
        return UnderWay(
            entry=row.entry or 0,
            workflow_id=contracts.workflow_id(row.scenario, row.lead_id, row.key),
            status=row.status,
            paused=row.paused,
            step=row.step,
            words=self._fate_of(row),
            until=row.deadline,
            listens=listens,
            otherwise=_next(step) if row.status == JourneyStatus.RESTING else None,
            exits=explain(graph.exits_when, facts, self.zone) if graph.exits_when is not None else None,
            signals=signals,
        )

    # What an entry would be asked now --------------------------------------------------------------------------------

    def _checks(self) -> list[Check]:
        lead, graph = self.lead, self.graph
        facts = LeadFacts(self.session, lead, self.now)
        checks = []
        if not self.active:
            checks.append(Check(what="published", holds=False, words="its file is gone, so nobody enters any more"))
        if lead.erased_at is not None:
            checks.append(Check(what="erased", holds=False, words=f"the lead was erased on {self._at(lead.erased_at)}"))
        if graph.audience is not None:
            told = explain(graph.audience, facts, self.zone)
            words = "it is in the audience" if told.value else f"it is not in the audience: {told.missing}"
            checks.append(Check(what="audience", holds=told.value, words=words, of=told))
        checks += self._segments(facts)
        checks.append(self._again())
        if graph.exits_when is not None and evaluate(graph.exits_when, facts).value:
            told = explain(graph.exits_when, facts, self.zone)
            words = f"it would leave at once, as exits_when holds: {condition_words(graph.exits_when)}"
            checks.append(Check(what="exits_when", holds=False, words=words, of=told))
        if lead.opted_out_at is not None:
            words = f"it opted out on {self._at(lead.opted_out_at)}: it may enter, and gets no marketing mail"
            checks.append(Check(what="opted-out", holds=False, words=words))
        if graph.starts_at_most is not None:
            most = graph.starts_at_most.count
            taken = places_taken_today(self.session, graph.scenario, self.now, self.workspace)
            words = f"{taken} of today's {most} places are taken"
            if taken >= most:
                words += ": it would start on a later day"
            checks.append(Check(what="starts_at_most", holds=taken < most, words=words))
        return checks

    def _segments(self, facts: LeadFacts) -> list[Check]:
        """Of segments that start the scenario when the lead becomes a member: whether it is one."""
        names = [pattern.where.get(JOINED.property or "") for pattern in self.graph.enters_on if pattern.event == JOINED.name]
        checks = []
        for name in names:
            saved = find_segment(self.session, name) if isinstance(name, str) else None
            if saved is None:
                continue
            told = explain(saved.condition, facts, self.zone)
            member = self.session.get(SegmentMember, (saved.id, self.id))
            if told.value and member is not None:
                words = f"it has been in the segment '{saved.id}' since {self._at(member.since)}: it joins again only after it left"
            elif told.value:
                words = f"it belongs to the segment '{saved.id}': the next sweep makes it a member"
            else:
                words = f"it does not belong to the segment '{saved.id}': {told.missing}"
            checks.append(Check(what="segment", holds=told.value and member is None, words=words, of=told))
        return checks

    def _again(self) -> Check:
        """Whether it may enter (again), as `mebae.entering` decides it."""
        graph = self.graph
        taken = [row for row in self.rows if row.status != JourneyStatus.REFUSED]
        if graph.key is not None:
            keys = list(dict.fromkeys(row.key for row in taken))
            had = f"; it had: {', '.join(keys[:SHOWN])}{' …' if len(keys) > SHOWN else ''}" if keys else ""
            return Check(what="re_enter", holds=True, words=f"each new {graph.key} enters{had}")
        if not taken:
            return Check(what="re_enter", holds=True, words="it was never in this scenario")
        last = taken[0]
        if last.status in OPEN:
            return Check(what="re_enter", holds=False, words=f"it is under way already (entry {last.entry})")
        if graph.re_enter == "never":
            return Check(what="re_enter", holds=False, words=f"it was in this scenario (entry {last.entry}), and nobody enters twice")
        if isinstance(graph.re_enter, Duration):
            zone = first_zone(self.lead.time_zone, self.workspace)
            again = moment_after(graph.re_enter, last.ended_at or last.entered_at, zone, Calendar())
            late = self.now >= again
            words = f"it may enter again {span_words(graph.re_enter)} after its last journey: from {self._at(again)}"
            return Check(what="re_enter", holds=late, words=words)
        return Check(what="re_enter", holds=True, words="it may enter as often as it likes")

    def _facts(self, row: JourneyRow) -> LeadFacts:
        event = self.session.get(Event, row.entry_event_id) if row.entry_event_id is not None else None
        return LeadFacts(self.session, self.lead, self.now, event.properties if event is not None else {})

    def _at(self, moment: datetime | None) -> str:
        return "?" if moment is None else moment_words(moment, self.zone)


def _next(step: Step | None) -> str | None:
    """Where a rest leads when its time is over."""
    return step.otherwise if isinstance(step, WaitFor) else getattr(step, "next", None)


def _differs(pattern: Pattern, properties: Mapping[str, Any]) -> str:
    """Which of the properties that a pattern names are other ones."""
    if "verdict" not in pattern.where and not is_human(pattern.event, properties):
        return f"but a machine did that ({value_words(properties['verdict'])})"
    wrong = [
        f"{key} is {value_words(properties[key])}, not {_wanted(want)}" if key in properties else f"it has no {key}"
        for key, want in pattern.where.items()
        if not matches(Pattern(event=pattern.event, where={key: want}), pattern.event, properties)
    ]
    return f"but {' and '.join(wrong)}"


def _wanted(want: Match) -> str:
    return " or ".join(str(one) for one in want) if isinstance(want, tuple) else str(want)
