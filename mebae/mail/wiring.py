"""From settings to the parts that send mail. For the composition roots."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mebae.errors import BadInput
from mebae.gate import Gate
from mebae.mail.bulk import BulkMailer
from mebae.mail.composing_beside import Beside
from mebae.mail.dkim import DkimSigner
from mebae.mail.http_transport import HttpTransport
from mebae.mail.legal import lacking
from mebae.mail.outgoing import MailSettings
from mebae.mail.pace import Pace
from mebae.mail.rendering import Sender
from mebae.mail.transport import SmtpTransport, Transport
from mebae.mailing import MailRules
from mebae.settings import Settings
from mebae.store.database import Database

if TYPE_CHECKING:
    from mebae.mail.return_server import ReturnServer


def transport_of(settings: Settings) -> Transport:
    """What hands mail over: an HTTP API if one is set, else the mail server."""
    if settings.mail_api_url:
        key = settings.mail_api_key
        return HttpTransport(
            settings.mail_api_url,
            key.get_secret_value() if key is not None else "",
            connections=settings.smtp_connections,
            timeout=settings.smtp_timeout,
            knows_keys=settings.mail_api_knows_keys,
        )
    password = settings.smtp_password
    return SmtpTransport(
        settings.smtp_host,
        settings.smtp_port,
        tls=settings.smtp_tls,
        username=settings.smtp_username,
        password=password.get_secret_value() if password is not None else None,
        connections=settings.smtp_connections,
        timeout=settings.smtp_timeout,
    )


def return_server_of(settings: Settings, database: Database) -> ReturnServer | None:
    """What takes in what comes back; None where no port is set. Raises `BadInput` where it could not tell what is ours."""
    from mebae.mail.incoming import Incoming, IncomingRules  # the worker needs no SMTP server
    from mebae.mail.return_server import ReturnServer

    if not settings.bounce_port:
        return None
    tokens = settings.tokens()
    if tokens is None or not settings.bounce_domain:
        lacking = "MEBAE_BOUNCE_DOMAIN" if tokens is not None else "MEBAE_TOKEN_KEYS"
        raise BadInput(
            f"MEBAE_BOUNCE_PORT is set and {lacking} is not: without it no return address is ours. Set it, or no port"
        )

    clock = settings.clock()

    def now() -> datetime:
        return clock.world(datetime.now(UTC))

    incoming = Incoming(database, IncomingRules(tokens, settings.soft_bounces), now)
    host = settings.bounce_host or settings.host
    return ReturnServer(incoming, tokens, settings.bounce_domain, now, host=host, port=settings.bounce_port)


def mail_settings(settings: Settings, rules: MailRules | None = None) -> MailSettings:
    """What all mails have in common. `rules`: those of `scenarios/mailing.py`."""
    return MailSettings(
        sender=Sender(
            settings.sender_name, settings.sender_email, postal=settings.sender_postal, contact=settings.sender_contact
        ),
        sales_email=settings.sales_email,
        language=settings.language,
        zone=settings.time_zone,
        policy=settings.unknown_mail,
        rules=rules or MailRules(),
        tokens=settings.tokens(),
        public_url=settings.public_url,
        bounce_domain=settings.bounce_domain,
        signer=signer_of(settings),
    )


def signer_of(settings: Settings) -> DkimSigner | None:
    """What signs mails here, if a key is set. Raises `BadInput`."""
    key, domain, selector = settings.dkim_key, settings.dkim_domain, settings.dkim_selector
    if key is None and not domain and not selector:
        return None
    if key is None or not domain or not selector:
        raise BadInput("mails are signed with all three of MEBAE_DKIM_DOMAIN, MEBAE_DKIM_SELECTOR and MEBAE_DKIM_KEY, or not at all")
    try:
        return DkimSigner.read(domain, selector, key.get_secret_value())
    except BadInput as bad:
        raise BadInput(f"MEBAE_DKIM_KEY cannot be used: {bad}") from None


def gate_of(settings: Settings, rules: MailRules | None = None) -> Gate:
    """The gate before all mail."""
    mail = mail_settings(settings, rules)
    return Gate(mail.rules, settings.time_zone, settings.calendar(), lacking(mail))


def composing_process(settings: Settings, rules: MailRules | None = None) -> Beside | None:
    """The process that composes the mails of broadcasts; None on a machine of one core, where it would only be in the way."""
    return Beside(mail_settings(settings, rules)) if (os.cpu_count() or 1) > 1 else None


def bulk_mailer(
    database: Database,
    transport: Transport,
    settings: Settings,
    rules: MailRules | None = None,
    pace: Pace | None = None,
    beside: Beside | None = None,
) -> BulkMailer:
    """What sends broadcasts. It leaves a connection in four to journeys, whose mail never waits behind a broadcast."""
    at_once = max(1, settings.smtp_connections * 3 // 4)
    mail, clock = mail_settings(settings, rules), settings.clock()
    return BulkMailer(
        database, transport, gate_of(settings, rules), mail, at_once=at_once, clock=clock, pace=pace, beside=beside
    )
