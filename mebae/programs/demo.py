"""`mebae demo`: the whole house with invented leads, in a world where days pass in seconds; and the story of it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from mebae.beside import load_beside
from mebae.clock import WorldClock
from mebae.errors import MebaeError
from mebae.handover import Move
from mebae.import_rows import ConsentSaid
from mebae.importing import ImportOptions, import_leads
from mebae.mail.inbox import Inbox
from mebae.programs.cast import Cast, Member, choose_cast, mails_out
from mebae.programs.house import House, empty, find_root, occupied, plan_house
from mebae.programs.lead import say
from mebae.programs.reader import MailReader
from mebae.programs.sales_team import answer
from mebae.programs.screen import screen
from mebae.programs.story import OVERDUE, Sight, Story, handed_over, look, mails, outcomes, stuck
from mebae.programs.up import addresses, run_house
from mebae.reports.finding import lead_of
from mebae.reports.lead import report
from mebae.reports.mail_standing import Rules
from mebae.store.database import Database
from mebae.store.scoring import QUALIFIED
from mebae.timing import Calendar
from mebae.wiring import plain_settings
from mebae.words import DeliveryStatus

LOOK = 0.5
"""Seconds between two looks at the database."""
DAY = 86_400

OWN = {
    "MEBAE_SENDER_NAME": "点検ノート編集部",
    "MEBAE_SENDER_EMAIL": "hello@mebae.example",
    "MEBAE_SENDER_POSTAL": "〒100-0000 東京都千代田区架空町1-2-3",
    "MEBAE_SENDER_CONTACT": "hello@mebae.example",
    "MEBAE_SALES_EMAIL": "sales@mebae.example",
}
"""Settings of the demo's house; everything else is the default, whatever the caller's environment says."""


class DemoFailed(MebaeError):
    """Something did not go as it should; the message lists it."""


def demo(*, seconds_a_day: float = 1.5, cap: float = 90.0) -> None:
    """Runs the demo. With a terminal it stays up until Ctrl-C. Raises `DemoFailed` or `ChildDied`."""
    settings = plain_settings()
    root = find_root()
    state = (root / settings.state / "demo").resolve()
    console = screen()
    with occupied(state):
        empty(state)
        clock = WorldClock(origin=datetime.now(UTC), speed=DAY / seconds_a_day)
        house = plan_house(settings, root=root, state=state, clock=clock, own=OWN)
        show = Show(house, console, zone=ZoneInfo(settings.time_zone), calendar=settings.calendar(), cap=cap)
        asyncio.run(run_house(house, show.run, console))


class Show:
    """One demo from the import to the summary."""

    def __init__(self, house: House, console: Console, *, zone: ZoneInfo, calendar: Calendar, cap: float) -> None:
        self._house, self._console, self._cap = house, console, cap
        self._clock = house.clock
        self._zone, self._calendar = zone, calendar
        self._begins = house.clock.origin
        self._errors: list[str] = []

    async def run(self, house: House) -> None:
        """The whole show."""
        self._console.print(addresses(house, "A demo of Mebae is up"))
        database = Database(house.database, threads=2)
        try:
            sight = await self._play(database)
            self._sum_up(sight)
            await self._show_ripest(database, sight)
            problems = await asyncio.to_thread(self._problems, sight)
        finally:
            await asyncio.to_thread(database.close)
        if problems:
            raise DemoFailed("the demo did not go as it should:\n" + "\n".join(f"  {problem}" for problem in problems))
        self._console.print(addresses(house, "Look around", self._hints()))
        if self._console.is_terminal:
            self._console.print("It stays up until Ctrl-C.", style="dim")
            await asyncio.Event().wait()
        self._console.print("Without a terminal the demo ends here; in one it stays up, and these addresses with it.", style="dim")

    def _hints(self) -> list[tuple[str, str]]:
        """How commands meet this house, and that time does not stand still."""
        goes_on = f"a day takes {DAY / self._clock.speed:g} seconds from here on too: scores fade and deadlines pass"
        return [("Commands", f"{self._command} leads"), ("Days go on", goes_on)]

    @property
    def _command(self) -> str:
        """`mebae` as it is typed in this folder to meet the demo, whose state is its own."""
        here = Path.cwd()
        mebae, state = (
            place.relative_to(here) if place.is_relative_to(here) else place
            for place in (Path(sys.executable).with_name("mebae"), self._house.state)
        )
        return f"MEBAE_STATE={shlex.quote(str(state))} {shlex.quote(str(mebae))}"

    async def _play(self, database: Database) -> Sight:
        await self._import(database)
        cast = await asyncio.to_thread(self._cast, await database.read(choose_cast))
        self._console.print(
            f"{len(cast.members) - len(cast.roles)} of them download a white paper, {len(cast.roles)} register for the library; "
            f"a day takes {DAY / self._clock.speed:g} seconds.",
            style="bold",
        )
        loop = asyncio.get_running_loop()
        begun, self._begins = loop.time(), self._now()
        story = Story(self._zone, self._begins)
        cast.begin(begun)
        try:
            with self._progress() as progress:
                bar = progress.add_task("", total=len(cast.members))
                while True:
                    cast.act(loop.time())
                    awaited = await database.write(answer, self._now(), str(self._zone), self._calendar, cast.roles)
                    sight = await database.read(look)
                    for said, _, given in sight.handovers:
                        if said.move == Move.REJECT and given.rests_until is not None:
                            cast.come_back(given.id or 0, given.rests_until, self._now(), loop.time())
                    for lead, step in await database.read(mails_out):
                        cast.react(lead, step, loop.time())
                    now = self._now()
                    self._print(story.tell(sight, now))
                    over = len(sight.journeys) - len(sight.open)
                    told = f"{len(sight.open)} under way, {over} over │ {sight.sent} mails │ {sight.events} events"
                    total = max(len(sight.journeys), len(cast.members))
                    progress.update(bar, total=total, completed=over, description=f"{story.day(now)} │ {told}")
                    if loop.time() - begun > self._cap or cast.errors or (not awaited and self._is_over(cast, sight)):
                        break
                    await asyncio.sleep(LOOK)
            self._print(story.rest(sight))
        finally:
            await asyncio.to_thread(cast.close)
        self._errors = cast.errors
        return sight

    def _cast(self, members: list[Member]) -> Cast:
        key = self._house.write_keys.split(",")[0]
        reader = MailReader(Inbox(self._house.state / "inbox"))
        return Cast(members, write_key=key, host=self._house.api_url, reader=reader, real=self._clock.real)

    def _is_over(self, cast: Cast, sight: Sight) -> bool:
        entered = {row.lead_id for row, _ in sight.journeys}
        everybody = all(member.lead in entered for member in cast.members)
        given = [handover.lead_id for event, handover, _ in sight.handovers if event.move == "open"]
        return cast.is_done and cast.are_back(given) and everybody and not sight.open and not sight.unrouted

    async def _import(self, database: Database) -> None:
        file = self._house.root / "examples" / "leads.csv"
        if not file.is_file():
            raise DemoFailed(f"{file} is not there: the demo needs its leads")
        agreed = ImportOptions(consent=ConsentSaid(how="form", wording="製品・セミナーに関するご案内メールの受け取りに同意します。"))
        work = partial(import_leads, database, file, now=self._now(), list_name="demo", options=agreed)
        report = await asyncio.to_thread(work)
        self._console.print(f"\n{report.new} leads imported from {file.relative_to(self._house.root)}.", style="bold")

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _now(self) -> datetime:
        return self._clock.world(datetime.now(UTC))

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20),
            console=self._console, transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip

    def _sum_up(self, sight: Sight) -> None:
        left = Table(title="Journeys", title_justify="left", header_style="bold")
        left.add_column("outcome")
        left.add_column("how many", justify="right")
        left.add_column("days on average", justify="right")
        for name, count, days in outcomes(sight):
            left.add_row(name, str(count), f"{days:.1f}" if days else "")
        right = Table(title="Mails", title_justify="left", header_style="bold")
        found = mails(sight)
        languages = sorted({language for counts in found.values() for language in counts})
        right.add_column("mail")
        for language in languages:
            right.add_column(language, justify="right")
        right.add_column("all", justify="right")
        for name, counts in sorted(found.items(), key=lambda one: -one[1].total()):
            right.add_row(name, *(str(counts[language] or "") for language in languages), str(counts.total()))
        sales = Table(title="Hand-overs", title_justify="left", header_style="bold")
        sales.add_column("now")
        sales.add_column("how many", justify="right")
        sales.add_column(sight.sales.currency, justify="right")
        for status, count, amount in handed_over(sight):
            sales.add_row(status, str(count), f"{amount:,}" if amount else "")
        self._console.print()
        if self._console.width < 130:
            self._console.print(left, right, sales)
        else:
            all_three = Table.grid(padding=(0, 4))
            all_three.add_row(left, right, sales)
            self._console.print(all_three)
        took = self._now() - self._begins
        self._console.print(
            f"{len(sight.journeys)} entries, {sight.sent} mails and {sight.events} events in {took.days} days, "
            f"which took {self._clock.real(took).total_seconds():.0f} seconds.\n"
        )

    async def _show_ripest(self, database: Database, sight: Sight) -> None:
        """What `mebae lead show` says of the lead that became an MQL with the most points."""
        ripe = [(event.properties.get("score", 0), lead.email) for event, lead in sight.moves if event.name == QUALIFIED and lead.email]
        if not ripe:
            return
        _, email = max(ripe)
        rules = Rules(load_beside(self._house.root / "scenarios").mailing, str(self._zone), self._calendar)
        zone = str(self._zone)
        found = await database.read(
            lambda session: report(session, lead_of(session, email), self._now(), events=8, rules=rules, zone=zone)
        )
        self._console.rule(style="dim")
        self._console.print(escape(f"{self._command} lead show {email}"), style="bold", soft_wrap=True)
        say(found, zone, self._console)
        self._console.print()

    def _problems(self, sight: Sight) -> list[str]:
        problems = [f"the client could not send: {error}" for error in self._errors[:3]]
        late = stuck(sight, self._now(), self._clock.worldly(OVERDUE))
        if late:
            problems.append(f"{len(late)} journey(s) are stuck, such as entry {late[0].entry} at {late[0].step}")
        for status in (DeliveryStatus.REFUSED, DeliveryStatus.UNKNOWN):
            wrong = [delivery for delivery, _ in sight.deliveries if delivery.status == status and delivery.reason != "exits-when"]
            if wrong:
                problems.append(f"{len(wrong)} mail(s) {status}, such as {wrong[0].mail} ({wrong[0].reason})")
        arrived = Inbox(self._house.state / "inbox").count()
        if arrived < sight.sent + sight.told or (arrived > sight.sent + sight.tried and not sight.open):
            problems.append(f"{sight.sent + sight.told} mails were sent and {arrived} arrived in the inbox")
        if not sight.journeys:
            problems.append("no journey began")
        still = len(sight.open) - len(late)
        if still:
            self._console.print(f"{still} journey(s) still rest; their time comes later.", style="yellow")
        return problems
