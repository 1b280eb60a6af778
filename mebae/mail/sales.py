"""The mail that tells sales about a ripe lead: who, why now, what happened so far; read on a phone in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from mebae.mail.rendering import Rendered, Sender, html_to_text, inline_css
from mebae.mail.templating import fill

_WORDS = {
    "ja": {
        "company": "会社", "name": "氏名", "title": "役職", "industry": "業種", "company_size": "従業員数",
        "email": "メール", "phone": "電話", "score": "スコア", "stage": "ステージ", "qualification": "判定",
        "events": "最近の行動",
        "sent": "これまでに送ったメール", "no_events": "記録された行動はありません。", "no_sent": "まだありません。",
        "nameless": "お名前未登録", "note": "シナリオ「{scenario}」からの自動通知です。",
        "awareness": "認知", "interest": "興味", "consideration": "検討", "points": "{} 点", "people": "{} 名",
    },
    "en": {
        "company": "Company", "name": "Name", "title": "Title", "industry": "Industry", "company_size": "Employees",
        "email": "Email", "phone": "Phone", "score": "Score", "stage": "Stage", "qualification": "Qualification",
        "events": "What the lead did recently", "sent": "Mails sent so far", "no_events": "Nothing was recorded.",
        "no_sent": "None yet.", "nameless": "Name unknown", "note": "Sent by the scenario “{scenario}”.",
        "awareness": "Awareness", "interest": "Interest", "consideration": "Consideration", "points": "{} points",
        "people": "{}",
    },
}  # fmt: skip
_FACTS = ("company", "name", "title", "industry", "company_size", "email", "phone", "score", "stage", "qualification")
_SUBJECT_LIMIT = 200


@dataclass(frozen=True)
class SalesNote:
    """What sales is told. Missing values are left out, never a reason not to tell."""

    lead: Mapping[str, Any]
    """From `lead_values`."""
    message: str
    """What the scenario's author wrote, such as 料金ページを閲覧."""
    scenario: str
    """The scenario's title."""
    sender: Sender
    events: tuple[tuple[datetime, str], ...] = ()
    """What the lead did lately, with words for it, in the order to show it."""
    mails: tuple[tuple[datetime, str], ...] = ()
    """The mails sent so far, likewise."""
    language: str = "ja"
    """Of sales, not of the lead: `ja`, else English."""
    time_zone: str = "Asia/Tokyo"
    """Of sales."""


def sales_notification(note: SalesNote) -> Rendered:
    """The mail to sales."""
    lead, zone = note.lead, ZoneInfo(note.time_zone)
    words = _WORDS["ja" if note.language.lower().startswith("ja") else "en"]
    known = {key: _flat(lead.get(key)) for key in _FACTS}
    name, company = known["name"], known["company"]
    if words is _WORDS["ja"]:
        person = f"{name} 様" if name and not name.endswith("様") else name or words["nameless"]
        who = f"{person}（{company}）" if company else person
    else:
        who = (name or words["nameless"]) + (f" ({company})" if company else "")
    shown = known | {
        "score": words["points"].format(known["score"] or "0"),
        "company_size": words["people"].format(known["company_size"]) if known["company_size"] else "",
        "stage": words.get(known["stage"], known["stage"]),
        "qualification": known["qualification"].upper() if known["qualification"] != "none" else "",
    }
    headline = _flat(note.message) or _flat(note.scenario)
    subject = f"[Mebae] {headline}: {who}"
    page = fill(
        "html",
        _layout(),
        {
            "language": "ja" if words is _WORDS["ja"] else "en", "subject": subject, "headline": headline, "who": who,
            "facts": [(words[key], shown[key]) for key in _FACTS if shown[key]],
            "histories": [
                (words["events"], [(_time(time, zone), _flat(text)) for time, text in note.events], words["no_events"]),
                (words["sent"], [(_time(time, zone), _flat(mail)) for time, mail in note.mails], words["no_sent"]),
            ],
            "note": words["note"].format(scenario=_flat(note.scenario)),
        },
        "sales notification",
    )  # fmt: skip
    return Rendered(
        subject=subject if len(subject) <= _SUBJECT_LIMIT else subject[: _SUBJECT_LIMIT - 1] + "…",
        preheader="", html=inline_css(page, "sales notification"), text=html_to_text(page), topic="",
        sender=note.sender,
    )  # fmt: skip


@cache
def _layout() -> str:
    return files("mebae.mail").joinpath("templates/sales.html").read_text(encoding="utf-8")


def _time(time: datetime, zone: ZoneInfo) -> str:
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _flat(value: Any) -> str:
    """A value in one line. What a lead typed may hold line breaks; sales is told all the same."""
    return "" if value is None else " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
