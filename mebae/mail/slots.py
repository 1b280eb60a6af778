"""Where values stand in a filled text: the fast way to write one mail to many leads.

Filling a mail's template gives a text that repeats from lead to lead but for the values in it. A `Recorder` takes the values
out: each becomes a slot, three characters that no text holds. What is left, the *shape*, is the same for many leads, so what
is slow (Markdown, styles, the text part) is done once for each shape (`mebae.mail.shapes`).

Markdown looks at the neighbours of emphasis and of line breaks, so a slot begins and ends with a character of the kind that
the value begins and ends with: a letter or punctuation, wide (CJK) or not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup, escape

from mebae.mail.markdown import escape_markdown, is_wide, shown

RECORDER = " recorder"
"""The name that a recorder has among a template's values. No template can write it."""

_EDGES = {
    (False, False): "\ue000",
    (False, True): "\ua48c",  # the last of the Yi syllables
    (True, False): "\u2e3d",  # six dots, one above the other
    (True, True): "\ua490",  # the first of the Yi radicals
}
"""A rare character for each kind: punctuation or not, wide or not."""
_NEUTRAL = _EDGES[False, False]
_EDGE = f"[{''.join(_EDGES.values())}]"
_FIRST, _DIGITS, _PIECE, _LINK, _END = 0xE100, 0xE500, 0xE900, 0xF000, 0xF900
"""Where the numbers of slots begin, of slots that hold digits alone, of pieces, and of links."""
LONGEST = 500
"""Characters of a value that becomes a slot."""

SLOT = re.compile(f"{_EDGE}([\ue100-\ue8ff]){_EDGE}")
MARK = re.compile(f"{_EDGE}([\ue100-\ue8ff]){_EDGE}|([\uf000-\uf8ff])")
"""A slot, or a link."""
PIECE = re.compile("[\ue900-\uefff]")
ENCODED = re.compile(
    "|".join(["(?:%EE%80%80|%EA%92%8C|%EA%92%90|%E2%B8%BD)(%EE%[89A][0-9A-F]%[89AB][0-9A-F])(?:%[0-9A-F]{2}){3}"])
)
"""A slot in an address, as Markdown writes it there."""
TAG = re.compile(r"""<[A-Za-z/!](?:[^>"']|"[^"]*"|'[^']*')*>""")
QUOTED = re.compile(r""""[^"]*"|'[^']*'""")
"""Of a tag."""
_LANGUAGE = re.compile(r"[a-z]{2}(?:-[A-Z]{2})?")
_PRIVATE = re.compile("[\ue000-\uf8ff]")

# What emphasis and line breaks have beside them, also through a link's brackets and at the beginning of a line.
_LOOKS_AFTER = frozenset("*_~[]\n> \t\\")


class Unsafe(Exception):
    """This mail cannot be written the fast way."""


class Value(NamedTuple):
    """What a slot stands for."""

    words: str
    """As the reader sees it."""
    in_markdown: bool

    @property
    def literal(self) -> str:
        """As it stands in the filled text the slow way."""
        return escape_markdown(self.words) if self.in_markdown else str(escape(self.words))


class Recorder:
    """Collects the values of one mail, while its templates are filled."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.pieces: list[str] = []
        """Filled Markdown that becomes HTML on its own: the body, a block in a layout."""

    def in_markdown(self, words: str) -> Markup:
        flat = shown(words)
        # A backtick or a bar is looked for by Markdown even behind a backslash, where there is another one in the text.
        if not flat or len(flat) > LONGEST or "`" in flat or "|" in flat:
            return Markup(escape_markdown(words))  # noqa: S704
        return self._slot(Value(flat, True), _edge(flat[0]), _edge(flat[-1]))

    def in_html(self, words: str) -> Markup:
        if _PRIVATE.search(words):
            raise Unsafe("a private character")
        if not words or len(words) > LONGEST or words != words.strip() or not words.replace("\u3000", "").isprintable():
            return escape(words)
        if _LANGUAGE.fullmatch(words):  # few, and mostly in `lang`, where styles look at it
            return escape(words)
        return self._slot(Value(words, False), _NEUTRAL, _NEUTRAL)

    def piece(self, markdown: str) -> Markup:
        """Takes filled Markdown; gives what stands in the page for its HTML."""
        if len(self.pieces) >= _LINK - _PIECE:
            raise Unsafe("too many pieces")
        self.pieces.append(_neutral(markdown))
        return Markup(chr(_PIECE + len(self.pieces) - 1))  # noqa: S704

    def _slot(self, value: Value, first: str, last: str) -> Markup:
        number = len(self.values)
        if number >= _DIGITS - _FIRST:
            raise Unsafe("too many values")
        self.values.append(value)
        base = _DIGITS if value.words.isascii() and value.words.isdigit() else _FIRST
        return Markup(f"{first}{chr(base + number)}{last}")  # noqa: S704


def is_private(source: str) -> bool:
    """Whether a source holds characters that slots are made of."""
    return _PRIVATE.search(source) is not None


def number_of(slot: str) -> int:
    """A slot's number, from the character in its middle."""
    return (ord(slot) - _FIRST) % (_DIGITS - _FIRST)


def holds_digits(slot: str) -> bool:
    return ord(slot) >= _DIGITS


def encoded_slot(middle: str) -> str:
    """The character in a slot's middle, from how it stands in an address."""
    return bytes.fromhex(middle.replace("%", "")).decode()


def slots_in(text: str) -> set[int]:
    """The numbers of the slots in a text, in addresses too."""
    found = {number_of(slot) for slot in SLOT.findall(text)}
    return found | {number_of(encoded_slot(middle)) for middle in ENCODED.findall(text)}


def piece_number(mark: str) -> int:
    return ord(mark) - _PIECE


def link_mark(number: int) -> str:
    """What stands for a link in a page, after `http:`."""
    if number >= _END - _LINK:
        raise Unsafe("too many links")
    return chr(_LINK + number)


def link_number(mark: str) -> int:
    return ord(mark) - _LINK


def with_literals(shape: str, literals: Iterable[int], values: list[Value]) -> str:
    """The shape with these slots filled in the slow way."""
    wanted: Mapping[int, str] = {number: values[number].literal for number in literals}
    return SLOT.sub(lambda slot: wanted.get(number_of(slot[1]), slot[0]), shape)


@lru_cache(maxsize=4096)
def _edge(letter: str) -> str:
    # As markdown-it-py sees it; ASCII punctuation stands behind a backslash, which is punctuation as well.
    return _EDGES[unicodedata.category(letter)[0] in "PS", is_wide(letter)]


def _neutral(shape: str) -> str:
    """The shape without what nobody looks at, so that more leads share it."""

    def neutral(slot: re.Match[str]) -> str:
        start, end = slot.span()
        before = slot.string[start - 1] if start else ""
        after = slot.string[end] if end < len(slot.string) else ""
        first = slot[0][0] if before in _LOOKS_AFTER else _NEUTRAL
        last = slot[0][2] if after in _LOOKS_AFTER else _NEUTRAL
        middle = slot[1]
        if holds_digits(middle) and after not in _LIST_MARKS and not _is_edge(after):
            middle = chr(ord(middle) - _DIGITS + _FIRST)
        return first + middle + last

    return SLOT.sub(neutral, shape)


_LIST_MARKS = frozenset("0123456789.)")


def _is_edge(letter: str) -> bool:
    return letter in _EDGES.values()
