"""A mail as its author wrote it: front matter, and the body.

`from:` overrides the sender's name (`佐藤（点検ノート）`), address, or both (`佐藤 <sato@example.com>`); `form:` or
`forms:` name the forms that the mail carries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from mebae.errors import did_you_mean
from mebae.mail.templating import NO_TEXT, BrokenMail, check_template

SOURCE_LIMIT = 200_000
"""Characters of a mail's or layout's source."""

_KEYS = ("subject", "preheader", "topic", "from", "form", "forms")
_FRONT = re.compile(r"\A---[ \t]*\n(?P<front>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


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
    _check_text(source, where)
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
    _check_text(source, where)
    check_template("html", source, where)
    if not re.search(r"\{\{-?\s*body\b", source):
        raise BrokenMail(f"{where}: a layout must show {{{{ body }}}} somewhere")


def _check_text(source: str, where: str) -> None:
    if len(source) > SOURCE_LIMIT:
        raise BrokenMail(f"{where}: longer than {SOURCE_LIMIT:,} characters")
    if found := NO_TEXT.search(source):
        line = source.count("\n", 0, found.start()) + 1
        raise BrokenMail(f"{where}, line {line}: a control character (U+{ord(found[0]):04X}): delete it")


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
