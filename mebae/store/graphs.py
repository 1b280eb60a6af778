"""Published graphs, read once per process: a version never changes."""

from __future__ import annotations

from functools import lru_cache

import structlog
from sqlmodel import Session, col, select

from mebae.errors import NotFound
from mebae.graph import Graph
from mebae.store.tables import PublishedScenario, ScenarioVersion

log = structlog.get_logger()


@lru_cache(maxsize=512)
def parse(text: str) -> Graph:
    """A graph from its canonical JSON."""
    return Graph.load(text)


_BY_VERSION: dict[str, Graph] = {}
_UNREADABLE: set[str] = set()
"""Versions that were complained of once."""


def graph_of(session: Session, version: str) -> Graph:
    """The pinned graph of a version."""
    graph = _BY_VERSION.get(version)
    if graph is None:
        row = session.get(ScenarioVersion, version)
        if row is None:
            raise NotFound("scenario version", version)
        graph = _BY_VERSION[version] = parse(row.graph)
    return graph


def active_graphs(session: Session) -> list[Graph]:
    """The newest version of every scenario that new leads may enter."""
    versions = session.exec(
        select(PublishedScenario.version).where(col(PublishedScenario.active)).order_by(PublishedScenario.scenario)
    ).all()
    graphs = []
    for version in versions:
        try:
            graphs.append(graph_of(session, version))
        except ValueError as error:  # published by a newer worker; pydantic's errors are ValueErrors too
            if version not in _UNREADABLE:
                _UNREADABLE.add(version)
                log.error("graph.unreadable", version=version, kind=type(error).__name__, cure="upgrade this worker")
    return graphs


def newest(session: Session, scenario: str) -> Graph:
    """The newest version of a scenario; `NotFound` with the nearest names."""
    row = session.get(PublishedScenario, scenario)
    if row is None or not row.active:
        known = session.exec(select(PublishedScenario.scenario).where(col(PublishedScenario.active))).all()
        raise NotFound("scenario", scenario, known)
    return graph_of(session, row.version)
