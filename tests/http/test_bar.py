"""T3's bar over real HTTP: a thousand visits of scanners make no click of a person and tell sales nothing, and of a thousand
people who click at least 99 % are counted."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

from sqlmodel import col, select

from mebae.scoring_language import Scoring, clicked, engagement, lead, opened, qualify, stage
from mebae.store.database import Database
from mebae.store.tables import Delivery, Event, Lead
from tests.http.mail_site import CHROME, SENT, Mail, MailSite, open_site
from tests.leads import publish_model

EACH = 100
"""Visits of each kind."""
HUMANS = 1000
LINES = 40
"""Connections at once."""
MODEL = Scoring(
    ranks=["課長", "部長"],
    engagement=[engagement("開封", opened(), 5), engagement("クリック", clicked(), 50)],
    stages=[stage("awareness", title="認知"), stage("interest", title="興味", when=lead.score >= 10)],
    qualifications=[qualify("mql", when=lead.score >= 50)],
)
BROWSERS = (
    CHROME, CHROME + " Edg/131.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
    "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0",
)  # fmt: skip
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


class Step(NamedTuple):
    """One request of a visit."""

    after: float
    """Seconds after the mail went out."""
    url: str
    agent: str
    address: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


Visit = Callable[[Mail, random.Random], Iterator[Step]]


def somewhere(dice: random.Random) -> str:
    return f"100.{dice.randint(64, 127)}.{dice.randint(0, 255)}.{dice.randint(1, 254)}"


# The kinds of scanners that are seen in the field ---------------------------------------------------------------------


def says_what_it_is(mail: Mail, dice: random.Random) -> Iterator[Step]:
    agents = [
        "Mozilla/5.0 (compatible; Barracuda)",
        "python-requests/2.32.3",
        "Slackbot-LinkExpanding 1.0",
        "Go-http-client/2.0",
    ]
    agent = dice.choice(agents)
    yield from (Step(30, href, agent, somewhere(dice)) for href in mail.hrefs)


def from_its_makers_network(mail: Mail, dice: random.Random) -> Iterator[Step]:
    """Barracuda follows the first link only, with the words of a browser."""
    yield Step(30, mail.hrefs[0], dice.choice(BROWSERS), f"209.222.{dice.randint(80, 87)}.{dice.randint(1, 254)}")


def while_it_takes_the_mail(mail: Mail, dice: random.Random) -> Iterator[Step]:
    yield Step(dice.choice([-1, 0, 2]), mail.hrefs[0], dice.choice(BROWSERS), somewhere(dice))


def head_first(mail: Mail, dice: random.Random) -> Iterator[Step]:
    agent, address = dice.choice(BROWSERS), somewhere(dice)
    yield Step(60, mail.hrefs[1], agent, address, "HEAD")
    yield Step(62, mail.hrefs[1], agent, address)


def all_links_in_order(mail: Mail, dice: random.Random) -> Iterator[Step]:
    agent, address = dice.choice(BROWSERS), somewhere(dice)
    yield from (Step(30 + 2 * nth, url, agent, address) for nth, url in enumerate([mail.links.trap, *mail.hrefs]))


def all_links_and_the_trap_last(mail: Mail, dice: random.Random) -> Iterator[Step]:
    agent, address = dice.choice(BROWSERS), somewhere(dice)
    yield from (Step(30 + 2 * nth, url, agent, address) for nth, url in enumerate([*mail.hrefs, mail.links.trap]))


def a_crowd_from_everywhere(mail: Mail, dice: random.Random) -> Iterator[Step]:
    """Every link from another address, at once."""
    yield from (Step(60, href, dice.choice(BROWSERS), somewhere(dice)) for href in mail.hrefs)


def a_crowd_one_after_another(mail: Mail, dice: random.Random) -> Iterator[Step]:
    """Every link from another address, the hidden one too."""
    urls = [mail.hrefs[0], mail.links.trap, *mail.hrefs[1:]]
    yield from (Step(30 + 2 * nth, url, dice.choice(BROWSERS), somewhere(dice)) for nth, url in enumerate(urls))


def comes_back_later(mail: Mail, dice: random.Random) -> Iterator[Step]:
    """Gives itself away once and looks again ten minutes after."""
    agent, address = dice.choice(BROWSERS), somewhere(dice)
    yield Step(30, mail.links.trap, agent, address)
    yield Step(630, mail.hrefs[0], agent, address)


def fetches_ahead(mail: Mail, dice: random.Random) -> Iterator[Step]:
    headers = (("sec-purpose", "prefetch"),)
    yield Step(30, mail.hrefs[0], dice.choice(BROWSERS), somewhere(dice), headers=headers)
    yield Step(30, mail.hrefs[1], "", somewhere(dice))


SCANNERS: list[Visit] = [
    says_what_it_is, from_its_makers_network, while_it_takes_the_mail, head_first, all_links_in_order,
    all_links_and_the_trap_last, a_crowd_from_everywhere, a_crowd_one_after_another, comes_back_later, fetches_ahead,
]  # fmt: skip


# People ---------------------------------------------------------------------------------------------------------------


def person(mail: Mail, dice: random.Random) -> Iterator[Step]:
    agent = dice.choice(BROWSERS)
    office = dice.random() < 0.3  # many people behind one address, with the same browser
    address = f"198.51.100.{dice.randint(1, 5)}" if office else somewhere(dice)
    opens = dice.choice([12, 30, 60, 300, 600, 1800])
    match dice.choice(["images", "gmail", "apple", "none"]):
        case "images":
            yield Step(opens, mail.links.pixel, agent, address)
        case "gmail":
            yield Step(opens, mail.links.pixel, GMAIL, f"66.249.84.{dice.randint(1, 254)}")
        case "apple":
            yield Step(2, mail.links.pixel, "Mozilla/5.0", f"17.58.{dice.randint(0, 255)}.9")
    first = opens + dice.choice([2, 5, 30])
    if dice.random() < 0.2:  # a gateway looks at the link as it is clicked
        yield Step(first - 1, mail.hrefs[0], "Mozilla/5.0 (compatible; Barracuda)", somewhere(dice), "HEAD")
    yield Step(first, mail.hrefs[0], agent, address)
    if dice.random() < 0.2:  # a double click
        yield Step(first + 0.5, mail.hrefs[0], agent, address)
    if dice.random() < 0.4:
        yield Step(first + dice.choice([5, 30]), dice.choice(mail.hrefs[1:]), agent, address)


def test_a_thousand_scanners_are_no_persons_and_a_thousand_people_are(sqlite_database: Database) -> None:
    publish_model(sqlite_database, MODEL, SENT - timedelta(days=1))
    dice = random.Random(3)
    with open_site(sqlite_database) as (site, address):
        mails = site.send_all([f"lead-{nth}@firm-{nth}.example" for nth in range(len(SCANNERS) * EACH + HUMANS)])
        kinds: list[Visit] = [kind for kind in SCANNERS for _ in range(EACH)] + [person] * HUMANS
        steps = [step for kind, mail in zip(kinds, mails, strict=True) for step in kind(mail, dice)]
        asyncio.run(go(site, address, steps))
        while site.judge():
            pass
    clicks, qualified, clicked_at = read(sqlite_database)
    scanned, people = mails[: len(SCANNERS) * EACH], mails[len(SCANNERS) * EACH :]
    wrong = Counter(
        kind.__name__ for kind, mail in zip(kinds, mails, strict=False) if kind is not person and clicks[mail.lead]
    )
    assert wrong == {}
    assert not qualified & {mail.lead for mail in scanned}
    assert not any(clicked_at[mail.delivery] for mail in scanned)
    counted = sum(mail.lead in qualified and clicked_at[mail.delivery] for mail in people)
    print(f"{counted} of {HUMANS} people counted; {len(steps)} requests")
    assert counted >= 0.99 * HUMANS


async def go(site: MailSite, address: str, steps: list[Step]) -> None:
    """Everything at its time; what is at the same time, at once."""
    by_time: defaultdict[float, list[Step]] = defaultdict(list)
    for step in steps:
        by_time[step.after].append(step)
    host, _, port = address.removeprefix("http://").partition(":")
    for after, at_once in sorted(by_time.items()):
        site.dial.set(SENT + timedelta(seconds=after))
        shares = [at_once[nth::LINES] for nth in range(LINES)]
        done = await asyncio.gather(*(line(site, host, int(port), share) for share in shares if share))
        assert {status for some in done for status in some} <= {200, 302}


async def line(site: MailSite, host: str, port: int, steps: list[Step]) -> list[int]:
    """One connection, and what is asked on it one after another; the statuses. (httpx takes ten times as long.)"""
    reader, writer = await asyncio.open_connection(host, port)
    statuses = []
    for step in steps:
        said = {"Host": host, "User-Agent": step.agent, "X-Forwarded-For": step.address, **dict(step.headers)}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value)
        writer.write(f"{step.method} {site.path(step.url)} HTTP/1.1\r\n{head}\r\n".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        statuses.append(int(answer.split(" ", 2)[1]))
        if step.method != "HEAD" and (length := re.search(r"content-length: (\d+)", answer)):
            await reader.readexactly(int(length[1]))
    writer.close()
    return statuses


def read(database: Database) -> tuple[Counter[int], set[int], dict[int, bool]]:
    """Clicks of persons by lead, the leads that sales was to hear of, and which mails count as clicked."""
    events = database.read_now(lambda session: session.exec(select(Event)).all())
    clicks = Counter(
        one.lead_id for one in events if one.name == "Email Link Clicked" and one.properties["verdict"] == "human"
    )
    query = select(Lead.id).where(Lead.qualification == "mql")
    qualified = set(database.read_now(lambda session: session.exec(query).all()))
    told = {one.lead_id for one in events if one.name == "Qualified"}
    assert told == qualified
    rows = database.read_now(lambda session: session.exec(select(Delivery.id, col(Delivery.clicked_at))).all())
    return clicks, told, {id: at is not None for id, at in rows if id is not None}
