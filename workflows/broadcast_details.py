"""What ops read of a broadcast in the Temporal UI, in Markdown. Numbers, times and codes: nothing personal."""

from __future__ import annotations

from mebae.broadcast_words import WHYS, bar, done
from mebae.contracts import BroadcastStanding


def summary(standing: BroadcastStanding) -> str:
    """One line on an activity."""
    return f"{standing.part or standing.status} · {done(standing.counts)} of {standing.counts.get('total', 0)}"


def details(broadcast: str, run: int | None, standing: BroadcastStanding, *, paused: bool) -> str:
    """How far, how fast, what for."""
    counts = standing.counts
    lines = [f"**{broadcast}** · run {run}", "", f"`{bar(counts)}`", ""]
    if paused:
        lines.append("- **Paused**: resume it with the update `resume`, or `mebae broadcasts resume`")
    elif standing.next == "rest" and standing.until is not None:
        lines.append(f"- **Rests** until {standing.until:%Y-%m-%d %H:%M} UTC: {WHYS.get(standing.why, standing.why)}")
    lines.append(
        f"- **Done**: {done(counts):,} of {counts.get('total', 0):,} leads; part `{standing.part or 'none yet'}`"
    )
    if standing.rate:
        lines.append(f"- **Rate**: {standing.rate:,.0f} mails a second")
    words = ", ".join(f"{many:,} {word}" for word, many in counts.items() if word != "total" and many)
    if words:
        lines.append(f"- **So far**: {words}")
    if standing.winner is not None:
        lines.append(f"- **Winner of the A/B test**: {standing.winner}")
    return "\n".join(lines)
