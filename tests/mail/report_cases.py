"""The corpus of mails that come back (`tests/mail/reports/*.eml`, all invented), and what each of them says.

The files hold marks (`%BOUNCE%`, `%TO%`…) for what differs from delivery to delivery; `load` fills them in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mebae.mail.bounce_reasons import Reason
from mebae.mail.prose_reports import Away
from mebae.mail.reports import Kind
from mebae.mail.return_addresses import bounce_address, unsubscribe_address
from mebae.tokens import Tokens

FOLDER = Path(__file__).parent / "reports"
TOKENS = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
NOW = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
DOMAIN = "return.mebae.example"
TO = "sato@aoba.example"
MESSAGE_ID = "<12.1.5f1a09b7c2d3e4f50617@mebae.example>"


class Said(NamedTuple):
    """What a mail of the corpus says."""

    kind: Kind
    status: str | None = None
    reason: Reason | None = None
    away: Away | None = None
    proof: bool = True
    """Whether something in it shows that its sender had our mail: a signed address, or the mail's Message-ID."""


CASES: dict[str, Said] = {
    "advertising-to-our-address": Said(Kind.UNKNOWN),
    "arf-abuse": Said(Kind.COMPLAINT),
    "arf-forged": Said(Kind.COMPLAINT, proof=False),
    "arf-not-spam": Said(Kind.UNKNOWN),
    "arf-only-list-unsubscribe-left": Said(Kind.COMPLAINT),
    "arf-opt-out": Said(Kind.UNSUBSCRIBE),
    "arf-redacted": Said(Kind.COMPLAINT),
    "blocked-by-list": Said(Kind.BOUNCE_SOFT, "5.7.1", Reason.BLOCKED),
    "bounce-of-somebody-elses-mail": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN, proof=False),
    "challenge": Said(Kind.CHALLENGE),
    "dmarc-unauthenticated": Said(Kind.BOUNCE_SOFT, "5.7.26", Reason.AUTH_FAILED),
    "domino-not-listed": Said(Kind.BOUNCE_HARD, None, Reason.MAILBOX_UNKNOWN),
    "exchange-2003-not-recognized": Said(Kind.BOUNCE_HARD, None, Reason.MAILBOX_UNKNOWN),
    "exchange-japanese": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "exchange-online-access-denied": Said(Kind.BOUNCE_HARD, "5.4.1", Reason.MAILBOX_UNKNOWN),
    "exchange-online-recipient-not-found": Said(Kind.BOUNCE_HARD, "5.1.10", Reason.MAILBOX_UNKNOWN),
    "exim-delayed": Said(Kind.DELAY, None, Reason.UNKNOWN),
    "exim-retry-timeout": Said(Kind.BOUNCE_SOFT, "4.2.2", Reason.MAILBOX_FULL),
    "exim-unrouteable": Said(Kind.BOUNCE_HARD, None, Reason.MAILBOX_UNKNOWN),
    "ezphone-disabled": Said(Kind.BOUNCE_HARD, "5.0.0", Reason.MAILBOX_DISABLED),
    "ezphone-mailbox-full": Said(Kind.BOUNCE_SOFT, None, Reason.MAILBOX_FULL),
    "ezphone-over-quota": Said(Kind.BOUNCE_SOFT, None, Reason.MAILBOX_FULL),
    "forged-names-only-the-address": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN, proof=False),
    "form-confirmation": Said(Kind.AUTO_REPLY, away="other"),
    "fuzai-japanese": Said(Kind.AUTO_REPLY, away="away"),
    "google-does-not-exist": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "groups-run-together": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "html-only-bounce": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "idou-japanese": Said(Kind.AUTO_REPLY, away="moved"),
    "isp-mailbox-full-shift-jis": Said(Kind.BOUNCE_SOFT, None, Reason.MAILBOX_FULL),
    "jmrp-complaint": Said(Kind.COMPLAINT),
    "keitai-japanese-without-charset": Said(Kind.BOUNCE_HARD, None, Reason.MAILBOX_UNKNOWN),
    "keitai-refused-by-person": Said(Kind.BOUNCE_HARD, None, Reason.FILTERED),
    "keitai-unknown-user": Said(Kind.BOUNCE_HARD, "5.2.0", Reason.MAILBOX_UNKNOWN),
    "no-longer-with-the-company": Said(Kind.AUTO_REPLY, away="left"),
    "only-the-message-id": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "out-of-office-exchange": Said(Kind.AUTO_REPLY, away="away"),
    "policy-without-words": Said(Kind.BOUNCE_HARD, "5.7.1", Reason.POLICY),
    "postfix-delayed": Said(Kind.DELAY, "4.2.0", Reason.GREYLISTED),
    "postfix-delivered": Said(Kind.DELIVERED, "2.0.0"),
    "postfix-expired": Said(Kind.BOUNCE_SOFT, "4.4.1", Reason.UNREACHABLE),
    "postfix-mailbox-full": Said(Kind.BOUNCE_SOFT, "5.2.2", Reason.MAILBOX_FULL),
    "postfix-mailbox-unknown": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "prose-without-any-code": Said(Kind.BOUNCE_SOFT, None, Reason.UNKNOWN),
    "qmail-no-mailbox": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "qmail-queue-too-long": Said(Kind.BOUNCE_SOFT, "4.4.1", Reason.EXPIRED),
    "read-receipt": Said(Kind.AUTO_REPLY, away="other"),
    "relay-denied": Said(Kind.BOUNCE_SOFT, "5.7.1", Reason.RELAY_DENIED),
    "reply-of-a-person": Said(Kind.UNKNOWN),
    "sendmail-host-unknown": Said(Kind.BOUNCE_HARD, "5.1.2", Reason.DOMAIN_UNKNOWN),
    "ses-bounce": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "several-recipients": Said(Kind.BOUNCE_SOFT, "4.2.2", Reason.MAILBOX_FULL),
    "spam-content": Said(Kind.BOUNCE_SOFT, "5.7.1", Reason.SPAM),
    "status-in-base64": Said(Kind.BOUNCE_HARD, "5.1.1", Reason.MAILBOX_UNKNOWN),
    "status-says-only-its-class": Said(Kind.BOUNCE_HARD, "5.2.1", Reason.MAILBOX_DISABLED),
    "taishoku-japanese": Said(Kind.AUTO_REPLY, away="left"),
    "too-large": Said(Kind.BOUNCE_SOFT, "5.3.4", Reason.TOO_LARGE),
    "unsubscribe-by-a-program": Said(Kind.UNSUBSCRIBE),
    "unsubscribe-by-mail": Said(Kind.UNSUBSCRIBE),
    "unsubscribe-in-the-subject": Said(Kind.UNSUBSCRIBE),
    "vacation-rfc3834": Said(Kind.AUTO_REPLY, away="away"),
}
"""Every mail of the corpus, as it is about the lead of the delivery."""


def load(name: str, *, delivery: int = 7, to: str = TO, message_id: str = MESSAGE_ID, crlf: bool = False) -> bytes:
    """A mail of the corpus, about this delivery to this address."""
    unsubscribe = unsubscribe_address(TOKENS, delivery, DOMAIN, now=NOW)
    marks = {
        "%BOUNCE%": bounce_address(TOKENS, delivery, DOMAIN, now=NOW),
        "%UNSUBSCRIBE%": unsubscribe,
        "%UNSUBSCRIBE_UPPER%": unsubscribe.upper(),
        "%UNSUBSCRIBE_LOCAL%": unsubscribe.partition("@")[0],
        "%UNSUBSCRIBE_ENCODED%": unsubscribe.replace("+", "%2B"),
        "%TO%": to,
        "%TO_XTEXT%": to.replace("o", "+6F"),
        "%MESSAGE_ID%": message_id,
    }
    raw = (FOLDER / f"{name}.eml").read_bytes()
    for mark, value in marks.items():
        raw = raw.replace(mark.encode(), value.encode())
    return raw.replace(b"\n", b"\r\n") if crlf else raw
