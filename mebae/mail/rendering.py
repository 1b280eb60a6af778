"""From a mail's source to its subject, HTML and text.

A mail is Markdown with YAML front matter:

```markdown
---
subject: "{{ lead.name | sama }}、資料をお送りします"
preheader: 5分で読める要点もまとめました
topic: product
---
{{ lead.company | default_to("貴社") }}の…

**[資料を読む](https://example.com/paper)**
```

The text part is made from the laid-out HTML, so that footer and links
cannot differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mebae.mail.links import Links, Tracking, our_pages, place_links, with_marks
from mebae.mail.markdown import to_html
from mebae.mail.mjml import mjml_to_html
from mebae.mail.page import html_to_text, inline_css
from mebae.mail.plain import plain_text, words_of
from mebae.mail.shapes import finish
from mebae.mail.shared import Shared, choose_language
from mebae.mail.skeletons import Skeleton
from mebae.mail.slots import RECORDER, Recorder, Unsafe
from mebae.mail.source import MailSource, parse_layout, parse_mail
from mebae.mail.templating import Block, Blocks, BrokenMail, fill, footer, with_blocks
from mebae.mail.values import bags

if TYPE_CHECKING:
    from mebae.store.tables import Company, Lead

__all__ = [
    "Block",
    "BrokenMail",
    "MailSource",
    "Rendered",
    "Sender",
    "Shared",
    "Tracking",
    "choose_language",
    "company_values",
    "html_to_text",
    "inline_css",
    "lead_values",
    "parse_layout",
    "parse_mail",
    "render",
]

_NOTHING: dict[str, Any] = {
    "company": {}, "entry": {}, "scenario": {}, "unsubscribe_url": None, "preferences_url": None, "view_url": None,
    "now": None, "piece": None, "related": (),
}  # fmt: skip
_HOUSE = Shared({})
_ADDRESS = re.compile(r"(?P<name>.*?)\s*<(?P<email>[^<>\s]+@[^<>\s]+)>|(?P<bare>[^<>\s]+@[^<>\s]+)", re.DOTALL)


@dataclass(frozen=True)
class Sender:
    """Who a mail is from, and what its footer must say (特定電子メール法, CAN-SPAM)."""

    name: str
    email: str
    postal: str = ""
    contact: str = ""
    """Where complaints and questions go: an address, a telephone number or a page."""


@dataclass(frozen=True)
class Rendered:
    """A mail for one lead."""

    subject: str
    preheader: str
    html: str
    text: str
    topic: str
    sender: Sender
    forms: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    """The targets of the links that are tracked (or would be), each once."""
    shape: Skeleton | None = field(default=None, compare=False, repr=False)
    """What other leads' mails of the same text have in common with it; None where it was laid out for itself."""


def render(
    mail: MailSource,
    layout: str,
    values: Mapping[str, Any],
    *,
    blocks: Mapping[str, Block] | None = None,
    tracking: Tracking | None = None,
    plainly: bool = False,
) -> Rendered:
    """One lead's mail. Raises `BrokenMail` (code `mail-invalid`, the reason in `detail`).

    Args:
        mail: from `parse_mail`.
        layout: the source of the layout that the mail names (`mail.layout`); only a Markdown mail is laid out by one.
        values: `lead` (see `lead_values`), `company` (see `company_values`), `entry` (the start event's properties),
            `scenario`, `sender` (a `Sender`), `unsubscribe_url`, `preferences_url` and `view_url` (each may be missing),
            `language` (of this variant; else the lead's), `time_zone` (else the lead's), `now` (aware, the world's time).
        blocks: those of the mail's language (`Shared.blocks_for`); those of this house alone if left out.
        tracking: what takes the links' place, and the marks that tell who opened it. None: the links as written.
        plainly: each lead's mail for itself, ten times slower. The bytes are the same (`mebae.mail.shapes`).
    """
    sender = values.get("sender")
    if not isinstance(sender, Sender):
        raise BrokenMail(f"{mail.where}: no sender is set")
    lead = values.get("lead") or {}
    language = values.get("language") or lead.get("language") or "ja"
    plain: dict[str, Any] = _NOTHING | dict(values) | {
        "language": language, "time_zone": values.get("time_zone") or lead.get("time_zone"),
    }  # fmt: skip
    seen = bags({name: vars(value) if is_dataclass(value) else value for name, value in plain.items()})
    subject = _one_line(fill("line", mail.subject, seen, f"{mail.where}: subject"), f"{mail.where}: subject")
    if not subject.strip():
        raise BrokenMail(f"{mail.where}: the subject is empty")
    preheader = _one_line(fill("line", mail.preheader, seen, f"{mail.where}: preheader"), f"{mail.where}: preheader")
    if mail.sender:
        written = _one_line(fill("line", mail.sender, seen, f"{mail.where}: from"), f"{mail.where}: from")
        sender = _sent_by(written, sender)  # of the envelope; in the footer stands whose mail it is by law
    if blocks is None:
        blocks = _HOUSE.blocks_for(language)
    seen = seen | {"subject": subject, "preheader": preheader}
    html, text, links, shape = _body(mail, layout, seen, blocks, Links(tracking, our_pages(values)), plainly)
    return Rendered(
        subject=subject.strip(), preheader=preheader, html=with_marks(html, tracking) if tracking and html else html,
        text=text, topic=mail.topic, sender=sender, forms=mail.forms, links=links.targets, shape=shape,
    )  # fmt: skip


def _body(
    mail: MailSource, layout: str, seen: Mapping[str, Any], blocks: Mapping[str, Block], links: Links, plainly: bool
) -> tuple[str, str, Links, Skeleton | None]:
    """HTML (empty for a text mail), text, the links met, and the shape if others may have the same."""
    if mail.format == "text":
        return "", plain_text(mail, with_blocks(seen, Blocks(blocks, to_html, words_of)), links), links, None
    mjml = mail.format == "mjml"
    try:
        if plainly:
            raise Unsafe("as asked")
        recorder = Recorder()
        page = _page(mail, layout, {**seen, RECORDER: recorder}, blocks, recorder.piece)
        tried = links.again()
        html, text, shape = finish(recorder, page, tried, mjml=mjml)
        return html, text, tried, shape
    except Unsafe:
        page = _page(mail, layout, seen, blocks, to_html)
        page = inline_css(mjml_to_html(page, mail.where) if mjml else page, mail.where)
        return place_links(page, links), html_to_text(page, links), links, None


def _page(
    mail: MailSource,
    layout: str,
    seen: Mapping[str, Any],
    blocks: Mapping[str, Block],
    as_html: Callable[[str], str],
) -> str:
    """The filled page, before its styles go to the elements."""
    seen = with_blocks(seen, Blocks(blocks, as_html, words_of))
    where, source = mail.where, mail.body
    if mail.format == "markdown":
        seen["body"] = Markup(as_html(fill("markdown", mail.body, seen, mail.where, mail.body_line)))  # noqa: S704
        where, source = f"layout '{mail.layout}' of {mail.where}", layout
    if "footer" in source:
        seen["footer"] = footer(seen)
    return fill("html", source, seen, where, 1 if source is layout else mail.body_line)


def lead_values(lead: Lead) -> dict[str, Any]:
    """What a mail may say of a lead. Its own attributes never hide a field."""
    return dict(lead.attributes) | {
        "id": lead.id, "email": lead.email, "name": lead.name, "company": lead.company, "title": lead.title,
        "industry": lead.industry, "company_size": lead.company_size, "language": lead.language,
        "time_zone": lead.time_zone, "score": lead.score, "stage": lead.stage, "qualification": lead.qualification,
        "tags": list(lead.tags), "rank": lead.rank, "industry_group": lead.industry_group, "topics": list(lead.topics),
        "user_id": lead.user_id, "excluded": list(lead.excluded), "created_at": lead.created_at, "active_at": lead.active_at,
        "contacted_at": lead.contacted_at, "first_source": lead.first_source, "first_campaign": lead.first_campaign,
        "last_source": lead.last_source, "last_campaign": lead.last_campaign,
    }  # fmt: skip


def company_values(company: Company | None, lead: Lead | None = None) -> dict[str, Any]:
    """What a mail may say of the lead's firm: what is known of it, and what the lead itself said where nothing is."""
    return {
        "id": company.id if company else None,
        "name": (company.name if company else None) or (lead.company if lead else None),
        "domain": company.domain if company else None,
        "industry": lead.industry if lead else None,
        "size": lead.company_size if lead else None,
    }


def _sent_by(written: str, sender: Sender) -> Sender:
    found = _ADDRESS.fullmatch(written.strip())
    if found is None:
        return replace(sender, name=written.strip())
    if found["bare"]:
        return replace(sender, email=found["bare"])
    return replace(sender, name=found["name"].strip(' "') or sender.name, email=found["email"])


def _one_line(text: str, where: str) -> str:
    """Header text. A line break in it would begin another header, so it is refused and not repaired."""
    if not text.isprintable() and any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise BrokenMail(f"{where} holds a line break or control character")
    return text
