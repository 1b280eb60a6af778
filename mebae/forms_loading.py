"""Reads `scenarios/forms.py`, checks it, and reads it again when it changes while the server runs."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from mebae import forms_language
from mebae.errors import Problem, ScenarioError
from mebae.forms import LEAD_FIELDS, OWN, RESERVED, meaning
from mebae.forms_language import Form
from mebae.pyfile import place, read_objects, reporter

log = structlog.get_logger()

FORMS_FILE = "forms.py"
LONGEST_ID = 60

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def load_forms(home: Path) -> dict[str, Form] | None:
    """The forms of a `scenarios` folder by id; None if there is no `forms.py`. `ScenarioError` with every problem of it."""
    path = Path(home).resolve() / FORMS_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    report = reporter(path, problems)
    found = read_objects(path, Form, forms_language.__all__, report)
    if found is not None and not found:
        report('there is no form: write contact = Form("contact", title="お問い合わせ")')
    forms: dict[str, Form] = {}
    for _, form in found or ():
        problems += [
            Problem(file=place(path), step=None, message=f"form '{form.id}': {message}") for message in _wrong(form)
        ]
        if form.id in forms:
            report(f"two forms are called '{form.id}': an id is there once")
        forms[form.id] = form
    if problems:
        raise ScenarioError(problems)
    return forms


def _wrong(form: Form) -> Iterator[str]:
    if not _SLUG.fullmatch(form.id) or len(form.id) > LONGEST_ID:
        yield f'the id is lower-case words joined by hyphens, such as "contact", of {LONGEST_ID} characters at most'
    if form.redirect and not _is_address(form.redirect):
        yield f"redirect='{form.redirect}': write the whole address, such as https://www.example.jp/thanks"
    if form.downloads != form.downloads.strip():
        yield f"downloads='{form.downloads}': without spaces around it"
    if form.language and not _LANGUAGE.fullmatch(form.language):
        yield f"language='{form.language}': write a code such as ja or en"
    if form.consent is not None:
        if not form.consent.field.strip():
            yield 'the consent has no field: write Consent(field="agree", …)'
        if not form.consent.wording.strip():
            yield "the consent has no wording: it is what the visitor agrees to, and what you have to show later"
    yield from _wrong_names(form)


def _wrong_names(form: Form) -> Iterator[str]:
    agree = form.consent.field if form.consent is not None else None
    for name in (*form.fields, *form.required, *form.means, agree or "x", form.honeypot or "x"):
        if not name.strip() or name in RESERVED or name.startswith("_"):
            yield f"a field can not be called '{name}': names that begin with _ are ours"
    for name, target in form.means.items():
        near = difflib.get_close_matches(target, LEAD_FIELDS, n=1, cutoff=0.8)
        if not target.strip() or target in (OWN, "form"):
            yield f"means={{'{name}': '{target}'}}: write a lead's field, or a name for the answer"
        elif target not in LEAD_FIELDS and near:
            yield f"means={{'{name}': '{target}'}}: did you mean '{near[0]}'?"
    if form.honeypot and (
        form.honeypot in (*form.fields, *form.required, agree) or meaning(form, form.honeypot) == "email"
    ):
        yield f"honeypot='{form.honeypot}' is a field that people fill in: take another name, such as website"
    if form.fields:
        meant = {meaning(form, name) for name in form.fields}
        if "email" not in meant:
            yield "no field holds the address: add 'メールアドレス' or 'email' to fields"
        for name in form.required:
            if meaning(form, name) not in meant and name != agree:
                yield f"'{name}' is required, but is none of the fields"
    if agree is not None and agree in form.fields:
        yield f"'{agree}' is the box of the consent: leave it out of fields"


def _is_address(written: str) -> bool:
    if any(char.isspace() or not char.isprintable() for char in written):
        return False
    try:
        parts = urlsplit(written)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)


class FormBook:
    """The forms as the file says them now. A file that is broken changes nothing: the last good forms stay."""

    LOOK_EVERY = 1.0
    """Seconds between two looks at the file."""

    def __init__(self, home: Path) -> None:
        self._home = Path(home)
        self._forms: Mapping[str, Form] = {}
        self._seen: tuple[int, int] | None = (-1, -1)
        self._look_at = 0.0

    def find(self, id: str) -> Form | None:
        self._look()
        return self._forms.get(id)

    def all(self) -> list[Form]:
        self._look()
        return list(self._forms.values())

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + self.LOOK_EVERY
        try:
            found = (self._home / FORMS_FILE).stat()
            seen = (found.st_mtime_ns, found.st_size)
        except OSError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._forms = load_forms(self._home) or {}
        except ScenarioError as error:
            effect = "the forms stay as they were; see `mebae check`"
            log.error("forms.broken", problems=len(error.problems), first=str(error.problems[0]), effect=effect)
        except OSError as error:
            self._seen = (-1, -1)
            log.warning("forms.unreadable", kind=type(error).__name__)
        else:
            log.info("forms.read", forms=sorted(self._forms))
