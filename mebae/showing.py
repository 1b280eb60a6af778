"""What a lead is shown of all that is kept of it: in the words of the house, for a person to read and for other programs to take in.

`everything_of` gives the rows as they are; here each table becomes a section with the names that people use, and what only keeps
the machinery going is left out: places in queues, marks, versions, attempts. A test holds that every column is one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FORMAT = 1
"""Raised when a program that reads such a file would have to change."""

Row = Mapping[str, Any]


class Section(NamedTuple):
    """One table, as it is shown."""

    name: str
    names: Mapping[str, str]
    """Column → what it is called, in this order."""
    machinery: frozenset[str]
    """Columns that say nothing of the lead."""


def _section(name: str, columns: str, machinery: str = "") -> Section:
    """`columns`: words, each a column, or `column=name` where it is called otherwise."""
    pairs = (word.partition("=") for word in columns.split())
    return Section(name, {column: called or column for column, _, called in pairs}, frozenset(machinery.split()))


SECTIONS: Mapping[str, Section] = {
    "leads": _section(
        "lead",
        "id email user_id name company title industry company_size language time_zone rank industry_group attributes tags topics "
        "excluded stage qualification score scored_at first_source first_campaign last_source last_campaign created_at updated_at "
        "active_at=last_active_at contacted_at=last_contacted_by_sales_at opted_out_at=unsubscribed_at "
        "soft_bounces=temporary_bounces_in_a_row nurtured_since=came_back_from_sales_at rests_until erased_at",
        "company_id tally scoring_version score_changes_at last_seq",
    ),
    "consents": _section("consents", "basis given_at how source wording withdrawn_at", "id lead_id cause"),
    "topic_choices": _section("topic_choices", "topic wanted at", "lead_id"),
    "events": _section("events", "name properties occurred_at received_at message_id", "id lead_id seq routed_at"),
    "visitors": _section("browsers", "anonymous_id first_seen_at last_seen_at", "lead_id"),
    "score_changes": _section("score_changes", "at rule points message_id=event", "id lead_id version"),
    "segment_members": _section("segments", "segment since", "lead_id"),
    "journeys": _section(
        "journeys",
        "entry scenario key status outcome reason step waiting_for deadline=until entered_at starts_at started_at ended_at paused",
        "cause version lead_id entry_event_id turn listening retry_at",
    ),
    "deliveries": _section(
        "deliveries",
        "id kind mail scope=of entry step topic language piece variant status reason raw=mail_server_said claimed_at data_at sent_at "
        "next_at=asked_again_at bounced_at bounce complained_at opened_at clicked_at message_id forms",
        "visit broadcast_id lead_id text_hash attempt failures mark first_claimed_at",
    ),
    "gate_answers": _section(
        "gate_answers", "delivery_id=delivery mail scope=of answer reason until asked_at",
        "id lead_id entry step visit broadcast_id attempt moment",
    ),
    "mail_actions": _section(
        "opens_and_clicks", "delivery_id=delivery kind at verdict why=verdict_by client=hash_of_client agent=program",
        "id link_id method judged_at",
    ),
    "links": _section("links", "delivery_id=delivery url", "id"),
    "mail_reports": _section("came_back", "delivery_id=delivery kind status reason raw=report at", "id cause lead_id"),
    "handovers": _section(
        "handovers",
        "id status owner why score reasons opened_at accepted_at judged_at closed_at due due_at reason note amount "
        "was=qualification_before scope=scenario entry known_as=known_elsewhere_as reminders escalations",
        "cause lead_id company_id version owner_since clock_since told tell_at",
    ),
    "handover_events": _section(
        "handover_history", "handover_id=handover at move status by how owner reason note amount", "id version cause seq"
    ),
    "calls": _section(
        "calls", "id status why method script owner opened_at due_at outcome note by how done_at scope=scenario entry",
        "cause lead_id company_id seq",
    ),
    "tellings": _section(
        "told_to_others", "channel target what handover_id=handover call_id=call status reason details raw=answer created_at told_at",
        "id key lane lead_id version attempts next_at",
    ),
    "crm_links": _section("crm_records", "system their_id known seen pushed_at", "lead_id digest"),
    "crm_messages": _section(
        "crm_messages", "system their_id handover_id=handover move status reason created_at done_at", "id key lead_id attempts next_at"
    ),
}  # fmt: skip
"""Table → its section, in the order in which a person would read them."""


def shown(tables: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """What `everything_of` found, as sections. The lead itself is one object, all else are lists; an empty section is left out."""
    told: dict[str, Any] = {}
    for table, section in SECTIONS.items():
        rows = [{name: row[column] for column, name in section.names.items() if row[column] is not None} for row in tables.get(table, ())]
        if table == "leads":
            told[section.name] = rows[0] if rows else {}
        elif rows:
            told[section.name] = rows
    return told
