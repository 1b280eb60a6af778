"""What the composition roots share: the settings, opening the database, running until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from mebae.errors import BadInput, DatabaseUnavailable, MebaeError, ScenarioError
from mebae.resting import Setting
from mebae.settings import Settings
from mebae.store.database import Database
from mebae.store.migrate import migrate

T = TypeVar("T")
log = structlog.get_logger()

RUNNING = "running.json"
"""In the state folder: the environment of a running `mebae up` or `mebae demo`, so that commands meet the same house."""

PREVIEWS = "previews"
"""In the state folder: the mails that were previewed. They may name a lead."""

PLACEHOLDERS = {
    "MEBAE_SENDER_POSTAL": "【仮の住所 / placeholder: MEBAE_SENDER_POSTAL】",
    "MEBAE_SENDER_CONTACT": "【仮の連絡先 / placeholder: MEBAE_SENDER_CONTACT】",
}
"""What `mebae up` and `mebae demo` fill footers with, so that a first mail reaches the embedded inbox: in both languages, as
they stand in mails and pages of either."""

TOKEN_KEY = "token-key"  # noqa: S105 - a file's name
"""In the state folder: what `mebae up` and `mebae demo` sign the links in mails with, unless the environment says."""

_LAST_WORD = 0.2
"""Temporal's threads need a moment, or the interpreter may crash at its exit and spoil the exit code (sdk-python #300)."""


def load_settings() -> Settings:
    """The settings. Where the environment names neither database nor Temporal, a house that runs in the state folder is met."""
    settings = plain_settings()
    if not any(name in os.environ for name in _NAMED):
        running = running_environment(settings.state)
        for name, value in running.items():
            os.environ.setdefault(name, value)
        key = settings.state / TOKEN_KEY
        if running and key.exists():
            os.environ.setdefault("MEBAE_TOKEN_KEYS", key.read_text().strip())
        if running:
            return plain_settings()
    return settings


_NAMED = ("DATABASE_URL", "TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")


def plain_settings() -> Settings:
    """The settings of the environment alone."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "\n".join(f"  {_variable(one['loc'])}: {one['msg']}" for one in error.errors())
        raise BadInput(f"a setting cannot be used:\n{wrong}") from None


def _variable(place: tuple[int | str, ...]) -> str:
    name = str(place[0]).upper()
    return name if name == "DATABASE_URL" else f"MEBAE_{name}"


def running_environment(state: Path) -> dict[str, str]:
    """What the `mebae up` or `mebae demo` that runs in this folder gave its children; empty if none runs."""
    try:
        running = json.loads((state / RUNNING).read_text())
        os.kill(running["pid"], 0)
    except (OSError, ValueError, KeyError):
        return {}
    environment: dict[str, str] = running["environment"]
    return environment


def setting_of(settings: Settings) -> Setting:
    """What of the workspace bears on when a journey wakes."""
    return Setting(settings.time_zone, settings.calendar())


def world_now(settings: Settings) -> datetime:
    return settings.clock().world(datetime.now(UTC))


def open_now(settings: Settings) -> Database:
    """The database with today's tables; `DatabaseUnavailable` if it does not answer."""
    migrate(settings.url())
    return Database(settings.url())


async def open_database(settings: Settings) -> Database:
    """The database with today's tables. Keeps trying while it does not answer."""
    away = False
    while True:
        try:
            await asyncio.to_thread(migrate, settings.url())
            return Database(settings.url())
        except DatabaseUnavailable:
            if not away:
                log.warning("database.away", cure="start it or set DATABASE_URL; trying until it answers")
            away = True
            await asyncio.sleep(1)


# Running until told to stop ------------------------------------------------------------------------------------------


def arguments(text: str) -> Path | None:
    """The one option of the long-running programs: `--ready-file`."""
    parser = argparse.ArgumentParser(description=text, epilog="Everything else is set by the environment: see docs/.")
    parser.add_argument("--ready-file", type=Path, help="written when the program is ready, for supervisors")
    found: Path | None = parser.parse_args().ready_file
    return found


def say_ready(what: str, ready_file: Path | None) -> None:
    """Tells a person and a supervisor that it works from here on."""
    # What has been made so far lives as long as the program. Looking through it for garbage stopped every request for 70 ms,
    # twice a second under load.
    gc.collect()
    gc.freeze()
    print(f"{what} is ready", flush=True)
    if ready_file is not None:
        ready_file.write_text("ready\n")


def run_until_told(work: Callable[[], Awaitable[None]]) -> int:
    """Runs a program until SIGTERM or Ctrl-C (0), bad input (1) or a broken scenario (2); the number is the exit code."""
    factory = _loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_until_told(work))


async def _until_told(work: Callable[[], Awaitable[None]]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(_begun(work))
    for told in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(told, task.cancel)
    try:
        await task
        return 0
    except asyncio.CancelledError:
        return 0
    except ScenarioError as error:
        print(f"{error.counted}, so nothing was started:\n{error}", file=sys.stderr, flush=True)
        return 2
    except MebaeError as error:
        print(str(error), file=sys.stderr, flush=True)
        return 1
    except BaseException:
        log.exception("program.failed")
        return 1
    finally:
        await asyncio.sleep(_LAST_WORD)


async def _begun(work: Callable[[], Awaitable[None]]) -> None:
    """Inside a task already, so that what goes wrong in making the work is handled like what goes wrong in it."""
    await work()


async def with_last_word(work: Coroutine[Any, Any, T]) -> T:
    """For short commands that talk to Temporal: runs the work, then gives its threads their moment."""
    try:
        return await work
    finally:
        await asyncio.sleep(_LAST_WORD)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: the worker needs a third less CPU with it."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
