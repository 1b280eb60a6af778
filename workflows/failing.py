"""How an activity failed: by somebody's no, or because whoever was at it is gone."""

from __future__ import annotations

from temporalio.exceptions import ActivityError, ApplicationError

LOST_ATTEMPTS = ("TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose")
"""For `RetryPolicy.non_retryable_error_types`, in the server's words (`common/util.go`): an attempt that says nothing any more is
told to the workflow, and Temporal does not wait longer and longer before the next one as it does after a no."""


def said_no(error: ActivityError) -> str | None:
    """The code with which somebody (the mail server, the database, the gate) said no; None if nobody did: the worker died, or
    there was none."""
    cause: BaseException | None = error.cause
    while cause is not None:
        if isinstance(cause, ApplicationError):
            return cause.type or "unavailable"
        cause = cause.__cause__
    return None
