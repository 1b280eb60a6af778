"""The tables as migrations make them, on both databases."""

from __future__ import annotations

import multiprocessing
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, select

from mebae.conditions import Pattern
from mebae.errors import DatabaseUnavailable
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.migrate import differences, is_current, migrate
from mebae.store.tables import Event, JourneyRow, Lead

NOW = datetime(2026, 4, 1, 9, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


def test_migrations_make_exactly_the_tables_of_the_models(empty_url: str) -> None:
    assert not is_current(empty_url)
    migrate(empty_url)
    assert differences(empty_url) == []
    assert is_current(empty_url)
    migrate(empty_url)  # a second time changes nothing


def test_indexes_and_constraints_are_those_of_the_models_to_the_letter(
    empty_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Autogenerate does not look at the WHERE of a partial index; this does."""
    migrate(empty_url)
    migrated = Database(empty_url)
    made_url = f"sqlite:///{tmp_path / 'made.db'}"
    if not migrated.sqlite:
        server = request.getfixturevalue("postgres_server")
        made_url = server.url(name := server.create())
        request.addfinalizer(lambda: server.drop(name))
    made = Database(made_url)
    SQLModel.metadata.create_all(made.engine)
    with migrated.engine.connect() as one, made.engine.connect() as other:
        assert _schema(one) == _schema(other)
        assert any("routed_at IS NULL" in line for line in _schema(one))
    migrated.close()
    made.close()


def _schema(connection: Connection) -> list[str]:
    if connection.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    else:
        query = (
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version' UNION ALL "
            "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid::regclass::text <> 'alembic_version' AND connamespace = 'public'::regnamespace"
        )
    rows = connection.execute(text(query)).scalars()
    # One line a column or constraint, in any order: SQLite keeps the text as it was written, with the quotes of a rename
    # and an added column on the line of the one before it.
    added = r", (?=\w+ (?:DATETIME|TEXT|VARCHAR|INTEGER|JSON)\b)"
    lines = (line for row in rows for line in re.sub(rf"\s*\n\s*|{added}", "\n", row).splitlines())
    return sorted(line.strip(" ,\t").replace('"', "") for line in lines)


def test_processes_that_migrate_at_once_do_not_meet(empty_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=migrate, args=(empty_url,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert is_current(empty_url)


def test_asking_whether_a_missing_file_is_current_makes_no_file(tmp_path: Path) -> None:
    assert not is_current(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^database-unavailable$"):
        migrate("postgresql://nobody@127.0.0.1:1/none")


def test_the_postgres_of_the_tests_keeps_what_is_committed(postgres_database: Database) -> None:
    with postgres_database.engine.connect() as connection:
        assert connection.execute(text("SHOW fsync")).scalar_one() == "on"
        assert connection.execute(text("SHOW server_encoding")).scalar_one() == "UTF8"


def test_each_test_has_a_database_of_its_own(database: Database) -> None:
    assert database.write_now(lambda session: session.exec(select(Lead)).all()) == []
    database.write_now(lambda session: session.add(_lead("one@example.com")))


test_each_test_has_a_database_of_its_own_again = test_each_test_has_a_database_of_its_own


def test_a_lead_comes_back_as_it_went_in_with_its_times_in_utc(database: Database) -> None:
    tokyo = timezone(timedelta(hours=9))
    attributes = {"部署": '情報"システム"', "seats": 3, "trial": True, "note": None}
    lead = _lead("sato@example.jp", attributes=attributes, tags=["展示会"])
    lead.opted_out_at = NOW.astimezone(tokyo)
    database.write_now(lambda session: session.add(lead))
    back = database.write_now(lambda session: session.exec(select(Lead)).one())
    assert back.attributes == attributes
    assert back.tags == ["展示会"]
    assert back.opted_out_at == NOW
    assert back.opted_out_at.tzinfo is UTC
    assert back.created_at == NOW


def test_a_lead_is_never_twice_in_one_scenario_and_key_at_once(database: Database) -> None:
    lead_id = database.write_now(lambda session: _stored(session, _lead("sato@example.jp")))

    def enter(session: Session, cause: str, status: str, key: str = "") -> None:
        entered: dict[str, Any] = {"scenario": "trial", "version": "v", "lead_id": lead_id, "entered_at": NOW}
        session.add(JourneyRow(cause=cause, key=key, status=status, **entered))

    database.write_now(enter, "event:1:trial", "ended")
    database.write_now(enter, "event:2:trial", "refused")
    database.write_now(enter, "event:3:trial", "resting")
    database.write_now(enter, "event:4:trial", "starting", key="another paper")
    with pytest.raises(IntegrityError):
        database.write_now(enter, "event:5:trial", "starting")
    with pytest.raises(IntegrityError):
        database.write_now(enter, "event:1:trial", "ended")  # once per cause


def test_events_belong_to_a_lead_and_come_once_per_message(database: Database) -> None:
    lead_id = database.write_now(lambda session: _stored(session, _lead("sato@example.jp")))
    database.write_now(lambda session: session.add(_event(lead_id, 1, "m1")))
    with pytest.raises(IntegrityError):
        database.write_now(lambda session: session.add(_event(lead_id, 2, "m1")))
    with pytest.raises(IntegrityError):
        database.write_now(lambda session: session.add(_event(lead_id, 1, "m2")))
    with pytest.raises(IntegrityError):
        database.write_now(lambda session: session.add(_event(lead_id + 999, 1, "m3")))


def test_facts_of_a_lead_come_from_its_row_its_entry_and_its_events(database: Database) -> None:
    def story(session: Session) -> None:
        lead = _lead("sato@example.jp", score=40, attributes={"seats": 3, "id": "shadow"}, tags=["vip"])
        lead_id = _stored(session, lead)
        for seq, path in enumerate(["/pricing", "/pricing", "/blog/a"], start=1):
            event = _event(lead_id, seq, f"m{seq}", "Page Viewed", {"path": path})
            event.occurred_at = NOW - timedelta(days=3 - seq)
            session.add(event)
        session.add(_event(lead_id, 9, "m9", "Content Downloaded"))
        session.flush()
        facts = LeadFacts(session, lead, NOW, {"content": "whitepaper-1"})
        assert facts.value("lead.score") == 40
        assert facts.value("lead.created_at") == NOW
        assert facts.value("lead.seats") == 3
        assert facts.value("lead.id") == "shadow"  # an attribute: the row's own number is nobody's business
        assert facts.value("lead.missing") is None
        assert facts.value("entry.content") == "whitepaper-1"
        assert facts.value("entry.missing") is None
        assert list(facts.tags("lead.tags")) == ["vip"]
        seen = Pattern(event="Page Viewed", where={"path": "/pricing"})
        assert facts.times(seen, None) == [NOW - timedelta(days=2), NOW - timedelta(days=1)]
        assert facts.times(seen, NOW - timedelta(days=2)) == [NOW - timedelta(days=1)]
        assert len(facts.times(Pattern(event="Page Viewed", where={"path": "*"}), None)) == 3

    database.write_now(story)


def _lead(email: str, **values: Any) -> Lead:
    return Lead(email=email, created_at=NOW, updated_at=NOW, **values)


def _event(
    lead_id: int, seq: int, message_id: str, name: str = "Page Viewed", properties: dict[str, Any] | None = None
) -> Event:
    times: dict[str, Any] = {"occurred_at": NOW, "received_at": NOW}
    return Event(lead_id=lead_id, seq=seq, message_id=message_id, name=name, properties=properties or {}, **times)


def _stored(session: Session, lead: Lead) -> int:
    session.add(lead)
    session.flush()
    assert lead.id is not None
    return lead.id
