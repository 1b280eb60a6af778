"""The addresses that mail comes back to: who wrote to one of them says by the address alone which delivery it is about.

    bounce+<token>@<bounce domain>        the envelope's sender (VERP): mail servers report there what they could not deliver
    unsubscribe+<token>@<bounce domain>   in `List-Unsubscribe` (RFC 2369): whose mail comes there wants no more

The token is of `mebae.tokens`, in small letters and digits, so that nobody makes an address for another's delivery. Servers
on the way may change the case of a local part and some split it at another sign than `+`: both are read all the same. A
local part has 64 characters at most (RFC 5321 §4.5.3.1.1); the longest of ours has 51.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from mebae.tokens import Kind, Tokens

PREFIXES = {Kind.BOUNCE: "bounce", Kind.UNSUBSCRIBE: "unsubscribe"}
"""What stands before the token, by its kind."""

_KINDS = {prefix: kind for kind, prefix in PREFIXES.items()}
# The sign for sub-addresses (RFC 5233) is a server's own setting: `+` mostly, `-` with qmail, sometimes another.
_LOCAL = re.compile(rf"({'|'.join(_KINDS)})[-+=_.]([a-z2-7]{{24,}})", re.IGNORECASE)
_IN_MAILTO = "@!$'*+-._~"
_AT_DOMAIN = re.compile(r"@[^@]*$")
_ANYWHERE = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(_KINDS)})(?:[-+=_.]|%2B)[a-z2-7]{{24,57}}(?![a-z2-7])", re.IGNORECASE
)
UNSUBSCRIBE_LIKE = re.compile(rf"{PREFIXES[Kind.UNSUBSCRIBE]}[-+=_.][a-z2-7]{{24,57}}(?![a-z2-7])", re.IGNORECASE)
"""How an address begins that unsubscribes, if its token is good."""


@dataclass(frozen=True)
class ReturnAddress:
    """What an address of ours says."""

    kind: Kind
    """`Kind.BOUNCE` or `Kind.UNSUBSCRIBE`."""
    delivery: int


def bounce_address(tokens: Tokens, delivery: int, domain: str, *, now: datetime) -> str:
    """The envelope's sender for one delivery.

    Args:
        domain: the setting `bounce_domain`.
        now: of the world clock; the day's key signs.
    """
    return _address(tokens, Kind.BOUNCE, delivery, domain, now)


def unsubscribe_address(tokens: Tokens, delivery: int, domain: str, *, now: datetime) -> str:
    """Where a mail unsubscribes the lead of one delivery; arguments as for `bounce_address`."""
    return _address(tokens, Kind.UNSUBSCRIBE, delivery, domain, now)


def unsubscribe_mailto(tokens: Tokens, delivery: int, domain: str, *, now: datetime) -> str:
    """The same as a URI for `List-Unsubscribe`. The `+` is encoded: some mail programs read a bare one as a space."""
    token = tokens.sign_address(Kind.UNSUBSCRIBE, delivery, now=now)
    return f"mailto:{PREFIXES[Kind.UNSUBSCRIBE]}%2B{token}@{_quoted(domain)}?subject=unsubscribe"


def unsubscribe_subject_mailto(tokens: Tokens, delivery: int, to: str, *, now: datetime) -> str:
    """Where no domain takes our return addresses: a mail to this address, with the token in its subject."""
    subject = f"{PREFIXES[Kind.UNSUBSCRIBE]}+{tokens.sign_address(Kind.UNSUBSCRIBE, delivery, now=now)}"
    return f"mailto:{quote(to, safe=_IN_MAILTO)}?subject={quote(subject)}"


def read(tokens: Tokens, address: str, *, now: datetime) -> ReturnAddress | None:
    """Which delivery an address is about; None for all others, and where the token is forged, cut or too old.

    Angle brackets and quotes may stand around it. The domain is not looked at and may be missing: the token is proof enough,
    and mails that went out under an earlier domain still come back.
    """
    local = _AT_DOMAIN.sub("", address.strip().strip("<>"))
    found = _LOCAL.fullmatch(local.strip().strip('"'))
    if found is None:
        return None
    kind = _KINDS[found[1].lower()]
    numbers = tokens.read_address(kind, found[2], now=now)
    return ReturnAddress(kind, numbers[0]) if numbers is not None and len(numbers) == 1 else None


def find_all(texts: Iterable[str]) -> Iterator[str]:
    """What looks like an address of ours in texts, such as the header of a returned mail, without its domain; `read` says
    whether it is one."""
    for text in texts:
        for found in _ANYWHERE.findall(text):
            yield found.replace("%2B", "+").replace("%2b", "+")


def is_at(address: str, domain: str) -> bool:
    """Whether an address is of this domain, in any case, as Unicode or as A-labels (RFC 5891).

    >>> is_at("bounce+a@Return.Example", "return.example"), is_at("x@xn--r8jv68r1si.example", "芽生え.example")
    (True, True)
    """
    _, at, theirs = address.strip().strip("<>").rpartition("@")
    return bool(at and domain) and _compared(theirs) == _compared(domain)


def _address(tokens: Tokens, kind: Kind, delivery: int, domain: str, now: datetime) -> str:
    return f"{PREFIXES[kind]}+{tokens.sign_address(kind, delivery, now=now)}@{domain}"


@lru_cache(maxsize=64)
def _quoted(domain: str) -> str:
    return quote(domain, safe="@")


def _compared(domain: str) -> str:
    domain = domain.strip().rstrip(".").lower()
    try:
        return domain if domain.isascii() else domain.encode("idna").decode()
    except UnicodeError:
        return domain
