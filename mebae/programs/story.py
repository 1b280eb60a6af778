"""Tells what happens in the house, as it happens, from our own database: who got which mail and why, and who left how."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rich.markup import escape
from sqlalchemy import func
from sqlmodel import Session, col, select

from mebae.graph import Graph
from mebae.handover import Status
from mebae.programs.wording import condition_words, looked_at, why
from mebae.sales import SalesRules
from mebae.starting import REASONS
from mebae.store.graphs import graph_of
from mebae.store.sales import rules_of
from mebae.store.scoring import NOT_QUALIFIED, QUALIFIED, STAGE_REACHED, rule_title
from mebae.store.tables import Call, Delivery, Event, Handover, HandoverEvent, JourneyRow, Lead, ScoreChange, Telling
from mebae.words import DeliveryKind, DeliveryStatus, JourneyStatus

SHOWN = 3
"""Names in a line; the rest are counted."""
REASONS_SHOWN = 4
"""Of a score's reasons, the weightiest."""
OVERDUE = timedelta(seconds=15)
"""Real time after which a journey that should have gone on is called stuck."""

SALES = {
    "open": "[magenta]☎[/] handed over to sales", "joined": "[magenta]☎[/] joined an open hand-over",
    "call": "[magenta]☎[/] sales is to call", "called": "[magenta]☎[/] sales has called",
    "accept": "[magenta]✓[/] accepted by sales", "sql": "[bold green]◆ SQL[/]", "opportunity": "[bold green]◆ 商談[/] opportunity",
    "won": "[bold green]◆ 受注[/] won", "lost": "[yellow]↩[/] lost", "reject": "[yellow]↩[/] rejected by sales",
    "return": "[yellow]↩[/] returned by sales", "pass": "[magenta]→[/] passed on", "reminded": "[yellow]⏰[/] sales reminded",
    "escalated": "[bold red]⏰[/] escalated to the manager", "expire": "[yellow]↩[/] expired, back to nurturing",
    "withdraw": "[yellow]↩[/] withdrawn",
}  # fmt: skip
"""What happened to a hand-over."""

_OVER = (DeliveryStatus.SENT, DeliveryStatus.REFUSED, DeliveryStatus.UNKNOWN)


@dataclass
class Sight:
    """What one look at the database saw."""

    journeys: list[tuple[JourneyRow, Lead]]
    deliveries: list[tuple[Delivery, Lead]]
    graphs: dict[str, Graph]
    moves: list[tuple[Event, Lead]]
    """Stages reached and qualifications."""
    reasons: dict[int, list[tuple[str, float]]]
    """Of qualified leads: rule and points, the most first."""
    events: int
    unrouted: int
    handovers: list[tuple[HandoverEvent, Handover, Lead]] = field(default_factory=list)
    """All that happened to hand-overs, in order."""
    calls: list[tuple[Call, Lead]] = field(default_factory=list)
    sales: SalesRules = field(default_factory=SalesRules)
    told: int = 0
    """Mails to sales about hand-overs and calls."""
    tried: int = 0
    """With those that are on their way."""

    @property
    def open(self) -> list[JourneyRow]:
        return [row for row, _ in self.journeys if row.status not in (JourneyStatus.ENDED, JourneyStatus.REFUSED)]

    @property
    def sent(self) -> int:
        return sum(delivery.status == DeliveryStatus.SENT for delivery, _ in self.deliveries)


def look(session: Session) -> Sight:
    """Everything at once: a demo is small."""
    journeys = list(session.exec(select(JourneyRow, Lead).join(Lead).order_by(col(JourneyRow.entry))).all())
    deliveries = list(
        session.exec(select(Delivery, Lead).join(Lead, col(Delivery.lead_id) == col(Lead.id)).order_by(col(Delivery.id))).all()
    )
    graphs = {row.version: graph_of(session, row.version) for row, _ in journeys}
    told = select(Event, Lead).join(Lead, col(Event.lead_id) == col(Lead.id)).where(col(Event.name).in_((STAGE_REACHED, QUALIFIED)))
    moves = list(session.exec(told.order_by(col(Event.id))).all())
    reasons = _reasons(session, {event.lead_id for event, _ in moves if event.name == QUALIFIED})
    events = session.exec(select(func.count()).select_from(Event)).one()
    unrouted = session.exec(select(func.count()).select_from(Event).where(col(Event.routed_at).is_(None))).one()
    heard, tried = (
        session.exec(select(func.count()).select_from(Telling).where(Telling.channel == "mail", which)).one()
        for which in (Telling.status == "told", col(Telling.attempts) > 0)
    )
    given = select(HandoverEvent, Handover, Lead).join(Handover, col(Handover.id) == col(HandoverEvent.handover_id))
    handovers = session.exec(given.join(Lead, col(Lead.id) == col(Handover.lead_id)).order_by(col(HandoverEvent.id))).all()
    calls = list(session.exec(select(Call, Lead).join(Lead, col(Lead.id) == col(Call.lead_id)).order_by(col(Call.id))).all())
    return Sight(
        journeys, deliveries, graphs, moves, reasons, events, unrouted, list(handovers), calls, rules_of(session), heard, tried
    )  # fmt: skip


def _reasons(session: Session, leads: Collection[int]) -> dict[int, list[tuple[str, float]]]:
    """Rule and points of these leads, by the ledger."""
    points = func.sum(ScoreChange.points)
    query = select(ScoreChange.lead_id, ScoreChange.rule, points).where(col(ScoreChange.lead_id).in_(leads))
    found: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for lead_id, rule, total in session.exec(query.group_by(col(ScoreChange.lead_id), col(ScoreChange.rule)).order_by(points.desc())):
        if total:
            found[lead_id].append((rule_title(session, rule), total))
    return found


class Story:
    """Turns one look after the other into lines, a day of the world at a time; each thing is told once."""

    def __init__(self, zone: ZoneInfo, begins: datetime) -> None:
        self._zone, self._begins = zone, begins
        self._told: set[str] = set()
        self._day = ""
        self._began: dict[str, list[Lead]] = defaultdict(list)
        self._moved: dict[str, list[tuple[Event, Lead]]] = defaultdict(list)
        self._ripe: list[tuple[Event, Lead]] = []
        self._refused: dict[tuple[str, str], list[Lead]] = defaultdict(list)
        self._mails: dict[tuple[str, str, str, str], list[Lead]] = defaultdict(list)
        self._ends: dict[tuple[str, str, str], list[Lead]] = defaultdict(list)
        self._given: dict[tuple[str, str], list[Lead]] = defaultdict(list)

    def day(self, now: datetime) -> str:
        """Which day it is in the world."""
        local = now.astimezone(self._zone)
        nth = (local.date() - self._begins.astimezone(self._zone).date()).days + 1
        return f"Day {nth} · {local:%a %Y-%m-%d}"

    def tell(self, sight: Sight, now: datetime) -> list[str]:
        """Takes note of what is new; when a day is over, its lines."""
        day, lines = self.day(now), []
        if day != self._day:
            lines = self.rest(sight)
            self._day = day
        self._note(sight)
        return lines

    def rest(self, sight: Sight) -> list[str]:
        """The lines that the present day has so far."""
        lines = [*self._beginnings(sight), *self._ripening(sight), *self._letters(sight), *self._sales(), *self._endings(sight)]
        lines += self._not_taken()  # after all that may be why
        for noted in (self._began, self._moved, self._ripe, self._refused, self._mails, self._given, self._ends):
            noted.clear()
        return [f"\n[bold]{self._day}[/]", *lines] if lines else []

    def _note(self, sight: Sight) -> None:
        versions = {}
        for row, lead in sight.journeys:
            versions[row.entry] = row.version
            if self._is_new(f"entry {row.entry}"):
                if row.status == JourneyStatus.REFUSED:
                    self._refused[row.scenario, row.reason or ""].append(lead)
                else:
                    self._began[row.version].append(lead)
            if row.status == JourneyStatus.ENDED and self._is_new(f"end {row.entry}"):
                self._ends[row.outcome or "", row.reason or "", row.version].append(lead)
        # Whoever is given to sales becomes an MQL by that, and no rule says that it is ripe: the hand-over is told.
        given = {(lead.id, said.seq + 1) for said, row, lead in sight.handovers if said.move == "open" and row.was in NOT_QUALIFIED}
        for event, lead in sight.moves:
            if self._is_new(f"move {event.id}"):
                if event.name == STAGE_REACHED:
                    self._moved[event.properties["stage"]].append((event, lead))
                elif event.properties["qualification"] == "mql" and (lead.id, event.seq) not in given:
                    self._ripe.append((event, lead))
        for delivery, lead in sight.deliveries:
            left = delivery.status == DeliveryStatus.REFUSED and delivery.reason == "exits-when"  # its ending tells of it
            if delivery.status in _OVER and not left and self._is_new(f"delivery {delivery.id} {delivery.status}"):
                self._mails[delivery.kind, delivery.status, delivery.step, versions[delivery.entry]].append(lead)
        for said, handover, lead in sight.handovers:
            if self._is_new(f"hand-over {said.id}"):
                self._given[said.move, _about(said, handover, sight)].append(lead)
        for call, lead in sight.calls:
            if self._is_new(f"call {call.id}"):
                self._given["call", call.why].append(lead)
            if call.outcome is not None and self._is_new(f"call {call.id} {call.outcome}"):
                self._given["called", call.outcome].append(lead)

    def _beginnings(self, sight: Sight) -> Iterator[str]:
        for version, leads in self._began.items():
            graph = sight.graphs[version]
            reason = escape(why(graph, graph.start))
            yield f"  [green]→[/] {_count(leads, 'journey')} began [dim]({reason})[/]: {_people(leads)}"

    def _not_taken(self) -> Iterator[str]:
        for (scenario, reason), leads in self._refused.items():
            yield f"  [yellow]×[/] not taken by {escape(scenario)} [dim]({REASONS.get(reason, reason)})[/]: {_people(leads)}"

    def _ripening(self, sight: Sight) -> Iterator[str]:
        for stage, moved in self._moved.items():
            shown = [f"{lead.name or lead.email} (score {event.properties['score']})" for event, lead in moved[:SHOWN]]
            more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
            leads = [lead for _, lead in moved]
            yield f"  [blue]▲[/] {_count(leads, 'lead')} reached [bold]{escape(stage)}[/]: {escape(', '.join(shown))}{more}"
        for event, lead in self._ripe:
            reasons = sight.reasons.get(event.lead_id, [])
            said = ", ".join(f"{rule} {points:+g}" for rule, points in reasons[:REASONS_SHOWN])
            score = event.properties.get("score")
            yield f"  [bold yellow]★ MQL[/] {escape(_person(lead, []))}, score {score} [dim](because {escape(said)})[/]"

    def _letters(self, sight: Sight) -> Iterator[str]:
        for (kind, status, step, version), leads in self._mails.items():
            graph = sight.graphs[version]
            reason, refs = escape(why(graph, step)), looked_at(graph, step)
            if status != DeliveryStatus.SENT:
                yield f"  [bold red]![/] {step} was {status} for {_people(leads)}"
            elif kind == DeliveryKind.SALES:
                yield f"  [magenta]☎[/] sales told [dim](because {reason})[/] about {_people(leads)}"
            else:
                yield f"  [cyan]✉[/] [bold]{step}[/] [dim](because {reason})[/] to {_people(leads, refs)}"

    def _sales(self) -> Iterator[str]:
        for (move, about), leads in self._given.items():
            said = f" [dim]({escape(about)})[/]" if about else ""
            yield f"  {SALES[move]}{said}: {_people(leads)}"

    def _endings(self, sight: Sight) -> Iterator[str]:
        for (outcome, reason, version), leads in self._ends.items():
            if outcome == "exited":
                left = sight.graphs[version].exits_when
                if reason == "exits-when" and left is not None:
                    reason = condition_words(left)
                yield f"  [yellow]⇥[/] {_count(leads, 'journey')} left early [dim](because {escape(reason)})[/]: {_people(leads)}"
            else:
                yield f"  [green]■[/] {_count(leads, 'journey')} ended as [bold]{escape(outcome)}[/]: {_people(leads)}"

    def _is_new(self, what: str) -> bool:
        if what in self._told:
            return False
        self._told.add(what)
        return True


def _about(event: HandoverEvent, handover: Handover, sight: Sight) -> str:
    """What is worth saying of something that happened to a hand-over."""
    owner = sight.sales.somebody(event.owner)
    managers = ", ".join(one.name or one.id for one in sight.sales.managers())
    reason = next((one.titled("ja") for one in sight.sales.reasons if one.code == event.reason), event.reason or "")
    match event.move:
        case "open":
            earlier = [one for _, one, _ in sight.handovers if one.lead_id == handover.lead_id and (one.id or 0) < (handover.id or 0)]
            again = f"again, {(handover.opened_at - earlier[-1].opened_at).days} days later, " if earlier else ""
            return f"{again}to {owner.name or owner.id}, because {handover.why or 'it became an MQL'}"
        case "joined":
            return f"{owner.name or owner.id} has it already and is not told twice"
        case "escalated":
            return f"{managers or owner.id} is told"
        case "reminded":
            return owner.name or owner.id
        case "opportunity" | "won":
            return f"{sight.sales.currency} {event.amount:,}" if event.amount is not None else ""
        case _:
            return reason


def handed_over(sight: Sight) -> list[tuple[str, int, int]]:
    """Where hand-overs stand, how many, and their amount."""
    last = {handover.id: handover for _, handover, _ in sight.handovers}
    counts = Counter(one.status for one in last.values())
    amounts: Counter[str] = Counter()
    for one in last.values():
        amounts[one.status] += one.amount or 0
    return [(status, counts[status], amounts[status]) for status in map(str, Status) if counts[status]]


def stuck(sight: Sight, now: datetime, overdue: timedelta) -> list[JourneyRow]:
    """Journeys that should have gone on long ago. `overdue` is in the world's time."""
    late = []
    for row in sight.open:
        since = {JourneyStatus.RESTING: row.deadline, JourneyStatus.STARTING: row.entered_at}.get(JourneyStatus(row.status))
        if since is not None and since + overdue < now:
            late.append(row)
    return late


def outcomes(sight: Sight) -> list[tuple[str, int, float]]:
    """Outcome, how many journeys, and their average days from entry to end."""
    days: dict[str, list[float]] = defaultdict(list)
    for row, _ in sight.journeys:
        if row.status == JourneyStatus.REFUSED:
            days[f"not taken ({row.reason})"].append(0.0)
        elif row.ended_at is not None and row.outcome is not None:
            name = f"left early ({row.reason})" if row.outcome == "exited" else row.outcome
            days[name].append((row.ended_at - row.entered_at) / timedelta(days=1))
        else:
            days[f"still {row.status}"].append(0.0)
    return sorted((name, len(found), sum(found) / len(found)) for name, found in days.items())


def mails(sight: Sight) -> dict[str, Counter[str]]:
    """Mail → language → how many were sent."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for delivery, _ in sight.deliveries:
        if delivery.status == DeliveryStatus.SENT:
            name = f"{delivery.mail} (to sales)" if delivery.kind == DeliveryKind.SALES else delivery.mail
            found[name][delivery.language or "–"] += 1
    return found


def _people(leads: list[Lead], refs: Iterable[str] = ()) -> str:
    shown = [escape(_person(lead, refs)) for lead in leads[:SHOWN]]
    more = len(leads) - len(shown)
    return f"{', '.join(shown)} and {more} more" if more else ", ".join(shown)


def _person(lead: Lead, refs: Iterable[str]) -> str:
    values = [f"{ref.removeprefix('lead.')} {getattr(lead, ref.removeprefix('lead.'), None)}" for ref in refs]
    about = ", ".join(values) if values else lead.company or lead.industry or ""
    return f"{lead.name or lead.email}" + (f" ({about})" if about else "")


def _count(leads: list[Lead], noun: str) -> str:
    return f"{len(leads)} {noun}{'s' if len(leads) != 1 else ''}"
