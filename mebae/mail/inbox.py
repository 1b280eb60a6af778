"""The development inbox: an SMTP server that keeps every mail in a folder and sends none, and pages to look at them.

The server and the pages share nothing but the folder, so they may run in two processes and survive restarts.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import getaddresses, parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from aiosmtpd.smtp import Envelope, Session

from mebae.errors import NotFound
from mebae.mail.smtp_server import SmtpServer
from mebae.private import private_folder, write_private

CAP = 5_000
_PRUNE_EVERY = 100
_HEADERS = 16_384
_SIZE_LIMIT = 32 * 1024 * 1024
_ID = re.compile(r"[0-9]{20}")

Kind = Literal["scenario", "broadcast", "handover", "call", "digest", "test", ""]
"""What a mail came of; empty where its headers do not say."""
_TELLING = re.compile(r"(handover|call|digest)-([^-]*)")


@dataclass(frozen=True)
class InboxEntry:
    """A mail in the list."""

    id: str
    date: str
    """The Date header: the world's time."""
    sender: str
    to: str
    subject: str
    kind: Kind
    of: str
    """The scenario, the broadcast, the hand-over or call that sales is told of, or the mail that was tried out."""
    step: str
    """The scenario's step, or the broadcast's mail."""

    @cached_property
    def at(self) -> float:
        """The date, in seconds since 1970; where it is none, when the mail came, which is its id."""
        try:
            return parsedate_to_datetime(self.date).timestamp()
        except (ValueError, TypeError, OverflowError):
            return int(self.id) / 1e9

    def local(self, zone: str) -> str:
        """When, as a person in this zone reads it; the header as it is where it is no date."""
        try:
            return parsedate_to_datetime(self.date).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")
        except (ValueError, TypeError, OverflowError):
            return self.date


@dataclass(frozen=True)
class InboxMail:
    """A mail opened."""

    entry: InboxEntry
    headers: tuple[tuple[str, str], ...]
    html: str
    text: str
    source: bytes


class Inbox:
    """The mails in a folder, newest first. Only the newest `cap` are kept."""

    def __init__(self, folder: Path, *, cap: int = CAP) -> None:
        self.folder, self.cap = folder, cap
        self._seen: dict[str, InboxEntry] = {}
        self._lock = threading.Lock()
        self._last = 0
        self._stored = 0

    def store(self, sender: str, recipients: list[str], content: bytes) -> str:
        """Keeps a mail; it is there whole or not at all. Returns its id."""
        with self._lock:
            if not self._last:
                private_folder(self.folder)
                self._last = max((int(name) for name in self._ids()), default=0)
            # Ids are times that only grow, also when the machine's clock does not.
            self._last = max(self._last + 1, time.time_ns())
            name = f"{self._last:020d}"
            self._stored += 1
            prune = self._stored % _PRUNE_EVERY == 0
        envelope = f"Return-Path: <{_line(sender)}>\r\n" + "".join(
            f"Delivered-To: {_line(to)}\r\n" for to in recipients
        )
        draft = self.folder / f".{name}.part"
        write_private(draft, envelope.encode("utf-8", "replace") + content)
        draft.replace(self.folder / f"{name}.eml")
        if prune:
            self._prune()
        return name

    def count(self, *, to: str = "") -> int:
        """How many `page` has in all."""
        return len(self._found(to)) if to.strip() else min(len(self._ids()), self.cap)

    def page(self, *, to: str = "", offset: int = 0, limit: int | None = None) -> list[InboxEntry]:
        """Newest first, by the time that is shown; `to` finds part of a recipient's address or name."""
        return self._found(to)[offset : None if limit is None else offset + limit]

    def _found(self, to: str) -> list[InboxEntry]:
        wanted = to.strip().casefold()
        ids = sorted(self._ids(), reverse=True)[: self.cap]
        found = [entry for entry in map(self._entry, ids) if entry and (not wanted or wanted in entry.to.casefold())]
        # Mails of one minute of a fast world come in any order. Where dates are the same, as they came.
        return sorted(found, key=lambda entry: entry.at, reverse=True)

    def get(self, id: str) -> InboxMail:
        """One mail. Raises `NotFound`."""
        if not _ID.fullmatch(id):
            raise NotFound("mail", id[:40])
        try:
            source = (self.folder / f"{id}.eml").read_bytes()
        except OSError:
            raise NotFound("mail", id) from None
        message = message_from_bytes(source, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return InboxMail(
            entry=_summary(id, message),
            headers=tuple((name, _header(message, name, nth)) for name, nth in _numbered(message)),
            html=_part(message, "html"), text=_part(message, "plain"), source=source,
        )  # fmt: skip

    def forget(self, address: str) -> int:
        """Deletes the mails to an address; how many there were."""
        wanted, gone = address.strip().casefold(), 0
        for id in self._ids():
            entry = self._entry(id)
            if entry is not None and wanted in entry.to.casefold():
                (self.folder / f"{id}.eml").unlink(missing_ok=True)
                gone += 1
        return gone

    def _ids(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [path.stem for path in self.folder.iterdir() if path.suffix == ".eml" and _ID.fullmatch(path.stem)]
        return []

    def _entry(self, id: str) -> InboxEntry | None:
        entry = self._seen.get(id)
        if entry is None:
            try:
                with (self.folder / f"{id}.eml").open("rb") as file:
                    start = file.read(_HEADERS)
            except OSError:  # pruned meanwhile
                return None
            entry = _summary(id, BytesHeaderParser(policy=policy.default).parsebytes(start))
            if len(self._seen) > 2 * self.cap:
                self._seen.clear()
            self._seen[id] = entry
        return entry

    def _prune(self) -> None:
        for id in sorted(self._ids(), reverse=True)[self.cap :]:
            (self.folder / f"{id}.eml").unlink(missing_ok=True)


class InboxServer(SmtpServer):
    """The SMTP side, in a thread of its own.

    Args:
        port: 0 takes a free one; `port` then tells which.
    """

    def __init__(self, inbox: Inbox, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.inbox = inbox
        super().__init__(
            _Keeper(inbox), what="inbox", cure="choose another port", host=host, port=port,
            hostname="inbox.invalid", largest=_SIZE_LIMIT,
        )  # fmt: skip


class _Keeper:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        try:
            self._inbox.store(envelope.mail_from or "", [str(to) for to in envelope.rcpt_tos], content)
        except OSError:
            return "452 The inbox's folder cannot be written"
        return "250 Kept in the inbox"

    async def handle_exception(self, _error: Exception) -> str:
        return "451 The inbox failed"


def _line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "", text)


def _summary(id: str, message: Any) -> InboxEntry:
    to = ", ".join(
        f"{name} <{address}>" if name else address for name, address in getaddresses([_header(message, "To")])
    )
    kind, of, step = _came_of(message)
    return InboxEntry(
        id=id, date=_header(message, "Date"), sender=_header(message, "From"),
        to=to or _header(message, "Delivered-To"), subject=_header(message, "Subject"), kind=kind, of=of, step=step,
    )  # fmt: skip


def _came_of(message: Any) -> tuple[Kind, str, str]:
    if scenario := _header(message, "X-Mebae-Scenario"):
        return "scenario", scenario, _header(message, "X-Mebae-Step")
    if broadcast := _header(message, "X-Mebae-Broadcast"):
        return "broadcast", broadcast, _header(message, "X-Mebae-Mail")
    if told := _TELLING.match(_header(message, "X-Mebae-Telling")):
        kind: Kind = "handover" if told[1] == "handover" else "call" if told[1] == "call" else "digest"
        return kind, told[2] if kind != "digest" else "", ""
    if tried := _header(message, "X-Mebae-Test"):
        return "test", tried, ""
    return "", "", ""


def _numbered(message: EmailMessage) -> Iterator[tuple[str, int]]:
    counts: dict[str, int] = {}
    for name in message.keys():  # noqa: SIM118  (a message is no dict)
        counts[name.lower()] = counts.get(name.lower(), -1) + 1
        yield name, counts[name.lower()]


def _header(message: Any, name: str, nth: int = 0) -> str:
    try:
        values = message.get_all(name) or []
        return str(values[nth]) if nth < len(values) else ""
    except Exception:  # the standard parser trips over some malformed headers; a page must not
        return "(unreadable)"


def _part(message: EmailMessage, subtype: str) -> str:
    for part in message.walk():
        if part.get_content_type() == f"text/{subtype}" and part.get_content_disposition() != "attachment":
            payload = part.get_payload(decode=True)
            raw = payload if isinstance(payload, bytes) else b""
            try:
                return raw.decode(part.get_content_charset() or "utf-8", "replace")
            except LookupError:
                return raw.decode("utf-8", "replace")
    return ""
