"""What holds personal data or keys is for its owner alone, whatever the umask of who runs it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mebae.mail.inbox import Inbox
from mebae.private import private_file, private_folder, write_private
from mebae.programs.supervisor import Child
from mebae.sheets import writing
from mebae.store.migrate import migrate


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("open_umask")
def test_a_new_database_and_its_folder_are_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    migrate(f"sqlite:///{state / 'mebae.db'}")
    assert oct(stat.S_IMODE(state.stat().st_mode)) == "0o700"
    kept = {name: mode for name, mode in modes(state).items() if name.removeprefix("mebae.db") in ("", "-wal", "-shm")}
    assert kept
    assert set(kept.values()) == {"0o600"}


@pytest.mark.usefixtures("open_umask")
def test_mails_of_the_inbox_and_exported_lists_are_their_owners_alone(tmp_path: Path) -> None:
    Inbox(tmp_path / "inbox").store("a@example.com", ["b@example.com"], b"Subject: x\r\n\r\n")
    for name in ("leads.csv", "leads.xlsx"):
        with writing(tmp_path / name) as file:
            file.row(["email"])
            file.row(["taro@example.jp"])
    found = modes(tmp_path)
    assert found.pop("inbox") == "0o700"
    assert len(found) == 3
    assert set(found.values()) == {"0o600"}


@pytest.mark.usefixtures("open_umask")
def test_a_state_folder_that_is_made_by_the_way_is_its_owners_alone_too(tmp_path: Path) -> None:
    private_folder(tmp_path / "state" / "previews")
    assert modes(tmp_path) == {"state": "0o700", "previews": "0o700"}


@pytest.mark.usefixtures("open_umask")
def test_a_file_that_was_open_to_all_is_private_once_it_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "hanako.json"
    file.write_text("a longer text than what follows")
    write_private(file, "短い")
    assert (file.read_text(), modes(tmp_path)) == ("短い", {"hanako.json": "0o600"})
    private_file(file)
    assert file.read_text() == "短い", "what is there stays"


@pytest.mark.usefixtures("open_umask")
async def test_what_children_write_is_their_owners_alone(tmp_path: Path) -> None:
    made = tmp_path / "made"

    async def ready() -> bool:
        return made.exists()

    code = f"from pathlib import Path; Path({str(made)!r}).write_text('x'); import time; time.sleep(60)"
    child = Child(
        "child", [sys.executable, "-c", code], folder=tmp_path, log=tmp_path / "logs" / "child.log", environment={}, ready=ready
    )
    await child.start()
    await child.stop()
    assert modes(tmp_path) == {"logs": "0o700", "child.log": "0o600", "made": "0o600"}
