"""`mebae consent EMAIL`: on what ground a lead may be written to, by hand."""

from __future__ import annotations

import uuid
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.markup import escape
from rich.text import Text
from sqlmodel import Session

from mebae import wiring
from mebae.errors import BadInput, did_you_mean
from mebae.import_rows import read_date
from mebae.mailing import BASES
from mebae.programs.lead import grid, quiet
from mebae.programs.screen import local, screen
from mebae.reports.finding import called, lead_of
from mebae.store import suppressions
from mebae.store.consents import BY_ITSELF, basis_of, consents_of, withdraw
from mebae.store.database import lock_lead
from mebae.store.ingest import ConsentGiven, EventLog
from mebae.store.tables import Consent, Lead


def consent(
    who: str,
    *,
    basis: str | None,
    how: str | None,
    wording: str,
    source: str,
    date: str | None,
    resubscribe: bool,
    withdrawn: bool,
) -> None:
    """Records or takes back, and shows what is recorded. `BadInput` with the cure, `NotFound` with the nearest lead."""
    if basis is not None and basis not in BASES:
        raise BadInput(f"--basis '{basis}' is no ground{did_you_mean(basis, BASES)}")
    if withdrawn and (how or wording or resubscribe):
        raise BadInput("--withdraw takes back: leave --how, --wording and --resubscribe out")
    if not withdrawn and how is None and (basis or wording or source or date or resubscribe):
        raise BadInput("--how is needed: how it was given, such as telephone, seminar or paper")
    if how == BY_ITSELF and not resubscribe:
        raise BadInput("--how form is what a form of yours records by itself; say how it came to your knowledge")
    settings = wiring.load_settings()
    now, zone = wiring.world_now(settings), settings.time_zone
    given_at = _date(date, ZoneInfo(zone), now) if date is not None else now
    database = wiring.open_now(settings)
    try:

        def work(session: Session) -> tuple[Lead, str | None, list[Consent], str | None]:
            found = lead_of(session, who)
            assert found.id is not None
            lead = lock_lead(session, found.id)
            assert lead is not None
            said = None
            if withdrawn:
                said = _withdraw(session, lead, basis, now)
            elif how is not None:
                given = ConsentGiven(how=how, source=source, wording=wording, basis=basis or basis_of(how), given_at=given_at)
                said = _record(session, lead, given, now, resubscribe=resubscribe)
            return lead, said, consents_of(session, lead.id or 0), _hurdle(session, lead)

        lead, said, records, hurdle = database.write_now(work)
    finally:
        database.close()
    console = screen()
    if said is not None:
        console.print(f"[green]✓[/] {escape(said)}", soft_wrap=True)
    console.print(Text(called(lead), style="bold"))
    rows = [
        (quiet(local(one.given_at, zone)), Text(f"{one.basis} {BASES.get(one.basis, '')}"), Text(one.how), Text(one.source),
         quiet(one.wording or "no wording recorded"),
         Text(f"withdrawn {local(one.withdrawn_at, zone)}" if one.withdrawn_at is not None else "", style="yellow"))
        for one in records
    ]  # fmt: skip
    console.print(grid(rows) if rows else quiet("nothing is recorded: it gets no marketing mail"))
    if hurdle is not None:
        console.print(f"[yellow]●[/] {escape(hurdle)}", soft_wrap=True)


def _record(session: Session, lead: Lead, given: ConsentGiven, now: datetime, *, resubscribe: bool) -> str:
    log = EventLog(now)
    cause = f"command:{uuid.uuid4().hex}"
    log.consent(lead, given, given.given_at or now, cause, lifts=resubscribe)
    log.write(session)
    return f"recorded: {given.basis}, by {given.how}"


def _withdraw(session: Session, lead: Lead, basis: str | None, now: datetime) -> str:
    assert lead.id is not None
    count = withdraw(session, lead.id, now, basis=basis)
    if basis is None:
        suppressions.unsubscribe(session, lead, now, how="by-hand")
        return f"withdrawn: {count} records, and the lead gets no marketing mail from now on"
    return f"withdrawn: {count} records of {basis}"


def _hurdle(session: Session, lead: Lead) -> str | None:
    """What keeps mail from the lead, whatever is recorded."""
    found = suppressions.find(session, lead.email) if lead.email else None
    if found is not None and found.reason != "unsubscribed":
        return f"its address is on the suppression list ({found.reason}): it gets no mail; see mebae suppressions lift"
    if lead.opted_out_at is not None or found is not None:
        return "it unsubscribed: it gets no marketing mail until it agrees again itself, by a form, or with --resubscribe here"
    return None


def _date(written: str, zone: ZoneInfo, now: datetime) -> datetime:
    try:
        given_at = read_date(written, zone)
    except BadInput as error:
        raise BadInput(f"--date '{written}': {error}") from None
    if given_at > now:
        raise BadInput(f"--date '{written}': is in the future")
    return given_at
