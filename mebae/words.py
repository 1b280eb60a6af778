"""The words that tables, scenarios and pages share (DESIGN §2), as enumerations."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

STAGE_TITLES = {"awareness": "認知", "interest": "興味", "consideration": "検討"}
"""The stages in their order, with what people call them. The user's scoring model may name others."""

STAGES = tuple(STAGE_TITLES)

QUALIFICATIONS = ("none", "mql", "accepted", "sql", "opportunity", "won", "lost")


class JourneyStatus(StrEnum):
    """Where a journey's row is. A row `starting` after a crash is started again, an `ended` one never."""

    STARTING = "starting"
    RUNNING = "running"
    RESTING = "resting"
    ENDED = "ended"
    REFUSED = "refused"


class DeliveryStatus(StrEnum):
    """Where a mail to one lead is: claimed → data → sent, refused or unknown; postponed → claimed again."""

    CLAIMED = "claimed"
    DATA = "data"
    SENT = "sent"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    POSTPONED = "postponed"


class DeliveryKind(StrEnum):
    """Whom a mail is for: marketing mail passes the whole gate, mail to sales does not."""

    MARKETING = "marketing"
    SALES = "sales"


class GateAnswer(StrEnum):
    """What the gate says to a mail."""

    GO = "go"
    REFUSED = "refused"
    POSTPONED = "postponed"
    EXITED = "exited"


def spoken(language: str) -> Literal["ja", "en"]:
    """`ja`, else English."""
    return "ja" if language.lower().startswith("ja") else "en"
