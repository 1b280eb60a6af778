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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mebae.mail.links import Links, Tracking, our_pages, place_links, with_marks
from mebae.mail.markdown import to_html
from mebae.mail.page import html_to_text, inline_css
from mebae.mail.shapes import finish
from mebae.mail.slots import RECORDER, Recorder, Unsafe
from mebae.mail.source import MailSource, parse_layout, parse_mail
from mebae.mail.templating import BrokenMail, bags, fill

if TYPE_CHECKING:
    from mebae.store.tables import Company, Lead

__all__ = [
    "BrokenMail",
    "MailSource",
    "Rendered",
    "Sender",
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
}  # fmt: skip
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


def render(
    mail: MailSource, layout: str, values: Mapping[str, Any], *, tracking: Tracking | None = None, plainly: bool = False
) -> Rendered:
    """One lead's mail. Raises `BrokenMail` (code `mail-invalid`, the reason in `detail`).

    Args:
        mail: from `parse_mail`.
        layout: the layout's source.
        values: `lead` (see `lead_values`), `company` (see `company_values`), `entry` (the start event's properties),
            `scenario`, `sender` (a `Sender`), `unsubscribe_url`, `preferences_url` and `view_url` (each may be missing),
            `language` (of this variant; else the lead's), `time_zone` (else the lead's).
        tracking: what takes the links' place, and the marks that tell who opened it. None: the links as written.
        plainly: each lead's mail for itself, ten times slower. The bytes are the same (`mebae.mail.shapes`).
    """
    sender = values.get("sender")
    if not isinstance(sender, Sender):
        raise BrokenMail(f"{mail.where}: no sender is set")
    lead = values.get("lead") or {}
    plain: dict[str, Any] = _NOTHING | dict(values) | {
        "language": values.get("language") or lead.get("language") or "ja",
        "time_zone": values.get("time_zone") or lead.get("time_zone"),
    }  # fmt: skip
    seen = bags({name: vars(value) if is_dataclass(value) else value for name, value in plain.items()})
    subject = _one_line(fill("line", mail.subject, seen, f"{mail.where}: subject"), f"{mail.where}: subject")
    if not subject.strip():
        raise BrokenMail(f"{mail.where}: the subject is empty")
    preheader = _one_line(fill("line", mail.preheader, seen, f"{mail.where}: preheader"), f"{mail.where}: preheader")
    if mail.sender:
        written = _one_line(fill("line", mail.sender, seen, f"{mail.where}: from"), f"{mail.where}: from")
        sender = _sent_by(written, sender)
        seen = seen | bags({"sender": vars(sender)})
    seen = seen | {"subject": subject, "preheader": preheader}
    ours = our_pages(values)
    try:
        if plainly:
            raise Unsafe("as asked")
        recorder = Recorder()
        page = _page(mail, layout, seen | {RECORDER: recorder}, recorder.piece)
        links = Links(tracking, ours)
        html, text = finish(recorder, page, links)
    except Unsafe:
        page = inline_css(_page(mail, layout, seen, to_html), mail.where)
        links = Links(tracking, ours)
        html, text = place_links(page, links), html_to_text(page, links)
    return Rendered(
        subject=subject.strip(), preheader=preheader, html=with_marks(html, tracking) if tracking else html, text=text,
        topic=mail.topic, sender=sender, forms=mail.forms, links=links.targets,
    )  # fmt: skip


def _page(mail: MailSource, layout: str, seen: dict[str, Any], as_html: Callable[[str], str]) -> str:
    """The filled page, before its styles go to the elements."""
    body = Markup(as_html(fill("markdown", mail.body, seen, mail.where, mail.body_line)))  # noqa: S704
    return fill("html", layout, seen | {"body": body}, f"layout of {mail.where}")


def choose_language(available: Collection[str], wanted: str, fallback: Sequence[str] = ("ja", "en")) -> str:
    """The variant for a lead: its language, that without the region, the one for any language (""), then the fallbacks.

    >>> choose_language(["ja", "en"], "en-GB")
    'en'
    >>> choose_language(["ja", ""], "fr")
    ''
    >>> choose_language(["ja", "en"], "fr")
    'ja'
    """
    if not available:
        raise BrokenMail("the mail has no text in any language")
    by_tag = {language.casefold().replace("_", "-"): language for language in sorted(available)}
    tag = (wanted or "").strip().casefold().replace("_", "-")
    while tag:
        if tag in by_tag:
            return by_tag[tag]
        tag = tag.rpartition("-")[0]
    return next((by_tag[name] for name in ("", *map(str.casefold, fallback)) if name in by_tag), min(available))


def lead_values(lead: Lead) -> dict[str, Any]:
    """What a mail may say of a lead. Its own attributes never hide a field."""
    return dict(lead.attributes) | {
        "id": lead.id, "email": lead.email, "name": lead.name, "company": lead.company, "title": lead.title,
        "industry": lead.industry, "company_size": lead.company_size, "language": lead.language,
        "time_zone": lead.time_zone, "score": lead.score, "stage": lead.stage, "qualification": lead.qualification,
        "tags": list(lead.tags), "rank": lead.rank, "industry_group": lead.industry_group, "topics": list(lead.topics),
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
