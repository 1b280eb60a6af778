"""When: durations, local times, business days. Pure: the calendar is an argument and so is the moment.

A duration is data (it stands in graphs and is hashed); `moment_after` says when it is over for a lead in a zone.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Duration(BaseModel):
    """A span of world time. Days are calendar days (the same wall-clock time, over DST edges too); hours are elapsed time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: int = Field(default=0, ge=0)
    hours: int = Field(default=0, ge=0)
    days: int = Field(default=0, ge=0)
    business_days: int = Field(default=0, ge=0)
