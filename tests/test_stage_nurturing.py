"""The shipped loop: who gets in, who does not, and where it leads."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlmodel import Session, col, select

from mebae.graph import HandToSales, outcomes_of
from mebae.loading import load_scenario
from mebae.router import route
from mebae.store.database import Database
from mebae.store.tables import JourneyRow, Lead, PublishedScenario, ScenarioVersion
from mebae.timing import Calendar
from tests.leads import DAY, NOW, Diary, publish_model

ROOT = Path(__file__).parents[1]
GRAPH = load_scenario(ROOT / "scenarios" / "stage_nurturing").graph


@pytest.fixture
def registered(database: Database) -> Database:
    """A buyer, a competitor and one that sales has already, all registered for the library."""
    publish_model(database, now=NOW - 200 * DAY)

    def publish(session: Session) -> None:
        session.merge(ScenarioVersion(version=GRAPH.version, scenario=GRAPH.scenario, graph=GRAPH.dump(), published_at=NOW))
        session.flush()
        session.merge(PublishedScenario(scenario=GRAPH.scenario, version=GRAPH.version))

    database.write_now(publish)
    diary = Diary(database, NOW)
    diary.is_someone("buyer@aoba.example", name="買手")
    diary.is_someone("rival@rival.example", name="競合")
    diary.tag("rival@rival.example", "competitor")
    busy = diary.is_someone("busy@minato.example", name="商談中")

    def judge(session: Session) -> None:
        session.get_one(Lead, busy).qualification = "opportunity"

    database.write_now(judge)
    for email in ("buyer@aoba.example", "rival@rival.example", "busy@minato.example"):
        diary.does("Form Submitted", email=email, form="library-registration")
    return database


def test_a_competitor_and_a_lead_that_sales_has_get_no_content(registered: Database) -> None:
    registered.write_now(route, now=NOW, zone="Asia/Tokyo", calendar=Calendar())
    query = select(Lead.name, JourneyRow.status).join(JourneyRow).order_by(col(JourneyRow.entry))
    found = registered.read_now(lambda session: [(name, status) for name, status in session.exec(query)])
    assert [name for name, status in found if status != "refused"] == ["買手"]
    assert {name for name, status in found if status == "refused"} == {"競合", "商談中"}


def test_every_outcome_of_sales_leads_to_the_end_or_back_into_the_loop() -> None:
    [sales] = [step for step in GRAPH.steps if isinstance(step, HandToSales)]
    assert {"sql", "returned", "rejected", "expired"} <= set(outcomes_of(sales))
