"""From a rendered mail to the bytes that go over the wire.

Written out by hand on purpose: the SMTP policy of `EmailMessage` encodes long `List-Unsubscribe` URLs by RFC 2047, which
breaks one-click unsubscribe, and the email package takes twenty times as long for the same bytes. Other parsers than the
one who wrote this read it in the tests.
"""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from struct import Struct

from mebae.mail.rendering import BrokenMail, Rendered, Sender

ADDRESS_INVALID = "address-invalid"
"""The code of an address that no mail can be sent to. The address itself stays in `detail`."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"')
_NAME = re.compile(r"[A-Za-z0-9-]+")
_URI = re.compile(r"(?:https?|mailto):[!#-;=?-Z\[\]_a-z~%]+", re.IGNORECASE)
_LINE = 998
"""RFC 5322 §2.1.1: octets in a line, without its end."""
_FOLDED = 76
"""RFC 2047 §2: characters in a line that holds encoded words."""
_TOO_LONG = re.compile(rf"[^\r\n]{{{_LINE + 1}}}")
_MANGLED = re.compile(r"^From ", re.MULTILINE)
"""What mailboxes in files write a `>` before, which breaks signatures."""
_OURS = frozenset({
    "from", "to", "cc", "bcc", "subject", "date", "message-id", "sender", "mime-version", "content-type",
    "content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post", "resent-bcc", "resent-to", "resent-cc",
})  # fmt: skip


class Wire(bytes):
    """A message that SMTP takes as it is: all lines end with CRLF, and none begins with a dot (RFC 5321 §4.5.2).

    Nothing looks for that again in each mail.
    """

    __slots__ = ()


def build(
    rendered: Rendered,
    *,
    to: str,
    to_name: str | None,
    sender: Sender,
    message_id: str,
    date: datetime,
    headers: Iterable[tuple[str, str]] = (),
    list_unsubscribe: str | Sequence[str] | None = None,
) -> bytes:
    """The whole message, lines ended by CRLF, 7-bit clean: multipart/alternative, or text/plain for a mail without HTML.

    Args:
        to: the recipient's address; `to_name` may be missing.
        message_id: from `message_id`, angle brackets included.
        date: aware; the world's time.
        headers: further ones, such as `X-Mebae-Step`. None of those that are made here, and no Bcc.
        list_unsubscribe: `https:` and `mailto:` URIs; an https one offers one-click unsubscribe (RFC 8058).

    Raises:
        BrokenMail: a line break in any field, a header that is ours, or (code `address-invalid`) an impossible address.
    """
    if date.tzinfo is None:
        raise ValueError("a time without a zone")
    fields = [
        ("From", _mailbox(sender.name, sender.email, "From")),
        ("To", _mailbox(to_name or "", to, "To")),
        ("Subject", _text("Subject", rendered.subject)),
        ("Date", _date(date)),
        ("Message-ID", _plain("Message-ID", message_id)),
    ]
    uris = [list_unsubscribe] if isinstance(list_unsubscribe, str) else list(list_unsubscribe or ())
    if uris:
        for uri in uris:
            if not _URI.fullmatch(uri) or len(uri) > _LINE - 4:
                raise BrokenMail(
                    "List-Unsubscribe takes https: and mailto: addresses, percent-encoded, of at most 994 characters"
                )
        # A break only between two URIs: a URL is never split.
        fields.append(("List-Unsubscribe", ",\r\n ".join(f"<{uri}>" for uri in uris)))
        if any(uri.lower().startswith("https:") for uri in uris):
            fields.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    for name, value in headers:
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise BrokenMail(f"'{name[:80]!r}' cannot be an extra header")
        fields.append((name, _text(name, value)))
    # Not a random boundary: every attempt at a delivery is the same bytes.
    boundary = "=_" + hashlib.sha256(message_id.encode()).hexdigest()[:24]
    fields.append(("MIME-Version", "1.0"))
    if not rendered.html:
        head = "".join([f"{name}: {value}\r\n" for name, value in fields])
        return _bytes(f"{head}{_part('plain', rendered.text, boundary)}", rendered)
    fields.append(("Content-Type", f'multipart/alternative; boundary="{boundary}"'))
    head = "".join([f"{name}: {value}\r\n" for name, value in fields])
    parts = [
        f"--{boundary}\r\n{_part(subtype, text, boundary)}"
        for subtype, text in (("plain", rendered.text), ("html", rendered.html))
    ]
    return _bytes(f"{head}\r\n{''.join(parts)}--{boundary}--\r\n", rendered)


def _bytes(message: str, rendered: Rendered) -> bytes:
    # Dots begin lines of plain text at most: base64 has none, and header lines begin with names or spaces.
    ascii_ones = [text for text in (rendered.text, rendered.html) if text.isascii()]
    dotted = any(text.startswith(".") or "\n." in text or "\r." in text for text in ascii_ones)
    data = message.encode("ascii")
    return data if dotted else Wire(data)


@lru_cache(maxsize=256)
def _date(date: datetime) -> str:
    return format_datetime(date.astimezone(UTC))


def _part(subtype: str, text: str, boundary: str) -> str:
    """A part with its headers. ASCII stands as it is, since filters distrust what is hidden without need; all else in base64."""
    # MIME's canonical line end is CRLF, inside base64 too.
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.replace("\n", "\r\n")
    plain = text.isascii() and not _TOO_LONG.search(text) and "\x00" not in text
    if plain and boundary not in text and not _MANGLED.search(text):
        charset, encoding = "us-ascii", "7bit"
        body = text if text.endswith("\r\n") else f"{text}\r\n"
    else:
        charset, encoding = "utf-8", "base64"
        try:
            written = b2a_base64(text.encode(), newline=False)
        except UnicodeEncodeError:
            raise BrokenMail(f"the {subtype} part holds half a character (a lone surrogate)") from None
        whole, rest = divmod(len(written), _FOLDED)
        lines = _lines(whole).unpack_from(written) + ((written[-rest:],) if rest else ())
        body = b"\r\n".join((*lines, b"")).decode("ascii")
    return (
        f'Content-Type: text/{subtype}; charset="{charset}"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}'
    )


@lru_cache(maxsize=256)
def _lines(count: int) -> Struct:
    """Cuts a text into so many lines at once."""
    return Struct(f"{_FOLDED}s" * count)


def message_id(entry: int, step: str, visit: int, domain: str, *, salt: str = "") -> str:
    """The Message-ID of one delivery: the same for every attempt, and nothing personal in it.

    `salt`: the workspace's, without which nobody guesses another delivery's. A report that names one has seen the mail.
    """
    key = hashlib.sha256(f"{salt}\n{entry}\n{step}\n{visit}".encode()).hexdigest()[:20]
    return f"<{entry}.{visit}.{key}@{_domain(domain)}>"


def broadcast_message_id(broadcast: int, lead: int, domain: str, *, salt: str = "") -> str:
    """The same for a broadcast's mail to a lead."""
    key = hashlib.sha256(f"{salt}\nbroadcast\n{broadcast}\n{lead}".encode()).hexdigest()[:20]
    return f"<b{broadcast}.{key}@{_domain(domain)}>"


def message_id_of(message: bytes) -> str:
    """The Message-ID of a message that `build` made."""
    found = re.search(rb"^Message-ID: (<[^\r\n]+>)\r\n", message, re.MULTILINE)
    if found is None:
        raise ValueError("a message without a Message-ID")
    return found[1].decode("ascii")


def address_spec(address: str) -> str:
    """An address as it is written on the wire, in headers and in the envelope.

    Local parts that mobile carriers gave out against the rules are quoted instead of lost; a Japanese domain is written
    in ASCII. Non-ASCII before the @ needs SMTPUTF8, which too few servers take.

    >>> address_spec("a..b@docomo.ne.jp")
    '"a..b"@docomo.ne.jp'
    >>> address_spec("info@芽生え.example")
    'info@xn--r8jv68r1si.example'
    """
    local, at, domain = address.strip().rpartition("@")
    if not at or not local or not domain or _CONTROL.search(address):
        raise BrokenMail("an address has the form name@domain, without line breaks", ADDRESS_INVALID)
    if not local.isascii():
        raise BrokenMail(
            "the part before the @ is not ASCII: mail servers would have to speak SMTPUTF8", ADDRESS_INVALID
        )
    if not _ATOM.fullmatch(local) and not _QUOTED.fullmatch(local):
        local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(local) > 64 + 2:
        raise BrokenMail("the part before the @ is longer than 64 characters", ADDRESS_INVALID)
    return f"{local}@{_domain(domain)}"


def _domain(domain: str) -> str:
    try:
        ascii_domain = domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        ascii_domain = ""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]+\]", ascii_domain):
        raise BrokenMail("the part after the @ is no domain name", ADDRESS_INVALID)
    return ascii_domain


def _mailbox(name: str, address: str, field: str) -> str:
    spec = address_spec(address)
    name = _plain(field, name, ascii_only=False).strip()
    if not name:
        return spec
    if name.isascii() and "=?" not in name and len(name) <= 60:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{spec}>'
    return f"{_encoded(field, name)}\r\n <{spec}>"


def _text(field: str, value: str) -> str:
    """Free text. Short ASCII stands as it is; all else becomes encoded words of at most 75 characters each."""
    value = _plain(field, value, ascii_only=False)
    # '=?' would be decoded by the reader although nobody encoded it.
    if (
        value.isascii()
        and "=?" not in value
        and (len(field) + len(value) < 76 or field.startswith("X-"))
        and len(value) < 900
    ):
        return value
    return _encoded(field, value)


def _encoded(field: str, value: str) -> str:
    """Encoded words (RFC 2047), one a line, each of whole characters."""
    try:
        return "\r\n ".join(f"=?utf-8?b?{word}?=" for word in _words(value, _FOLDED - len(field) - len(": ")))
    except UnicodeEncodeError:
        raise BrokenMail(f"{field} holds half a character (a lone surrogate)") from None


def _words(value: str, room: int) -> Iterator[str]:
    """The text in pieces of base64. `room`: what is left of the first line."""
    data, at = value.encode(), 0
    room = max(room, 32)
    while at < len(data):
        end = min(at + (room - len("=?utf-8?b??=")) // 4 * 3, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        yield b2a_base64(data[at:end], newline=False).decode("ascii")
        at, room = end, _FOLDED - len(" ")


def _plain(field: str, value: str, *, ascii_only: bool = True) -> str:
    if _CONTROL.search(value):
        raise BrokenMail(f"{field} holds a line break or control character")
    if ascii_only and not value.isascii():
        raise BrokenMail(f"{field} must be ASCII")
    return value
