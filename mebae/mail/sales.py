"""The mail that tells sales about a ripe lead: who, why now, what happened so far; read on a phone in ten seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from mebae.events import BY_NAME, JAPANESE
from mebae.mail.rendering import Rendered, Sender, html_to_text, inline_css
from mebae.mail.templating import fill
from mebae.words import spoken

_WORDS = {
    "ja": {
        "company": "会社", "name": "氏名", "title": "役職", "industry": "業種", "company_size": "従業員数",
        "email": "メール", "phone": "電話", "score": "スコア", "stage": "ステージ", "qualification": "判定",
        "events": "最近の行動",
        "sent": "これまでに送ったメール", "no_events": "記録された行動はありません。", "no_sent": "まだありません。",
        "nameless": "お名前未登録", "note": "シナリオ「{scenario}」からの自動通知です。",
        "awareness": "認知", "interest": "興味", "consideration": "検討", "points": "{} 点", "people": "{} 名",
        "rank": "職位", "topics": "関心", "of": "{total} 点（属性 {fit} + 行動 {engagement}）", "reasons": "スコアの内訳",
        "no_reasons": "点数になる行動や属性はまだありません。", "colleagues": "同じ会社のリード", "script": "お話しいただきたいこと",
    },
    "en": {
        "company": "Company", "name": "Name", "title": "Title", "industry": "Industry", "company_size": "Employees",
        "email": "Email", "phone": "Phone", "score": "Score", "stage": "Stage", "qualification": "Qualification",
        "events": "What the lead did recently", "sent": "Mails sent so far", "no_events": "Nothing was recorded.",
        "no_sent": "None yet.", "nameless": "Name unknown", "note": "Sent by the scenario “{scenario}”.",
        "awareness": "Awareness", "interest": "Interest", "consideration": "Consideration", "points": "{} points",
        "people": "{}", "rank": "Rank", "topics": "Interested in",
        "of": "{total} points (fit {fit} + engagement {engagement})", "reasons": "Where the points come from",
        "no_reasons": "Nothing gives points yet.", "colleagues": "Colleagues of the same company", "script": "What to say and ask",
    },
}  # fmt: skip
_INDUSTRIES = {
    "manufacturing": "製造業", "construction": "建設業", "logistics": "運輸・物流業", "wholesale": "卸売業", "energy": "エネルギー",
    "retail": "小売業", "it": "IT・情報通信業", "finance": "金融・保険業", "real-estate": "不動産業", "medical": "医療・福祉",
    "education": "教育", "public": "官公庁・公共団体", "food-service": "飲食・宿泊業", "services": "サービス業",
    "agriculture": "農林水産業", "media": "マスコミ・メディア",
}  # fmt: skip
"""What Japanese readers call the groups of `scenarios/mapping.csv`, where a web site sent the group itself."""
_FACTS = (
    "company", "name", "title", "rank", "industry", "company_size", "email", "phone", "score", "stage", "qualification",
    "topics",
)  # fmt: skip
_PROPERTIES = 4
"""So many answers of a form, or properties of an event of the user's own, are told."""
_SUBJECT_LIMIT = 200


@dataclass(frozen=True)
class SalesScore:
    """What the lead has now, and what gave most of it."""

    total: int
    fit: float
    engagement: float
    reasons: tuple[tuple[float, str], ...] = ()
    """Points now, and the rule with what the lead did, in the order to show it."""


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
    score: SalesScore | None = None
    """None where no model scores: then the lead's own value is told."""
    language: str = "ja"
    """Of sales, not of the lead: `ja`, else English."""
    time_zone: str = "Asia/Tokyo"
    """Of sales."""
    colleagues: tuple[str, ...] = ()
    """Other leads of the same firm, a line each."""
    script: str = ""
    """Of a call: what to say and ask."""
    notice: str = ""
    """By when something is expected, in a line."""
    origin: str = ""
    """Who asked for it, in a sentence. Empty: the scenario did."""
    buttons: tuple[tuple[str, str], ...] = ()
    """What can be pressed: words and address, the likeliest first."""


def who_words(note: SalesNote) -> str:
    """The lead in a few words: its name with its firm."""
    name, company = _flat(note.lead.get("name")), _flat(note.lead.get("company"))
    if spoken(note.language) == "ja":
        person = f"{name} 様" if name and not name.endswith("様") else name or _WORDS["ja"]["nameless"]
        return f"{person}（{company}）" if company else person
    return (name or _WORDS["en"]["nameless"]) + (f" ({company})" if company else "")


def industry_words(note: SalesNote) -> str:
    """The lead's industry as it was said; a group's code by its name."""
    said = _flat(note.lead.get("industry"))
    return _INDUSTRIES.get(said.lower(), said) if spoken(note.language) == "ja" else said


def standing_words(note: SalesNote) -> str:
    """Qualification, score and stage in a line."""
    words, lead = _WORDS[spoken(note.language)], note.lead
    qualification, stage = _flat(lead.get("qualification")), _flat(lead.get("stage"))
    score = _score(note.score, words) if note.score is not None else words["points"].format(_flat(lead.get("score")) or "0")
    parts = (
        qualification.upper() if qualification != "none" else "", score,
        _flat(lead.get("stage_title")) or words.get(stage, stage),
    )  # fmt: skip
    return " · ".join(part for part in parts if part)


def reason_lines(note: SalesNote) -> list[str]:
    """What gave the points, a line each."""
    words = _WORDS[spoken(note.language)]
    return [] if note.score is None else [f"{words['points'].format(_points(points))}  {_flat(why)}" for points, why in note.score.reasons]


def sales_notification(note: SalesNote) -> Rendered:
    """The mail to sales."""
    lead, zone = note.lead, ZoneInfo(note.time_zone)
    words = _WORDS[spoken(note.language)]
    known = {key: _flat(lead.get(key)) for key in _FACTS}
    who = who_words(note)
    shown = known | {
        "score": _score(note.score, words) if note.score is not None else words["points"].format(known["score"] or "0"),
        "company_size": words["people"].format(known["company_size"]) if known["company_size"] else "",
        "industry": industry_words(note),
        "stage": _flat(lead.get("stage_title")) or words.get(known["stage"], known["stage"]),
        "qualification": known["qualification"].upper() if known["qualification"] != "none" else "",
    }
    scored = [(words["reasons"], [(words["points"].format(_points(points)), _flat(why)) for points, why in note.score.reasons],
               words["no_reasons"])] if note.score is not None else []  # fmt: skip
    headline = _flat(note.message) or _flat(note.scenario)
    subject = f"[Mebae] {headline}: {who}"
    page = fill(
        "html",
        _layout(),
        {
            "language": "ja" if words is _WORDS["ja"] else "en", "subject": subject, "headline": headline, "who": who,
            "standing": standing_words(note), "notice": _flat(note.notice), "buttons": note.buttons,
            "script": [line.strip() for line in note.script.splitlines() if line.strip()], "script_title": words["script"],
            "facts": [(words[key], shown[key]) for key in _FACTS if shown[key]],
            "histories": [
                *scored,
                (words["events"], [(_time(time, zone), _flat(text)) for time, text in note.events], words["no_events"]),
                *([(words["colleagues"], [("", _flat(one)) for one in note.colleagues], "")] if note.colleagues else []),
                (words["sent"], [(_time(time, zone), _flat(mail)) for time, mail in note.mails], words["no_sent"]),
            ],
            "note": _flat(note.origin) or words["note"].format(scenario=_flat(note.scenario)),
        },
        "sales notification",
    )  # fmt: skip
    return Rendered(
        subject=subject if len(subject) <= _SUBJECT_LIMIT else subject[: _SUBJECT_LIMIT - 1] + "…",
        preheader="", html=inline_css(page, "sales notification"), text=html_to_text(page), topic="",
        sender=note.sender,
    )  # fmt: skip


def event_line(name: str, properties: Mapping[str, Any], language: str) -> str:
    """An event in a line for sales: what it was, of what, and of a form what was answered.

    >>> event_line("Page Viewed", {"path": "/pricing", "seconds": 40}, "ja")
    'ページ閲覧: /pricing'
    >>> event_line("Form Answered", {"form": "expo", "budget": "確保済み"}, "en")
    'Form Answered: expo (budget 確保済み)'
    """
    spec = BY_NAME.get(name)
    said = JAPANESE.get(name, name) if spoken(language) == "ja" else name
    value = properties.get(spec.property) if spec is not None and spec.property else None
    line = f"{said}: {_flat(value)}" if value not in (None, "") else said
    if spec is not None and spec.names != "form":
        return line
    known = spec.property if spec is not None else None
    others = [
        f"{key} {_flat(one)}"
        for key, one in properties.items()
        if key != known and isinstance(one, (str, int, float)) and one != ""
    ]
    return f"{line} ({', '.join(others[:_PROPERTIES])})" if others else line


def _score(score: SalesScore, words: Mapping[str, str]) -> str:
    fit, engagement = _points(score.fit), _points(score.engagement)
    return words["of"].format(total=score.total, fit=fit, engagement=engagement)


def _points(points: float) -> str:
    return f"{round(points, 1):g}"


@cache
def _layout() -> str:
    return files("mebae.mail").joinpath("templates/sales.html").read_text(encoding="utf-8")


def _time(time: datetime, zone: ZoneInfo) -> str:
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _flat(value: Any) -> str:
    """A value in one line. What a lead typed may hold line breaks; sales is told all the same."""
    return "" if value is None else " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
