"""Visitors who say at last who they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, col, func, select

from mebae.events import IDENTIFIED
from mebae.store.database import Database
from mebae.store.ingest import Incoming, Stored, store_events
from mebae.store.leads import Who, find_lead
from mebae.store.tables import Event, Lead, Visitor, VisitorEvent
from mebae.store.visitors import KEPT_FOR, purge

NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
SATO = "sato.kenji@aoba-seiki.example"


def page(message_id: str, path: str = "/pricing", *, at: datetime = NOW, **who: Any) -> Incoming:
    return Incoming(
        message_id=message_id,
        name="Page Viewed",
        properties={"path": path},
        occurred_at=at,
        received_at=at,
        who=Who(**who),
    )


def identify(
    message_id: str, *, traits: dict[str, Any] | None = None, previous_id: str | None = None, **who: Any
) -> Incoming:
    return Incoming(
        message_id=message_id, name=IDENTIFIED, occurred_at=NOW, received_at=NOW, traits=traits or {}, previous_id=previous_id,
        who=Who(moves=True, **who),
    )  # fmt: skip


def store(database: Database, *incoming: Incoming, at: datetime = NOW) -> Stored:
    return database.write_now(store_events, incoming, at)


def did(database: Database, email: str = SATO) -> list[tuple[str, str]]:
    """Message id and path of everything that this lead viewed, in its order."""

    def work(session: Session) -> list[tuple[str, str]]:
        lead = find_lead(session, email=email)
        assert lead is not None
        rows = session.exec(
            select(Event).where(Event.lead_id == lead.id, Event.name == "Page Viewed").order_by(col(Event.seq))
        )
        return [(row.message_id, row.properties["path"]) for row in rows]

    return database.read_now(work)


def rows(database: Database, table: type[Any]) -> int:
    return int(database.read_now(lambda session: session.exec(select(func.count()).select_from(table)).one()))


def test_what_a_visitor_did_is_the_leads_once_it_says_who_it_is(database: Database) -> None:
    store(
        database,
        page("p1", "/blog/a", anonymous_id="anon"),
        page("p2", anonymous_id="anon"),
        page("x", anonymous_id="other"),
    )
    assert rows(database, Lead) == 0

    store(database, identify("i1", email=SATO, anonymous_id="anon"))
    assert did(database) == [("p1", "/blog/a"), ("p2", "/pricing")]
    assert rows(database, VisitorEvent) == 1, "the other visitor is still nobody"

    # From now on the browser is known by its anonymous id alone.
    assert store(database, page("p3", "/cases", anonymous_id="anon")) == Stored(new=1)
    assert did(database)[-1] == ("p3", "/cases")


def test_page_identify_page_in_one_batch_is_all_the_leads(database: Database) -> None:
    stored = store(
        database,
        page("p1", "/a", anonymous_id="anon"),
        identify("i1", email=SATO, anonymous_id="anon"),
        page("p2", "/b", anonymous_id="anon"),
    )
    assert stored == Stored(new=3)
    assert did(database) == [("p1", "/a"), ("p2", "/b")]
    assert rows(database, VisitorEvent) == 0


def test_identify_that_overtakes_the_page_view_before_it_changes_nothing(database: Database) -> None:
    store(database, identify("i1", email=SATO, anonymous_id="anon"))
    store(database, page("p1", at=NOW - timedelta(seconds=3), anonymous_id="anon"))
    assert did(database) == [("p1", "/pricing")]


@pytest.mark.parametrize("again", ["p1", "i1"])
def test_a_repeated_event_of_a_visitor_is_stored_once_before_and_after_it_joined(
    database: Database, again: str
) -> None:
    first, who = page("p1", anonymous_id="anon"), identify("i1", email=SATO, anonymous_id="anon")
    store(database, first)
    assert store(database, first) == Stored(duplicates=1)
    store(database, who)
    assert store(database, first, who) == Stored(duplicates=2)
    assert did(database) == [("p1", "/pricing")]


def test_only_what_happened_lately_wakes_journeys(database: Database) -> None:
    store(database, page("old", at=NOW - timedelta(days=20), anonymous_id="anon"), at=NOW - timedelta(days=20))
    store(database, page("new", at=NOW - timedelta(minutes=5), anonymous_id="anon"))
    store(database, identify("i1", email=SATO, anonymous_id="anon"))

    unrouted = database.read_now(
        lambda session: set(session.exec(select(Event.message_id).where(col(Event.routed_at).is_(None))))
    )
    assert "new" in unrouted
    assert "old" not in unrouted


def test_what_a_visitor_said_of_itself_fills_only_what_is_not_known(database: Database) -> None:
    store(database, identify("i0", email=SATO, traits={"company": "青葉精機"}))
    store(database, identify("i1", anonymous_id="anon", traits={"company": "アオバ", "industry": "製造業"}))
    store(database, identify("i2", email=SATO, anonymous_id="anon"))

    lead = database.read_now(find_lead, email=SATO)
    assert lead is not None
    assert (lead.company, lead.industry) == ("青葉精機", "製造業")


def test_on_a_shared_computer_the_last_who_said_so_counts(database: Database) -> None:
    store(database, identify("i1", email=SATO, anonymous_id="anon"), page("p1", "/a", anonymous_id="anon"))
    store(database, identify("i2", email="mori@example.jp", anonymous_id="anon"))
    store(database, page("p2", "/b", anonymous_id="anon"))
    assert did(database) == [("p1", "/a")]
    assert did(database, "mori@example.jp") == [("p2", "/b")]


def test_alias_joins_an_anonymous_id_and_renames_a_user_id(database: Database) -> None:
    store(database, page("p1", anonymous_id="anon"), identify("i1", email=SATO, user_id="web-7"))
    store(database, identify("a1", user_id="web-7", previous_id="anon"))
    assert did(database) == [("p1", "/pricing")]

    store(database, identify("a2", user_id="crm-9", previous_id="web-7"))
    lead = database.read_now(find_lead, user_id="crm-9")
    assert lead is not None
    assert lead.email == SATO
    assert rows(database, Lead) == 1


def test_alias_from_an_address_to_an_address_or_an_id_keeps_one_lead(database: Database) -> None:
    store(database, identify("i1", email=SATO), identify("a1", email="sato@new.example", previous_id=SATO))
    lead = database.read_now(find_lead, email="sato@new.example")
    assert lead is not None
    store(database, identify("a2", user_id="crm-9", previous_id="sato@new.example"))
    lead = database.read_now(find_lead, user_id="crm-9")
    assert lead is not None
    assert lead.email == "sato@new.example"
    assert rows(database, Lead) == 1


def test_alias_to_somebody_else_leaves_both_as_they_are(database: Database) -> None:
    store(database, identify("i1", user_id="web-7"), identify("i2", user_id="crm-9"))
    store(database, identify("a1", user_id="crm-9", previous_id="web-7"))
    assert rows(database, Lead) == 2


def test_visitors_who_never_say_who_they_are_are_forgotten(database: Database) -> None:
    store(database, page("p1", anonymous_id="gone"))
    later = NOW + KEPT_FOR + timedelta(hours=1)
    store(database, page("p2", at=later, anonymous_id="here"), at=later)
    store(database, identify("i1", email=SATO, anonymous_id="known"))

    assert database.write_now(purge, later) == 1
    assert database.write_now(purge, later) == 0
    assert rows(database, Visitor) == 2
    assert rows(database, VisitorEvent) == 1


def test_alias_that_brings_an_address_is_news_of_the_lead(database: Database) -> None:
    store(database, identify("i1", user_id="u-1"))
    store(database, identify("a1", previous_id="u-1", email=SATO))

    def work(session: Session) -> tuple[int | None, list[dict[str, Any]]]:
        lead = find_lead(session, email=SATO)
        assert lead is not None
        said = session.exec(select(Event).where(Event.name == IDENTIFIED, col(Event.routed_at).is_(None)))
        return lead.company_id, [event.properties for event in said]

    company, said = database.read_now(work)
    assert company is not None, "the address says which firm it is"
    assert said == [{"changed": ["email"], "values": {"email": SATO}}]


# Two at once ------------------------------------------------------------------------------------------------------------


def one_holds_while(database: Database, first: Callable[[Session], object], second: Callable[[], object]) -> None:
    """Runs `second` while the transaction of `first` has done its work and is not committed yet."""
    done, may_commit = threading.Event(), threading.Event()

    def held(session: Session) -> None:
        first(session)
        done.set()
        may_commit.wait(10)

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(database.write_now, held)
        assert done.wait(10)
        other = threads.submit(second)
        wait([other], timeout=0.5)  # it waits for the lock, or is through
        may_commit.set()
        one.result(10)
        other.result(10)


def test_what_is_kept_while_a_visitor_says_who_it_is_is_the_leads_all_the_same(postgres_database: Database) -> None:
    visit, says = page("p1", anonymous_id="anon"), identify("i1", email=SATO, anonymous_id="anon")
    store(postgres_database, page("p0", anonymous_id="anon"))
    one_holds_while(
        postgres_database, lambda session: store_events(session, [visit], NOW), lambda: store(postgres_database, says)
    )
    assert [message_id for message_id, _ in did(postgres_database)] == ["p0", "p1"]
    assert rows(postgres_database, VisitorEvent) == 0


def test_what_comes_while_a_visitor_says_who_it_is_is_the_leads_all_the_same(postgres_database: Database) -> None:
    visit, says = page("p1", anonymous_id="anon"), identify("i1", email=SATO, anonymous_id="anon")
    store(postgres_database, page("p0", anonymous_id="anon"))
    one_holds_while(
        postgres_database, lambda session: store_events(session, [says], NOW), lambda: store(postgres_database, visit)
    )
    assert [message_id for message_id, _ in did(postgres_database)] == ["p0", "p1"]
    assert rows(postgres_database, VisitorEvent) == 0


def test_a_visitor_who_comes_back_just_now_is_not_forgotten(postgres_database: Database) -> None:
    long_ago = NOW - KEPT_FOR - timedelta(days=1)
    store(postgres_database, page("p0", at=long_ago, anonymous_id="anon"), at=long_ago)
    back = page("p1", anonymous_id="anon")
    one_holds_while(
        postgres_database,
        lambda session: store_events(session, [back], NOW),
        lambda: postgres_database.write_now(purge, NOW),
    )
    store(postgres_database, identify("i1", email=SATO, anonymous_id="anon"))
    assert [message_id for message_id, _ in did(postgres_database)] == ["p0", "p1"]


def test_aliases_in_one_batch_follow_each_other(database: Database) -> None:
    """From one id to the next, each of a lead that the event before it has just made or renamed."""
    chain = [identify(f"a{n}", previous_id=f"u-{n}", user_id=f"u-{n + 1}") for n in range(3)]
    apart = [identify(f"b{n}", previous_id=f"v-{n}", user_id=f"w-{n}") for n in range(3)]
    store(database, identify("i0", user_id="u-0"), *chain, *apart, identify("i1", user_id="u-3", email=SATO))
    assert sorted(database.read_now(lambda s: s.exec(select(Lead.user_id)).all()), key=str) == ["u-3", "w-0", "w-1", "w-2"]
    assert did(database) == []
