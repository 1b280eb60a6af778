"""`mebae mail preview` and `mebae mail test`: a mail as its reader gets it, before any lead does."""

from __future__ import annotations

import asyncio
import secrets
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.markup import escape
from sqlmodel import Session, col, select

from mebae import wiring
from mebae.beside import Beside, load_beside
from mebae.broadcasts_loading import find_broadcasts, load_broadcast
from mebae.errors import BadInput, NotFound, Problem, ScenarioError
from mebae.loading import find_scenarios, load_scenario
from mebae.mail.message import build
from mebae.mail.outgoing import MailSettings
from mebae.mail.personas import PERSONAS, persona_named, readers_of
from mebae.mail.plain import as_page
from mebae.mail.recommending import recommended
from mebae.mail.rendering import company_values, lead_values
from mebae.mail.shared import choose_language
from mebae.mail.transport import RelayRefused, RelayUnavailable
from mebae.mail.wiring import mail_settings, transport_of
from mebae.private import private_folder, write_private
from mebae.programs.check import registered
from mebae.programs.house import find_root
from mebae.programs.screen import screen
from mebae.proofing import Proof, Sheet, notes_of, proof, sample_values, shared_of, sheets, values_around, with_sender
from mebae.reports.finding import called, lead_of
from mebae.settings import Settings
from mebae.store.tables import Company, Event, JourneyRow, Lead
from mebae.timing import first_zone

Loading = TypeVar("Loading")


class Wanted(NamedTuple):
    """Which mail, as whom."""

    mail: str
    lead: str | None = None
    persona: str | None = None
    language: str | None = None


def preview(wanted: Wanted, *, folder: Path | None, show: bool) -> None:
    """Writes the mail as HTML and text, says what there is to say of it, and opens it."""
    settings = wiring.load_settings()
    desk = _Desk(settings)
    done = desk.proof(wanted)
    if done.rendered is None:
        raise BadInput(f"{done.sheet.where}: {done.reader}, would not get this mail: {done.broken}")
    folder = folder or settings.state / wiring.PREVIEWS
    private_folder(folder)
    stem = "-".join((done.sheet.scope, done.sheet.mail)) + (f".{done.sheet.language}" if done.sheet.language else "")
    page, text = folder / f"{stem}.html", folder / f"{stem}.txt"
    rendered = done.rendered
    html = rendered.html or as_page(rendered.text, rendered.subject, done.sheet.language)
    write_private(page, html)
    write_private(text, rendered.text)
    console = screen()
    _say(done, desk.mail, console)
    console.print(f"[green]✓[/] {escape(str(page))}\n[green]✓[/] {escape(str(text))}")
    if show and console.is_terminal:
        webbrowser.open(page.resolve().as_uri())


def send_test(wanted: Wanted, to: str) -> None:
    """Sends the mail to one address, past gate and ledger: nobody is counted, and its links are not tracked."""
    settings = wiring.load_settings()
    desk = _Desk(settings)
    done = desk.proof(wanted)
    if done.rendered is None:
        raise BadInput(f"{done.sheet.where}: {done.reader}, would not get this mail: {done.broken}")
    sender = done.rendered.sender
    rendered = replace(done.rendered, subject=f"[TEST] {done.rendered.subject}")
    domain = settings.sender_email.rpartition("@")[2]
    message = build(
        rendered,
        to=to,
        to_name=None,
        sender=sender,
        message_id=f"<test.{secrets.token_hex(10)}@{domain}>",
        date=wiring.world_now(settings),
        headers=(("X-Mebae-Test", done.sheet.name),),
    )
    asyncio.run(_hand_over(settings, to, message))
    console = screen()
    _say(done, desk.mail, console)
    console.print(f"[green]✓[/] sent to {escape(to)} by {settings.smtp_host}:{settings.smtp_port}, for {escape(done.reader)}")


async def _hand_over(settings: Settings, to: str, message: bytes) -> None:
    transport = transport_of(settings)

    async def nothing_more() -> None:
        """There is no ledger to ask."""

    try:
        await transport.deliver(settings.sender_email, to, message, before_data=nothing_more)
    except RelayRefused as no:
        raise BadInput(f"the mail server refused it: {no.raw}") from None
    except RelayUnavailable as away:
        raise BadInput(f"the mail server did not take it: {away.raw}; `mebae doctor` says more") from None
    finally:
        await transport.aclose()


class _Desk:
    """Everything that a mail is made of, read from the files as they are now."""

    def __init__(self, settings: Settings) -> None:
        root = find_root()
        self.settings = settings
        self.home = root / settings.scenarios
        self.beside: Beside = load_beside(self.home)
        self.mail: MailSettings = with_sender(mail_settings(settings, self.beside.mailing))
        self.shared = shared_of(self.home)
        self.problems: list[Problem] = []
        """What is wrong with others is no reason not to show a mail that is well."""
        loaded = [
            one for folder in find_scenarios(self.home) if (one := self._well(load_scenario, folder, activities=registered(root)))
        ]
        taken = [one.graph.scenario for one in loaded]
        broadcasts = [
            run
            for folder in find_broadcasts(self.home)
            if (run := self._well(load_broadcast, folder, segments=self.beside.segments, taken=taken))
        ]
        self.sheets = list(sheets(loaded, broadcasts))

    def _well(self, load: Callable[..., Loading], folder: Path, **more: Any) -> Loading | None:
        try:
            return load(folder, known=self.beside.known, **more)
        except ScenarioError as error:
            self.problems.extend(error.problems)
            return None

    def proof(self, wanted: Wanted) -> Proof:
        """The mail as the wanted reader gets it."""
        variants = self._variants(wanted.mail)
        if wanted.lead is None:
            return self._for_persona(wanted, variants)
        database = wiring.open_now(self.settings)
        try:
            return database.read_now(self._for_lead, wanted, variants)
        finally:
            database.close()

    def _variants(self, mail: str) -> dict[str, Sheet]:
        """A mail's sheets by language."""
        scope, slash, name = mail.rpartition("/")
        found = [sheet for sheet in self.sheets if sheet.mail == name and (not slash or sheet.scope == scope.replace("_", "-"))]
        names = sorted({sheet.name for sheet in found})
        if len(names) > 1:
            raise BadInput(f"there are several mails called '{mail}': write {' or '.join(names)}")
        if not found and any(name in problem.file for problem in self.problems):
            raise ScenarioError(self.problems)
        if not found:
            raise NotFound("mail", mail, {sheet.name for sheet in self.sheets} | {sheet.mail for sheet in self.sheets})
        return {sheet.language: sheet for sheet in found}

    def _chosen(self, wanted: Wanted, variants: Mapping[str, Sheet], speaks: str) -> Sheet:
        if wanted.language is not None and wanted.language not in variants:
            raise NotFound("language of this mail", wanted.language, variants)
        return variants[wanted.language or choose_language(list(variants), speaks, self.mail.rules.languages)]

    def _for_persona(self, wanted: Wanted, variants: Mapping[str, Sheet]) -> Proof:
        if wanted.persona is not None:
            reader = persona_named(wanted.persona)
            sheet = self._chosen(wanted, variants, reader.language)
        else:
            sheet = self._chosen(wanted, variants, self.settings.language)
            reader = readers_of(sheet.language or self.settings.language)[0]
        return proof(sheet, reader.words, sample_values(sheet, reader, self.mail, self.beside), self.shared)

    def _for_lead(self, session: Session, wanted: Wanted, variants: Mapping[str, Sheet]) -> Proof:
        assert wanted.lead is not None
        lead = lead_of(session, wanted.lead)
        sheet = self._chosen(wanted, variants, lead.language)
        company = session.get(Company, lead.company_id) if lead.company_id is not None else None
        tongue, now = sheet.language or lead.language, wiring.world_now(self.settings)
        zone = first_zone(lead.time_zone, self.mail.zone)
        values: dict[str, Any] = {
            "lead": lead_values(lead),
            "company": company_values(company, lead),
            "entry": self._entry(session, lead, sheet),
            **values_around(sheet.scope, sheet.title, self.mail, tongue, zone),
            "now": now,
        }
        values |= {"piece": None} | recommended(session, lead, self.mail.rules.catalogue, sheet.source, sheet.language, now)
        if values["piece"] is None and (pieces := self.mail.rules.catalogue):
            values["piece"] = pieces[0].values(tongue)
        return proof(sheet, called(lead), values, self.shared)

    def _entry(self, session: Session, lead: Lead, sheet: Sheet) -> Mapping[str, Any]:
        """What started the lead's latest journey in this scenario, else what might."""
        query = (
            select(Event)
            .join(JourneyRow, col(JourneyRow.entry_event_id) == col(Event.id))
            .where(JourneyRow.lead_id == lead.id, JourneyRow.scenario == sheet.scope)
            .order_by(col(JourneyRow.entry).desc())
        )
        event = session.exec(query).first()
        return event.properties if event is not None else sample_values(sheet, PERSONAS[0], self.mail, self.beside)["entry"]


def _say(done: Proof, settings: MailSettings, console: Console) -> None:
    """The mail's head, and what there is to say of it."""
    rendered = done.rendered
    assert rendered is not None
    console.print(f"[bold]{escape(rendered.subject)}[/]")
    console.print(f"from {escape(rendered.sender.name)} <{escape(rendered.sender.email)}>, for {escape(done.reader)}")
    if rendered.preheader:
        console.print(f"[bright_black]{escape(rendered.preheader)}[/]")
    console.print(
        f"[bright_black]{len(rendered.html.encode()) / 1024:.1f} KB HTML, {len(rendered.text.encode()) / 1024:.1f} KB text, "
        f"{len(rendered.links)} links, topic {escape(rendered.topic or 'none')}[/]"
    )
    for note in notes_of(done, settings.sender):
        mark = "[bold red]✗[/]" if note.serious else "[yellow]●[/]"
        console.print(f"{mark} {escape(note.words)}", soft_wrap=True)
