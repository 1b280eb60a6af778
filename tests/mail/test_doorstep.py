"""What the mail server says in the session: of the address, it is a bounce; of us, it is none."""

from __future__ import annotations

import pytest

from mebae.mail.doorstep import refused_at_the_door
from mebae.store.database import Database
from mebae.words import DeliveryKind
from tests.mail.mailbox import Mailbox
from tests.mail.report_cases import NOW, TO


def test_lead_whose_address_is_refused_in_the_session_is_suppressed(database: Database) -> None:
    box = Mailbox(database)
    lead, other = box.lead(), box.lead("mori@tsubaki.example")
    gone = box.sent(
        lead,
        status="refused",
        sent_at=None,
        reason="recipient-refused",
        raw="550 5.1.1 <sato@aoba.example>: User unknown",
    )
    full = box.sent(other, status="refused", sent_at=None, reason="recipient-refused", raw="552 5.2.2 mailbox full")
    to = {gone: TO, full: "mori@tsubaki.example"}

    assert database.write_now(refused_at_the_door, to, NOW) == 1
    assert database.write_now(refused_at_the_door, to, NOW) == 0, "once"

    assert (box.suppressed(), box.suppressed("mori@tsubaki.example")) == ("hard-bounce", None)
    assert (box.delivery(gone).bounce, box.delivery(full).bounce) == ("hard", None)
    said = {
        "mail": "thanks",
        "scenario": "whitepaper-followup",
        "bounce": "hard",
        "reason": "mailbox-unknown",
        "status": "5.1.1",
    }
    assert box.events(lead) == [("Email Bounced", said)]
    assert box.events(other) == []


@pytest.mark.parametrize(
    "said",
    [
        "550 5.1.8 <hello@mebae.example>: Sender address rejected: Domain not found",
        "554 5.7.1 <sato@aoba.example>: Relay access denied",
        "554 5.7.1 Service unavailable; Client host [192.0.2.10] blocked using zen.blocklist.example",
        "550 5.7.1 looks like spam",
        "550 5.7.26 unauthenticated",
        "550 5.7.1",
        "550 No",
        "421 4.3.2 user unknown for now",
        '422 {"error": "recipient unknown"}',
        "",
    ],
)
def test_refusal_that_may_be_about_us_suppresses_nobody(sqlite_database: Database, said: str) -> None:
    box = Mailbox(sqlite_database)
    delivery = box.sent(box.lead(), status="refused", sent_at=None, reason="recipient-refused", raw=said)

    assert sqlite_database.write_now(refused_at_the_door, {delivery: TO}, NOW) == 0

    assert (box.suppressions(), box.delivery(delivery).bounce) == (0, None)


def test_refused_mail_to_sales_is_no_bounce_of_the_lead(sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    delivery = box.sent(
        box.lead(), kind=DeliveryKind.SALES, status="refused", sent_at=None, raw="550 5.1.1 User unknown"
    )

    assert sqlite_database.write_now(refused_at_the_door, {delivery: TO}, NOW) == 0
    assert box.suppressions() == 0


def test_lead_with_a_new_address_keeps_it_when_the_old_one_is_refused(sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    lead = box.lead("new@aoba.example")
    delivery = box.sent(lead, status="refused", sent_at=None, raw="550 5.1.1 User unknown")

    assert sqlite_database.write_now(refused_at_the_door, {delivery: "old@aoba.example"}, NOW) == 0
    assert (box.suppressions(), box.events(lead)) == (0, [])
