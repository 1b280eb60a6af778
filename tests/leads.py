"""Leads with a history, stored as ingestion stores them and scored by a small model; and the commands that show them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import Session

from mebae.authoring import Scenario
from mebae.compiling import compile_scenario
from mebae.events import IDENTIFIED
from mebae.graph import Graph
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import (
    Scoring,
    attended,
    days,
    did,
    downloaded,
    engagement,
    event,
    exclude,
    fit,
    lead,
    qualify,
    stage,
    topic,
    visited,
)  # fmt: skip
from mebae.scoring_loading import LoadedScoring
from mebae.scoring_mapping import Mapping
from mebae.store.database import Database
from mebae.store.ingest import ConsentGiven, EventLog, Incoming, store_events
from mebae.store.leads import Who, find_lead
from mebae.store.scoring import publish_scoring
from mebae.store.tables import Lead, PublishedScenario, ScenarioVersion

NOW = datetime(2026, 4, 10, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TOKYO = "Asia/Tokyo"
SATO = "sato.kenji@aoba-seiki.example"
MAPPING = Mapping.load("kind,raw,means\nrank,部長,部長\nrank,課長,課長\nindustry,製造,manufacturing\n")

SCORING = Scoring(
    ranks=["課長", "部長"],
    fit=[
        fit("部長以上", lead.rank.at_least("部長"), 20),
        fit("課長", lead.rank == "課長", 10),
        fit("ターゲット業種", lead.industry_group == "manufacturing", 15),
    ],
    engagement=[
        engagement("ホワイトペーパー", downloaded("whitepaper-*"), 20, at_most=2, once_for=event.content, half_life=days(90)),
        engagement("料金ページ", visited("/pricing"), 30, at_most=1, half_life=days(90)),
        engagement("セミナー参加", attended(), 40, at_most=2, once_for=event.seminar, half_life=days(180)),
    ],
    exclusions=[exclude("競合", lead.tags.has("competitor")), exclude("学生", lead.title.like("*学生*"))],
    stages=[
        stage("awareness", title="認知"),
        stage("interest", title="興味", when=lead.score >= 50),
        stage("consideration", title="検討", when=(lead.score >= 80) | did(visited("/pricing"), times=2)),
    ],
    qualifications=[
        qualify("mql", when=((lead.score >= 100) & did(visited("/pricing"))) | ((lead.score >= 80) & did(attended())))
    ],
    topics=[topic("automation", downloaded("*automation*"))],
)


def publish_model(database: Database, scoring: Scoring = SCORING, now: datetime = NOW) -> None:
    loaded = LoadedScoring(compile_scoring(scoring, file="scoring.py", mapping=MAPPING), MAPPING, Path("scoring.py"))
    database.write_now(publish_scoring, loaded, now)


def publish_scenario(database: Database, scenario: Scenario, now: datetime = NOW) -> Graph:
    graph = compile_scenario(scenario, file="test.py", mails=None)

    def write(session: Session) -> None:
        row = ScenarioVersion(version=graph.version, scenario=graph.scenario, graph=graph.dump(), published_at=now)
        session.merge(row)
        session.flush()
        session.merge(PublishedScenario(scenario=graph.scenario, version=graph.version))

    database.write_now(write)
    return graph


class Diary:
    """What leads do, day by day before `now`."""

    def __init__(self, database: Database, now: datetime = NOW) -> None:
        self.database, self.now, self._count = database, now, 0

    def is_someone(self, email: str = SATO, ago: timedelta = 30 * DAY, **traits: Any) -> int:
        """Says who it is; the lead's number."""
        self.does(IDENTIFIED, email=email, ago=ago, traits=traits)
        found = self.lead(email)
        assert found.id is not None
        return found.id

    def does(
        self, name: str, ago: timedelta = timedelta(0), email: str = SATO, traits: dict[str, Any] | None = None,
        consent: ConsentGiven | None = None, source: str | None = None, **properties: Any,
    ) -> str:  # fmt: skip
        """One event, received when it occurred; its message id."""
        self._count += 1
        at = self.now - ago
        one = Incoming(
            message_id=f"diary-{self._count}", name=name, properties=properties, occurred_at=at, received_at=at,
            who=Who(email=email), traits=traits or {}, consent=consent, source=source,
        )  # fmt: skip
        self.database.write_now(store_events, [one], at)
        return one.message_id

    def tag(self, email: str, *tags: str) -> None:
        """Tags a lead, as the step `tag` does."""

        def write(session: Session) -> None:
            found = find_lead(session, email=email)
            assert found is not None
            found.tags = [*found.tags, *tags]
            log = EventLog(self.now)
            log.touch(found, ["tags"])
            log.write(session)

        self.database.write_now(write)

    def lead(self, email: str = SATO) -> Lead:
        found = self.database.read_now(lambda session: find_lead(session, email=email))
        assert found is not None
        return found


def lines_with(text: str, *words: str) -> Sequence[str]:
    """The lines that hold all of these."""
    return [line for line in text.splitlines() if all(word in line for word in words)]
