"""`mebae segments` and `mebae sweep`: who is in a segment, and who has just become a member."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from sqlmodel import Session

from mebae import wiring
from mebae.beside import load_beside
from mebae.errors import NotFound, ScenarioError
from mebae.programs.screen import local, screen
from mebae.segments import Saved
from mebae.settings import Settings
from mebae.sheets import writing
from mebae.store import segments
from mebae.store.database import Database
from mebae.store.segments import Row
from mebae.sweeping import sweep_segments

COLUMNS = ("address", "name", "company", "score", "stage", "since")
SHOWN = 20
"""Leads that a dry run names of each segment."""


def list_segments() -> None:
    """Every segment with how many leads are in it now."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("segment", "leads now", "at the last sweep", "swept", "title"):
        table.add_column(
            name, justify="right" if name in ("leads now", "at the last sweep") else "left",
            no_wrap=name == "segment", overflow="fold",
        )  # fmt: skip
    try:
        saved, unpublished = _known(settings, database)
        if not saved:
            console.print(
                'no segments: write some into scenarios/segments.py, such as Segment("hot", when=lead.score >= 50)'
            )
            return
        now, old = wiring.world_now(settings), list[str]()
        swept = database.read_now(segments.swept_at)
        for one in saved:
            size = database.read_now(segments.size_of, one, now)
            when = "not published yet" if one.id in unpublished else local(swept.get(one.id), settings.time_zone)
            table.add_row(one.id, str(size.now), str(size.swept), when, one.title)
            if one.asks_score and size.scored_at is not None:
                old.append(f"{one.id} (the oldest of {local(size.scored_at, settings.time_zone)})")
        console.print(table)
        if unpublished:
            console.print("A segment is published when the worker starts.", style="dim")
        if old:
            console.print(f"Scores are as they were when last reckoned: {', '.join(old)}", style="dim", soft_wrap=True)
    finally:
        database.close()


def show_segment(id: str, *, limit: int, file: Path | None) -> None:
    """Lists the leads of a segment, or writes all of them into a file."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    try:
        saved, _ = _known(settings, database)
        one = next((one for one in saved if one.id == id), None)
        if one is None:
            raise NotFound("segment", id, [one.id for one in saved])
        now = wiring.world_now(settings)
        size = database.read_now(segments.size_of, one, now)
        if file is not None:
            _export(database, one, now, settings.time_zone, file, size.now)
            console.print(f"[green]✓[/] {escape(str(file))}: {size.now} leads of {one.id}")
        else:
            rows = database.read_now(lambda session: list(segments.members(session, one, now, limit=limit)))
            console.print(_table(rows, settings.time_zone))
            console.print(f"{len(rows)} of {size.now} leads", style="dim")
        if one.asks_score and size.scored_at is not None:
            console.print(
                f"Scores are as they were when last reckoned: the oldest of {local(size.scored_at, settings.time_zone)}",
                style="dim",
            )
    finally:
        database.close()


def sweep(id: str | None, *, dry_run: bool) -> None:
    """Sweeps now, as the Schedule does every morning; or says who would join."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        if dry_run:
            _foretell(database, settings, id)
        else:
            _sweep(database, settings, id)
    finally:
        database.close()


def _sweep(database: Database, settings: Settings, id: str | None) -> None:
    console = screen()
    before = wiring.world_now(settings)
    saved = database.read_now(_to_sweep, id)
    joining = sum(database.read_now(segments.count_joiners, one, before) for one in saved)
    leaving = sum(database.read_now(segments.count_leavers, one, before) for one in saved)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
    )
    counts: Counter[str] = Counter()
    with bar:
        task = bar.add_task("sweeping", total=joining + leaving)
        for mark in sweep_segments(database, lambda: wiring.world_now(settings), only=id):
            counts = Counter(mark.counts)
            where = mark.place.get("segment", "scores")
            bar.update(task, completed=counts.total(), total=max(counts.total(), joining + leaving), description=where)
    swept = f"{len(saved)} segment{'' if len(saved) == 1 else 's'}"
    console.print(f"[green]✓[/] {swept}: {counts['joined']} leads joined, {counts['left']} left")


def _foretell(database: Database, settings: Settings, id: str | None) -> None:
    console, now = screen(), wiring.world_now(settings)
    for one in database.read_now(_to_sweep, id):
        joining, leaving = (
            database.read_now(count, one, now) for count in (segments.count_joiners, segments.count_leavers)
        )
        console.print(f"[bold]{one.id}[/] {escape(one.title)}: {joining} would join, {leaving} would leave")
        if joining:
            rows = database.read_now(segments.first_joiners, one, now, SHOWN)
            console.print(_table(rows, settings.time_zone))
            if joining > len(rows):
                console.print(f"… and {joining - len(rows)} more", style="dim")
    console.print("Nothing was changed.", style="dim")


def _to_sweep(session: Session, id: str | None) -> Sequence[Saved]:
    return segments.saved_segments(session) if id is None else [segments.segment_to_sweep(session, id)]


def _known(settings: Settings, database: Database) -> tuple[list[Saved], set[str]]:
    """What the files say, else what is published; and which of it a sweep does not know yet, or knows otherwise."""
    published = {one.id: one for one in database.read_now(segments.saved_segments)}
    beside = load_beside(settings.scenarios)
    written = beside.segments
    if written is None:
        raise ScenarioError(beside.problems)
    if not written:
        return list(published.values()), set()
    return written, {one.id for one in written if one.id not in published or published[one.id].dump() != one.dump()}


def _table(rows: Sequence[Row], zone: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in _cells(row, zone)))
    return table


def _cells(row: Row, zone: str) -> list[str]:
    return [
        row.email or "", row.name or "", row.company or "", str(row.score), row.stage, local(row.since, zone)
    ]  # fmt: skip


def _export(database: Database, one: Saved, now: datetime, zone: str, file: Path, total: int) -> None:
    """All of them, a page at a time."""

    def write(session: Session, told: Callable[[], None]) -> None:
        with writing(file) as out:
            out.row(COLUMNS)
            for row in segments.members(session, one, now):
                out.row(_cells(row, zone))
                told()

    bar = Progress(TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), console=screen(), transient=True)
    with bar:
        task = bar.add_task("", total=total)
        database.read_now(write, lambda: bar.advance(task))
