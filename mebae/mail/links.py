"""The links of a mail: which ones are tracked, and what takes their place.

Every `http:` and `https:` link of body and layout is tracked, but for the pages of ours (unsubscribe, preferences, view in
the browser) and what its author marked: `[社内規程](https://example.com/rules "untracked")` in Markdown,
`<a href="…" data-untracked>` in HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from mebae.mail.markdown import normal_link

UNTRACKED = "data-untracked"
"""The attribute of a link that is left as it is. It does not reach the lead."""

_LINK = re.compile(
    r"<!--.*?-->|<(?P<raw>style|script|noscript|iframe|noframes|noembed|xmp)\b.*?</(?P=raw)>"
    r'|<(?:a|area)(?P<attributes>(?:\s+[^\s=>]+="[^"]*")+)',
    re.DOTALL,
)
"""In HTML as css_inline writes it: every attribute has a value, in double quotes. What is no link is skipped whole."""
_BODY = re.compile(r'<body(?:\s+[^\s=>]+="[^"]*")*\s*>')
_HREF = re.compile(r'(?<=\shref=")[^"]*')
_MARK = re.compile(rf'\s{UNTRACKED}="[^"]*"')
_PAGES = ("unsubscribe_url", "preferences_url", "view_url")
_PROGRAM = re.compile(r"(?:javascript|vbscript|data|file):", re.IGNORECASE)
_HIDDEN = "display:none;max-height:0;max-width:0;overflow:hidden;mso-hide:all"


@dataclass(frozen=True)
class Tracking:
    """What makes one lead's mail measurable."""

    link: Callable[[str], str]
    """The address that takes a target's place: for the same target always the same."""
    pixel: str | None = None
    """The address of the image that says that the mail was opened."""
    trap: str | None = None
    """An address that no person sees: who asks for it is a machine (T3)."""


class Links:
    """The links of one mail, as they are met."""

    def __init__(self, tracking: Tracking | None, ours: Collection[str]) -> None:
        self._tracking, self._ours = tracking, ours
        self._placed: dict[str, str] = {}

    @property
    def targets(self) -> tuple[str, ...]:
        """What is tracked, or would be; each once, in the order met."""
        return tuple(self._placed)

    def placed(self, target: str, *, untracked: bool = False) -> str:
        """What stands in the mail where its author wrote `target`."""
        target = target.strip()
        if untracked or target in self._ours or not target.lower().startswith(("http://", "https://")):
            return harmless(target)
        if target not in self._placed:
            self._placed[target] = target if self._tracking is None else self._tracking.link(target)
        return self._placed[target]

    def again(self) -> Links:
        """The same, with no link met yet."""
        return Links(self._tracking, self._ours)

    def is_its_words(self, target: str, words: str) -> bool:
        """Whether a link's words are its address, which the text part shows once."""
        return target == words


def harmless(target: str) -> str:
    """The address, but for one that would run as a program: a lead may have typed it.

    >>> harmless("java script:alert(1)"), harmless("tel:0312345678")
    ('#', 'tel:0312345678')
    """
    return "#" if _PROGRAM.match(re.sub(r"[\x00-\x20]", "", target)) else target


def our_pages(values: Mapping[str, object]) -> frozenset[str]:
    """The addresses that lead back to us, as they look in a mail."""
    known = [value for name in _PAGES if isinstance(value := values.get(name), str)]
    return frozenset([*known, *map(normal_link, known)])


def place_links(page: str, links: Links) -> str:
    """The page (from `inline_css`) with what takes its links' place."""

    def place(found: re.Match[str]) -> str:
        attributes = found["attributes"]
        if not attributes:
            return found[0]
        untracked = f" {UNTRACKED}=" in attributes
        tag = _MARK.sub("", found[0]) if untracked else found[0]
        return _HREF.sub(
            lambda href: attribute(links.placed(html.unescape(href[0]), untracked=untracked)), tag, count=1
        )

    return _LINK.sub(place, page)


def with_marks(page: str, tracking: Tracking) -> str:
    """The page with the trap at its beginning, as whoever follows all links mostly does so in order, and the image at its end."""
    if tracking.trap:
        trap = (
            f'<div data-text="none" aria-hidden="true" style="{_HIDDEN}">'
            f'<a href="{attribute(tracking.trap)}" rel="nofollow" aria-hidden="true" tabindex="-1"></a></div>'
        )
        body = _BODY.search(page)
        at = body.end() if body is not None else 0
        page = page[:at] + trap + page[at:]
    if tracking.pixel:
        # Not `display:none`: some mail programs fetch no image that is not shown.
        image = (
            f'<img data-text="none" src="{attribute(tracking.pixel)}" width="1" height="1" alt="" '
            'style="border:0;width:1px;height:1px">'
        )
        before, end, after = page.rpartition("</body>")
        page = f"{before}{image}{end}{after}" if end else page + image
    return page


def attribute(value: str) -> str:
    """A value between double quotes, as css_inline would write it."""
    return value.replace("&", "&amp;").replace("\u00a0", "&nbsp;").replace('"', "&quot;")
