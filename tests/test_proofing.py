"""A marketer looks at mails before any lead gets them: check, preview, test."""

from __future__ import annotations

import asyncio
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mebae.beside import load_beside
from mebae.errors import BadInput, NotFound, ScenarioError
from mebae.loading import load_all
from mebae.mail.link_asking import ask_links
from mebae.mail.personas import PERSONAS, readers_of
from mebae.mail.proofs import columns, proofread
from mebae.mail.rendering import Rendered, Sender
from mebae.mail.wiring import mail_settings
from mebae.programs import check as checking
from mebae.programs import mails as program
from mebae.programs.mails import Wanted
from mebae.proofing import Remark, remarks, shared_of, sheets, with_sender
from mebae.settings import Settings
from mebae.store.database import Database
from tests.house import Relay
from tests.leads import Diary, publish_model

ROOT = Path(__file__).parents[1]
SCENARIO = """from mebae.authoring import *

scenario = Scenario("trial", enters_on=registered("seminar-*"), steps=[send("hello")])
"""
GOOD = '---\nsubject: "ようこそ"\n---\n{{ lead.name | sama }}\n\n[資料](https://www.example.jp/a) をどうぞ。\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of scenarios with one, whose mail each test writes."""
    (tmp_path / "scenarios" / "trial").mkdir(parents=True)
    (tmp_path / "scenarios" / "layouts").mkdir()
    (tmp_path / "scenarios" / "trial" / "scenario.py").write_text(SCENARIO)
    layout = (ROOT / "scenarios" / "layouts" / "default.html").read_text()
    (tmp_path / "scenarios" / "layouts" / "default.html").write_text(layout)
    return tmp_path / "scenarios"


def read(home: Path, source: str, name: str = "hello.ja.md") -> list[Remark]:
    (home / "trial" / name).write_text(source)
    beside = load_beside(home)
    settings = with_sender(mail_settings(Settings(), beside.mailing))
    return [one for sheet in sheets(load_all(home), []) for one in remarks(sheet, settings, beside, shared_of(home))]


def told(found: list[Remark]) -> list[tuple[str, bool]]:
    return [(one.problem.message, one.serious) for one in found]


# What is said of a mail ------------------------------------------------------------------------------------------------


def test_a_good_mail_is_passed_over_in_silence(home: Path) -> None:
    assert read(home, GOOD) == []


def test_a_value_that_a_known_lead_lacks_is_a_fault_and_one_that_an_unknown_lead_lacks_a_hint(home: Path) -> None:
    [fault, *_] = told(read(home, GOOD.replace("{{ lead.name | sama }}", "{{ lead.shoe_size }}")))
    assert "lead.shoe_size is empty here" in fault[0]
    assert fault[1]

    [hint] = told(read(home, GOOD.replace("{{ lead.name | sama }}", "{{ lead.company }}")))
    assert "a Japanese address, and nothing else, would not get this mail" in hint[0]
    assert "default_to" in hint[0]
    assert not hint[1]


def test_links_that_lead_nowhere_are_faults(home: Path) -> None:
    for link in ("www.example.jp/a", "#", "/pricing"):
        [(words, serious), *_] = told(read(home, GOOD.replace("https://www.example.jp/a", link)))
        assert "leads nowhere" in words
        assert serious


def test_a_mail_whose_footer_nobody_sees_is_a_fault_of_law(home: Path) -> None:
    (home / "layouts" / "default.html").write_text('<html><body>{{ body }}<div hidden>{{ footer }}</div></body></html>')
    [(words, serious)] = told(read(home, GOOD))
    assert "the law asks for what it does not show" in words
    assert "postal address (html)" in words
    assert "opt-out link (html)" in words
    assert serious


def test_long_subjects_and_images_without_words_are_hints(home: Path) -> None:
    found = told(read(home, GOOD.replace("ようこそ", "とても長い件名" * 6).replace("をどうぞ", "![](https://www.example.jp/a.png)")))
    assert [serious for _, serious in found] == [False] * len(found)
    assert any("columns" in words for words, _ in found)


def test_an_image_without_alt_text_is_told_and_the_dot_that_counts_opens_is_not() -> None:
    html = '<p>x</p><img src="https://x.example/a.png"><img src="https://x.example/o.gif" width="1" height="1">'
    notes = list(proofread(Rendered("件名", "", html, "x", "", Sender("a", "a@x.example"))))
    assert [note.words for note in notes] == ["the image 'https://x.example/a.png' has no text for who does not see it: write alt text"]


def test_a_mail_that_gmail_would_cut_off_is_a_fault() -> None:
    notes = list(proofread(Rendered("件名", "", "<p>" + "あ" * 40_000 + "</p>", "x", "", Sender("a", "a@x.example"))))
    assert [note.serious for note in notes] == [True]


def test_the_entry_of_a_sample_has_what_the_tracking_plan_knows_of_it(home: Path) -> None:
    (home / "events.py").write_text((ROOT / "scenarios" / "events.py").read_text())
    source = GOOD.replace("をどうぞ", "{{ entry.seminar }} {{ entry.starts_at | date }} をどうぞ")
    [(words, serious)] = told(read(home, source))
    assert "entry.starts_at" in words or "a date is empty" in words  # of who registered without a date
    assert not serious


def test_readers_speak_the_language_of_the_mail() -> None:
    assert {persona.language for persona in readers_of("ja")} == {"ja"}
    assert {persona.language for persona in readers_of("fr")} == {"fr"}
    assert readers_of("") == PERSONAS
    assert columns("件名a") == 5


def test_every_shipped_mail_reads_well_in_every_language() -> None:
    beside = load_beside(ROOT / "scenarios")
    settings, shared = with_sender(mail_settings(Settings(), beside.mailing)), shared_of(ROOT / "scenarios")
    found = [one for sheet in sheets(load_all(ROOT), []) for one in remarks(sheet, settings, beside, shared)]
    assert [str(one.problem) for one in found] == []


def problems_of(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `mebae check` tells, a problem a line."""
    monkeypatch.chdir(home.parent)
    (home.parent / "worker.py").touch()
    monkeypatch.setenv("COLUMNS", "400")
    assert not checking.check(None)
    return [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]


SLIPS = """---
subject: "{{ lead.compny }} 様、{{ lead.hat_size }}"
topc: product
from: "{{ sendr.name }}"
---
{{ lead.name | samma }} 様、{{ led.company }} の {{ company.nme }}

{{ lead.shoe_size }} と {{ lead.glove_size }} と {{ lead.name | sama }}

[資料]({{ lead.page }})、[こちら](www.example.jp/a)、{{ block("signatur") }}
"""


def test_check_tells_every_slip_of_a_mail_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong for any lead, what is missing for a known one, and what is wrong with what is shown: none hides another."""
    (home / "trial" / "hello.ja.md").write_text(SLIPS)
    told = problems_of(home, monkeypatch, capsys)
    for line, words in (
        (2, "did you mean 'lead.company'"), (3, "'topc' is unknown, did you mean 'topic'"),
        (4, "'sendr' is unknown, did you mean 'sender'"),
        (6, "no filter 'samma', did you mean 'sama'"), (6, "'led' is unknown, did you mean 'lead'"), (6, "'company.nme' is unknown"),
        (10, "block 'signatur' is none of blocks/"),
    ):  # fmt: skip
        assert any(f"trial/hello.ja.md:{line}: " in one and words in one for one in told), (line, words, told)
    for words in ("lead.hat_size", "line 8: 'lead.shoe_size", "line 8: 'lead.glove_size", "line 10: 'lead.page"):
        assert any(words.split(" ")[-1].strip("'") in one and words.split(":")[0] in one for one in told), (words, told)
    assert any("the link 'www.example.jp/a' leads nowhere" in one for one in told)
    assert len(told) == len(set(told))
    assert not any("never published" in one for one in told), "what was told once is told once"


def test_one_scenarios_slips_hide_none_of_another(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "trial" / "hello.ja.md").write_text(GOOD.replace("{{ lead.name | sama }}", "{{ lead.name | samma }}"))
    (home / "second").mkdir()
    (home / "second" / "scenario.py").write_text(SCENARIO.replace('"trial"', '"second"'))
    (home / "second" / "hello.ja.md").write_text(GOOD.replace("https://www.example.jp/a", "#"))
    told = problems_of(home, monkeypatch, capsys)
    assert [("samma" in one, "leads nowhere" in one) for one in told] == [(True, False), (False, True)]


# Links over the network ------------------------------------------------------------------------------------------------


@contextmanager
def pages() -> Iterator[str]:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            code = {"/no-head": 405, "/gone": 404}.get(self.path, 200)
            self.send_response(code)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_links_are_asked_whether_they_lead_anywhere() -> None:
    with pages() as url:
        wrong = asyncio.run(ask_links([f"{url}/fine", f"{url}/no-head", f"{url}/gone"]))
    away = asyncio.run(ask_links([f"{url}/fine"]))
    assert wrong == {f"{url}/gone": "answers 404"}
    assert list(away.values()) == ["does not answer (ConnectError)"]


# The commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> Path:
    root = home.parent
    (root / "worker.py").write_text("")
    (home / "trial" / "hello.ja.md").write_text(GOOD)
    (home / "trial" / "hello.en.md").write_text(GOOD.replace("ようこそ", "Welcome, {{ lead.name | default_to('friend') }}"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    monkeypatch.setenv("MEBAE_STATE", str(root / "state"))
    return root


def test_a_preview_writes_both_parts_for_an_invented_reader(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.preview(Wanted("hello"), folder=None, show=False)

    said = capsys.readouterr().out
    assert "ようこそ" in said
    assert "山田 花子" in (project / "state" / "previews" / "trial-hello.ja.html").read_text()
    assert "山田 花子 様" in (project / "state" / "previews" / "trial-hello.ja.txt").read_text()


def test_a_preview_for_a_lead_is_what_that_lead_would_get(
    project: Path, sqlite_database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_model(sqlite_database)
    Diary(sqlite_database).is_someone("emma@harbour.example", name="Emma", language="en")

    program.preview(Wanted("trial/hello", lead="emma@harbour.example"), folder=project / "out", show=False)

    assert "Welcome, Emma" in capsys.readouterr().out
    assert (project / "out" / "trial-hello.en.html").exists()


def test_what_does_not_exist_is_told_with_the_nearest_name(project: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'hello'"):
        program.preview(Wanted("helo"), folder=None, show=False)
    with pytest.raises(NotFound, match="known: "):
        program.preview(Wanted("hello", language="fr"), folder=None, show=False)
    with pytest.raises(NotFound, match="persona 'jp' not found"):
        program.preview(Wanted("hello", persona="jp"), folder=None, show=False)


async def test_a_test_mail_arrives_at_ones_own_address_and_is_counted_nowhere(
    project: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay()
    monkeypatch.setenv("MEBAE_SMTP_PORT", str(await relay.start()))
    try:
        await asyncio.to_thread(program.send_test, Wanted("hello", persona="en"), "me@here.example")
    finally:
        await relay.stop()

    [mail] = relay.mails
    assert (mail["To"], mail["Subject"]) == ("me@here.example", "[TEST] Welcome, Emily Carter")
    assert re.search(r"https://www\.example\.jp/a", mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]


def test_a_test_mail_that_no_server_takes_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEBAE_SMTP_PORT", "1")
    with pytest.raises(BadInput, match="mebae doctor"):
        program.send_test(Wanted("hello"), "me@here.example")


def test_check_fails_for_a_fault_in_a_mail_and_not_for_a_hint(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail = project / "scenarios" / "trial" / "hello.ja.md"
    mail.write_text(GOOD.replace("{{ lead.name | sama }}", "{{ lead.company }}"))
    assert checking.check(None)
    assert "would not get this mail" in capsys.readouterr().out

    mail.write_text(GOOD.replace("https://www.example.jp/a", "www.example.jp/a"))
    assert not checking.check(None)
    assert "leads nowhere" in capsys.readouterr().out


def test_another_mail_that_is_broken_hides_no_preview(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = project / "scenarios" / "other"
    other.mkdir()
    (other / "scenario.py").write_text(SCENARIO.replace('"trial"', '"other"'))
    (other / "hello.ja.md").write_text("no front matter")

    program.preview(Wanted("trial/hello"), folder=None, show=False)
    assert "ようこそ" in capsys.readouterr().out
    with pytest.raises(ScenarioError, match="front matter"):
        program.preview(Wanted("other/hello"), folder=None, show=False)
