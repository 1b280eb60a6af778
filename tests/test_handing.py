"""Hand-overs in the database: opened once, decided once, told to journeys, scoring and the outside; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, col, select

from mebae import handing
from mebae.authoring import days, lead
from mebae.errors import BadInput, NotFound
from mebae.handing import Decided, Decision, Tended, Why
from mebae.handover import IllegalMove, Move
from mebae.sales import Person, SalesRules, Territory
from mebae.store.database import Database, lock_lead
from mebae.store.scoring import refresh
from mebae.store.tables import Company, Event, Handover, HandoverEvent, Lead, Telling
from mebae.timing import Calendar
from tests.leads import NOW, SATO, Diary, publish_model

ZONE, CALENDAR = "Asia/Tokyo", Calendar()
DAY = timedelta(days=1)
SALES = SalesRules(
    people=(
        Person(id="inoue", name="井上", email="inoue@mebae.example"),
        Person(id="inada", name="稲田", email="inada@mebae.example", slack="SLACK_INADA"),
        Person(id="field", name="原", role="field", email="hara@mebae.example"),
        Person(id="boss", name="部長", role="manager", email="boss@mebae.example"),
    ),
    territories=(Territory(when=lead.industry == "建設", people=("field",)),),
)


@pytest.fixture
def sales(database: Database) -> Database:
    publish_model(database, now=NOW - 200 * DAY)
    database.write_now(handing.publish_sales, SALES, NOW)
    return database


def person(database: Database, email: str = SATO, **columns: object) -> int:
    def write(session: Session) -> int:
        one = Lead(email=email, name="佐藤 健二", created_at=NOW, updated_at=NOW, **columns)
        session.add(one)
        session.flush()
        assert one.id is not None
        return one.id

    return database.write_now(write)


def give(database: Database, lead_id: int, cause: str = "command:1", now: datetime = NOW, owner: str | None = None) -> int:
    def write(session: Session) -> int:
        locked = lock_lead(session, lead_id)
        assert locked is not None
        why = Why(cause, "command", message="料金ページを閲覧", owner=owner)
        found = handing.open_or_join(session, locked, why, now, ZONE, CALENDAR).id
        assert found is not None
        return found

    return database.write_now(write)


def say(database: Database, handover: int, move: Move, now: datetime = NOW, **more: object) -> Decided:
    said = Decision(move, **({"by": "inoue", "how": "command"} | more))  # type: ignore[arg-type]
    return database.write_now(handing.decide, handover, said, now, ZONE, CALENDAR)


def tend(database: Database, handover: int, now: datetime) -> Tended:
    return database.write_now(handing.tend, handover, now, ZONE, CALENDAR)


def row(database: Database, handover: int) -> Handover:
    return database.read_now(lambda session: session.get_one(Handover, handover))


def the_lead(database: Database, lead_id: int) -> Lead:
    return database.read_now(lambda session: session.get_one(Lead, lead_id))


def events(database: Database, lead_id: int) -> list[str]:
    query = select(Event.name).where(Event.lead_id == lead_id).order_by(col(Event.seq))
    return database.read_now(lambda session: list(session.exec(query)))


def tellings(database: Database, status: str = "waiting") -> list[tuple[str, str, str]]:
    query = select(Telling).where(Telling.status == status).order_by(col(Telling.id))
    return database.read_now(lambda session: [(one.what, one.channel, one.target) for one in session.exec(query)])


def moves(database: Database, handover: int) -> list[str]:
    query = select(HandoverEvent.move).where(HandoverEvent.handover_id == handover).order_by(col(HandoverEvent.id))
    return database.read_now(lambda session: list(session.exec(query)))


def test_a_lead_given_to_sales_is_an_mql_with_an_owner_and_its_owner_is_told(sales: Database) -> None:
    one = person(sales)
    given = row(sales, give(sales, one))
    assert (given.status, given.owner, given.due) == ("open", "inoue", "remind")
    assert the_lead(sales, one).qualification == "mql"
    assert events(sales, one) == ["Handover Opened", "Qualified"]
    assert tellings(sales) == [("opened", "mail", "inoue")]


def test_a_second_hand_over_joins_the_one_that_is_open(sales: Database) -> None:
    one = person(sales)
    first = give(sales, one)
    assert give(sales, one, "command:2") == first
    assert give(sales, one, "command:2") == first  # the same again
    assert moves(sales, first) == ["open", "joined"]
    assert len(tellings(sales)) == 1


def test_two_that_hand_over_one_lead_at_once_open_one(sales: Database) -> None:
    one = person(sales)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda n: give(sales, one, f"command:{n}"), range(8)))
    assert len(found) == 1
    assert moves(sales, found.pop()) == ["open"] + ["joined"] * 7


def test_from_acceptance_to_a_won_deal_every_step_is_an_event_and_moves_the_qualification(sales: Database) -> None:
    one = person(sales)
    given = give(sales, one)
    for move, qualification in ((Move.ACCEPT, "accepted"), (Move.SQL, "sql"), (Move.OPPORTUNITY, "opportunity")):
        assert say(sales, given, move).changed
        assert the_lead(sales, one).qualification == qualification
    assert say(sales, given, Move.WON, amount=1_200_000).handover.amount == 1_200_000
    assert the_lead(sales, one).qualification == "won"
    assert events(sales, one)[2:] == [
        "Handover Accepted", "Qualified", "Sales Qualified", "Qualified", "Opportunity Opened", "Qualified", "Opportunity Won", "Qualified",
    ]  # fmt: skip
    assert (row(sales, given).due_at, row(sales, given).closed_at) == (None, NOW)


def test_pressed_twice_it_is_decided_once_and_the_second_who_presses_something_else_is_told_so(sales: Database) -> None:
    given = give(sales, person(sales))
    assert say(sales, given, Move.ACCEPT).changed
    assert not say(sales, given, Move.ACCEPT, by="inada").changed
    with pytest.raises(IllegalMove, match="that is accepted cannot take 'reject'"):
        say(sales, given, Move.REJECT, reason="too-early")
    with pytest.raises(handing.Outdated):
        say(sales, given, Move.RETURN, reason="too-early", version=1)
    assert moves(sales, given) == ["open", "accept"]


def test_two_people_who_press_at_once_decide_once(sales: Database) -> None:
    given = give(sales, person(sales))

    def press(move: Move) -> bool:
        try:
            return say(sales, given, move, reason="too-early").changed
        except IllegalMove:
            return False

    with ThreadPoolExecutor(6) as pool:
        changed = list(pool.map(press, [Move.ACCEPT, Move.REJECT] * 3))
    assert sum(changed) == 1
    assert len(moves(sales, given)) == 2


def test_a_rejection_needs_a_reason_that_exists(sales: Database) -> None:
    given = give(sales, person(sales))
    with pytest.raises(BadInput, match="needs a reason: one of too-early"):
        say(sales, given, Move.REJECT)
    with pytest.raises(NotFound, match="did you mean 'too-early'"):
        say(sales, given, Move.REJECT, reason="too-erly")
    with pytest.raises(NotFound, match="hand-over '999'"):
        say(sales, 999, Move.ACCEPT)
    assert row(sales, given).status == "open"


def test_nobody_answers_so_the_owner_is_reminded_then_the_manager_told_then_it_expires(sales: Database) -> None:
    one = person(sales)
    given = give(sales, one)  # Friday 10:00 in Tokyo
    monday, tuesday, friday = (datetime(2026, 4, day, 1, tzinfo=UTC) for day in (13, 14, 17))
    assert tend(sales, given, NOW + timedelta(minutes=5)) == Tended(over=False, until=monday)
    assert tend(sales, given, monday) == Tended(over=False, until=tuesday, did="remind")
    assert tend(sales, given, monday) == Tended(over=False, until=tuesday)  # once, however often somebody looks
    assert tend(sales, given, tuesday) == Tended(over=False, until=friday, did="escalate")
    assert tellings(sales)[1:] == [("reminder", "mail", "inoue"), ("escalation", "mail", "boss")]
    assert tend(sales, given, friday) == Tended(over=True, did="expire")
    assert moves(sales, given) == ["open", "reminded", "escalated", "expire"]
    assert the_lead(sales, one).qualification == "none"
    assert tellings(sales) == []  # nobody is asked any more to take it
    with pytest.raises(IllegalMove, match="that is expired cannot take 'accept'"):
        say(sales, given, Move.ACCEPT, friday)


def test_after_acceptance_the_second_clock_runs_until_sales_judges(sales: Database) -> None:
    given = give(sales, person(sales))
    say(sales, given, Move.ACCEPT)
    assert row(sales, given).due_at == datetime(2026, 4, 24, 1, tzinfo=UTC)
    say(sales, given, Move.SQL)
    assert row(sales, given).due_at is None


def test_inside_sales_passes_it_to_the_field_and_the_clock_starts_anew(sales: Database) -> None:
    given = give(sales, person(sales))
    with pytest.raises(BadInput, match="needs a person"):
        say(sales, given, Move.PASS)
    say(sales, given, Move.PASS, NOW + DAY, to="field")
    found = row(sales, given)
    assert (found.owner, found.status, found.owner_since) == ("field", "open", 2)
    assert found.clock_since == NOW + DAY
    assert tellings(sales)[-1] == ("passed", "mail", "field")
    with pytest.raises(BadInput, match="field's already"):
        say(sales, given, Move.PASS, to="field")


def test_owners_are_by_firm_then_territory_then_turn(sales: Database) -> None:
    def firm(session: Session) -> int:
        one = Company(name="青葉精機", name_key="青葉精機", created_at=NOW)
        session.add(one)
        session.flush()
        assert one.id is not None
        return one.id

    aoba = sales.write_now(firm)
    leads = [person(sales, f"{n}@example.jp", **more) for n, more in enumerate(
        ({"company_id": aoba}, {}, {"company_id": aoba}, {}, {"industry": "建設"}, {})
    )]  # fmt: skip
    owners = [row(sales, give(sales, one, f"command:{one}")).owner for one in leads]
    assert owners == ["inoue", "inada", "inoue", "inada", "field", "inoue"]


def test_a_crm_that_says_won_of_one_that_nobody_accepted_is_written_step_by_step(sales: Database) -> None:
    given = give(sales, person(sales))
    said = {"skipping": True, "by": "hubspot", "how": "crm", "cause": "hubspot:77", "amount": 500}
    assert say(sales, given, Move.WON, **said).changed
    assert not say(sales, given, Move.WON, **said).changed
    assert moves(sales, given) == ["open", "accept", "sql", "opportunity", "won"]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_crm_that_says_lost_of_one_that_nobody_judged_makes_no_sql_of_it(sales: Database, accepted: bool) -> None:
    one = person(sales)
    given = give(sales, one)
    if accepted:
        say(sales, given, Move.ACCEPT)
    said = {"skipping": True, "by": "hubspot", "how": "crm", "cause": "hubspot:78", "reason": "no-authority"}
    assert say(sales, given, Move.LOST, **said).changed
    assert moves(sales, given) == (["open", "accept", "lost"] if accepted else ["open", "lost"])
    assert "Sales Qualified" not in events(sales, one)
    found = row(sales, given)
    assert (found.status, found.due_at, found.judged_at, found.closed_at) == ("lost", None, NOW, NOW)
    assert the_lead(sales, one).qualification == "lost"


def test_a_rejected_lead_is_an_mql_again_only_by_what_it_did_since_and_after_its_rest(sales: Database) -> None:
    diary = Diary(sales, NOW)
    one = diary.is_someone(title="部長", industry="製造")
    diary.does("Page Viewed", path="/pricing")
    diary.does("Content Downloaded", content="whitepaper-1")
    diary.does("Seminar Attended", seminar="s1")
    assert the_lead(sales, one).qualification == "mql"
    given = give(sales, one)
    say(sales, given, Move.REJECT, NOW + DAY, reason="too-early")
    assert the_lead(sales, one).qualification == "none"
    # The old behaviour still gives points, and one more page view is no new ripeness.
    diary.now = NOW + 10 * DAY
    diary.does("Page Viewed", path="/pricing")
    assert (the_lead(sales, one).qualification, the_lead(sales, one).score > 100) == ("none", True)
    # It comes back in force, but its rest is not over.
    diary.now = NOW + 80 * DAY
    diary.does("Seminar Attended", seminar="s2")
    diary.does("Content Downloaded", content="whitepaper-2")
    assert the_lead(sales, one).qualification == "none"
    # When it is over, time alone makes it an MQL by what it did since.
    assert sales.write_now(refresh, NOW + 90 * DAY) + sales.write_now(refresh, NOW + 92 * DAY) > 0
    assert the_lead(sales, one).qualification == "mql"
    assert row(sales, give(sales, one, "command:2", NOW + 92 * DAY)).status == "open"


def test_a_lost_lead_stays_lost_until_it_is_ripe_anew(sales: Database) -> None:
    diary = Diary(sales, NOW)
    one = diary.is_someone(title="部長", industry="製造")
    given = give(sales, one)
    say(sales, given, Move.LOST, reason="no-authority", skipping=True)
    found = the_lead(sales, one)
    assert (found.qualification, found.nurtured_since, found.rests_until) == ("lost", NOW, NOW + 30 * DAY)
    diary.now = NOW + 40 * DAY
    diary.does("Page Viewed", path="/pricing")
    diary.does("Seminar Attended", seminar="s2")
    assert the_lead(sales, one).qualification == "mql"


@pytest.mark.parametrize("was", ["won", "sql", "opportunity"])
def test_a_customer_whom_sales_hands_back_is_a_customer_still(sales: Database, was: str) -> None:
    one = person(sales, qualification=was)
    rejected = give(sales, one)
    say(sales, rejected, Move.REJECT, reason="not-a-fit")
    assert the_lead(sales, one).qualification == was

    returned = give(sales, one, "command:2")
    say(sales, returned, Move.ACCEPT)
    say(sales, returned, Move.RETURN, reason="not-a-fit")
    assert the_lead(sales, one).qualification == was


def test_a_customer_whose_new_deal_is_lost_is_a_customer_still(sales: Database) -> None:
    one = person(sales, qualification="won")
    given = give(sales, one)
    for move in (Move.ACCEPT, Move.SQL, Move.OPPORTUNITY):
        say(sales, given, move)
    assert the_lead(sales, one).qualification == "opportunity"
    say(sales, given, Move.LOST, reason="competitor-chosen")
    found = the_lead(sales, one)
    assert (found.qualification, found.rests_until) == ("won", NOW + 180 * DAY), "its rest holds all the same"
    assert "Opportunity Lost" in events(sales, one)


def test_a_reason_may_have_a_rest_of_its_own(sales: Database) -> None:
    long = SALES.model_copy(update={"rest": days(10)})
    sales.write_now(handing.publish_sales, long, NOW)
    one = person(sales)
    say(sales, give(sales, one), Move.RETURN, reason="other")
    assert the_lead(sales, one).rests_until == NOW + 10 * DAY
    say(sales, give(sales, one, "command:2"), Move.RETURN, reason="not-a-fit")
    assert the_lead(sales, one).rests_until == NOW + 180 * DAY


def test_an_erased_lead_is_with_sales_no_more(sales: Database) -> None:
    one = person(sales)
    given = give(sales, one)

    def erase(session: Session) -> None:
        found = lock_lead(session, one)
        assert found is not None
        found.erased_at = NOW

    sales.write_now(erase)
    assert tend(sales, given, NOW) == Tended(over=True)
    assert row(sales, given).status == "withdrawn"


def test_rules_that_are_gone_take_no_hand_over_with_them(sales: Database) -> None:
    given = give(sales, person(sales), owner="inada")
    sales.write_now(handing.publish_sales, None, NOW)
    say(sales, given, Move.ACCEPT)
    assert row(sales, given).owner == "inada"
