"""`mebae quarantine …`: the events that could not be taken, why, and taking them after all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sqlmodel import Session

from mebae import wiring
from mebae.errors import BadInput, NotFound
from mebae.programs.screen import local, screen
from mebae.quarantine import Outcome, listed, open_ids, release, waiting
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Quarantined


def list_quarantine(*, limit: int, released: bool) -> None:
    """The newest events of the quarantine, with their reasons. Shows nothing personal."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        lines = database.read_now(listed, limit=limit, released=released)
        total = database.read_now(waiting)
    finally:
        database.close()
    console = screen()
    if not lines:
        console.print("[green]✓[/] nothing is in quarantine")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "received", "sent as", "bytes", "reason", *(["released"] if released else [])):
        table.add_column(
            name, no_wrap=name != "reason", overflow="fold", justify="right" if name in ("id", "bytes") else "left"
        )
    for line in lines:
        cells = [
            str(line.id),
            local(line.received_at, settings.time_zone),
            line.kind or "batch",
            str(line.size),
            escape(line.reason),
        ]
        table.add_row(*cells, *([local(line.released_at, settings.time_zone)] if released else []))
    console.print(table)
    console.print(
        f"\n{total} in quarantine. `mebae quarantine show ID` shows one whole; once the cause is gone (a newer release, a "
        "corrected setting), `mebae quarantine release ID` or `--all` reads them again."
    )


def show_quarantined(id: int) -> None:
    """One event whole, with its JSON. Personal data."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        row = database.read_now(lambda session: session.get(Quarantined, id))
    finally:
        database.close()
    if row is None:
        raise _unknown(id)
    console = screen()
    console.print(f"[bold]{row.id}[/] {escape(row.reason)}")
    console.print(f"received {local(row.received_at, settings.time_zone)}, sent as {row.kind or 'batch'}, {row.cause}")
    if row.released_at is not None:
        console.print(f"released {local(row.released_at, settings.time_zone)}")
    console.print(_readable(row.body), markup=False, soft_wrap=True)


def release_quarantined(ids: Sequence[int], *, everything: bool) -> bool:
    """Reads events again with today's code and stores those that it takes; whether all went."""
    if everything == bool(ids):
        raise BadInput("name the events to release by their ids (see `mebae quarantine list`), or give --all")
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    bar = Progress(TextColumn("releasing"), BarColumn(), MofNCompleteColumn(), console=console, transient=True)
    try:
        chosen = database.read_now(open_ids) if everything else list(dict.fromkeys(ids))
        with bar:
            outcomes = [_release(database, settings, id) for id in bar.track(chosen)]
    finally:
        database.close()
    became = Counter(outcome.became for outcome in outcomes)
    bad = [outcome for outcome in outcomes if outcome.became == "bad"]
    mark = "[yellow]●[/]" if bad else "[green]✓[/]"
    console.print(
        f"{mark} {became['stored']} stored, {became['known']} stored before under the same message id, "
        f"{became['released-before']} released before, {len(bad)} still bad"
    )
    for outcome in bad[:50]:
        console.print(f"  {outcome.id}: {escape(outcome.reason)}")
    return not bad


def _release(database: Database, settings: Settings, id: int) -> Outcome:
    def work(session: Session) -> Outcome | None:
        return release(session, id, clock=settings.clock(), now=settings.clock().world(datetime.now(UTC)))

    outcome = database.write_now(work)
    if outcome is None:
        raise _unknown(id)
    return outcome


def _unknown(id: int) -> NotFound:
    return NotFound("quarantined event", str(id))


def _readable(body: bytes) -> str:
    """JSON as a person reads it; as it is if it cannot be read."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False, indent=2).encode(errors="replace").decode()
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
