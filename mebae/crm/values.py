"""What a lead is, in another system's fields; and the words of activities and tasks. Made when it is told, from the rows as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from sqlmodel import Session, col, select

from mebae.crm import outbox
from mebae.crm.adapter import Activity, Plain, Record, Task, as_text
from mebae.crm.model import System, Value
from mebae.handover import EVENT, OPENED, Move
from mebae.mail.outgoing import MailSettings
from mebae.mail.sales import SalesNote, event_line, reason_lines, standing_words, who_words
from mebae.mail.sales_note import note_on
from mebae.sales import SalesRules
from mebae.store.crm import link_of
from mebae.store.sales import rules_of
from mebae.store.tables import Call, Company, Handover, Lead, Telling
from mebae.words import spoken

_WORDS = {
    "ja": {
        "owner": "担当", "reason": "理由", "amount": "金額", "task": "リード対応", "call": "お電話", "score": "スコア",
        "lately": "最近の行動",
    },
    "en": {
        "owner": "Owner", "reason": "Reason", "amount": "Amount", "task": "Respond to the lead", "call": "Call", "score": "Score",
        "lately": "Lately",
    },
}  # fmt: skip
_MOST = 20_000
"""Characters of a text. HubSpot takes 65,536, Salesforce 32,000."""


@dataclass(frozen=True)
class Filled:
    """A lead, ready to be sent."""

    record: Record
    digest: str
    """Of its values: equal ones need not be sent again."""
    written: Mapping[str, str]
    """The outcome fields of theirs that it fills, as they will be read back."""


def record_of(session: Session, system: System, telling: Telling, settings: MailSettings, now: datetime) -> Filled | None:
    """The lead of a telling in this system's fields; None if there is nobody any more of whom to tell."""
    lead = session.get(Lead, telling.lead_id) if telling.lead_id is not None else None
    if lead is None or lead.erased_at is not None or lead.email is None:
        return None
    assert lead.id is not None
    sources = _Sources(session, lead, settings, now)
    values: dict[str, Plain] = {}
    for theirs, ours in system.fields.items():
        found, sent = _filled(sources, ours)
        if sent:
            values[theirs] = found
    link = link_of(session, system.name, lead.id)
    record = Record(telling.key, lead.id, lead.email, values, None if link is None else link.their_id, now)
    written = {name: as_text(values[name]) for name in system.outcomes.names if name in values}
    text = json.dumps([lead.email, values], sort_keys=True, ensure_ascii=False)
    return Filled(record, hashlib.sha256(text.encode()).hexdigest()[:32], written)


def activity_of(session: Session, system: System, telling: Telling, settings: MailSettings, now: datetime) -> Activity | Task | None:
    """What a telling of a hand-over or a call says, for the lead's timeline or as a task; None if nobody needs to know any more."""
    lead = session.get(Lead, telling.lead_id) if telling.lead_id is not None else None
    if lead is None or lead.erased_at is not None or lead.email is None:
        return None
    assert lead.id is not None
    handover = session.get(Handover, telling.handover_id) if telling.handover_id is not None else None
    call = session.get(Call, telling.call_id) if telling.call_id is not None else None
    rules, language = rules_of(session), spoken(settings.language)
    words = _WORDS[language]
    note = note_on(session, lead, settings, message="", scenario="", language=language, now=now)
    link = link_of(session, system.name, lead.id)
    what = str(telling.details.get("about", ""))
    about = handover or call
    if about is None:
        return None
    make = partial(
        Activity, key=telling.key, lead=lead.id, email=lead.email, their_id=None if link is None else link.their_id, what=what,
        at=telling.created_at, owner=system.owners.get(about.owner),
    )  # fmt: skip
    if telling.what == outbox.TASK:
        open_still = call.status == "open" if call is not None else handover is not None and handover.closed_at is None
        if not open_still:
            return None
        title = f"{words['call'] if call is not None else words['task']}: {who_words(note)}"
        body = _body(about.why, note, rules, about.owner, words, call.script if call is not None else "")
        activity = make(title=title, body=body)
        return Task(**vars(activity), due=about.due_at or now)
    assert handover is not None
    event = OPENED if what == "opened" else EVENT[Move(what)]
    if what == "opened":
        return make(title=event_line(event, {}, language), body=_body(handover.why, note, rules, handover.owner, words))
    reason = handover.reason if what in ("reject", "return", "lost") else None
    amount = handover.amount if what in ("opportunity", "won") else None
    known = {one.code: one.titled(language) for one in rules.reasons}
    lines = [
        f"{words['owner']}: {_person(rules, handover.owner)}",
        *([f"{words['reason']}: {known.get(reason, reason)}"] if reason else []),
        *([f"{words['amount']}: {amount:,} {rules.currency}"] if amount is not None else []),
    ]
    details: dict[str, Plain] = {"handover": handover.id, "reason": reason, "amount": amount}
    return make(title=event_line(event, {}, language), body="\n".join(lines), details=details)


def _body(why: str, note: SalesNote, rules: SalesRules, owner: str, words: Mapping[str, str], script: str = "") -> str:
    lately = _behaviour(note)
    parts = [
        why, script, standing_words(note), f"{words['owner']}: {_person(rules, owner)}",
        "\n".join([f"{words['score']}:", *reason_lines(note)]) if note.score is not None and note.score.reasons else "",
        "\n".join([f"{words['lately']}:", *lately]) if lately else "",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)[:_MOST]


def _behaviour(note: SalesNote) -> list[str]:
    zone = ZoneInfo(note.time_zone)
    return [f"{at.astimezone(zone):%Y-%m-%d %H:%M} {words}" for at, words in note.events]


def _person(rules: SalesRules, id: str) -> str:
    found = rules.somebody(id)
    return found.name or found.id


# One value ----------------------------------------------------------------------------------------------------------------


def _filled(sources: _Sources, ours: Value) -> tuple[Plain, bool]:
    """What goes into a field, and whether anything does."""
    found = sources.get(ours.of)
    if ours.table:
        word = ours.table.get(as_text(found), ours.otherwise)
        return word, word is not None
    return (ours.otherwise if found in (None, "") else found), True


class _Sources:
    """A lead's values by their names; what costs is asked for once, and only if a field wants it."""

    def __init__(self, session: Session, lead: Lead, settings: MailSettings, now: datetime) -> None:
        self._session, self._lead, self._settings, self._now = session, lead, settings, now
        self._made: SalesNote | None = None

    def get(self, name: str) -> Plain:
        if name.startswith("lead."):
            return _plain(self._lead.attributes.get(name.removeprefix("lead.")))
        special: dict[str, Callable[[], Plain]] = {
            "last_name": lambda: self._names()[0],
            "first_name": lambda: self._names()[1],
            "tags": lambda: "; ".join(self._lead.tags),
            "topics": lambda: "; ".join(self._lead.topics),
            "opted_out": lambda: self._lead.opted_out_at is not None,
            "active_at": lambda: None if self._lead.active_at is None else f"{self._lead.active_at:%Y-%m-%dT%H:%M:%SZ}",
            "score": lambda: self._lead.score if self._note.score is None else self._note.score.total,
            "fit": lambda: None if self._note.score is None else round(self._note.score.fit, 1),
            "engagement": lambda: None if self._note.score is None else round(self._note.score.engagement, 1),
            "reasons": lambda: "\n".join(reason_lines(self._note))[:_MOST],
            "behaviour": lambda: "\n".join(_behaviour(self._note))[:_MOST],
            "owner": self._owner,
            "handover": self._handover,
        }
        return special[name]() if name in special else _plain(getattr(self._lead, name))

    @property
    def _note(self) -> SalesNote:
        if self._made is None:
            language = spoken(self._settings.language)
            self._made = note_on(self._session, self._lead, self._settings, message="", scenario="", language=language, now=self._now)
        return self._made

    def _names(self) -> tuple[str, str]:
        """Family name and given name, as an import brought them, else from the whole."""
        given = self._lead.attributes
        if given.get("last_name") or given.get("first_name"):
            return str(given.get("last_name") or ""), str(given.get("first_name") or "")
        parts = (self._lead.name or "").split()
        if len(parts) < 2:
            return self._lead.name or "", ""
        eastern = self._lead.language.split("-")[0] in ("ja", "zh", "ko", "hu")
        return (parts[0], " ".join(parts[1:])) if eastern else (parts[-1], " ".join(parts[:-1]))

    def _owner(self) -> Plain:
        row = self._latest()
        firm = self._session.get(Company, self._lead.company_id) if self._lead.company_id is not None else None
        owner = row.owner if row is not None else None if firm is None else firm.owner
        return None if owner is None else _person(rules_of(self._session), owner)

    def _handover(self) -> Plain:
        row = self._latest()
        return None if row is None else str(row.status)

    def _latest(self) -> Handover | None:
        query = select(Handover).where(Handover.lead_id == self._lead.id).order_by(col(Handover.id).desc())
        return self._session.exec(query).first()


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
