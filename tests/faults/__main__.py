"""All campaigns in full, one after the other: `python -m tests.faults [R4 …] [--short] [--only sqlite|postgres]`; `make faults` runs all.

Writes nothing. Prints the table of docs/reliability.md, and ends with 1 if a bar was missed. It takes some hours, most of them
for the 200 kills of each R1 (without them 40 minutes), and wants the machine for itself: what is measured while others work on
it says how loaded it was.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tests.faults.broadcasts import broadcast_killed
from tests.faults.campaign import Finding, Home, Tick, home
from tests.faults.crm_away import crm_away
from tests.faults.flood import flooded
from tests.faults.journeys import journeys_killed
from tests.faults.lives import lives_at_random
from tests.faults.mail_server import hung_relay, mail_server_faults
from tests.faults.outages import database_away, postgres_crashes, server_killed
from tests.faults.poison import poisoned
from tests.faults.repeats import in_any_order, one_event_again
from tests.faults.sending import send_path
from tests.faults.wrong_clock import COURSES, faketime, worker_with_a_wrong_clock

KINDS = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


@dataclass(frozen=True)
class Campaign:
    """One row of the table, on the databases that it needs."""

    fault: str
    homes: tuple[str, ...]
    run: Callable[[list[Home], Tick], Awaitable[Finding]]
    what: str = ""
    """Where a fault has several: which of them, in words that `--with` finds."""

    @property
    def name(self) -> str:
        return f"{self.fault} {', '.join(dict.fromkeys(self.homes))} {self.what}".strip()


def campaigns(*, short: bool, kills: int = 0) -> Iterator[Campaign]:
    """All of them, in the order in which they run. `kills`: how often R1 kills the worker, where it is not as often as it should."""
    mails = 200 if short else 2_000
    kills = kills or (2 if short else 200)
    delay = 0.02 if short else 0.05  # so many kills want fewer mails between them
    for kind in KINDS.values():
        for policy in ("hold", "retry"):
            yield Campaign(
                "R1", (kind,),
                lambda at, tick, policy=policy: broadcast_killed(  # type: ignore[misc]
                    at[0], leads=mails, kills=kills, policy=policy, delay=delay, tick=tick
                ),
                f"broadcast {policy}",
            )  # fmt: skip
            yield Campaign(
                "R1", (kind,),
                lambda at, tick, policy=policy: journeys_killed(  # type: ignore[misc]
                    at[0], leads=mails // 2, kills=kills, policy=policy, delay=delay, tick=tick
                ),
                f"journeys {policy}",
            )  # fmt: skip
            yield Campaign(
                "R2", (kind,), lambda at, tick, policy=policy: send_path(at[0], policy=policy, twice=not short, tick=tick),  # type: ignore[misc]
                policy,
            )  # fmt: skip
    for kind in KINDS.values():
        yield Campaign("R4", (kind,), lambda at, tick: server_killed(at[0], kills=4 if short else 50, tick=tick))
    away = 6 if short else 60
    yield Campaign("R5", ("SQLite",), lambda at, tick: database_away(at[0], "held", seconds=away, tick=tick))
    for how in ("stopped", "frozen"):
        yield Campaign("R5", ("PostgreSQL",), lambda at, tick, how=how: database_away(at[0], how, seconds=away, tick=tick))  # type: ignore[misc]
    yield Campaign("R6", ("PostgreSQL",), lambda at, tick: postgres_crashes(at[0], rounds=3 if short else 30, tick=tick))
    for kind in KINDS.values():
        yield Campaign("R7", (kind,), lambda at, tick: mail_server_faults(at[0], leads=mails, tick=tick))
    beside = 60 if short else 1000
    yield Campaign("R7", ("SQLite",), lambda at, tick: hung_relay(at[0], mails=beside, tick=tick), "hung relay")
    for kind in KINDS.values():
        yield Campaign("R8", (kind,), lambda at, tick: one_event_again(at[0], events=2 if short else 20, tick=tick))
    orders = ("SQLite", "PostgreSQL") if short else ("SQLite", "PostgreSQL", "SQLite", "SQLite", "PostgreSQL")
    yield Campaign("R9", orders, lambda at, tick: in_any_order(at, leads=30 if short else 500, tick=tick))
    for kind in KINDS.values() if faketime() else ():
        for clock in COURSES:
            people = 6 if short else 15
            yield Campaign(
                "R10", (kind,),
                lambda at, tick, clock=clock, people=people: worker_with_a_wrong_clock(  # type: ignore[misc]
                    at[0], leads=people, places=people // 3, clock=clock, tick=tick
                ),
                clock,
            )  # fmt: skip
    for kind in KINDS.values():
        yield Campaign("R11", (kind,), lambda at, tick: poisoned(at[0], rounds=1 if short else 10, tick=tick))
    leads = 30 if short else 200
    for kind in KINDS.values():
        yield Campaign("R14", (kind,), lambda at, tick, leads=leads: crm_away(at[0], leads=leads, tick=tick))  # type: ignore[misc]
    rate, seconds = (500, 3) if short else (5_000, 60)
    for kind in KINDS.values():
        yield Campaign("R12", (kind,), lambda at, tick: flooded(at[0], rate=rate, seconds=seconds, tick=tick))

    lives = 5 if short else 500
    yield Campaign("R18", ("SQLite",), lambda at, tick: lives_at_random(at[0], lives=lives, steps=15 if short else 40, tick=tick))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help="only these, such as R4 R12")
    parser.add_argument("--short", action="store_true", help="a few seconds each: to see that they run, not to quote")
    parser.add_argument("--only", choices=list(KINDS), help="only what runs on this database alone")
    words = "only those whose names have these words, such as journeys retry"
    parser.add_argument("--with", dest="words", nargs="+", default=[], help=words)
    parser.add_argument("--kills", type=int, default=0, help="how often R1 kills the worker, to try it out")
    options = parser.parse_args()
    chosen = [
        one
        for one in campaigns(short=options.short, kills=options.kills)
        if (not options.faults or one.fault in options.faults)
        and (not options.only or set(one.homes) == {KINDS[options.only]})
        and set(options.words) <= set(one.name.split())
    ]
    if not chosen:
        parser.error(f"there is no campaign of that name: there are {', '.join(dict.fromkeys(one.fault for one in campaigns(short=True)))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # a fault is no news here
    console = Console(stderr=True)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| | fault | passes when | measured |\n| --- | --- | --- | --- |", flush=True)
    good = True
    for one in chosen:
        before = os.getloadavg()[0]
        began = time.monotonic()
        try:
            with _bar(console, one.name) as tick:
                finding = _run(one, tick)
        except Exception as error:  # the others are worth their time all the same
            console.print_exception()
            finding = Finding(one.fault, one.name, "it runs to its end", f"{type(error).__name__}", False)
        print(finding, flush=True)
        console.print(f"  {one.name}: {time.monotonic() - began:.0f} s, load {before:.1f} before it")
        good &= finding.good
    return 0 if good else 1


def _run(one: Campaign, tick: Tick) -> Finding:
    with ExitStack() as homes:
        at = [homes.enter_context(home(kind)) for kind in one.homes]
        return asyncio.run(_awaited(one.run(at, tick)))


async def _awaited(finding: Awaitable[Finding]) -> Finding:
    return await finding


@contextmanager
def _bar(console: Console, name: str) -> Iterator[Tick]:
    if not console.is_terminal:
        told = 0

        def tell(part: float) -> None:
            nonlocal told
            if int(part * 20) > told:
                told = int(part * 20)
                console.print(f"  {datetime.now(UTC):%H:%M:%S} {name}: {told * 5} %")

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda part: progress.update(task, completed=part)


if __name__ == "__main__":
    sys.exit(main())
