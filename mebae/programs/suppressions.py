"""`mebae suppressions …`: the addresses that no marketing mail goes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from rich.markup import escape
from rich.table import Table
from sqlmodel import Session

from mebae import suppression_lists as lists
from mebae import wiring
from mebae.errors import BadInput, did_you_mean
from mebae.programs.screen import local, screen
from mebae.settings import Settings
from mebae.store import suppressions
from mebae.store.database import Database, lock_lead
from mebae.store.leads import find_lead, normalise_email
from mebae.store.suppressions import REASONS, Reason

SHOWN = 12
"""Characters of a hash that a list shows."""
Became = Literal["lifted", "not-there", "opted-out"]


def list_suppressions(*, limit: int, reason: str | None) -> None:
    """The newest entries, and how many there are of each reason."""
    chosen = _reason(reason) if reason is not None else None
    with _opened() as (settings, database):
        lines = database.read_now(lists.newest, limit, chosen)
        counted = database.read_now(lists.counts)
    console = screen()
    if not lines:
        console.print("[green]✓[/] no address is suppressed" + (f" as {chosen}" if chosen else ""))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("since", "reason", "address", "hash"):
        table.add_column(name, no_wrap=name != "address", overflow="fold")
    for line in lines:
        address = escape(line.address) if line.address else "[dim]of no lead that is known[/]"
        table.add_row(local(line.at, settings.time_zone), line.reason, address, line.hash[:SHOWN])
    console.print(table)
    console.print(f"\n{sum(counted.values())} in all: " + ", ".join(f"{count} {name}" for name, count in counted.items()))


def add_suppressions(addresses: Sequence[str], reason: str) -> None:
    """Puts addresses on the list. A known lead of an unsubscribed one gets its opt-out and event too."""
    chosen, written = _reason(reason), [normalise_email(address) for address in addresses]
    with _opened() as (settings, database):
        now = wiring.world_now(settings)

        def add(session: Session, address: str) -> bool:
            if chosen == "unsubscribed" and (lead := find_lead(session, email=address)) is not None:
                assert lead.id is not None
                locked = lock_lead(session, lead.id)
                assert locked is not None
                return suppressions.unsubscribe(session, locked, now, how="by-hand")
            return suppressions.add(session, address, chosen, now)

        for address in written:
            news = database.write_now(add, address)
            screen().print(f"[green]✓[/] {escape(address)} is suppressed" + ("" if news else ", as it was before"))


def lift_suppressions(addresses: Sequence[str]) -> bool:
    """Takes addresses off the list; whether all were on it, and may be written to now as far as the list goes."""
    written = [normalise_email(address) for address in addresses]

    def lift(session: Session, address: str) -> tuple[Became, str]:
        lead = find_lead(session, email=address)
        found = suppressions.find(session, address)
        if lead is not None and lead.opted_out_at is not None and (found is None or found.reason == "unsubscribed"):
            return "opted-out", ""
        gone = suppressions.lift(session, address)
        return ("not-there", "") if gone is None else ("lifted", gone.reason)

    well = True
    console = screen()
    with _opened() as (_, database):
        for address in written:
            became, reason = database.write_now(lift, address)
            well &= became == "lifted"
            match became:
                case "lifted":
                    warning = "; its mail service reported a complaint: do not write to it again" if reason == "complaint" else ""
                    console.print(f"[green]✓[/] {escape(address)} is off the list (it was {reason}{warning})")
                case "not-there":
                    console.print(f"[yellow]●[/] {escape(address)} is not on the list")
                case "opted-out":
                    cure = f"if it asked for mail again, record that: mebae consent {address} --how … --wording … --resubscribe"
                    console.print(
                        f"[red]✗[/] {escape(address)}: the lead itself unsubscribed, so this stays; {escape(cure)}", soft_wrap=True
                    )
    return well


def import_suppressions(file: Path, reason: str, sheet: str | None) -> None:
    """Puts a file's addresses on the list."""
    chosen = _reason(reason)
    with _opened() as (settings, database):
        taken = lists.import_list(database, file, wiring.world_now(settings), reason=chosen, sheet=sheet)
    console = screen()
    console.print(f"[green]✓[/] {taken.rows} addresses read, {taken.new} new on the list or with a stronger reason")
    if taken.left_out:
        lines = ", ".join(map(str, taken.left_out[:20])) + (" …" if len(taken.left_out) > 20 else "")
        console.print(f"[yellow]●[/] {len(taken.left_out)} rows hold no address: line {lines}")


def export_suppressions(file: Path) -> None:
    """Writes the list."""
    with _opened() as (_, database):
        count = lists.export_list(database, file)
    screen().print(f"[green]✓[/] {escape(str(file))}: {count} entries. It holds addresses: keep it no longer than you need it.")


def _reason(written: str) -> Reason:
    if written not in REASONS:
        raise BadInput(f"'{written}' is no reason{did_you_mean(written, REASONS)}")
    return cast(Reason, written)


@contextmanager
def _opened() -> Iterator[tuple[Settings, Database]]:
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        yield settings, database
    finally:
        database.close()
