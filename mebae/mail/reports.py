"""From the bytes of a mail that came back to what it says: whom it is about, what became of our mail, and why.

    DSN (RFC 3464)          bounce-hard, bounce-soft, delay or delivered, for each recipient
    feedback (RFC 5965)     complaint; also the form of Microsoft's JMRP, which has no report in it
    prose                   the same kinds, and auto-reply (RFC 3834) and challenge: `mebae.mail.prose_reports`
    to our unsubscribe address   unsubscribe, whatever it says
    all else                unknown

Pure: no clock, no database, no keys. What it finds are claims; `mebae.mail.incoming` asks for their proof before anybody is
suppressed. It never raises and looks at the first mebibyte only (`mebae.mail.mime`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mebae.mail import prose_reports
from mebae.mail.bounce_reasons import BY_REASON, Reason, reason_of
from mebae.mail.mime import Headers, Mail, Part, read_headers, read_mail
from mebae.mail.prose_reports import Away
from mebae.mail.return_addresses import UNSUBSCRIBE_LIKE, find_all


class Kind(StrEnum):
    """What came back."""

    BOUNCE_HARD = "bounce-hard"
    BOUNCE_SOFT = "bounce-soft"
    DELAY = "delay"
    DELIVERED = "delivered"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    AUTO_REPLY = "auto-reply"
    CHALLENGE = "challenge"
    UNKNOWN = "unknown"


MEANINGS = {
    Kind.BOUNCE_HARD: "the mail cannot be delivered, and the next one could not either",
    Kind.BOUNCE_SOFT: "the mail was not delivered; another one may be",
    Kind.DELAY: "the mail waits at a server on the way, which goes on trying",
    Kind.DELIVERED: "a server says that it delivered the mail or passed it on",
    Kind.COMPLAINT: "the person called the mail spam",
    Kind.UNSUBSCRIBE: "the person wants no more, and said so by mail (RFC 2369)",
    Kind.AUTO_REPLY: "a program answered for the person: out of office, left the company (退職), another post (異動)",
    Kind.CHALLENGE: "a program asks whether the sender is a person",
    Kind.UNKNOWN: "none of these",
}
_MILDEST_FIRST = (Kind.DELIVERED, Kind.DELAY, Kind.BOUNCE_SOFT, Kind.BOUNCE_HARD)


@dataclass(frozen=True)
class Fate:
    """What a report says of one recipient."""

    kind: Kind
    recipients: tuple[str, ...] = ()
    """Original and final address, as far as they are named."""
    status: str | None = None
    reason: Reason | None = None
    text: str = ""
    """What the server said. Personal data."""


@dataclass(frozen=True)
class Report:
    """What a mail that came back says. Everything but `kind`, `status`, `reason` and `away` is personal data."""

    kind: Kind
    cause: str
    """The same for the same mail, however often and by whatever way it comes in."""
    status: str | None = None
    """The enhanced status code (RFC 3463); of a server that gives an SMTP code alone `5.0.0` or `4.0.0`."""
    reason: Reason | None = None
    text: str = ""
    fates: tuple[Fate, ...] = ()
    """Of a DSN: one for each recipient."""
    away: Away | None = None
    """Of an automatic reply."""
    to: tuple[str, ...] = ()
    """The addresses that it came to, the envelope's first; of one in the subject the part before the @."""
    quoted: tuple[str, ...] = ()
    """Return addresses of ours that stand in the mail that it brings back."""
    message_ids: tuple[str, ...] = ()
    """Message-IDs that may be ours, angle brackets included."""
    addresses: tuple[str, ...] = ()
    """Recipients that it names."""
    entry: int | None = None
    """Of the returned mail's `X-Mebae-Entry`: a hint, no proof."""

    def about(self, address: str | None) -> Report:
        """The same report, for one recipient of several. Of several that may be meant the mildest word counts."""
        if not self.fates:
            return self
        wanted = (address or "").lower()
        named = [fate for fate in self.fates if any(one.lower() == wanted for one in fate.recipients)]
        fate = min(named or self.fates, key=lambda one: _MILDEST_FIRST.index(one.kind))
        return replace(self, kind=fate.kind, status=fate.status, reason=fate.reason, text=fate.text)


_MOST = 20
"""Addresses and Message-IDs that are taken from one report."""
_RAW = 500
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_MESSAGE_ID = re.compile(r"<[^<>\s@]{1,200}@[^<>\s@]{1,255}>")
_MESSAGE_ID_LINE = re.compile(r"^[> ]{0,4}(?:original-)?message-id: *(<[^<>\s]{1,460}>)", re.IGNORECASE | re.MULTILINE)
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"]{1,80}@[A-Za-z0-9][A-Za-z0-9.-]{0,250}[A-Za-z0-9]")
_NUMBER = re.compile(r"[0-9]{1,18}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_CAME_TO = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "x-forwarded-to", "resent-to", "to", "cc")
_ON_THE_WAY = frozenset({"received", "return-path", "delivered-to", "x-original-to", "envelope-to", "x-envelope-to"})
_COMPLAINTS = frozenset({"abuse", "fraud", "other", "complaint", ""})
_RETURNED = (
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "message/global",
    "message/global-headers",
    "text/rfc822",
)
_JMRP = "x-hmxmroriginalrecipient"


def read_report(raw: bytes, *, to: Sequence[str] = (), cause: str | None = None) -> Report:
    """What a mail says that came back.

    Args:
        raw: the whole mail, as it came.
        to: the envelope's recipients, where they are known.
    """
    mail = read_mail(raw)
    returned = [part.inner for part in mail.of(*_RETURNED)][:5]
    head = prose_reports.head_of(mail)
    subject = mail.headers.get("subject")[:1000]
    came_to = _distinct((*to, *_addresses(mail.headers, *_CAME_TO), *find_all([subject])))
    base = Report(
        Kind.UNKNOWN,
        cause or cause_of(mail, raw),
        to=came_to,
        quoted=_distinct(find_all(_searched(mail, returned))),
        message_ids=_distinct(_message_ids(mail, returned)),
        addresses=_distinct(one for its in returned for one in _addresses(its, "to", _JMRP)),
        entry=next((int(found[0]) for its in returned if (found := _NUMBER.fullmatch(its.get("x-mebae-entry")))), None),
    )
    report = _read(mail, head, returned, base)
    if report.kind in (Kind.UNKNOWN, Kind.AUTO_REPLY, Kind.CHALLENGE) and any(map(UNSUBSCRIBE_LIKE.match, came_to)):
        return replace(report, kind=Kind.UNSUBSCRIBE, away=None)
    return report


def _read(mail: Mail, head: str, returned: Sequence[Headers], base: Report) -> Report:
    if feedback := next(mail.of("message/feedback-report"), None):
        return _feedback(feedback, base)
    fates = [
        fate
        for part in mail.of("message/delivery-status", "message/global-delivery-status")
        for fate in _fates(part, head)
    ]
    if fates:
        named = (one for fate in fates for one in fate.recipients)
        whole = replace(base, fates=tuple(fates[:_MOST]), addresses=_distinct((*named, *base.addresses)))
        return whole.about(None)
    if any(_JMRP in its for its in returned) or mail.headers.get("subject").strip().lower().startswith(
        "complaint about message from"
    ):
        return replace(base, kind=Kind.COMPLAINT)
    if next(mail.of("message/disposition-notification"), None):
        return replace(base, kind=Kind.AUTO_REPLY, away="other")
    if prose_reports.is_challenge(mail, head):
        return replace(base, kind=Kind.CHALLENGE)
    if prose := prose_reports.read_bounce(mail, head):
        said = (*_addresses(mail.headers, "x-failed-recipients"), *_ADDRESS.findall(head[:4000]))
        base = replace(base, addresses=_distinct((*said, *base.addresses)))
        if prose.outcome == "delayed":
            return replace(
                base,
                kind=Kind.DELAY,
                status=prose.status,
                reason=reason_of(prose.status, prose.text),
                text=prose.text[:_RAW],
            )
        kind, status, reason = _judged(prose.status, prose.text, permanent=prose.permanent)
        return replace(base, kind=kind, status=status, reason=reason, text=prose.text[:_RAW])
    if away := prose_reports.read_automatic(mail, head):
        return replace(base, kind=Kind.AUTO_REPLY, away=away)
    return base


# DSN (RFC 3464) ------------------------------------------------------------------------------------------------------


def _fates(part: Part, head: str) -> Iterator[Fate]:
    """One for each recipient of a delivery status. Some servers forget the empty line between its groups."""
    for block in re.split(r"\n[ \t]*\n", part.text.strip()):
        fields = read_headers(block.encode("utf-8", "replace"))
        if any(name in fields for name in ("final-recipient", "original-recipient", "action", "status")):
            fate = _fate(fields, head)
            if fate is not None:
                yield fate


def _fate(fields: Headers, head: str) -> Fate | None:
    action = fields.get("action").strip().lower().partition(" ")[0].strip(";,")
    recipients = _distinct(
        one for name in ("original-recipient", "final-recipient") for value in fields.all(name) for one in _typed(value)
    )
    said = " ".join(fields.all("diagnostic-code"))
    status = _better(_status(fields.get("status")), _status(said))
    raw = " ".join(filter(None, (fields.get("status"), said)))[:_RAW]
    if action in ("delivered", "relayed", "expanded"):
        return Fate(Kind.DELIVERED, recipients, status, None, raw)
    if action == "" and status is not None and status[0] == "2":
        return Fate(Kind.DELIVERED, recipients, status, None, raw)
    if action == "delayed":
        return Fate(Kind.DELAY, recipients, status, reason_of(status, said), raw)
    if action != "failed" and status is None:
        return None
    if status is None:
        status = prose_reports.status_in(said)
    kind, status, reason = _judged(status, said, permanent=False, more=head)
    return Fate(kind, recipients, status, reason, raw)


def _judged(status: str | None, said: str, *, permanent: bool, more: str = "") -> tuple[Kind, str | None, Reason]:
    """Hard or soft, the status, and why. `more` is asked only where the words beside the status say nothing."""
    reason = reason_of(status, said)
    if reason is Reason.UNKNOWN and more:
        reason = reason_of(status, more)
    about = BY_REASON[reason].about
    if status is None or status[0] not in "45":
        gone = about == "address" and (permanent or reason is not Reason.UNKNOWN)
        return (Kind.BOUNCE_HARD if gone else Kind.BOUNCE_SOFT), None, reason
    return (Kind.BOUNCE_HARD if status[0] == "5" and about == "address" else Kind.BOUNCE_SOFT), status, reason


def _status(written: str) -> str | None:
    found = _STATUS.search(written)
    return ".".join(found.groups()) if found else None


def _better(status: str | None, said: str | None) -> str | None:
    """The server's own code where the other one says its class only: `5.0.0` beside `550 5.1.1`."""
    if status is None or said is None:
        return status or said
    general = status.endswith(".0.0") or status in ("5.3.0", "4.3.0")
    return said if general and said[0] == status[0] else status


def _typed(value: str) -> Iterator[str]:
    """The address in `rfc822;name@domain`, with the signs that RFC 3461 encodes."""
    kind, semicolon, address = value.partition(";")
    address = address if semicolon else kind
    if semicolon and kind.strip().lower() not in (
        "rfc822",
        "utf-8",
        "unknown",
        "x-local-recipient",
        "local",
        "smtp",
        "",
    ):
        return
    address = _XTEXT.sub(lambda found: chr(int(found[1], 16)), address) if "+" in address else address
    found = _ADDRESS.search(address)
    if found is not None:
        yield found[0]


# Feedback (RFC 5965) -------------------------------------------------------------------------------------------------


def _feedback(part: Part, base: Report) -> Report:
    fields = read_headers(part.content.lstrip())
    type = fields.get("feedback-type").strip().lower()
    # Providers hide the recipient (RFC 6590): then only the returned mail says whom it is about.
    named = (*_addresses(fields, "original-rcpt-to", "removal-recipient", "redacted-address"), *base.addresses)
    base = replace(base, addresses=_distinct(named))
    if type in ("opt-out", "opt-out-list"):
        return replace(base, kind=Kind.UNSUBSCRIBE)
    return replace(base, kind=Kind.COMPLAINT) if type in _COMPLAINTS else base


# What stands where ---------------------------------------------------------------------------------------------------


def cause_of(mail: Mail, raw: bytes) -> str:
    """What makes a report the same one: its Message-ID; without one its content, but for what servers on the way write."""
    written = _MESSAGE_ID.search(mail.headers.get("message-id"))
    if written is not None:
        return "id:" + hashlib.sha256(written[0].encode()).hexdigest()[:40]
    digest = hashlib.sha256()
    for name, value in mail.headers.fields:
        if name not in _ON_THE_WAY:
            digest.update(f"{name}:{value}\n".encode("utf-8", "replace"))
    for part in mail.parts:
        digest.update(b"\0" + part.body.replace(b"\r\n", b"\n").strip())
    return "content:" + digest.hexdigest()[:40]


def _message_ids(mail: Mail, returned: Iterable[Headers]) -> Iterator[str]:
    """First those of the returned mail, then what this one answers to."""
    for its in returned:
        yield from _MESSAGE_ID.findall(its.get("message-id"))
    for text in _texts(mail):
        yield from _MESSAGE_ID_LINE.findall(text)
    for value in mail.headers.all("in-reply-to", "references", "original-message-id"):
        yield from _MESSAGE_ID.findall(value)


def _searched(mail: Mail, returned: Iterable[Headers]) -> Iterator[str]:
    """Where return addresses of ours may stand: in the returned mail's header, or in a text that quotes it."""
    for its in returned:
        for name, value in its.fields:
            if name in ("return-path", "list-unsubscribe", "x-original-mail-from", "errors-to", "sender"):
                yield value
    yield from _texts(mail)


def _texts(mail: Mail) -> Iterator[str]:
    for part in [*mail.of("text/plain", "message/delivery-status", "message/feedback-report")][:8]:
        yield part.text[:200_000]


def _addresses(headers: Headers, *names: str) -> Iterator[str]:
    for value in headers.all(*names):
        yield from _ADDRESS.findall(value[:4000])


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for value in values:
        found.setdefault(value.strip(), None)
        if len(found) >= _MOST:
            break
    return tuple(found)
