"""What a telling says to a sales person: a hand-over, a reminder, an escalation, a call; as a mail and as a message to a channel.

It is made when it is told, from the rows as they are then: who, company, score with its reasons, recent behaviour, what marketing
has sent, colleagues of the same company, and buttons. A button is a signed address of a page that asks once more: opening it decides
nothing, for mail scanners and previews open every address.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlmodel import Session, select

from mebae.errors import NotFound
from mebae.handover import NOBODY, QUALIFICATION, Move, Status, possible
from mebae.mail.outgoing import MailSettings
from mebae.mail.sales import SalesNote, industry_words, reason_lines, standing_words, who_words
from mebae.mail.sales_note import note_on
from mebae.sales import Person, SalesRules
from mebae.store.companies import colleagues
from mebae.store.graphs import newest
from mebae.store.sales import rules_of
from mebae.store.scoring import NOT_QUALIFIED
from mebae.store.tables import Call, Handover, HandoverEvent, Lead, Telling
from mebae.tokens import Kind
from mebae.words import spoken

COLLEAGUES = 8
PATH = "/h/"
"""Where the buttons lead."""

_HEADLINES = {
    "ja": {
        "opened": "リードをお引き渡しします", "reminder": "【再通知】対応をお待ちしています",
        "escalation": "【至急】対応期限を過ぎたリード",
        "passed": "リードの担当をお引き継ぎします", "call": "お電話をお願いします",
        "respond": "{at} までに、受領・見送り・差し戻しのいずれかをお選びください。",
        "judge": "{at} までに、SQLかどうかをご判定ください。", "owner": "担当: {owner}",
        "due": "{at} までにお願いします。", "command": "ご回答はコマンドでもできます: mebae handovers accept {id}",
        "called": "結果はコマンドでご記録ください: mebae calls done {id} --outcome talked",
        "by-rule": "MQLになったため、自動的に引き渡されました。", "by-hand": "このリードは手動で引き渡されました。",
        "by-person": "このリードは {who} さんが手動で引き渡しました。", "by-itself": "Mebaeからの自動通知です。",
    },
    "en": {
        "opened": "A lead for you", "reminder": "Reminder: a lead is waiting for you",
        "escalation": "Urgent: a lead that nobody has answered",
        "passed": "A lead was passed on to you", "call": "Please call this lead",
        "respond": "Please accept, reject or return it by {at}.", "judge": "Please judge whether it is an SQL by {at}.",
        "owner": "Owner: {owner}", "due": "Please call by {at}.", "command": "You can also answer by command: mebae handovers accept {id}",
        "called": "Record what came of it: mebae calls done {id} --outcome talked",
        "by-rule": "Handed over by itself, as the lead became an MQL.", "by-hand": "This lead was handed over by hand.",
        "by-person": "This lead was handed over by hand, by {who}.", "by-itself": "Sent by Mebae.",
    },
}  # fmt: skip
MOVES = {
    "ja": {
        Move.ACCEPT: "受領する", Move.REJECT: "見送る", Move.RETURN: "差し戻す", Move.SQL: "SQLと判定する",
        Move.OPPORTUNITY: "商談にする", Move.WON: "受注", Move.LOST: "失注", Move.PASS: "引き継ぐ",
    },
    "en": {
        Move.ACCEPT: "Accept", Move.REJECT: "Reject", Move.RETURN: "Return", Move.SQL: "Judge as SQL",
        Move.OPPORTUNITY: "Make it an opportunity", Move.WON: "Won", Move.LOST: "Lost", Move.PASS: "Pass on",
    },
}  # fmt: skip
"""What the moves are called on buttons."""


@dataclass(frozen=True)
class Brief:
    """Whom to tell, and what."""

    to: Person
    email: str
    note: SalesNote


def brief(session: Session, telling: Telling, settings: MailSettings, now: datetime) -> Brief | None:
    """What a telling says now; None if there is nobody any more of whom to tell."""
    lead = session.get(Lead, telling.lead_id) if telling.lead_id is not None else None
    if lead is None or lead.erased_at is not None:
        return None
    rules = rules_of(session)
    person = Person(id="team") if telling.target == "team" else rules.somebody(telling.target)
    language = spoken(person.language or settings.language)
    words = _HEADLINES[language]
    handover = session.get(Handover, telling.handover_id) if telling.handover_id is not None else None
    call = session.get(Call, telling.call_id) if telling.call_id is not None else None
    about = handover or call
    if about is None:
        return None
    message = f"{words[telling.what]}（{about.why}）" if language == "ja" and about.why else words[telling.what]
    message = f"{message}: {about.why}" if language == "en" and about.why else message
    scenario = _title(session, about.scope)
    origin = "" if about.scope else _origin(session, handover, rules, words)
    note = note_on(session, lead, settings, message=message, scenario=scenario, language=language, now=now)
    others = tuple(_colleague(one, language) for one in colleagues(session, lead)[:COLLEAGUES])
    note = replace(note, colleagues=others, origin=origin)
    if handover is not None and handover.was in NOT_QUALIFIED and lead.qualification == QUALIFICATION[Status.OPEN]:
        # It is one because it was handed over: no rule says that it is ripe, and sales is not told so.
        note = replace(note, lead={**note.lead, "qualification": "none"})
    if call is not None:
        due = _at(call.due_at, settings.zone)
        note = replace(note, script=call.script, notice=f"{words['due'].format(at=due)} {words['called'].format(id=call.id)}")
    elif handover is not None:
        note = replace(
            note, notice=_notice(handover, rules.somebody(handover.owner), words, settings),
            buttons=_buttons(handover, telling, settings, language, now),
        )  # fmt: skip
    return Brief(person, person.email or settings.sales_email, note)


def _origin(session: Session, handover: Handover | None, rules: SalesRules, words: dict[str, str]) -> str:
    """Who asked for what no scenario did."""
    query = select(HandoverEvent).where(HandoverEvent.move == "open")
    opened = session.exec(query.where(HandoverEvent.handover_id == handover.id)).first() if handover is not None else None
    match opened:
        case HandoverEvent(how="rule"):
            return words["by-rule"]
        case HandoverEvent(how="command", by=by) if by in NOBODY:
            return words["by-hand"]
        case HandoverEvent(how="command", by=by):
            return words["by-person"].format(who=rules.somebody(by).name or by)
        case _:
            return words["by-itself"]


def slack_message(note: SalesNote) -> dict[str, Any]:
    """A message as Slack's incoming webhooks take it; others (Mattermost, Teams by a bridge) read `text`.

    Buttons are plain links: they need no app, and open the page that asks.
    """
    head = f"{note.message or note.scenario}: {who_words(note)}"
    facts = [value for value in (note.lead.get("title"), industry_words(note)) if value]
    lines = [f"*{_escaped(who_words(note))}*", _escaped(" / ".join(str(one) for one in facts)), _escaped(standing_words(note))]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(note.message or note.scenario, 150)}},
        _section("\n".join(line for line in lines if line)),
    ]
    if note.notice:
        blocks.append(_section(_escaped(note.notice)))
    if reasons := reason_lines(note):
        blocks.append(_section("\n".join(f"• {_escaped(one)}" for one in reasons)))
    zone = ZoneInfo(note.time_zone)
    if note.events:
        did = [f"• {at.astimezone(zone):%m/%d %H:%M}  {_escaped(words)}" for at, words in note.events[:5]]
        blocks.append(_section("\n".join(did)))
    context = [*(f"✉ {mail}" for _, mail in note.mails[:3]), *(f"👥 {one}" for one in note.colleagues[:3])]
    if context:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(_escaped(one), 300)} for one in context]})
    if note.buttons:
        buttons = [
            {"type": "button", "text": {"type": "plain_text", "text": label}, "url": url, **({"style": "primary"} if at == 0 else {})}
            for at, (label, url) in enumerate(note.buttons)
        ]
        blocks.append({"type": "actions", "elements": buttons})
    return {"text": _cut(head, 300), "blocks": blocks}


def button_url(settings: MailSettings, handover: int, telling: int, now: datetime) -> str | None:
    """The signed address of a hand-over's page for whoever was told of it; None where there is no key or no public address."""
    if settings.tokens is None or not settings.public_url:
        return None
    return f"{settings.public_url}{PATH}{settings.tokens.sign(Kind.HANDOVER, handover, telling, now=now)}"


def _buttons(handover: Handover, telling: Telling, settings: MailSettings, language: str, now: datetime) -> tuple[tuple[str, str], ...]:
    assert handover.id is not None
    assert telling.id is not None
    url = button_url(settings, handover.id, telling.id, now)
    if url is None:
        return ()
    moves = [move for move in possible(Status(handover.status)) if move is not Move.PASS]
    return tuple((MOVES[language][move], f"{url}?do={move}") for move in moves)


def _notice(handover: Handover, owner: Person, words: dict[str, str], settings: MailSettings) -> str:
    said = [words["owner"].format(owner=owner.name or owner.id)]
    if handover.due_at is not None:
        word = "respond" if handover.status == Status.OPEN else "judge"
        said.insert(0, words[word].format(at=_at(handover.due_at, settings.zone)))
    if settings.tokens is None or not settings.public_url:
        said.append(words["command"].format(id=handover.id))
    return " ".join(said)


def _at(moment: datetime, zone: str) -> str:
    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def _colleague(lead: Lead, language: str) -> str:
    parts = [lead.name or "", lead.title or "", "" if lead.qualification == "none" else lead.qualification.upper()]
    points = f"{lead.score} 点" if language == "ja" else f"{lead.score} points"
    return " · ".join([part for part in parts if part] + [points])


def _title(session: Session, scope: str) -> str:
    if not scope:
        return "Mebae"
    try:
        return newest(session, scope).title or scope
    except NotFound:
        return scope


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, 2900)}}


def _escaped(text: str) -> str:
    """What a lead typed is text, and no markup, link or mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("*", "∗").replace("`", "'")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
