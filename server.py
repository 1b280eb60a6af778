"""The HTTP server: takes in what leads do, answers the links of their mails, and shows the inbox. Beside it, by SMTP, what
comes back about mails.

Composition root: settings → adapters → HTTP app.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import structlog
import uvicorn

from mebae import wiring
from mebae.beside import load_beside
from mebae.errors import BadInput
from mebae.forms_loading import FormBook
from mebae.http.app import create_app
from mebae.http.crm import CrmIntake
from mebae.http.handover import HandoverPages
from mebae.http.lead_side import LeadSide
from mebae.logs import configure_logging
from mebae.machines import machines_with
from mebae.mail.inbox import Inbox, InboxServer
from mebae.mail.inbox_pages import inbox_routes
from mebae.mail.wiring import mail_settings, return_server_of
from mebae.settings import Settings

log = structlog.get_logger()


async def run(settings: Settings, ready_file: Path | None) -> None:
    """Runs until cancelled or told by a signal."""
    listening = _listen(settings.host, settings.port)
    database = await wiring.open_database(settings)
    if not settings.keys():
        log.warning("server.no_write_keys", cure="set MEBAE_WRITE_KEYS; until then every event is refused (401)")
    inbox = Inbox(settings.state / "inbox")
    smtp = InboxServer(inbox, host=settings.host, port=settings.inbox_port)
    rules = load_beside(settings.scenarios).mailing
    machines = machines_with(settings.machines)
    mail = LeadSide(database, mail_settings(settings, rules), settings.clock(), machines=machines)
    returns = return_server_of(settings, database)
    sales = HandoverPages(
        database, mail_settings(settings, rules), settings.clock(), wiring.setting_of(settings), settings.keys()
    )
    crm = CrmIntake(database, os.environ, settings.clock(), wiring.setting_of(settings), settings.public_url)
    shown = [inbox_routes(inbox, zone=settings.time_zone)] if settings.inbox_port else []
    app = create_app(
        database,
        write_keys=settings.keys(),
        page_keys=settings.keys_for_pages(),
        allowed_origins=settings.origins(),
        clock=settings.clock(),
        forms=FormBook(settings.scenarios),
        extra_routers=[*mail.routers, sales.routes(), crm.routes(), *shown],
        limits=settings.intake_limits(),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5, timeout_keep_alive=65
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        if settings.inbox_port:
            smtp.start()
        if returns is not None:
            returns.start()
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        if server.started:
            wiring.say_ready(f"server on http://{settings.host}:{settings.port}", ready_file)
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        await mail.aclose()
        await asyncio.to_thread(smtp.stop)
        if returns is not None:
            await asyncio.to_thread(returns.stop)
        await asyncio.to_thread(database.close)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except OSError as error:
        raise BadInput(f"cannot listen on {host}:{port} ({error.strerror}): set MEBAE_HOST and MEBAE_PORT") from None


if __name__ == "__main__":
    ready_file = wiring.arguments("Takes in events over HTTP (the Segment spec) and shows the embedded inbox.")
    configure_logging()
    sys.exit(wiring.run_until_told(lambda: run(wiring.load_settings(), ready_file)))
