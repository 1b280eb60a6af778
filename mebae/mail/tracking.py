"""The addresses in one delivery's mail that lead to us: tracked links, the open pixel, the trap, and the lead's own pages.

Each holds a signed token of the delivery (`mebae.tokens`) and nothing of the lead. A tracked link names its target by
number; where it leads is looked up in the table of links, which `store_links` must have filled before the mail is out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mebae.mail.outgoing import MailSettings
from mebae.mail.return_addresses import unsubscribe_mailto, unsubscribe_subject_mailto
from mebae.tokens import Kind, Tokens

CLICK, OPEN, TRAP, UNSUBSCRIBE, PREFERENCES, VIEW = "/t/c/", "/t/o/", "/t/x/", "/u/", "/p/", "/v/"
"""Where the server takes each kind of token; the pixel's is followed by `.gif`."""
LONGEST = 8_000
"""Characters of an address that is tracked. Servers refuse longer ones anyway."""

_WITHIN = 4
"""How often an address is decoded, in search of a lead's values."""
_OURS = (CLICK, OPEN, TRAP, UNSUBSCRIBE, PREFERENCES, VIEW)
_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\\]+")

_NOTHING: Mapping[str, Any] = {}


class MailLinks:
    """The addresses of one delivery's mail. It collects what `store_links` must store in `links`.

    >>> from datetime import UTC
    >>> from mebae.mail.rendering import Sender
    >>> tokens = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
    >>> settings = MailSettings(Sender("Mebae", "a@b.example"), "s@b.example", tokens=tokens, public_url="https://m.example")
    >>> mine = links_of(settings, 7, datetime(2026, 4, 1, tzinfo=UTC))
    >>> mine.link("https://example.com/paper").startswith("https://m.example/t/c/")
    True
    >>> list(mine.links.values()), mine.link("tel:0312345678")
    (['https://example.com/paper'], 'tel:0312345678')
    """

    def __init__(
        self, settings: MailSettings, tokens: Tokens, delivery: int, now: datetime, values: Mapping[str, Any] = _NOTHING, written: str = ""
    ) -> None:
        self._settings, self._tokens, self._delivery, self._now = settings, tokens, delivery, now
        self._values, self._written = values, written
        self.links: dict[int, str] = {}
        """What was tracked so far, by the links' numbers."""
        self.own: set[int] = set()
        """Of these, the ones that hold values of the lead: they are this delivery's alone, and go when the lead is erased."""

    def link(self, url: str) -> str:
        """The tracked address for a link of the mail; the link itself where it cannot be tracked.

        Tracked are plain http and https links to elsewhere. One with a name and password in it is left alone, as those are
        not ours to keep; and so is what leads to the lead's own pages.
        """
        number = _tracked(url)
        if number is None or self._is_ours(url):
            return url
        if self._is_own(url):
            number = link_id(f"{self._delivery} {url}")  # no address holds a space
            self.own.add(number)
        self.links[number] = url
        return self._at(CLICK, Kind.CLICK, number)

    @property
    def pixel(self) -> str:
        """An image of one dot, asked for when the mail is shown."""
        return self._at(OPEN, Kind.OPEN) + ".gif"

    @property
    def trap(self) -> str:
        """A link that no person sees: whoever follows it looks at every link."""
        return self._at(TRAP, Kind.TRAP)

    @cached_property
    def unsubscribe(self) -> str:
        """The page with the button. Its POST is the one-click unsubscribe of RFC 8058, so it stands in the header too."""
        return self._at(UNSUBSCRIBE, Kind.UNSUBSCRIBE)

    @property
    def preferences(self) -> str:
        """The page with the topics."""
        return self._at(PREFERENCES, Kind.PREFERENCES)

    @property
    def view(self) -> str:
        """The mail as a page."""
        return self._at(VIEW, Kind.VIEW)

    @property
    def list_unsubscribe(self) -> tuple[str, str]:
        """For the header `List-Unsubscribe` (RFC 2369): the page, and an address for a mail.

        Without a bounce domain of ours the mail goes to the sender, with the token in its subject.
        """
        domain, sender = self._settings.bounce_domain, self._settings.sender.email
        if domain:
            return self.unsubscribe, unsubscribe_mailto(self._tokens, self._delivery, domain, now=self._now)
        return self.unsubscribe, unsubscribe_subject_mailto(self._tokens, self._delivery, sender, now=self._now)

    def _at(self, path: str, kind: Kind, *numbers: int) -> str:
        return self._settings.public_url + path + self._tokens.sign(kind, self._delivery, *numbers, now=self._now)

    def _is_own(self, url: str) -> bool:
        """Whether it was filled with something of the lead. What its author wrote out was not, whatever it happens to hold."""
        if url in self._written or not self._words:
            return False
        read = _readings(url)
        return any(word in plain for word in self._words for plain in read)

    @cached_property
    def _words(self) -> frozenset[str]:
        return own_words(self._values)

    def _is_ours(self, url: str) -> bool:
        home = self._settings.public_url
        return url.startswith(home) and url[len(home) :].startswith(_OURS)


def links_of(
    settings: MailSettings, delivery: int, now: datetime, values: Mapping[str, Any] = _NOTHING, written: str = ""
) -> MailLinks | None:
    """The addresses for one delivery's mail; None where no key or no public address is set (`MEBAE_TOKEN_KEYS`,
    `MEBAE_PUBLIC_URL`): then nothing can be tracked, and nobody can unsubscribe by a link.

    `values`: what the mail is filled with, by which a link that holds something of the lead is known; `written`: its source.
    """
    if settings.tokens is None or not settings.public_url:
        return None
    return MailLinks(settings, settings.tokens, delivery, now, values, written)


_NOBODYS = frozenset(
    {
        "id", "title", "industry", "company_size", "language", "time_zone", "score", "stage", "qualification", "tags", "rank",
        "industry_group", "topics", "excluded", "created_at", "active_at", "contacted_at", "first_source", "first_campaign",
        "last_source", "last_campaign",
    }
)  # fmt: skip
"""What a mail may say of a lead, and what says of many the same."""


def own_words(values: Mapping[str, Any]) -> frozenset[str]:
    """What in a link's address would tell of this lead: address, name, number, what else is known of it alone, its firm, and what
    the event said that started its journey. From the values that its mail is filled with; in small letters.

    >>> sorted(own_words({"lead": {"email": "Sato@aoba.example", "name": "佐藤 健二", "industry": "製造"}, "entry": {"seat": "A-12"}}))
    ['a-12', 'sato@aoba.example', '佐藤', '佐藤 健二', '健二']
    """
    lead, firm = values.get("lead") or {}, values.get("company") or {}
    found = [value for name, value in lead.items() if name not in _NOBODYS]
    found += [*str(lead.get("name") or "").split(), firm.get("name"), firm.get("domain"), values.get("entry")]
    return frozenset(_words(found))


def _words(value: Any) -> Iterator[str]:
    match value:
        case str():
            word = value.strip().casefold()
            if len(word) >= 2:
                yield word
        case bool():
            pass
        case int() | float() if abs(value) >= 100:
            yield str(value)
        case list() | tuple():
            for one in value:
                yield from _words(one)
        case dict():
            yield from _words(list(value.values()))


@lru_cache(maxsize=256)
def _readings(url: str) -> tuple[str, ...]:
    """An address as it may be read: a `+` is itself or a space, and one address may be in another, encoded once more."""
    found = [url]
    for _ in range(_WITHIN):
        if (plain := unquote(found[-1])) == found[-1]:
            break
        found.append(plain)
    return tuple(dict.fromkeys(one.casefold() for plain in found for one in (plain, plain.replace("+", " "))))


def link_id(url: str) -> int:
    """A link's number: the first 63 bits of the SHA-256 of its address. Two of a million links agree once in ten million cases."""
    return int.from_bytes(hashlib.sha256(url.encode()).digest()[:8], "big") >> 1


@lru_cache(maxsize=4096)
def _tracked(url: str) -> int | None:
    """A link's number; None where it cannot be tracked. Most links of a mail are those of every other lead's."""
    return link_id(url) if is_trackable(url) else None


def is_trackable(url: str) -> bool:
    """Whether a redirect may lead there: http or https, a host, no name or password, nothing that a header must not hold.

    >>> [is_trackable(url) for url in ("https://example.com/料金?a=1#b", "HTTP://example.com", "https://[2001:db8::1]:8443/")]
    [True, True, True]
    >>> [is_trackable(url) for url in ("javascript:alert(1)", "//example.com/", "https://a:b@example.com/", "https:///x", "#top")]
    [False, False, False, False, False]
    """
    if len(url) > LONGEST or not _PLAIN.fullmatch(url) or any("\ud800" <= letter <= "\udfff" for letter in url):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
        location(url)
    except ValueError:  # of a host that IDNA does not know, too
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def location(url: str) -> str:
    """The address as the header `Location` takes it: ASCII, with what is no ASCII percent-encoded (RFC 3987 §3.1).

    >>> location("https://example.com/料金?q=東京&a=%20b#上")
    'https://example.com/%E6%96%99%E9%87%91?q=%E6%9D%B1%E4%BA%AC&a=%20b#%E4%B8%8A'
    >>> location("https://例え.jp/a")
    'https://xn--r8jz45g.jp/a'
    """
    if url.isascii():
        return url
    parts = urlsplit(url)
    host = parts.netloc
    if not host.isascii():
        name, colon, port = host.partition(":")
        host = name.encode("idna").decode() + colon + port
    rest = quote(url[url.index("//") + 2 + len(parts.netloc) :], safe="%/?#[]:;=&@!$'()*+,~|^`{}\"<>")
    return f"{parts.scheme}://{host}{rest}"
