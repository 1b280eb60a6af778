"""What people see of a lead: the score with every reason, exactly, what decays when, what is missing, and who is kept out."""

from __future__ import annotations

import io
import json
import unicodedata
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from sqlmodel import Session, select

from mebae.authoring import Scenario, downloaded, end, send, wait
from mebae.authoring import days as days_
from mebae.cli import commands
from mebae.errors import BadInput, MebaeError, NotFound
from mebae.programs import lead as program
from mebae.reports.finding import lead_of
from mebae.reports.lead import report
from mebae.reports.lead_told import LeadReport
from mebae.reports.leads import lead_list
from mebae.router import route
from mebae.scoring import score
from mebae.store.database import Database
from mebae.store.ingest import ConsentGiven
from mebae.store.scoring import active_scoring, profile_of, stored_events
from mebae.store.standing import standing
from mebae.store.tables import Delivery, JourneyRow, Lead, ScoreChange, SegmentMember, SegmentRow
from tests.leads import DAY, NOW, SATO, TOKYO, Diary, publish_model, publish_scenario

FOLLOW = Scenario(
    "follow", title="フォロー", enters_on=downloaded("whitepaper-*"), steps=[send("thanks"), wait(days_(3)), end("done")]
)


@pytest.fixture
def diary(database: Database) -> Diary:
    publish_model(database)
    return Diary(database)


def ripening(diary: Diary) -> None:
    """Two papers, half a year and today, and the pricing page once."""
    diary.is_someone(name="佐藤 健二", title="生産技術部長", industry="製造業", company="青葉精機")
    diary.does("Content Downloaded", 90 * DAY, content="whitepaper-automation")
    diary.does("Content Downloaded", timedelta(0), content="whitepaper-quality")


def of(diary: Diary, who: str = SATO, **options: object) -> LeadReport:
    return diary.database.read_now(lambda session: report(session, lead_of(session, who), NOW, **options))  # type: ignore[arg-type]


def printed(found: LeadReport, *, width: int = 160, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False)
    program.say(found, TOKYO, console)
    return out.getvalue()


def test_the_score_is_exact_and_every_point_of_it_has_its_reason(diary: Diary) -> None:
    ripening(diary)
    found = of(diary)
    assert found.score is not None
    rules = {rule.rule: rule for rule in found.score.rules}
    # 20 + 15 for what it is; a paper of today, and one of 90 days ago at half its points.
    assert {name: round(rule.points, 6) for name, rule in rules.items()} == {
        "部長以上": 20, "ターゲット業種": 15, "ホワイトペーパー": 30,
    }  # fmt: skip
    assert (found.score.fit, found.score.engagement, found.score.score) == (35, 30, 65)
    paper = rules["ホワイトペーパー"]
    assert [(one.words, round(one.points, 3), one.worth) for one in paper.events] == [
        ("downloaded whitepaper-quality", 20, 20),
        ("downloaded whitepaper-automation", 10, 20),
    ]
    assert (paper.at_most, paper.half_life) == (2, "90 days")
    assert found.score.total == sum(rule.points for rule in found.score.rules)


def test_it_says_the_same_as_counting_all_events_anew_at_any_later_moment(diary: Diary) -> None:
    ripening(diary)
    diary.does("Seminar Attended", 5 * DAY, seminar="spring")

    def both(session: Session) -> list[tuple[float, float]]:
        lead, scoring = lead_of(session, SATO), active_scoring(session)
        assert scoring is not None
        events = [event for _, event in stored_events(session, [lead.id or 0])]
        profile = profile_of(lead, scoring.mapping)
        moments = [NOW + n * 7 * DAY for n in range(60)]
        shown = [report(session, lead, at).score for at in moments]
        return [
            (one.total, score(scoring.model, profile, events, at).total)
            for one, at in zip(shown, moments, strict=True)
            if one is not None
        ]

    pairs = diary.database.read_now(both)
    assert len(pairs) == 60
    assert all(shown == pytest.approx(counted, abs=1e-9) for shown, counted in pairs)


def test_it_says_when_the_score_falls_below_each_threshold(diary: Diary) -> None:
    ripening(diary)
    found = of(diary)
    assert found.score is not None
    interest, consideration, *_ = found.score.thresholds
    assert (interest.score, interest.of, interest.is_reached, interest.then) == (50, "interest", True, "the stage stays")
    # 35 + 30 · 2^(-t/90) = 50 after one half-life, to the microsecond.
    assert interest.until is not None
    assert abs(interest.until - (NOW + 90 * DAY)) < timedelta(seconds=1)
    assert (consideration.score, consideration.is_reached, consideration.until) == (80, False, None)
    text = printed(found)
    assert "falls below on 2026-07-09 10:00 (in 90 days): the stage stays" in text
    assert "15 points below" in text


def test_what_is_missing_for_mql_is_said_in_words(diary: Diary) -> None:
    ripening(diary)
    ripe = of(diary).ripeness
    assert ripe is not None
    assert ripe.missing == (
        "score ≥ 100 (now: 65) and visited /pricing (now: never), or score ≥ 80 (now: 65) and attended (now: never)"
    )
    diary.does("Page Viewed", path="/pricing")
    diary.does("Seminar Attended", seminar="spring")
    found = of(diary)
    assert found.qualification == "mql"
    assert found.ripeness is None  # nothing in this model leads further
    assert [(move.was, move.to) for move in found.moves] == [
        ("awareness", "interest"), ("interest", "consideration"), ("none", "mql"),
    ]  # fmt: skip


def test_every_time_on_the_screen_is_of_the_zone_that_the_head_names(diary: Diary) -> None:
    ripening(diary)
    diary.does("Page Viewed", path="/pricing")  # NOW is 01:00 UTC, 10:00 in Tokyo
    text = printed(of(diary, zone=TOKYO))
    assert text.splitlines()[0].endswith(", times in Asia/Tokyo")
    assert "once, 2026-04-10 10:00" in text
    assert "01:00" not in text


def test_who_is_excluded_is_told_why_it_never_ripens_and_is_listed(diary: Diary) -> None:
    ripening(diary)
    diary.is_someone("rival@kurokawa.example", name="黒川")
    diary.is_someone("yamada@univ.example", title="大学学生")
    diary.tag("rival@kurokawa.example", "competitor")
    diary.tag("yamada@univ.example", "competitor")
    diary.does("Page Viewed", email="rival@kurokawa.example", path="/pricing")
    ripe = of(diary, "rival@kurokawa.example").ripeness
    assert ripe is not None
    assert "excluded as 競合: such a lead is never qualified" in ripe.missing
    kept_out = diary.database.read_now(lead_list, NOW, excluded=True)
    assert [(line.called, line.excluded) for line in kept_out.leads] == [
        ("rival@kurokawa.example", ["競合"]),
        ("yamada@univ.example", ["競合", "学生"]),
    ]
    assert (kept_out.in_all, kept_out.excluded) == (2, {"競合": 2, "学生": 1})


def test_the_list_is_sorted_by_the_score_of_this_moment(diary: Diary) -> None:
    ripening(diary)
    diary.is_someone("tanaka@midori.example", title="部長", industry="製造業")
    diary.does("Page Viewed", 90 * DAY, email="tanaka@midori.example", path="/pricing")

    def stale(session: Session) -> None:
        # As if nobody had refreshed the row since the page was seen.
        session.exec(select(Lead).where(Lead.email == "tanaka@midori.example")).one().score = 70

    diary.database.write_now(stale)
    found = diary.database.read_now(lead_list, NOW)
    assert [(line.called, line.score) for line in found.leads] == [(SATO, 65), ("tanaka@midori.example", 50)]
    one = diary.database.read_now(lead_list, NOW, limit=1)
    assert ([line.called for line in one.leads], one.in_all) == ([SATO], 2)
    assert diary.database.read_now(lead_list, NOW, stage="consideration").leads == []
    with pytest.raises(BadInput, match="no such stage 'interst', did you mean 'interest'"):
        diary.database.read_now(lead_list, NOW, stage="interst")
    with pytest.raises(BadInput, match="no such segment 'dormant'"):
        diary.database.read_now(lead_list, NOW, segment="dormant")


def test_company_consent_segment_journey_and_mail_are_shown(diary: Diary) -> None:
    publish_scenario(diary.database, FOLLOW, NOW - 60 * DAY)
    diary.is_someone(name="佐藤 健二", title="部長", company="青葉精機")
    diary.is_someone("ito@aoba-seiki.example", name="伊藤", title="課長")
    diary.is_someone("someone@gmail.com", name="別の人", company="他社")
    consent = ConsentGiven(how="form", source="資料請求", wording="メールをお送りします")
    diary.does("Content Downloaded", DAY, consent=consent, source="google", content="whitepaper-automation")
    diary.does("Content Downloaded", content="whitepaper-quality")
    diary.database.write_now(route, now=NOW, zone=TOKYO)

    def write(session: Session) -> None:
        lead = lead_of(session, SATO)
        session.add(SegmentRow(segment="hot", title="50点以上", condition="{}"))
        session.flush()
        session.add(SegmentMember(segment="hot", lead_id=lead.id or 0, since=NOW))
        entry = session.exec(select(JourneyRow)).first()
        assert entry is not None
        session.add(
            Delivery(
                entry=entry.entry, step="thanks", visit=1, lead_id=lead.id or 0, kind="marketing", mail="thanks",
                message_id="<1@x>", status="refused", reason="opted-out", claimed_at=NOW,
            )
        )  # fmt: skip

    diary.database.write_now(write)
    found = of(diary)
    assert found.firm is not None
    assert [(one.name, one.rank) for one in found.firm.colleagues] == [("伊藤", "課長")]
    assert [(one.segment, one.title) for one in found.segments] == [("hot", "50点以上")]
    assert [(one.how, one.source, one.wording) for one in found.mail.grounds] == [("form", "資料請求", "メールをお送りします")]
    assert [(one.scenario, one.title, one.status, one.reason) for one in found.journeys] == [
        ("follow", "フォロー", "refused", "under-way"), ("follow", "フォロー", "starting", None),
    ]  # fmt: skip
    assert [(one.mail, one.status, one.reason) for one in found.mails] == [("thanks", "refused", "opted-out")]
    assert (found.person.first_source, found.person.topics) == ("google", ["automation"])
    text = printed(found)
    for words in ("伊藤", "Company: 青葉精機 (aoba-seiki.example)", "資料請求", "hot", "refused (opted-out)", "topics", "automation",
                  "the lead is on this journey already"):  # fmt: skip
        assert words in text, words


def test_a_mail_that_was_opened_and_clicked_says_so(diary: Diary) -> None:
    def write(session: Session) -> None:
        session.add(
            Delivery(
                step="thanks", lead_id=lead_of(session, SATO).id or 0, kind="marketing", scope="follow", mail="thanks",
                message_id="<1@x>", status="sent", sent_at=NOW - DAY, opened_at=NOW, clicked_at=NOW,
            )
        )  # fmt: skip

    diary.is_someone()
    diary.database.write_now(write)
    found = of(diary)
    assert [(one.opened_at, one.clicked_at, one.bounced_at) for one in found.mails] == [(NOW, NOW, None)]
    assert "sent, opened, clicked" in printed(found)


def test_the_ledger_names_rule_event_and_points_also_of_what_was_lost(diary: Diary) -> None:
    ripening(diary)
    diary.does("Content Downloaded", content="whitepaper-cost")  # the third: the oldest no longer counts
    assert of(diary).ledger is None
    lines = of(diary, ledger=True).ledger
    assert lines is not None
    assert [(line.rule, line.points, line.event) for line in lines][:2] == [
        ("ホワイトペーパー", 20, "downloaded whitepaper-cost"),
        ("ホワイトペーパー", -20, "downloaded whitepaper-automation"),
    ]
    rows = diary.database.read_now(lambda session: session.exec(select(ScoreChange)).all())
    assert sum(line.points for line in lines) == sum(row.points for row in rows) == 75


def test_a_lead_that_no_model_has_scored_yet_is_counted_from_its_events(database: Database) -> None:
    diary = Diary(database)
    ripening(diary)
    assert of(diary).score is None
    publish_model(database)
    found = of(diary)
    assert found.score is not None
    assert (found.score.is_recounted, found.score.score) == (True, 65)
    held = database.read_now(lambda session: standing(session, lead_of(session, SATO), NOW, recount=False))
    assert held is None


def test_the_brief_names_rules_and_points_and_nothing_of_the_lead(diary: Diary) -> None:
    ripening(diary)
    held = diary.database.read_now(lambda session: standing(session, lead_of(session, SATO), NOW))
    assert held is not None
    assert held.in_brief == "65 (ホワイトペーパー 30, 部長以上 20, ターゲット業種 15)"


def test_a_lead_is_found_by_address_user_id_and_number_and_a_slip_is_answered(diary: Diary) -> None:
    number = diary.is_someone(name="佐藤")

    def named(session: Session) -> None:
        session.get_one(Lead, number).user_id = "kaiin-0042"

    diary.database.write_now(named)
    for who in (SATO, SATO.upper(), "kaiin-0042", str(number), f"#{number}"):
        assert of(diary, who).person.email == SATO
    with pytest.raises(NotFound, match=f"did you mean '{SATO}'"):
        of(diary, SATO.replace("kenji", "kennji"))
    with pytest.raises(NotFound, match="did you mean 'kaiin-0042'"):
        of(diary, "kaiin-0043")
    with pytest.raises(NotFound, match=f"did you mean '{SATO}'"):
        of(diary, "sato.kenji")
    with pytest.raises(NotFound, match="its address, its user id or its number"):
        of(diary, "999999999999")


def test_an_erased_lead_is_shown_by_its_number(diary: Diary) -> None:
    number = diary.is_someone(name="佐藤")

    def erase(session: Session) -> None:
        lead = session.get_one(Lead, number)
        lead.email, lead.name, lead.erased_at = None, None, NOW

    diary.database.write_now(erase)
    assert "erased on 2026-04-10 10:00" in printed(of(diary, str(number)))
    assert diary.database.read_now(lead_list, NOW).leads == []


def test_columns_stand_under_each_other_although_japanese_letters_are_wide(diary: Diary) -> None:
    ripening(diary)
    text = printed(of(diary), width=120)
    assert "\x1b[" not in text
    rules = [line for line in text.splitlines() if any(line.rstrip().endswith(word) for word in ("fit", "halves in 90 days"))]
    assert len(rules) == 3
    starts = {cells(line[: line.index(mark)]) for line in rules for mark in ("fit", "2 counted") if mark in line}
    assert len(starts) == 1, rules
    assert all(cells(line) <= 120 for line in text.splitlines())


def test_a_line_that_fits_is_not_broken(diary: Diary) -> None:
    ripening(diary)
    text = printed(of(diary), width=120)
    assert any("downloaded whitepaper-automation" in line for line in text[text.index("Events (") :].splitlines()), text
    diary.is_someone("suzuki@aoba-seiki.example", name="鈴木", title="課長")
    text = printed(of(diary), width=120)
    line = next(line for line in text.splitlines() if "鈴木" in line)
    assert line.rstrip().endswith("awareness"), text


def test_what_is_shown_of_the_score_adds_up(diary: Diary) -> None:
    """A moment after an event its points are a hair less, and the score is the whole number below."""
    diary.is_someone(title="部長", industry="製造業")
    diary.does("Page Viewed", timedelta(minutes=1), path="/pricing")
    found = of(diary)
    assert found.score is not None
    assert (found.score.score, round(found.score.total, 2)) == (64, 65.0)
    assert "Score 64 = fit 35 + engagement 29.9 " in printed(found)


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def test_what_a_lead_calls_itself_is_no_markup_and_breaks_no_line(diary: Diary) -> None:
    diary.is_someone(name="[bold]x[/] [/nothing]", note="a\nb\x1b[31m")
    text = printed(of(diary), terminal=True)
    assert "[bold]x[/] [/nothing]" in text
    assert "a b" in text
    assert "\x1b[31ma" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_list_keeps_addresses_and_stages_whole_in_a_terminal_that_is_not_wide(diary: Diary, width: int) -> None:
    long = "abe.daisuke@wakasa-denso.example"
    diary.is_someone(long, name="阿部 大輔", company="株式会社若狭電装", title="製造部長")
    out = io.StringIO()
    console = Console(file=out, width=width)
    program.say_list(diary.database.read_now(lead_list, NOW), "Asia/Tokyo", console, excluded=False)
    text = out.getvalue()
    assert all(word in text for word in (long, "株式会社若狭電装", "阿部 大輔", "部長", "awareness")), text
    assert all(cells(line) <= width for line in text.splitlines())


@pytest.fixture
def shell(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Diary:
    """A database that the commands find."""
    monkeypatch.setenv("DATABASE_URL", str(sqlite_database.engine.url))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    publish_model(sqlite_database)
    diary = Diary(sqlite_database)
    ripening(diary)
    return diary


def run(*words: str) -> None:
    commands(list(words), standalone_mode=False)


def test_the_commands_print_a_page_and_json(shell: Diary, capsys: pytest.CaptureFixture[str]) -> None:
    run("lead", "show", SATO, "--ledger", "--events", "2")
    said = capsys.readouterr().out
    assert "佐藤 健二" in said
    assert "Ledger of the score" in said
    assert "Events (the latest 2 of" in said
    run("lead", "show", SATO, "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["person"]["email"] == SATO
    assert {rule["rule"] for rule in told["score"]["rules"]} == {"部長以上", "ターゲット業種", "ホワイトペーパー"}
    run("leads", "--stage", "interest", "--limit", "5")
    assert SATO in capsys.readouterr().out
    run("leads", "--excluded")
    assert "no lead is kept out" in capsys.readouterr().out
    run("leads", "--json")
    assert json.loads(capsys.readouterr().out)["in_all"] == 1
    with pytest.raises(MebaeError, match="no such qualification 'mqll', did you mean 'mql'"):
        run("leads", "--qualification", "mqll")
