"""From a laid-out page to what a mail program shows: styles on the elements, and the text part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import css_inline
import lxml.html  # type: ignore[import-untyped]
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_engine import Inscriptis
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping

from mebae.mail.links import UNTRACKED, Links
from mebae.mail.templating import BrokenMail

RULE = "―" * 12
"""A line across, in text."""

_HIDDEN = re.compile(r"(?:^|;)\s*display\s*:\s*none\b", re.IGNORECASE)


@cache
def _inliner() -> css_inline.CSSInliner:
    # Media queries cannot be inlined, so the style element stays for them alone. Nothing is fetched.
    return css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


def inline_css(page: str, where: str) -> str:
    """The page with its styles on the elements, as mail clients need them. Nothing is fetched."""
    try:
        return _inliner().inline(page)
    except css_inline.InlineError as error:
        raise BrokenMail(f"{where}: the layout's CSS cannot be inlined: {error}") from None


def _link_opens(state: Any, attributes: Mapping[str, str]) -> None:
    target = attributes.get("href", "")
    state.link_target = target if target.startswith(("http:", "https:")) else ""


def _link_closes(state: Any) -> None:
    if state.link_target:
        state.tags[-1].write(f" <{_twice(state.link_target)}>")
        state.link_target = ""


def _text_config() -> ParserConfig:
    css = dict(CSS_PROFILES["strict"])
    # Inscriptis writes on this element: shared, it would mix the mails of two threads.
    css["body"] = HtmlElement(display=Display.inline)
    links = CustomHtmlTagHandlerMapping(start_tag_mapping={"a": _link_opens}, end_tag_mapping={"a": _link_closes})
    return ParserConfig(css=css, display_links=True, custom_html_tag_handler_mapping=links)


def _twice(text: str | None) -> str | None:
    # Inscriptis decodes entities that the HTML parser has decoded already: `&copy=1` in an address would become `©=1`.
    return text.replace("&", "&amp;") if text else text


def html_to_text(page: str, links: Links | None = None) -> str:
    """The text part: layout tables become paragraphs, a link shows its address.

    `data-text="none"` is left out, and so is what is not displayed, unless it is marked `data-text="only"`.

    Args:
        page: best as `inline_css` made it: then hidden elements are known as such, and both parts read entities alike.
        links: says which address a link shows; each shows its own without.
    """
    tree = lxml.html.document_fromstring(page)
    for element in tree.xpath("//*[@data-text='none']"):
        element.drop_tree()
    for element in tree.xpath("//body//*[@style]"):
        if _HIDDEN.search(element.attrib.pop("style")) and element.get("data-text") != "only":
            element.drop_tree()
    for element in tree.xpath(
        "//table[@role='presentation'] | //table[@role='presentation']//*[self::tbody or self::tr or self::td]"
    ):
        if not element.xpath("ancestor-or-self::table[1][not(@role='presentation')]"):
            element.tag = "div"
    for line in tree.xpath("//hr"):
        line.tag, line.text = "p", RULE
    for link in tree.xpath("//a[@href]"):
        _show_address(link, links or Links(None, ()))
    for element in tree.iter():
        element.text, element.tail = _twice(element.text), _twice(element.tail)
    text = Inscriptis(tree, _text_config()).get_text()
    lines = [line.rstrip() for line in text.replace("\u00a0", " ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _show_address(link: Any, links: Links) -> None:
    target = link.get("href")
    placed = links.placed(target, untracked=UNTRACKED in link.attrib)
    if not links.is_its_words(target, link.text_content().strip()):
        link.set("href", placed)
        return
    for child in list(link):
        link.remove(child)
    link.text = placed
    del link.attrib["href"]
