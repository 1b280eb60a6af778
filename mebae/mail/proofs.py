"""Reading a rendered mail as a careful colleague does: what is wrong with it, and what could be better. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import lxml.html  # type: ignore[import-untyped]

from mebae.mail.rendering import Rendered

LONGEST_SUBJECT = 60
"""Columns, a Japanese letter taking two: what a telephone shows of a subject at the most."""
LARGEST = 102_000
"""Bytes of HTML after which Gmail cuts a mail off, the footer with its opt-out first."""


class Note(NamedTuple):
    """One remark. A serious one means that the mail does not do what it should."""

    words: str
    serious: bool = False


def proofread(rendered: Rendered) -> Iterator[Note]:
    """The subject's length, links that lead nowhere, images that say nothing to who does not see them, the size."""
    width = columns(rendered.subject)
    if width > LONGEST_SUBJECT:
        yield Note(f"the subject takes {width} columns (a Japanese letter two); telephones show {LONGEST_SUBJECT} at most")
    if rendered.html:
        page = lxml.html.document_fromstring(rendered.html)
        yield from _links(page)
        yield from _images(page)
        if (size := len(rendered.html.encode())) > LARGEST:
            yield Note(f"the HTML has {size:,} bytes: Gmail cuts off what is beyond {LARGEST:,}, the opt-out with it", serious=True)
    if not rendered.text.strip():
        yield Note("the text part is empty", serious=True)


def columns(text: str) -> int:
    """
    >>> columns("資料 A")
    6
    """
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _links(page: lxml.html.HtmlElement) -> Iterator[Note]:
    seen: set[str] = set()
    for link in page.xpath("//a[@href]"):
        target = link.get("href").strip()
        if target in seen:
            continue
        seen.add(target)
        parts = urlsplit(target)
        shown = f"the link '{target[:80]}'"
        if parts.scheme in ("mailto", "tel"):
            continue
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield Note(f"{shown} leads nowhere: write the whole address, beginning with https://", serious=True)
        elif parts.hostname in ("localhost", "127.0.0.1") or "." not in parts.hostname:
            yield Note(f"{shown} leads to this machine only")
        elif any(letter in target for letter in "{}"):
            yield Note(f"{shown} still holds braces: was a value meant?", serious=True)


def _images(page: lxml.html.HtmlElement) -> Iterator[Note]:
    for image in page.xpath("//img[not(@alt)]"):
        if image.get("width") != "1":
            yield Note(f"the image '{image.get('src', '')[:80]}' has no text for who does not see it: write alt text")
