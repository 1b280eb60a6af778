"""The text mail: a body that looks as if somebody typed it, the footer under it, and links that are tracked all the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import escape

from mebae.mail.links import Links
from mebae.mail.markdown import to_html
from mebae.mail.page import RULE, html_to_text
from mebae.mail.source import MailSource
from mebae.mail.templating import fill, filled_block

_ADDRESS = re.compile(r"""<(?P<marked>https?://[!-~]{1,2000}?)\s+"untracked">|(?P<bare>https?://[!-;=?-~]{1,2000})""", re.IGNORECASE)
"""`<https://example.com/rules "untracked">`, or an address as it stands. Japanese text ends one."""
_NOT_ITS_END = ".,;:!?'\"*_)]}"


def plain_text(mail: MailSource, seen: Mapping[str, Any], links: Links) -> str:
    """The whole text of a text mail, footer included. Raises `BrokenMail`."""
    body = _with_links(fill("text", mail.body, seen, mail.where, mail.body_line), links)
    foot = html_to_text(f"<body>{to_html(filled_block('footer', seen))}</body>", links)
    lines = "\n".join(line.rstrip() for line in body.strip("\n").split("\n"))
    return f"{lines}\n\n{RULE}\n{foot}"


def words_of(markdown: str) -> str:
    """A block's Markdown as words, for a text mail. Its untracked links stay marked."""
    return html_to_text(f"<body>{to_html(markdown)}</body>", _Marked(None, ())).rstrip("\n")


def as_page(text: str, title: str, language: str) -> str:
    """A text mail for who reads it in the browser."""
    return (
        f'<!doctype html><html lang="{escape(language)}"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"></head>'
        f'<body><pre style="white-space:pre-wrap;font:16px/1.7 sans-serif">{escape(text)}</pre></body></html>'
    )


class _Marked(Links):
    def placed(self, target: str, *, untracked: bool = False) -> str:
        return f'{target} "untracked"' if untracked else target


def _with_links(text: str, links: Links) -> str:
    def place(found: re.Match[str]) -> str:
        if found["marked"]:
            return links.placed(found["marked"], untracked=True)
        address = found["bare"]
        end = len(address)
        while address[end - 1] in _NOT_ITS_END and not _closes(address[:end]):
            end -= 1
        return links.placed(address[:end]) + address[end:]

    return _ADDRESS.sub(place, text)


def _closes(address: str) -> bool:
    """Whether the bracket at the end of an address is one that the address itself opened."""
    return address[-1] == ")" and address.count("(") >= address.count(")")
