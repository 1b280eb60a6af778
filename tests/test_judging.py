"""The judge and the writer of what it judges, when something is wrong with one act or with the database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session, col, select

from mebae import judging
from mebae.errors import DatabaseUnavailable
from mebae.judging import Judge
from mebae.store import action_writer
from mebae.store.action_writer import ActionWriter
from mebae.store.database import Database
from mebae.store.mail_actions import NewAction, judge_actions, store_actions
from mebae.store.tables import Delivery, Lead, MailAction
from mebae.verdicts import Tuning

SENT = datetime(2026, 4, 1, 9, tzinfo=UTC)


def mails(database: Database, count: int = 1) -> list[int]:
    """Mails that went out; their deliveries."""

    def write(session: Session) -> list[int]:
        lead = Lead(email="sato@aoba.example", created_at=SENT, updated_at=SENT)
        session.add(lead)
        session.flush()
        rows = [
            Delivery(
                lead_id=lead.id, kind="marketing", mail="thanks", scope="trial", status="sent", sent_at=SENT, visit=visit,
                message_id=f"<{visit}@mebae.example>",
            )
            for visit in range(count)
        ]  # fmt: skip
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows if row.id is not None]

    return database.write_now(write)


def click(delivery: int, after: float = 60, client: str = "sato") -> NewAction:
    return NewAction(delivery, "click", client, "browser", SENT + timedelta(seconds=after), link=1)


def actions(database: Database) -> list[MailAction]:
    query = select(MailAction).order_by(col(MailAction.id))
    return database.read_now(lambda session: list(session.exec(query)))


def test_an_act_that_cannot_be_judged_holds_up_no_other(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = mails(sqlite_database, 3)
    sqlite_database.write_now(store_actions, [click(one), click(two, client="b"), click(three, client="c")])
    bad = actions(sqlite_database)[1].id

    def failing(session: Session, ids: Collection[int], *rest: Any) -> int:
        if bad in ids:
            raise ValueError("a bug of ours")
        return judge_actions(session, ids, *rest)

    async def rounds() -> list[int]:
        judge = Judge(sqlite_database, now=lambda: SENT + timedelta(hours=1), tuning=Tuning())
        with monkeypatch.context() as broken:
            broken.setattr(judging, "judge_actions", failing)
            first = [await judge.round(), await judge.round()]
        judge._aside.clear()  # its minute is over, and a newer release can judge it
        return [*first, await judge.round()]

    assert asyncio.run(rounds()) == [2, 0, 1]
    assert [action.verdict for action in actions(sqlite_database)] == ["human"] * 3


def test_what_comes_together_is_kept_together_and_what_is_about_no_mail_is_left_out(database: Database) -> None:
    [mail] = mails(database)

    async def work() -> None:
        writer = ActionWriter(database)
        await asyncio.gather(*(writer.put(click(mail if nth % 2 else 4711, nth)) for nth in range(20)))
        await writer.aclose()

    asyncio.run(work())
    assert len(actions(database)) == 10


def test_acts_wait_for_the_database_and_nobody_waits_for_them(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    [mail] = mails(sqlite_database)
    monkeypatch.setattr(action_writer, "AGAIN", 0.01)
    monkeypatch.setattr(action_writer, "PATIENCE", 0.05)
    monkeypatch.setattr(action_writer, "MOST", 3)
    really, away = sqlite_database.write, True

    async def write(*args: Any, **kwargs: Any) -> Any:
        if away:
            raise DatabaseUnavailable
        return await really(*args, **kwargs)

    monkeypatch.setattr(sqlite_database, "write", write)

    async def work() -> None:
        nonlocal away
        writer = ActionWriter(sqlite_database)
        for nth in range(5):  # two more than it holds
            await writer.put(click(mail, nth))
        away = False
        while len(actions(sqlite_database)) < 3:
            await asyncio.sleep(0.01)
        await writer.put(click(mail, 9))
        await writer.aclose()

    asyncio.run(work())
    assert [int((one.at - SENT).total_seconds()) for one in actions(sqlite_database)] == [0, 1, 2, 9]


def test_a_server_that_ends_while_the_database_is_away_does_not_wait_for_ever(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    [mail] = mails(sqlite_database)
    monkeypatch.setattr(action_writer, "PATIENCE", 0.05)

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable

    monkeypatch.setattr(sqlite_database, "write", away)

    async def work() -> None:
        writer = ActionWriter(sqlite_database)
        await writer.put(click(mail))
        await asyncio.wait_for(writer.aclose(), 20)

    asyncio.run(work())
    assert actions(sqlite_database) == []
