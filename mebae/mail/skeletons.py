"""Lays out a shape: from filled texts with slots in them to a page and a text part whose places are open for values.

A slot where a value could change what is around it cannot stay open: it is among the `literals` then.
"""

from __future__ import annotations

import html
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from mebae.mail.filling import (
    Address,
    Opened,
    Parts,
    Writer,
    attribute_value,
    html_value,
    link_in_html,
    link_in_text,
    source_in_html,
    text_value,
)
from mebae.mail.links import Links, harmless, place_links
from mebae.mail.markdown import to_html
from mebae.mail.mjml import mjml_to_html
from mebae.mail.page import html_to_text, inline_css
from mebae.mail.slots import (
    ENCODED,
    MARK,
    PIECE,
    QUOTED,
    SLOT,
    TAG,
    Unsafe,
    encoded_slot,
    holds_digits,
    link_mark,
    link_number,
    number_of,
    piece_number,
    slots_in,
)
from mebae.mail.templating import BrokenMail

_KEPT = 256
"""Shapes that are kept. One is some tens of kilobytes."""

_S = f"(?:{SLOT.pattern.replace('(', '(?:')})"
_CLOSE = re.compile(rf"(?:\\|&[#A-Za-z0-9]*|<[^<>\s]*)(?:{_S})+")
"""A slot behind what Markdown reads together with what follows: a backslash, an entity, an address in angle brackets."""
_NUMBER = re.compile(rf"^(?:[ \t>*+.)-]|\d|{_S})+", re.MULTILINE)
"""How a line begins that may be a numbered item."""
_CODE = re.compile(r"<code[^>]*>[^<]*</code>")
_SELECTS = re.compile(r"\[\s*(?:href|src|alt|content|aria-label)\b")
_STYLE = re.compile(r"<style\b.*?</style>", re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(
    r"(?P<skipped><!--.*?-->|<!DOCTYPE[^>]*>|<(?P<raw>style|script|noscript|iframe|noframes|noembed|xmp)\b.*?</(?P=raw)>)"
    r'|<(?P<end>/?)(?P<name>[A-Za-z][^\s>/]*)(?P<attributes>(?:\s+[^\s=>]+="[^"]*")*)\s*/?>'
    r"|(?P<text>[^<]+)|(?P<other><)",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r'(?P<before>\s+(?P<name>[^\s=>]+)=")(?P<value>[^"]*)"')
_OPEN = ("alt", "content", "aria-label")
"""Attributes whose value nobody but the reader looks at."""
_KEEPING_SPACES = ("pre", "textarea", "listing", "plaintext")


@dataclass
class Skeleton:
    """A shape, laid out."""

    literals: frozenset[int] = frozenset()
    """The slots that cannot stay open; then there is nothing else but where they are."""
    changing: frozenset[int] = frozenset()
    """Where they are: 0 for the page, else the number of the piece plus one."""
    html: tuple[str, ...] = ()
    in_html: tuple[tuple[int, Writer], ...] = ()
    text: tuple[str, ...] = ()
    in_text: tuple[tuple[int, Writer], ...] = ()
    addresses: Opened = field(default_factory=Opened)
    variants: set[int] = field(default_factory=set)
    passed: set[Hashable] = field(default_factory=set)
    """Checks that this shape has passed, whatever the values: `mebae.mail.legal` notes its own here."""


@lru_cache(maxsize=_KEPT)
def lay_out(page: str, pieces: tuple[str, ...], mjml: bool) -> Skeleton:
    """A shape, once. Raises `Unsafe`.

    Args:
        page: the filled page, with marks where the HTML of the pieces goes.
        pieces: filled Markdown.
        mjml: whether the page is MJML.
    """
    shapes = (page, *pieces)
    literals = _unsafe_in_page(page)
    bodies = []
    for piece in pieces:
        literals |= _unsafe_in_markdown(piece)
        body = to_html(piece)
        literals |= slots_in(piece) - slots_in(body)
        literals |= set().union(*map(slots_in, _CODE.findall(body)))
        bodies.append(body)
    page = PIECE.sub(lambda mark: bodies[piece_number(mark[0])], page)
    try:
        styled = mjml_to_html(page, "") if mjml else page
        inlined = inline_css(styled, "")
    except BrokenMail:
        raise Unsafe("a page that cannot be laid out") from None
    literals |= slots_in(page) - slots_in(inlined)
    links = _OpenLinks()
    placed = place_links(inlined, links)
    text = html_to_text(inlined, links)
    selects = any(map(_SELECTS.search, _STYLE.findall(styled)))
    laid_out = _Page(placed, attributes=not selects)
    literals |= laid_out.literals
    if selects:
        literals |= {slot for link in links.addresses for slot in _slots_of(link.parts)}
    if literals:
        changing = (at for at, shape in enumerate(shapes) if literals & slots_in(shape))
        return Skeleton(literals=frozenset(literals), changing=frozenset(changing))
    if ENCODED.search(text):
        raise Unsafe("an address in the text part")
    words, places = _open_text(text)
    return Skeleton(
        html=tuple(laid_out.parts), in_html=tuple(laid_out.open), text=words, in_text=places,
        addresses=Opened(tuple(links.addresses), tuple(laid_out.sources), tuple(links.doubtful)),
    )  # fmt: skip


def _open_text(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, Writer], ...]]:
    parts: list[str] = []
    open: list[tuple[int, Writer]] = []
    at = 0
    for mark in MARK.finditer(text):
        start = mark.start()
        if mark[2]:
            start -= len("http:")
            value = link_in_text(link_number(mark[2]))
        else:
            value = text_value(number_of(mark[1]))
        parts += [text[at:start], ""]
        open.append((len(parts) - 1, value))
        at = mark.end()
    return (*parts, text[at:]), tuple(open)


def _unsafe_in_markdown(piece: str) -> set[int]:
    if "]:" in piece:  # a reference: what stands in brackets may be its name
        return slots_in(piece)
    found = set().union(*(slots_in(close[0]) for close in _CLOSE.finditer(piece)))
    for line in _NUMBER.finditer(piece):
        if any(map(holds_digits, SLOT.findall(line[0]))) and ("." in line[0] or ")" in line[0]):
            found |= slots_in(line[0])
    return found


def _unsafe_in_page(page: str) -> set[int]:
    """Slots in a tag and not between quotes: their words could be further attributes."""
    return set().union(*(slots_in(QUOTED.sub("", tag[0])) for tag in TAG.finditer(page)))


class _OpenLinks(Links):
    """Puts a mark in every link's place."""

    def __init__(self) -> None:
        super().__init__(None, ())
        self.addresses: list[Address] = []
        self.doubtful: list[tuple[Parts, Parts]] = []
        self._known: dict[tuple[str, bool], str] = {}

    def placed(self, target: str, *, untracked: bool = False) -> str:
        target = target.strip()
        is_open = bool(slots_in(target))
        web = target.lower().startswith(("http://", "https://")) or _begins_open(target)
        if not is_open and (untracked or not web):
            return harmless(target)
        mark = self._known.get((target, untracked))
        if mark is None:
            mark = ("http:" if web else "mailto:") + link_mark(len(self.addresses))
            self._known[target, untracked] = mark
            self.addresses.append(Address(_parts(target), untracked, web))
        return mark

    def is_its_words(self, target: str, words: str) -> bool:
        if slots_in(target) or slots_in(words):
            self.doubtful.append((_parts(words), _parts(target)))
            return False
        return super().is_its_words(target, words)


def _begins_open(target: str) -> bool:
    return bool(SLOT.match(target) or ENCODED.match(target))


_EITHER = re.compile(f"{SLOT.pattern}|{ENCODED.pattern}")


def _parts(text: str) -> Parts:
    parts: list[str | int] = []
    at = 0
    for slot in _EITHER.finditer(text):
        if slot.start() > at:
            parts.append(text[at : slot.start()])
        parts.append(number_of(slot[1]) if slot[1] else -number_of(encoded_slot(slot[2])) - 1)
        at = slot.end()
    if at < len(text) or not parts:
        parts.append(text[at:])
    return tuple(parts)


def _slots_of(parts: Parts) -> Iterator[int]:
    yield from (part if part >= 0 else -part - 1 for part in parts if isinstance(part, int))


class _Page:
    """Finds out where in a page its slots are, and so how a value is written there."""

    def __init__(self, page: str, *, attributes: bool) -> None:
        self.parts: list[str] = []
        self.open: list[tuple[int, Writer]] = []
        self.sources: list[Parts] = []
        self.literals: set[int] = set()
        self._attributes = attributes
        self._tables: list[bool] = []
        self._spaces = 0
        self._written = ""
        for token in _TOKEN.finditer(page):
            self._take(token)
        self.parts.append(self._written)

    def _take(self, token: re.Match[str]) -> None:
        if token["text"]:
            self._text(token["text"])
        elif token["name"] and not token["end"]:
            self._enter(token["name"], token["attributes"])
            self._tag(token)
        else:
            if token["name"]:
                self._leave(token["name"])
            self._refuse(token[0])
            self._written += token[0]

    def _enter(self, name: str, attributes: str) -> None:
        if name == "table":
            self._tables.append('role="presentation"' not in attributes)
        self._spaces += name in _KEEPING_SPACES

    def _leave(self, name: str) -> None:
        if name == "table" and self._tables:
            self._tables.pop()
        self._spaces -= name in _KEEPING_SPACES

    def _text(self, text: str) -> None:
        if any(self._tables) or self._spaces:
            self._refuse(text)
        at = 0
        for slot in SLOT.finditer(text):
            self._written += text[at : slot.start()]
            self._put(html_value(number_of(slot[1])))
            at = slot.end()
        self._refuse(SLOT.sub("", text))
        self._written += text[at:]

    def _tag(self, token: re.Match[str]) -> None:
        whole, start = token[0], token.start()
        if not (MARK.search(whole) or ENCODED.search(whole)):
            self._written += whole
            return
        begin, end = token.span("attributes")
        self._refuse(whole[: begin - start] + whole[end - start :])
        self._written += whole[: begin - start]
        for one in _ATTRIBUTE.finditer(token["attributes"]):
            self._refuse(one["before"])
            self._written += one["before"]
            self._value(one["name"], one["value"])
            self._written += '"'
        self._written += whole[end - start :]

    def _value(self, name: str, value: str) -> None:
        link = MARK.search(value)
        if name == "href" and link is not None and link[2]:
            self._put(link_in_html(link_number(link[2])))
            return
        if not slots_in(value):
            self._written += value
            return
        if not self._attributes or name not in (*_OPEN, "src"):
            self._refuse(value)
        elif name == "src":
            self.sources.append(_parts(html.unescape(value)))
            self._put(source_in_html(len(self.sources) - 1))
            return
        for part in _parts(value):
            if isinstance(part, str):
                self._written += part
            else:
                self._put(attribute_value(part))

    def _put(self, value: Writer) -> None:
        self.parts += [self._written, ""]
        self.open.append((len(self.parts) - 1, value))
        self._written = ""

    def _refuse(self, text: str) -> None:
        self.literals |= slots_in(text)
