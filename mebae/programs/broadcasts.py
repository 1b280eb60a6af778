"""`mebae broadcasts`: what there is and when it goes out, and what its runs have brought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from mebae import wiring
from mebae.ab import Difference
from mebae.beside import load_beside
from mebae.broadcast_run import World
from mebae.broadcast_words import bar, done
from mebae.broadcasts import BroadcastPlan, Variant
from mebae.broadcasts_loading import load_broadcasts
from mebae.errors import NotFound
from mebae.programs.screen import local, screen
from mebae.recurring import words
from mebae.reports import broadcasts as reports
from mebae.reports.broadcasts import Held, Line, RunTold
from mebae.settings import Settings
from mebae.store.broadcast_results import WITHIN, Result
from mebae.store.tables import Broadcast

WHYS = {
    "most": "the most {by} of persons for each mail delivered",
    "tie": "at a tie the one that stands first",
    "too-few": "with too few {by} to tell, the one that stands first",
}
RUN_COLUMNS = ("run", "due", "status", "progress", "sent", "refused", "waiting", "unknown", "held out")


def written_plans(scenarios: Path) -> list[BroadcastPlan]:
    """What the files say. Raises `ScenarioError`."""
    return [one.plan for one in load_broadcasts(scenarios, load_beside(scenarios))]


def world_of(settings: Settings) -> World:
    return World(settings.time_zone, settings.calendar(), settings.clock())


def list_broadcasts() -> None:
    """Every broadcast, with when it goes out next and how its last run stands."""
    settings = wiring.load_settings()
    written = written_plans(settings.scenarios)
    database = wiring.open_now(settings)
    try:
        found = database.read_now(reports.lines, written, world_of(settings), wiring.world_now(settings))
    finally:
        database.close()
    console = screen()
    if not found:
        console.print(
            "no broadcasts: write one into scenarios/broadcasts/NAME/broadcast.py (docs/how-to/broadcasts.md)"
        )
        return
    table = _table("broadcast", "to", "goes out", "next", "last run", "title")
    for line in found:
        table.add_row(
            line.plan.broadcast, _to(line.plan), line.when, _next(line, settings.time_zone), _last(line.last, settings.time_zone),
            escape(line.plan.title),
        )  # fmt: skip
    console.print(table)
    if settings.clock_speed != 1.0:
        console.print(
            "Time runs at its own speed here: nothing goes out by itself, but by `mebae broadcasts send`.", style="dim"
        )
    if any(not line.published for line in found):
        console.print(
            "What is marked * was written after the worker started: it is published when the worker starts again.",
            style="dim",
        )


def show_broadcast(broadcast: str, *, run: int | None, as_json: bool) -> None:
    """One broadcast: its runs, and what the latest (or a named one) has brought."""
    settings = wiring.load_settings()
    written = {plan.broadcast: plan for plan in written_plans(settings.scenarios)}
    database = wiring.open_now(settings)
    now = wiring.world_now(settings)
    try:
        runs = database.read_now(reports.runs, broadcast, list(written))
        one = next((row for row in runs if run in (None, row.id)), None)
        if one is None and run is not None:
            raise NotFound("run", str(run), [str(row.id) for row in runs])
        told = None if one is None else database.read_now(reports.told, one, now)
    finally:
        database.close()
    if as_json:
        print(json.dumps(None if told is None else reports.as_json(told), ensure_ascii=False, indent=2))
        return
    console = screen()
    plan = written.get(broadcast) or (told.plan if told is not None else None)
    if plan is not None:
        console.print(
            f"[bold]{broadcast}[/] {escape(plan.title)}: {_to(plan)}, {words(plan.schedule) if plan.schedule else 'by hand'}"
        )
    if told is None:
        console.print("It has not gone out yet.")
        return
    console.print(_runs_table(runs, told, settings.time_zone))
    for line in _told(told, settings.time_zone, settings.language):
        console.print(line)


# Parts ------------------------------------------------------------------------------------------------------------------


def _to(plan: BroadcastPlan) -> str:
    return plan.segment or "a condition of its own"


def _next(line: Line, zone: str) -> str:
    mark = "" if line.published else " *"
    if line.next is None:
        return ("" if line.plan.schedule is None else "past") + mark
    return f"{'from ' if line.plan.local_time else ''}{local(line.next, zone)}{mark}"


def _last(row: Broadcast | None, zone: str) -> str:
    return "" if row is None else f"{row.id}: {local(row.due_at, zone)}, {_status(row)}"


def _status(row: Broadcast) -> str:
    said = row.outcome if row.status == "ended" and row.outcome else row.status
    return f"{said}, paused" if row.paused else said


def _table(*names: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name in ("broadcast", "progress"),
            overflow="fold",
        )
    return table


def _runs_table(runs: list[Broadcast], told: RunTold, zone: str) -> Table:
    table = _table(*RUN_COLUMNS, right=("run", "sent", "refused", "waiting", "unknown", "held out"))
    for row in runs:
        counts = told.counts if row.id == told.row.id else row.counts
        numbers = (counts.get(word, 0) for word in ("sent", "refused", "postponed", "unknown", "holdout"))
        progress = f"{bar(counts, 10)} of {counts.get('total', 0):,}"
        table.add_row(
            str(row.id), local(row.due_at, zone), _status(row), progress, *(f"{number:,}" for number in numbers)
        )
    return table


def _told(run: RunTold, zone: str, language: str) -> Iterator[str | Table]:
    row = run.row
    yield f"\n[bold]Run {row.id}[/] {done(run.counts):,} of {run.counts.get('total', 0):,} leads done"
    yield _results_table({"all": run.whole}) if not run.by_variant else _ab_table(run, language)
    if run.by_variant:
        yield _decided(run, zone)
    if run.refusals:
        reasons = ", ".join(f"{many:,} {escape(reason)}" for reason, many in run.refusals.items())
        yield f"Refused, waiting or unknown: {reasons} [dim](docs/reference/reasons.md)[/]"
    if run.held is not None and run.whole.sent:
        yield from _compared(run.held)


def _results_table(rows: dict[str, Result], first: str = "") -> Table:
    numbers = ("sent", "delivered", "opens", "clicks", "unsubscribed", "complained", "bounced")
    table = _table(first, *numbers, right=numbers)
    for name, one in rows.items():
        table.add_row(
            name, f"{one.sent:,}", f"{one.delivered:,}",
            *(_share(number, one.delivered) for number in (one.opens, one.clicks, one.unsubscribes, one.complaints)),
            _share(one.bounces, one.sent),
        )  # fmt: skip
    return table


def _ab_table(run: RunTold, language: str) -> Table:
    rows = {}
    for id, one in run.by_variant.items():
        mark = " ← won" if id == run.row.winner else ""
        rows[f"{id}: {_called(run.plan, id, language)}{mark}"] = one
    if run.row.winner is not None:
        rows[f"the others, with {run.row.winner}"] = run.rest
    return _results_table(rows | {"all": run.whole}, "variant")


def _called(plan: BroadcastPlan | None, id: str, language: str) -> str:
    variant = Variant(id=id, mail="?") if plan is None else plan.variant(id)
    subject = variant.subjects.get(language) or next(iter(variant.subjects.values()), "")
    return escape(f"{variant.mail} “{subject}”" if subject else variant.mail)


def _decided(run: RunTold, zone: str) -> str:
    decision = run.row.decision
    if not decision:
        return "The winner is not decided yet."
    at = local(datetime.fromisoformat(decision["at"]), zone)
    by = decision["by"]
    then = ", ".join(f"{id} {one[by]} of {one['delivered']:,}" for id, one in decision["variants"].items())
    return f"Decided {at}: [bold]{run.row.winner}[/], {WHYS[decision['why']].format(by=by)} ({by} then: {then})"


def _compared(held: Held) -> Iterator[str | Table]:
    yield f"\n[bold]With the mail and without[/] [dim](within {WITHIN.days} days; all who drew it, refused ones too)[/]"
    table = _table("", "leads", "did something", "became MQL", right=("leads", "did something", "became MQL"))
    for name, group in (("got the mail", held.mailed), ("held out", held.held)):
        table.add_row(name, f"{group.leads:,}", _share(group.active, group.leads), _share(group.qualified, group.leads))
    yield table
    for word, found in (("did something", held.active), ("became MQL", held.qualified)):
        if found is not None:
            yield f"{word}: {_points(found)}"


def _points(found: Difference) -> str:
    """A difference in words."""
    sure = "" if found.low > 0 or found.high < 0 else ": chance alone may be it"
    low, high = f"{found.low * 100:+.1f}", f"{found.high * 100:+.1f}"
    return f"{found.points * 100:+.1f} points with the mail (95 %: {low} to {high}){sure}"


def _share(number: int, of: int) -> str:
    return f"{number:,} ({number / of:.1%})" if of else f"{number:,}"
