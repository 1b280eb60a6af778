"""Markdown as mail wants it: no raw HTML, Japanese line breaks and emphasis that work, and buttons.

Two things that CommonMark gets wrong for Japanese are put right: a line break between two Japanese characters is no
space, and `**「点検ノート」**は` is bold although punctuation stands inside the stars and a letter outside.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_ESCAPED = {code: f"\\{chr(code)}" for code in range(0x21, 0x7F) if not chr(code).isalnum()}
_PLAIN = re.compile(
    r"https?://[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?){0,3}(?::[0-9]{1,5})?"
    r"(?:/[A-Za-z0-9/._~?&=-]*)?"
)
"""An address that stays as it is."""


def shown(value: str) -> str:
    """A value as a mail shows it: in one line, without control characters."""
    if not value.replace("\u3000", " ").isprintable():
        value = "".join(
            " " if unicodedata.category(letter)[0] == "C" and letter not in "\u200d\u200c" else letter for letter in value
        )
    return " ".join(value.split())


def escape_markdown(value: str) -> str:
    """A value as Markdown that shows it letter by letter.

    >>> escape_markdown("*x* <b> [a](javascript:alert)")
    '\\\\*x\\\\* \\\\<b\\\\> \\\\[a\\\\]\\\\(javascript\\\\:alert\\\\)'
    """
    return shown(value).translate(_ESCAPED)


def to_html(markdown: str) -> str:
    """The HTML of a mail's body. A bold link alone in its paragraph, `**[資料を見る](https://…)**`, is a button."""
    html: str = _parser().render(markdown)
    return html


def normal_link(address: str) -> str:
    """An address as it looks in a mail's HTML: what URLs cannot hold is percent-encoded.

    >>> normal_link("https://example.com/白書")
    'https://example.com/%E7%99%BD%E6%9B%B8'
    """
    return address if _PLAIN.fullmatch(address) else _parser().normalizeLink(address)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.core.ruler.push("buttons", _buttons)
    parser.core.ruler.push("untracked", _untracked)
    parser.add_render_rule("softbreak", _softbreak)
    return parser


def is_wide(letter: str) -> bool:
    """Chinese, Japanese or Korean, punctuation and full-width forms included."""
    return unicodedata.east_asian_width(letter) in "WF"


def _emphasis(state: StateInline, silent: bool) -> bool:
    """CommonMark's rule for `*` and `_`, with a neighbour from CJK never spoiling it."""
    marker = state.src[state.pos]
    if silent or marker not in "_*":
        return False
    scanned = state.scanDelims(state.pos, marker == "*")
    can_open, can_close = scanned.can_open, scanned.can_close
    end = state.pos + scanned.length
    before = state.src[state.pos - 1] if state.pos > 0 else " "
    after = state.src[end] if end < state.posMax else " "
    if marker == "*" and (is_wide(before) or is_wide(after)):
        can_open, can_close = can_open or not after.isspace(), can_close or not before.isspace()
    for _ in range(scanned.length):
        token = state.push("text", "", 0)
        token.content = marker
        state.delimiters.append(
            Delimiter(
                marker=ord(marker),
                length=scanned.length,
                token=len(state.tokens) - 1,
                end=-1,
                open=can_open,
                close=can_close,
            )
        )
    state.pos += scanned.length
    return True


def _buttons(state: StateCore) -> None:
    """A table cell around the link, because Outlook draws padding for cells and not for links."""
    tokens = state.tokens
    for at in range(len(tokens) - 2):
        opening, inline, closing = tokens[at : at + 3]
        if opening.type != "paragraph_open" or inline.type != "inline" or closing.type != "paragraph_close":
            continue
        children = [child for child in inline.children or [] if child.type != "text" or child.content]
        kinds = [child.type for child in children]
        if (
            kinds[:2] != ["strong_open", "link_open"]
            or kinds[-2:] != ["link_close", "strong_close"]
            or "link_open" in kinds[2:]
        ):
            continue
        children[1].attrSet("class", "button-link")
        inline.children = children[1:-1]
        opening.type, opening.tag = "html_block", ""
        opening.content = (
            '<table role="presentation" class="action" cellpadding="0" cellspacing="0" border="0">'
            '<tr><td class="button" align="center">'
        )
        closing.type, closing.tag, closing.content = "html_block", "", "</td></tr></table>\n"


def _untracked(state: StateCore) -> None:
    """`[規程](https://… "untracked")`: the mark of a link that is not tracked (`mebae.mail.links`), and no title."""
    for inline in state.tokens:
        for token in inline.children or []:
            if token.type == "link_open" and str(token.attrGet("title") or "").strip().lower() == "untracked":
                del token.attrs["title"]
                token.attrSet("data-untracked", "")


def _softbreak(renderer: RendererHTML, tokens: Sequence[Token], at: int, options: OptionsDict, env: EnvType) -> str:
    before = next((token.content for token in reversed(tokens[:at]) if token.content), "")
    after = next((token.content for token in tokens[at + 1 :] if token.content), "")
    return "" if before and after and is_wide(before[-1]) and is_wide(after[0]) else "\n"
