"""`mebae journeys …`: pause, resume and end, through the workflow's own updates. A broadcast's run has the same."""

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
"""How long it may take to answer: its worker may be away."""

DONE = {"pause": "paused", "resume": "goes on", "end": "ended"}


def operate(
    workflow_id: str, verb: Literal["pause", "resume", "end"], outcome: str | None = None, *, called: str = "journey"
) -> None:
    """Carries out one update and says so. Raises `NotFound` or `BadInput` with the workflow's own word.

    `called`: what kind of thing it is, for people.
    """
    wiring.load_settings()
    asyncio.run(wiring.with_last_word(_operate(workflow_id, verb, outcome, called)))
    screen().print(f"[green]✓[/] {workflow_id} {DONE[verb]}")


async def _operate(workflow_id: str, verb: Literal["pause", "resume", "end"], outcome: str | None, called: str) -> None:
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
        raise BadInput(cause.message if isinstance(cause, ApplicationError) else f"the {called} did not {verb}") from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"running {called}", workflow_id) from None
        raise TemporalAway(f"Temporal did not answer ({error.status.name.lower()})") from None
    except TimeoutError:
        raise MebaeError(f"the {called} does not answer: does a worker run? The request is kept and carried out when one does") from None
