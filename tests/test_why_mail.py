"""`mebae why` of mails and `mebae lead show`: why a lead got a mail, did not, or did not yet, in words with what would change it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import delete
from sqlmodel import Session
from typer.testing import CliRunner

from mebae.authoring import Scenario, downloaded, end, send, wait
from mebae.cli import commands
from mebae.errors import BadInput, NotFound
from mebae.gate import Gate
from mebae.gating import SUPPRESSED
from mebae.mail.publishing import publish_mails
from mebae.mailing import Cap, MailRules, SendingHours, Topic
from mebae.programs import consent as consent_program
from mebae.programs import suppressions as suppressions_program
from mebae.programs import why as program
from mebae.programs.lead import topic_lines
from mebae.reports.finding import lead_of
from mebae.reports.mail_standing import Rules
from mebae.reports.mail_words import FORETOLD, GATE, LEDGER
from mebae.reports.mails import why_mails
from mebae.reports.mails_told import MailsReport
from mebae.store import suppressions
from mebae.store.database import Database, lock_lead
from mebae.store.tables import Broadcast, Delivery, PublishedBroadcast, Suppression
from mebae.timing import Calendar, Duration
from mebae.words import DeliveryStatus
from tests.desk import DAY, NOON, SATO, Desk
from tests.leads import TOKYO, publish_scenario

ROOT = Path(__file__).parents[1]
RULES = MailRules(
    topics=(Topic("product", {"ja": "製品のご案内"}), Topic("reply", {"ja": "ご返信"}, capped=False, at_any_time=True)),
    caps=(Cap(2, Duration(days=7)),),
    hours=SendingHours("08:00", "20:00"),
)


@pytest.fixture
def desk(database: Database) -> Desk:
    desk = Desk(database, RULES)
    desk.gate = Gate(RULES, TOKYO, Calendar())
    return desk


def asked(desk: Desk, who: str = SATO, mail: str | None = None, rules: MailRules = RULES) -> MailsReport:
    its = Rules(rules, TOKYO, Calendar())
    return desk.database.read_now(lambda session: why_mails(session, lead_of(session, who), its, desk.now, mail=mail))


def printed(found: MailsReport) -> str:
    out = io.StringIO()
    program.say_mails(found, Console(file=out, width=220, highlight=False))
    return out.getvalue()


def concluded(desk: Desk, mail: int, **columns: Any) -> None:
    """What the ledger wrote in the end."""

    def work(session: Session) -> None:
        row = session.get_one(Delivery, mail)
        for name, value in columns.items():
            setattr(row, name, value)

    desk.database.write_now(work)


def at(desk: Desk, moment: datetime) -> Desk:
    desk.now = moment
    return desk


# Sent, waiting, refused -----------------------------------------------------------------------------------------------


def test_a_mail_that_waited_for_the_morning_tells_its_whole_way(desk: Desk) -> None:
    lead = desk.lead(name="佐藤 健二")
    night = NOON.replace(hour=13)  # 22:00 in Tokyo
    mail = desk.mail(lead, mail="case", topic="product", status=DeliveryStatus.POSTPONED)
    answer = at(desk, night).ask(lead, mail, claim=True)
    assert answer is not None
    concluded(desk, mail, status="postponed", next_at=answer.until, reason="quiet-hours", attempt=1)  # type: ignore[union-attr]
    [told] = asked(desk).mails
    waits = r"it waits until 2026-04-02 08:0\d, as it was outside the hours for mail where the lead is; it is asked about again then"
    assert re.fullmatch(waits, told.words)
    [first] = told.answers
    assert (first.answer, first.reason) == ("postponed", "quiet-hours")
    assert first.words == "it was 2026-04-01 22:00 in Asia/Tokyo, and mail goes out from 08:00 to 20:00"
    assert "hours= in scenarios/mailing.py" in first.cure

    morning = answer.until  # type: ignore[union-attr]
    assert at(desk, morning).ask(lead, mail, claim=True) is None
    assert desk.ask(lead, mail, "data") is None
    concluded(desk, mail, status="sent", sent_at=morning, opened_at=morning + DAY, reason=None, next_at=None, attempt=2)
    report = asked(desk)
    [told] = report.mails
    assert re.fullmatch(r"it was sent on 2026-04-02 08:0\d \(opened 2026-04-03 08:0\d\)", told.words)
    assert [(one.moment, one.answer) for one in told.answers] == [("claim", "postponed"), ("claim", "go"), ("data", "go")]
    said = printed(report)
    for words in ("佐藤 健二", SATO, "times in Asia/Tokyo", "case: news", "topic product", "22:00", "postponed until 2026-04-02 08:0"):
        assert words in said, words


def test_a_capped_mail_names_the_mails_that_filled_the_cap(desk: Desk) -> None:
    lead = desk.lead()
    for mail, ago in (("thanks", 3), ("case", 1)):
        desk.mail(lead, DeliveryStatus.SENT, ago=ago * DAY, mail=mail)
    asking = desk.mail(lead, mail="demo")
    desk.ask(lead, asking)
    [told] = asked(desk, mail="demo").mails
    assert told.answers[0].words == "at most 2 in 7 days, and it had thanks (2026-03-29 12:00), case (2026-03-31 12:00)"
    [cap] = asked(desk).standing.caps
    assert (cap.words, cap.used, cap.frees_at) == ("at most 2 in 7 days", 2, NOON + 4 * DAY)


@pytest.mark.parametrize(
    ("change", "answer", "cure"),
    [
        ({"opted_out_at": NOON}, "no: the lead unsubscribed, which counts more than any consent before it", "--resubscribe"),
        ({"email": None}, "no: the lead has no address", "an identify"),
        ({"erased_at": NOON}, "no: the lead was erased", ""),
    ],
)
def test_may_it_be_written_to_at_all_is_said_first(desk: Desk, change: dict[str, Any], answer: str, cure: str) -> None:
    lead = desk.lead(user_id="u-7")
    desk.write(lead, lambda _session, row: row.sqlmodel_update(change))
    standing = asked(desk, "u-7").standing
    assert (standing.may, standing.words) == (False, answer)
    assert cure in standing.cure


def test_an_erased_address_is_told_what_lifts_it_and_not_to_ask_for_consent(desk: Desk) -> None:
    lead = desk.lead(user_id="u-7")
    desk.write(lead, lambda session, row: suppressions.add(session, row.email or "", "erased", NOON))
    standing = asked(desk, "u-7").standing
    assert not standing.may
    assert "mebae suppressions lift EMAIL" in standing.cure


def test_a_lead_that_may_be_written_to_is_told_with_its_ground_and_choices(desk: Desk) -> None:
    lead = desk.lead(basis="business-card", time_zone="America/New_York")
    desk.write(lead, suppressions.unsubscribe, NOON, topic="product")
    standing = asked(desk).standing
    assert (standing.may, standing.zone) == (False, "America/New_York")
    now = "it is 2026-03-31 23:00 in America/New_York, and mail goes out from 08:00 to 20:00"
    assert re.fullmatch(rf"not now: {now}; from 2026-04-01 08:0\d on", standing.words)
    assert [(one.basis, one.title, one.how) for one in standing.grounds] == [("business-card", "名刺", "form")]
    topics = [(one.topic, one.title, one.wanted) for one in standing.topics]
    assert topics == [("product", "製品のご案内", False), ("reply", "ご返信", None)]
    assert asked(at(desk, NOON + timedelta(hours=12))).standing.words == "yes: business-card (名刺)"


def test_of_every_mail_the_latest_is_told_and_of_one_that_is_named_all(desk: Desk) -> None:
    lead = desk.lead()
    for _ in range(3):
        desk.mail(lead, DeliveryStatus.SENT, mail="news")
    desk.mail(lead, DeliveryStatus.REFUSED, mail="case", reason="recipient-refused")
    assert [(one.mail, one.status) for one in asked(desk).mails] == [("case", "refused"), ("news", "sent")]
    assert len(asked(desk, mail="news").mails) == 3
    assert asked(desk, mail="case").mails[0].words == "it was not sent, as the mail server refused this recipient for good"
    assert asked(desk, mail="s4").mails[0].mail == "case", "a step's name is understood too"


def test_a_broadcasts_mail_is_told_under_the_broadcasts_title(desk: Desk) -> None:
    lead = desk.lead()

    def run(session: Session) -> int:
        plan = json.dumps({"title": "月刊ニュース"}, ensure_ascii=False)
        session.add(PublishedBroadcast(broadcast="monthly-news", plan=plan))
        row = Broadcast(cause="command:1", broadcast="monthly-news", plan=plan, status="running", due_at=NOON)
        session.add(row)
        session.flush()
        assert row.id is not None
        return row.id

    mail = desk.mail(lead, scope="monthly-news", mail="news", step="", broadcast_id=desk.database.write_now(run))
    desk.ask(lead, mail)
    [told] = asked(desk).mails
    assert (told.title, told.of_broadcast, told.answers[0].answer) == ("月刊ニュース", True, "go")
    assert "news: broadcast monthly-news (月刊ニュース)" in printed(asked(desk))


def test_a_mail_that_was_never_due_says_how_far_the_lead_came(desk: Desk) -> None:
    desk.lead()
    steps = [send("thanks"), wait(Duration(days=3)), send("case", id="case-study"), end("done")]
    publish_scenario(desk.database, Scenario("follow", enters_on=downloaded("whitepaper-*"), steps=steps), NOON)
    for name in ("case", "case-study"):
        [told] = asked(desk, mail=name).never
        assert told.scope == "follow"
        assert "it never came to this mail: it did not enter: what starts it did not happen" in told.words
    with pytest.raises(NotFound, match="mail 'caze' not found"):
        asked(desk, mail="caze")


def test_a_mail_that_may_go_at_night_is_told_so_beside_the_answer_for_all_others(desk: Desk) -> None:
    lead = desk.lead(name="佐藤 健二")
    at(desk, NOON.replace(hour=13))  # 22:00 in Tokyo
    mail = desk.mail(lead, mail="thanks", topic="reply", status=DeliveryStatus.SENT)
    concluded(desk, mail, sent_at=desk.now)
    said = printed(asked(desk, mail="thanks"))
    assert "May it get marketing mail? not now: it is 2026-04-01 22:00 in Asia/Tokyo" in said
    assert "topic reply (ご返信): its mails go at any time, also outside the hours, and are not limited by the caps; now: yes" in said
    desk.mail(lead, mail="case", topic="product", status=DeliveryStatus.POSTPONED)
    assert "topic reply" not in printed(asked(desk, mail="case")), "of a mail that heeds all there is nothing to add"


def test_a_mail_that_never_came_is_told_of_by_the_topic_of_its_text(desk: Desk) -> None:
    desk.lead()
    steps = [send("thanks"), end("done")]
    publish_scenario(desk.database, Scenario("follow", enters_on=downloaded("whitepaper-*"), steps=steps), NOON)
    text = "---\nsubject: お礼\ntopic: paper\n---\n資料をお送りします。\n"
    desk.database.write_now(publish_mails, "follow", {("thanks", "ja"): text}, NOON)
    rules = replace(RULES, topics=(*RULES.topics, Topic("paper", {"ja": "資料"}, transactional=True)))
    report = asked(desk, mail="thanks", rules=rules)
    assert report.never[0].topic == "paper"
    words = "topic paper (資料): its mails need no consent, and heed neither an unsubscribe nor topics, caps and hours; now: yes"
    assert words in printed(report)


def test_after_an_unsubscribe_from_all_no_topic_stands_as_wanted(desk: Desk) -> None:
    lead = desk.lead()
    rules = replace(RULES, topics=(*RULES.topics, Topic("paper", {"ja": "資料"}, transactional=True)))

    def choose(session: Session, *, stops: bool) -> None:
        its = lock_lead(session, lead)
        assert its is not None
        if stops:
            suppressions.unsubscribe(session, its, NOON)
        else:
            suppressions.choose_topic(session, lead, "product", wanted=True, now=NOON)

    def said() -> str:
        out = io.StringIO()
        for line in topic_lines(asked(desk, rules=rules).standing):
            Console(file=out, width=220, highlight=False).print(line)
        return out.getvalue()

    desk.database.write_now(choose, stops=False)
    assert said().startswith("topics: 製品のご案内 yes\n")
    desk.database.write_now(choose, stops=True)
    assert said().startswith("topics chosen before, which do not count now: 製品のご案内 yes\n")
    assert "also outside the hours, and are not limited by the caps; now: no: the lead unsubscribed" in said()
    assert "topics, caps and hours; now: yes" in said()
    [product] = [one for one in asked(desk, rules=rules).standing.topics if one.topic == "product"]
    assert (product.wanted, product.heeded) == (True, False)


def test_every_code_of_the_gate_has_words_and_every_page_code_too() -> None:
    """The reference's codes of gate and deliveries are those that `why` puts into words."""
    page = (ROOT / "docs" / "reference" / "reasons.md").read_text()
    gate = page.partition("## The gate")[2].partition("\n## ")[0]
    deliveries = page.partition("## Deliveries")[2].partition("\n## ")[0]
    of_gate = set(re.findall(r"^\| (?:refused|postponed|exited)[^|]*\| `([a-z-]+)`", gate, re.MULTILINE))
    assert of_gate == set(GATE)
    assert set(FORETOLD) == of_gate - {"exits-when", "paused"}  # of journeys only
    assert set(SUPPRESSED.values()) <= of_gate
    assert set(re.findall(r"^\| `([a-z-]+)`", deliveries, re.MULTILINE)) == set(LEDGER)


# The commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_home(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A database that commands meet, with the project's own rules of mail."""
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MEBAE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MEBAE_SCENARIOS", str(ROOT / "scenarios"))
    monkeypatch.setenv("COLUMNS", "200")
    database = Database(sqlite_url)
    yield Desk(database, RULES)
    database.close()


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, words)
    return done.exit_code, done.output + (str(done.exception) if done.exception and not isinstance(done.exception, SystemExit) else "")


def test_why_prints_mails_for_people_and_for_programs(at_home: Desk) -> None:
    lead = at_home.lead(name="佐藤 健二")
    at_home.ask(lead, at_home.mail(lead, mail="case", topic="product"))
    code, said = run("why", SATO)
    assert (code, "佐藤 健二" in said, "case: news" in said) == (0, True, True)
    code, said = run("why", SATO, "--mail", "case", "--json")
    told = json.loads(said)
    assert (told["lead"], told["mails"][0]["answers"][0]["answer"]) == (lead, "go")
    assert run("why", SATO, "--mail", "x", "--scenario", "y")[0] == 1


def test_lead_show_tells_consent_opt_out_and_suppression(at_home: Desk) -> None:
    lead = at_home.lead(basis="dealings")
    at_home.write(lead, suppressions.unsubscribe, NOON)
    at_home.write(lead, suppressions.unsubscribe, NOON, topic="seminar")
    code, said = run("lead", "show", SATO)
    assert code == 0
    for words in ("Marketing mail now: no: the lead unsubscribed", "dealings 取引関係", "unsubscribed on", "its address is suppressed",
                  "セミナーのご案内 no", "at most 2 in 7 days: 0 of 2 used", "mail goes out from 08:00 to 20:00"):  # fmt: skip
        assert words in said, words


def test_consent_by_hand_is_recorded_shown_and_withdrawn(at_home: Desk) -> None:
    lead = at_home.lead(basis=None)
    assert "nothing is recorded" in run("consent", SATO)[1]
    code, said = run("consent", SATO, "--basis", "dealings", "--how", "contract", "--source", "K-77", "--date", "2026-03-01")
    assert (code, "recorded: dealings, by contract" in said, "取引関係" in said) == (0, True, True)
    assert at_home.why(lead, at_home.mail(lead, topic="reply")) is None
    code, said = run("consent", SATO, "--withdraw", "--basis", "dealings")
    assert "withdrawn: 1 records of dealings" in said
    assert at_home.why(lead, at_home.mail(lead)) == "consent-withdrawn"
    code, said = run("consent", SATO, "--withdraw")
    assert "gets no marketing mail from now on" in said
    code, said = run("consent", SATO, "--how", "telephone", "--wording", "ご案内をお送りします")
    assert "until it agrees again itself" in said, "somebody's word brings nobody back"
    code, said = run("consent", SATO, "--how", "telephone", "--wording", "再開のご依頼", "--resubscribe")
    assert "it unsubscribed" not in said
    assert at_home.why(lead, at_home.mail(lead, topic="reply")) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--basis", "cards", "--how", "x"), "'cards' is no ground"),
        (("--basis", "consent"), "--how is needed"),
        (("--how", "form"), "say how it came to your knowledge"),
        (("--how", "x", "--date", "soon"), "should be a date"),
        (("--how", "x", "--date", "2999-01-01"), "is in the future"),
        (("--withdraw", "--how", "x"), "leave --how"),
    ],
)
def test_slip_in_a_consent_is_told(at_home: Desk, words: tuple[str, ...], told: str) -> None:
    at_home.lead()
    code, said = run("consent", SATO, *words)
    assert (code, told in said) == (1, True), said


def test_suppressions_are_added_listed_lifted_and_what_a_lead_said_stays(at_home: Desk) -> None:
    lead = at_home.lead()
    assert "no address is suppressed" in run("suppressions", "list")[1]
    assert "is suppressed" in run("suppressions", "add", "SATO@aoba.example", "nobody@aoba.example")[1]
    assert "as it was before" in run("suppressions", "add", SATO)[1]
    said = run("suppressions", "list")[1]
    assert (SATO in said, "of no lead that is known" in said, "2 in all: 2 by-hand" in said) == (True, True, True)
    assert at_home.why(lead) == "suppressed"
    assert run("suppressions", "lift", SATO)[0] == 0
    code, said = run("suppressions", "lift", SATO)
    assert (code, "is not on the list" in said) == (1, True)
    assert at_home.why(lead) in (None, "quiet-hours")

    assert run("suppressions", "add", SATO, "--reason", "unsubscribed")[0] == 0
    assert at_home.events(lead) == [("Unsubscribed", {"how": "by-hand"})]
    code, said = run("suppressions", "lift", SATO)
    assert (code, "the lead itself unsubscribed, so this stays" in said) == (1, True)
    assert run("suppressions", "add", SATO, "--reason", "compliant")[0] == 1


def test_list_of_another_tool_is_taken_over_and_ours_can_be_taken_back(at_home: Desk, tmp_path: Path) -> None:
    lead, other = at_home.lead(), at_home.lead("ito@aoba.example")
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(f"Name,E-Mail,Status\n佐藤,{SATO.upper()},unsubscribed\n?,Someone@midori.example,spam\nx,,\n,kato@aoba.example,\n")
    code, said = run("suppressions", "import", str(theirs))
    assert (code, "3 addresses read, 3 new" in said, "1 rows hold no address: line 4" in said) == (0, True, True)
    assert at_home.why(lead) == "opted-out"
    assert "0 new" in run("suppressions", "import", str(theirs))[1]
    at_home.write(lead, lambda _session, row: setattr(row, "email", "new@aoba.example"))
    assert at_home.why(lead) == "opted-out", "the person's wish, for whatever address"

    ours = tmp_path / "ours.csv"
    assert "3 entries" in run("suppressions", "export", str(ours))[1]
    at_home.database.write_now(lambda session: session.execute(delete(Suppression)))
    assert "3 addresses read, 3 new" in run("suppressions", "import", str(ours))[1], "by their hashes"
    database = at_home.database
    assert database.read_now(suppressions.find, "someone@midori.example").reason == "complaint"  # type: ignore[union-attr]
    assert at_home.why(other) in (None, "quiet-hours")
    (tmp_path / "empty.csv").write_text("a,b\n1,2\n")
    assert run("suppressions", "import", str(tmp_path / "empty.csv"))[0] == 1


def test_lines_with_an_address_each_are_a_list_too(at_home: Desk, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("sato@aoba.example\nito@aoba.example\n")
    assert "2 addresses read, 2 new" in run("suppressions", "import", str(file), "--reason", "hard-bounce")[1]
    assert at_home.why(at_home.lead()) == "bounced"


def test_programs_say_what_they_need(at_home: Desk) -> None:
    with pytest.raises(BadInput, match="not a mail address"):
        suppressions_program.add_suppressions(["nobody"], "by-hand")
    with pytest.raises(NotFound):
        consent_program.consent(
            "nobody@aoba.example", basis=None, how="x", wording="", source="", date=None, resubscribe=False, withdrawn=False
        )
