"""The weekly mail to sales: who is warm, what gave it and since when, and where to look further; by owner, the newest reasons first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from mebae.mail.rendering import Rendered, Sender, html_to_text, inline_css
from mebae.mail.templating import fill
from mebae.words import spoken

_WORDS = {
    "ja": {
        "title": "今週の有望リード", "count": "{} 名", "more": "ほか {} 名は、次のコマンドで一覧できます: mebae leads",
        "of": "属性 {fit} + 行動 {engagement}", "points": "{} 点", "total": "点", "since": "{}から", "constant": "属性",
        "nobody": "担当未定", "owner": "担当: {}", "colleagues": "同じ会社のリード", "look": "詳しく見る", "nameless": "お名前未登録",
        "none": "該当するリードはありません。", "new": "このうち {} 名に、この1週間で新しい動きがありました。",
        "note": "毎週お届けしている Mebae のまとめです。条件と宛先は scenarios/sales.py の digest で変えられます。",
        "quiet": "最後の動き: {}", "open": "営業の回答待ち", "accepted": "営業が対応中",
        "sql": "SQL", "opportunity": "商談中",
    },
    "en": {
        "title": "Warm leads this week", "count": "{} leads", "more": "{} more: list them with mebae leads",
        "of": "fit {fit} + engagement {engagement}", "points": "{}", "total": "points", "since": "since {}", "constant": "fit",
        "nobody": "No owner yet", "owner": "Owner: {}", "colleagues": "Colleagues", "look": "Look further", "nameless": "Name unknown",
        "none": "There is nobody to tell of.", "new": "{} of them did something new this week.",
        "note": "Mebae's weekly digest. Who is in it and who gets it stands in scenarios/sales.py, under digest.",
        "quiet": "last active {}", "open": "waits for sales",
        "accepted": "sales is on it", "sql": "SQL", "opportunity": "opportunity",
    },
}  # fmt: skip
_WEEKDAYS = {"ja": tuple("月火水木金土日"), "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")}
REASONS = 5
"""Of each lead, the newest."""
COLLEAGUES = 4


@dataclass(frozen=True)
class Given:
    """What gives points, and since when; None for what the lead is."""

    rule: str
    points: float
    since: datetime | None = None


@dataclass(frozen=True)
class Warm:
    """A lead of the digest."""

    id: int
    name: str
    company: str
    title: str
    total: int
    fit: float
    engagement: float
    stage: str
    qualification: str
    given: tuple[Given, ...] = ()
    """The newest first."""
    colleagues: tuple[str, ...] = ()
    handover: str = ""
    """Where its hand-over stands, if one is under way."""

    @property
    def newest(self) -> datetime | None:
        """When it last did something that counts."""
        return max((one.since for one in self.given if one.since is not None), default=None)


@dataclass(frozen=True)
class DigestNote:
    """What one person is told."""

    groups: tuple[tuple[str, tuple[Warm, ...]], ...]
    """Owner's name ("" for nobody) and leads."""
    sender: Sender
    now: datetime
    new: int = 0
    """How many did something within the last week."""
    left: int = 0
    """Leads that one mail has no room for."""
    grouped: bool = True
    """Whether owners are named: where more than one person sells."""
    language: str = "ja"
    """`ja`, else English."""
    time_zone: str = "Asia/Tokyo"

    @property
    def count(self) -> int:
        return sum(len(leads) for _, leads in self.groups) + self.left


def digest_mail(note: DigestNote) -> Rendered:
    """The mail."""
    language = spoken(note.language)
    words, zone = _WORDS[language], ZoneInfo(note.time_zone)

    def say(word: str, *of: object, **more: object) -> str:
        return words[word].format(*of, **more)

    def day(moment: datetime) -> str:
        local = moment.astimezone(zone)
        weekday = _WEEKDAYS[language][local.weekday()]
        return f"{local.month}/{local.day}（{weekday}）" if language == "ja" else f"{weekday} {local.day} {local:%b}"

    def card(one: Warm) -> dict[str, object]:
        standing = (
            one.title, "" if one.qualification == "none" else one.qualification.upper(), one.stage,
            say(one.handover) if one.handover in words else one.handover,
        )  # fmt: skip
        newest = one.newest
        return {
            "id": one.id, "total": one.total, "company": one.company, "name": _named(one.name, language) or say("nameless"),
            "standing": " · ".join(part for part in dict.fromkeys(standing) if part),
            "of": say("of", fit=_points(one.fit), engagement=_points(one.engagement)),
            "quiet": say("quiet", day(newest)) if newest is not None else "",
            "given": [
                (_signed(one_given.points), one_given.rule, say("since", day(one_given.since)) if one_given.since else say("constant"))
                for one_given in one.given[:REASONS]
            ],
            "colleagues": ", ".join(one.colleagues[:COLLEAGUES]) if language == "en" else "、".join(one.colleagues[:COLLEAGUES]),
        }  # fmt: skip

    subject = f"[Mebae] {say('title')}: {say('count', note.count)}"
    page = _fill(
        {
            "language": language, "subject": subject, "title": say("title"), "count": say("count", note.count), "date": day(note.now),
            "new": say("new", note.new) if note.new else "", "none": say("none"), "total_word": say("total"),
            "groups": [
                ((say("owner", owner) if owner else say("nobody")) if note.grouped else "", [card(one) for one in leads])
                for owner, leads in note.groups
            ],
            "more": say("more", note.left) if note.left else "", "colleagues_word": say("colleagues"), "look_word": say("look"),
            "note": say("note"),
        }
    )  # fmt: skip
    return Rendered(
        subject=subject, preheader="", html=inline_css(page, "sales digest"), text=html_to_text(page), topic="", sender=note.sender,
    )  # fmt: skip


def _fill(values: dict[str, object]) -> str:
    return fill("html", _layout(), values, "sales digest")


@cache
def _layout() -> str:
    return files("mebae.mail").joinpath("templates/digest.html").read_text(encoding="utf-8")


def _named(name: str, language: str) -> str:
    return f"{name} 様" if name and language == "ja" and not name.endswith("様") else name


def _points(points: float) -> str:
    return f"{round(points, 1):g}"


def _signed(points: float) -> str:
    return f"{round(points, 1):+g}"
