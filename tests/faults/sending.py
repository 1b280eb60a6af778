"""R2 of the send path: a failure at every point where sending touches the world, one after the other, none left out.

A mail of a journey (`activities.mail`) and a chunk of a broadcast (`mebae.mail.bulk`) are sent once for each point and each
kind of failure; afterwards a new process goes on, as Temporal would have it, until nothing is left to do. The mail server and
the database are real, time is not.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from unittest.mock import patch

from sqlmodel import Session, col, select
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.mail import MailActivities
from mebae.authoring import Scenario, end, send
from mebae.contracts import StepInput
from mebae.errors import DatabaseUnavailable
from mebae.gate import Gate
from mebae.journey import Postponed
from mebae.ledger import Policy
from mebae.mail import handing_over
from mebae.mail.bulk import BulkContent, BulkMailer
from mebae.mail.transport import SmtpTransport
from mebae.mail.unknown import listed
from mebae.mail.wiring import mail_settings
from mebae.mailing import MailRules
from mebae.resting import Setting
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.tables import Broadcast, Delivery
from mebae.timing import Calendar
from tests.faults.campaign import Finding, Home, Tick, load_now, opened, silent
from tests.faults.fuse import AFTER_DOT, CONCLUDED, ENTERED, IN_DATA, Fault, Fuse, FusedDatabase, FusedTransport, lived
from tests.house import LAWFUL, House, Relay

SETTING = Setting("Asia/Tokyo", Calendar())
HELLO = Scenario("hello", steps=[send("hello"), end("greeted")])
MOST = 12
"""Processes, or turns of a journey, after which something goes round in circles."""
UNSURE = (IN_DATA, AFTER_DOT, f"{ENTERED}", CONCLUDED.replace("after", "before"))
"""Where a journey's attempt that dies leaves a mail in `data`."""
BAR = "`hold`: 0 twice, 0 lost, the unknown ones listed; `retry`: at most one more, same Message-ID; before the final dot: once"


class Desk:
    """A database, a mail server, and processes that send, each of them new."""

    _names = itertools.count(1)
    """Of leads, over all desks: a campaign has several on one database."""

    def __init__(self, database: Database, relay: Relay, port: int, policy: Policy) -> None:
        self.database, self.relay, self._port, self.policy = database, relay, port, policy
        self.house = House(database, cast(Client, None), relay, Settings())
        self.now = self.house.now()
        self.settings = mail_settings(Settings(**LAWFUL, unknown_mail=policy))

    @asynccontextmanager
    async def process(self, fuse: Fuse) -> AsyncIterator[tuple[Any, Any]]:
        """The database and the transport of one process."""
        transport = SmtpTransport("127.0.0.1", self._port, connections=2, timeout=5.0)
        try:
            yield FusedDatabase(self.database, fuse), FusedTransport(transport, fuse)
        finally:
            await transport.aclose()

    async def lead(self) -> int:
        return await self.house.lead(f"lead{next(self._names)}@aoba.example")

    def taken(self, row: Delivery) -> int:
        """How often the mail server took this mail."""
        return sum(mail["Message-ID"] == row.message_id for mail in self.relay.mails)

    def rows(self, *leads: int) -> list[Delivery]:
        query = select(Delivery).where(col(Delivery.lead_id).in_(leads)).order_by(col(Delivery.id))
        return self.database.read_now(lambda session: list(session.exec(query)))

    def wrong(self, rows: list[Delivery]) -> Iterator[str]:
        """What the policy does not allow, of mails that all is said of."""
        unknown = {row.id for row in self.database.read_now(listed, self.now, limit=10_000)[0]}
        for row in rows:
            times = self.taken(row)
            if times > (1 if self.policy == "hold" else 2):
                yield f"came {times} times"
            if row.status == "sent":
                if not times:
                    yield "is said to be sent, and never came"
            elif row.status != "unknown" or row.id not in unknown:
                yield f"is lost: {row.status} {row.reason}"
            elif self.policy == "retry" and times != 2 and row.attempt < 2:
                yield "is unknown although it may be tried once more"


@asynccontextmanager
async def desk(database: Database, policy: Policy) -> AsyncIterator[Desk]:
    relay = Relay()
    port = await relay.start()
    # Time is not waited for: a database that was away is asked again at once.
    with patch.object(handing_over, "_PATIENCE", (0, 0)):
        try:
            yield Desk(database, relay, port, policy)
        finally:
            await relay.stop()


# A journey's mail ----------------------------------------------------------------------------------------------------


async def journey_mail(at: Desk, graph: Any, fuses: list[Fuse]) -> list[Delivery]:
    """Sends one mail, with a fuse for each of the first processes, until its step is answered for."""
    lead = await at.lead()
    row = await at.house.start(graph, lead)
    turn, waiting = 0, list(fuses)
    for _ in range(MOST):
        fuse = waiting.pop(0) if waiting else Fuse()
        request = StepInput(entry=row.entry or 0, step="hello", turn=turn, now=at.now)
        async with at.process(fuse) as (database, transport):
            mail = MailActivities(database, transport, SETTING, at.settings)
            env = ActivityEnvironment()
            try:
                answer = await lived(fuse, lambda: env.run(mail.send_mail, request))  # noqa: B023
            except ApplicationError as error:
                if error.non_retryable:
                    raise
                answer = None
        if isinstance(answer, Postponed):
            at.now, turn = answer.until, turn + 1
        elif answer is not None:
            return at.rows(lead)
        else:
            at.now += timedelta(seconds=10)
    raise AssertionError("its step is never answered for")


async def every_point_of_a_journeys_mail(database: Database, policy: Policy, *, twice: bool = False, tick: Tick = silent) -> list[str]:
    """What went wrong; empty if all holds. `twice`: a second failure, at every point of the process that goes on after the first."""
    found: list[str] = []
    async with desk(database, policy) as at:
        graph = await at.house.publish(HELLO)
        whole = Fuse()
        [row] = await journey_mail(at, graph, [whole])
        assert (row.status, at.taken(row)) == ("sent", 1)
        assert whole.points == POINTS, whole.points
        cases = list(_cases(len(POINTS), whole.points))
        for number, (fault, k) in enumerate(cases):
            for second in range(len(POINTS)) if twice else [None]:
                fuses = [Fuse(fault, k), *([] if second is None else [Fuse(Fault.KILLED, second)])]
                [row] = await journey_mail(at, graph, fuses)
                case = f"{fault.value} {POINTS[k]}" + ("" if second is None else f", then the next one dies at its point {second}")
                found += [f"{case}: it {wrong}" for wrong in at.wrong([row])]
                if second is None and not fuses[0].blown:
                    found.append(f"{case}: never came about")
                if second is None:
                    found += [f"{case}: {wrong}" for wrong in _strict(at, row, POINTS[k])]
            tick((number + 1) / len(cases))
    return found


def _strict(at: Desk, row: Delivery, point: str) -> Iterator[str]:
    """Of one failure alone more is known: before the final dot it comes once, and unknown is only what was in `data`."""
    times = at.taken(row)
    if point not in UNSURE:
        if (row.status, times) != ("sent", 1):
            yield f"{row.status}, came {times} times, although nothing was unsure"
    elif at.policy == "retry" and (row.status, times) not in (
        ("sent", 2 if point in (AFTER_DOT, UNSURE[-1]) else 1),
        # A database that was away for a moment is asked again within the attempt, and nothing is unsure then.
        ("sent", 1 if point.startswith("database") else 0),
    ):
        yield f"{row.status}, came {times} times"


# A broadcast's mails -------------------------------------------------------------------------------------------------

NEWS = BulkContent("news", "hello")


async def bulk_mails(at: Desk, many: int, fuses: list[Fuse]) -> list[Delivery]:
    """Sends one mail to each of some leads, with a fuse for each of the first processes, until none is left."""
    leads = [await at.lead() for _ in range(many)]
    run = at.database.write_now(_made_run, f"test:{leads[0]}", at.now)
    waiting = list(fuses)
    for _ in range(MOST):
        fuse = waiting.pop(0) if waiting else Fuse()
        async with at.process(fuse) as (database, transport):
            mailer = BulkMailer(database, transport, Gate(MailRules(), SETTING.zone, SETTING.calendar), at.settings, at_once=1)
            try:
                outcome = await lived(fuse, lambda: mailer.send(run, leads, NEWS, lambda: at.now))  # noqa: B023
            except DatabaseUnavailable:
                outcome = None
        if outcome is None:
            at.now += timedelta(seconds=10)
        elif outcome.later:
            at.now = max(until for _, until in outcome.later)
        else:
            return at.rows(*leads)
    raise AssertionError("some are never answered for")


async def every_point_of_a_broadcast(database: Database, policy: Policy, *, many: int = 2, tick: Tick = silent) -> list[str]:
    """What went wrong; empty if all holds."""
    found: list[str] = []
    async with desk(database, policy) as at:
        await at.house.publish(Scenario("news", steps=[send("hello"), end("over")]))
        whole = Fuse()
        rows = await bulk_mails(at, many, [whole])
        assert [row.status for row in rows] == ["sent"] * many
        cases = list(_cases(len(whole.points) + 2, whole.points))  # how commits are grouped is chance: a few more points than this time
        for number, (fault, k) in enumerate(cases):
            fuse = Fuse(fault, k)
            rows = await bulk_mails(at, many, [fuse])
            if fuse.blown or k < len(whole.points):
                found += [f"{fault.value} {fuse.points[-1]} ({k}): one {wrong}" for wrong in at.wrong(rows)]
            if len(rows) != many:
                found.append(f"{fault.value} at {k}: {many - len(rows)} have no row")
            tick((number + 1) / len(cases))
    return found


def _made_run(session: Session, cause: str, now: Any) -> int:
    row = Broadcast(cause=cause, broadcast="news", plan="{}", status="running", due_at=now)
    session.add(row)
    session.flush()
    assert row.id is not None
    return row.id


def _cases(many: int, points: list[str]) -> Iterator[tuple[Fault, int]]:
    for fault in Fault:
        for k in range(many):
            if k >= len(points) or fault.can_happen(points[k]):
                yield fault, k


POINTS = [
    "database: before write 1", "database: after write 1", "line: before MAIL", "line: before the last word",
    "database: before write 2", "database: after write 2", "line: in data", "line: after the dot",
    "database: before write 3", "database: after write 3",
]  # fmt: skip
"""All of a journey's mail. Between them nothing is awaited that the world sees; a test holds this list to what happens."""


async def send_path(at: Home, *, policy: Policy, twice: bool, tick: Tick = silent) -> Finding:
    """The whole of it on one database."""
    with opened(at.url) as database:
        found = await every_point_of_a_journeys_mail(database, policy, twice=twice, tick=lambda part: tick(part * 0.6))
        found += await every_point_of_a_broadcast(database, policy, many=3 if twice else 2, tick=lambda part: tick(0.6 + part * 0.4))
        statuses = Counter(row.status for row in database.read_now(lambda s: list(s.exec(select(Delivery)))))
    done = f"a failure at every point of the send path, {'and a second one after it, ' if twice else ''}{policy}, {at.kind}"
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    said = f"{statuses.total()} mails: {counts}; {len(found)} against the bar{': ' if found else ''}{'; '.join(found[:5])}"
    return Finding("R2", done, BAR, f"{said} ({load_now()})", not found)


