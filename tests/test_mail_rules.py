"""`scenarios/mailing.py`: the rules of mail as a team writes them, what is wrong with them, and which scenarios they crowd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mebae.authoring import (
    Scenario,
    branch,
    choose,
    clicked,
    days,
    end,
    go_to,
    hours,
    lead,
    on,
    send,
    visited,
    wait,
    wait_for,
    when,
)
from mebae.beside import load_beside
from mebae.capping import crowded
from mebae.compiling import compile_scenario
from mebae.errors import ScenarioError
from mebae.loading import load_scenario
from mebae.mailing import BASES, Cap, MailRules, SendingHours, Topic
from mebae.mailing_loading import load_mailing
from mebae.plan import Step
from mebae.timing import Duration

ROOT = Path(__file__).parents[1]
HEAD = "from mebae.mailing_language import *\n"


def written(folder: Path, body: str) -> Path:
    (folder / "mailing.py").write_text(HEAD + body)
    return folder


def problems(folder: Path, body: str) -> str:
    with pytest.raises(ScenarioError) as refused:
        load_mailing(written(folder, body))
    return str(refused.value)


# The file -------------------------------------------------------------------------------------------------------------


def test_rules_are_read_as_they_are_written(tmp_path: Path) -> None:
    rules = load_mailing(
        written(
            tmp_path,
            'm = Mailing(topics=[topic("product", ja="製品", en="Products", about={"ja": "新機能"}), '
            'topic("reply", ja="返信", capped=False, at_any_time=True)],\n'
            "    caps=[at_most(2, within=weeks(1)), at_most(1, within=hours(20))],\n"
            '    hours=between("08:00", "20:00", on=business_days), accepts=["consent"])\n',
        )
    )
    assert rules == MailRules(
        topics=(
            Topic("product", {"ja": "製品", "en": "Products"}, {"ja": "新機能"}),
            Topic("reply", {"ja": "返信"}, {}, capped=False, at_any_time=True),
        ),
        caps=(Cap(2, Duration(days=7)), Cap(1, Duration(hours=20))),
        hours=SendingHours("08:00", "20:00", business_days=True),
        bases=("consent",),
    )
    product = rules.topics[0]
    assert (product.title("en"), product.title("fr"), product.description("en")) == ("Products", "製品", "新機能")


def test_without_the_file_consent_is_asked_for_all_the_same(tmp_path: Path) -> None:
    assert load_mailing(tmp_path) is None
    rules = load_beside(tmp_path).mailing
    assert (rules.needs_consent, rules.caps, rules.topics, rules.bases) == (True, (), (), tuple(BASES))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("x = 1", "there is no Mailing: write mailing = Mailing(topics=[…], caps=[…])"),
        ('m = Mailing(topics=[topic("a", ja="x"), topic("a", ja="y")])', "two topics are called 'a'"),
        ('m = Mailing(topics=[topic("製品", ja="x")])', "the id is lower-case words joined by hyphens"),
        ('m = Mailing(topics=[topic("a")])', "leads read its title on their preference page"),
        ('m = Mailing(topics=[topic("a", ja="x", about={"japanese": "y"})])', "which is no language"),
        ('m = Mailing(topics="a")', 'they stand in a list: topics=[topic("product", ja="製品情報")]'),
        ('m = Mailing(topics=["a"])', 'write topics=[topic("product", ja="製品情報"), …]'),
        ("m = Mailing(caps=[at_most(0, within=days(7))])", "write a whole number from 1"),
        ("m = Mailing(caps=[at_most(2, within=7)])", "at_most(2, within=days(7))"),
        ("m = Mailing(caps=[at_most(2, within=business_days(5))])", "write within=days(7), not business days"),
        ("m = Mailing(caps=[at_most(2, within=days(4000))])", "at most a year"),
        ("m = Mailing(caps=[at_most(5, within=days(1)), at_most(2, within=days(7))])", "at_most(5, …) is never reached"),
        ('m = Mailing(hours=between("20:00", "08:00"))', "the end comes after the start"),
        ('m = Mailing(hours=between("8時", "20:00"))', "'8時' is not a time of day"),
        ('m = Mailing(hours=between("08:00", "20:00", on=business_days(1)))', "write on=business_days, without a number"),
        ('m = Mailing(hours="08:00")', 'write hours=between("08:00", "20:00")'),
        ('m = Mailing(accepts=["conscent"])', "'conscent' is no ground for mail, did you mean 'consent'?"),
        ("m = Mailing(accepts=[])", "then nobody may be written to"),
        ('m = Mailing(topics=[topic("a", ja="x", transactional="yes")])', "write True or False"),
        ("m = Mailing(needs_consent=0)", "write needs_consent=False, or leave it out"),
        ("m = Mailing(cap=[])", "Mailing(…) takes no 'cap', did you mean 'caps'?"),
        ("a = Mailing()\nb = Mailing()", "there are 2 Mailings (a, b): keep one"),
    ],
)
def test_a_slip_is_told_with_the_right_spelling(tmp_path: Path, body: str, told: str) -> None:
    assert told in problems(tmp_path, body)


def test_every_slip_of_the_file_is_told_at_once(tmp_path: Path) -> None:
    said = problems(tmp_path, 'm = Mailing(topics=[topic("A", ja="x"), topic("b")], accepts=["cards"])')
    assert len(said.splitlines()) == 3
    assert all("mailing.py" in line for line in said.splitlines())


# Mails and their topics -----------------------------------------------------------------------------------------------


def project(folder: Path, topic: str) -> Path:
    written(folder, 'm = Mailing(topics=[topic("product", ja="製品"), topic("seminar", ja="セミナー")])')
    home = folder / "hello"
    home.mkdir(exist_ok=True)
    (home / "scenario.py").write_text(
        'from mebae.authoring import *\nscenario = Scenario("hello", enters_on=created(), steps=[send("hi")])\n'
    )
    (home / "hi.md").write_text(f"---\nsubject: hi\n{topic}---\nHello\n")
    return home


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("topic: produkt\n", "topic 'produkt' is none of mailing.py, did you mean 'product'?"),
        ("", "the mail has no topic, so nobody can choose to get no more of its kind: write one of product, seminar under 'topic:'"),
    ],
)
def test_mail_of_no_topic_of_the_rules_is_a_problem_with_its_place(tmp_path: Path, topic: str, told: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        load_scenario(project(tmp_path, topic))
    assert str(refused.value).endswith(f"hello/hi.md: {told}")


def test_mail_of_a_topic_of_the_rules_is_none_and_without_rules_none_is_checked(tmp_path: Path) -> None:
    assert load_scenario(project(tmp_path, "topic: product\n")).mails
    home = project(tmp_path, "topic: whatever\n")
    (tmp_path / "mailing.py").unlink()
    assert load_scenario(home).mails


def test_the_projects_own_rules_fit_its_own_mails() -> None:
    rules = load_mailing(ROOT / "scenarios")
    assert rules is not None
    for topic in rules.topics:
        assert {"ja", "en"} <= set(topic.titles), topic.id
        assert {"ja", "en"} <= set(topic.descriptions), topic.id


# Paths that exceed the cap --------------------------------------------------------------------------------------------

TWICE = MailRules(caps=(Cap(2, Duration(days=7)),), topics=(Topic("reply", capped=False),))


def crowds(
    *steps: Step, rules: MailRules = TWICE, topics: Mapping[str, str] | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    graph = compile_scenario(Scenario("s", steps=[*steps]), file="s.py", mails=None)
    return [(one.step, one.path) for one in crowded(graph, rules, {mail: {topic} for mail, topic in (topics or {}).items()})]


def test_third_mail_within_a_week_is_told_with_its_way() -> None:
    assert crowds(send("a"), wait(days(1)), send("b"), wait(days(2)), send("c")) == [("c", ("a", "b", "c"))]
    assert crowds(send("a"), wait(days(4)), send("b"), wait(days(4)), send("c")) == []
    assert crowds(send("a"), wait(days(3)), send("b"), wait(days(4)), send("c")) == [], "a mail of 7 days ago counts no more"


def test_event_may_come_at_once_and_silence_takes_its_time() -> None:
    steps = (
        send("a"), send("b"),
        wait_for(on(visited("/pricing"), [send("c")]), within=days(7), otherwise=[send("d")]),
    )  # fmt: skip
    assert crowds(*steps) == [("c", ("a", "b", "c"))]


def test_branches_and_choices_are_ways_like_others() -> None:
    steps = (
        send("a"), wait(hours(1)),
        branch(when(lead.score >= 50, [send(choose(lead.industry, {"it": "b-it"}, otherwise="b"), id="b")]), otherwise=[]),
        send("c"),
    )  # fmt: skip
    assert crowds(*steps) == [("c", ("a", "b", "c"))]
    assert crowds(*steps, topics={"b": "reply", "b-it": "reply"}) == []
    assert crowds(*steps, topics={"b": "reply"}) == [("c", ("a", "b", "c"))], "one of the two may be sent, and counts"


def test_loop_that_comes_round_too_fast_is_seen() -> None:
    def weekly(span: int) -> tuple[Step, ...]:
        loop = wait_for(on(clicked("a"), [end("done")]), within=days(span), otherwise=[go_to("a")])
        return (send("a"), loop)

    assert crowds(*weekly(2)) == [("a", ("a", "a", "a"))]
    assert crowds(*weekly(4)) == []


def test_without_caps_nothing_is_crowded() -> None:
    assert crowds(*(send(one) for one in "abcdef"), rules=MailRules()) == []
