"""What a marketing mail must show by law (特定電子メール法 第4条 and its ordinance, CAN-SPAM §5(a)(5)), checked on what was rendered.

The sender's name, that one may refuse further mail with the address (URL) where, the postal address, and where complaints and
questions go. The check reads what the recipient reads, the HTML and the text part each; it fails closed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import lxml.html  # type: ignore[import-untyped]
import structlog

from mebae.mail.outgoing import MailSettings
from mebae.mail.rendering import BrokenMail, Rendered, Sender

FOOTER_MISSING = "footer-missing"
"""The code of the refusal, with the missing parts in the ledger's `raw`."""

log = structlog.get_logger()

_UNSEEN = ("head", "style", "script", "title", "template", "noscript")
_HIDDEN = re.compile(r"display:none|visibility:hidden|opacity:0(?:\.0+)?(?:;|$)")
_SIZE = re.compile(r"(?:^|;)font-size:(?P<nothing>0(?:px|pt|em|rem|%)?(?:!important)?(?:;|$))?")
"""Of letters; those inside may have another (MJML makes cells of size 0 around every text)."""


def lacking(settings: MailSettings) -> tuple[str, ...]:
    """The settings without which no marketing mail can show its footer, by their variables; empty if all is there."""
    sender = settings.sender
    given = {
        "MEBAE_SENDER_NAME": sender.name,
        "MEBAE_SENDER_POSTAL": sender.postal,
        "MEBAE_SENDER_CONTACT": sender.contact,
        "MEBAE_PUBLIC_URL": settings.public_url,
        "MEBAE_TOKEN_KEYS": settings.tokens,
    }
    return tuple(name for name, value in given.items() if not (value.strip() if isinstance(value, str) else value))


def told_lacking(settings: MailSettings) -> tuple[str, ...]:
    """`lacking`, said in the log: mail that waits for ever is lost in silence."""
    names = lacking(settings)
    if names:
        log.error(
            "mail.footer_unset", settings=", ".join(names), effect="marketing mail waits and none goes out",
            cure="set them and start the worker anew; the law wants what they say in every mail",
        )  # fmt: skip
    return names


def check(rendered: Rendered, sender: Sender, unsubscribe_url: str) -> None:
    """Raises `BrokenMail` (code `footer-missing`) for a mail that does not show all; arguments as for `missing`.

    Where an element stands and whether it is seen is a matter of the shape that a text's mails have in common: that is looked
    at once. A value of a lead is text in its place, and moves or hides nothing.
    """
    shape, key = rendered.shape, (FOOTER_MISSING, sender, rendered.sender)
    if (
        shape is not None
        and key in shape.passed
        and unsubscribe_url in rendered.html
        and unsubscribe_url in rendered.text
    ):
        return
    lacks = missing(rendered, sender, unsubscribe_url)
    if lacks:
        raise BrokenMail(f"the mail does not show what the law wants: {', '.join(lacks)}", FOOTER_MISSING)
    if shape is not None:
        shape.passed.add(key)


def missing(rendered: Rendered, sender: Sender, unsubscribe_url: str) -> tuple[str, ...]:
    """What the mail does not show that it must, each with the part, such as `postal address (text)`; empty if all is there.

    `sender`: that of the settings, whose name the law wants, whatever a mail's `from:` says. `unsubscribe_url`: the link's
    address as the mail has it.
    """
    html, links = _seen(rendered.html)
    shown = {"html": html, "text": rendered.text} if rendered.html else {"text": rendered.text}
    linked = {
        "html": bool(unsubscribe_url) and unsubscribe_url in links,
        "text": bool(unsubscribe_url)
        and re.search(rf"{re.escape(unsubscribe_url)}(?![\w/?#=&%.-]*[\w/=&%-])", rendered.text) is not None,
    }
    found = []
    for part, words in shown.items():
        plain = _plain(words)
        for name, wanted in (
            ("sender's name", sender.name), ("postal address", sender.postal), ("contact for complaints", sender.contact),
        ):  # fmt: skip
            if not _plain(wanted) or _plain(wanted) not in plain:
                found.append(f"{name} ({part})")
        if not linked[part]:
            found.append(f"opt-out link ({part})")
    return tuple(found)


def _seen(html: str) -> tuple[str, set[str]]:
    """The text of a page that a reader sees, and where its links lead that have a text."""
    words: list[str] = []
    links: set[str] = set()
    for element in _visible(lxml.html.document_fromstring(html or "<p></p>")):
        if element.tag == "a" and (href := element.get("href")) and element.text_content().strip():
            links.add(href)
        words.append(element.text or "")
        words += [child.tail or "" for child in element]
    return " ".join(words), links


def _visible(element: Any, sized: bool = True) -> Iterator[Any]:
    """An element and those in it, without what is not shown. `sized`: whether letters have a size where it stands."""
    if not isinstance(element.tag, str) or element.tag in _UNSEEN or element.get("hidden") is not None:
        return
    style = re.sub(r"\s", "", element.get("style", "").lower())
    if _HIDDEN.search(style):
        return
    for size in _SIZE.finditer(style):
        sized = not size["nothing"]
    if sized:
        yield element
    for child in element:
        yield from _visible(child, sized)


def _plain(words: str) -> str:
    """As it is compared: without width, case and white space, since lines are broken anywhere."""
    return "".join(unicodedata.normalize("NFKC", words).casefold().split())
