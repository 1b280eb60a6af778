"""The language of forms: `from mebae.forms_language import *` is all that `scenarios/forms.py` needs.

A form is what a page of your web site posts to `/forms/<id>`. It is data, like a scenario: what must be filled in, what a field
means, which words the visitor agrees to, and where the browser goes afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mebae.errors import AuthoringError

__all__ = ["Consent", "Form"]


@dataclass(frozen=True, init=False)
class Consent:
    """A box to be ticked, and the words beside it. They are kept with the consent, as they were shown.

    When the wording changes, put the old one into `earlier`: a page that still shows it is recognised, and the record is right.

    >>> Consent(field="agree", wording="製品情報のメールを受け取る").field
    'agree'
    """

    field: str
    wording: str
    earlier: tuple[str, ...]

    def __init__(self, *, field: str, wording: str, earlier: Iterable[str] = ()) -> None:
        object.__setattr__(self, "field", _text(field, 'Consent(field="agree", …)'))
        object.__setattr__(self, "wording", _text(wording, 'Consent(…, wording="製品情報のメールを受け取る")'))
        object.__setattr__(self, "earlier", _texts(earlier, 'earlier=["…"]'))

    @property
    def mark(self) -> str:
        """What the page says of the wording that it shows."""
        return mark_of(self.wording)


@dataclass(frozen=True, init=False)
class Form:
    """A form of your web site.

    - `redirect`: where the browser goes after it was sent, an address beginning with https://; a page of ours if left out.
    - `fields`: the fields as the page shows them, for the HTML that `mebae forms` prints. Others are taken too.
    - `required`: those that may not stay empty. An address is always needed.
    - `means`: what a field's name does not tell by itself: a lead's field (`"company"`), another name for the answer
      (`"timeframe"`), or `"lead.timeframe"` to keep the answer on the lead too.
    - `downloads`: the content that the visitor gets, which makes it a `Content Downloaded` as well.
    - `honeypot`: a field that people do not see; whoever fills it in is a program.
    - `language`: that of the page. Who fills it in gets mails in this language; left out, it says nothing.

    >>> Form("contact", title="お問い合わせ", required=["会社名"]).required
    ('会社名',)
    """

    id: str
    title: str
    redirect: str
    fields: tuple[str, ...]
    required: tuple[str, ...]
    means: Mapping[str, str]
    downloads: str
    consent: Consent | None
    honeypot: str
    language: str

    def __init__(
        self,
        id: str,
        *,
        title: str = "",
        redirect: str = "",
        fields: Iterable[str] = (),
        required: Iterable[str] = (),
        means: Mapping[str, str] | None = None,
        downloads: str = "",
        consent: Consent | None = None,
        honeypot: str = "",
        language: str = "",
    ) -> None:
        object.__setattr__(self, "id", _text(id, 'Form("contact", …)'))
        for name, value in (("title", title), ("redirect", redirect), ("downloads", downloads), ("honeypot", honeypot)):
            object.__setattr__(self, name, _text(value, f'{name}="…"'))
        object.__setattr__(self, "language", _text(language, 'language="ja"'))
        object.__setattr__(self, "fields", _texts(fields, 'fields=["会社名", "メールアドレス"]'))
        object.__setattr__(self, "required", _texts(required, 'required=["会社名"]'))
        given: Any = means or {}
        if not isinstance(given, Mapping) or not all(isinstance(one, str) for pair in given.items() for one in pair):
            raise AuthoringError('means= takes names and what they mean: means={"ご所属": "company"}')
        object.__setattr__(self, "means", dict(given))
        if consent is not None and not isinstance(consent, Consent):
            raise AuthoringError('consent= takes a Consent: consent=Consent(field="agree", wording="…")')
        object.__setattr__(self, "consent", consent)


def mark_of(wording: str) -> str:
    """A short sign for a wording, which pages carry in the hidden field `_wording`."""
    return hashlib.sha256(wording.encode()).hexdigest()[:12]


def _text(value: object, spelling: str) -> str:
    if not isinstance(value, str):
        raise AuthoringError(f"{value!r} is no text: write {spelling}")
    return value


def _texts(values: object, spelling: str) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise AuthoringError(f"{values!r} is no list: write {spelling}")
    return tuple(_text(value, spelling) for value in values)
