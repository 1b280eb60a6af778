"""The gate's and the ledger's codes in a person's words, each with what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.programs.wording import span_words

UNSET = "footer-unset"
"""The gate's code while settings are missing that a mail's footer shows."""


class Words(NamedTuple):
    """Why a mail did not go, and what would change that; empty where nothing would."""

    said: str
    cure: str = ""


GATE: Mapping[str, Words] = {
    "exits-when": Words("the scenario's exits_when was true, so the journey ended"),
    "paused": Words("the journey is paused", "mebae journeys resume lets it go on, and the mail at once"),
    "erased": Words("the lead was erased"),
    "no-address": Words("the lead has no address", "an identify or an import that brings one"),
    "no-consent": Words(
        "nobody recorded that the lead agreed to get mail, nor an exemption",
        "the box of a form that it ticks, or a record of what is so: mebae consent EMAIL --basis … --how …",
    ),
    "consent-withdrawn": Words(
        "what allowed it was withdrawn", "the lead agrees anew, by a form or with mebae consent EMAIL --how …"
    ),
    "basis-not-accepted": Words(
        "what is recorded is a ground that scenarios/mailing.py does not accept", "a consent, or another accepts= there"
    ),
    "opted-out": Words(
        "the lead unsubscribed, which counts more than any consent before it",
        "only the lead itself: it agrees again by a form, or says so (mebae consent EMAIL --how … --resubscribe)",
    ),
    "bounced": Words(
        "mail to this address came back", "another address of the lead; if it was a mistake, mebae suppressions lift EMAIL"
    ),
    "complained": Words("the lead's mail service reported that it complained about a mail of ours as spam"),
    "suppressed": Words(
        "the address is on the suppression list",
        "mebae suppressions lift EMAIL, if it is there by mistake, or a person that was erased asks for mail again",
    ),
    "topic-not-wanted": Words(
        "the lead chose to get no mail of this topic", "its own choice on the preference page; mail of other topics goes out"
    ),
    "sending-paused": Words(
        "all marketing mail was paused", "a person who looked into it lets it go on; the mail then follows by itself"
    ),
    "handover-open": Words(
        "the lead was with sales, and marketing mail waits meanwhile",
        "the hand-over's outcome; a rule in scenarios/sales.py may let mail pass",
    ),
    "frequency-cap": Words(
        "it had as many mails as the rules allow", "time, or another cap in scenarios/mailing.py; on_cap= of the step says what to do"
    ),
    "quiet-hours": Words("it was outside the hours for mail where the lead is", "time, or other hours= in scenarios/mailing.py"),
    "no-business-day": Words("it was no business day where the lead is", "time, or hours= without on=business_days"),
    UNSET: Words(
        "a setting is missing without which no mail shows what the law wants",
        "set what the worker's log and mebae check name, and start the worker anew; the mail then follows by itself",
    ),
}  # fmt: skip
"""Each code of the gate."""

FORETOLD: Mapping[str, str] = {
    "erased": "they were erased",
    "no-address": "they have no address",
    "no-consent": "nobody recorded that they agreed to get mail, nor an exemption",
    "consent-withdrawn": "what allowed it was withdrawn",
    "basis-not-accepted": "what is recorded is a ground that scenarios/mailing.py does not accept",
    "opted-out": "they unsubscribed",
    "bounced": "mail to their addresses came back",
    "complained": "they complained about a mail of ours as spam",
    "suppressed": "their addresses are on the suppression list",
    "topic-not-wanted": "they chose to get no mail of this topic",
    "sending-paused": "all marketing mail is paused; mebae sending resume lets it go on",
    "handover-open": "they are with sales, and marketing mail waits meanwhile",
    "frequency-cap": "they have had as many mails as the rules allow",
    "quiet-hours": "it is outside the hours for mail where they are",
    "no-business-day": "it is no business day where they are",
    UNSET: "no mail shows what the law wants; mebae check says which settings are missing",
}
"""Each code of the gate that can be said of a mail to many before there is one."""


def unset_words(names: Sequence[str]) -> str:
    """Which settings of a mail's footer are missing, and the cure.

    >>> unset_words(["MEBAE_SENDER_POSTAL"])
    'not set here: MEBAE_SENDER_POSTAL; set it for the worker (mebae up and mebae demo run with placeholders)'
    """
    them = "it" if len(names) == 1 else "them"
    return f"not set here: {', '.join(names)}; set {them} for the worker (mebae up and mebae demo run with placeholders)"


OF_AN_ERASED = Words(
    "whom the address belonged to was erased, and promised that nobody writes to it again",
    "mebae suppressions lift EMAIL, if the person asks for mail again; no form and no record of a consent lifts it",
)
"""Of an address that is suppressed as erased, whatever else the gate says of the lead that has it now."""

LEDGER: Mapping[str, Words] = {
    "mail-server-unavailable": Words(
        "the mail server did not answer, or said no for now", "it is tried again, for 72 hours; see the worker's log"
    ),
    "recipient-refused": Words("the mail server refused this recipient for good", "another address of the lead"),
    "gave-up": Words("the mail server said no for 72 hours"),
    "address-invalid": Words("no mail server could take this address", "another address of the lead"),
    "mail-invalid": Words("the mail cannot be filled in for this lead", "default_to(…) for what is missing; mebae mail preview shows it"),
    "mail-missing": Words("no text of this mail was ever published", "the mail's file, and the worker started anew"),
    "layout-missing": Words("the layout was never published", "scenarios/layouts/default.html, and the worker started anew"),
    "block-missing": Words("a block that the mail shows was never published", "the block's file, and the worker started anew"),
    "footer-missing": Words(
        "the rendered mail does not show what the law wants",
        "the layout: sender's name, postal address, contact and the opt-out link, in HTML and text; mebae check says which",
    ),
    "attempt-died-in-data": Words(
        "a worker died after the first byte, so nobody can say whether it arrived",
        "it is not sent again by itself: mebae mails unknown lists it, mebae mails settle settles it",
    ),
    "address-changed": Words("the lead's address changed while the mail was on its way", "it is made anew for the new address at once"),
    "came-back": Words("nobody could say whether it had arrived; then something came back about it, so it had gone out"),
    "retried-after-unknown": Words("it was sent once more, as nobody could say whether it had arrived"),
    "settled-by-hand": Words("nobody could say whether it had arrived; a person found that it did"),
    "holdout": Words("the lead was drawn to get none of this broadcast, so that one can see what the mail does"),
    "left-segment": Words("the mail had to wait, and then the lead was in the broadcast's segment no more"),
    "ended": Words("the journey or broadcast ended meanwhile"),
    "from-not-aligned": Words(
        "the mail's from: is of another organisation than the sender, and receivers would drop it",
        "an address of MEBAE_SENDER_EMAIL's domain in the mail's from:",
    ),
    "unexpected": Words("a fault in Mebae itself, for this lead alone", "the worker's log says where; please report it"),
}  # fmt: skip
"""Each further code of a delivery."""

LOST = ("attempt-died-in-data", "mail-server-unavailable", "unexpected")
"""What loses a mail's fate. With any other code an unknown mail's fate was lost before, and the code says why no second attempt
follows."""


def words_of(code: str | None) -> Words:
    """The words of a code; the code itself where there are none (of a newer worker)."""
    if code is None:
        return Words("")
    return GATE.get(code) or LEDGER.get(code) or Words(code)


def cap_words(cap: Cap) -> str:
    """
    >>> from mebae.timing import Duration
    >>> cap_words(Cap(2, Duration(days=7)))
    'at most 2 in 7 days'
    """
    return f"at most {cap.count} in {span_words(cap.within)}"


def topic_words(topic: Topic | None) -> str:
    """What the mails of a topic do not heed that other mails do; empty if nothing.

    >>> topic_words(Topic("reply", capped=False, at_any_time=True))
    'its mails go at any time, also outside the hours, and are not limited by the caps'
    """
    if topic is None:
        return ""
    if topic.transactional:
        return "its mails need no consent, and heed neither an unsubscribe nor topics, caps and hours"
    parts = ["go at any time, also outside the hours"] if topic.at_any_time else []
    parts += ["are not limited by the caps"] if not topic.capped else []
    return f"its mails {', and '.join(parts)}" if parts else ""


def hours_words(hours: SendingHours | None) -> str:
    """
    >>> hours_words(SendingHours("08:00", "20:00", business_days=True))
    'from 08:00 to 20:00 on business days'
    """
    if hours is None:
        return ""
    return f"from {hours.start} to {hours.end}" + (" on business days" if hours.business_days else "")


def rules_words(rules: MailRules) -> str:
    """The rules in a line, for `mebae check`."""
    parts = [f"topics {', '.join(topic.id for topic in rules.topics)}" if rules.topics else "no topics"]
    parts += [cap_words(cap) for cap in rules.caps]
    if rules.hours is not None:
        parts.append(hours_words(rules.hours))
    if not rules.needs_consent:
        parts.append("no consent needed")
    return "; ".join(parts)
