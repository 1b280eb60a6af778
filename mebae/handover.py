"""The whole behaviour of a hand-over, without I/O: a ripe lead given to sales, and what sales makes of it (DESIGN §9).

                    ┌────────── pass ─────────┐
                    ▼                         │
    open ──accept──► accepted ──sql──► sql ──opportunity──► opportunity ──won──► won
     │ │ │             │  │             │ │                      │
     │ │ └─expire──┐   │  └─expire─┐    │ └──────lost────────────┴──────lost──► lost
     │ └─return──┐ │   └─return──┐ │    └─return──► returned
     └─reject    ▼ ▼             ▼ ▼
       │    returned expired  returned expired
       ▼
    rejected                                  (and from every state under way: withdraw ──► withdrawn)

What may be done is `MOVES`, a literal table; anything else raises `IllegalMove`, changes nothing and says what is possible. Three
rules that are easy to miss:

- *Sales decides.* The SQL rule is shown with its parts, and never moves anything by itself. Only the clock expires.
- *Two clocks, one at a time.* The first runs while it is open, until somebody answers; the second from the acceptance, until it is
  judged. Each reminds, then escalates, then expires; every span counts from when the step before it was really taken, so that after
  an outage nobody's lead expires without a reminder.
- *A system outside may skip.* A CRM that says "won" of one that was never accepted is right all the same: `way` gives the moves that
  lead there, and each of them is written, so that who waits for SQL hears of it. A loss says nothing of the kind: of one that nobody
  judged it is written as it is (`LOST_OUTSIDE`), and no SQL is made up on the way.

Passing on changes whose it is, restarts the clock that runs and changes nothing else.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from mebae.business_time import Hours, business_moment
from mebae.errors import BadInput
from mebae.sales import Clock, SalesRules
from mebae.timing import Calendar


class Status(StrEnum):
    """Where a hand-over stands."""

    OPEN = "open"
    ACCEPTED = "accepted"
    SQL = "sql"
    OPPORTUNITY = "opportunity"
    WON = "won"
    LOST = "lost"
    REJECTED = "rejected"
    RETURNED = "returned"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Move(StrEnum):
    """What can be done with one."""

    ACCEPT = "accept"
    REJECT = "reject"
    RETURN = "return"
    SQL = "sql"
    OPPORTUNITY = "opportunity"
    WON = "won"
    LOST = "lost"
    PASS = "pass"  # noqa: S105 - no password
    EXPIRE = "expire"
    WITHDRAW = "withdraw"


MOVES: dict[Status, dict[Move, Status]] = {
    Status.OPEN: {
        Move.ACCEPT: Status.ACCEPTED,
        Move.REJECT: Status.REJECTED,
        Move.RETURN: Status.RETURNED,
        Move.PASS: Status.OPEN,
        Move.EXPIRE: Status.EXPIRED,
        Move.WITHDRAW: Status.WITHDRAWN,
    },
    Status.ACCEPTED: {
        Move.SQL: Status.SQL,
        Move.RETURN: Status.RETURNED,
        Move.PASS: Status.ACCEPTED,
        Move.EXPIRE: Status.EXPIRED,
        Move.WITHDRAW: Status.WITHDRAWN,
    },
    Status.SQL: {
        Move.OPPORTUNITY: Status.OPPORTUNITY,
        Move.LOST: Status.LOST,
        Move.RETURN: Status.RETURNED,
        Move.PASS: Status.SQL,
        Move.WITHDRAW: Status.WITHDRAWN,
    },
    Status.OPPORTUNITY: {
        Move.WON: Status.WON,
        Move.LOST: Status.LOST,
        Move.PASS: Status.OPPORTUNITY,
        Move.WITHDRAW: Status.WITHDRAWN,
    },
    Status.WON: {},
    Status.LOST: {},
    Status.REJECTED: {},
    Status.RETURNED: {},
    Status.EXPIRED: {},
    Status.WITHDRAWN: {},
}

LOST_OUTSIDE = (Status.OPEN, Status.ACCEPTED)
"""From here a system outside may say "lost" too. Sales itself rejects or returns such a lead, with a reason."""
UNDER_WAY = tuple(status for status, moves in MOVES.items() if moves)
"""The lead is with sales: a second hand-over joins this one."""
CLOSED = tuple(status for status, moves in MOVES.items() if not moves)
NOT_JUDGED = (Status.OPEN, Status.ACCEPTED)
"""A clock runs."""
BACK = (Status.REJECTED, Status.RETURNED, Status.EXPIRED, Status.WITHDRAWN, Status.LOST)
"""The lead goes back to nurturing."""
BY_PEOPLE = (Move.ACCEPT, Move.SQL, Move.OPPORTUNITY, Move.WON, Move.REJECT, Move.RETURN, Move.LOST, Move.PASS)
"""What sales can say, in the order in which it is offered. Only the clock expires, only an erasure or marketing withdraws."""
WITH_REASON = (Move.REJECT, Move.RETURN, Move.LOST)
"""The moves that say why, by a reason of the rules."""

NOBODY = ("clock", "marketing", "command")
"""Who is said to have made a move where it was no person, or nobody knows which."""

QUALIFICATION: dict[Status, str] = {
    Status.OPEN: "mql",
    Status.ACCEPTED: "accepted",
    Status.SQL: "sql",
    Status.OPPORTUNITY: "opportunity",
    Status.WON: "won",
    Status.LOST: "lost",
    Status.REJECTED: "none",
    Status.RETURNED: "none",
    Status.EXPIRED: "none",
    Status.WITHDRAWN: "none",
}
"""What the lead is then. A lost one is called that until it becomes an MQL again."""

EVENT: dict[Move, str] = {
    Move.ACCEPT: "Handover Accepted",
    Move.REJECT: "Handover Rejected",
    Move.RETURN: "Handover Returned",
    Move.EXPIRE: "Handover Expired",
    Move.SQL: "Sales Qualified",
    Move.OPPORTUNITY: "Opportunity Opened",
    Move.WON: "Opportunity Won",
    Move.LOST: "Opportunity Lost",
    Move.PASS: "Handover Passed",
    Move.WITHDRAW: "Handover Withdrawn",
}
"""Every outcome is an event of the lead, like any other."""
OPENED = "Handover Opened"

OUTCOME: dict[Move, str] = {
    Move.ACCEPT: "accepted",
    Move.REJECT: "rejected",
    Move.RETURN: "returned",
    Move.EXPIRE: "expired",
    Move.SQL: "sql",
    Move.OPPORTUNITY: "opportunity",
    Move.WON: "won",
    Move.LOST: "lost",
    Move.WITHDRAW: "withdrawn",
}
"""As the paths of `hand_to_sales` call it."""


class IllegalMove(BadInput):
    """A move that is not possible from where the hand-over stands; it is unchanged. `possible`: what people could do instead."""

    def __init__(self, status: Status, move: Move) -> None:
        self.status, self.move = status, move
        self.possible = possible(status)
        could = f"possible: {', '.join(self.possible)}" if self.possible else "it is closed, nothing can be done any more"
        super().__init__(f"a hand-over that is {status} cannot take '{move}'; {could}")


def after(status: Status, move: Move, *, skipping: bool = False) -> Status:
    """Where a move leads; `skipping`: a system outside says so. Raises `IllegalMove`.

    >>> after(Status.OPEN, Move.ACCEPT)
    <Status.ACCEPTED: 'accepted'>
    >>> after(Status.OPEN, Move.WON)
    Traceback (most recent call last):
    mebae.handover.IllegalMove: a hand-over that is open cannot take 'won'; possible: accept, reject, return, pass
    """
    if skipping and move is Move.LOST and status in LOST_OUTSIDE:
        return Status.LOST
    if move not in MOVES[status]:
        raise IllegalMove(status, move)
    return MOVES[status][move]


def possible(status: Status) -> tuple[Move, ...]:
    """What sales can do from here, in the order in which it is offered."""
    return tuple(move for move in BY_PEOPLE if move in MOVES[status])


def way(status: Status, move: Move) -> tuple[Move, ...]:
    """The moves of sales that lead to this one, itself last: for systems that say only how it ended. Raises `IllegalMove`.

    >>> way(Status.OPEN, Move.WON)
    (<Move.ACCEPT: 'accept'>, <Move.SQL: 'sql'>, <Move.OPPORTUNITY: 'opportunity'>, <Move.WON: 'won'>)
    >>> way(Status.OPEN, Move.LOST)
    (<Move.LOST: 'lost'>,)
    """
    if move is Move.LOST and status in LOST_OUTSIDE:
        return (move,)
    ahead: deque[tuple[Status, tuple[Move, ...]]] = deque([(status, ())])
    seen = {status}
    while ahead:
        at, moves = ahead.popleft()
        if move in MOVES[at]:
            return (*moves, move)
        for step in (Move.ACCEPT, Move.SQL, Move.OPPORTUNITY):
            to = MOVES[at].get(step)
            if to is not None and to not in seen:
                seen.add(to)
                ahead.append((to, (*moves, step)))
    raise IllegalMove(status, move)


def is_repeated(status: Status, move: Move) -> bool:
    """Whether the hand-over stands already where this move would have led: pressed twice, or said again.

    >>> is_repeated(Status.ACCEPTED, Move.ACCEPT), is_repeated(Status.ACCEPTED, Move.REJECT)
    (True, False)
    """
    return move is not Move.PASS and any(moves.get(move) is status for moves in MOVES.values())


# The clocks ---------------------------------------------------------------------------------------------------------------


class Alarm(StrEnum):
    """What a clock does when it is time."""

    REMIND = "remind"
    ESCALATE = "escalate"
    EXPIRE = "expire"


class Due(NamedTuple):
    """When a clock next does what."""

    at: datetime
    what: Alarm


class BusinessTime(NamedTuple):
    """The workspace's days and hours, by which clocks and calls count."""

    zone: str
    calendar: Calendar
    hours: Hours


def clock_of(status: Status, rules: SalesRules) -> Clock | None:
    """The clock that runs in this state, if one does."""
    if status is Status.OPEN:
        return rules.response
    return rules.judgement if status is Status.ACCEPTED else None


def due_next(status: Status, done: Alarm | None, since: datetime, rules: SalesRules, time: BusinessTime) -> Due | None:
    """What the clock does next. `done`: its last alarm, which went off at `since`; None: the clock began then."""
    clock = clock_of(status, rules)
    if clock is None or done is Alarm.EXPIRE:
        return None
    spans = {Alarm.REMIND: clock.within, Alarm.ESCALATE: clock.escalate_after, Alarm.EXPIRE: clock.expire_after}
    order = list(Alarm)
    for what in order if done is None else order[order.index(done) + 1 :]:
        span = spans[what]
        if span is not None:
            return Due(business_moment(span, since, time.zone, time.calendar, time.hours), what)
    return None
