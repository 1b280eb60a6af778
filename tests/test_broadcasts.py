"""Broadcasts as they are written: read with every problem at once, published, and each lead's part in a run."""

from __future__ import annotations

import doctest
import inspect
import re
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent

import pytest
from sqlmodel import Session, select

from mebae import broadcasts_language, segments_language
from mebae.beside import load_beside
from mebae.broadcasts import EVERYBODY, Ab, BroadcastPlan, Variant, draw, lot
from mebae.broadcasts_language import (
    Broadcast,
    ab_test,
    business_days,
    every_month,
    every_week,
    hours,
    lead,
    on,
    segment,
    subject,
)
from mebae.broadcasts_loading import LoadedBroadcast, find_broadcasts, load_broadcasts, with_subject
from mebae.errors import AuthoringError, NotFound, ScenarioError
from mebae.files import read_files
from mebae.loading import find_scenarios
from mebae.mail.publishing import mail_sources
from mebae.mail.rendering import parse_mail
from mebae.publishing import publish
from mebae.recurring import EveryWeek, words
from mebae.store.broadcasts import plan_to_send, published_plans
from mebae.store.database import Database
from mebae.store.tables import PublishedBroadcast

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)
MAIL = "---\nsubject: 今月のお知らせ\ntopic: newsletter\n---\nこんにちは\n"
HOT = 'segments = [Segment("hot", title="50点以上", when=lead.score >= 50)]'


def project(folder: Path, written: str, *, name: str = "monthly_news", mails: dict[str, str] | None = None) -> Path:
    """A project with a segment and one broadcast, whose file says this."""
    home = folder / "scenarios"
    (home / "broadcasts" / name).mkdir(parents=True, exist_ok=True)
    (home / "segments.py").write_text(f"from mebae.segments_language import *\n{HOT}\n")
    (home / "broadcasts" / name / "broadcast.py").write_text(
        "from mebae.broadcasts_language import *\n\n" + dedent(written)
    )
    for file, source in ({"news.ja.md": MAIL} if mails is None else mails).items():
        (home / "broadcasts" / name / file).write_text(source)
    return folder


def load(root: Path) -> list[LoadedBroadcast]:
    return load_broadcasts(root, load_beside(root / "scenarios"))


def problems(root: Path) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        load(root)
    return [str(problem) for problem in refused.value.problems]


# The file ------------------------------------------------------------------------------------------------------------


def test_the_sample_is_read_and_goes_to_our_industries() -> None:
    [sample] = [one for one in load(ROOT) if one.plan.broadcast == "monthly-news"]
    assert sample.plan.segment == "target-industries"
    assert {language for _, language in sample.mails} == {"ja", "en"}
    subjects = {key: parse_mail(source, "x").subject for key, source in sample.sources().items()}
    assert len(set(subjects.values())) == 4, "two subjects in two languages"


def test_a_broadcast_is_no_scenario(tmp_path: Path) -> None:
    root = project(tmp_path, 'news = Broadcast("monthly-news", to=segment("hot"), mail="news")')
    assert find_scenarios(root) == []
    assert [folder.name for folder in find_broadcasts(root)] == ["monthly_news"]
    (root / "scenarios" / "broadcasts" / "__pycache__").mkdir()
    (root / "scenarios" / "broadcasts" / "empty").mkdir()
    assert len(find_broadcasts(root)) == 1


def test_without_the_folder_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    assert load(tmp_path) == []


def test_the_plan_survives_being_written_and_has_a_version_of_its_content(tmp_path: Path) -> None:
    [one] = load(
        project(
            tmp_path,
            """
            broadcast = Broadcast(
                "monthly-news", title="お知らせ", to=segment("hot"), mail="news", zone="Asia/Tokyo",
                schedule=every_week("tue", at="9:00", every=2, starting="2026-04-07"),
                ab=ab_test(subject(ja="別の件名"), share=20, after=hours(4)), holdout=5,
            )
            """,
        )
    )
    plan = one.plan
    assert BroadcastPlan.load(plan.dump()) == plan
    assert plan.schedule == EveryWeek(days=("tue",), at="09:00", every=2, starting=date(2026, 4, 7))
    assert BroadcastPlan.load(plan.dump().replace('"holdout":5', '"holdout":6')).version != plan.version
    with pytest.raises(ValueError, match="upgrade the workers first"):
        BroadcastPlan.load(plan.dump().replace('"format":1', '"format":2'))


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        """
        broadcast = Broadcast(
            "monthly-news", to=segment("hott"), mail="nwes", zone="Asia/Tokyoo",
            schedule=every_week("tue", at="10:00", every=2, starting="2026-04-08"),
            ab=ab_test("news-short", subject(ja="", fr="…"), share=80, after=hours(4)), holdout=30, local_time=True,
        )
        """,
        mails={"news.ja.md": MAIL, "news.en.md": "no front matter"},
    )
    found = problems(root)
    place = "scenarios/broadcasts/monthly_news"
    assert all(one.startswith(place) for one in found)
    for said in (
        "segment 'hott' not found, did you mean 'hot'?",
        "mail 'nwes' not found, did you mean 'news'?",
        "mail 'news-short' not found",
        "'Asia/Tokyoo' is not a time zone",
        'starting="2026-04-08" is a Wednesday: write the first day, such as starting="2026-04-14"',
        "share=80 and holdout=30 are 110 percent",
        "ab= and local_time= do not go together",
        "subject c in ja is one line, and not empty",
        f"{place}/news.en.md:1: front matter is missing",
    ):
        assert any(said in one for one in found), said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('Broadcast("Monthly", to=segment("hot"), mail="news")', "the broadcast is called 'Monthly' and its folder"),
        ('Broadcast("monthly-news", to=entry.content == "x", mail="news")', "'entry' is not defined"),
        ('Broadcast("monthly-news", to=lead.scor >= 5, mail="news")', "did you mean 'lead.score'?"),
        (
            'Broadcast("monthly-news", to=did(visited(), within=business_days(3)), mail="news")',
            "counts no business days",
        ),
        ('Broadcast("monthly-news", to=segment("hot"), mail="news", local_time=True)', "local_time= needs a time"),
        ('Broadcast("monthly-news", to=segment("hot"), mail="news", holdout=100)', "write a percentage from 0 to 99"),
        (
            'Broadcast("monthly-news", to=segment("hot"), mail="news", schedule=every_month(day=32, at="10:00"))',
            "write a day from 1 to 31",
        ),
        (
            'Broadcast("monthly-news", to=segment("hot"), mail="news", schedule=every_week("tue", at="10:00", every=2))',
            "say from when it is counted",
        ),
        (
            'Broadcast("monthly-news", to=segment("hot"), mail="news", ab=ab_test("news", share=20, after=hours(4)))',
            "variant b is the same as one before it",
        ),
        (
            'Broadcast("monthly-news", to=segment("hot"), mail="news", ab=ab_test(subject(en="x"), share=20, after=hours(4)))',
            "subject b is missing for ja",
        ),
        (
            'Broadcast("monthly-news", to=segment("hot"), mail="news", ab=ab_test(subject("{{ x"), share=20, after=hours(4)))',
            "subject b: ",
        ),
        ('Broadcast("monthly-news", to=segment("hot"), mail="news", give_up_after=days(0))', "a duration of zero"),
        ("7", "there is no broadcast: write broadcast = Broadcast("),
    ],
)
def test_a_slip_is_answered_with_its_cure(tmp_path: Path, written: str, said: str) -> None:
    found = problems(project(tmp_path, f"broadcast = {written}\n"))
    assert any(said in one for one in found), found


def test_a_name_that_a_scenario_has_is_taken(tmp_path: Path) -> None:
    root = project(tmp_path, 'news = Broadcast("monthly-news", to=segment("hot"), mail="news")')
    (root / "scenarios" / "monthly_news").mkdir()
    (root / "scenarios" / "monthly_news" / "scenario.py").write_text("")
    assert any("a scenario is called 'monthly-news' too" in one for one in problems(root))


def test_the_worker_is_told_of_scenarios_and_broadcasts_in_one_go(tmp_path: Path) -> None:
    root = project(tmp_path, 'news = Broadcast("monthly-news", to=segment("hott"), mail="news")')
    (root / "scenarios" / "hello").mkdir()
    (root / "scenarios" / "hello" / "scenario.py").write_text(
        "from mebae.authoring import *\nscenario = Scenario('hello', enters_on=created(), steps=[send('helo')])\n"
    )
    with pytest.raises(ScenarioError) as refused:
        read_files(root)
    said = str(refused.value)
    assert "hello/scenario.py" in said
    assert "segment 'hott' not found" in said
    project(root, 'news = Broadcast("monthly-news", to=segment("hot"), mail="news")')
    (root / "scenarios" / "hello" / "helo.md").write_text(MAIL)
    found = read_files(root)
    assert ([one.graph.scenario for one in found.scenarios], len(found.broadcasts)) == (["hello"], 1)


def test_variants_are_there_in_the_same_languages(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        'b = Broadcast("monthly-news", to=segment("hot"), mail="news", ab=ab_test("short", share=20, after=hours(4)))',
        mails={"news.ja.md": MAIL, "news.en.md": MAIL, "short.ja.md": MAIL},
    )
    assert any("mail 'short' is there in ja, and 'news' in en, ja" in one for one in problems(root))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Broadcast("x", to="hot", mail="news"), r"write to=segment\('hot'\)"),  # type: ignore[arg-type]
        (lambda: Broadcast("x", to=segment("hot"), mail="news", schedule="daily"), "leave it out to send by hand"),  # type: ignore[arg-type]
        (lambda: Broadcast("x", to=segment("hot"), mail="news", ab="b"), r"write ab=ab_test\("),  # type: ignore[arg-type]
        (lambda: Broadcast("x", to=segment("hot"), mail="news", local_time="10:00"), "local_time=True"),  # type: ignore[arg-type]
        (lambda: every_week(at="10:00"), "name the day"),
        (lambda: every_week("Tuesday", at="10:00"), "'Tuesday' is no day of the week, write 'tue'"),
        (lambda: every_week("tue", at="25:00"), "'25:00' is not a time of day"),
        (lambda: every_month(day=1, at="10:00", on=business_days(1)), "write on=business_days, without a number"),
        (lambda: every_month(day="1", at="10:00"), "is no whole number"),  # type: ignore[arg-type]
        (lambda: on("2026-13-01", at="10:00"), "'2026-13-01' is no date"),
        (lambda: subject(), "one for each language"),
        (lambda: ab_test(share=20, after=hours(4)), "name what is tried"),
        (lambda: ab_test("b", share=20, after=4), r"such as after=hours\(4\)"),  # type: ignore[arg-type]
        (lambda: ab_test("b", share=20, winner_by="click", after=hours(4)), "did you mean 'clicks'"),  # type: ignore[arg-type]
        (lambda: Broadcast("x", to=lead.score >= 5 and lead.stage == "interest", mail="n"), "&"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_raises_and_shows_the_right_spelling(call: object, said: str) -> None:
    with pytest.raises(AuthoringError, match=said):
        call()  # type: ignore[operator]


def test_another_subject_leaves_the_body_alone() -> None:
    source = '---\nsubject: "A: b"\npreheader: 短い\ntopic: newsletter\n--- \nBody with --- in it\n---\nand more\n'
    changed = with_subject(source, "{{ lead.name | sama }}: 'quoted' \"twice\"")
    was, now = parse_mail(source, "x"), parse_mail(changed, "x")
    assert now.subject == "{{ lead.name | sama }}: 'quoted' \"twice\""
    assert (now.body, now.preheader, now.topic) == (was.body, was.preheader, was.topic)


# Published -----------------------------------------------------------------------------------------------------------


def test_what_the_files_say_is_published_and_what_is_gone_goes_out_no_more(database: Database, tmp_path: Path) -> None:
    text = """
        tried = ab_test(subject("別の件名"), share=9, after=days(1))
        broadcast = Broadcast("monthly-news", title="{}", to=segment("hot"), mail="news", ab=tried)
        """
    root = project(tmp_path, text.format("one"))

    def write(session: Session, found: list[LoadedBroadcast]) -> None:
        publish(session, [], root=root / "scenarios", now=NOW, broadcasts=found)

    database.write_now(write, load(root))
    first = database.read_now(plan_to_send, "monthly-news")
    assert set(database.read_now(mail_sources, "monthly-news", "news:b")) == {"ja"}
    project(tmp_path, text.format("two"))
    database.write_now(write, load(root))
    assert database.read_now(plan_to_send, "monthly-news").version != first.version
    database.write_now(write, [])
    assert database.read_now(published_plans) == []
    assert database.read_now(lambda s: s.exec(select(PublishedBroadcast.active)).all()) == [False]
    with pytest.raises(NotFound, match="none is published yet"):
        database.read_now(plan_to_send, "monthly-news")
    database.write_now(write, load(root))
    with pytest.raises(NotFound, match="did you mean 'monthly-news'"):
        database.read_now(plan_to_send, "monthly-new")


# Who is in which part ------------------------------------------------------------------------------------------------


VARIANTS = tuple(Variant(id=id, mail=f"news-{id}") for id in "abc")
PLAN = BroadcastPlan(
    format=1, broadcast="news", to=EVERYBODY, mail="news-a", holdout=10,
    ab=Ab(variants=VARIANTS, share=30, after=hours(4)),
)  # fmt: skip


def test_shares_are_as_said_within_what_chance_allows() -> None:
    drawn = Counter(draw(PLAN, 7, lead) for lead in range(1, 40_001))
    for (part, variant), percent in {
        ("holdout", None): 10, ("test", "a"): 10, ("test", "b"): 10, ("test", "c"): 10, ("main", None): 60,
    }.items():  # fmt: skip
        assert drawn[part, variant] / 400 == pytest.approx(percent, abs=0.75), (
            part,
            variant,
        )  # five standard deviations


def test_a_lead_draws_the_same_in_one_run_and_anew_in_the_next() -> None:
    assert [lot(1, n) for n in (1, 2, 3)] == [6988, 9389, 8463], "the same on every machine, and for ever"
    first, again, next_run = ([draw(PLAN, run, n) for n in range(500)] for run in (1, 1, 2))
    assert first == again
    assert first != next_run


def test_nobody_is_left_over_at_full_shares() -> None:
    whole = PLAN.model_copy(update={"ab": Ab(variants=VARIANTS[:2], share=90, after=hours(4))})
    assert {draw(whole, 1, n).part for n in range(5000)} == {"holdout", "test"}
    plain = BroadcastPlan(format=1, broadcast="news", to=EVERYBODY, mail="news")
    assert {draw(plain, 1, n) for n in range(500)} == {("main", None)}


# The pages -----------------------------------------------------------------------------------------------------------


PAGES = [ROOT / "docs" / "how-to" / "broadcasts.md", ROOT / "docs" / "reference" / "broadcasts.md"]
FENCE = re.compile(r"^```python no-run broadcast\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_broadcasts_of_the_pages_compile(tmp_path: Path) -> None:
    shown = [found["body"] for page in PAGES for found in FENCE.finditer(page.read_text())]
    assert len(shown) >= 2
    for body in shown:
        root = project(tmp_path, body, mails={"news.ja.md": MAIL, "news.en.md": MAIL})
        (root / "scenarios" / "segments.py").write_text((ROOT / "scenarios" / "segments.py").read_text())
        (root / "scenarios" / "scoring.py").write_text((ROOT / "scenarios" / "scoring.py").read_text())
        (root / "scenarios" / "mapping.csv").write_text((ROOT / "scenarios" / "mapping.csv").read_text())
        assert load(root)[0].plan.segment == "target-industries"


def test_every_verb_of_the_language_has_a_line_in_the_reference_and_an_example() -> None:
    page = PAGES[1].read_text()
    borrowed = set(segments_language.__all__) - {"Segment"}
    assert borrowed <= set(broadcasts_language.__all__), "a condition that segments have"
    own = sorted(set(broadcasts_language.__all__) - borrowed)
    rows = {word for line in page.splitlines() if line.startswith("| `") for word in re.findall(r"`(\w+)[`(]", line)}
    assert [name for name in own if name not in rows] == []
    finder = doctest.DocTestFinder(recurse=False)
    verbs = [name for name in own if getattr(broadcasts_language, name).__module__ == broadcasts_language.__name__]
    assert [name for name in verbs if not any(t.examples for t in finder.find(getattr(broadcasts_language, name), name))] == []


def test_the_arguments_of_a_broadcast_on_the_page_are_those_of_the_code() -> None:
    section = PAGES[1].read_text().partition("## `Broadcast`")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert shown == list(inspect.signature(Broadcast).parameters)


def test_the_how_to_page_shows_schedules_that_are_schedules() -> None:
    page = PAGES[0].read_text().partition("## When")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `((?:every_|on\()[^`]+)` \|", page, re.MULTILINE)
    assert len(shown) >= 6
    for one in shown:
        when = eval(one, vars(broadcasts_language).copy())  # our own page
        assert words(when)
