"""MJML bodies, by the optional package mrml. Nothing is fetched: no includes, no fonts."""

from __future__ import annotations

import re

from mebae.errors import did_you_mean
from mebae.mail.templating import BrokenMail

try:
    import mrml
except ImportError:  # an extra, which who writes Markdown does not need
    mrml = None  # type: ignore[assignment,unused-ignore]

CURE = "MJML needs one more package: pip install 'mebae[mjml]' (or mrml)"

_ELEMENTS = frozenset({
    "mj-accordion", "mj-accordion-element", "mj-accordion-text", "mj-accordion-title", "mj-all", "mj-attributes", "mj-body",
    "mj-breakpoint", "mj-button", "mj-carousel", "mj-carousel-image", "mj-class", "mj-column", "mj-divider", "mj-font", "mj-group",
    "mj-head", "mj-hero", "mj-html-attribute", "mj-html-attributes", "mj-image", "mj-navbar", "mj-navbar-link", "mj-preview",
    "mj-raw", "mj-section", "mj-selector", "mj-social", "mj-social-element", "mj-spacer", "mj-style", "mj-table", "mj-text",
    "mj-title", "mj-wrapper",
})  # fmt: skip
_USED = re.compile(r"</?(mj-[a-z-]+)")


def check_mjml(source: str, where: str, line: int) -> None:
    """Refuses elements that MJML does not have, which would be shown as they stand. Raises `BrokenMail`."""
    if mrml is None:
        raise BrokenMail(f"{where}: {CURE}")
    for used in _USED.finditer(source):
        if used[1] not in _ELEMENTS:
            at = source.count("\n", 0, used.start()) + line
            near = did_you_mean(used[1], _ELEMENTS)
            raise BrokenMail(f"{where}, line {at}: <{used[1]}> is no MJML{near if near.startswith(', did') else ''}")


def mjml_to_html(filled: str, where: str) -> str:
    """The page that MJML describes. Raises `BrokenMail`."""
    if mrml is None:
        raise BrokenMail(f"{where}: {CURE}")
    try:
        return str(mrml.to_html(filled.strip(), mrml.ParserOptions(), mrml.RenderOptions(fonts={})).content)
    except (OSError, ValueError) as error:
        raise BrokenMail(f"{where}: the MJML cannot be read: {error}") from None
