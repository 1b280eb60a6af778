"""Tells what happens in the house, as it happens, from our own database: who got which mail and why, and who left how."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rich.markup import escape
from sqlalchemy import func
from sqlmodel import Session, col, select

from mebae.graph import Graph
from mebae.programs.wording import looked_at, why
from mebae.starting import REASONS
from mebae.store.graphs import graph_of
from mebae.store.tables import Delivery, Event, JourneyRow, Lead
from mebae.words import DeliveryKind, DeliveryStatus, JourneyStatus

SHOWN = 3
"""Names in a line; the rest are counted."""
OVERDUE = timedelta(seconds=15)
"""Real time after which a journey that should have gone on is called stuck."""

_OVER = (DeliveryStatus.SENT, DeliveryStatus.REFUSED, DeliveryStatus.UNKNOWN)


@dataclass
class Sight:
    """What one look at the database saw."""

    journeys: list[tuple[JourneyRow, Lead]]
    deliveries: list[tuple[Delivery, Lead]]
    graphs: dict[str, Graph]
    events: int
    unrouted: int

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
    events = session.exec(select(func.count()).select_from(Event)).one()
    unrouted = session.exec(select(func.count()).select_from(Event).where(col(Event.routed_at).is_(None))).one()
    return Sight(journeys, deliveries, graphs, events, unrouted)


@dataclass
class Story:
    """Turns one look after the other into lines; each thing is told once."""

    zone: ZoneInfo
    origin: datetime
    _told: set[str] = field(default_factory=set)
    _day: str = ""

    def tell(self, sight: Sight, now: datetime) -> Iterator[str]:
        """The lines for what is new."""
        lines = [*self._entries(sight), *self._mails(sight), *self._ends(sight)]
        heading = self.day(now)
        if lines and heading != self._day:
            self._day = heading
            yield f"\n[bold]{heading}[/]"
        yield from lines

    def day(self, now: datetime) -> str:
        """Which day it is in the world."""
        local = now.astimezone(self.zone)
        nth = (local.date() - self.origin.astimezone(self.zone).date()).days + 1
        return f"Day {nth} · {local:%a %Y-%m-%d}"

    def _entries(self, sight: Sight) -> Iterator[str]:
        entered: list[Lead] = []
        refused: dict[str, list[Lead]] = defaultdict(list)
        graph: Graph | None = None
        for row, lead in sight.journeys:
            if self._is_new(f"entry {row.entry}"):
                graph = sight.graphs[row.version]
                if row.status == JourneyStatus.REFUSED:
                    refused[row.reason or ""].append(lead)
                else:
                    entered.append(lead)
        if entered and graph is not None:
            yield f"  [green]→[/] {_count(entered, 'journey')} began: {_people(entered)} [dim]({escape(why(graph, graph.start))})[/]"
        for reason, leads in refused.items():
            yield f"  [yellow]×[/] not taken: {_people(leads)} [dim]({REASONS.get(reason, reason)})[/]"

    def _mails(self, sight: Sight) -> Iterator[str]:
        groups: dict[tuple[str, str, str, str], list[Lead]] = defaultdict(list)
        versions = {row.entry: row.version for row, _ in sight.journeys}
        for delivery, lead in sight.deliveries:
            if delivery.status in _OVER and self._is_new(f"delivery {delivery.id} {delivery.status}"):
                key = (delivery.kind, delivery.status, delivery.step, versions[delivery.entry])
                groups[key].append(lead)
                if delivery.mail != delivery.step and delivery.kind == DeliveryKind.MARKETING:
                    groups[key][-1] = lead
        for (kind, status, step, version), leads in groups.items():
            graph = sight.graphs[version]
            reason, refs = escape(why(graph, step)), looked_at(graph, step)
            if status != DeliveryStatus.SENT:
                yield f"  [bold red]![/] {step} {status}: {_people(leads)}"
            elif kind == DeliveryKind.SALES:
                yield f"  [magenta]☎[/] sales told about {_people(leads)} [dim](because: {reason})[/]"
            else:
                yield f"  [cyan]✉[/] [bold]{step}[/] to {_people(leads, refs)} [dim](because: {reason})[/]"

    def _ends(self, sight: Sight) -> Iterator[str]:
        ends: dict[tuple[str, str], list[Lead]] = defaultdict(list)
        for row, lead in sight.journeys:
            if row.status == JourneyStatus.ENDED and self._is_new(f"end {row.entry}"):
                ends[row.outcome or "", row.reason or ""].append(lead)
        for (outcome, reason), leads in ends.items():
            mark, word = ("[yellow]⇥[/]", "left") if outcome == "exited" else ("[green]■[/]", "ended")
            yield f"  {mark} {_count(leads, 'journey')} {word} as [bold]{outcome}[/]{f' ({reason})' if reason else ''}: {_people(leads)}"

    def _is_new(self, what: str) -> bool:
        if what in self._told:
            return False
        self._told.add(what)
        return True


def stuck(sight: Sight, now: datetime, overdue: timedelta) -> list[JourneyRow]:
    """Journeys that should have gone on long ago. `overdue` is in the world's time."""
    late = []
    for row in sight.open:
        since = row.deadline if row.status == JourneyStatus.RESTING else row.entered_at if row.status == JourneyStatus.STARTING else None
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
            days[f"exited ({row.reason})" if row.outcome == "exited" else row.outcome].append((row.ended_at - row.entered_at) / timedelta(days=1))
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
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _person(lead: Lead, refs: Iterable[str]) -> str:
    values = [f"{ref.removeprefix('lead.')} {getattr(lead, ref.removeprefix('lead.'), None)}" for ref in refs]
    about = ", ".join(values) if values else lead.company or lead.industry or ""
    return f"{lead.name or lead.email}" + (f" ({about})" if about else "")


def _count(leads: list[Lead], noun: str) -> str:
    return f"{len(leads)} {noun}{'s' if len(leads) != 1 else ''}"
