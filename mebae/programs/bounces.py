"""`mebae bounces …`: what came back about mails: reading it from a mailbox, listing it, showing one whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlmodel import Session, col, select

from mebae import wiring
from mebae.errors import BadInput, NotFound, did_you_mean
from mebae.mail.incoming import Incoming, IncomingRules, Outcome
from mebae.mail.mailboxes import mails_in, size_of
from mebae.mail.reports import MEANINGS, Kind
from mebae.programs.screen import local, screen
from mebae.store.tables import Delivery, MailReport, Workspace

FOLLOWED = {
    Outcome.SUPPRESSED: "address suppressed", Outcome.COUNTED: "counted", Outcome.UNSUBSCRIBED: "unsubscribed",
    Outcome.NOTED: "event written", Outcome.KEPT: "kept", Outcome.UNPROVEN: "without proof", Outcome.DUPLICATE: "known already",
    Outcome.REFUSED: "not ours",
}  # fmt: skip


def read_mailbox(path: Path) -> None:
    """Takes in every report of a mailbox, each once, and says what they were. The mailbox stays as it is."""
    settings = wiring.load_settings()
    total = size_of(path)
    tokens = settings.tokens()
    console = screen()
    if tokens is None:
        console.print("[yellow]●[/] MEBAE_TOKEN_KEYS is not set: only Message-IDs can prove what a report is about")
    database = wiring.open_now(settings)
    counts: Counter[tuple[Kind, Outcome]] = Counter()
    bar = Progress(
        TextColumn("reading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    try:
        incoming = Incoming(database, IncomingRules(tokens, settings.soft_bounces), lambda: wiring.world_now(settings))
        with bar:
            task = bar.add_task("", total=total)
            for mail in mails_in(path):
                taken = incoming.take(mail.raw, strangers=False)
                counts[taken.kind, taken.outcome] += 1
                bar.update(task, completed=mail.done)
        paused = database.read_now(lambda session: session.exec(select(Workspace.sending_paused_at)).one()) is not None
    finally:
        database.close()
    console.print(f"[green]✓[/] {escape(str(path))}: {counts.total()} mails read")
    if counts:
        console.print(_summary(counts))
    if paused:
        console.print("\n[bold red]●[/] Sending is paused: mebae sending status")


def _summary(counts: Counter[tuple[Kind, Outcome]]) -> Table:
    outcomes = [outcome for outcome in Outcome if any(of == outcome for _, of in counts)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for outcome in outcomes:
        table.add_column(FOLLOWED[outcome], justify="right")
    for kind in Kind:
        if any(of == kind for of, _ in counts):
            table.add_row(kind.value, *(str(counts[kind, outcome] or "") for outcome in outcomes))
    return table


def list_bounces(*, limit: int, kind: str | None) -> None:
    """The newest reports. Shows nothing personal."""
    if kind is not None and kind not in list(Kind):
        raise BadInput(f"--kind '{kind}' is no kind{did_you_mean(kind, [one.value for one in Kind])}")
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        lines = database.read_now(_newest, limit, kind)
    finally:
        database.close()
    console = screen()
    if not lines:
        console.print("[green]✓[/] nothing came back")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "received", "kind", "status", "reason", "mail", "lead"):
        table.add_column(
            name, no_wrap=name != "mail", overflow="fold", justify="right" if name in ("id", "lead") else "left"
        )
    for row, delivery in lines:
        mail = f"{delivery.scope}/{delivery.mail}" if delivery is not None else "without proof"
        table.add_row(
            str(row.id), local(row.at, settings.time_zone), row.kind, row.status or "", row.reason or "",
            escape(mail), str(row.lead_id or ""),
        )  # fmt: skip
    console.print(table)
    console.print("\n`mebae bounces show ID` shows one whole. From what came without proof nothing followed.")


def _newest(session: Session, limit: int, kind: str | None) -> list[tuple[MailReport, Delivery | None]]:
    query = (
        select(MailReport, Delivery)
        .join(Delivery, col(Delivery.id) == col(MailReport.delivery_id), isouter=True)
        .order_by(col(MailReport.id).desc())
        .limit(limit)
    )
    if kind is not None:
        query = query.where(MailReport.kind == kind)
    return [(row, delivery) for row, delivery in session.exec(query)]


def show_bounce(id: int) -> None:
    """One report whole, as it came. Personal data."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        row = database.read_now(lambda session: session.get(MailReport, id))
    finally:
        database.close()
    if row is None:
        raise NotFound("report", str(id))
    console = screen()
    said = " ".join(filter(None, (row.kind, row.status, row.reason)))
    console.print(f"[bold]{row.id}[/] {said}: {MEANINGS[Kind(row.kind)]}")
    about = f"delivery {row.delivery_id}" if row.delivery_id is not None else "no delivery (there was no proof)"
    lead = f", lead {row.lead_id}" if row.lead_id is not None else ""
    console.print(f"received {local(row.at, settings.time_zone)}, about {about}{lead}\n")
    if row.raw is None:
        console.print("Its text is not kept.")
    else:
        console.print(row.raw.decode("utf-8", "replace"), markup=False, soft_wrap=True)
