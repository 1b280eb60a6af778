"""What a visitor sent with a form: from the fields of a plain HTML form to events in the words of the Segment spec.

Only what a person may say of itself is written on the lead. A field that is called like a score or a user id is an answer, and
no more than that.
"""

from __future__ import annotations

import hashlib
import html
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from mebae.errors import BadInput
from mebae.events import BY_VERB
from mebae.forms_language import Form, mark_of
from mebae.store.leads import LONGEST_ID, normalise_email
from mebae.store.traits import field_of, heading_key, read_traits

LEAD_FIELDS = (
    "email", "name", "last_name", "first_name", "company", "title", "industry", "company_size", "language", "time_zone",
)  # fmt: skip
"""What a visitor may say of itself."""
OWN = "lead."
RESERVED = ("_wording", "_nonce", "_charset_", "_anonymous_id")
"""Hidden fields that mean something to us; anything else that begins with `_` is passed over."""
UTM = {
    "utm_source": "source",
    "utm_campaign": "name",
    "utm_medium": "medium",
    "utm_term": "term",
    "utm_content": "content",
}

LONGEST_ANSWER = 5_000
"""Characters of one field."""
LARGEST = 24 * 1024
"""Bytes of all that is said: an event holds 32 KB."""
ONCE_WITHIN = 60
"""Seconds within which the same is sent only once: a second click on the button."""

_NO = frozenset({"", "0", "false", "no", "off", "いいえ", "同意しない"})
_SUBMITTED = BY_VERB["submitted"].name
_DOWNLOADED = BY_VERB["downloaded"].name

Wrong = Literal["missing", "no-address", "too-long", "not-agreed"]


@dataclass
class Submission:
    """A form that was sent, read."""

    email: str = ""
    traits: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    agreed: bool = False
    wording: str = ""
    """The words that were agreed to; empty if the page showed some that the form does not know."""
    campaign: dict[str, str] = field(default_factory=dict)
    anonymous_id: str | None = None
    nonce: str = ""
    is_trapped: bool = False
    """The honeypot is filled in."""
    wrong: dict[str, Wrong] = field(default_factory=dict)
    """By field, as the page calls it."""
    unreadable: list[str] = field(default_factory=list)
    """Lead's fields that say something we cannot read; they are kept as answers."""


def meaning(form: Form, name: str) -> str:
    """What a field means: a lead's field, `lead.x`, or the name of an answer. `lead.x` only where the form says so.

    Whoever sends a form may call its fields anything, and must not write on leads by that.

    >>> form = Form("contact", means={"ご所属": "company"})
    >>> meaning(form, "メールアドレス"), meaning(form, "ご所属"), meaning(form, "スコア"), meaning(form, "lead.stage")
    ('email', 'company', 'スコア', 'stage')
    """
    key = heading_key(name)
    for said, target in form.means.items():
        if heading_key(said) == key:
            return target
    while name.startswith(OWN):
        name = name.removeprefix(OWN)
    found = field_of(name)
    return found if found in LEAD_FIELDS else name


def read_submission(form: Form, pairs: Sequence[tuple[str, str]]) -> Submission:
    """Reads the fields of a form, in the order in which the browser sent them."""
    read = Submission()
    said: dict[str, list[str]] = {}
    for name, value in pairs:
        value = value.replace("\r\n", "\n").strip()
        if value and name:
            said.setdefault(name, []).append(value)
    if form.honeypot and form.honeypot in said:
        read.is_trapped = True
        return read
    called = _hidden(form, read, said)
    for name, values in said.items():
        meant = meaning(form, name)
        called.setdefault(meant, name)
        if sum(map(len, values)) > LONGEST_ANSWER:
            read.wrong[name] = "too-long"
        elif meant == "email":
            _address(read, name, values[0])
        elif meant in LEAD_FIELDS:
            read.traits.setdefault(meant, values[0])
        elif meant != "form":
            answer = meant.removeprefix(OWN)
            read.answers.setdefault(answer, values[0] if len(values) == 1 else values)
            if meant.startswith(OWN):
                read.traits.setdefault(answer, read.answers[answer])
    _complete(form, read, called)
    for one in read_traits(read.traits).unreadable:
        read.unreadable.append(one.key)
        read.answers.setdefault(called.get(one.key, one.key), read.traits.pop(one.key, ""))
    if form.language:
        read.traits.setdefault("language", form.language)
    return read


def _hidden(form: Form, read: Submission, said: dict[str, list[str]]) -> dict[str, str]:
    """Takes out what is no answer. What is there, by meaning, with the name that the page gives it."""
    ours = {name: said.pop(name)[0] for name in list(said) if name.startswith("_")}
    read.nonce = ours.get("_nonce", "")[:LONGEST_ID]
    read.anonymous_id = ours.get("_anonymous_id", "")[:LONGEST_ID] or None
    for name, key in UTM.items():
        if name in said:
            read.campaign[key] = said.pop(name)[0][:LONGEST_ID]
    if form.consent is None:
        return {}
    ticked = said.pop(form.consent.field, [""])[0]
    read.agreed = unicodedata.normalize("NFKC", ticked).casefold() not in _NO
    mark = ours.get("_wording", form.consent.mark)
    known = {mark_of(wording): wording for wording in (*form.consent.earlier, form.consent.wording)}
    read.wording = known.get(mark, "")
    return {form.consent.field: form.consent.field} if read.agreed else {}


def _address(read: Submission, name: str, written: str) -> None:
    try:
        read.email = read.email or normalise_email(written)
    except BadInput:
        read.wrong[name] = "no-address"


def _complete(form: Form, read: Submission, called: Mapping[str, str]) -> None:
    """What is missing: an address always."""
    agree = form.consent.field if form.consent is not None else None
    wanted = {meaning(form, name) if name != agree else name: name for name in form.required}
    page = next((name for name in form.fields if meaning(form, name) == "email"), "email")
    for meant, name in {"email": page, **wanted}.items():
        whole_name = meant == "name" and ("last_name" in called or "first_name" in called)
        if meant not in called and not whole_name:
            read.wrong[name] = "not-agreed" if name == agree else "missing"


def key_of(form: Form, read: Submission, minute: int) -> str:
    """The same thing said again has the same key: for ever with a nonce, else within the minute."""
    said = [form.id, read.email, read.traits, read.answers, read.agreed, read.nonce or minute]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def batch_of(form: Form, read: Submission, key: str, *, page: str | None) -> dict[str, Any]:
    """The body of a batch: who it is and what it agreed to, that it sent the form, and what it got for it."""
    context: dict[str, Any] = {}
    if read.campaign:
        context["campaign"] = read.campaign
    if page:
        context["page"] = {"url": page}
    who: dict[str, Any] = {"userId": read.email}
    if read.anonymous_id:
        who["anonymousId"] = read.anonymous_id
    identity = dict(context)
    if read.agreed:
        identity["mebae"] = {"consent": {"how": "form", "source": form.id, "wording": read.wording}}
    events = [
        {"type": "identify", "messageId": f"form:{key}:who", **who, "traits": read.traits, "context": identity},
        _track(who, key, _SUBMITTED, {**read.answers, "form": form.id}, context),
    ]
    if form.downloads:
        events.append(_track(who, key, _DOWNLOADED, {"content": form.downloads, "form": form.id}, context))
    return {"batch": events}


def _track(
    who: Mapping[str, Any], key: str, name: str, properties: dict[str, Any], context: dict[str, Any]
) -> dict[str, Any]:
    message_id = f"form:{key}:{name.lower().replace(' ', '-')}"
    return {
        "type": "track",
        "messageId": message_id,
        **who,
        "event": name,
        "properties": properties,
        "context": context,
    }


def anonymous_id_in(cookie: str) -> str | None:
    """What the browser SDK's cookie says; older ones write JSON into it.

    >>> anonymous_id_in("%22f3a-1%22"), anonymous_id_in("f3a-1"), anonymous_id_in("")
    ('f3a-1', 'f3a-1', None)
    """
    plain = unquote(cookie).strip().strip('"').strip()
    return plain if 0 < len(plain) <= LONGEST_ID and plain.isprintable() else None


# The page -------------------------------------------------------------------------------------------------------------

_SHOWN = ("会社名", "氏名", "メールアドレス")
_LONG = ("内容", "質問", "要望", "備考", "message", "comment", "question")
"""What names of fields with long answers contain."""
_COMPLETE = {"email": "email", "name": "name", "last_name": "family-name", "first_name": "given-name", "company": "organization",
             "title": "organization-title"}  # fmt: skip


def html_of(form: Form, address: str) -> str:
    """The form as HTML to paste into a page; `address` is where this server is reached, such as https://mebae.example.jp."""
    asked: dict[str, str] = {}  # each thing once, whatever it is called
    for name in form.fields or (*form.required, *_SHOWN):
        asked.setdefault(meaning(form, name), name)
    agree = form.consent.field if form.consent is not None else None
    required = {meaning(form, name) for name in form.required} | {"email"}
    lines = [f'<form method="post" action="{html.escape(f"{address}/forms/{form.id}")}" accept-charset="UTF-8">']
    for meant, name in asked.items():
        if name == agree:
            continue
        kind = "email" if meant == "email" else "text"
        complete = f' autocomplete="{_COMPLETE[meant]}"' if meant in _COMPLETE else ""
        needed = " required" if meant in required else ""
        shown = html.escape(name)
        box = f'<input type="{kind}" name="{shown}"{complete}{needed}>'
        if any(word in name.casefold() for word in _LONG):
            box = f'<textarea name="{shown}" rows="5" cols="60"{needed}></textarea>'
        lines.append(f"  <p><label>{shown}<br>{box}</label></p>")
    if form.consent is not None:
        needed = " required" if agree in form.required else ""
        box = f'<input type="checkbox" name="{html.escape(form.consent.field)}" value="yes"{needed}>'
        lines.append(f"  <p><label>{box} {html.escape(form.consent.wording)}</label></p>")
        lines.append(f'  <input type="hidden" name="_wording" value="{form.consent.mark}">')
    if form.honeypot:
        trap = f'<input name="{html.escape(form.honeypot)}" tabindex="-1" autocomplete="off">'
        lines.append(f'  <p style="position:absolute;left:-9999px" aria-hidden="true"><label>{trap}</label></p>')
    button = "送信" if form.language in ("", "ja") else "Send"
    lines += [f'  <p><button type="submit">{button}</button></p>', "</form>"]
    return "\n".join(lines)
