"""The mail server of our return addresses: takes what comes back about our mails, and nothing else.

It takes mail for addresses that hold a good token (`mebae.mail.return_addresses`) and for a few fixed ones, and relays
none. A mail is answered 250 when what follows from it is committed. While the database is away it is answered 451, and the
sending server keeps it and comes again: nothing is lost. It sends nothing itself, so there is no backscatter; mail that is
no report is refused in the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from mebae.errors import DatabaseUnavailable
from mebae.mail import return_addresses
from mebae.mail.incoming import Incoming, Outcome
from mebae.mail.smtp_server import SmtpServer
from mebae.tokens import Tokens

log = structlog.get_logger()

FIXED = ("complaints", "bounces", "abuse", "postmaster")
"""Addresses without a token: `complaints` to register with feedback loops, `bounces` for relays that set a sender of their
own, the other two because a mail server has them (RFC 2142). What comes there must be a report."""
LARGEST = 10 * 1024 * 1024
LINES = 30
"""Connections at once, so that the memory they take stays bounded."""
PATIENCE = 60.0
AT_ONCE = 4
"""Mails that are read and written at once; the others wait their turn."""
RECIPIENTS = 20

_TAKEN = "250 2.0.0 Taken"
_AWAY = "451 4.3.0 The database does not answer; come again later"
_FAILED = "451 4.3.0 Something failed here; come again later"
_NO_REPORT = "550 5.7.1 Only reports about our mails are taken here"
_NO_ADDRESS = "550 5.1.1 There is no such address"
_NO_RELAY = "550 5.7.1 We do not relay"
_TOO_MANY = "452 4.5.3 Too many recipients"


class ReturnServer(SmtpServer):
    """Listens for what comes back.

    Args:
        domain: of the return addresses (`MEBAE_BOUNCE_DOMAIN`).
        now: the world's time.
        port: 0 takes a free one; `port` then tells which.
    """

    def __init__(
        self,
        incoming: Incoming,
        tokens: Tokens,
        domain: str,
        now: Callable[[], datetime],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="reports")
        super().__init__(
            _Desk(incoming, tokens, domain, now, self._threads), what="return addresses", cure="set MEBAE_BOUNCE_PORT",
            host=host, port=port, hostname=domain, largest=LARGEST, lines=LINES, patience=PATIENCE,
        )  # fmt: skip

    def stop(self) -> None:
        super().stop()
        self._threads.shutdown(wait=True)


class _Desk:
    """What the server says at each step."""

    def __init__(
        self, incoming: Incoming, tokens: Tokens, domain: str, now: Callable[[], datetime], threads: ThreadPoolExecutor
    ) -> None:
        self._incoming, self._tokens, self._domain, self._now, self._threads = incoming, tokens, domain, now, threads

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if not return_addresses.is_at(address, self._domain):
            return _NO_RELAY
        if not _is_fixed(address) and return_addresses.read(self._tokens, address, now=self._now()) is None:
            return _NO_ADDRESS
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return _TOO_MANY
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Go on"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        raw = envelope.original_content or b""
        addresses = [str(address) for address in envelope.rcpt_tos]
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._take, raw, addresses)
        except DatabaseUnavailable:
            return _AWAY
        except Exception as error:
            log.error("reports.failed", kind=type(error).__name__)
            return _FAILED

    def _take(self, raw: bytes, addresses: list[str]) -> str:
        """One mail, for each of its recipients. If one of them fails, all come again, and those that went are known."""
        outcomes = {
            self._incoming.take(raw, to=[] if fixed else [address], strangers=not fixed).outcome
            for address in addresses
            for fixed in [_is_fixed(address)]
        }
        return _NO_REPORT if outcomes == {Outcome.REFUSED} else _TAKEN

    async def handle_exception(self, error: Exception) -> str:
        log.error("reports.session_failed", kind=type(error).__name__)
        return _FAILED


def _is_fixed(address: str) -> bool:
    """Also with something after a `+`, to tell feedback loops apart."""
    return address.rpartition("@")[0].strip().strip('"').lower().partition("+")[0] in FIXED
