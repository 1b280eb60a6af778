"""Who opened or clicked: what gives machines away, and that people are believed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebae.errors import BadInput
from mebae.machines import Machines, known_machines
from mebae.verdicts import CLICK, OPEN, TRAP, WHY, Act, Judged, Tuning, judge

SENT = datetime(2026, 4, 1, 9, tzinfo=UTC)
TUNING = Tuning()
SECOND = timedelta(seconds=1)
HUMAN = Judged("human")
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)
FIREFOX = "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0"
_ids = itertools.count(1)


def act(
    after: float, kind: str = CLICK, link: int | None = 1, *, client: str = "sato", said: str = "browser",
    method: str = "GET", mail: int = 7,
) -> Act:  # fmt: skip
    """Something done so many seconds after delivery."""
    at = SENT + timedelta(seconds=after)
    return Act(next(_ids), mail, kind, link if kind == CLICK else None, method, client, said, at, SENT)


def verdicts(*acts: Act, tripped: dict[str, list[datetime]] | None = None) -> list[Judged]:
    found = judge(acts, tuning=TUNING, tripped=tripped)
    return [found[one.id] for one in acts]


def test_lead_who_opens_reads_and_clicks_is_a_person() -> None:
    assert verdicts(act(60, OPEN), act(75), act(110, link=2)) == [HUMAN] * 3


def test_second_half_of_a_double_click_is_no_second_click() -> None:
    assert verdicts(act(60), act(60.3)) == [HUMAN, Judged("human", "repeat")]
    assert verdicts(act(60), act(62)) == [HUMAN, HUMAN]


def test_who_follows_the_link_that_nobody_sees_is_a_scanner_before_and_after() -> None:
    found = verdicts(act(60), act(64, TRAP), act(68, link=2), act(64 + 899, mail=8), act(64 + 901, mail=8))
    assert [one.why for one in found] == ["tripped", "trap", "tripped", "tripped", None]


def test_a_scanner_that_comes_from_many_addresses_is_known_by_what_it_does_to_the_mail() -> None:
    at_once = [act(60 + nth / 5, link=nth, client=f"gateway-{nth}") for nth in range(4)]
    assert {one.why for one in verdicts(*at_once)} == {"burst"}
    one_by_one = [act(60 + 3 * nth, link=nth, client=f"gateway-{nth}") for nth in range(3)]
    trap = act(65, TRAP, client="gateway-9")
    assert [one.why for one in verdicts(*one_by_one, trap)] == ["near-trap", "near-trap", "near-trap", "trap"]


def test_who_asks_by_head_first_is_a_scanner_when_it_comes_again() -> None:
    assert [one.why for one in verdicts(act(60, method="HEAD"), act(62), act(70, link=2))] == [
        "method",
        "tripped",
        "tripped",
    ]


def test_a_click_within_three_seconds_is_no_persons_and_neither_is_what_follows() -> None:
    assert [one.why for one in verdicts(act(-2), act(2.9, client="b"), act(3.1, client="c"), act(30))] == [
        "too-soon", "too-soon", None, "tripped",
    ]  # fmt: skip
    assert verdicts(act(1, OPEN)) == [HUMAN]  # an open mail program shows it at once


def test_two_things_within_a_second_are_a_persons_and_three_are_not() -> None:
    assert verdicts(act(60, OPEN), act(60.5)) == [HUMAN, HUMAN]
    assert {one.why for one in verdicts(act(60, OPEN), act(60.4), act(60.8, link=2))} == {"burst"}
    assert verdicts(act(60, OPEN), act(60.5), act(61.0, link=2)) == [HUMAN] * 3


def test_a_gateway_that_looks_at_a_link_when_its_user_clicks_does_not_cost_the_click() -> None:
    found = verdicts(
        act(60, method="HEAD", client="gateway"), act(60.3, client="gateway", said="scanner-network"), act(60.6)
    )
    assert [one.verdict for one in found] == ["scanner", "scanner", "human"]


@pytest.mark.parametrize(
    ("said", "verdict", "why"),
    [
        ("scanner", "scanner", "agent"), ("scanner-network", "scanner", "network"), ("proxy", "proxy", "proxy"),
        ("prefetch", "scanner", "prefetch"), ("none", "scanner", "no-agent"),
    ],
)  # fmt: skip
def test_what_a_visitor_says_of_itself_counts_for_itself_only(said: str, verdict: str, why: str) -> None:
    assert verdicts(act(60, OPEN, said=said), act(62)) == [Judged(verdict, why), HUMAN]  # type: ignore[arg-type]


def test_a_proxy_that_fetches_the_image_while_its_user_clicks_is_no_crowd() -> None:
    found = verdicts(act(60, OPEN, said="proxy", client="google"), act(60.2), act(60.4, link=2))
    assert [one.verdict for one in found] == ["proxy", "human", "human"]


def test_who_gave_itself_away_earlier_is_ignored_for_a_quarter_of_an_hour() -> None:
    now = SENT + timedelta(minutes=20)
    one = act(20 * 60)
    assert verdicts(one, tripped={"sato": [now - timedelta(minutes=14)]}) == [Judged("scanner", "tripped")]
    assert verdicts(one, tripped={"sato": [now - timedelta(minutes=16)]}) == [HUMAN]
    assert verdicts(one, tripped={"another": [now]}) == [HUMAN]


ACTS = st.lists(
    st.builds(
        act, st.floats(-5, 60), st.sampled_from([OPEN, CLICK, TRAP]), st.integers(1, 3),
        client=st.sampled_from("abc"), said=st.sampled_from(["browser", "browser", "scanner", "proxy", "none"]),
        method=st.sampled_from(["GET", "GET", "GET", "HEAD"]), mail=st.sampled_from([7, 8]),
    ),
    max_size=12,
)  # fmt: skip


@given(ACTS, st.randoms())
def test_every_act_gets_one_verdict_whatever_the_order(acts: list[Act], dice: object) -> None:
    found = judge(acts, tuning=TUNING)
    assert set(found) == {one.id for one in acts}
    assert all(one.why is None or one.why in WHY for one in found.values())
    assert judge(list(reversed(acts)), tuning=TUNING) == found


@given(ACTS, ACTS)
def test_more_of_a_machine_never_makes_a_person_of_it(acts: list[Act], more: Sequence[Act]) -> None:
    before, after = judge(acts, tuning=TUNING), judge([*acts, *more], tuning=TUNING)
    assert all(after[id].verdict != "human" for id, one in before.items() if one.verdict != "human")


# Who is known ---------------------------------------------------------------------------------------------------------


def said(act: str, agent: str, address: str = "203.0.113.7", **headers: str) -> str:
    return known_machines().said(act, agent, address, headers)


@pytest.mark.parametrize(
    "agent",
    [CHROME, IPHONE, CHROME + " Edg/131.0.0.0", "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0"],
)
def test_browsers_of_people_are_believed(agent: str) -> None:
    assert (said("open", agent), said("click", agent)) == ("browser", "browser")


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Barracuda Link Protection)", "Mozilla/5.0 proofpoint", "python-requests/2.32", "curl/8.5.0",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "facebookexternalhit/1.1;line-poker/1.0", "Go-http-client/2.0",
        "Microsoft Office Existence Discovery", "Mozilla/5.0 (compatible; bingbot/2.0)", "Mozilla/5.0",
        CHROME.replace("Chrome/", "HeadlessChrome/"),
    ],
)  # fmt: skip
def test_machines_that_say_what_they_are_are_taken_at_their_word(agent: str) -> None:
    assert said("click", agent) == "scanner"


def test_image_proxies_are_known_by_their_words_and_networks() -> None:
    gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    assert said("open", gmail) == "proxy"
    assert said("open", "Mozilla/5.0") == "proxy"  # Apple Mail Privacy Protection
    assert said("open", CHROME, "17.58.1.2") == "proxy"
    assert said("click", CHROME, "17.58.1.2") == "browser"  # who works at Apple clicks like anybody else


def test_networks_of_mail_security_are_known_whatever_their_browsers_say() -> None:
    assert said("click", CHROME, "209.222.82.14") == "scanner-network"
    assert said("click", CHROME, "::ffff:209.222.82.14") == "scanner-network"
    assert said("click", CHROME, "no address") == "browser"


def test_a_browser_that_fetches_ahead_of_its_user_is_no_click() -> None:
    assert said("click", CHROME, **{"sec-purpose": "prefetch;prerender"}) == "prefetch"
    assert said("click", "") == "none"


def test_a_teams_own_file_adds_to_what_is_known() -> None:
    own = '''
        [[agent]]
        is = "scanner"
        words = ["AobaGate"]
        [[network]]
        is = "scanner"
        blocks = ["198.51.100.0/24"]
    '''
    more = Machines.load(own, "own.toml")
    both = known_machines() + more
    assert both.said("click", "aobagate 2.1", "203.0.113.7", {}) == "scanner"
    assert both.said("click", CHROME, "198.51.100.9", {}) == "scanner-network"
    assert both.said("click", "curl/8", "203.0.113.7", {}) == "scanner"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[[agents]]", "own.toml: 'agents' is unknown"),
        ('[[agent]]\nis = "robot"\nwords = ["x"]', "own.toml, agent 1: 'is' is scanner or proxy"),
        ('[[agent]]\nis = "scanner"', "own.toml, agent 1: name it by 'words' or 'exactly'"),
        ('[[network]]\nis = "scanner"\nblocks = ["10.0.0.1/8"]', "own.toml, network 1: 10.0.0.1/8 has host bits set"),
        ('[[network]]\nis = "scanner"\nonly = "read"\nblocks = []', "own.toml, network 1: 'only' is click or open"),
        ("[[agent", "own.toml: "),
    ],
)
def test_a_file_that_cannot_be_read_names_the_place(written: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        Machines.load(written, "own.toml")
    assert told in str(caught.value)
