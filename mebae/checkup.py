"""What `mebae doctor` says of each thing that it looks at: good, bad with its cure, or worth knowing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Verdict = Literal["good", "bad", "unsure"]


class Finding(BaseModel):
    """One line of the list."""

    area: str
    """`settings`, `database`, `temporal`, `clock`, `mail server` or `domain`."""
    what: str
    verdict: Verdict
    words: str
    cure: str = ""


def good(area: str, what: str, words: str) -> Finding:
    return Finding(area=area, what=what, verdict="good", words=words)


def bad(area: str, what: str, words: str, cure: str) -> Finding:
    return Finding(area=area, what=what, verdict="bad", words=words, cure=cure)


def unsure(area: str, what: str, words: str, cure: str) -> Finding:
    """Nothing stands in the way, but somebody should know."""
    return Finding(area=area, what=what, verdict="unsure", words=words, cure=cure)
