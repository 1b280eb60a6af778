"""`mebae sending …`: whether marketing mail goes out, what came back about it lately, stopping it and letting it go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlmodel import Session

from mebae import wiring
from mebae.mail.bounce_reasons import BY_REASON, Reason
from mebae.mail.reputation import (
    BOUNCES_WARN_AT,
    PAUSE_AT,
    WARN_AT,
    WINDOW,
    Counts,
    judge_bounces,
    judge_complaints,
    percent,
)
from mebae.programs.screen import local, screen
from mebae.settings import Settings
from mebae.store.mail_reports import bounce_reasons
from mebae.store.sending import (
    BY_COMPLAINTS,
    BY_HAND,
    by_day,
    by_domain,
    pause_sending,
    recent,
    resume_sending,
    workspace,
)
from mebae.store.tables import Workspace

_MARKS = {"fine": "[green]✓[/]", "warn": "[yellow]●[/]", "pause": "[bold red]●[/]"}
_WHY = {BY_COMPLAINTS: "because of complaints", BY_HAND: "by hand"}


def show_sending(*, days: int, domains: int) -> None:
    """Whether mail goes out, the rates against their thresholds, and the counts by day and domain."""
    settings = wiring.load_settings()
    now = wiring.world_now(settings)
    database = wiring.open_now(settings)
    try:
        row, counts = database.read_now(_now, now)
        per_day = database.read_now(by_day, now, settings.time_zone, days)
        start, end = now - timedelta(days=days), now + timedelta(microseconds=1)
        per_domain = database.read_now(by_domain, start, end, domains)
        reasons = database.read_now(bounce_reasons, start, end)
    finally:
        database.close()
    console = screen()
    _say_state(console, row, settings)
    week = WINDOW.days
    complaints, bounces = judge_complaints(counts), judge_bounces(counts)
    console.print(
        f"{_MARKS[complaints]} complaints {percent(counts.complaint_rate)} ({counts.complaints} of {counts.sent} mails in {week} days; "
        f"a warning from {WARN_AT / 10} %, a pause from {PAUSE_AT / 10} %)"
    )
    console.print(
        f"{_MARKS[bounces]} hard bounces {percent(counts.hard_rate)} ({counts.hard} of {counts.sent} mails; a warning from "
        f"{BOUNCES_WARN_AT // 10} %)"
    )
    if counts.unknown:
        console.print(f"{_MARKS['warn']} of {counts.unknown} mails nobody can say whether they went out")
    if bounces == "warn":
        console.print(
            "  Where do these addresses come from? Old lists and bought ones bounce: leave them out, they spoil the rest."
        )
    if complaints != "fine":
        console.print("  Which mails were called spam: mebae bounces list --kind complaint")
    console.print()
    console.print(_table("day", [(f"{day:%Y-%m-%d %a}", its) for day, its in per_day]))
    _say_reasons(console, reasons, days)
    if per_domain:
        console.print(f"\nThe domains of these {days} days, those with the most trouble first:")
        console.print(_table("domain", per_domain))


def _now(session: Session, now: datetime) -> tuple[Workspace, Counts]:
    row = workspace(session)
    return row, recent(session, now, complaints_after=row.sending_resumed_at)


def _say_state(console: Console, row: Workspace, settings: Settings) -> None:
    if row.sending_paused_at is None:
        resumed = local(row.sending_resumed_at, settings.time_zone)
        since = f" Complaints count since {resumed}, when a person resumed it." if resumed else ""
        console.print(f"[green]✓[/] Marketing mail goes out.{since}")
        return
    why = _WHY.get(row.sending_paused_why or "", row.sending_paused_why or "")
    since = local(row.sending_paused_at, settings.time_zone)
    console.print(f"[bold red]● Marketing mail is paused[/] since {since}, {why}. Journeys wait, nothing is lost.")
    if row.sending_paused_why == BY_COMPLAINTS:
        console.print(
            "  Find out which mail, list or form people complain about (mebae bounces list --kind complaint) and change it. Then:\n"
            "  mebae sending resume. What was complained about so far pauses it no more."
        )
    else:
        console.print("  To let it go on: mebae sending resume")


def _say_reasons(console: Console, reasons: Mapping[Reason, int], days: int) -> None:
    """Why mails came back, with those apart that are about us: only we can do something about them."""
    if not reasons:
        return
    console.print(
        f"\nWhy mails came back in {days} days: "
        + ", ".join(f"{reason.value} {count}" for reason, count in reasons.items())
    )
    ours = [reason.value for reason in reasons if BY_REASON[reason].about == "us"]
    if ours:
        console.print(
            f"{_MARKS['warn']} {' and '.join(ours)}: that is about our mails and our server, and suppresses nobody. Do SPF, DKIM and "
            "DMARC hold, is its address on a list? mebae doctor",
            soft_wrap=True,
        )


def _table(first: str, rows: Sequence[tuple[str, Counts]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in ("sent", "hard", "", "soft", "complaints", "", "unknown"):
        table.add_column(name, justify="right")
    for name, counts in rows:
        table.add_row(
            escape(name), str(counts.sent), _number(counts.hard), _share(counts.hard, counts.sent), _number(counts.soft),
            _number(counts.complaints), _share(counts.complaints, counts.sent), _number(counts.unknown),
        )  # fmt: skip
    return table


def _number(count: int) -> str:
    return str(count) if count else "·"


def _share(count: int, sent: int) -> str:
    return percent(count / sent) if count and sent else ""


def pause_all() -> None:
    """No marketing mail from now on, until somebody resumes it."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        news = database.write_now(pause_sending, BY_HAND, wiring.world_now(settings))
    finally:
        database.close()
    said = (
        "Marketing mail is paused: what is due waits, and nothing is lost."
        if news
        else "Marketing mail was paused already."
    )
    screen().print(f"[green]✓[/] {said} To let it go on: mebae sending resume")


def resume_all() -> None:
    """Marketing mail goes on; the complaints so far were looked at."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        news = database.write_now(resume_sending, wiring.world_now(settings))
    finally:
        database.close()
    if news:
        screen().print(
            "[green]✓[/] Marketing mail goes on. What waited is asked about again within four hours, each mail at its own time. The "
            "complaints so far pause it no more.",
            soft_wrap=True,
        )
    else:
        screen().print("[green]✓[/] Marketing mail was not paused.")
