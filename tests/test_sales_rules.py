"""`scenarios/sales.py`: read with every problem at once, published, and what follows from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from mebae import handing
from mebae.authoring import answered, any_of, days, did, lead, requested_quote
from mebae.conditions import Condition
from mebae.errors import ScenarioError
from mebae.gating import GateFacts, GateRules, decide
from mebae.handover import UNDER_WAY
from mebae.journey import Postponed
from mebae.loading import load_scenario
from mebae.router import route
from mebae.sales import Digest, Person, SalesRules, Territory
from mebae.sales_loading import load_sales
from mebae.store.database import Database, lock_lead
from mebae.store.ingest import EventLog
from mebae.store.sales import held_by_sales, rules_of
from mebae.store.tables import Handover, JourneyRow
from mebae.timing import Calendar
from tests.leads import NOW, Diary, publish_model, publish_scenario

ROOT = Path(__file__).parents[1]
HOUR = timedelta(hours=1)


def written(folder: Path, text: str) -> Path:
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "sales.py").write_text(f"from mebae.sales_language import *\n{text}")
    return folder


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ScenarioError) as refused:
        load_sales(written(folder, text))
    return str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        (lead.score >= 80) & any_of(did(requested_quote()), did(answered(budget="確保済み"))), lead.stage.at_least("interest"),
        ~lead.tags.has("competitor"), lead.company.is_known() | lead.created_at.older_than(days(30)), lead.email.like("*@aoba.example"),
    ],
    ids=str,
)  # fmt: skip
def test_rules_with_any_condition_come_back_from_the_database(sqlite_database: Database, condition: Condition) -> None:
    rules = SalesRules(
        people=(Person(id="sato"),), sql=condition, territories=(Territory(when=condition, people=("sato",)),),
        digest=Digest(every="fri", when=condition),
    )  # fmt: skip
    sqlite_database.write_now(handing.publish_sales, rules, NOW)
    assert sqlite_database.read_now(rules_of) == rules


def test_the_shipped_rules_load_and_come_back_from_the_database(database: Database) -> None:
    rules = load_sales(ROOT)
    assert rules is not None
    database.write_now(handing.publish_sales, rules, NOW)
    assert database.read_now(rules_of) == rules
    assert load_sales(ROOT / "tests") is None


def test_every_slip_is_told_at_once(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        'sales = Sales(people=[person("Sato", "佐藤", "sato"), person("ito"), person("ito")],\n'
        '  territories=[territory(lead.industy == "製造", "itoo")], reasons=[reason("a b"), reason("x", rest=days(0))],\n'
        '  webhook_hosts=["https://hooks.slack.com/x"], sql=lead.stage.at_least("intrest"), rest=days(4000))',
    )
    for words in (
        "an id is small letters", "'sato' is no address", "two people have the id 'ito'",
        "'itoo' is none of the people, did you mean 'ito'?",
        "no lead has 'lead.industy'", "a code is small letters", "a duration of zero", "is no host",
        "did you mean 'interest'", "more than ten years",
    ):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ('sales = Sales(people=person("a"))', "they stand in a list"),
        ('sales = Sales(people=[person("a", slack="https://hooks.slack.com/services/T0/B0/secret")])', "not the address"),
        ('sales = Sales(people=[person("a")], response=business_days(1))', "write response=deadline(business_days(1))"),
        ('sales = Sales(people=[person("a", role="inn")])', 'write role="inside" or'),
        ('sales = Sales(people=[person("a")], mail_waits="allways")', 'write mail_waits="until-judged"'),
        ('sales = Sales(people=[person("a")], open=between("18:00", "09:00"))', 'write open=between("09:00", "18:00")'),
        ("x = 1", "write sales = Sales(people=[…])"),
    ],
)  # fmt: skip
def test_a_wrong_spelling_shows_the_right_one(tmp_path: Path, text: str, cure: str) -> None:
    said = problems(tmp_path, text)
    assert cure in said
    assert "secret" not in said


def test_a_new_mql_is_handed_over_where_the_rules_say_so_once(database: Database) -> None:
    publish_model(database, now=NOW - timedelta(days=300))
    database.write_now(handing.publish_sales, SalesRules(people=(Person(id="sato"),), on_mql=True), NOW)
    diary = Diary(database)
    diary.is_someone(title="部長", industry="製造")
    diary.does("Page Viewed", path="/pricing")
    diary.does("Seminar Attended", seminar="s1")
    for _ in range(3):
        database.write_now(route, now=NOW, zone="Asia/Tokyo")
    [given] = database.read_now(lambda session: list(session.exec(select(Handover))))
    assert given.cause.startswith("event:")
    assert (given.owner, given.status, given.score > 80, given.reasons[0]["rule"]) == ("sato", "open", True, "セミナー参加")


def test_without_the_rule_an_mql_stays_with_marketing(sqlite_database: Database) -> None:
    publish_model(sqlite_database, now=NOW - timedelta(days=300))
    diary = Diary(sqlite_database)
    diary.is_someone(title="部長", industry="製造")
    diary.does("Page Viewed", path="/pricing")
    diary.does("Seminar Attended", seminar="s1")
    sqlite_database.write_now(route, now=NOW, zone="Asia/Tokyo")
    assert sqlite_database.read_now(lambda session: session.exec(select(Handover)).first()) is None


@pytest.mark.parametrize(
    ("waits", "expected"),
    [("until-judged", [True, True, False, False]), ("until-closed", [True, True, True, False]), ("never", [False] * 4)],
)
def test_how_long_marketing_mail_waits_is_the_rules_to_say(sqlite_database: Database, waits: str, expected: list[bool]) -> None:
    rules = SalesRules(mail_waits=waits)  # type: ignore[arg-type]
    sqlite_database.write_now(handing.publish_sales, rules, NOW)
    one = Diary(sqlite_database).is_someone()

    def give(session: Session) -> None:
        locked = lock_lead(session, one)
        assert locked is not None
        handing.open_or_join(session, locked, handing.Why("command:1", "command"), NOW, "Asia/Tokyo", Calendar())

    def say(word: str) -> None:
        said = handing.Decision(handing.Move(word), "sales", "command", reason="other")
        sqlite_database.write_now(handing.decide, 1, said, NOW, "Asia/Tokyo", Calendar())

    def held(session: Session) -> dict[int, datetime]:
        rows = session.exec(select(Handover).where(col(Handover.status).in_(UNDER_WAY)))
        return held_by_sales(session, [(row.lead_id, row.status, row.opened_at) for row in rows])

    found = []
    for step in (lambda: sqlite_database.write_now(give), lambda: say("accept"), lambda: say("sql"), lambda: say("lost")):
        step()
        found.append(one in sqlite_database.read_now(held))
    assert found == expected


def test_a_mail_waits_as_long_again_as_the_lead_has_been_with_sales() -> None:
    def asked(hours: int) -> object:
        facts = GateFacts(bases=("consent",), with_sales_since=NOW - hours * HOUR)
        return decide(facts, GateRules(), NOW)

    assert asked(1) == Postponed(NOW + 4 * HOUR, "handover-open")
    assert asked(10) == Postponed(NOW + 10 * HOUR, "handover-open")
    assert asked(1000) == Postponed(NOW + 24 * HOUR, "handover-open")


@pytest.mark.parametrize("by_hand", [True, False], ids=["given by hand", "ripe by the rules"])
def test_who_is_given_to_sales_by_hand_does_not_enter_the_scenario_that_hands_over_mqls(sqlite_database: Database, by_hand: bool) -> None:
    publish_scenario(sqlite_database, load_scenario(ROOT / "scenarios" / "mql_to_sales").scenario)
    one = Diary(sqlite_database).is_someone()

    def ripens(session: Session) -> None:
        locked = lock_lead(session, one)
        assert locked is not None
        if by_hand:
            handing.open_or_join(session, locked, handing.Why("command:1", "command"), NOW, "Asia/Tokyo", Calendar())
        else:
            log = EventLog(NOW)
            log.add(locked, "ripe", "Qualified", {"qualification": "mql", "from": "none"})
            log.write(session)
            locked.qualification = "mql"

    sqlite_database.write_now(ripens)
    sqlite_database.write_now(lambda session: route(session, now=NOW, zone="Asia/Tokyo"))
    rows = sqlite_database.read_now(lambda session: session.exec(select(JourneyRow)).all())
    entered = [(row.status, row.reason) for row in rows if row.scenario == "mql-to-sales"]
    assert entered == ([("refused", "audience")] if by_hand else [("starting", None)])
