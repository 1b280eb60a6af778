"""The same event again and again (R8); events shuffled, late, and from clocks that go wrong (R9). Through HTTP and the applier."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlmodel import Session, col, func, select

from mebae.clock import WorldClock
from mebae.scoring import Event as Done
from mebae.scoring import reckon, replay
from mebae.scoring_compiling import compile_scoring
from mebae.scoring_language import Scoring, engagement, stage, tracked
from mebae.scoring_loading import LoadedScoring, load_scoring
from mebae.scoring_mapping import Mapping
from mebae.store.scoring import active_scoring, profile_of, publish_scoring, tally_of
from mebae.store.tables import Event, Lead, ScoreChange
from tests.faults.campaign import (
    ROOT,
    Finding,
    Home,
    Tick,
    applying,
    chance,
    opened,
    publish_sample_scoring,
    silent,
)
from tests.faults_ingest import exchange
from tests.server_process import ServerProcess

MONTH = timedelta(days=30)


async def post_all(port: int, bodies: Iterable[Callable[[], dict[str, Any]]], connections: int = 8) -> Counter[int]:
    """Posts what these make, each at the moment of its sending, on so many connections at once; how many answers of which kind."""
    waiting, statuses = iter(bodies), Counter[int]()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for make in waiting:
            body = make()
            status, _, _ = await exchange(reader, writer, "/v1/batch" if "batch" in body else "/v1/track", json.dumps(body).encode())
            statuses[status] += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return statuses


# R8 -------------------------------------------------------------------------------------------------------------------

_ONE_POINT_EACH = Scoring(
    engagement=[engagement("each trial", tracked("Trial Started"), 10)],
    stages=[stage("awareness", title="認知")],
)  # fmt: skip
"""No cap and no half-life: what is counted twice is seen at once."""


async def one_event_again(at: Home, *, times: int = 100, events: int = 4, tick: Tick = silent) -> Finding:
    """R8: at first, after a restart, and 30 days later by the world's clock, each time `times` times on 8 connections.

    Every other event is a visitor's who says who it is after the first time.
    """
    now = datetime.now(UTC)
    # An hour since the origin is 30 days and an hour of the world's.
    later = WorldClock(origin=now - timedelta(hours=1), speed=1 + MONTH / timedelta(hours=1))
    clocks = {"at once": WorldClock(), "after a restart": WorldClock(), "30 days later": later}
    statuses, rows, days = Counter[int](), list[int](), 0
    with opened(at.url) as database:
        compiled = compile_scoring(_ONE_POINT_EACH, file="scoring.py", mapping=Mapping())
        database.write_now(publish_scoring, LoadedScoring(compiled, Mapping(), Path("scoring.py")), now)
        for number, clock in enumerate(clocks.values()):
            its = {} if clock.speed == 1 else {"MEBAE_CLOCK_ORIGIN": clock.origin.isoformat(), "MEBAE_CLOCK_SPEED": str(clock.speed)}
            with ServerProcess(at.url, at.folder, **its) as server:
                async with applying(database, clock):
                    statuses += await post_all(server.port, _repeated(events, times, now, chance(f"R8 {number}")))
                    after = [*(_hello(n) for n in range(1, events, 2)), _control(number)]
                    statuses += await post_all(server.port, [lambda: {"batch": after}], 1)  # noqa: B023
                server.kill()
            rows.append(database.read_now(_trials))
            days = database.read_now(_world_days, now)
            tick((number + 1) / len(clocks))
        others = select(Lead.score).where(col(Lead.user_id).is_distinct_from("control"))
        scores = database.read_now(lambda session: Counter(session.exec(others).all()))
        changes = database.read_now(lambda session: session.exec(select(func.count(col(ScoreChange.id)))).one())
    right = rows == [events] * 3 and scores == {10: events} and changes == events and days == MONTH.days and set(statuses) == {200}
    return Finding(
        "R8",
        f"{at.kind}: {events} events, each {times} times on 8 connections, again after a restart, again 30 days later",
        "scored once",
        f"{sum(statuses.values()):,} requests, all 200; {rows[0]} stored the first time, {rows[1] - rows[0]} more after the restart, "
        f"{rows[2] - rows[1]} more {days} days later; {changes} changes of score, of 10 points each"
        if right
        else f"{statuses}, stored {rows}, leads by score {dict(scores)}, {changes} changes, {days} days",
        right,
    )


def _repeated(events: int, times: int, when: datetime, dice: Random) -> list[Callable[[], dict[str, Any]]]:
    """The same events over and over: alone, two in one batch, among others' repetitions; sent at other times each time."""

    def event(number: int) -> dict[str, Any]:
        who = {"anonymousId": f"visitor-{number}"} if number % 2 else {"userId": f"lead-{number}@aoba.example"}
        return {
            "type": "track", "event": "Trial Started", "messageId": f"the-one-{number}", "timestamp": when.isoformat(), **who,
        }  # fmt: skip

    def sent(body: dict[str, Any]) -> dict[str, Any]:
        return body | {"sentAt": datetime.now(UTC).isoformat()}

    bodies: list[Callable[[], dict[str, Any]]] = []
    for number in range(events):
        bodies += [lambda n=number: sent(event(n))] * (times - 4)  # type: ignore[misc]
        bodies += [lambda n=number: sent({"batch": [event(n), event(n)]})] * 2  # type: ignore[misc]
    dice.shuffle(bodies)
    return bodies


def _hello(number: int) -> dict[str, Any]:
    email = f"lead-{number}@aoba.example"
    return {"type": "identify", "messageId": f"hello-{number}", "anonymousId": f"visitor-{number}", "traits": {"email": email}}


def _control(number: int) -> dict[str, Any]:
    """A new event each time: it shows what the world's clock of the server says."""
    return {"type": "track", "event": "Control", "messageId": f"control-{number}", "userId": "control"}


def _trials(session: Session) -> int:
    return session.exec(select(func.count(col(Event.id))).where(Event.name == "Trial Started")).one()


def _world_days(session: Session, since: datetime) -> int:
    """Days of the world's between the first sending and what was written last."""
    newest = session.exec(select(func.max(col(Event.received_at)))).one()
    return 0 if newest is None else (newest - since).days


# R9 -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Happened:
    """One thing that really happened."""

    lead: int
    id: str
    name: str
    properties: dict[str, Any]
    at: datetime

    def told(self, wrong: timedelta) -> dict[str, Any]:
        """As a client sends it whose clock is so much wrong."""
        body: dict[str, Any] = {
            "messageId": self.id, "userId": f"crm-{self.lead}", "timestamp": (self.at + wrong).isoformat(),
        }  # fmt: skip
        if self.name == "Lead Identified":
            return body | {"type": "identify", "traits": self.properties}
        return body | {"type": "track", "event": self.name, "properties": self.properties}


def lives(leads: int, dice: Random, until: datetime, *, days: float) -> list[Happened]:
    """What leads did in so many days, in the order in which it happened."""
    happened: list[Happened] = []
    for lead in range(leads):
        titles = ["部長", "課長", "担当", "本部長代理", *([] if _plain(lead) else ["学生"])]
        traits = {
            "title": dice.choice(titles), "industry": dice.choice(["製造業", "建設業", "小売業"]),
            "employees": dice.choice([10, 80, 500]), "email": f"lead-{lead}@aoba{lead % 9}.example",
        }  # fmt: skip
        did = [("Lead Identified", traits), *(_something(dice, _plain(lead)) for _ in range(dice.randint(3, 18)))]
        for number, (name, properties) in enumerate(did):
            at = until - timedelta(days=days * dice.random())
            happened.append(Happened(lead, f"life-{lead}-{number}", name, properties, at.replace(microsecond=0)))
    return sorted(happened, key=lambda one: (one.at, one.id))


def _plain(lead: int) -> bool:
    """Whether a lead's life holds only what adds points, and the lead is known from the beginning."""
    return lead % 2 == 0


def _something(dice: Random, plain: bool) -> tuple[str, dict[str, Any]]:
    """An event that a rule of the sample model may count."""
    done: list[tuple[str, dict[str, Any]]] = [
        ("Content Downloaded", {"content": f"whitepaper-{dice.randint(1, 4)}"}),
        ("Page Viewed", {"path": "/pricing"}),
        ("Page Viewed", {"path": f"/products/{dice.randint(1, 3)}", "seconds": 200 if plain else dice.randint(1, 400)}),
        ("Page Viewed", {"path": f"/blog/{dice.randint(1, 5)}"}),
        ("Seminar Attended", {"seminar": f"s{dice.randint(1, 3)}"}),
        ("Quote Requested", {"product": "p1"}),
        ("Page Viewed", {"path": "/careers"}),
        ("Form Answered", {"form": "survey", "budget": dice.choice(["確保済み", "検討中", "なし"])}),
    ]
    return dice.choice(done[:-2] if plain else done)


@dataclass(frozen=True)
class Standing:
    """What a lead came to."""

    score: float
    stage: str
    qualification: str
    topics: tuple[str, ...]
    excluded: tuple[str, ...]
    rank: str | None

    def like(self, other: Standing | None, *, stages: bool = True) -> bool:
        """Equal, with or without what it became; the score so far as a clock set right to two seconds makes no difference."""
        if other is None or abs(other.score - self.score) >= 0.001:
            return False
        other = replace(other, score=self.score)
        return self == (other if stages else replace(other, stage=self.stage, qualification=self.qualification))


async def in_any_order(at: Sequence[Home], *, leads: int, days: float = 7.0, tick: Tick = silent) -> Finding:
    """R9: the same lives told in as many orders as there are homes: the first as they happened, the others shuffled, up to a
    week late, in requests of all sizes on 8 connections, by clients whose clocks are a day fast, a day slow or right.

    Score, topics and exclusions must be the same. A stage once reached stays reached, so that it may depend on what was known
    first: that a page takes points away, that a later answer counts for less, that the lead is a student. Every other lead
    has a life without such things and is known from the beginning: of these stage and qualification must be the same too.
    """
    until = datetime.now(UTC) - timedelta(minutes=1)
    truth = lives(leads, chance("R9"), until, days=days)
    plain = {f"crm-{lead}" for lead in range(leads) if _plain(lead)}
    moment = until + timedelta(days=20)
    came, off, statuses = list[dict[str, Standing]](), 0.0, Counter[int]()
    for number, its in enumerate(at):
        dice = chance(f"R9 {number}")
        introduced = [one for one in truth if one.name == "Lead Identified" and _plain(one.lead)]
        told = [one for one in truth if one not in introduced]
        if number:
            dice.shuffle(introduced)
            dice.shuffle(told)
        with opened(its.url) as database:
            publish_sample_scoring(database)
            with ServerProcess(its.url, its.folder) as server:
                async with applying(database):
                    for part in (introduced, told):
                        requests = _in_requests(part, dice, clocks_wrong=number > 0)
                        statuses += await post_all(server.port, requests, 8 if number else 1)
            came.append(database.read_now(_standings, moment))
            off = max(off, database.read_now(_furthest_off, {one.id: one.at for one in truth}))
            tick((number + 1) / len(at))
    expected, kinds = _expected(truth, moment), ", ".join(sorted({one.kind for one in at}))
    others = {who: [standings.get(who) for standings in came[1:]] for who in expected}
    different = [who for who, its in others.items() if not all(came[0][who].like(one, stages=who in plain) for one in its)]
    staged = [who for who, its in others.items() if not all(came[0][who].like(one) for one in its)]
    untrue = [who for who, score in expected.items() if abs(came[0][who].score - score) > 0.001]
    return Finding(
        "R9",
        f"{len(truth):,} events of {leads} leads in {len(at)} orders ({kinds}): up to {days:.0f} days late, requests of 1 to 50 events "
        "on 8 connections, clocks right or 24 h off either way",
        "same final score in any order; clock corrected to 2 s",
        f"{len(different)} of {leads} leads with another score, topic or exclusion (nor, of the {len(plain)} plain lives, another stage "
        f"or qualification); {len(untrue)} other than counted from the truth; furthest occurrence off by {off:.2f} s. Of the others "
        f"{len(staged)} have another stage or qualification",
        not different and not untrue and off <= 2.0 and set(statuses) == {200},
    )


def _in_requests(told: Sequence[Happened], dice: Random, *, clocks_wrong: bool) -> list[Callable[[], dict[str, Any]]]:
    """Cut into requests, each by a client with a clock of its own; `sentAt` says what that clock shows at the sending."""
    bodies: list[Callable[[], dict[str, Any]]] = []
    start = 0
    while start < len(told):
        part = told[start : start + dice.choice([1, 1, 5, 20, 50])]
        start += len(part)
        wrong = dice.choice([timedelta(0), timedelta(hours=24), timedelta(hours=-24)]) if clocks_wrong else timedelta(0)

        def make(part: Sequence[Happened] = part, wrong: timedelta = wrong) -> dict[str, Any]:
            sent_at = (datetime.now(UTC) + wrong).isoformat()
            if len(part) == 1 and part[0].name != "Lead Identified":
                return part[0].told(wrong) | {"sentAt": sent_at}
            return {"batch": [one.told(wrong) for one in part], "sentAt": sent_at}

        bodies.append(make)
    return bodies


def _standings(session: Session, moment: datetime) -> dict[str, Standing]:
    scoring = active_scoring(session)
    assert scoring is not None
    found = {}
    for lead in session.exec(select(Lead)):
        tally = tally_of(lead, scoring)
        assert tally is not None
        score = reckon(scoring.model, tally, profile_of(lead, scoring.mapping), moment, held=lead.stage)
        found[lead.user_id or ""] = Standing(
            score.total, score.stage, lead.qualification, score.topics, score.excluded, lead.rank
        )
    return found


def _expected(truth: Sequence[Happened], moment: datetime) -> dict[str, float]:
    """Points by lead, from the truth alone: engagement of the events, fit of the traits."""
    loaded = load_scoring(ROOT)
    assert loaded is not None
    by_lead: dict[int, list[Happened]] = {}
    for one in truth:
        by_lead.setdefault(one.lead, []).append(one)
    found = {}
    for lead, its in by_lead.items():
        traits = next(one.properties for one in its if one.name == "Lead Identified")
        row = Lead(
            email=traits["email"], title=traits["title"], industry=traits["industry"], company_size=traits["employees"],
            created_at=moment, updated_at=moment,
        )  # fmt: skip
        done = [Done(one.id, one.name, one.properties, one.at) for one in its]
        found[f"crm-{lead}"] = replay(loaded.model, profile_of(row, loaded.mapping), done, moment).score.total
    return found


def _furthest_off(session: Session, truth: dict[str, datetime]) -> float:
    """Seconds between when a thing happened and when it is said to have."""
    rows = dict(session.exec(select(Event.message_id, Event.occurred_at)).all())
    return max((abs((rows[id] - at).total_seconds()) for id, at in truth.items() if id in rows), default=math.inf) + (
        0.0 if set(truth) <= set(rows) else math.inf
    )
