"""One mail to many leads: the same gate, ledger and answers as a journey's mail, with few transactions and many connections.

claim ─ one transaction a slice of leads: lock them, gate, claim an attempt each, read what the mails need
render ─ a few at a time
MAIL, RCPT ─ many connections at once
enter data ─ many mails in one transaction: the gate once more, then the compare-and-set on each attempt
DATA
conclude ─ many mails in one transaction: what came of them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class BulkContent:
    """Which published mail a broadcast sends."""

    scope: str
    """The broadcast's id, under which its mails are published."""
    mail: str
    title: str = ""
    """The broadcast's, for mails that name it (`scenario.title`)."""
    variant: str | None = None
    """Of an A/B test; the delivery's row records it."""
    text: str | None = None
    """The id under which its text is published, where that is another than the mail's: an A/B test of subjects publishes one for
    each subject (`BroadcastPlan.variant`). Ledger, events and conditions know the mail by `mail`."""


@dataclass(frozen=True)
class BulkOutcome:
    """Where each lead's delivery of a chunk is now."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """How many are `sent`, `refused`, `unknown`, `postponed`; `missing`: no such lead; `superseded`: another attempt has it."""
    later: tuple[tuple[int, datetime], ...] = ()
    """The leads whose mail is postponed, each with when to try it again: give them to `send` then. In order of the moments."""


class Bulk(Protocol):
    """What broadcasts send by: `BulkMailer`."""

    async def send(
        self, broadcast: int, leads: Sequence[int], content: BulkContent, now: Callable[[], datetime]
    ) -> BulkOutcome:
        """Sends one mail to each of these leads, as far as the gate lets it, and tells where each one is then.

        Called again with the same leads, after a crash too, it goes on where each delivery stands: what was sent is not sent
        again, what another attempt left in `data` is unknown or tried once more by the policy (`mebae.ledger`), and what is
        postponed waits until its time.

        Cancelled, it starts no further mail and ends those that are in `data`, which takes as long as the mail server
        does; all others stay `claimed`, and the next call takes them up.

        Args:
            broadcast: the number of its row in `broadcasts`. While that row says `paused`, mails are postponed; once it is
                `done` or `ended`, they are refused (`ended`).
            leads: a few hundred at a time, or thousands: memory does not grow with them.
            now: the world's time, asked at each step.

        Raises:
            DatabaseUnavailable: try the same call again later. Nothing is lost by it.
        """
        ...
