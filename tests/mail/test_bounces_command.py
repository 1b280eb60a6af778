"""`mebae bounces` and `mebae sending`: what ops does with what came back."""

from __future__ import annotations

import hashlib
import mailbox
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mebae import cli
from mebae.errors import BadInput
from mebae.mail.mailboxes import mails_in, size_of
from mebae.store.database import Database
from tests.mail.mailbox import DAY, Mailbox
from tests.mail.report_cases import NOW, TO, load

Run = Callable[..., str]


@pytest.fixture
def run(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command, as a person in November 2026 gives it."""
    for name, value in {
        "DATABASE_URL": sqlite_database.url, "MEBAE_STATE": str(tmp_path / "state"), "COLUMNS": "160",
        "MEBAE_TOKEN_KEYS": "20260101:a-secret-of-the-tests",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mebae.wiring.world_now", lambda _settings: NOW + DAY / 2)

    def command(*arguments: str) -> str:
        done = CliRunner().invoke(cli.commands, list(arguments))
        if done.exception is not None:
            raise done.exception
        return done.output

    return command


def filled(box: Mailbox) -> list[bytes]:
    """What a return mailbox holds after a week."""
    sato = box.sent(box.lead())
    mori = box.sent(box.lead("mori@tsubaki.example"))
    abe = box.sent(box.lead("abe@hinoki.example"))
    return [
        load("postfix-mailbox-unknown", delivery=sato),
        load("postfix-mailbox-full", delivery=mori, to="mori@tsubaki.example"),
        load("arf-redacted", delivery=abe),
        load("taishoku-japanese", delivery=sato),
        load("forged-names-only-the-address"),
        b"From: Aunt <aunt@family.example>\nTo: hello@mebae.example\nSubject: Private\n\nHow are you?\n",
    ]


def maildir(path: Path, raws: list[bytes]) -> Path:
    box = mailbox.Maildir(path, create=True)
    for number, raw in enumerate(raws):
        key = box.add(raw)
        if number % 2:
            message = box[key]
            message.set_subdir("cur")
            message.add_flag("S")
            box[key] = message
    return path


def mbox(path: Path, raws: list[bytes]) -> Path:
    box = mailbox.mbox(path, create=True)
    for raw in raws:
        box.add(raw)
    box.close()
    return path


def eml(path: Path, raws: list[bytes]) -> Path:
    path.mkdir()
    for number, raw in enumerate(raws):
        (path / f"{number}.eml").write_bytes(raw)
    return path


def fingerprint(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def summary(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line and line[0].isalpha()}


@pytest.mark.parametrize("kind", [maildir, mbox, eml])
def test_mailbox_is_read_once_however_often_and_stays_as_it_is(
    run: Run, sqlite_database: Database, tmp_path: Path, kind: Callable[[Path, list[bytes]], Path]
) -> None:
    box = Mailbox(sqlite_database)
    path = kind(tmp_path / "returns", filled(box))
    before = fingerprint(path)

    first, second = run("bounces", "read", str(path)), run("bounces", "read", str(path))

    assert "6 mails read" in first
    said = summary(first)
    assert [name for name in said if "-" in name or name in ("complaint", "unknown")] == [
        "bounce-hard", "bounce-soft", "complaint", "auto-reply", "unknown",
    ]  # fmt: skip
    assert (said["bounce-hard"], said["bounce-soft"], said["unknown"]) == (["1", "1"], ["1"], ["1"])
    assert (box.suppressed(), box.suppressed("abe@hinoki.example")) == ("hard-bounce", "complaint")
    assert box.suppressed("mori@tsubaki.example") is None
    assert b"How are you" not in b"".join(report.raw or b"" for report in box.reports()), "private mail is not kept"
    assert len(box.reports()) == 5
    assert "known already" in second
    assert len(box.reports()) == 5
    assert [len(box.events(lead)) for lead in (1, 2, 3)] == [2, 1, 1]
    assert fingerprint(path) == before


def test_what_came_by_smtp_is_known_in_the_maildir(run: Run, sqlite_database: Database, tmp_path: Path) -> None:
    box = Mailbox(sqlite_database)
    raws = filled(box)
    for raw in raws[:4]:
        box.incoming.take(raw.replace(b"\n", b"\r\n"), to=[str(message_from_bytes(raw)["To"])])

    output = run(
        "bounces", "read", str(maildir(tmp_path / "returns", [b"Delivered-To: x@y.example\n" + raw for raw in raws]))
    )

    assert "known already" in output
    assert len(box.reports()) == 5


def test_mails_of_an_mbox_come_apart_where_they_should(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(
        b"From MAILER-DAEMON Fri Nov 27 10:00:00 2026\nSubject: one\n\nFrom here on it is the same mail,\n>From a quoted line\n\n"
        b"From x@y Fri Nov 27 10:00:00 2026\r\nSubject: two\r\n\r\nbody\r\n\r\n"
        + b"From z Fri Nov 27 1:00:00 2026\n"
        + b"Subject: three\n\n"
        + b"x" * 200_000
    )

    mails = list(mails_in(path))

    assert [mail.raw[:12] for mail in mails] == [b"Subject: one", b"Subject: two", b"Subject: thr"]
    assert b"From here on" in mails[0].raw
    assert b"\nFrom a quoted line" in mails[0].raw
    assert mails[2].raw.endswith(b"x" * 1000)
    assert mails[-1].done == size_of(path)


def test_path_that_is_no_mailbox_is_told(tmp_path: Path, run: Run) -> None:
    with pytest.raises(BadInput, match="no such mailbox"):
        run("bounces", "read", str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="is no maildir"):
        run("bounces", "read", str(tmp_path / "empty"))
    with pytest.raises(BadInput, match="did you mean 'bounce-hard'"):
        run("bounces", "list", "--kind", "bounce-hart")


def test_list_shows_nothing_personal_and_show_shows_all(run: Run, sqlite_database: Database, tmp_path: Path) -> None:
    box = Mailbox(sqlite_database)
    assert "nothing came back" in run("bounces", "list")
    run("bounces", "read", str(eml(tmp_path / "returns", filled(box))))

    output = run("bounces", "list")

    assert "@" not in output
    assert "mailbox-unknown" in output
    assert "whitepaper-followup/thanks" in output
    assert "without proof" in output
    assert "auto-reply" in output
    assert "bounce-hard" not in run("bounces", "list", "--kind", "complaint")
    shown = run("bounces", "show", "1")
    assert TO in shown
    assert "the mail cannot be delivered" in shown


def test_sending_is_paused_and_resumed_by_hand(run: Run, sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    assert "Marketing mail goes out" in run("sending", "status")
    assert "is paused" in run("sending", "pause")
    assert "was paused already" in run("sending", "pause")
    assert box.workspace().sending_paused_why == "by-hand"
    assert "by hand" in run("sending", "status")
    assert "goes on" in run("sending", "resume")
    assert "was not paused" in run("sending", "resume")
    assert box.workspace().sending_paused_at is None


def test_status_says_what_came_back_and_how_to_go_on(run: Run, sqlite_database: Database) -> None:
    box = Mailbox(sqlite_database)
    for number in range(3):
        email = f"lead{number}@hinoki.example"
        box.comes("arf-redacted", box.sent(box.lead(email)), email=email, unique=f"{number}")
    for number in range(5):
        email = f"gone{number}@aoba.example"
        box.comes("postfix-mailbox-unknown", box.sent(box.lead(email)), email=email, unique=f"h{number}")
    box.comes("blocked-by-list", box.sent(box.lead("fine@tsubaki.example"), at=NOW - DAY))

    output = run("sending", "status")

    assert "Marketing mail is paused since 2026-11-27 10:00, because of complaints" in output
    assert "complaints 0.30 % (3 of 9 mails in 7 days; a warning from 0.1 %, a pause from 0.3 %)" in output
    assert "hard bounces 2.50 % (5 of 9 mails; a warning from 2 %)" in output
    assert "mebae sending resume" in output
    rows = [line.split() for line in output.splitlines()]
    assert ["2026-11-27", "Fri", "8", "5", "62.50", "%", "·", "3", "37.50", "%", "·"] in rows
    assert ["2026-11-26", "Thu", "1", "·", "1", "·", "·"] in rows
    assert "Why mails came back in 14 days: mailbox-unknown 5, blocked 1" in output
    assert "blocked: that is about our mails and our server, and suppresses nobody" in output
    domains = [row[0] for row in rows if row and row[0].endswith(".example")]
    assert domains == ["aoba.example", "hinoki.example", "tsubaki.example"]

    run("sending", "resume")
    again = run("sending", "status")
    assert "Complaints count since 2026-11-27 22:00" in again
    assert "complaints 0.00 %" in again
