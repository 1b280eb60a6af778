"""A broadcast's progress in words, for Temporal's UI and for commands. Pure."""

from __future__ import annotations

from collections.abc import Mapping

WIDTH = 30
"""Characters of the bar."""
DONE = ("sent", "refused", "unknown", "holdout")
"""What is said of a lead for good."""
WHYS = {
    "zone": "waits for the next time zone",
    "test": "waits for the end of the A/B test",
    "late": "waits for mails that were postponed",
    "mail-server-unavailable": "the mail server does not answer",
    "sending-paused": "all sending is paused",
    "footer-unset": "settings for the mails' footer are missing: see mebae doctor",
}


def done(counts: Mapping[str, int]) -> int:
    """How many leads there is nothing left to do for."""
    return sum(counts.get(word, 0) for word in DONE)


def bar(counts: Mapping[str, int], width: int = WIDTH) -> str:
    """A progress bar.

    >>> bar({"total": 4, "sent": 1, "refused": 1}, 10)
    '█████░░░░░ 50 %'
    """
    part = done(counts) / max(counts.get("total", 0), done(counts), 1)
    full = int(part * width)
    return f"{'█' * full}{'░' * (width - full)} {int(part * 100)} %"
