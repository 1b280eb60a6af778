"""The whole house on one machine: Temporal, worker, server and inbox, and where each of them is.

Everything that it keeps is in one folder, the state: the database, Temporal's file, the inbox, logs, the write key.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mebae.clock import WorldClock
from mebae.errors import BadInput
from mebae.private import FOLDER, private_folder
from mebae.programs.supervisor import Child, Supervisor, file_is_there, port_answers
from mebae.settings import Settings
from mebae.store.turns import TURNS
from mebae.temporal import dev_server_command
from mebae.wiring import PLACEHOLDERS, RUNNING, TOKEN_KEY

TEMPORAL_PORT, UI_PORT = 7233, 8233
LOCK = "lock"


@dataclass(frozen=True)
class House:
    """Where everything is."""

    root: Path
    state: Path
    host: str
    temporal: int
    ui: int
    api: int
    smtp: int
    """The inbox's SMTP port; 0: mail goes to a real server, and there is no inbox."""
    mail_goes_to: str
    write_keys: str
    key_place: str
    page_keys: str
    """What pages may send with."""
    token_keys: str
    """What links in mails are signed with."""
    environment: dict[str, str]
    """What every child is given, without secrets."""
    clock: WorldClock
    notes: list[str] = field(default_factory=list)
    """What is not as one would expect, for the screen."""

    @property
    def api_url(self) -> str:
        return f"http://{_reachable(self.host)}:{self.api}"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.ui}"

    @property
    def inbox_url(self) -> str:
        return f"{self.api_url}/inbox"

    @property
    def database(self) -> str:
        return self.environment["DATABASE_URL"]


def find_root() -> Path:
    """The project's root: the nearest folder upwards with `worker.py` and `scenarios/`, else the one that this code is from."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "worker.py").is_file() and (folder / "scenarios").is_dir():
            return folder
    raise BadInput(f"no project here: go to the folder that holds worker.py and scenarios/ (this is {here})")


def plan_house(
    settings: Settings, *, root: Path, state: Path, clock: WorldClock | None = None, own: Mapping[str, str] | None = None
) -> House:
    """Chooses ports and paths. `clock` and `own` make it a house of its own (the demo): nothing of the caller's settings
    for database, mail and time is taken over."""
    notes: list[str] = []
    ports = _Ports(notes)
    real_mail = own is None and ("smtp_host" in settings.model_fields_set or bool(settings.mail_api_url))
    temporal = ports.free(TEMPORAL_PORT, "Temporal")
    ui = ports.free(UI_PORT, "Temporal's UI")
    api = ports.free(settings.port, "the API", settings.host)
    smtp = 0 if real_mail else ports.free(settings.inbox_port or 8325, "the inbox (SMTP)")
    keep = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    if own is not None:
        keep = {name: value for name, value in keep.items() if not name.startswith("MEBAE_")}
    environment = {
        "MEBAE_STATE": str(state),
        "MEBAE_SCENARIOS": str(root / settings.scenarios),
        "DATABASE_URL": f"sqlite:///{state / 'mebae.db'}" if own is not None or not settings.database_url else settings.database_url,
        "MEBAE_HOST": settings.host,
        "MEBAE_PORT": str(api),
        "MEBAE_INBOX_PORT": str(smtp),
        "TEMPORAL_CONFIG_FILE": str(state / "temporal.toml"),
        **(own or {}),
    }
    if smtp:
        environment |= {"MEBAE_SMTP_HOST": _reachable(settings.host), "MEBAE_SMTP_PORT": str(smtp), "MEBAE_SMTP_TLS": "none"}
        environment |= _placeholders(settings, own, notes)
    else:
        notes += [f"{name} is not set: marketing mail waits until it is" for name in _unset(settings, own)]
    if own is not None or not settings.public_url:
        environment["MEBAE_PUBLIC_URL"] = f"http://{_reachable(settings.host)}:{api}"
    if clock is not None:
        environment |= {"MEBAE_CLOCK_ORIGIN": clock.origin.isoformat(), "MEBAE_CLOCK_SPEED": str(clock.speed)}
    keys, place = _keys(settings.keys(), state, "write-key")
    page_keys, _ = _keys(settings.keys_for_pages(), state, "page-key")
    token_keys = settings.token_keys.get_secret_value() if own is None else ""
    token_keys = token_keys or _kept(state, TOKEN_KEY, f"{datetime.now(UTC):%Y%m%d}:{secrets.token_urlsafe(32)}")
    return House(
        root=root,
        state=state,
        host=settings.host,
        temporal=temporal,
        ui=ui,
        api=api,
        smtp=smtp,
        mail_goes_to="the inbox" if smtp else "{}:{}".format(*settings.mail_server()),
        write_keys=keys,
        key_place=place,
        page_keys=page_keys,
        token_keys=token_keys,
        environment={**keep, "PYTHONUNBUFFERED": "1", **environment},
        clock=clock or settings.clock(),
        notes=notes,
    )


def _placeholders(settings: Settings, own: Mapping[str, str] | None, notes: list[str]) -> dict[str, str]:
    """What the law wants in every mail, made up where nobody has set it: for mail that goes to the inbox and to nobody else.
    With a real mail server the gate holds all mail until it is set."""
    unset = _unset(settings, own)
    if unset:
        notes.append(f"mails show a placeholder until you set {' and '.join(unset)}")
    return {name: PLACEHOLDERS[name] for name in unset}


def _unset(settings: Settings, own: Mapping[str, str] | None) -> list[str]:
    """What the law wants in every mail and nobody has set."""
    given = {"MEBAE_SENDER_POSTAL": settings.sender_postal, "MEBAE_SENDER_CONTACT": settings.sender_contact}
    return [name for name, value in given.items() if not value.strip() and name not in (own or {})]


async def furnish(house: House, supervisor: Supervisor) -> None:
    """Starts everything in order, each when the one before it is ready."""
    state, logs = house.state, house.state / "logs"
    for log in logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
    (state / "temporal.toml").write_text(f'[profile.default]\naddress = "127.0.0.1:{house.temporal}"\nnamespace = "default"\n')
    environment = {**house.environment, "MEBAE_WRITE_KEYS": house.write_keys, "MEBAE_PAGE_KEYS": house.page_keys}
    environment["MEBAE_TOKEN_KEYS"] = house.token_keys

    def program(name: str) -> Child:
        ready = state / f"{name}.ready"
        command = [sys.executable, f"{name}.py", "--ready-file", str(ready)]
        return Child(
            name, command, folder=house.root, log=logs / f"{name}.log", environment=environment, ready=file_is_there(ready)
        )

    await supervisor.add(
        Child(
            "temporal",
            dev_server_command(port=house.temporal, ui_port=house.ui, file=state / "temporal.db"),
            folder=house.root,
            log=logs / "temporal.log",
            environment=house.environment,
            ready=port_answers("127.0.0.1", house.temporal),
        )
    )
    # The server first, as it holds the inbox: the worker then finds its mail server.
    await supervisor.add(program("server"))
    await supervisor.add(program("worker"))


@contextlib.contextmanager
def occupied(state: Path) -> Iterator[None]:
    """Holds the state folder: one house lives in it. The folder is its owner's alone, for it holds personal data."""
    private_folder(state)
    state.chmod(FOLDER)  # also one that an earlier version made
    with (state / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"another mebae already runs in {state}: end it first, or set MEBAE_STATE to another folder") from None
        yield


def empty(state: Path) -> None:
    """Fresh state: deletes everything in an occupied folder but its lock. Only what a house made itself is touched."""
    strange = [path.name for path in state.iterdir() if path.name not in _OURS and path.suffix not in (".ready", ".tmp")]
    if strange:
        raise BadInput(
            f"{state} holds things that are not ours ({', '.join(sorted(strange)[:3])}), so it is not emptied: "
            "move them elsewhere, or delete the folder yourself"
        )
    for path in state.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


_OURS = {
    *(f"{name}.db{tail}" for name in ("mebae", "temporal") for tail in ("", "-wal", "-shm", "-journal", *TURNS)),
    LOCK, RUNNING, "inbox", "logs", "temporal.toml", "write-key", "page-key", TOKEN_KEY,
}  # fmt: skip


@contextlib.contextmanager
def announced(house: House) -> Iterator[None]:
    """Says for other commands that this house runs, and how to meet it."""
    path = house.state / RUNNING
    shared = {
        name: value
        for name, value in house.environment.items()
        if name in ("DATABASE_URL", "TEMPORAL_CONFIG_FILE") or (name.startswith("MEBAE_") and name not in _SECRET)
    }
    _write_private(path, json.dumps({"pid": os.getpid(), "environment": shared}, indent=1))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


_SECRET = (
    "MEBAE_WRITE_KEYS", "MEBAE_PAGE_KEYS", "MEBAE_SMTP_PASSWORD", "MEBAE_TOKEN_KEYS", "MEBAE_MAIL_API_KEY", "MEBAE_DKIM_KEY",
)  # fmt: skip


def _keys(given: Sequence[str], state: Path, name: str) -> tuple[str, str]:
    """The keys of the environment, or one that is made once and kept under this name; and where they are."""
    if given:
        return ",".join(given), f"MEBAE_{name.replace('-', '_').upper()}S"
    return _kept(state, name, secrets.token_urlsafe(24)), str(state / name)


def _kept(state: Path, name: str, new: str) -> str:
    """A secret of the state folder, made once."""
    path = state / name
    if not path.exists():
        _write_private(path, new + "\n")
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _reachable(host: str) -> str:
    """An address for one's own browser."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104


class _Ports:
    """Free ports, each given once; what is not where one would expect it is noted."""

    def __init__(self, notes: list[str]) -> None:
        self._notes, self._given = notes, set[int]()

    def free(self, wanted: int, what: str, host: str = "127.0.0.1") -> int:
        for port in (*range(wanted, min(wanted + 50, 65536)), 0):
            if port in self._given:
                continue
            try:
                with socket.create_server((host, port)) as found:
                    number = int(found.getsockname()[1])
            except OSError:
                continue
            self._given.add(number)
            if number != wanted:
                self._notes.append(f"port {wanted} is in use, so {what} is on {number}")
            return number
        raise BadInput(f"no free port for {what} near {wanted}")
