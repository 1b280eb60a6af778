"""A run of a broadcast: every lead of the segment once, test and winner, zones, holdout, waiting, pausing, dying."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from mebae import broadcast_opening, broadcasting
from mebae.ab import TOO_FEW, Tried, decide
from mebae.authoring import lead
from mebae.broadcasting import Batch, Halted, Over, Resting
from mebae.broadcasts import Ab, BroadcastPlan, Variant, draw
from mebae.clock import WorldClock
from mebae.errors import Permanent, Temporary
from mebae.recurring import EveryMonth, EveryWeek, Once
from mebae.store.broadcasts import publish_broadcasts
from mebae.store.database import Database
from mebae.store.tables import Broadcast, Delivery
from mebae.timing import Duration
from tests.broadcasts import DAY, HOUR, MINUTE, NOON, TOKYO, WORLD, Died, Story, people, plan

AB = Ab(
    variants=(Variant(id="a", mail="news"), Variant(id="b", mail="news", subjects={"": "…"}), Variant(id="c", mail="short")),
    share=30, after=Duration(hours=4),
)  # fmt: skip
HOT = lead.score >= 50


# Everybody once ------------------------------------------------------------------------------------------------------


async def test_every_lead_of_the_segment_gets_the_mail_once_and_nobody_else(database: Database) -> None:
    hot, cold = people(database, 120, score=60), people(database, 30)
    story = Story.begin(database, plan(to=HOT))
    assert await story.on(most=25) == Over("completed")
    assert story.mailer.mailed == Counter(hot)
    assert not set(story.of("sent")) & set(cold)
    row = story.row
    assert (row.status, row.outcome, row.counts) == ("done", "completed", {"total": 120, "sent": 120})
    assert max(story.mailer.batches) == 25
    assert await story.on() == Over("completed"), "asked again, it says the same"


async def test_a_lead_that_leaves_the_segment_before_its_turn_is_not_mailed(database: Database) -> None:
    ids = people(database, 30, score=60)
    story = Story.begin(database, plan(to=HOT))
    while not story.mailer.mailed:
        await story.step(most=10)
    story.write(ids[20], score=0)
    await story.on(most=10)
    assert story.mailer.mailed == Counter(set(ids) - {ids[20]})


async def test_an_erased_lead_gets_nothing(sqlite_database: Database) -> None:
    sato, suzuki = people(sqlite_database, 2, score=60)
    story = Story.begin(sqlite_database, plan(to=HOT))
    story.write(sato, erased_at=NOON)
    await story.on()
    assert story.mailer.mailed == Counter([suzuki])


async def test_an_empty_segment_is_done_at_once(sqlite_database: Database) -> None:
    story = Story.begin(sqlite_database, plan(to=HOT))
    assert await story.on() == Over("completed")
    assert story.row.counts["total"] == 0


async def test_what_the_gate_refuses_is_counted_and_stops_nobody(sqlite_database: Database) -> None:
    ids = people(sqlite_database, 20)
    story = Story.begin(sqlite_database, plan())
    story.mailer.answer = lambda lead: "opted-out" if lead == ids[3] else "sent"
    await story.on(most=7)
    assert story.row.counts == {"total": 20, "sent": 19, "refused": 1}
    assert story.of("refused", "opted-out") == [ids[3]]


# A/B -----------------------------------------------------------------------------------------------------------------


async def test_the_test_goes_first_and_the_others_get_the_winner_after_its_time(database: Database) -> None:
    ids = people(database, 200)
    story = Story.begin(database, plan(ab=AB))
    assert await story.on() == Resting(NOON + 4 * HOUR, "test")
    assert story.row.status == "waiting"
    tested = {id: draw(plan(ab=AB), story.id, id).variant for id in ids}
    assert {id: story.mailer.contents[id].variant for id in story.mailer.mailed} == {
        id: variant for id, variant in tested.items() if variant is not None
    }
    clicks(story, b=6, c=2)
    story.now += 4 * HOUR
    assert await story.on() == Over("completed")
    assert story.mailer.mailed == Counter(ids)
    rest = {(content.mail, content.text, content.variant) for id, content in story.mailer.contents.items() if tested[id] is None}
    assert rest == {("news", "news:b", None)}, "who tried nothing is no part of the numbers"
    row = story.row
    assert (row.winner, row.decision["why"], row.decision["at"]) == ("b", "most", (NOON + 4 * HOUR).isoformat())
    assert row.decision["variants"]["b"]["clicks"] == 6
    assert sum(one["sent"] for one in row.decision["variants"].values()) == sum(v is not None for v in tested.values())


def clicks(story: Story, **many: int) -> None:
    """Persons click: so many of each variant."""

    def write(session: Session) -> None:
        for variant, count in many.items():
            query = select(Delivery).where(Delivery.broadcast_id == story.id, Delivery.variant == variant).limit(count)
            for row in session.exec(query):
                row.clicked_at = story.now

    story.database.write_now(write)


async def test_with_too_few_clicks_the_mail_itself_wins(sqlite_database: Database) -> None:
    people(sqlite_database, 200)
    story = Story.begin(sqlite_database, plan(ab=AB))
    await story.on()
    clicks(story, c=TOO_FEW - 1)
    story.now += 4 * HOUR
    await story.on()
    assert (story.row.winner, story.row.decision["why"]) == ("a", "too-few")


async def test_who_joins_after_the_test_gets_the_winner(sqlite_database: Database) -> None:
    people(sqlite_database, 50)
    story = Story.begin(sqlite_database, plan(ab=AB))
    await story.on()
    late = people(sqlite_database, 50)
    story.now += 4 * HOUR
    await story.on()
    assert set(late) <= set(story.mailer.mailed)
    assert {story.mailer.contents[id].variant for id in late} == {None}


async def test_a_variants_mail_that_had_to_wait_is_that_variants_when_it_goes_out(sqlite_database: Database) -> None:
    people(sqlite_database, 200)
    story = Story.begin(sqlite_database, plan(ab=AB))
    story.mailer.answer = lambda lead: NOON + HOUR
    await story.on()
    story.mailer.answer = lambda lead: "sent"
    at = await story.on()
    assert isinstance(at, Resting)
    assert at.until == NOON + HOUR, "within the test, so that they count"
    story.now = at.until
    assert await story.on() == Resting(NOON + 5 * HOUR, "test")
    assert Counter(story.mailer.contents[id].variant for id in story.mailer.mailed).keys() == {"a", "b", "c"}


async def test_the_tests_time_begins_when_its_mails_are_out(sqlite_database: Database) -> None:
    """At night all of them wait for the morning: the four hours are those after it. One that waits for days is not waited for."""
    people(sqlite_database, 200)
    story = Story.begin(sqlite_database, plan(ab=AB))
    morning = NOON + 10 * HOUR
    tested = [id for id in range(1, 201) if draw(plan(ab=AB), story.id, id).part == "test"]
    story.mailer.answer = lambda lead: (
        "sent" if story.now >= morning and lead != tested[0] else NOON + 2 * DAY if lead == tested[0] else morning
    )
    assert await story.on() == Resting(morning, "late")
    story.now = morning
    assert await story.on() == Resting(morning + 4 * HOUR, "test")
    assert len(story.mailer.mailed) == len(tested) - 1
    clicks(story, c=7)
    story.now += 4 * HOUR
    assert await story.on() == Resting(NOON + 2 * DAY, "late")
    assert story.row.winner == "c"
    assert len(story.mailer.mailed) == 199


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=5))
def test_the_decision_is_the_highest_rate_and_never_another_for_the_same_numbers(numbers: list[tuple[int, int]]) -> None:
    tried = {id: Tried(sent=d + 1, delivered=d, clicks=min(c, d)) for id, (d, c) in zip("abcde", numbers, strict=False)}
    found = decide(tried, "clicks")
    rates = {id: one.clicks / one.delivered if one.delivered else 0.0 for id, one in tried.items()}
    if sum(one.clicks for one in tried.values()) < TOO_FEW:
        assert found == ("a", "too-few")
    else:
        best = [id for id, rate in rates.items() if rate == max(rates.values())]
        assert found == (best[0], "tie" if len(best) > 1 else "most")


# Holdout -------------------------------------------------------------------------------------------------------------


async def test_who_is_held_out_gets_no_mail_and_is_recorded(database: Database) -> None:
    ids = people(database, 150)
    story = Story.begin(database, plan(holdout=20, ab=AB))
    await story.on(most=40)
    story.now += 4 * HOUR
    assert isinstance(await story.on(most=40), Over)
    held = story.of("refused", "holdout")
    assert held == [id for id in ids if draw(plan(holdout=20, ab=AB), story.id, id).part == "holdout"]
    assert story.mailer.mailed == Counter(set(ids) - set(held))
    assert story.row.counts == {"total": 150, "holdout": len(held), "sent": 150 - len(held)}


# By hand to some -----------------------------------------------------------------------------------------------------


async def test_a_run_to_some_leads_asks_no_segment_and_draws_no_lots(database: Database) -> None:
    ids = people(database, 10)
    when = Once(day=date(2026, 5, 1), at="10:00")
    story = Story.begin(database, plan(to=HOT, holdout=50, ab=AB, schedule=when, local_time=True), only=ids[:3])
    assert await story.on() == Over("completed")
    assert story.mailer.mailed == Counter(ids[:3])
    assert story.row.counts == {"total": 3, "sent": 3}


# What had to wait ----------------------------------------------------------------------------------------------------


async def test_a_mail_that_had_to_wait_goes_out_at_its_time(database: Database) -> None:
    ids = people(database, 20)
    story = Story.begin(database, plan())
    story.mailer.answer = lambda lead: NOON + 3 * HOUR if lead in ids[:5] and story.now < NOON + 3 * HOUR else "sent"
    assert await story.on() == Resting(NOON + 3 * HOUR, "late")
    assert story.row.counts == {"total": 20, "sent": 15, "postponed": 5}
    story.now += 3 * HOUR
    assert await story.on() == Over("completed")
    assert story.row.counts == {"total": 20, "sent": 20}


async def test_who_left_the_segment_while_it_waited_is_not_mailed(database: Database) -> None:
    ids = people(database, 5, score=60)
    story = Story.begin(database, plan(to=HOT))
    story.mailer.answer = lambda lead: NOON + HOUR if story.now < NOON + HOUR else "sent"
    await story.on()
    story.write(ids[2], score=0)
    story.now += HOUR
    assert await story.on() == Over("completed")
    assert story.of("refused", "left-segment") == [ids[2]]
    assert len(story.mailer.mailed) == 4


async def test_what_would_have_to_wait_too_long_is_given_up(database: Database) -> None:
    ids = people(database, 5)
    story = Story.begin(database, plan(give_up_after=Duration(days=2)))
    story.mailer.answer = lambda lead: NOON + (3 if lead == ids[0] else 1) * DAY if story.now < NOON + DAY else "sent"
    assert await story.on() == Resting(NOON + DAY, "late")
    assert story.of("refused", "gave-up") == [ids[0]]
    story.now += DAY
    assert await story.on() == Over("completed")
    assert story.row.counts == {"total": 5, "sent": 4, "refused": 1}


async def test_waiting_mails_are_collected_and_not_each_waked_for(sqlite_database: Database) -> None:
    ids = people(sqlite_database, 200)
    story = Story.begin(sqlite_database, plan())
    story.mailer.answer = lambda lead: NOON + timedelta(seconds=30 + lead - ids[0]) if story.now == NOON else "sent"
    rests = 0
    while isinstance(at := await story.on(), Resting):
        story.now, rests = at.until, rests + 1
    assert len(story.mailer.mailed) == 200
    assert rests <= 6


async def test_a_mail_server_that_is_away_stops_the_run_and_not_each_lead(sqlite_database: Database) -> None:
    people(sqlite_database, 200)
    story = Story.begin(sqlite_database, plan())
    story.mailer.answer = lambda lead: story.now + MINUTE
    story.mailer.waits_for = "mail-server-unavailable"
    assert await story.on(most=10) == Resting(NOON + MINUTE, "mail-server-unavailable")
    assert len(story.deliveries()) == 10, "the next ones were not even tried"
    story.now += MINUTE
    at = await story.on(most=10)
    assert at == Resting(NOON + 3 * MINUTE, "mail-server-unavailable"), "longer each time"
    story.mailer.answer = lambda lead: "sent"
    await story.to_the_end()
    assert story.row.counts == {"total": 200, "sent": 200}


# Pause, resume, end --------------------------------------------------------------------------------------------------


async def test_a_paused_run_sends_nothing_until_it_is_resumed(database: Database) -> None:
    ids = people(database, 30)
    story = Story.begin(database, plan())
    while not story.mailer.mailed:
        await story.step(most=10)
    steer(story, "pause")
    assert await story.on(most=10) == Halted()
    assert len(story.mailer.mailed) == 10
    story.now += 10 * DAY
    steer(story, "resume")
    assert await story.on(most=10) == Over("completed")
    assert story.mailer.mailed == Counter(ids)


async def test_who_met_the_pause_before_anything_was_written_of_it_gets_its_mail_afterwards(sqlite_database: Database) -> None:
    """The mailer writes nothing of leads that it is given while the run is paused."""
    ids = people(sqlite_database, 30)
    story = Story.begin(sqlite_database, plan(holdout=10))
    send = story.mailer.send

    async def pausing(broadcast: int, leads: Any, content: Any, now: Any) -> Any:
        steer(story, "pause")
        return await send(broadcast, leads, content, now)

    while not story.mailer.mailed:
        await story.step(most=10)
    story.mailer.send = pausing  # type: ignore[method-assign]
    assert await story.on(most=10) == Halted()
    story.mailer.send = send  # type: ignore[method-assign]
    steer(story, "resume")
    assert await story.on(most=10) == Over("completed")
    assert story.mailer.mailed == Counter(set(ids) - set(story.of("refused", "holdout")))


async def test_the_time_of_a_pause_does_not_count_against_what_had_to_wait(sqlite_database: Database) -> None:
    people(sqlite_database, 3)
    story = Story.begin(sqlite_database, plan(give_up_after=Duration(days=2)))
    story.mailer.answer = lambda lead: NOON + DAY if story.now < NOON + DAY else "sent"
    await story.on()
    steer(story, "pause")
    story.now += 10 * DAY
    steer(story, "resume")
    story.mailer.answer = lambda lead: story.now + HOUR
    assert isinstance(await story.on(), Resting), "and not given up"


async def test_mails_that_met_the_pause_at_the_gate_go_out_when_it_ends(sqlite_database: Database) -> None:
    people(sqlite_database, 3)
    story = Story.begin(sqlite_database, plan())
    story.mailer.answer, story.mailer.waits_for = lambda lead: NOON + 8 * HOUR, "paused"
    await story.step()
    await story.step()
    steer(story, "pause")
    story.now += MINUTE
    steer(story, "resume")
    story.mailer.answer = lambda lead: "sent"
    assert await story.on() == Over("completed")


async def test_a_run_that_is_ended_sends_nothing_more_and_gives_up_what_waits(database: Database) -> None:
    ids = people(database, 30)
    story = Story.begin(database, plan())
    story.mailer.answer = lambda lead: NOON + HOUR if lead in ids[:4] else "sent"
    while not story.mailer.mailed:
        await story.step(most=10)
    steer(story, "end")
    assert await story.on(most=10) == Over("enough")
    assert (len(story.mailer.mailed), story.of("refused", "ended")) == (6, ids[:4])
    row = story.row
    assert (row.status, row.outcome, row.ended_at) == ("ended", "enough", NOON)
    steer(story, "resume")
    assert await story.on() == Over("enough"), "an end is an end"


def steer(story: Story, verb: str) -> None:
    if verb == "end":
        story.database.write_now(broadcasting.end, story.id, "enough", WORLD, story.now)
    else:
        story.database.write_now(getattr(broadcasting, verb), story.id, WORLD, story.now)


# Dying ---------------------------------------------------------------------------------------------------------------


async def test_a_worker_that_dies_in_a_batch_loses_nobody_and_mails_nobody_twice(database: Database) -> None:
    ids = people(database, 100)
    story = Story.begin(database, plan(ab=AB))
    for dies in (3, 0, 2, 1):
        story.mailer.dies_after = dies
        with pytest.raises(Died):
            await story.to_the_end(most=10)
    await story.to_the_end(most=10)
    unknown = set(story.of("unknown"))
    assert unknown == set(story.mailer.died), "in data, and so listed"
    assert story.mailer.mailed == Counter(set(ids) - unknown)
    assert story.row.counts == {"total": 100, "sent": 100 - len(unknown), "unknown": len(unknown)}


async def test_who_was_in_data_and_left_the_segment_is_listed_as_unknown(database: Database) -> None:
    ids = people(database, 5, score=60)
    story = Story.begin(database, plan(to=HOT))
    story.mailer.dies_after = 2
    with pytest.raises(Died):
        await story.on()
    story.write(ids[2], score=0)
    await story.to_the_end()
    assert story.of("unknown") == [ids[2]]


async def test_a_worker_that_dies_before_an_end_leaves_nobody_in_data(sqlite_database: Database) -> None:
    ids = people(sqlite_database, 5)
    story = Story.begin(sqlite_database, plan())
    story.mailer.dies_after = 2
    with pytest.raises(Died):
        await story.on()
    steer(story, "end")
    assert await story.on() == Over("enough")
    assert story.of("unknown") == [ids[2]]


async def test_an_attempt_that_was_given_up_for_dead_moves_nothing(sqlite_database: Database) -> None:
    ids = people(sqlite_database, 40)
    story = Story.begin(sqlite_database, plan())
    await story.step(most=10)
    looked = sqlite_database.read_now(broadcasting.look, story.id, WORLD, NOON, most=10)
    lost = sqlite_database.write_now(broadcasting.take, story.id, looked, WORLD, NOON, most=10)
    assert isinstance(lost, Batch)
    await story.step(most=10)
    await story.step(most=10)
    place = story.row.place
    sqlite_database.write_now(broadcasting.taken, story.id, lost, WORLD, NOON)
    assert story.row.place == place
    await story.on()
    assert story.mailer.mailed == Counter(ids)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_everybody_is_mailed_once_or_it_is_said_why(sqlite_database: Database, seed: int) -> None:
    """Workers die between any two transactions and in the middle of a mail, the run is paused, mails wait, leads leave."""
    chance = random.Random(seed)
    ids = people(sqlite_database, 60, score=60)
    story = Story.begin(sqlite_database, plan(to=HOT, ab=AB if seed % 2 else None, holdout=10 * (seed % 3)))
    left: dict[int, datetime] = {}
    story.mailer.answer = lambda lead: story.now + chance.choice([1, 30, 600]) * MINUTE if chance.random() < 0.2 else "sent"
    at: Any = None
    while not isinstance(at, Over):
        most = chance.choice([1, 4, 15])
        match chance.randrange(9):
            case 0:  # dies before it has taken anything
                sqlite_database.read_now(broadcasting.look, story.id, WORLD, story.now, most=most)
            case 1:  # dies with a batch in its hands, nothing sent
                looked = sqlite_database.read_now(broadcasting.look, story.id, WORLD, story.now, most=most)
                sqlite_database.write_now(broadcasting.take, story.id, looked, WORLD, story.now, most=most)
            case 2:  # dies when all is sent, before the place has moved
                looked = sqlite_database.read_now(broadcasting.look, story.id, WORLD, story.now, most=most)
                batch = sqlite_database.write_now(broadcasting.take, story.id, looked, WORLD, story.now, most=most)
                for group in batch.groups if isinstance(batch, Batch) else ():
                    await story.mailer.send(story.id, group.leads, group.content, lambda: story.now)
            case 3:  # dies in the middle of a mail
                story.mailer.dies_after = chance.randrange(most)
                with contextlib.suppress(Died):
                    await story.step(most)
                story.mailer.dies_after = None
            case 4:
                steer(story, chance.choice(["pause", "resume"]))
            case 5:
                gone = chance.choice(ids)
                story.write(gone, score=0)
                left.setdefault(gone, story.now)
            case _:
                at = await story.step(most)
        if isinstance(at, Halted):
            steer(story, "resume")
        if isinstance(at, Resting):
            story.now = max(story.now, at.until)
    rows = {row.lead_id: row for row in story.deliveries()}
    assert max(story.mailer.mailed.values()) == 1
    assert {row.status for row in rows.values()} <= {"sent", "refused", "unknown"}
    assert {row.lead_id for row in rows.values() if row.status == "unknown"} == set(story.mailer.died)
    assert set(story.of("sent")) == set(story.mailer.mailed)
    assert set(ids) - set(rows) <= set(left), "nobody is lost but who left before its turn"
    assert all(rows[id].sent_at <= when for id, when in left.items() if id in rows and rows[id].status == "sent" and rows[id].sent_at)
    assert sum(story.row.counts[word] for word in ("sent", "refused", "unknown", "holdout") if word in story.row.counts) == len(rows)


# By local time -------------------------------------------------------------------------------------------------------


def local(**how: Any) -> BroadcastPlan:
    return plan(**({"schedule": EveryWeek(days=("sun",), at="10:00"), "local_time": True} | how))


ZONES = {
    "Pacific/Kiritimati": "2026-03-07T20:00+00:00", "Asia/Tokyo": "2026-03-08T01:00+00:00", "Europe/Berlin": "2026-03-08T09:00+00:00",
    "America/New_York": "2026-03-08T14:00+00:00",  # the night before, the clocks went forward
    "America/Los_Angeles": "2026-03-08T17:00+00:00", "Pacific/Honolulu": "2026-03-08T20:00+00:00",
}  # fmt: skip


async def test_each_lead_gets_it_at_the_time_of_its_own_zone_on_the_day_the_clocks_change(database: Database) -> None:
    leads = {zone: people(database, 7, time_zone=zone)[0] for zone in ZONES}
    nowhere = {zone: people(database, 7, time_zone=zone)[0] for zone in (None, "", "Mars/Olympus")}
    story = Story.scheduled(database, local(), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    assert story.row.due_at == datetime(2026, 3, 8, 1, 0, tzinfo=UTC), "in the workspace's zone"
    await story.to_the_end()
    sent = {row.lead_id: row.sent_at for row in story.deliveries()}
    assert len(sent) == 7 * 9
    for zone, moment in ZONES.items():
        assert sent[leads[zone]] == datetime.fromisoformat(moment), zone
    assert {sent[id] for id in nowhere.values()} == {datetime.fromisoformat(ZONES["Asia/Tokyo"])}


async def test_the_zone_of_the_broadcast_is_for_those_without_one(sqlite_database: Database) -> None:
    [nowhere] = people(sqlite_database, 1, time_zone=None)
    story = Story.scheduled(sqlite_database, local(zone="Europe/Berlin"), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    await story.to_the_end()
    assert {row.lead_id: row.sent_at for row in story.deliveries()} == {nowhere: datetime.fromisoformat(ZONES["Europe/Berlin"])}


async def test_a_run_that_comes_late_sends_at_once_where_the_time_has_passed(sqlite_database: Database) -> None:
    for zone in ZONES:
        people(sqlite_database, 3, time_zone=zone)
    story = Story.scheduled(sqlite_database, local(), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    story.now = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
    assert await story.on() == Resting(datetime(2026, 3, 8, 14, 0, tzinfo=UTC), "zone")
    assert len(story.mailer.mailed) == 9


async def test_a_new_zone_is_found_while_the_run_rests(sqlite_database: Database) -> None:
    people(sqlite_database, 1, time_zone="Pacific/Honolulu")
    story = Story.scheduled(sqlite_database, local(), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    at = await story.on()
    assert isinstance(at, Resting)
    [berlin] = people(sqlite_database, 1, time_zone="Europe/Berlin")
    story.now = datetime(2026, 3, 8, 9, 0, tzinfo=UTC)
    await story.on()
    assert story.mailer.mailed == Counter([berlin])


async def test_a_lead_that_moves_to_a_zone_where_the_time_has_passed_gets_it_with_the_last_zone(database: Database) -> None:
    """It was to get it in Honolulu, and flies to Tokyo while the run is in Berlin: nobody is passed over."""
    moves, stays, tokyo = (people(database, 1, time_zone=zone)[0] for zone in ("Pacific/Honolulu", "Pacific/Honolulu", "Asia/Tokyo"))
    [berlin] = people(database, 1, time_zone="Europe/Berlin")
    story = Story.scheduled(database, local(), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    story.now = datetime.fromisoformat(ZONES["Europe/Berlin"])
    await story.on()
    assert story.mailer.mailed == Counter([tokyo, berlin])
    story.write(moves, time_zone="Asia/Tokyo")
    await story.to_the_end()
    assert story.mailer.mailed == Counter([tokyo, berlin, moves, stays])
    sent = {row.lead_id: row.sent_at for row in story.deliveries()}
    assert sent[moves] == sent[stays] == datetime.fromisoformat(ZONES["Pacific/Honolulu"])


async def test_the_last_zones_only_lead_that_moves_away_gets_it_at_once(sqlite_database: Database) -> None:
    [tokyo], [moves] = people(sqlite_database, 1, time_zone="Asia/Tokyo"), people(sqlite_database, 1, time_zone="Pacific/Honolulu")
    story = Story.scheduled(sqlite_database, local(), datetime(2026, 3, 7, 20, 0, tzinfo=UTC))
    story.now = datetime.fromisoformat(ZONES["Europe/Berlin"])
    assert isinstance(await story.on(), Resting)
    story.write(moves, time_zone="Asia/Tokyo")
    story.now += MINUTE
    story.write(tokyo, time_zone="Pacific/Honolulu")  # who has had it gets it no second time
    await story.to_the_end()
    assert story.mailer.mailed == Counter([tokyo, moves])


async def test_by_command_each_zone_gets_it_at_its_next_time(sqlite_database: Database) -> None:
    tokyo, berlin = (people(sqlite_database, 1, time_zone=zone)[0] for zone in ("Asia/Tokyo", "Europe/Berlin"))
    story = Story.begin(sqlite_database, local())  # noon in Tokyo, five in the morning in Berlin
    await story.to_the_end()
    sent = {row.lead_id: row.sent_at for row in story.deliveries()}
    assert sent == {berlin: datetime(2026, 4, 7, 8, 0, tzinfo=UTC), tokyo: datetime(2026, 4, 8, 1, 0, tzinfo=UTC)}


# How it begins -------------------------------------------------------------------------------------------------------


WEEKLY = plan(schedule=EveryWeek(days=("tue",), at="10:00", every=2, starting=date(2026, 4, 7)))
TEN = datetime(2026, 4, 7, 1, 0, tzinfo=UTC)


def fire(database: Database, at: datetime, workflow: str = "w1", now: datetime | None = None) -> tuple[int | None, str]:
    return database.write_now(broadcast_opening.open_scheduled, "news", at, workflow, WORLD, now or at)


async def test_a_schedule_that_fires_makes_one_run_for_its_time(database: Database) -> None:
    people(database, 3)
    database.write_now(publish_broadcasts, [WEEKLY])
    run, _ = fire(database, TEN)
    assert run is not None
    assert fire(database, TEN, now=TEN + MINUTE) == (run, ""), "the same workflow asks again"
    assert fire(database, TEN, workflow="w2") == (None, "sent-before")
    row = database.read_now(lambda session: session.get_one(Broadcast, run))
    assert (row.cause, row.status, row.due_at, row.counts) == ("schedule:news:2026-04-07T10:00", "running", TEN, {"total": 3})
    assert row.workflow_id == "w1"


async def test_the_week_between_is_not_its_time(sqlite_database: Database) -> None:
    sqlite_database.write_now(publish_broadcasts, [WEEKLY])
    assert fire(sqlite_database, TEN + 7 * DAY) == (None, "not-due")
    assert fire(sqlite_database, TEN + 14 * DAY)[0] is not None
    assert len(sqlite_database.read_now(lambda session: session.exec(select(Broadcast)).all())) == 1


async def test_a_person_who_triggers_the_schedule_gets_a_run(sqlite_database: Database) -> None:
    sqlite_database.write_now(publish_broadcasts, [WEEKLY])
    run, _ = fire(sqlite_database, TEN + 3 * DAY + timedelta(seconds=7, milliseconds=12))
    assert run is not None


async def test_a_broadcast_that_is_gone_from_the_files_begins_no_more(sqlite_database: Database) -> None:
    sqlite_database.write_now(publish_broadcasts, [WEEKLY])
    sqlite_database.write_now(publish_broadcasts, [])
    assert fire(sqlite_database, TEN) == (None, "gone")


async def test_old_news_is_not_sent_when_the_worker_was_away_for_days(sqlite_database: Database) -> None:
    sqlite_database.write_now(publish_broadcasts, [WEEKLY])
    assert fire(sqlite_database, TEN, now=TEN + 3 * DAY + MINUTE) == (None, "too-late")
    [row] = sqlite_database.read_now(lambda session: session.exec(select(Broadcast)).all())
    assert (row.status, row.outcome) == ("ended", "too-late")


async def test_a_command_that_waited_for_days_is_not_carried_out_any_more(sqlite_database: Database) -> None:
    people(sqlite_database, 3)
    row = sqlite_database.write_now(broadcast_opening.request_run, plan(), "c1", NOON)
    for _ in range(2):
        assert sqlite_database.write_now(broadcast_opening.open_run, row.id or 0, NOON + 4 * DAY) == (None, "too-late")


async def test_the_last_day_of_a_short_month_is_its_time(sqlite_database: Database) -> None:
    sqlite_database.write_now(publish_broadcasts, [plan(schedule=EveryMonth(day=31, at="10:00"))])
    assert fire(sqlite_database, datetime(2026, 4, 29, 1, 0, tzinfo=UTC)) == (None, "not-due")
    assert fire(sqlite_database, datetime(2026, 4, 30, 1, 0, tzinfo=UTC))[0] is not None


async def test_the_same_command_again_is_the_same_run(database: Database) -> None:
    people(database, 3)
    runs = {database.write_now(broadcast_opening.request_run, plan(), "c1", NOON).id for _ in range(3)}
    assert len(runs) == 1
    [run] = runs
    assert run is not None
    assert [database.write_now(broadcast_opening.open_run, run, NOON + n * HOUR) for n in range(2)] == [(run, "")] * 2
    row = database.read_now(lambda session: session.get_one(Broadcast, run))
    assert (row.workflow_id, row.started_at) == (f"broadcast/news/{run}", NOON)


async def test_an_edited_file_is_the_next_runs(sqlite_database: Database) -> None:
    people(sqlite_database, 3, score=60)
    story = Story.begin(sqlite_database, plan(to=HOT))
    sqlite_database.write_now(publish_broadcasts, [plan(to=lead.score >= 100, mail="other")])
    await story.on()
    assert len(story.mailer.mailed) == 3


async def test_a_run_that_does_not_exist_and_a_plan_of_tomorrow(sqlite_database: Database) -> None:
    with pytest.raises(Permanent, match="no-such-run"):
        sqlite_database.write_now(broadcast_opening.open_run, 99, NOON)
    story = Story.begin(sqlite_database, plan())

    def tomorrow(session: Session) -> None:
        row = session.get_one(Broadcast, story.id)
        row.plan = row.plan.replace('"format":1', '"format":2')

    sqlite_database.write_now(tomorrow)
    with pytest.raises(Temporary, match="plan-unreadable"):
        await story.step()


async def test_under_a_fast_clock_a_mail_server_is_left_alone_for_real_minutes(sqlite_database: Database) -> None:
    people(sqlite_database, 3)
    story = Story.begin(sqlite_database, plan())
    story.mailer.answer, story.mailer.waits_for = lambda lead: story.now + MINUTE, "mail-server-unavailable"
    fast = WORLD._replace(clock=WorldClock(speed=28_800))
    await story.step()
    looked = sqlite_database.read_now(broadcasting.look, story.id, fast, NOON, most=5)
    batch = sqlite_database.write_now(broadcasting.take, story.id, looked, fast, NOON, most=5)
    assert isinstance(batch, Batch)
    for group in batch.groups:
        await story.mailer.send(story.id, group.leads, group.content, lambda: NOON)
    sqlite_database.write_now(broadcasting.taken, story.id, batch, fast, NOON)
    at = await story.on()
    assert at == Resting(NOON + 28_800 * MINUTE, "mail-server-unavailable")


def test_tokyo_is_the_tests_zone() -> None:
    assert WORLD.zone == TOKYO
