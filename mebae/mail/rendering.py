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

`from:` overrides the sender's name (`佐藤（点検ノート）`), address, or both (`佐藤 <sato@example.com>`); `form:` or
`forms:` name the forms that the mail carries. The text part is made from the laid-out HTML, so that footer and links
cannot differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import css_inline
import lxml.html  # type: ignore[import-untyped]
import yaml
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_engine import Inscriptis
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping
from markupsafe import Markup

from mebae.errors import did_you_mean
from mebae.mail.links import UNTRACKED, Links, Tracking, our_pages, place_links, with_marks
from mebae.mail.markdown import to_html
from mebae.mail.templating import BrokenMail, bags, check_template, fill

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
    "lead_values",
    "parse_layout",
    "parse_mail",
    "render",
]

SOURCE_LIMIT = 200_000
"""Characters of a mail's or layout's source."""

_NOTHING: dict[str, Any] = {
    "company": {}, "entry": {}, "scenario": {}, "unsubscribe_url": None, "preferences_url": None, "view_url": None,
}  # fmt: skip
_KEYS = ("subject", "preheader", "topic", "from", "form", "forms")
_FRONT = re.compile(r"\A---[ \t]*\n(?P<front>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_HIDDEN = re.compile(r"(?:^|;)\s*display\s*:\s*none\b", re.IGNORECASE)
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
class MailSource:
    """A mail as its author wrote it, checked."""

    where: str
    subject: str
    body: str
    preheader: str = ""
    topic: str = ""
    sender: str = ""
    forms: tuple[str, ...] = ()
    body_line: int = 1
    """The line of the file that the body begins on."""


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


def parse_mail(source: str, where: str) -> MailSource:
    """Reads a mail. Raises `BrokenMail` for front matter, syntax, filters and names that cannot be right for any lead.

    Args:
        source: the file's text.
        where: what errors call it, such as `scenarios/trial/thanks.ja.md`.
    """
    return _parsed(source, where)


@lru_cache(maxsize=512)
def _parsed(source: str, where: str) -> MailSource:
    source = source.removeprefix("\ufeff").replace("\r\n", "\n")
    if len(source) > SOURCE_LIMIT:
        raise BrokenMail(f"{where}: longer than {SOURCE_LIMIT:,} characters")
    found = _FRONT.match(source)
    if found is None:
        raise BrokenMail(f"{where}, line 1: front matter is missing; begin with ---, subject: …, ---")
    front = _front_matter(found["front"], where)
    forms = front.get("forms", front.get("form")) or []
    forms = [forms] if isinstance(forms, str) else forms
    if not isinstance(forms, list) or not all(isinstance(form, str) for form in forms):
        raise BrokenMail(f"{where}: 'forms' is a list of form ids")
    lines = {
        key: str(front[key]).strip() for key in ("subject", "preheader", "topic", "from") if front.get(key) is not None
    }
    if not lines.get("subject"):
        raise BrokenMail(f"{where}: 'subject' is missing")
    for key, text in lines.items():
        if "\n" in text or "\r" in text:
            raise BrokenMail(f"{where}: '{key}' must be one line")
        check_template("line", text, where, _key_line(key, found["front"]))
    mail = MailSource(
        where=where, subject=lines["subject"], preheader=lines.get("preheader", ""), topic=lines.get("topic", ""),
        sender=lines.get("from", ""), forms=tuple(forms), body=source[found.end() :],
        body_line=source.count("\n", 0, found.end()) + 1,
    )  # fmt: skip
    if not mail.body.strip():
        raise BrokenMail(f"{where}: the mail has no text")
    check_template("markdown", mail.body, where, mail.body_line)
    return mail


def parse_layout(source: str, where: str) -> None:
    """Checks a layout: HTML in Jinja that shows `{{ body }}`. Raises `BrokenMail`."""
    if len(source) > SOURCE_LIMIT:
        raise BrokenMail(f"{where}: longer than {SOURCE_LIMIT:,} characters")
    check_template("html", source, where)
    if not re.search(r"\{\{-?\s*body\b", source):
        raise BrokenMail(f"{where}: a layout must show {{{{ body }}}} somewhere")


def _front_matter(front: str, where: str) -> dict[str, Any]:
    try:
        read = yaml.safe_load(front)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 2}" if mark else ""
        raise BrokenMail(
            f"{where}{line}: front matter is no YAML; put quotes around text with '{{{{' or ': ' in it"
        ) from None
    if not isinstance(read, dict):
        raise BrokenMail(f"{where}, line 2: front matter must be 'name: value' lines, subject among them")
    for key, value in read.items():
        if key not in _KEYS:
            raise BrokenMail(
                f"{where}, line {_key_line(str(key), front)}: '{key}' is unknown{did_you_mean(str(key), _KEYS)}"
            )
        if isinstance(value, dict) or (isinstance(value, list) and key != "forms"):
            raise BrokenMail(f"{where}, line {_key_line(key, front)}: '{key}' must be text; put quotes around '{{{{'")
    return read


def _key_line(key: str, front: str) -> int:
    lines = front.split("\n")
    return next((number for number, line in enumerate(lines, 2) if line.lstrip("'\"").startswith(key)), 2)


def render(
    mail: MailSource, layout: str, values: Mapping[str, Any], *, tracking: Tracking | None = None
) -> Rendered:
    """One lead's mail. Raises `BrokenMail` (code `mail-invalid`, the reason in `detail`).

    Args:
        mail: from `parse_mail`.
        layout: the layout's source.
        values: `lead` (see `lead_values`), `company` (see `company_values`), `entry` (the start event's properties),
            `scenario`, `sender` (a `Sender`), `unsubscribe_url`, `preferences_url` and `view_url` (each may be missing),
            `language` (of this variant; else the lead's), `time_zone` (else the lead's).
        tracking: what takes the links' place, and the marks that tell who opened it. None: the links as written.
    """
    sender = values.get("sender")
    if not isinstance(sender, Sender):
        raise BrokenMail(f"{mail.where}: no sender is set")
    lead = values.get("lead") or {}
    plain: dict[str, Any] = _NOTHING | dict(values) | {
        "language": values.get("language") or lead.get("language") or "ja",
        "time_zone": values.get("time_zone") or lead.get("time_zone"),
    }  # fmt: skip
    seen = bags({name: asdict(value) if is_dataclass(value) else value for name, value in plain.items()})  # type: ignore[arg-type]
    subject = _one_line(fill("line", mail.subject, seen, f"{mail.where}: subject"), f"{mail.where}: subject")
    if not subject.strip():
        raise BrokenMail(f"{mail.where}: the subject is empty")
    preheader = _one_line(fill("line", mail.preheader, seen, f"{mail.where}: preheader"), f"{mail.where}: preheader")
    if mail.sender:
        written = _one_line(fill("line", mail.sender, seen, f"{mail.where}: from"), f"{mail.where}: from")
        sender = _sent_by(written, sender)
        seen = seen | bags({"sender": asdict(sender)})
    body = to_html(fill("markdown", mail.body, seen, mail.where, mail.body_line))
    shown = {"body": Markup(body), "subject": subject, "preheader": preheader}  # noqa: S704
    page = inline_css(fill("html", layout, seen | shown, f"layout of {mail.where}"), mail.where)
    links = Links(tracking, our_pages(values))
    html, text = place_links(page, links), html_to_text(page, links)
    return Rendered(
        subject=subject.strip(), preheader=preheader, html=with_marks(html, tracking) if tracking else html, text=text,
        topic=mail.topic, sender=sender, forms=mail.forms, links=links.targets,
    )  # fmt: skip


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
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise BrokenMail(f"{where} holds a line break or control character")
    return text


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
    css["hr"] = HtmlElement(display=Display.block, margin_before=1, margin_after=1, prefix="―" * 12)
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
    for link in tree.xpath("//a[@href]"):
        _show_address(link, links)
    for element in tree.iter():
        element.text, element.tail = _twice(element.text), _twice(element.tail)
    text = Inscriptis(tree, _text_config()).get_text()
    lines = [line.rstrip() for line in text.replace("\u00a0", " ").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _show_address(link: Any, links: Links | None) -> None:
    target = link.get("href")
    placed = target if links is None else links.placed(target, untracked=UNTRACKED in link.attrib)
    if link.text_content().strip() != target:
        link.set("href", placed)
        return
    for child in list(link):  # An address that is its own words is shown once.
        link.remove(child)
    link.text = placed
    del link.attrib["href"]
