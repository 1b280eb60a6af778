"""A condition in Japanese, for sales: what the SQL rule asks for, and what the lead has instead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Facts,
    Known,
    Like,
    Not,
    OlderThan,
    Pattern,
    Tagged,
)
from mebae.events import JAPANESE
from mebae.reports.explaining import Explained, moment_words, times_of, value_words
from mebae.timing import Duration
from mebae.words import STAGE_TITLES

_NAMES = {
    "email": "メールアドレス", "user_id": "会員ID", "name": "氏名", "company": "会社", "title": "役職", "industry": "業種",
    "company_size": "従業員数", "language": "言語", "time_zone": "タイムゾーン", "score": "スコア", "stage": "ステージ",
    "qualification": "判定", "tags": "タグ", "created_at": "登録日", "rank": "職位", "industry_group": "業種グループ", "topics": "関心",
    "excluded": "除外理由", "active_at": "最終行動日", "contacted_at": "営業の最終連絡日", "first_source": "最初の流入元",
    "first_campaign": "最初のキャンペーン", "last_source": "最新の流入元", "last_campaign": "最新のキャンペーン",
}  # fmt: skip
_SIGNS = {"gt": "{}を超える", "ge": "{}以上", "lt": "{}未満", "le": "{}以下"}
_QUALIFICATIONS = {
    "none": "なし", "mql": "MQL", "accepted": "営業受領済み", "sql": "SQL", "opportunity": "商談", "won": "受注", "lost": "失注",
}  # fmt: skip


class Japanese:
    """`stages`: what the scoring model calls its stages.

    >>> Japanese().words(Compare(op="ge", ref="lead.score", to=50) & AtLeast(to="interest"))
    'スコアが50以上、かつステージが「興味」以降'
    >>> Japanese().words(Did(pattern=Pattern(event="Page Viewed", where={"path": "/pricing"}), times=2, within=Duration(days=30)))
    '30日以内にページ閲覧（/pricing）が2回以上'
    """

    def __init__(self, stages: Mapping[str, str] = STAGE_TITLES) -> None:
        self._stages = stages

    def words(self, condition: Condition) -> str:
        match condition:
            case Compare(op="eq", ref=ref, to=to):
                return f"{_name(ref)}が{self._value(ref, to)}"
            case Compare(op=op, ref=ref, to=to):
                return f"{_name(ref)}が{_SIGNS[op].format(to)}"
            case Among(ref=ref, to=values):
                return f"{_name(ref)}が{'または'.join(self._value(ref, one) for one in values)}"
            case Like(ref=ref, to=like):
                return f"{_name(ref)}が「{like}」に一致"
            case AtLeast(ref=ref, to=stage):
                return f"{_name(ref)}が{self._value(ref, stage)}以降"
            case Known(ref=ref):
                return f"{_name(ref)}が登録済み"
            case Tagged(ref=ref, to=tag):
                return f"{_name(ref)}に「{tag}」を含む"
            case OlderThan(ref=ref, span=span):
                return f"{_name(ref)}から{span_words_ja(span)}以上経過"
            case Did():
                within = f"{span_words_ja(condition.within)}以内に" if condition.within is not None else ""
                often = f"{condition.times}回以上" if condition.times > 1 else "あり"
                return within + _event(condition.pattern) + ("が" if condition.times > 1 else "") + often
            case All(of=parts):
                return "、かつ".join(self._inside(part) for part in parts)
            case Any_(of=parts):
                return "、または".join(self._inside(part) for part in parts)
            case Not(of=Compare(op="eq", ref=ref, to=to)):
                return f"{_name(ref)}が{self._value(ref, to)}以外"
            case Not(of=part):
                return f"「{self.words(part)}」に該当しない"

    def actual(self, part: Condition, facts: Facts, zone: str) -> str:
        match part:
            case Did():
                times = times_of(part, facts)
                if not times:
                    return "なし" if part.within is None else "期間内になし"
                return f"{len(times)}回、直近は{moment_words(max(times), zone)}"
            case Tagged():
                return "、".join(sorted(facts.tags(part.ref))) or "なし"
            case OlderThan():
                value = facts.value(part.ref)
                if isinstance(value, datetime):
                    return f"{moment_words(value, zone)}、{_distance(value, facts.now)}"
                return self._has(part.ref, value, zone)
            case All() | Any_() | Not():
                return ""
            case _:
                return self._has(part.ref, facts.value(part.ref), zone)

    def missing(self, told: Explained) -> str:
        """What would have to become true; empty if it is.

        >>> from datetime import UTC
        >>> from mebae.conditions import SimpleFacts
        >>> from mebae.reports.explaining import explain
        >>> asked = Compare(op="ge", ref="lead.score", to=80) & Known(ref="lead.company")
        >>> facts = SimpleFacts(datetime(2026, 4, 1, tzinfo=UTC), lead={"score": 72})
        >>> Japanese().missing(explain(asked, facts, say=Japanese()))
        'スコアが80以上（現在: 72）、かつ会社が登録済み（現在: 未登録）'
        """
        if told.value:
            return ""
        lacking = [part for part in told.of if not part.value]
        match told.kind:
            case "all":
                return "、かつ".join(self._part(part) for part in lacking) if len(lacking) > 1 else self.missing(lacking[0])
            case "any":
                return "、または".join(self.missing(part) for part in lacking)
            case "not":
                return told.words + (f"（現在: {told.of[0].actual}）" if told.of[0].actual else "")
            case "one":
                return f"{told.words}（現在: {told.actual}）"

    def _part(self, part: Explained) -> str:
        """A part of several, so that nobody has to know whether かつ or または binds tighter."""
        said = self.missing(part)
        return f"（{said}）" if part.kind == "any" and len([one for one in part.of if not one.value]) > 1 else said

    def _inside(self, part: Condition) -> str:
        return f"（{self.words(part)}）" if isinstance(part, (All, Any_)) else self.words(part)

    def _value(self, ref: str, value: object) -> str:
        if isinstance(value, (bool, int, float)):
            return value_words(value) if not isinstance(value, bool) else ("はい" if value else "いいえ")
        return f"「{self._titled(ref, str(value))}」"

    def _has(self, ref: str, value: object, zone: str) -> str:
        if value is None or value == "":
            return "未登録"
        if isinstance(value, bool):
            return "はい" if value else "いいえ"
        return self._titled(ref, value_words(value, zone))

    def _titled(self, ref: str, value: str) -> str:
        known = {"lead.stage": self._stages, "lead.qualification": _QUALIFICATIONS}.get(ref, {})
        return known.get(value) or value


def span_words_ja(span: Duration) -> str:
    """
    >>> span_words_ja(Duration(business_days=3)), span_words_ja(Duration(days=1, hours=2))
    ('3営業日', '1日2時間')
    """
    units = (("営業日", span.business_days), ("日", span.days), ("時間", span.hours), ("分", span.minutes))
    return "".join(f"{count}{unit}" for unit, count in units if count)


def _name(ref: str) -> str:
    name = ref.removeprefix("lead.")
    return _NAMES.get(name, name)


def _event(pattern: Pattern) -> str:
    asked = "、".join("か".join(str(one) for one in want) if isinstance(want, tuple) else str(want) for want in pattern.where.values())
    said = JAPANESE.get(pattern.event, pattern.event)
    return f"{said}（{asked}）" if asked else said


def _distance(moment: datetime, now: datetime) -> str:
    span = abs(moment - now)
    for unit, length in (("日", timedelta(days=1)), ("時間", timedelta(hours=1)), ("分", timedelta(minutes=1))):
        if span >= length:
            return f"{span // length}{unit}{'後' if moment > now else '前'}"
    return "現在"
