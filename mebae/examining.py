"""What an installation stands on, looked at one by one: settings, database, Temporal, clock, mail server, DNS.

Each look answers with findings and raises nothing: what is broken is what it is there to say.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import dns.exception
import dns.resolver
from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException
from sqlalchemy import text
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.service import RPCError

from mebae import contracts
from mebae.checkup import Finding, bad, good, unsure
from mebae.errors import BadInput, DatabaseUnavailable
from mebae.mail.domain_records import look_at_domain
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.migrate import is_current
from mebae.temporal import TemporalAway, connect
from mebae.wiring import PLACEHOLDERS

PATIENCE = 5.0
"""Seconds for each look."""
MOST_APART = timedelta(seconds=2)
"""How far two clocks may be apart: an event that a client says to be of the future is put right to so much (FAULTS R9)."""
SOON = timedelta(days=21)
"""A certificate that ends earlier is told."""


def examine_settings(settings: Settings) -> list[Finding]:
    """What the environment says, as far as it matters for lawful mail."""
    area, found = "settings", []
    domain = settings.sender_email.rpartition("@")[2]
    if domain == "example" or domain.endswith(".example"):
        cure = "set MEBAE_SENDER_NAME and MEBAE_SENDER_EMAIL"
        found.append(bad(area, "sender", f"mails are from {settings.sender_email}, which does not exist", cure))
    else:
        found.append(good(area, "sender", f"{settings.sender_name} <{settings.sender_email}>"))
    for name, value, what in (
        ("MEBAE_SENDER_POSTAL", settings.sender_postal, "postal address"),
        ("MEBAE_SENDER_CONTACT", settings.sender_contact, "contact for complaints"),
    ):
        if value and value not in PLACEHOLDERS.values():
            found.append(good(area, what, value))
        else:
            cure = f"set {name}: 特定電子メール法 and CAN-SPAM ask for it, and no marketing mail goes out without"
            words = "only a placeholder, for the embedded inbox" if value else "missing in every footer"
            found.append(bad(area, what, words, cure))
    if settings.tokens() is None:
        cure = "set MEBAE_TOKEN_KEYS, such as 20261127:a-long-random-secret (make up makes one)"
        found.append(bad(area, "links", "there is no key to sign links with, so nobody could unsubscribe", cure))
    url = urlsplit(settings.public_url)
    if not url.hostname:
        cure = "set MEBAE_PUBLIC_URL to where the world reaches server.py"
        found.append(bad(area, "public address", "mails cannot hold links to us", cure))
    elif url.scheme != "https":
        cure = "put server.py behind TLS: one-click unsubscribe (RFC 8058), which Gmail asks for, is https only"
        found.append(unsure(area, "public address", settings.public_url, cure))
    else:
        found.append(good(area, "public address", settings.public_url))
    return found


def examine_database(settings: Settings) -> list[Finding]:
    """Whether it answers, has today's tables, and tells the same time."""
    area = "database"
    where = urlsplit(settings.url())
    place = where.path.removeprefix("/") if where.scheme.startswith("sqlite") else f"{where.hostname}{where.path}"
    cure = "start it, or set DATABASE_URL"
    try:
        if not is_current(settings.url()):
            return [unsure(area, "tables", f"{place} does not have today's tables yet", "start worker.py: it makes them")]
        database = Database(settings.url(), threads=1)
    except (DatabaseUnavailable, OSError) as error:
        return [bad(area, "database", f"{place} does not answer ({type(error).__name__})", cure)]
    try:
        if database.sqlite:
            return [good(area, "database", f"SQLite, {place}")]
        before = datetime.now(UTC)
        there: datetime = database.read_now(lambda session: session.execute(text("SELECT clock_timestamp()")).scalar_one())
        return [good(area, "database", f"PostgreSQL, {place}"), _clock("the database's", there, before, datetime.now(UTC))]
    except DatabaseUnavailable:
        return [bad(area, "database", f"{place} does not answer", cure)]
    finally:
        database.close()


async def examine_temporal() -> list[Finding]:
    """Whether Temporal lets us in, and knows our search attributes."""
    area = "temporal"
    try:
        client = await connect(patience=timedelta(seconds=PATIENCE))
        known = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    except (TemporalAway, BadInput) as error:
        return [bad(area, "Temporal", str(error), "make up starts one; for another see docs/how-to/run-for-real.md")]
    except RPCError as error:
        words = f"search attributes cannot be listed ({error.status.name.lower()})"
        return [unsure(area, "Temporal", words, "see docs/how-to/run-for-real.md for how to create them")]
    missing = sorted(set(contracts.SEARCH_ATTRIBUTES) - set(known.custom_attributes))
    if missing:
        wanted = " ".join(f"--name {name} --type {contracts.SEARCH_ATTRIBUTES[name]}" for name in missing)
        cure = f"start worker.py once, or run: temporal operator search-attribute create {wanted}"
        return [bad(area, "Temporal", f"search attributes are missing: {', '.join(missing)}", cure)]
    return [good(area, "Temporal", f"namespace '{client.namespace}' at {client.service_client.config.target_host}")]


async def examine_mail_server(settings: Settings) -> list[Finding]:
    """Connects, greets, encrypts and logs in, as a mail would; sends nothing."""
    if settings.mail_api_url:
        return await _examine_mail_api(settings)
    area, where = "mail server", f"{settings.smtp_host}:{settings.smtp_port}"
    password = settings.smtp_password
    client = SMTP(
        hostname=settings.smtp_host, port=settings.smtp_port, timeout=PATIENCE, use_tls=settings.smtp_tls == "tls",
        start_tls=False, local_hostname="localhost",
    )  # fmt: skip
    found: list[Finding] = []
    try:
        await client.connect()
        await client.ehlo()
        if settings.smtp_tls == "starttls":
            await client.starttls()
            await client.ehlo()
        found.append(good(area, "SMTP", f"{where} answers"))
        found += _encryption(client, settings, area)
        if settings.smtp_username and password is not None:
            await client.login(settings.smtp_username, password.get_secret_value())
            found.append(good(area, "log-in", f"as {settings.smtp_username}"))
        await client.mail(settings.sender_email)
        await client.rset()
        found.append(good(area, "sender", f"{settings.sender_email} is taken"))
    except SMTPAuthenticationError as error:
        cure = "set MEBAE_SMTP_USERNAME and MEBAE_SMTP_PASSWORD to what the mail server knows"
        found.append(bad(area, "log-in", f"refused ({error.code})", cure))
    except ssl.SSLError as error:
        words = f"{where}: no encrypted connection ({error.reason or 'TLS failed'})"
        found.append(bad(area, "TLS", words, "the certificate must be valid for MEBAE_SMTP_HOST; see MEBAE_SMTP_TLS"))
    except (SMTPException, OSError, TimeoutError) as error:
        cure = "start it, or set MEBAE_SMTP_HOST, MEBAE_SMTP_PORT and MEBAE_SMTP_TLS; mails wait meanwhile and none is lost"
        found.append(bad(area, "SMTP", f"{where}: {_short(error)}", cure))
    finally:
        client.close()
    return found


async def _examine_mail_api(settings: Settings) -> list[Finding]:
    """Connects to the HTTP API that takes mail. Whether it takes our key only a mail can show."""
    area, (host, port) = "mail API", settings.mail_server()
    encrypted = settings.mail_api_url.startswith("https:")
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context() if encrypted else None)
        writer.close()
    except ssl.SSLError as error:
        words = f"{host}:{port}: no encrypted connection ({error.reason or 'TLS failed'})"
        return [bad(area, "TLS", words, "the certificate must be valid for the host of MEBAE_MAIL_API_URL")]
    except (OSError, TimeoutError) as error:
        words = f"{host}:{port}: {_short(error)}"
        return [bad(area, "HTTP", words, "check MEBAE_MAIL_API_URL; mails wait meanwhile and none is lost")]
    found = [good(area, "HTTP", f"{host}:{port} answers")]
    if not encrypted and host not in ("127.0.0.1", "localhost", "::1"):
        found.append(bad(area, "TLS", "mails and key travel in the clear", "write https: in MEBAE_MAIL_API_URL"))
    if settings.mail_api_key is None:
        found.append(unsure(area, "key", "none is set", "set MEBAE_MAIL_API_KEY to what the provider gave you"))
    return found


def _encryption(client: SMTP, settings: Settings, area: str) -> list[Finding]:
    if settings.smtp_tls == "none":
        if settings.smtp_host in ("127.0.0.1", "localhost", "::1"):
            return [good(area, "TLS", "not needed on this machine")]
        return [bad(area, "TLS", "mails and log-in travel in the clear", "set MEBAE_SMTP_TLS=starttls (port 587) or tls (port 465)")]
    certificate = client.get_transport_info("peercert") or {}
    ends = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if ends:
        until = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
        if until - datetime.now(UTC) < SOON:
            return [unsure(area, "TLS", f"the certificate ends on {until:%Y-%m-%d}", "have it renewed")]
        return [good(area, "TLS", f"{settings.smtp_tls}, certificate valid until {until:%Y-%m-%d}")]
    return [good(area, "TLS", settings.smtp_tls)]


def examine_domain(settings: Settings) -> list[Finding]:
    """SPF, DKIM, DMARC and MX of the domains that mails name."""
    sender = settings.sender_email.rpartition("@")[2]
    if (sender == "example" or sender.endswith(".example")) and not settings.dns_server:
        return []
    key = settings.dkim_key
    return look_at_domain(
        Resolver(settings.dns_server), sender=sender, bounces=settings.bounce_domain, dkim=settings.dkim_domain,
        selector=settings.dkim_selector, key=key.get_secret_value() if key is not None else None,
    )  # fmt: skip


class Resolver:
    """Asks the system's resolver, or the one at `server` (`host:port`)."""

    def __init__(self, server: str = "") -> None:
        self._resolver = dns.resolver.Resolver(configure=not server)
        if server:
            host, _, port = server.rpartition(":") if server.rpartition(":")[2].isdigit() else (server, "", "53")
            self._resolver.nameservers, self._resolver.port = [host], int(port or 53)
        self._resolver.lifetime = self._resolver.timeout = PATIENCE

    def __call__(self, name: str, kind: str) -> Sequence[str] | None:
        """See `domain_records.Lookup`."""
        try:
            answer = self._resolver.resolve(name, kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError):
            return None
        if kind == "TXT":  # long ones come in pieces
            return [b"".join(record.strings).decode(errors="replace") for record in answer]
        return [str(record) for record in answer]


async def examine_public(settings: Settings) -> list[Finding]:
    """Whether links in mails reach our server, and whether its clock is ours."""
    url = urlsplit(settings.public_url)
    if not url.hostname:
        return []
    secure = url.scheme == "https"
    cure = "start server.py, and see that the proxy before it passes /t/, /u/ and /p/ on"
    before = datetime.now(UTC)
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(
                url.hostname, url.port or (443 if secure else 80), ssl=ssl.create_default_context() if secure else None
            )
            writer.write(f"GET {url.path}/healthz HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
            head = (await reader.read(4096)).decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
            writer.close()
    except (OSError, TimeoutError, ssl.SSLError) as error:
        return [bad("settings", "links", f"{settings.public_url} does not answer: {_short(error)}", cure)]
    if " 200" not in head[0]:
        return [bad("settings", "links", f"{settings.public_url}/healthz answers {head[0][9:40]}", cure)]
    found = [good("settings", "links", f"{settings.public_url} reaches server.py")]
    date = next((line[6:] for line in head if line.lower().startswith("date: ")), None)
    if date is not None:
        found.append(_clock("the server's", parsedate_to_datetime(date), before - timedelta(seconds=1), datetime.now(UTC)))
    return found


def _clock(whose: str, there: datetime, before: datetime, after: datetime) -> Finding:
    """Another clock, read between two looks at ours."""
    apart = max(there - after, before - there, timedelta(0))
    if apart > MOST_APART:
        words = f"{whose} clock and this machine's are {apart.total_seconds():.0f} s apart"
        return bad("clock", "clock", words, "let both machines keep time by NTP")
    return good("clock", "clock", f"{whose} and this machine's agree")


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:.0f} s"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:120]
