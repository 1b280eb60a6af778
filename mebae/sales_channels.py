"""How sales is told: by mail, and by a Slack-compatible webhook.

A webhook's address comes from the environment, by the name that `sales.py` gives; it goes to configured hosts only, over https (http
to this machine), by `mebae.crm.outside`: no redirect, no private network unless it is said, nothing endless (SSRF, DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlmodel import Session

from mebae.crm.adapter import CrmAway, CrmRefused
from mebae.crm.outside import Outside
from mebae.digest import DIGEST, gather
from mebae.errors import MailInvalid, Permanent, Temporary
from mebae.mail.digest import digest_mail
from mebae.mail.message import build
from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import Rendered
from mebae.mail.sales import sales_notification
from mebae.mail.sales_telling import Brief, brief, slack_message
from mebae.mail.transport import Transport
from mebae.sales import Person, SalesRules
from mebae.store.database import Database
from mebae.store.sales import rules_of
from mebae.store.tables import Telling
from mebae.telling import Dropped, Message
from mebae.words import spoken


class WebhookUnavailable(Temporary):
    """The other side did not answer, or said not now."""

    code = "webhook-unavailable"

    def __init__(self, code: str | None = None, *, raw: str | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(code)
        self.raw, self.retry_after = raw, retry_after


class WebhookRefused(Permanent):
    """The other side will never take this."""

    code = "webhook-refused"

    def __init__(self, code: str | None = None, *, raw: str | None = None) -> None:
        super().__init__(code)
        self.raw = raw


class SalesMail:
    """Tells by mail. Twice the same at most after a crash in the middle, with the same Message-ID."""

    def __init__(self, database: Database, transport: Transport, settings: MailSettings) -> None:
        self._database, self._transport, self._settings = database, transport, settings

    async def tell(self, message: Message, now: datetime) -> str:
        person, email, rendered = await self._database.read(_written, message.id, self._settings, now)
        sender = self._settings.sender
        domain = sender.email.rpartition("@")[2]
        mail = build(
            rendered, to=email, to_name=person.name or None, sender=sender, message_id=f"<telling-{message.id}@{domain}>",
            date=now, headers=(("X-Mebae-Telling", message.key),),
        )  # fmt: skip
        try:
            receipt = await self._transport.deliver(sender.email, email, mail, before_data=_go)
        except MailInvalid as broken:
            raise WebhookRefused(broken.code) from None
        return receipt.text


class SlackWebhook:
    """Tells by webhook. `environ`: where the addresses are, by the names that the rules give."""

    def __init__(self, database: Database, settings: MailSettings, environ: Mapping[str, str]) -> None:
        self._database, self._settings, self._environ = database, settings, environ
        self._outside: dict[tuple[str, bool], Outside] = {}

    async def tell(self, message: Message, now: datetime) -> str:
        rules = await self._database.read(rules_of)
        found = await self._database.read(_brief, message.id, self._settings, now)
        if found is None:
            raise Dropped
        name = rules.slack if message.target == "team" else rules.somebody(message.target).slack
        if name is None:
            raise Dropped
        url = allowed(self._environ.get(name), rules)
        return await self._post(url, _is_private(url, rules), slack_message(found.note), {"Idempotency-Key": message.key})

    async def aclose(self) -> None:
        for outside in self._outside.values():
            await outside.aclose()

    async def _post(self, url: str, private: bool, body: object, headers: Mapping[str, str]) -> str:
        """One request with a JSON body. 2xx is heard; 408, 425, 429, 5xx and no answer are asked again; anything else never."""
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        try:
            if (base, private) not in self._outside:
                self._outside[base, private] = Outside(base, private=private)
            answer = await self._outside[base, private].ask("POST", url[len(base) :], body=body, headers=headers, told=True)
        except CrmAway as away:
            raise WebhookUnavailable(raw=away.raw) from None
        except CrmRefused:
            raise WebhookRefused("webhook-address") from None
        if answer.ok:
            return answer.raw
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise WebhookUnavailable(raw=answer.raw, retry_after=answer.retry_after)
        raise WebhookRefused(raw=answer.raw)


def allowed(url: str | None, rules: SalesRules) -> str:
    """The address, if it may be spoken to. Raises `WebhookUnavailable` where it is not set yet, `WebhookRefused` where it may not."""
    if not url:
        raise WebhookUnavailable("webhook-unset", retry_after=timedelta(minutes=15))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise WebhookRefused("webhook-address") from None
    named = f"{host}:{port}" if port is not None else host
    if named not in rules.webhook_hosts or parts.username is not None:
        raise WebhookRefused("webhook-host")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        raise WebhookRefused("webhook-insecure")
    return url


def _is_private(url: str, rules: SalesRules) -> bool:
    """Whether its host may be in a private network: where the rules say so, and this machine, if they name it."""
    return rules.webhooks_private or _is_here(urlsplit(url).hostname or "")


def _written(session: Session, telling: int, settings: MailSettings, now: datetime) -> tuple[Person, str, Rendered]:
    """To whom, and the mail. Raises `Dropped`."""
    row = session.get_one(Telling, telling)
    if row.what == DIGEST and row.status == "waiting":
        person = rules_of(session).somebody(row.target)
        note = gather(session, person, settings, spoken(person.language or settings.language), now)
        if note is None or not note.groups:
            raise Dropped
        return person, person.email or settings.sales_email, digest_mail(note)
    found = _brief(session, telling, settings, now)
    if found is None:
        raise Dropped
    return found.to, found.email, sales_notification(found.note)


def _brief(session: Session, telling: int, settings: MailSettings, now: datetime) -> Brief | None:
    row = session.get_one(Telling, telling)
    return brief(session, row, settings, now) if row.status == "waiting" else None


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _go() -> None:
    """Nothing stands between the recipient and the data: sales is always told."""
