"""What leads do, in one table: each authoring verb, its Segment event and the property that its argument matches.

Ingestion turns aliases into the one name, so that scenarios, scoring and segments need to know only that.
`tracked(name, **props)` reaches everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class EventSpec(NamedTuple):
    """One row of the table."""

    verb: str
    """What an author writes: `downloaded("whitepaper-*")`."""
    name: str
    """The Segment event that is stored."""
    property: str | None
    """The property that the verb's argument matches, if it takes one."""
    meaning: str
    aliases: tuple[str, ...] = ()
    names: Literal["mail", "form", ""] = ""
    """What the argument names: a `wait_for` counts such an event since that mail was sent (DESIGN §10)."""
    is_open: bool = False
    """Whether it has whatever properties somebody sends with it, so that none is unknown."""


EVENTS: tuple[EventSpec, ...] = (
    EventSpec("created", "Lead Created", None, "the lead became known to Mebae"),
    EventSpec("imported", "Lead Imported", "list", "the lead came in with a list (CSV)"),
    EventSpec(
        "downloaded", "Content Downloaded", "content", "downloaded a white paper or other piece",
        ("File Downloaded", "Document Downloaded", "Whitepaper Downloaded", "資料ダウンロード"),
    ),
    EventSpec("visited", "Page Viewed", "path", "viewed a page (every Segment `page` call)", ("Viewed Page", "Page Visited")),
    EventSpec("viewed_screen", "Screen Viewed", "name", "viewed a screen of an app (every Segment `screen` call)", ("Viewed Screen",)),
    EventSpec("submitted", "Form Submitted", "form", "sent a form", ("Form Completed",), "form"),
    EventSpec("answered", "Form Answered", "form", "answered a questionnaire", ("Survey Answered", "Survey Completed"), "form"),
    EventSpec("registered", "Seminar Registered", "seminar", "registered for a seminar", ("Webinar Registered", "Event Registered")),
    EventSpec("attended", "Seminar Attended", "seminar", "attended a seminar", ("Webinar Attended", "Event Attended")),
    EventSpec("opened", "Email Opened", "mail", "opened a mail", (), "mail"),
    EventSpec("clicked", "Email Link Clicked", "mail", "clicked a link in a mail", ("Email Clicked",), "mail"),
    EventSpec("bounced", "Email Bounced", "mail", "a mail to it came back", (), "mail"),
    EventSpec("complained", "Email Complained", "mail", "called a mail spam", ("Email Marked as Spam",), "mail"),
    EventSpec("auto_replied", "Email Auto-Replied", "mail", "a program answered a mail for it: out of office, 退職, 異動", (), "mail"),
    EventSpec("requested_quote", "Quote Requested", "product", "asked for a quote", ("Quotation Requested", "見積依頼")),
    EventSpec("stage_reached", "Stage Reached", "stage", "moved to a stage"),
    EventSpec("qualified", "Qualified", "qualification", "became MQL, SQL, …"),
    EventSpec("joined", "Segment Joined", "segment", "became a member of a segment"),
    EventSpec("contacted", "Sales Contacted", "channel", "was contacted by sales", ("Call Logged", "Meeting Held")),
    EventSpec("unsubscribed", "Unsubscribed", None, "wants no more marketing mail"),
    EventSpec("unsubscribed_topic", "Topic Unsubscribed", "topic", "wants no more mail of a topic"),
    EventSpec("resubscribed", "Resubscribed", None, "agreed to mail again after it had unsubscribed"),
    EventSpec("handed_over", "Handover Opened", "owner", "was given to sales"),
    EventSpec("handover_accepted", "Handover Accepted", "owner", "was taken by sales"),
    EventSpec("handover_rejected", "Handover Rejected", "reason", "was given to sales, who did not take it"),
    EventSpec("handover_returned", "Handover Returned", "reason", "was given back by sales"),
    EventSpec("handover_expired", "Handover Expired", "clock", "came back because sales did not answer, or did not judge, in time"),
    EventSpec("sales_qualified", "Sales Qualified", "owner", "was judged an SQL by sales"),
    EventSpec("opportunity_opened", "Opportunity Opened", "owner", "became an opportunity (商談)"),
    EventSpec("opportunity_won", "Opportunity Won", "owner", "became a customer (受注)"),
    EventSpec("opportunity_lost", "Opportunity Lost", "reason", "an opportunity was lost (失注), or came to nothing"),
    EventSpec("called", "Call Completed", "outcome", "was called: `appointment`, `talked` or `no_answer`"),
)  # fmt: skip

BY_SALES = (
    "handed_over", "handover_accepted", "handover_rejected", "handover_returned", "handover_expired", "sales_qualified",
    "opportunity_opened", "opportunity_won", "opportunity_lost", "called",
)  # fmt: skip
"""The verbs of what sales does with a lead: they tell nothing of its behaviour."""

IDENTIFIED = "Lead Identified"
"""Stored for every Segment `identify` call and for any other change of a lead's attributes: changes wake journeys too."""

REQUESTED = "Scenario Requested"
"""The start event of a journey that a person or another scenario asked for."""

PROPERTIES: dict[str, dict[str, Literal["text", "number", "boolean", "date"]]] = {
    "Lead Imported": {"list": "text", "source": "text", "campaign": "text"},
    "Content Downloaded": {"content": "text", "form": "text"},
    "Page Viewed": dict.fromkeys(
        ("path", "url", "title", "referrer", "search", "name", "category", "hash", "referring_domain",
         "initial_referrer", "initial_referring_domain", "tab_url"),
        "text",
    ),
    "Screen Viewed": {"name": "text", "category": "text"},
    "Email Opened": {"mail": "text", "verdict": "text", "scenario": "text", "broadcast": "text"},
    "Email Link Clicked": {"mail": "text", "url": "text", "verdict": "text", "scenario": "text", "broadcast": "text"},
    "Email Bounced": dict.fromkeys(("mail", "scenario", "broadcast", "bounce", "reason", "status"), "text"),
    "Email Complained": {"mail": "text", "scenario": "text", "broadcast": "text"},
    "Email Auto-Replied": {"mail": "text", "scenario": "text", "broadcast": "text", "says": "text"},
    "Stage Reached": {"stage": "text", "from": "text", "score": "number"},
    "Qualified": {"qualification": "text", "from": "text", "score": "number"},
    "Unsubscribed": {"mail": "text", "scenario": "text", "broadcast": "text", "how": "text"},
    "Topic Unsubscribed": {"topic": "text", "mail": "text", "scenario": "text", "broadcast": "text", "how": "text"},
    "Resubscribed": {"how": "text", "source": "text"},
    "Handover Opened": {"handover": "number", "owner": "text", "score": "number"},
    "Handover Accepted": {"handover": "number", "by": "text"},
    "Handover Rejected": {"handover": "number", "owner": "text", "by": "text"},
    "Handover Returned": {"handover": "number", "owner": "text", "by": "text"},
    "Handover Expired": {"handover": "number", "owner": "text"},
    "Sales Qualified": {"handover": "number", "by": "text"},
    "Opportunity Opened": {"handover": "number", "by": "text", "amount": "number"},
    "Opportunity Won": {"handover": "number", "by": "text", "amount": "number", "currency": "text"},
    "Opportunity Lost": {"handover": "number", "owner": "text", "by": "text"},
    "Call Completed": {"call": "number", "method": "text", "owner": "text", "by": "text"},
}  # fmt: skip
"""What Mebae itself and Segment's own clients send with a standard event, beside the property that its verb matches."""

JAPANESE = {
    "Lead Created": "リード登録", "Lead Imported": "リスト取込", "Content Downloaded": "資料ダウンロード", "Page Viewed": "ページ閲覧",
    "Screen Viewed": "画面閲覧", "Form Submitted": "フォーム送信", "Form Answered": "アンケート回答", "Seminar Registered": "セミナー申込",
    "Seminar Attended": "セミナー参加", "Email Opened": "メール開封", "Email Link Clicked": "メールクリック",
    "Email Bounced": "メール不達", "Email Complained": "迷惑メール報告", "Email Auto-Replied": "自動返信",
    "Unsubscribed": "配信停止", "Topic Unsubscribed": "トピックの配信停止", "Resubscribed": "配信再開",
    "Quote Requested": "見積依頼", "Stage Reached": "ステージ到達", "Qualified": "判定", "Segment Joined": "セグメント該当",
    "Sales Contacted": "営業が連絡", "Handover Opened": "営業へ引き渡し",
    "Handover Accepted": "営業が受領", "Handover Rejected": "営業が見送り", "Handover Returned": "営業が差し戻し",
    "Handover Expired": "営業の対応期限切れ", "Handover Passed": "担当を引き継ぎ", "Sales Qualified": "営業がSQLと判定",
    "Opportunity Opened": "商談化", "Opportunity Won": "受注", "Opportunity Lost": "失注", "Call Completed": "電話",
}  # fmt: skip
"""What Japanese readers call the standard events."""

BY_VERB = {spec.verb: spec for spec in EVENTS}
BY_NAME = {spec.name: spec for spec in EVENTS}
_CANONICAL = {alias.casefold(): spec.name for spec in EVENTS for alias in (spec.name, *spec.aliases)}


BY_MACHINES_TOO = frozenset({"Email Opened", "Email Link Clicked"})
"""Events that machines cause as well as people: what they are is in their property `verdict`."""


def is_human(name: str, properties: Mapping[str, object]) -> bool:
    """Whether a person did it. Opens and clicks of scanners and privacy proxies are kept and never counted; one without a
    verdict is human.

    >>> is_human("Email Opened", {"mail": "thanks", "verdict": "proxy"}), is_human("Page Viewed", {})
    (False, True)
    """
    return name not in BY_MACHINES_TOO or properties.get("verdict", "human") == "human"


def canonical(name: str) -> str:
    """The one name of an event, whatever alias it came under.

    >>> canonical("whitepaper downloaded")
    'Content Downloaded'
    >>> canonical("Trial Started")
    'Trial Started'
    """
    return _CANONICAL.get(name.strip().casefold(), name.strip())
