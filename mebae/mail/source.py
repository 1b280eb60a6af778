"""A mail as its author wrote it: front matter, and a body in one of four formats.

| format | body |
| --- | --- |
| `markdown` | Markdown, laid out by a layout |
| `text` | plain text, sent as such: a mail that looks as if somebody typed it |
| `html` | a whole HTML page (`thanks.ja.html`) |
| `mjml` | a whole MJML page (`thanks.ja.mjml`) |

`from:` overrides the sender's name (`佐藤（点検ノート）`), address, or both (`佐藤 <sato@example.com>`); `form:` or
`forms:` name the forms that the mail carries; `layout:` one of `scenarios/layouts/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import yaml

from mebae.errors import did_you_mean
from mebae.mail.mjml import check_mjml
from mebae.mail.slots import QUOTED, TAG
from mebae.mail.template_checks import check_template
from mebae.mail.templating import NO_TEXT, BrokenMail

SOURCE_LIMIT = 200_000
"""Characters of a mail's or layout's source."""
Format = Literal["markdown", "text", "html", "mjml"]
LAYOUT = "default"
"""The layout of a mail that names none."""

_KEYS = ("subject", "preheader", "topic", "from", "form", "forms", "layout", "format")
_FRONT = re.compile(r"\A---[ \t]*\n(?P<front>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BEFORE = re.compile(r"(?:\s+|\{#.*?#\}|\{%.*?%\}|<\?xml.*?\?>|<!--.*?-->)*", re.DOTALL)
_PAGE = re.compile(r"<(?:!doctype\s+html|html|(?P<mjml>mjml))\b", re.IGNORECASE)
_DUTIES = ("sender.name", "sender.postal", "sender.contact", "unsubscribe_url")


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
    format: Format = "markdown"
    layout: str = LAYOUT
    """Of a Markdown mail."""
    layout_line: int = 1
    blocks: tuple[tuple[str, int], ...] = ()
    """The blocks that it shows, each with the line."""


def parse_mail(source: str, where: str) -> MailSource:
    """Reads a mail. Raises `BrokenMail` for front matter, syntax, filters and names that cannot be right for any lead.

    The format is told by `format: text` or by how the body begins (`<!doctype html>`, `<mjml>`), so that a published text
    is all there is to know.

    Args:
        source: the file's text.
        where: what errors call it, such as `scenarios/trial/thanks.ja.md`.
    """
    return _parsed(source, where)


@lru_cache(maxsize=512)
def _parsed(source: str, where: str) -> MailSource:
    source = plain(source)
    _check_text(source, where)
    found = _FRONT.match(source)
    if found is None:
        raise BrokenMail(f"{where}, line 1: front matter is missing; begin with ---, subject: …, ---")
    slips: list[str] = []
    front = _front_matter(found["front"], where, slips)
    forms = front.get("forms", front.get("form")) or []
    forms = [forms] if isinstance(forms, str) else forms
    if not isinstance(forms, list) or not all(isinstance(form, str) for form in forms):
        slips.append(f"{where}: 'forms' is a list of form ids")
        forms = []
    lines = {
        key: str(front[key]).strip()
        for key in ("subject", "preheader", "topic", "from", "layout", "format")
        if front.get(key) is not None
    }
    if not lines.get("subject"):
        slips.append(f"{where}: 'subject' is missing")
    for key, text in lines.items():
        if "\n" in text or "\r" in text:
            slips.append(f"{where}: '{key}' must be one line")
        else:
            with noting(slips):
                check_template("line", text, where, _key_line(key, found["front"]))
    body = source[found.end() :]
    if not body.strip():
        raise BrokenMail.of([*slips, f"{where}: the mail has no text"])
    format = _format(lines.get("format"), body, where, _key_line("format", found["front"]), slips)
    layout_line = _key_line("layout", found["front"])
    if "layout" in lines and format != "markdown":
        slips.append(f"{where}, line {layout_line}: a layout is for Markdown; a {_CALLED[format]} is laid out by itself")
    if "preheader" in lines and format == "text":
        line = _key_line("preheader", found["front"])
        slips.append(f"{where}, line {line}: a text mail has no preheader: its first line is shown")
    body_line = source.count("\n", 0, found.end()) + 1
    try:
        blocks = check_template("html" if format == "mjml" else format, body, where, body_line)
    except BrokenMail as broken:
        slips += broken.all
        blocks = broken.so_far or ()
    if format in ("html", "mjml"):
        with noting(slips):
            _check_page(format, body, where, body_line)
    mail = MailSource(
        where=where, subject=lines.get("subject", ""), preheader=lines.get("preheader", ""), topic=lines.get("topic", ""),
        sender=lines.get("from", ""), forms=tuple(forms), body=body, body_line=body_line, format=format,
        layout=lines.get("layout", LAYOUT), layout_line=layout_line, blocks=blocks,
    )  # fmt: skip
    if slips:
        raise BrokenMail.of(slips, mail)
    return mail


_CALLED = {"markdown": "Markdown mail", "text": "text mail", "html": "whole HTML page", "mjml": "whole MJML page"}


@contextmanager
def noting(slips: list[str]) -> Iterator[None]:
    """What is found wrong within is noted, and the next thing is looked at."""
    try:
        yield
    except BrokenMail as broken:
        slips += broken.all


def _format(written: str | None, body: str, where: str, line: int, slips: list[str]) -> Format:
    before = _BEFORE.match(body)
    page = _PAGE.match(body, before.end() if before else 0)
    begins: Format = "mjml" if page and page["mjml"] else "html" if page else "markdown"
    if written is None:
        return begins
    if written not in get_args(Format):
        slips.append(f"{where}, line {line}: format '{written}' is unknown{did_you_mean(written, get_args(Format))}")
        return begins
    if written in ("html", "mjml") and written != begins:
        tag = "<mjml>" if written == "mjml" else "<!doctype html>"
        slips.append(f"{where}, line {line}: a {_CALLED[written]} begins with {tag}")
        return begins
    return written  # type: ignore[return-value]


def _check_page(format: Format, body: str, where: str, line: int) -> None:
    if format == "mjml":
        check_mjml(body, where, line)
    slips: list[str] = []
    with noting(slips):
        _check_quotes(body, where, line)
    if lacking := duties_lacking(body):
        slips.append(f"{where}: the page does not show {', '.join(lacking)}, which the law wants: write {{{{ footer }}}} at its end")
    if slips:
        raise BrokenMail.of(slips)


def _check_quotes(page: str, where: str, line: int) -> None:
    """A value in a tag and not between quotes could write attributes of its own."""
    printed = re.sub(r"\{\{.*?\}\}", lambda found: "\ue000" + "\n" * found[0].count("\n"), page, flags=re.DOTALL)
    bare = re.sub(r"\{[%#].*?[%#]\}|<!--.*?-->", lambda found: "\n" * found[0].count("\n"), printed, flags=re.DOTALL)
    for tag in TAG.finditer(bare):
        if "\ue000" in QUOTED.sub("", tag[0]):
            at = bare.count("\n", 0, tag.start()) + line
            raise BrokenMail(f'{where}, line {at}: put quotes around {{{{ … }}}} in a tag, as in href="{{{{ … }}}}"')


def duties_lacking(page: str) -> tuple[str, ...]:
    """What of the footer a page of its author's own cannot show, as it never names it."""
    named = " ".join(re.findall(r"\{[{%].*?[}%]\}", page, re.DOTALL))
    if re.search(r"\bfooter\b", named):
        return ()
    return tuple(name for name in _DUTIES if name not in named)


def parse_layout(source: str, where: str) -> tuple[tuple[str, int], ...]:
    """Checks a layout: HTML in Jinja that shows `{{ body }}`. Raises `BrokenMail`. Returns the blocks that it shows."""
    source = plain(source)
    _check_text(source, where)
    slips: list[str] = []
    blocks: tuple[tuple[str, int], ...] = ()
    with noting(slips):
        blocks = check_template("layout", source, where)
    if not slips and not re.search(r"\{\{-?\s*body\b", source):  # else it is likelier mistyped
        slips.append(f"{where}: a layout must show {{{{ body }}}} somewhere")
    with noting(slips):
        _check_quotes(source, where, 1)
    if slips:
        raise BrokenMail.of(slips)
    return blocks


def parse_block(source: str, where: str) -> tuple[tuple[str, int], ...]:
    """Checks a block: Markdown in Jinja. Raises `BrokenMail`. Returns the blocks that it shows."""
    source = plain(source)
    _check_text(source, where)
    if _FRONT.match(source):
        raise BrokenMail(f"{where}, line 1: a block has no front matter: only mails have")
    if not source.strip():
        raise BrokenMail(f"{where}: the block has no text")
    return check_template("block", source, where)


def plain(source: str) -> str:
    """A file's text, whatever wrote it."""
    return source.removeprefix("\ufeff").replace("\r\n", "\n")


def _check_text(source: str, where: str) -> None:
    if len(source) > SOURCE_LIMIT:
        raise BrokenMail(f"{where}: longer than {SOURCE_LIMIT:,} characters")
    if found := NO_TEXT.search(source):
        line = source.count("\n", 0, found.start()) + 1
        raise BrokenMail(f"{where}, line {line}: a control character (U+{ord(found[0]):04X}): delete it")


def _front_matter(front: str, where: str, slips: list[str]) -> dict[str, Any]:
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
            slips.append(f"{where}, line {_key_line(str(key), front)}: '{key}' is unknown{did_you_mean(str(key), _KEYS)}")
        elif isinstance(value, dict) or (isinstance(value, list) and key != "forms"):
            slips.append(f"{where}, line {_key_line(key, front)}: '{key}' must be text; put quotes around '{{{{'")
    wrong = {key for key, value in read.items() if isinstance(value, dict) or (isinstance(value, list) and key != "forms")}
    # What is no text still stands for one, so that it is not called missing too.
    return {key: "x" if key in wrong else value for key, value in read.items()}


def _key_line(key: str, front: str) -> int:
    name = re.compile(rf"['\"]?{re.escape(key)}['\"]?\s*:")
    return next((number for number, line in enumerate(front.split("\n"), 2) if name.match(line)), 2)
