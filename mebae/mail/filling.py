"""One lead's values on their way into a shape: how each is written where it stands, and where each link then leads.

Whatever the plain way might write otherwise raises `Unsafe`, before any link is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mebae.mail.links import Links, attribute
from mebae.mail.markdown import normal_link
from mebae.mail.slots import Unsafe, Value

_BEFORE_VALUE = re.compile(r"https?://[^/?#\s]+[/?#][^\s]*", re.IGNORECASE)
_SAFE_PART = re.compile(r"(?:[A-Za-z0-9;/?:@&=+$,\-_.!~*'()#]|%[0-9A-Fa-f]{2})+")
_HALF_ESCAPE = re.compile(r"%(?:25)?[0-9A-Fa-f]?$")
"""An address that ends within `%41`, as written, or as Markdown encodes a lone `%`."""
_SAFE_WHOLE = re.compile(r"https?://[A-Za-z0-9;/?:@&=+$,\-_.!~*'()#%]+")

Part = str | int
"""Of a template: text, or the number of a slot (negative, less one: in an address that Markdown wrote)."""

Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Address:
    """Where a link leads, its values open."""

    parts: Parts
    untracked: bool
    web: bool


@dataclass(frozen=True)
class Opened:
    """The addresses of a shape, their values open."""

    links: tuple[Address, ...] = ()
    sources: tuple[Parts, ...] = ()
    """Where images come from."""
    doubtful: tuple[tuple[Parts, Parts], ...] = ()
    """Links whose words may be their own address, which the text part shows once: the words, the address."""


class Filling:
    """One lead's values, on their way into a skeleton."""

    __slots__ = ("addresses", "sources", "values")

    def __init__(self, values: Sequence[Value], opened: Opened, links: Links) -> None:
        self.values = [value.words for value in values]
        self.sources = [self.address(parts) for parts in opened.sources]
        targets = [self.address(link.parts) for link in opened.links]
        for words, at in opened.doubtful:
            if self.said(words).strip() == self.address(at):
                raise Unsafe("a link whose words are its address")
        for link, target in zip(opened.links, targets, strict=True):
            if target.strip().lower().startswith(("http://", "https://")) is not link.web:
                raise Unsafe("an address of another kind")
        # Only now, for what is asked of `links` is noted there, and an address that the plain way would not write is no link.
        self.addresses: list[str] = []
        for link, target in zip(opened.links, targets, strict=True):
            address = links.placed(target, untracked=link.untracked)
            if address.startswith(("http:", "https:")) is not link.web:
                raise Unsafe("an address that the text part shows otherwise")
            self.addresses.append(address)

    def address(self, parts: Parts) -> str:
        """An address with its values, as Markdown or the page would have it."""
        if len(parts) == 1 and isinstance(part := parts[0], str):
            return part
        whole = ""
        for part in parts:
            if isinstance(part, str):
                whole += part
            elif part >= 0:
                whole += self.values[part]
            else:
                whole += self._in_markdown(self.values[-part - 1], whole, alone=len(parts) == 1)
        return whole

    def _in_markdown(self, value: str, before: str, *, alone: bool) -> str:
        if alone:
            if not _SAFE_WHOLE.fullmatch(value):
                raise Unsafe("an address that Markdown would change")
            return normal_link(value)
        if not _SAFE_PART.fullmatch(value) or not _BEFORE_VALUE.fullmatch(before) or _HALF_ESCAPE.search(before):
            raise Unsafe("an address that Markdown would change")
        return value

    def said(self, parts: Parts) -> str:
        return "".join(
            part if isinstance(part, str) else self.values[part if part >= 0 else -part - 1] for part in parts
        )


Writer = Callable[[Filling], str]
"""Writes what stands at one place of a page or text."""


def html_value(number: int) -> Writer:
    return lambda filling: (
        filling.values[number]
        .replace("&", "&amp;")
        .replace("\u00a0", "&nbsp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )


def attribute_value(number: int) -> Writer:
    return lambda filling: attribute(filling.values[number])


def text_value(number: int) -> Writer:
    return lambda filling: " ".join(filling.values[number].split())


def link_in_html(number: int) -> Writer:
    return lambda filling: attribute(filling.addresses[number])


def link_in_text(number: int) -> Writer:
    return lambda filling: filling.addresses[number]


def source_in_html(number: int) -> Writer:
    return lambda filling: attribute(filling.sources[number])
