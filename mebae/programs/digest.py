"""`mebae digest`: the weekly mail to sales as it would be now, or sent now."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import Session

from mebae import digest, wiring
from mebae.errors import BadInput
from mebae.mail.digest import digest_mail
from mebae.mail.rendering import Rendered
from mebae.mail.wiring import mail_settings
from mebae.private import write_private
from mebae.programs.screen import screen
from mebae.store.sales import rules_of
from mebae.words import spoken

NO_RULE = 'no digest is published: write digest=digest(every="fri", at="09:00", when=lead.score >= 50) into scenarios/sales.py'


def show_digest(person: str | None, *, file: Path | None) -> None:
    """Prints it, or writes it as a page. `person`: as this person gets it; else everything."""
    settings = wiring.load_settings()
    mail, now = mail_settings(settings), wiring.world_now(settings)

    def look(session: Session) -> Rendered:
        whose = None if person is None else rules_of(session).person(person)
        language = spoken((whose.language if whose is not None else None) or mail.language)
        note = digest.gather(session, whose, mail, language, now)
        if note is None:
            raise BadInput(NO_RULE)
        return digest_mail(note)

    database = wiring.open_now(settings)
    try:
        rendered = database.read_now(look)
    finally:
        database.close()
    if file is not None:
        write_private(file, rendered.html)
        screen().print(f"[green]✓[/] {file}")
        return
    print(f"{rendered.subject}\n\n{rendered.text}")


def send_digest() -> None:
    """Writes it to everybody who gets it, for the worker to send; the same minute twice sends once."""
    settings = wiring.load_settings()
    now = wiring.world_now(settings)

    def write(session: Session) -> int:
        rules = rules_of(session)
        if rules.digest is None:
            raise BadInput(NO_RULE)
        return digest.write(session, rules, f"{now:%Y-%m-%dT%H:%MZ}", now)

    database = wiring.open_now(settings)
    try:
        written = database.write_now(write)
    finally:
        database.close()
    screen().print(f"[green]✓[/] {written} mail(s) to sales written; the worker sends them")
