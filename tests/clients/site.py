"""A real server for real clients, and what is then in the database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from sqlmodel import col, select
from starlette.types import ASGIApp, Receive, Scope, Send

from mebae.applier import apply_once
from mebae.clock import WorldClock
from mebae.http.app import create_app
from mebae.store.database import Database
from mebae.store.tables import Event, Lead, Quarantined

KEY = "key-of-the-site"
HANAKO = "hanako.yamada@aoba.example.jp"


class Faulty:
    """ASGI: the server as its clients see it on a bad day. Answers the first posts with these statuses, then is well."""

    def __init__(self, app: ASGIApp, statuses: tuple[int, ...] = ()) -> None:
        self._app, self._left = app, list(statuses)
        self.posts: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self.posts.append(scope["path"])
        if not self._left:
            await self._app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        headers = [
            (b"content-type", b"application/json"),
            (b"retry-after", b"0"),
            (b"access-control-allow-origin", b"*"),
        ]
        await send({"type": "http.response.start", "status": self._left.pop(0), "headers": headers})
        await send({"type": "http.response.body", "body": b'{"code": "bad-day", "message": "Send it again."}'})


class Site:
    """What a test holds in its hands."""

    def __init__(self, database: Database, faulty: Faulty, address: str) -> None:
        self.database, self.address, self._faulty = database, address, faulty

    @property
    def posts(self) -> list[str]:
        """The paths that were posted to."""
        return self._faulty.posts

    def apply(self) -> None:
        """What the worker does all the time."""
        while self.database.write_now(lambda session: apply_once(session, clock=WorldClock()).requests):
            pass

    def leads(self) -> list[Lead]:
        self.apply()
        return list(self.database.write_now(lambda s: s.exec(select(Lead).order_by(col(Lead.id))).all()))

    def events(self, lead: Lead) -> list[Event]:
        query = select(Event).where(Event.lead_id == lead.id).order_by(col(Event.seq))
        return list(self.database.write_now(lambda s: s.exec(query).all()))

    def names(self, lead: Lead) -> list[str]:
        """What a lead did, without what scoring made of it."""
        made_here = ("Lead Created", "Stage Reached", "Qualified")
        return [event.name for event in self.events(lead) if event.name not in made_here]

    def quarantined(self) -> list[str]:
        self.apply()
        return list(self.database.write_now(lambda s: s.exec(select(Quarantined.reason)).all()))

    def until(self, ready: Any, within: float = 20.0) -> None:
        """Waits for what a client does in its own time."""
        end = time.monotonic() + within
        while not ready():
            assert time.monotonic() < end, f"it did not come about; posted: {self.posts}"
            time.sleep(0.05)


@contextmanager
def site(database: Database, *, statuses: tuple[int, ...] = (), **more: Any) -> Iterator[Site]:
    """A server on a free port, in a thread."""
    faulty = Faulty(create_app(database, write_keys=[KEY], clock=WorldClock(), **more), statuses)
    server = uvicorn.Server(uvicorn.Config(faulty, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Site(database, faulty, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
