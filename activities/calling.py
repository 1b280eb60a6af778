"""What every activity shares: its time, and a wall that lets no personal data into Temporal."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import TypeVar

import structlog
from pydantic import BaseModel
from temporalio import activity
from temporalio.exceptions import ApplicationError

from mebae.clock import WorldClock
from mebae.contracts import StepInput
from mebae.errors import MebaeError, Permanent, Refusal

A = TypeVar("A")
R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")
log = structlog.get_logger()

_CODE = re.compile(r"[a-z0-9][a-z0-9:_-]{0,63}")


def world_now(request: StepInput) -> datetime:
    """The world's time for this activity: its argument (local ones), else its attempt's start (fresh at each attempt)."""
    if request.now is not None:
        return request.now
    return (request.clock or WorldClock()).world(activity.info().started_time)


def steady_now(clock: WorldClock | None) -> Callable[[], datetime]:
    """The world's time, by the server's at the attempt's start and what has passed since: the machine's clock may go wrong."""
    started, since = activity.info().started_time, time.monotonic()
    return lambda: (clock or WorldClock()).world(started + timedelta(seconds=time.monotonic() - since))


def moving_now(request: StepInput) -> Callable[[], datetime]:
    """The world's time as it moves on while the activity works; where it is an argument (local ones), that throughout."""
    given = request.now
    return steady_now(request.clock) if given is None else lambda: given


def coded(verb: Callable[[A, R], Awaitable[T]]) -> Callable[[A, R], Awaitable[T]]:
    """Lets only codes out: Temporal keeps failures, with messages, causes and traces, for ever and in the clear."""

    @wraps(verb)
    async def call(self: A, request: R) -> T:
        try:
            return await verb(self, request)
        except Refusal as refusal:
            # Anybody's code may raise a refusal: what does not look like a code may hold a name or an address.
            code = refusal.code if _CODE.fullmatch(refusal.code) else "invalid-code"
            final = isinstance(refusal, Permanent)
        except MebaeError as error:
            code, final = type(error).__name__, False
        except Exception as error:
            code, final = f"unexpected:{type(error).__name__}", False
            of = request.model_dump(mode="json", include={"entry", "broadcast", "run", "handover"})
            log.exception("activity.unexpected", activity=verb.__name__, **of)
        raise ApplicationError(code, type=code, non_retryable=final)

    return call
