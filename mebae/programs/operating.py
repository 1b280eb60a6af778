"""`mebae journeys …`: pause, resume and end, through the journey's own updates."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Literal

from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from mebae import contracts, wiring
from mebae.contracts import EndRequest
from mebae.errors import BadInput, MebaeError, NotFound
from mebae.programs.screen import screen
from mebae.temporal import TemporalAway, connect

PATIENCE = timedelta(seconds=10)
"""How long the journey may take to answer: its worker may be away."""

DONE = {"pause": "paused", "resume": "goes on", "end": "ended"}


def operate(workflow_id: str, verb: Literal["pause", "resume", "end"], outcome: str | None = None) -> None:
    """Carries out one update and says so. Raises `NotFound` or `BadInput` with the journey's own word."""
    wiring.load_settings()
    asyncio.run(wiring.with_last_word(_operate(workflow_id, verb, outcome)))
    screen().print(f"[green]✓[/] {workflow_id} {DONE[verb]}")


async def _operate(workflow_id: str, verb: Literal["pause", "resume", "end"], outcome: str | None) -> None:
    client = await connect(patience=timedelta(seconds=3))
    handle = client.get_workflow_handle(workflow_id)
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            if verb == "end":
                await handle.execute_update(contracts.END, EndRequest(outcome=outcome or "ended-by-hand"))
            else:
                await handle.execute_update({"pause": contracts.PAUSE, "resume": contracts.RESUME}[verb])
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise BadInput(cause.message if isinstance(cause, ApplicationError) else f"the journey did not {verb}") from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound("running journey", workflow_id) from None
        raise TemporalAway(f"Temporal did not answer ({error.status.name.lower()})") from None
    except TimeoutError:
        raise MebaeError("the journey does not answer: does a worker run? The request is kept and carried out when one does") from None
