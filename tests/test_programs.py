"""The programs as processes: they start, say what is wrong, end cleanly, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlmodel import Session, select

from mebae.errors import BadInput
from mebae.loading import load_all
from mebae.programs.house import empty, plan_house
from mebae.programs.story import Sight, Story
from mebae.publishing import publish
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.migrate import migrate
from mebae.store.scoring import QUALIFIED
from mebae.store.tables import Event, JourneyRow, Lead, PublishedMail, PublishedScenario, ScenarioVersion
from tests.dev_server import dev_server, free_ports

ROOT = Path(__file__).parents[1]
ONE_HOUSE_AT_A_TIME = pytest.mark.xdist_group("houses")
"""A house looks for free ports, and its programs take them seconds later: two that start at once would choose the same."""
NOW = datetime(2026, 4, 1, 1, 0, tzinfo=UTC)
SCENARIO = """
from mebae.authoring import *

scenario = Scenario("hello", title="Hello", enters_on=downloaded("a"), steps=[send("thanks"), wait(days(1)), send({second!r})])
"""
MAIL = "---\nsubject: Hello\n---\nHello {{ lead.name }}\n"


class Program:
    """A process of ours with all that it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := await self.process.stdout.read(4096):
            self.said += chunk.decode(errors="replace")

    async def says(self, what: str, seconds: float = 60) -> str:
        try:
            async with asyncio.timeout(seconds):
                while not (found := re.search(what, self.said)):
                    assert not self._reader.done(), f"ended without saying {what!r}:\n{self.said}"
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never said {what!r}:\n{self.said}") from None
        return found[0]

    async def ends(self, seconds: float = 60) -> int:
        async with asyncio.timeout(seconds):
            await self._reader
            return await self.process.wait()

    async def told_to_end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return await self.ends()


@asynccontextmanager
async def running(*words: str, cwd: Path = ROOT, **environment: str) -> AsyncIterator[Program]:
    """A Python program of ours in a clean environment; it is ended by its id if the test has not done so."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEBAE_", "TEMPORAL_", "DATABASE_"))}
    # Ports of its own: houses that look for some at the same time would all find the same.
    api, inbox = map(str, free_ports(2))
    ports = {"MEBAE_PORT": api, "MEBAE_INBOX_PORT": inbox} if words[:2] == ("-m", "mebae") else {}
    own = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | ports
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=cwd, env={**clean, **own, **environment},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await program.ends()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one small scenario, beside the real programs."""
    root = tmp_path / "project"
    for name in ("worker.py", "server.py", "starter.py"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name in ("workflows", "activities"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "scenarios" / "layouts", root / "scenarios" / "layouts")
    write_scenario(root, "second")
    return root


def write_scenario(root: Path, second: str) -> None:
    folder = root / "scenarios" / "hello"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenario.py").write_text(SCENARIO.format(second=second))
    (folder / "thanks.md").write_text(MAIL)
    (folder / "second.md").write_text(MAIL)


def children(pid: int) -> dict[str, int]:
    """The programs that a process runs, by a word of their command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        found[next(word for word in ("worker", "server.py", "temporal") if word in line)] = int(child)
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(what: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.05)


def status_of(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


# The worker ----------------------------------------------------------------------------------------------------------


async def test_a_worker_with_broken_scenarios_lists_every_problem_and_changes_nothing(project: Path, tmp_path: Path) -> None:
    write_scenario(project, "secnd")
    (project / "scenarios" / "hello" / "thanks.md").write_text("---\nsubject: [\n---\nHello")
    async with running("worker.py", cwd=project, MEBAE_STATE=str(tmp_path / "state")) as worker:
        assert await worker.ends() == 2
    assert "scenarios/hello/scenario.py: step 'secnd': " in worker.said
    assert "did you mean 'second'?" in worker.said
    assert "scenarios/hello/thanks.md" in worker.said
    assert "Traceback" not in worker.said
    assert not (tmp_path / "state").exists()


async def test_a_worker_without_temporal_and_mail_server_says_so_goes_on_trying_and_ends_cleanly(project: Path, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    state = {"MEBAE_STATE": str(tmp_path / "state"), "MEBAE_SMTP_PORT": "1"}
    async with running("worker.py", cwd=project, TEMPORAL_ADDRESS=f"127.0.0.1:{port}", **state) as worker:
        await worker.says(rf"temporal\.away.*127\.0\.0\.1:{port}")
        assert await worker.told_to_end() == 0
    async with dev_server(tmp_path) as temporal:
        ready = tmp_path / "ready"
        async with running(
            "worker.py", "--ready-file", str(ready), cwd=project, TEMPORAL_ADDRESS=temporal.address, **state
        ) as worker:
            await worker.says("worker is ready")
            await worker.says(r"mail_server\.away.*none is lost")
            assert ready.exists()
            assert await worker.told_to_end(signal.SIGINT) == 0
    assert "Traceback" not in worker.said


async def test_a_wrong_namespace_or_setting_is_said_in_words(project: Path, tmp_path: Path) -> None:
    async with dev_server(tmp_path) as temporal:
        place = {"MEBAE_STATE": str(tmp_path), "TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_NAMESPACE": "nowhere"}
        async with running("worker.py", cwd=project, **place) as worker:
            assert await worker.ends() == 1
    assert "namespace 'nowhere'" in worker.said
    async with running("worker.py", cwd=project, MEBAE_SMTP_CONNECTIONS="many") as worker:
        assert await worker.ends() == 1
    assert "MEBAE_SMTP_CONNECTIONS: " in worker.said
    assert "Traceback" not in worker.said


# The server ----------------------------------------------------------------------------------------------------------


async def test_the_server_refuses_without_a_key_shows_the_inbox_and_ends_cleanly(project: Path, tmp_path: Path) -> None:
    port, smtp = free_ports(2)
    place = {"MEBAE_STATE": str(tmp_path / "state"), "MEBAE_PORT": str(port), "MEBAE_INBOX_PORT": str(smtp), "MEBAE_WRITE_KEYS": "k"}
    async with running("server.py", cwd=project, **place) as server:
        await server.says("server on .* is ready")
        assert await asyncio.to_thread(status_of, f"http://127.0.0.1:{port}/inbox") == 200
        assert await asyncio.to_thread(status_of, f"http://127.0.0.1:{port}/healthz") == 200
        socket.create_connection(("127.0.0.1", smtp)).close()
        async with running("server.py", cwd=project, **place) as second:
            assert await second.ends() == 1
        assert f"cannot listen on 127.0.0.1:{port}" in second.said
        assert "Traceback" not in second.said
        assert await server.told_to_end() == 0
    assert "Traceback" not in server.said


# Publishing ----------------------------------------------------------------------------------------------------------


def test_what_the_files_say_is_published_and_a_scenario_whose_file_is_gone_takes_nobody(project: Path, database: Database) -> None:
    def publish_all() -> tuple[dict[str, tuple[str, bool]], int]:
        database.write_now(publish, load_all(project), root=project / "scenarios", now=NOW)
        return database.write_now(what_is_published)

    def what_is_published(session: Session) -> tuple[dict[str, tuple[str, bool]], int]:
        rows = session.exec(select(PublishedScenario)).all()
        return {row.scenario: (row.version, row.active) for row in rows}, len(session.exec(select(ScenarioVersion)).all())

    first, count = publish_all()
    assert (count, first["hello"][1]) == (1, True)
    assert publish_all() == (first, 1)
    write_scenario(project, "thanks")
    (project / "scenarios" / "hello" / "scenario.py").write_text(SCENARIO.replace("days(1)", "days(2)").format(second="second"))
    second, count = publish_all()
    assert count == 2
    assert second["hello"][0] != first["hello"][0]
    shutil.rmtree(project / "scenarios" / "hello")
    third, count = publish_all()
    assert (third["hello"], count) == ((second["hello"][0], False), 2)
    mails = database.write_now(lambda session: {(row.scope, row.mail) for row in session.exec(select(PublishedMail))})
    assert ("hello", "second") in mails
    assert ("layouts", "default") in mails


# mebae check, import-leads -------------------------------------------------------------------------------------------


async def test_check_shows_what_there_is_or_every_problem(project: Path) -> None:
    async with running("-m", "mebae", "check", cwd=project) as good:
        assert await good.ends() == 0
    assert re.search(r"✓\s+hello\s+[0-9a-f]{16}", good.said)
    write_scenario(project, "secnd")
    async with running("-m", "mebae", "check", "hello", cwd=project) as bad:
        assert await bad.ends() == 1
    assert "scenarios/hello/scenario.py: step 'secnd'" in bad.said
    async with running("-m", "mebae", "check", "helo", cwd=project / "scenarios") as unknown:
        assert await unknown.ends() == 1
    assert "did you mean 'hello'?" in unknown.said


async def test_bad_rows_of_a_list_are_shown_with_line_column_and_reason_and_the_good_ones_go_in(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("email,name,score\nsato@aoba.example,佐藤,50\nnot an address,加藤,1\nito@aoba.example,伊藤,20\n")
    state = {"MEBAE_STATE": str(tmp_path / "state")}
    async with running("-m", "mebae", "import-leads", str(file), cwd=project, **state) as program:
        assert await program.ends() == 1
    assert "3 rows, 2 new, 0 changed, 0 unchanged, 1 left out" in program.said
    assert re.search(r"3\s+email\s+not an address", program.said)
    async with running("-m", "mebae", "import-leads", str(file), cwd=project, **state) as program:
        assert await program.ends() == 1
    assert "0 new, 0 changed, 2 unchanged" in program.said
    async with running("-m", "mebae", "import-leads", "nowhere.csv", cwd=project, **state) as program:
        assert await program.ends() == 1
    assert "nowhere.csv: no such file" in program.said


# mebae up ------------------------------------------------------------------------------------------------------------


@ONE_HOUSE_AT_A_TIME
@pytest.mark.timeout(300)
def test_a_house_with_its_own_inbox_shows_placeholders_and_one_with_a_mail_server_says_what_is_missing(tmp_path: Path) -> None:
    """What the law wants in a mail is made up only where the mail reaches nobody."""
    inside = plan_house(Settings(), root=ROOT, state=tmp_path)
    assert "MEBAE_SENDER_POSTAL" in inside.environment["MEBAE_SENDER_POSTAL"]
    assert any("placeholder until you set MEBAE_SENDER_POSTAL and MEBAE_SENDER_CONTACT" in note for note in inside.notes)
    mine = plan_house(Settings(sender_postal="東京都", sender_contact="desk@example.com"), root=ROOT, state=tmp_path)
    assert "MEBAE_SENDER_POSTAL" not in mine.environment
    real = plan_house(Settings(smtp_host="127.0.0.1", sender_contact="desk@example.com"), root=ROOT, state=tmp_path)
    assert "MEBAE_SENDER_POSTAL" not in real.environment
    assert "MEBAE_SENDER_POSTAL is not set: marketing mail waits until it is" in real.notes


@ONE_HOUSE_AT_A_TIME
@pytest.mark.timeout(300)
async def test_up_runs_the_house_and_ends_without_leftovers(project: Path) -> None:
    state = project / ".mebae"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running("-m", "mebae", "up", cwd=project, MEBAE_PORT=str(port)) as up:
            await up.says("Mebae is up")
            await up.says("Ctrl-C ends it")
            assert f"port {port} is in use, so the API is on" in up.said
            api = re.search(r"(http://\S+)/inbox", up.said)
            ui = re.search(r"Temporal UI\s+(http://\S+)", up.said)
            assert api is not None
            assert ui is not None
            assert await asyncio.to_thread(status_of, f"{api[1]}/healthz") == 200
            assert await asyncio.to_thread(status_of, ui[1]) == 200
            key = state / "write-key"
            assert key.stat().st_mode & 0o777 == 0o600
            assert key.read_text().strip() not in (state / "running.json").read_text()
            programs = children(up.process.pid)
            assert set(programs) == {"temporal", "worker", "server.py"}

            async with running("-m", "mebae", "up", cwd=project) as second:
                assert await second.ends() == 1
            assert "another mebae already runs" in second.said

            await ops_at_work(project, state)

            assert await up.told_to_end(signal.SIGINT) == 0
            assert not [name for name, pid in programs.items() if lives(pid)]
            assert not (state / "running.json").exists()
    assert "Traceback" not in up.said
    assert "Traceback" not in "".join(log.read_text() for log in (state / "logs").glob("*.log"))


async def ops_at_work(project: Path, state: Path) -> None:
    """Commands of the same folder meet this house, wherever its ports are."""

    async def run(*words: str) -> tuple[int, str]:
        async with running(*words, cwd=project) as program:
            return await program.ends(), program.said

    leads = project / "leads.csv"
    leads.write_text("email,name\nsato@aoba.example,佐藤\n")
    assert (await run("-m", "mebae", "import-leads", str(leads), "--consent", "form"))[0] == 0
    code, said = await run("starter.py", "start", "hello", "--lead", "sato@aoba.example")
    assert (code, "runs: journey/hello/1" in said) == (0, True)
    await until(lambda: len(list((state / "inbox").glob("*.eml"))) == 1)

    journeys = ("-m", "mebae", "journeys")
    assert (await run(*journeys, "pause", "journey/hello/1"))[0] == 0
    code, said = await run(*journeys, "pause", "journey/hello/1")
    assert (code, "paused already" in said) == (1, True)
    assert (await run(*journeys, "resume", "journey/hello/1"))[0] == 0
    assert (await run(*journeys, "end", "journey/hello/1", "--outcome", "called"))[0] == 0
    code, said = await run("starter.py", "list")
    assert (code, "called" in said) == (0, True)
    code, said = await run(*journeys, "pause", "journey/hello/2")
    assert (code, "running journey 'journey/hello/2' not found" in said) == (1, True)
    assert "Traceback" not in said


@ONE_HOUSE_AT_A_TIME
async def test_a_part_that_dies_ends_the_house_with_the_end_of_its_log(project: Path) -> None:
    async with running("-m", "mebae", "up", cwd=project) as up:
        await up.says("Mebae is up")
        programs = children(up.process.pid)
        os.kill(programs["worker"], signal.SIGKILL)
        assert await up.ends() == 1
        assert not [name for name, pid in programs.items() if lives(pid)]
    assert "worker ended by itself (killed by signal 9)" in up.said
    assert "worker is ready" in up.said  # its log
    write_scenario(project, "secnd")
    async with running("-m", "mebae", "up", cwd=project) as up:
        assert await up.ends() == 1
    assert "step 'secnd'" in up.said


@ONE_HOUSE_AT_A_TIME
@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
async def test_children_do_not_outlive_a_killed_parent(project: Path) -> None:
    async with running("-m", "mebae", "up", cwd=project) as up:
        await up.says("Mebae is up")
        programs = children(up.process.pid)
        up.process.kill()
        assert await up.ends() == -signal.SIGKILL
        await until(lambda: not [name for name, pid in programs.items() if lives(pid)])
    assert json.loads((project / ".mebae" / "running.json").read_text())["pid"] == up.process.pid
    async with running("starter.py", "list", cwd=project) as listing:  # a dead house's file misleads nobody
        assert await listing.ends() == 0


# mebae demo ----------------------------------------------------------------------------------------------------------


@ONE_HOUSE_AT_A_TIME
@pytest.mark.timeout(300)
async def test_the_demo_tells_its_story_and_every_mail_arrives(tmp_path: Path) -> None:
    async with running("-m", "mebae", "demo", "--seconds-a-day", "1.2", MEBAE_STATE=str(tmp_path)) as demo:
        assert await demo.ends(240) == 0, demo.said
    mails = ("thanks", "case-study", "demo-invitation", "seminar-invitation")
    scored = ("reached interest", "reached consideration", "★ MQL", "qualified mql", "mebae lead show", "fit", "engagement")
    given = (
        "handed over to sales", "accepted by sales", "◆ SQL", "◆ 商談 opportunity (JPY 1,800,000)", "rejected by sales (連絡がつかない)",
        "again, ", "sales is to call (アンケートで面談を希望)", "sales has called (appointment)", "sales reminded",
        "escalated to the manager (森 恵 is told)", "expired, back to nurturing", "Hand-overs",
    )  # fmt: skip
    for told in ("leads imported", "journeys began", *mails, "left early", *scored, *given):
        assert told in demo.said, demo.said
    state = tmp_path / "demo"
    assert re.search(rf"MEBAE_STATE={re.escape(str(state))} \S+/mebae lead show \S+@", demo.said), "a command as it is typed"
    assert re.search(rf"Commands +MEBAE_STATE={re.escape(str(state))} \S+/mebae leads", demo.said)
    assert "Days go on" in demo.said
    assert "still rest" not in demo.said.partition("Journeys")[2]
    assert len(list((tmp_path / "demo" / "inbox").glob("*.eml"))) > 80


def test_who_is_not_taken_is_told_after_what_may_be_why() -> None:
    lead = Lead(id=1, email="sato@aoba.example", name="佐藤 健二", company="青葉精機")
    refused = JourneyRow(
        entry=1, lead_id=1, scenario="follow", version="v", status="refused", reason="audience", entered_at=NOW, cause="c",
    )  # fmt: skip
    ripe = Event(lead_id=1, seq=1, name=QUALIFIED, occurred_at=NOW, properties={"qualification": "mql", "score": 112})
    story, sight = Story(ZoneInfo("Asia/Tokyo"), NOW), Sight([(refused, lead)], [], {}, [(ripe, lead)], {}, 1, 0)
    assert story.tell(sight, NOW) == []
    _, mql, not_taken = story.rest(sight)
    assert "★ MQL" in mql
    assert "not taken by follow" in not_taken


def test_fresh_state_is_never_made_of_somebody_elses_folder(tmp_path: Path) -> None:
    (tmp_path / "mebae.db").touch()
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        empty(tmp_path)
    (tmp_path / "thesis.txt").unlink()
    empty(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_can_be_run_again_for_all_that_a_database_leaves_beside_itself_is_ours(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mebae.db"
    migrate(url)
    database = Database(url)
    database.write_now(lambda session: None)
    assert len(list(tmp_path.iterdir())) >= 3, "the database, and the files of its turns"
    database.close()
    empty(tmp_path)
    assert list(tmp_path.iterdir()) == []
