"""Publishing: what the files say becomes what new entries take, in one transaction.

Running journeys stay on the version that they started with; mails are not part of a version, so the newest text of a mail
counts from its next sending on. A scenario whose file is gone takes no new entries; its journeys go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import text
from sqlmodel import Session, col, select

from mebae.broadcasts_loading import LoadedBroadcast
from mebae.crm.model import CrmRules
from mebae.handing import publish_sales
from mebae.loading import Loaded
from mebae.mail.publishing import block_files, layout_files, publish_blocks, publish_layouts, publish_mails
from mebae.mails_loading import BLOCKS_FOLDER, LAYOUTS_FOLDER
from mebae.sales import SalesRules
from mebae.scoring_loading import LoadedScoring
from mebae.segments import Saved
from mebae.store.broadcasts import publish_broadcasts
from mebae.store.crm import publish_crm
from mebae.store.scoring import publish_scoring
from mebae.store.segments import publish_segments
from mebae.store.tables import PublishedScenario, ScenarioVersion

log = structlog.get_logger()


def publish(
    session: Session,
    loaded: Sequence[Loaded],
    *,
    root: Path,
    now: datetime,
    scoring: LoadedScoring | None = None,
    segments: Sequence[Saved] = (),
    broadcasts: Sequence[LoadedBroadcast] = (),
    sales: SalesRules | None = None,
    crm: CrmRules | None = None,
) -> None:
    """Publishes everything that was loaded from `root`. The same again changes nothing; two workers may do it at once.

    Another scoring model than the one that scores is only laid ready: `mebae rescore` says who would move, and makes it active.
    """
    _one_at_a_time(session)
    known = {row.scenario: row for row in session.exec(select(PublishedScenario).order_by(PublishedScenario.scenario))}
    for one in loaded:
        _publish_version(session, one, known.get(one.graph.scenario), now)
    present = {one.graph.scenario for one in loaded}
    for name, row in known.items():
        if row.active and name not in present:
            row.active = False
            log.info("scenario.gone", scenario=name, effect="no new entries; running journeys go on")
    session.flush()
    for one in loaded:
        sources = {(mail, language or ""): path.read_text(encoding="utf-8-sig") for (mail, language), path in one.mails.items()}
        publish_mails(session, one.graph.scenario, sources, now)
    publish_layouts(session, layout_files(root / LAYOUTS_FOLDER), now)
    publish_blocks(session, block_files(root / BLOCKS_FOLDER), now)
    publish_segments(session, segments)
    for broadcast in broadcasts:
        publish_mails(session, broadcast.plan.broadcast, broadcast.sources(), now)
    publish_broadcasts(session, [broadcast.plan for broadcast in broadcasts])
    publish_sales(session, sales, now)
    publish_crm(session, crm, now)
    if publish_scoring(session, scoring, now):
        log.warning("scoring.changed", cure="leads are not scored by it until you run: mebae rescore")


def _publish_version(session: Session, one: Loaded, row: PublishedScenario | None, now: datetime) -> None:
    graph = one.graph
    if session.get(ScenarioVersion, graph.version) is None:
        session.add(
            ScenarioVersion(version=graph.version, scenario=graph.scenario, graph=graph.dump(), published_at=now)
        )
        session.flush()
    if row is None:
        session.add(PublishedScenario(scenario=graph.scenario, version=graph.version, active=True))
        log.info("scenario.published", scenario=graph.scenario, version=graph.version)
    elif row.version != graph.version or not row.active:
        row.version, row.active = graph.version, True
        log.info("scenario.published", scenario=graph.scenario, version=graph.version)


def _one_at_a_time(session: Session) -> None:
    """Two workers that start together publish one after the other. On SQLite every writing transaction is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": 0x6D65626170})


def published(session: Session) -> list[PublishedScenario]:
    """What new entries can take, by name."""
    query = select(PublishedScenario).where(col(PublishedScenario.active)).order_by(PublishedScenario.scenario)
    return list(session.exec(query))
