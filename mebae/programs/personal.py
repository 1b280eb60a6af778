"""`mebae lead erase` and `mebae lead export`: what the law lets a person ask for."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from mebae import wiring
from mebae.erasing import erase_lead, everything_of, newest_request, requests_waiting
from mebae.errors import BadInput
from mebae.mail.inbox import Inbox
from mebae.private import write_private
from mebae.programs.screen import screen
from mebae.reports.finding import called, lead_of
from mebae.showing import FORMAT, shown
from mebae.store.database import Database
from mebae.store.tables import Lead

PATIENCE = 30.0
"""Seconds to wait until the worker has applied what came in before."""


def export(who: str, file: Path | None) -> None:
    """Writes everything that is kept of a lead as JSON, to a file or to the screen."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    try:
        lead = database.read_now(lead_of, who)
        found = database.read_now(everything_of, _number(lead))
    finally:
        database.close()
    told = {"format": FORMAT, "exported_at": wiring.world_now(settings).isoformat(), **shown(found)}
    text = json.dumps(told, ensure_ascii=False, indent=2)
    if file is None:
        print(text)
        return
    write_private(file, text + "\n")
    rows = sum(len(rows) for rows in told.values() if isinstance(rows, list))
    screen().print(
        f"[green]✓[/] {escape(str(file))}: the lead, and {rows} things that are kept of it. "
        "This is personal data: hand it over by a safe way, and keep it no longer than you need it."
    )


def erase(who: str, *, yes: bool) -> None:
    """Erases a lead, after asking."""
    settings = wiring.load_settings()
    database = wiring.open_now(settings)
    console = screen()
    try:
        lead = database.read_now(lead_of, who)
        name, address = called(lead), lead.email
        if lead.erased_at is None and not yes:
            console.print(
                f"This wipes all that is known of [bold]{escape(name)}[/] and ends its journeys. A hash of its address stays, "
                "so that nobody writes to it again. It cannot be undone: `mebae lead export` writes down what there is."
            )
            if not typer.confirm("Erase it?", default=False):
                raise BadInput("nothing was erased")
        _all_applied(database, console)
        done = database.write_now(erase_lead, _number(lead), wiring.world_now(settings), wiring.setting_of(settings))
    finally:
        database.close()
    shutil.rmtree(settings.state / wiring.PREVIEWS, ignore_errors=True)  # one of them may have been for this lead
    mails = Inbox(settings.state / "inbox").forget(address) if address is not None else 0
    if done.was_erased:
        console.print(f"[green]✓[/] lead {done.lead} had been erased before; nothing was left to do")
        return
    ended = f"; ended {len(done.journeys)} of its journeys" if done.journeys else ""
    inbox = f"; {mails} mails to it are gone from the embedded inbox" if mails else ""
    console.print(f"[green]✓[/] lead {done.lead} is erased{ended}{inbox}")
    console.print("Not in our hands: backups, exported files, and what mail servers and your CRM keep.")


def _all_applied(database: Database, console: Console) -> None:
    """Waits for what came in before: applied after the erasure, it would make the lead known again."""
    until = time.monotonic() + PATIENCE
    told, newest = False, database.read_now(newest_request)
    while waiting := database.read_now(requests_waiting, newest):
        if time.monotonic() > until:
            raise BadInput(
                f"{waiting} requests came in that the worker has not applied yet, and they may speak of this lead. "
                "Nothing was erased: start the worker (python worker.py, or make up), and run this again"
            )
        if not told:
            console.print(f"Waiting until the worker has applied {waiting} requests that came in before …")
            told = True
        time.sleep(0.2)


def _number(lead: Lead) -> int:
    assert lead.id is not None
    return lead.id
