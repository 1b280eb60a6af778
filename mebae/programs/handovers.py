"""`mebae handovers …` and `mebae calls …`: which leads are with sales, and what sales says of them."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from rich.markup import escape
from rich.table import Table
from sqlmodel import Session

from mebae import calling, handing, wiring
from mebae.errors import NotFound
from mebae.handing import Decided, Decision, Why
from mebae.handover import Move
from mebae.handover_rows import RowOutcome, handover_of, import_outcomes
from mebae.programs.screen import local, screen
from mebae.reports.handovers import Line, calls, handovers, untold
from mebae.settings import Settings
from mebae.starting import find_lead
from mebae.store.database import Database, lock_lead
from mebae.store.scoring import rule_title
from mebae.store.tables import Handover, HandoverEvent, Lead

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

T = TypeVar("T")
PEOPLES = 500
"""The first number of an account that is a person's, on any system (macOS 501, Linux 1000)."""


def list_handovers(*, status: str | None, owner: str | None, overdue: bool, limit: int, as_json: bool) -> None:
    """Those that wait longest first."""
    def look(session: Session, now: datetime) -> tuple[list[Line], dict[tuple[str, str, str], int]]:
        return handovers(session, now, status=status, owner=owner, overdue=overdue, limit=limit), untold(session)

    (lines, trouble), settings = _read(look)
    if as_json:
        print_json([line.model_dump(mode="json", exclude={"script", "method", "outcome"}) for line in lines])
        return
    console = screen()
    for (channel, said, reason), count in trouble.items():
        verb = "wait and are tried again" if said == "waiting" else "were refused for good"
        console.print(f"[yellow]![/] {count} messages by {channel} {verb}: {reason}")
    if not lines:
        console.print("[green]✓[/] no hand-over like this")
        return
    table = _table("id", "lead", "company", "status", "owner", "score", "age", "due", "why")
    now = wiring.world_now(settings)
    for line in lines:
        due = _due(line, settings) if line.closed_at is None else (line.reason or "")
        cells = (str(line.id), line.lead, line.company, line.status, line.owner, str(line.score), line.age(now), due, line.why)
        table.add_row(*(escape(cell) for cell in cells), style="red" if line.overdue else None)
    console.print(table)


def show_handover(id: int, *, as_json: bool) -> None:
    """One hand-over with all that happened to it."""

    def look(session: Session, now: datetime) -> tuple[Handover, Lead, list[HandoverEvent], list[str]]:
        row = session.get(Handover, id)
        if row is None:
            raise NotFound("hand-over", str(id))
        reasons = [f"{rule_title(session, one['rule'])} {one['points']:g}" for one in row.reasons]
        return row, session.get_one(Lead, row.lead_id), handing.history_of(session, [id]), reasons

    (row, lead, history, named), settings = _read(look)
    if as_json:
        print_json({**row.model_dump(mode="json"), "history": [one.model_dump(mode="json") for one in history]})
        return
    console = screen()
    console.print(f"[bold]Hand-over {row.id}[/] {escape(lead.name or lead.email or '')} · {row.status} · {escape(row.owner)}")
    reasons = ", ".join(named)
    opened = "became an MQL" if any(one.move == "open" and one.how == "rule" for one in history) else "handed over without a word of why"
    console.print(escape(f"{row.why or opened}; score {row.score}" + (f": {reasons}" if reasons else "")))
    table = _table("at", "what", "by", "how", "reason", "note")
    for one in history:
        cells = (local(one.at, settings.time_zone), one.move, one.by, one.how, one.reason or "", one.note)
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


def open_handover(email: str, *, why: str, owner: str | None, by: str | None) -> None:
    """Gives a lead to sales by hand."""

    def write(session: Session, settings: Settings) -> Handover:
        found = find_lead(session, email)
        lead = lock_lead(session, found.id or 0)
        assert lead is not None
        now = wiring.world_now(settings)
        cause = f"command:{lead.id}:{now.isoformat()}"
        wanted = Why(cause, "command", by=by or _me(), message=why, owner=owner)
        return handing.open_or_join(session, lead, wanted, now, settings.time_zone, settings.calendar())

    row = _write(write)
    screen().print(f"[green]✓[/] hand-over {row.id} is {row.status}, {escape(row.owner)} is told")


def decide(
    id: int, move: Move, *, by: str | None, reason: str | None = None, note: str = "", amount: int | None = None, to: str | None = None
) -> None:
    """What sales says of a hand-over."""
    said = Decision(move, by or _me(), "command", reason=reason, note=note, amount=amount, to=to)

    def write(session: Session, settings: Settings) -> Decided:
        now = wiring.world_now(settings)
        return handing.decide(session, id, said, now, settings.time_zone, settings.calendar())

    done = _write(write)
    row = done.handover
    said_so = f"hand-over {row.id} is {row.status}, {escape(row.owner)} owns it"
    screen().print(f"[green]✓[/] {said_so}" if done.changed else f"[yellow]–[/] {said_so}: it was so already, nothing has changed")


def import_file(path: Path) -> bool:
    """Outcomes from a file; whether every row could be taken."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)

    def one(id: int, said: Decision) -> Decided:
        now = wiring.world_now(settings)
        return database.write_now(handing.decide, id, said, now, settings.time_zone, settings.calendar())

    try:
        rows: list[RowOutcome] = list(import_outcomes(path, one, lambda email: database.read_now(handover_of, email)))
    finally:
        database.close()
    console = screen()
    bad = [row for row in rows if row.problem is not None]
    for row in bad:
        console.print(f"[red]line {row.line}[/]: {escape(row.problem or '')}", soft_wrap=True)
    changed = sum(row.changed for row in rows)
    console.print(f"{changed} decided, {len(rows) - changed - len(bad)} were so already, {len(bad)} left out")
    return not bad


def list_calls(*, done: bool, owner: str | None, limit: int, as_json: bool) -> None:
    """Calls that are to be made, those due first first."""
    lines, settings = _read(lambda session, now: calls(session, now, done=done, owner=owner, limit=limit))
    if as_json:
        print_json([line.model_dump(mode="json", exclude={"score", "due", "reason", "amount"}) for line in lines])
        return
    console = screen()
    if not lines:
        console.print("[green]✓[/] no call is to be made")
        return
    table = _table("id", "due", "lead", "company", "owner", "method", "why", "script", *(["outcome"] if done else []))
    for line in lines:
        cells = (
            str(line.id), local(line.due_at, settings.time_zone), line.lead, line.company, line.owner, line.method, line.why, line.script,
            *([line.outcome or line.status] if done else []),
        )  # fmt: skip
        table.add_row(*(escape(cell) for cell in cells), style="red" if line.overdue else None)
    console.print(table)


def call_done(id: int, outcome: str, *, note: str, by: str | None) -> None:
    """Somebody has called."""
    row, changed = _write(
        lambda session, settings: calling.done(
            session, id, outcome, by=by or _me(), how="command", note=note, now=wiring.world_now(settings)
        )
    )
    screen().print(f"[green]✓[/] call {row.id}: {row.outcome}" + ("" if changed else ", as it was already"))


def print_json(found: object) -> None:
    """For programs: exactly this on the standard output."""
    print(json.dumps(found, ensure_ascii=False, indent=2, default=str))


def _due(line: Line, settings: Settings) -> str:
    if line.due_at is None:
        return ""
    words = {"remind": "", "escalate": ", reminded", "expire": ", escalated"}
    return local(line.due_at, settings.time_zone) + words.get(line.due or "", "")


def _me() -> str:
    """Who runs the command, by the name of the account: no address, and better than nobody. `sudo` tells who called it; an account
    that is nobody's (root, a service's) is not taken for a person."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
        person = name != "root" and (pwd is None or pwd.getpwnam(name).pw_uid >= PEOPLES)
    except (KeyError, OSError):
        person = False
    if not person:
        screen().print("[yellow]●[/] nobody knows who says this: it is kept as “command”; --by NAME says who", soft_wrap=True)
    return name if person else "command"


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        one_line, right = name in ("id", "status", "age", "due", "at"), name in ("id", "score")
        table.add_column(name, overflow="fold", no_wrap=one_line, justify="right" if right else "left")
    return table


def _read(work: Callable[[Session, datetime], T]) -> tuple[T, Settings]:
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        return database.read_now(work, wiring.world_now(settings)), settings
    finally:
        database.close()


def _write(work: Callable[[Session, Settings], T]) -> T:
    settings = wiring.load_settings()
    database: Database = wiring.open_now(settings)
    try:
        return database.write_now(work, settings)
    finally:
        database.close()
