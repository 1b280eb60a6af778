"""`mebae events`: what really came, beside the tracking plan."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from mebae import wiring
from mebae.errors import BadInput
from mebae.events import BY_NAME
from mebae.programs.house import find_root
from mebae.programs.screen import local, screen
from mebae.store.seen import Seen, latest_events, seen_names
from mebae.tracking import Finding, TrackingPlan
from mebae.tracking_loading import EVENTS_FILE, load_plan

SHOWN = 100
"""Names that are listed; more than that are a name with something in it that belongs into a property."""

NARROW = 100
"""Columns of a terminal below which the day of the last event must do."""

Findings = dict[str, Counter[Finding]]
"""What is not as planned, by the name of the event: how many of the sample."""


def show_events(since: str | None, sample: int) -> None:
    """Lists the names seen, what of them is not in the plan or not as planned, and what was planned and never came."""
    settings = wiring.load_settings()
    zone = settings.time_zone
    start = None if since is None else read_since(since, wiring.world_now(settings), zone)
    home = find_root() / settings.scenarios
    declared = load_plan(home)
    plan = TrackingPlan() if declared is None else declared
    database = wiring.open_now(settings)
    console = screen()
    try:
        with console.status("counting"):
            seen = database.read_now(seen_names, start)
        planned = [one for one in seen if one.name in plan.events]
        samples, findings = Counter[str](), defaultdict[str, Counter[Finding]](Counter)
        with _bar(console) as bar:
            task = bar.add_task("", total=sum(one.times for one in planned))
            latest = latest_events(
                database, planned, sample, since=start, looked_at=lambda count: bar.advance(task, count)
            )
            for name, properties in latest:
                samples[name] += 1
                findings[name].update(plan.findings(name, properties))
    finally:
        database.close()
    if not seen:
        console.print("No events yet." if start is None else f"No events since {local(start, zone)}.")
    else:
        console.print(_names(seen, plan, zone, is_narrow=console.width < NARROW))
        if len(seen) > SHOWN:
            console.print(
                f"… and {len(seen) - SHOWN} more names: what differs from event to event belongs into a property"
            )
    _say_unplanned(console, plan, seen)
    _say_findings(console, findings, samples)
    _say_never(console, plan, {one.name for one in seen}, start is not None)
    if declared is None:
        console.print(
            f"There is no scenarios/{EVENTS_FILE}, so only the standard events are planned: "
            "write one to say which events and properties you use."
        )


def read_since(text: str, now: datetime, zone: str) -> datetime:
    """A day (`2026-04-01`), a moment, or a span back from now (`30d`, `12h`, `2w`).

    >>> read_since("30d", datetime(2026, 4, 1, tzinfo=UTC), "Asia/Tokyo").date().isoformat()
    '2026-03-02'
    """
    if span := re.fullmatch(r"(\d{1,5})([hdw])", text.strip()):
        hours = {"h": 1, "d": 24, "w": 168}[span[2]]
        try:
            return now - timedelta(hours=int(span[1]) * hours)
        except OverflowError:
            return datetime(1970, 1, 1, tzinfo=UTC)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(f"--since '{text}' is no date: write 2026-04-01, or a span back from now such as 30d") from None
    return found.replace(tzinfo=ZoneInfo(zone)) if found.tzinfo is None else found


def _bar(console: Console) -> Progress:
    return Progress(TextColumn("looking at the latest"), BarColumn(), console=console, transient=True)


def _names(seen: Sequence[Seen], plan: TrackingPlan, zone: str, *, is_narrow: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    longest = max(len(one.name) for one in seen[:SHOWN])
    table.add_column("")
    table.add_column("event", overflow="fold", min_width=min(longest, 24))
    table.add_column("title", overflow="fold")
    for name in ("times", "leads", "anonymous"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("last",) if is_narrow else ("first", "last"):
        table.add_column(name, no_wrap=True)
    for one in seen[:SHOWN]:
        planned = plan.events.get(one.name)
        mark = "[yellow]?[/]" if planned is None else "[green]✓[/]"
        title = planned.title if planned is not None and planned.is_own else ""
        table.add_row(
            mark, escape(one.name), escape(title), f"{one.times:,}", f"{one.leads:,}", f"{one.anonymous:,}",
            *([local(one.last, zone)[:10]] if is_narrow else [local(one.first, zone), local(one.last, zone)]),
        )  # fmt: skip
    return table


def _say_unplanned(console: Console, plan: TrackingPlan, seen: Sequence[Seen]) -> None:
    unplanned = [one.name for one in seen if one.name not in plan.events]
    if not unplanned:
        return
    console.print()
    console.print("[bold]Not in the plan[/] (kept all the same)")
    for name in unplanned[:SHOWN]:
        near = plan.nearest(name)
        cure = f", did you mean '{near}'?" if near else ""
        if near in BY_NAME:
            aliases = ", ".join(BY_NAME[near].aliases)
            cure += (
                f" Send it as that{f', or as {aliases}' if aliases else ''}: what has another name counts for nothing."
            )
        console.print(f"  {escape(name)}{escape(cure)}", soft_wrap=True)


def _say_findings(console: Console, findings: Findings, samples: Counter[str]) -> None:
    rows = [(name, finding, count) for name, its in findings.items() for finding, count in its.most_common(20)]
    if not rows:
        return
    said = {"unknown": "not in the plan", "wrong": "", "missing": "missing"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("event", "property", "of the latest", ""):
        table.add_column(column, overflow="fold")
    for name, finding, count in rows:
        words = ": ".join(filter(None, (said[finding.kind], finding.text)))
        table.add_row(escape(name), escape(finding.property), f"{count} of {samples[name]}", escape(words))
    console.print()
    console.print("[bold]Properties that are not as planned[/]")
    console.print(table)


def _say_never(console: Console, plan: TrackingPlan, seen: set[str], is_part: bool) -> None:
    """Of the team's own events only: of the standard ones nobody uses all."""
    never = [one for one in plan.events.values() if one.is_own and one.name not in seen]
    if not never:
        return
    console.print()
    console.print(f"[bold]Planned, and {'not seen since then' if is_part else 'never seen'}[/]")
    for one in never:
        console.print(f"  {escape(one.name)}{f'  {escape(one.title)}' if one.title else ''}")
