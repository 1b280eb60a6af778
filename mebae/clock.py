"""The one world clock (DESIGN §6): `world(t) = origin + (t - origin) × speed`. Speed is 1 except in the demo."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class WorldClock(BaseModel):
    """Maps the machine's time to the world's and back. No decision asks the machine's clock without it.

    >>> origin = datetime(2026, 4, 1, tzinfo=UTC)
    >>> clock = WorldClock(origin=origin, speed=86400)  # a day in a second
    >>> clock.world(origin + timedelta(seconds=3)) - origin
    datetime.timedelta(days=3)
    >>> clock.machine(origin + timedelta(days=3)) - origin
    datetime.timedelta(seconds=3)
    """

    model_config = ConfigDict(frozen=True)

    origin: AwareDatetime = _EPOCH
    speed: float = Field(default=1.0, gt=0)

    def world(self, machine: datetime) -> datetime:
        """The world's time (UTC) at this moment of the machine."""
        if self.speed == 1.0:
            return machine.astimezone(UTC)
        return self.origin.astimezone(UTC) + (machine.astimezone(UTC) - self.origin) * self.speed

    def machine(self, world: datetime) -> datetime:
        """The machine's time (UTC) at this moment of the world."""
        if self.speed == 1.0:
            return world.astimezone(UTC)
        return self.origin.astimezone(UTC) + (world.astimezone(UTC) - self.origin) / self.speed

    def real(self, span: timedelta) -> timedelta:
        """How long a span of the world takes on the machine."""
        return span / self.speed

    def worldly(self, span: timedelta) -> timedelta:
        """How much of the world's time passes in a span of the machine's (for back-off from real faults)."""
        return span * self.speed
