"""What follows from what comes back: whom it suppresses, what is an event, and what a forger can do (T4, C4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session

from mebae.mail.bounce_reasons import Reason
from mebae.mail.incoming import Incoming, IncomingRules, Outcome
from mebae.mail.reports import Kind
from mebae.mail.reputation import Counts, judge_complaints
from mebae.store import mail_reports
from mebae.store.database import Database
from mebae.store.mail_reports import KEPT, MOST_OF_ONE
from mebae.store.sending import by_day, by_domain, pause_sending, recent, resume_sending
from mebae.store.tables import Broadcast, JourneyRow, Lead
from mebae.words import DeliveryKind, DeliveryStatus
from tests.mail.mailbox import DAY, Mailbox
from tests.mail.report_cases import CASES, NOW, TO, TOKENS, load

ACTING = (Kind.BOUNCE_HARD, Kind.BOUNCE_SOFT, Kind.COMPLAINT, Kind.UNSUBSCRIBE)


def test_lead_whose_mail_comes_back_for_good_is_suppressed_at_once(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    taken = box.comes("postfix-mailbox-unknown", delivery)

    assert (taken.kind, taken.outcome, taken.reason) == (Kind.BOUNCE_HARD, Outcome.SUPPRESSED, Reason.MAILBOX_UNKNOWN)
    assert box.suppressed() == "hard-bounce"
    row = box.delivery(delivery)
    assert (row.bounce, row.bounced_at) == ("hard", NOW)
    said = {
        "mail": "thanks",
        "scenario": "whitepaper-followup",
        "bounce": "hard",
        "reason": "mailbox-unknown",
        "status": "5.1.1",
    }
    assert box.events(lead) == [("Email Bounced", said)]
    [report] = box.reports()
    assert (report.delivery_id, report.lead_id, report.kind, report.status, report.reason) == (
        delivery, lead, "bounce-hard", "5.1.1", "mailbox-unknown",
    )  # fmt: skip
    assert report.raw == load("postfix-mailbox-unknown", delivery=delivery, message_id=row.message_id)
    assert box.the_lead(lead).active_at is None, "a bounce is nothing that the lead did"


def test_bounce_of_a_broadcasts_mail_names_the_broadcast(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()

    def run(session: Session) -> int:
        row = Broadcast(cause="command:1", broadcast="news-december", plan="{}", status="running", due_at=NOW)
        session.add(row)
        session.flush()
        return row.id or 0

    delivery = box.sent(lead, broadcast_id=database.write_now(run), scope="news-december", mail="news")

    assert box.comes("postfix-mailbox-full", delivery).outcome == Outcome.COUNTED
    [(_, properties)] = box.events(lead)
    assert (properties["mail"], properties["broadcast"], "scenario" in properties) == ("news", "news-december", False)


def test_same_report_twice_counts_once(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    outcomes = [box.comes("postfix-expired", delivery).outcome for _ in range(3)]

    assert outcomes == [Outcome.COUNTED, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert box.the_lead(lead).soft_bounces == 1
    assert len(box.events(lead)) == len(box.reports()) == 1


def test_same_report_on_eight_connections_counts_once(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery, barrier = box.sent(lead), Barrier(8)
    raw = load("postfix-expired", delivery=delivery)

    def give(_: int) -> Outcome:
        barrier.wait()
        return box.incoming.take(raw).outcome

    with ThreadPoolExecutor(8) as threads:
        outcomes = sorted(threads.map(give, range(8)))

    assert outcomes == [Outcome.COUNTED] + [Outcome.DUPLICATE] * 7
    assert box.the_lead(lead).soft_bounces == 1


def test_two_reports_about_one_mail_count_once(database: Database) -> None:
    """A server that repeats its report, and then gives up for good: one soft bounce, one hard one."""
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    box.comes("postfix-expired", delivery)
    box.comes("postfix-expired", delivery, unique="again")
    assert box.the_lead(lead).soft_bounces == 1

    box.comes("postfix-mailbox-unknown", delivery)
    box.comes("exim-retry-timeout", delivery)
    assert [properties["bounce"] for _, properties in box.events(lead)] == ["soft", "hard"]
    assert box.delivery(delivery).bounce == "hard"
    assert box.suppressed() == "hard-bounce"


def test_lead_is_suppressed_after_so_many_soft_bounces_in_a_row(database: Database) -> None:
    box = Mailbox(database, soft_bounces=3)
    lead = box.lead()
    why = []
    for _ in range(3):
        box.now += 7 * DAY
        box.comes("postfix-mailbox-full", box.sent(lead), unique=f"{box.now:%m%d}")
        why.append(box.suppressed())

    assert why == [None, None, "soft-bounces"]


@pytest.mark.parametrize("sign", ["opened", "clicked", "stayed", "delivered"])
def test_sign_of_life_ends_the_row_of_soft_bounces(database: Database, sign: str) -> None:
    box = Mailbox(database, soft_bounces=3)
    lead = box.lead()
    first, second = box.sent(lead), box.sent(lead)
    for delivery in (first, second):
        box.now += DAY
        box.comes("postfix-mailbox-full", delivery, unique=f"before{delivery}")
    assert box.the_lead(lead).soft_bounces == 2

    box.now += DAY
    match sign:
        case "opened":
            box.sent(lead, opened_at=box.now)
        case "clicked":
            box.sent(lead, at=NOW - 90 * DAY, clicked_at=box.now)
        case "stayed":
            box.sent(lead)
        case "delivered":
            box.comes("postfix-delivered", box.sent(lead))
    box.now += 7 * DAY
    box.comes("postfix-mailbox-full", box.sent(lead), unique="after")

    assert box.the_lead(lead).soft_bounces == 1
    assert box.suppressed() is None


def test_mail_that_may_still_come_back_is_no_sign_of_life(database: Database) -> None:
    box = Mailbox(database, soft_bounces=2)
    lead = box.lead()
    box.comes("postfix-mailbox-full", box.sent(lead), unique="1")
    box.now += DAY
    box.sent(lead)
    box.now += 3 * DAY

    box.comes("postfix-mailbox-full", box.sent(lead), unique="2")

    assert box.suppressed() == "soft-bounces"


@pytest.mark.parametrize(
    "name", ["blocked-by-list", "spam-content", "dmarc-unauthenticated", "relay-denied", "too-large"]
)
def test_fault_of_ours_suppresses_nobody_however_often(sqlite_database: Database, name: str) -> None:
    box = Mailbox(sqlite_database, soft_bounces=2)
    lead = box.lead()
    for number in range(4):
        box.comes(name, box.sent(lead), unique=f"{number}")

    assert (box.suppressions(), box.the_lead(lead).soft_bounces) == (0, 0)
    assert [properties["bounce"] for _, properties in box.events(lead)] == ["soft"] * 4


@pytest.mark.parametrize("name", ["arf-abuse", "arf-redacted", "arf-only-list-unsubscribe-left", "jmrp-complaint"])
def test_lead_who_calls_a_mail_spam_gets_none_any_more(database: Database, name: str) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    taken = box.comes(name, delivery)

    assert (taken.kind, taken.outcome) == (Kind.COMPLAINT, Outcome.SUPPRESSED)
    assert box.suppressed() == "complaint"
    assert box.the_lead(lead).opted_out_at == NOW, "with another address it must not get mail again"
    assert box.delivery(delivery).complained_at == NOW
    assert [name for name, _ in box.events(lead)] == ["Email Complained"]
    box.comes(name, delivery, unique="again")
    assert len(box.events(lead)) == 1


@pytest.mark.parametrize(
    "name", ["unsubscribe-by-mail", "unsubscribe-by-a-program", "unsubscribe-in-the-subject", "arf-opt-out"]
)
def test_lead_who_unsubscribes_by_mail_is_unsubscribed_as_by_the_page(database: Database, name: str) -> None:
    box = Mailbox(database)
    lead = box.lead()

    assert box.comes(name, box.sent(lead)).outcome == Outcome.UNSUBSCRIBED

    assert box.the_lead(lead).opted_out_at == NOW
    assert box.suppressed() == "unsubscribed"
    assert box.events(lead) == [("Unsubscribed", {"how": "mail", "mail": "thanks", "scenario": "whitepaper-followup"})]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("taishoku-japanese", "left"),
        ("no-longer-with-the-company", "left"),
        ("idou-japanese", "moved"),
        ("fuzai-japanese", "away"),
    ],
)
def test_automatic_reply_is_an_event_that_says_what_became_of_the_person(
    database: Database, name: str, says: str
) -> None:
    box = Mailbox(database)
    lead = box.lead()

    assert box.comes(name, box.sent(lead)).outcome == Outcome.NOTED

    assert box.events(lead) == [
        ("Email Auto-Replied", {"mail": "thanks", "scenario": "whitepaper-followup", "says": says})
    ]
    assert (box.suppressions(), box.the_lead(lead).opted_out_at) == (0, None)
    assert box.reports()[0].reason == says


@pytest.mark.parametrize(
    "name", ["form-confirmation", "read-receipt", "challenge", "postfix-delayed", "reply-of-a-person", "arf-not-spam"]
)
def test_what_means_nothing_for_the_lead_is_kept_and_does_nothing(sqlite_database: Database, name: str) -> None:
    box = Mailbox(sqlite_database)
    lead = box.lead()
    delivery = box.sent(lead)

    assert box.comes(name, delivery).outcome == Outcome.KEPT

    assert (box.events(lead), box.suppressions(), box.delivery(delivery).bounced_at) == ([], 0, None)
    assert box.reports()[0].delivery_id == delivery


def test_mail_of_unknown_fate_that_comes_back_was_sent(database: Database) -> None:
    box = Mailbox(database)
    delivery = box.sent(box.lead(), status=DeliveryStatus.UNKNOWN, sent_at=None, reason="attempt-died-in-data")

    box.comes("fuzai-japanese", delivery)

    row = box.delivery(delivery)
    assert (row.status, row.sent_at, row.reason) == ("sent", NOW, "came-back")


# What a forger can do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forged-names-only-the-address", "arf-forged", "bounce-of-somebody-elses-mail"])
def test_forged_report_suppresses_nobody_and_is_listed(database: Database, name: str) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    assert box.comes(name, delivery).outcome == Outcome.UNPROVEN

    assert (box.suppressions(), box.events(lead), box.delivery(delivery).bounced_at) == (0, [], None)
    [report] = box.reports()
    assert report.delivery_id is None
    # Erasing the lead finds what names its address.
    assert report.lead_id == (None if name == "bounce-of-somebody-elses-mail" else lead)


def test_nothing_follows_without_proof_from_any_mail_of_the_corpus(sqlite_database: Database) -> None:
    """The same mails, signed with another installation's key, about Message-IDs that are not ours."""
    box = Mailbox(sqlite_database)
    lead = box.lead()
    delivery = box.sent(lead)
    others = Incoming(
        sqlite_database, IncomingRules(TOKENS.read_keys(["20260101:the-key-of-somebody-else"])), lambda: NOW
    )

    for name, said in CASES.items():
        if said.kind in ACTING:
            assert others.take(load(name, delivery=delivery)).outcome == Outcome.UNPROVEN, name

    assert (box.suppressions(), box.events(lead), box.the_lead(lead).opted_out_at) == (0, [], None)


def test_message_id_is_proof_only_together_with_the_address(database: Database) -> None:
    box = Mailbox(database)
    sato, mori = box.lead(), box.lead("mori@tsubaki.example")
    delivery = box.sent(mori)

    assert box.comes("only-the-message-id", delivery).outcome == Outcome.UNPROVEN
    assert box.suppressions() == 0
    assert box.reports()[0].lead_id == sato

    assert (
        box.comes("only-the-message-id", delivery, email="mori@tsubaki.example", unique="2").outcome
        == Outcome.SUPPRESSED
    )
    assert (box.suppressed(), box.suppressed("mori@tsubaki.example")) == (None, "hard-bounce")


def test_address_that_takes_bounces_unsubscribes_nobody(sqlite_database: Database) -> None:
    """Whoever forwards a mail shows its return address; only the link and address that are made for it unsubscribe."""
    box = Mailbox(sqlite_database)
    lead = box.lead()
    delivery = box.sent(lead)
    raw = load("unsubscribe-by-mail", delivery=delivery)
    to = load("reply-of-a-person", delivery=delivery).partition(b"To: ")[2].partition(b"\n")[0]
    forged = raw.replace(
        raw.partition(b"To: ")[2].partition(b"\n")[0], b"unsubscribe+" + b"a" * 28 + b"@return.mebae.example, " + to
    )

    assert box.incoming.take(forged).outcome == Outcome.UNPROVEN
    assert box.the_lead(lead).opted_out_at is None


def test_who_has_a_mail_of_ours_cannot_suppress_another_address_with_it(database: Database) -> None:
    """A lead takes another address, and reports a bounce of its old mail that names somebody else."""
    box = Mailbox(database)
    lead = box.lead("villain@evil.example")
    delivery = box.sent(lead)
    box.now += DAY
    box.changes_address(lead, "villain@elsewhere.example")

    box.comes("postfix-mailbox-unknown", delivery, email=TO)

    assert box.suppressions() == 0
    assert [name for name, _ in box.events(lead)] == ["Lead Identified", "Email Bounced"]


def test_lead_with_a_new_address_is_not_suppressed_for_its_old_one(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)
    box.now += DAY
    box.changes_address(lead, "sato@newjob.example")

    assert box.comes("postfix-mailbox-unknown", delivery).outcome == Outcome.NOTED
    assert box.suppressions() == 0


def test_new_address_begins_a_new_row_of_soft_bounces(database: Database) -> None:
    box = Mailbox(database, soft_bounces=2)
    lead = box.lead()
    first, second = box.sent(lead), box.sent(lead)
    box.comes("postfix-mailbox-full", first, unique="1")
    box.now += DAY
    box.changes_address(lead, "sato@newjob.example")

    box.comes("postfix-mailbox-full", second, unique="2")
    assert box.the_lead(lead).soft_bounces == 0, "the old address says nothing of the new one"
    box.now += DAY
    box.comes("postfix-mailbox-full", box.sent(lead), email="sato@newjob.example", unique="3")

    assert box.the_lead(lead).soft_bounces == 1
    assert box.suppressions() == 0


def test_report_that_names_only_the_journey_is_listed_under_its_lead(sqlite_database: Database) -> None:
    """So that erasing the lead finds it; a number that anybody can write proves nothing."""
    box = Mailbox(sqlite_database)
    lead = box.lead()

    def journey(session: Session) -> None:
        session.add(
            JourneyRow(entry=12, cause="c", scenario="s", version="v", lead_id=lead, status="resting", entered_at=NOW)
        )

    sqlite_database.write_now(journey)

    taken = box.comes("forged-names-only-the-address", box.sent(lead), email="who@elsewhere.example")

    assert taken.outcome == Outcome.UNPROVEN
    assert (box.reports()[0].lead_id, box.reports()[0].delivery_id, box.suppressions()) == (lead, None, 0)


def test_forwarded_mail_that_comes_back_suppresses_the_address_that_we_know(database: Database) -> None:
    box = Mailbox(database)
    delivery = box.sent(box.lead())

    box.comes("postfix-mailbox-unknown", delivery, email="k.sato@private.example")

    assert box.suppressed() == "hard-bounce"
    assert box.suppressed("k.sato@private.example") is None


def test_token_in_its_recipients_hands_does_not_fill_the_disk(sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    delivery = box.sent(box.lead())

    outcomes = [
        box.comes("advertising-to-our-address", delivery, unique=f"{number}").outcome
        for number in range(MOST_OF_ONE + 2)
    ]

    assert outcomes == [Outcome.KEPT] * MOST_OF_ONE + [Outcome.REFUSED] * 2
    assert box.comes("advertising-to-our-address", delivery, unique="0").outcome == Outcome.DUPLICATE


def test_of_a_large_report_the_beginning_is_kept(sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    raw = load("postfix-mailbox-unknown", delivery=box.sent(box.lead())) + b"x" * 5_000_000

    assert box.incoming.take(raw).outcome == Outcome.SUPPRESSED

    assert box.reports()[0].raw == raw[:KEPT]


def test_flood_without_proof_is_counted_and_not_hoarded(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_reports, "UNPROVEN_A_DAY", 3)
    box = Mailbox(sqlite_database)
    for number in range(4):
        box.incoming.take(
            b"From: x@evil.example\nSubject: Undelivered mail\nMessage-ID: <%d@evil>\n\ncould not be delivered" % number
        )

    kept = [report.raw is not None for report in box.reports()]
    assert kept == [True, True, True, False]


def test_what_came_without_proof_is_forgotten_after_a_month(database: Database) -> None:
    box = Mailbox(database)
    delivery = box.sent(box.lead())
    box.comes("forged-names-only-the-address", delivery)
    box.comes("postfix-expired", delivery)

    assert database.write_now(mail_reports.forget_unproven, NOW + 29 * DAY, 500) == 0
    assert database.write_now(mail_reports.forget_unproven, NOW + 31 * DAY, 500) == 1
    assert database.write_now(mail_reports.forget_unproven, NOW + 31 * DAY, 500) == 0
    assert [report.raw is None for report in box.reports()] == [True, False]


# Whose mail it was ---------------------------------------------------------------------------------------------------


def test_mail_to_sales_that_comes_back_is_no_bounce_of_the_lead(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead, kind=DeliveryKind.SALES, mail="notify")

    taken = box.comes("postfix-mailbox-unknown", delivery)

    assert (taken.outcome, taken.to_sales) == (Outcome.KEPT, True)
    assert (box.suppressions(), box.events(lead), box.delivery(delivery).bounce) == (0, [], "hard")


def test_of_an_erased_lead_nothing_is_kept(database: Database) -> None:
    box = Mailbox(database)
    lead = box.lead()
    delivery = box.sent(lead)

    def erase(session: Session) -> None:
        row = session.get_one(Lead, lead)
        row.email, row.erased_at = None, NOW

    database.write_now(erase)

    assert box.comes("postfix-mailbox-unknown", delivery).outcome == Outcome.KEPT
    assert (box.events(lead), box.reports()[0].raw) == ([], None)


# Too many complaints (C4) --------------------------------------------------------------------------------------------


def complaints(box: Mailbox, count: int) -> list[str]:
    """So many leads call a mail spam that went out a moment ago; what each of them leads to."""
    verdicts: list[str] = []
    for _ in range(count):
        number = box.number()
        delivery = box.sent(box.lead(f"lead{number}@aoba.example"))
        box.now += DAY / 24
        verdicts.append(box.comes("arf-redacted", delivery, unique=f"c{number}").verdict)
    return verdicts


def test_complaints_warn_and_then_stop_all_sending(database: Database) -> None:
    box = Mailbox(database)
    box.many_sent(box.lead("many@tsubaki.example"), 1_994)

    assert complaints(box, 6) == ["fine", "warn", "warn", "warn", "warn", "pause"]

    row = box.workspace()
    assert (row.sending_paused_at, row.sending_paused_why) == (box.now, "complaints")


def test_few_mails_make_no_rate_and_many_complaints_of_few_mails_do(database: Database) -> None:
    box = Mailbox(database)

    assert complaints(box, 3) == ["warn", "warn", "pause"]


def test_a_person_resumes_and_earlier_complaints_pause_no_more(database: Database) -> None:
    box = Mailbox(database)
    complaints(box, 3)
    box.now += DAY

    assert database.write_now(resume_sending, box.now) is True
    assert database.write_now(resume_sending, box.now) is False

    row = box.workspace()
    assert (row.sending_paused_at, row.sending_paused_why, row.sending_resumed_at) == (None, None, box.now)
    assert complaints(box, 3) == ["warn", "warn", "pause"], "only those that come after it count"
    assert box.workspace().sending_paused_at == box.now


def test_complaints_of_last_month_are_forgotten(database: Database) -> None:
    box = Mailbox(database)
    complaints(box, 2)
    box.now += 30 * DAY

    assert complaints(box, 1) == ["warn"]


def test_pause_by_hand_stays_by_hand(database: Database) -> None:
    box = Mailbox(database)
    assert database.write_now(pause_sending, "by-hand", NOW) is True

    complaints(box, 3)

    assert (box.workspace().sending_paused_at, box.workspace().sending_paused_why) == (NOW, "by-hand")


def test_of_complaints_at_the_same_moment_the_last_sees_them_all(database: Database) -> None:
    box = Mailbox(database)
    raws = [load("arf-redacted", delivery=box.sent(box.lead(f"lead{n}@aoba.example"))) for n in range(3)]
    barrier = Barrier(3)

    def give(raw: bytes) -> bool:
        barrier.wait()
        return box.incoming.take(raw).paused

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(give, raws)) == 1

    assert box.workspace().sending_paused_at is not None


@given(st.integers(0, 2_000_000), st.integers(0, 10_000))
def test_verdict_is_the_rate_against_the_two_thresholds(sent: int, complained: int) -> None:
    counts = Counts(sent=sent, complaints=complained)

    verdict = judge_complaints(counts)

    rate = complained / max(sent, 1000)
    assert counts.complaint_rate == rate
    if abs(rate - 0.001) > 1e-9 and abs(rate - 0.003) > 1e-9:
        assert verdict == ("pause" if rate > 0.003 else "warn" if rate > 0.001 else "fine")
    assert (sent >= 1000 or complained >= 3) or verdict != "pause"


def test_counts_by_day_and_domain(database: Database) -> None:
    box = Mailbox(database)
    sato, mori = box.lead(), box.lead("mori@tsubaki.example")
    box.comes("postfix-mailbox-unknown", box.sent(sato))
    box.comes("blocked-by-list", box.sent(mori, at=NOW - DAY), unique="1")
    box.comes("arf-redacted", box.sent(mori, at=NOW - DAY), unique="2")
    box.sent(mori, at=NOW - DAY)
    box.sent(mori, at=NOW - 20 * DAY)
    box.sent(sato, kind=DeliveryKind.SALES)
    box.sent(sato, status=DeliveryStatus.UNKNOWN, sent_at=None)
    box.sent(mori, status=DeliveryStatus.REFUSED, sent_at=None, bounce="hard", bounced_at=NOW - DAY)

    assert database.read_now(recent, NOW) == Counts(sent=4, hard=2, soft=1, complaints=1, unknown=1)
    days = database.read_now(by_day, NOW, "Asia/Tokyo", 3)
    assert [counts for _, counts in days] == [Counts(1, 1, 0, 0, 1), Counts(3, 1, 1, 1, 0), Counts()]
    assert f"{days[0][0]}" == "2026-11-27"
    assert database.read_now(by_domain, NOW - 7 * DAY, NOW + DAY, 10) == [
        ("tsubaki.example", Counts(3, 1, 1, 1, 0)), ("aoba.example", Counts(1, 1, 0, 0, 1)),
    ]  # fmt: skip
