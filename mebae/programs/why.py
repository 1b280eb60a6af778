"""`mebae why`: why a lead entered a scenario or did not, and what its journey waits for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from mebae import wiring
from mebae.programs.lead import condition_tree, grid, print_json, quiet, section
from mebae.programs.screen import local, screen
from mebae.reports.finding import lead_of
from mebae.reports.why import why
from mebae.reports.why_told import Came, UnderWay, WhyReport


def show_why(who: str, scenario: str, *, as_json: bool = False) -> None:
    """Prints the answer and what it rests on. `NotFound` with the nearest lead or scenario."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        now, clock = wiring.world_now(settings), settings.clock()
        found = database.read_now(
            lambda session: why(session, lead_of(session, who), scenario, now, zone=settings.time_zone, clock=clock)
        )
    finally:
        database.close()
    if as_json:
        print_json(found)
    else:
        say(found, settings.time_zone, screen())


def say(found: WhyReport, zone: str, console: Console) -> None:
    """The answer first, then the evidence."""
    head = Text(found.called, style="bold")
    head.append(f" and {found.scenario}" + (f" ({found.title})" if found.title else ""))
    console.print(head)
    console.print(Text(found.answer))
    for journey in found.under_way:
        _under_way(journey, console)
    rows: list[Sequence[RenderableType]] = []
    for entry in found.entries:
        key = f" [{entry.key}]" if entry.key else ""
        rows.append((str(entry.entry), quiet(local(entry.at, zone)), Text(f"{entry.cause}{key}"), Text(entry.words)))
    if rows:
        more = quiet(f"{found.refused_in_all} were refused in all") if found.refused_in_all > 1 else Text("")
        section(console, "Entries", grid(rows, right=[0]), *([more] if more.plain else []))
    for entry in found.entries:
        if entry.audience is not None:
            section(console, f"The audience that refused entry {entry.entry}, as it is by now", grid(condition_tree(entry.audience)))
            break
    for start in found.starts:
        said = f"{start.in_all} such" if start.in_all else "none"
        section(console, f"Starts when: {start.words}", *_events(start.came or start.near, zone, near=not start.came, said=said))
    if not found.starts:
        section(console, "Starts when:", quiet("somebody asks for it: starter.py start, or enroll(…) of another scenario"))
    if found.pending:
        section(console, "Acknowledged and not stored yet", *_events(found.pending, zone, near=False, said=""))
    rows = []
    for check in found.checks:
        mark, style = ("✓", "green") if check.holds else ("✗", "red")
        rows.append((Text(mark, style=style), Text(check.words)))
        if check.of is not None and check.of.kind != "one":
            rows += [(Text(""), grid([line])) for line in condition_tree(check.of)]
    section(console, "An entry of now would be asked", grid(rows))


def _events(came: Sequence[Came], zone: str, *, near: bool, said: str) -> list[RenderableType]:
    if not came:
        return [quiet("the lead has no such event, and none that is nearly so")]
    rows = [(quiet(local(one.at, zone)), Text(one.words), Text(one.fate)) for one in came]
    if near:
        return [quiet("the lead has no such event; the nearest are:"), grid(rows)]
    return [quiet(said), grid(rows)] if said else [grid(rows)]


def _under_way(journey: UnderWay, console: Console) -> None:
    rows: list[Sequence[RenderableType]] = []
    for one in journey.listens:
        rows.append((Text("on"), Text(one.words), Text(f"→ {one.to}")))
        if one.of is not None:
            rows += [(Text(""), *line) for line in condition_tree(one.of)]
    if journey.otherwise is not None:
        rows.append((Text("else"), Text("when the time is over"), Text(f"→ {journey.otherwise}")))
    parts: list[RenderableType] = [Text(journey.words)]
    if rows:
        parts.append(grid(rows))
    if journey.signals:
        parts.append(quiet(f"{journey.signals} signal(s) are still to be delivered to it: does Temporal run?"))
    if journey.exits is not None:
        parts += [quiet("It leaves early when:"), grid(condition_tree(journey.exits))]
    section(console, f"Under way: {journey.workflow_id}", *parts)
