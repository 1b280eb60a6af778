"""What ops read of a journey in the Temporal UI, in Markdown. Pure text of ids, steps and times: nothing personal."""

from __future__ import annotations

from datetime import datetime

from mebae.graph import CallTask, HandToSales, Send, Wait, WaitFor, WaitUntil, outcomes_of, targets
from mebae.journey import Journey, JourneyState, Rest

SUMMARY = 300
"""Bytes of a summary; Temporal refuses more than 400."""


def step_summary(step: str, state: JourneyState) -> str:
    """One line on an activity: the step, and how the lead stood at the last rest."""
    words = f"{step} · {state.stage} · {state.score}" if state.score is not None else step
    return words.encode()[:SUMMARY].decode(errors="ignore")


def timer_summary(step: str, until: datetime) -> str:
    """One line on a timer."""
    return f"{step} until {until:%Y-%m-%d %H:%M} UTC"


def details(journey: Journey, rest: Rest) -> str:
    """Where, since when, what next, why."""
    state, graph = journey.state, journey.graph
    step = graph.step(rest.step)
    lines = [f"**{graph.title or graph.scenario}** · version `{graph.version}`", ""]
    if rest.postponed:
        lines.append(f"- **Where**: `{rest.step}`, postponed ({state.why}) until {rest.until:%Y-%m-%d %H:%M} UTC")
    else:
        lines.append(f"- **Where**: rests at `{rest.step}`")
        if state.since is not None:
            lines.append(f"- **Since**: {state.since:%Y-%m-%d %H:%M} UTC")
        lines.append(f"- **Until**: {state.deadline or rest.until:%Y-%m-%d %H:%M} UTC at the latest")
    match step:
        case WaitFor():
            lines += [
                f"- **Waits for**: {arm.on.event if arm.on is not None else 'a condition'} → `{arm.to}`"
                for arm in step.arms
            ]
            lines.append(f"- **Next, if nothing comes**: `{step.otherwise}`")
        case HandToSales() | CallTask():
            lines += [f"- **Waits for**: {outcome} → `{to}`" for outcome, to in outcomes_of(step).items()]
        case Wait() | WaitUntil() | Send():
            lines.append(f"- **Next**: {', '.join(f'`{to}`' for to in targets(step))}")
        case _:
            pass
    lines.append(f"- **Stage**: {state.stage}")
    if state.score is not None:
        lines.append(f"- **Score**: {state.score}")
    been = ", ".join(f"`{name}`" + (f" ×{count}" if count > 1 else "") for name, count in state.visits.items())
    lines.append(f"- **Been**: {been}")
    if state.refused or state.unknown:
        lines.append(f"- **Refused**: {state.refused}, **unknown**: {state.unknown}")
    return "\n".join(lines)
