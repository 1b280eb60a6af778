"""From a delivery to the bytes of a mail: what to read under the lock (`Letter`), and what to do with it outside.

A mail that is sent is the newest published text of its id; the delivery row records which (DESIGN §4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from mebae.content import Piece
from mebae.errors import BadInput
from mebae.journey import Postponed
from mebae.mail import legal
from mebae.mail.message import build
from mebae.mail.outgoing import MailSettings
from mebae.mail.publishing import mail_sources, shared_texts
from mebae.mail.recommending import recommended
from mebae.mail.rendering import (
    BrokenMail,
    Rendered,
    Shared,
    Tracking,
    choose_language,
    company_values,
    lead_values,
    parse_mail,
    render,
)
from mebae.mail.return_addresses import bounce_address
from mebae.mail.sales import SalesNote, sales_notification
from mebae.mail.sales_note import note_on
from mebae.mail.shared import with_blocks_shown
from mebae.mail.standard_headers import automatic, check_aligned
from mebae.mail.tracking import MailLinks, links_of
from mebae.mailing import LANGUAGES
from mebae.resting import Place
from mebae.store.leads import normalise_email
from mebae.store.tables import Company, Delivery, Lead
from mebae.timing import first_zone


@dataclass(frozen=True)
class Letter:
    """All that a mail is made of, read in the claim's transaction. Plain values: it may be composed in another process."""

    to: str
    to_name: str | None
    delivery: int
    message_id: str
    date: datetime
    headers: tuple[tuple[str, str], ...]
    content: MailContent | SalesNote


@dataclass(frozen=True)
class MailContent:
    """A published text and what it is filled with."""

    source: str
    where: str
    shared: Shared
    values: Mapping[str, Any]
    """But for the sender, and the addresses of this delivery, which lead to us."""


@dataclass(frozen=True)
class Composed:
    """A message ready for the wire."""

    envelope_from: str
    to: str
    message: bytes
    forms: tuple[str, ...]
    links: Mapping[int, str] = field(default_factory=dict)
    """What must stand in the table of links before the message is out."""
    own: frozenset[int] = frozenset()
    """Of these, the ones that hold values of the lead (`MailLinks.own`)."""


ADDRESS_CHANGED = "address-changed"
AGAIN_AFTER = timedelta(seconds=1)
"""When a mail that was made for an address that the lead has no more is claimed, and made, anew."""


def has_moved(to: str, email: str | None) -> bool:
    """Whether the lead has another address now than the one that the mail was made for. Without any, the gate says so.

    >>> has_moved("sato@aoba.example", "Sato@aoba.example"), has_moved("sato@aoba.example", "mori@aoba.example")
    (False, True)
    """
    return bool(email) and to != email and _spelt(to) != _spelt(email or "")


def once_more(now: datetime) -> Postponed:
    """What becomes of a mail whose lead has moved (`has_moved`): it is made anew."""
    return Postponed(now + AGAIN_AFTER, ADDRESS_CHANGED)


def _spelt(address: str) -> str:
    try:
        return normalise_email(address)
    except BadInput:
        return address.strip().lower()


@dataclass(frozen=True)
class Texts:
    """The published texts of one mail, and what it is laid out by. What is asked for each lead is worked out once a language."""

    where: str
    sources: Mapping[str, tuple[str, str]]
    """Language → (hash, source)."""
    shared: Shared
    languages: Sequence[str] = LANGUAGES
    """What a lead gets whose own language has no text."""
    _chosen: dict[str, tuple[str, str, str]] = field(default_factory=dict, repr=False)
    _topics: dict[str, str] = field(default_factory=dict, repr=False)
    _shown: dict[str, str] = field(default_factory=dict, repr=False)

    def chosen(self, lead: Lead) -> tuple[str, str, str]:
        """The variant for a lead: its language, hash and source."""
        if lead.language not in self._chosen:
            language = choose_language(list(self.sources), lead.language, self.languages)
            self._chosen[lead.language] = language, *self.sources[language]
        return self._chosen[lead.language]

    def topic(self, lead: Lead) -> str:
        """Of the variant for a lead; "" where it has none, or cannot be read (then it is not sent)."""
        _, hash, source = self.chosen(lead)
        if hash not in self._topics:
            try:
                self._topics[hash] = parse_mail(source, self.where).topic
            except BrokenMail:
                self._topics[hash] = ""
        return self._topics[hash]

    def shown(self, lead: Lead) -> str:
        """The source of the variant for a lead, with the blocks that it shows."""
        if lead.language not in self._shown:
            language, _, source = self.chosen(lead)
            blocks = self.shared.blocks_for(language or lead.language, self.languages)
            self._shown[lead.language] = with_blocks_shown(source, blocks)
        return self._shown[lead.language]


def texts_of(session: Session, scope: str, mail: str, languages: Sequence[str] = LANGUAGES) -> Texts:
    """Raises `BrokenMail` where no text was ever published (`mail-missing`)."""
    sources = mail_sources(session, scope, mail)
    if not sources:
        raise BrokenMail(f"{scope}: mail '{mail}' was never published", "mail-missing")
    return Texts(f"{scope}/{mail}", sources, shared_texts(session), languages)


def letter_for_lead(
    session: Session, place: Place, delivery: Delivery, settings: MailSettings, *, now: datetime
) -> Letter:
    """A scenario's mail in the lead's language. Raises `BrokenMail` where no text was ever published."""
    texts = texts_of(session, place.graph.scenario, delivery.mail, settings.rules.languages)
    language, delivery.text_hash, _ = texts.chosen(place.lead)
    delivery.language = language
    assert delivery.id is not None
    company = session.get(Company, place.lead.company_id) if place.lead.company_id is not None else None
    more = catalogue_values(session, place.lead, texts, settings.rules.catalogue, now, about=delivery.piece)
    return marketing_letter(
        texts, place.lead, company, delivery.id, delivery.message_id, settings, entry=place.entry, more=more,
        scope=(place.graph.scenario, place.graph.title), headers=_headers(place, delivery, settings), now=now,
    )  # fmt: skip


def catalogue_values(
    session: Session, lead: Lead, texts: Texts, pieces: Sequence[Piece], now: datetime, *, about: str | None = None
) -> dict[str, Any]:
    """What a mail says of the content catalogue, if it does. `about`: the piece that was chosen for it."""
    language, _, _ = texts.chosen(lead)
    return recommended(session, lead, pieces, texts.shown(lead), language, now, about=about)


def marketing_letter(
    texts: Texts,
    lead: Lead,
    company: Company | None,
    delivery: int,
    message_id: str,
    settings: MailSettings,
    *,
    entry: Mapping[str, Any],
    scope: tuple[str, str],
    headers: tuple[tuple[str, str], ...],
    now: datetime,
    more: Mapping[str, Any] | None = None,
) -> Letter:
    """A mail to a lead.

    Args:
        entry: the properties of the event that started its journey.
        scope: id and title of the scenario or broadcast that the mail is of.
        headers: further ones.
        more: further values: of the catalogue's pieces (`recommended`).
    """
    language, _, source = texts.chosen(lead)
    values = {
        "lead": lead_values(lead),
        "company": company_values(company, lead),
        "entry": dict(entry),
        "scenario": {"id": scope[0], "title": scope[1]},
        "language": language or lead.language,
        "time_zone": first_zone(lead.time_zone, settings.zone),
        "now": now,
        **(more or {}),
    }
    where = f"{texts.where}.{language}.md" if language else f"{texts.where}.md"
    content = MailContent(source, where, texts.shared, values)
    return Letter(lead.email or "", lead.name, delivery, message_id, now, headers, content)


def topic_of(session: Session, place: Place, mail: str, settings: MailSettings) -> str:
    """The topic of a scenario's mail in the lead's language; "" if it has none, or cannot be read (then it is not sent)."""
    sources = mail_sources(session, place.graph.scenario, mail)
    if not sources:
        return ""
    try:
        language = choose_language(list(sources), place.lead.language, settings.rules.languages)
        return parse_mail(sources[language][1], mail).topic
    except BrokenMail:
        return ""


def letter_for_sales(
    session: Session,
    place: Place,
    delivery: Delivery,
    settings: MailSettings,
    *,
    now: datetime,
) -> Letter:
    """The notice to sales: who, why, what the lead did lately and what it was sent."""
    step, language = place.graph.step(delivery.step), settings.language
    note = note_on(
        session, place.lead, settings, message=getattr(step, "message", ""), scenario=place.graph.title or place.graph.scenario,
        language=language, now=now,
    )  # fmt: skip
    delivery.language = language
    assert delivery.id is not None
    headers = _headers(place, delivery, settings)
    return Letter(settings.sales_email, None, delivery.id, delivery.message_id, now, headers, note)


def compose(letter: Letter, settings: MailSettings) -> Composed:
    """Renders and builds; raises `BrokenMail`. No I/O."""
    links = None
    if isinstance(letter.content, SalesNote):
        rendered = sales_notification(letter.content)
    else:
        links = links_of(settings, letter.delivery, letter.date, letter.content.values, letter.content.source)
        tracking = Tracking(links.link, links.pixel, links.trap) if links is not None else None
        rendered = rendered_for(letter.content, settings, links, tracking)
        if not settings.rules.is_transactional(rendered.topic):
            legal.check(rendered, settings.sender, links.unsubscribe if links is not None else "")
    check_aligned(rendered.sender.email, settings.sender.email)
    message = build(
        rendered,
        to=letter.to,
        to_name=letter.to_name,
        sender=rendered.sender,
        message_id=letter.message_id,
        date=letter.date,
        headers=letter.headers,
        list_unsubscribe=links.list_unsubscribe if links is not None else None,
    )
    if settings.signer is not None:
        message = settings.signer.sign(message)
    sender = _envelope_from(settings, letter.delivery, letter.date)
    if links is None:
        return Composed(sender, letter.to, message, rendered.forms)
    return Composed(sender, letter.to, message, rendered.forms, links.links, frozenset(links.own))


def rendered_for(
    content: MailContent, settings: MailSettings, links: MailLinks | None, tracking: Tracking | None, **changed: Any
) -> Rendered:
    """A text, filled and laid out. `links`: the addresses of its delivery; `changed`: values that are others here."""
    values = {
        **content.values,
        "sender": settings.sender,
        "unsubscribe_url": links.unsubscribe if links else None,
        "preferences_url": links.preferences if links else None,
        "view_url": links.view if links else None,
        **changed,
    }
    mail = parse_mail(content.source, content.where)
    blocks = content.shared.blocks_for(values["language"], settings.rules.languages)
    return render(mail, content.shared.layout_of(mail), values, blocks=blocks, tracking=tracking)


def _envelope_from(settings: MailSettings, delivery: int, now: datetime) -> str:
    """Where mail servers report what they cannot deliver: an address of this delivery alone (VERP), or the sender's."""
    if settings.tokens is None or not settings.bounce_domain:
        return settings.sender.email
    return bounce_address(settings.tokens, delivery, settings.bounce_domain, now=now)


def _headers(place: Place, delivery: Delivery, settings: MailSettings) -> tuple[tuple[str, str], ...]:
    """Those of mail that a program wrote; and for people who debug, which scenario, step and entry it is of. Nothing that says more
    of the lead."""
    return (
        *automatic(delivery.scope, delivery.mail, settings.sender.email, bulk=False),
        ("X-Mebae-Scenario", place.graph.scenario),
        ("X-Mebae-Step", delivery.step),
        ("X-Mebae-Entry", str(delivery.entry)),
    )
