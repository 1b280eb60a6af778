"""What the compiler checks in values, conditions and events; every problem is reported, none stops the next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from mebae.conditions import (
    All,
    Among,
    Any_,
    AtLeast,
    Compare,
    Condition,
    Did,
    Known,
    Like,
    Match,
    Not,
    OlderThan,
    Pattern,
    Tagged,
)
from mebae.errors import Problem, did_you_mean
from mebae.events import BY_NAME
from mebae.references import STANDARD
from mebae.timing import Duration
from mebae.vocabulary import Vocabulary

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_LONGEST_DAYS = 3660
"""Ten years: what is longer is a slip, and would overflow a date."""


class Checker:
    """Collects the problems of one file: a scenario, the scoring model, the segments."""

    def __init__(self, file: str, mails: Collection[str] | None = None, known: Vocabulary | None = None) -> None:
        self.file = file
        self.mails = mails
        self.known = Vocabulary() if known is None else known
        self.starts: tuple[Pattern, ...] = ()
        """What starts the scenario: whose properties `entry.…` names."""
        self.sends: Mapping[str, tuple[str, ...]] = {}
        """Each send step of the scenario with the mails that it can send."""
        self.problems: list[Problem] = []

    def report(self, step: str | None, message: str) -> None:
        problem = Problem(file=self.file, step=None if step is None else step.partition("#")[0], message=message)
        if problem not in self.problems:
            self.problems.append(problem)

    def span(self, span: Duration, id: str | None, word: str) -> Duration:
        parts = {"minutes": span.minutes, "hours": span.hours, "days": span.days, "business_days": span.business_days}
        length = span.minutes / 1440 + span.hours / 24 + span.days + span.business_days
        negative = next((f"{unit}({n})" for unit, n in parts.items() if n < 0), None)
        if negative:
            self.report(id, f"{word}: {negative} is negative; a duration is 1 or more")
        elif not any(parts.values()):
            self.report(id, f"{word}: a duration of zero; write 1 or more, or leave it out")
        elif length > _LONGEST_DAYS:
            self.report(id, f"{word}: a duration of more than ten years")
        return span

    def time(self, at: str | None, id: str) -> str | None:
        if at is not None and not _TIME.fullmatch(at):
            self.report(id, f'at="{at}" is no time of day: write hours and minutes from "00:00" to "23:59"')
        return at

    def ref(self, ref: str, id: str | None, place: str = "") -> None:
        """A slip in a standard attribute would silently be an attribute that no lead has."""
        root, _, name = ref.partition(".")
        if root == "entry":
            self._entry(name, id, place)
        if root != "lead" or name in STANDARD:
            return
        if near := difflib.get_close_matches(name, STANDARD, n=1, cutoff=0.8):
            cure = f", did you mean 'lead.{near[0]}'? (an attribute of your own needs a name less like it)"
            self.report(id, f"{place}no lead has '{ref}'{cure}")

    def _entry(self, name: str, id: str | None, place: str) -> None:
        """A property that no start event has is a slip, if it is like one. Others may come with a command or `enroll`."""
        plan = self.known.plan
        if plan is None or not self.starts:
            return
        wrong = [plan.wrong_property(one.event, name) for one in self.starts]
        if all(wrong):
            near = next((one for one in wrong if one is not None and "did you mean" in one), None)
            if near is not None:
                self.report(id, f"{place}entry.{name}: {near}")

    def condition(self, condition: Condition, id: str | None, place: str = "") -> Condition:
        """The condition with the steps that its events name spelled out as mails."""
        match condition:
            case All() | Any_():
                return type(condition)(of=tuple(self.condition(part, id, place) for part in condition.of))
            case Not():
                return Not(of=self.condition(condition.of, id, place))
            case Did():
                if condition.within is not None:
                    self.span(condition.within, id, f"{place}did(…, within=…)")
                return condition.model_copy(update={"pattern": self.pattern(condition.pattern, id, place=place)})
            case Compare() | AtLeast():
                self.ref(condition.ref, id, place)
                self.value(condition.ref, condition.to, id, place)
                return self._ranked(condition, id, place)
            case Tagged():
                self.value(condition.ref, condition.to, id, place)
            case Among():
                self.ref(condition.ref, id, place)
                for value in condition.to:
                    self.value(condition.ref, value, id, place)
            case OlderThan():
                self.ref(condition.ref, id, place)
                self.span(condition.span, id, f"{place}older_than(…)")
            case Known() | Like():
                self.ref(condition.ref, id, place)
        return condition

    def _ranked(self, condition: Compare | AtLeast, id: str | None, place: str) -> Condition:
        """`lead.rank.at_least(…)` as the list of the ranks that it means: a graph must not depend on a later order of ranks."""
        if not isinstance(condition, Compare) or condition.ref != "lead.rank" or condition.op != "ge":
            return condition
        if self.known.ranks is None:
            self.report(
                id, f"{place}lead.rank.at_least(…): ranks and their order stand in scoring.py: write ranks=[…] there"
            )
            return condition
        ranks = tuple(self.known.ranks)
        return (
            Among(ref=condition.ref, to=ranks[ranks.index(str(condition.to)) :]) if condition.to in ranks else condition
        )

    def value(self, ref: str, value: object, id: str | None, place: str = "") -> None:
        if wrong := self.known.wrong(ref, value):
            self.report(id, place + wrong)
        if ref.startswith("entry.") and self.known.plan is not None and isinstance(value, (str, int, float)):
            name = ref.removeprefix("entry.")
            wrongs = [self.known.plan.wrong_value(one.event, name, value) for one in self.starts]
            if wrongs and None not in wrongs:
                self.report(id, f"{place}{wrongs[0]}")

    def event(self, pattern: Pattern, id: str | None, place: str = "") -> None:
        """Whether there is such an event, with such properties, by the tracking plan; without one, no slip in a standard event."""
        if wrong := self.known.wrong_event(pattern.event):
            self.report(id, place + wrong)
        elif self.known.plan is not None:
            spec = BY_NAME.get(pattern.event)
            # A mail is named by a step too, and the steps are checked by themselves.
            where = {
                key: want
                for key, want in pattern.where.items()
                if spec is None or spec.names != "mail" or key != "mail"
            }
            for wrong in self.known.plan.wrong_pattern(Pattern(event=pattern.event, where=where)):
                self.report(id, place + wrong)

    def pattern(self, pattern: Pattern, id: str | None, *, place: str = "", awaited: bool = False) -> Pattern:
        """The pattern; where it names a send step, with that step's mails too, as the event knows the mail only."""
        self.event(pattern, id, place)
        spec = BY_NAME.get(pattern.event)
        if spec is None or spec.property not in pattern.where:
            return pattern
        given = _words(pattern.where[spec.property])
        if spec.property in ("stage", "qualification", "segment"):
            for value in given:
                if "*" not in value:
                    self.value(f"lead.{spec.property}", value, id, place)
        if spec.verb == "submitted":
            self._forms(given, id, place)
        if spec.names != "mail":
            return pattern
        meant: list[str] = []
        for name in given:
            found = [step for step, mails in self.sends.items() if name == step or _matching(name, mails)]
            found += [step for step in _matching(name, self.sends) if step not in found]
            if not found:
                meant.append(name)
                self._report_unsent(spec.verb, name, id, place, awaited)
            for step in found:
                mails = self.sends[step]
                named = mails if _matching(name, [step]) else _matching(name, mails)
                meant += [*([step] if len(named) == len(mails) else []), *named]
        unique = tuple(dict.fromkeys(meant))
        names: Match = unique[0] if len(unique) == 1 else unique
        return pattern.model_copy(update={"where": {**pattern.where, "mail": names}})

    def _forms(self, given: Sequence[str], id: str | None, place: str) -> None:
        """A form that forms.py does not have may be of another page, unless it is called nearly like one that it has."""
        known = tuple(self.known.forms or ())
        for name in given:
            if "*" not in name and name not in known and any(_slip(name, other) for other in known):
                cure = f"{did_you_mean(name, known)} (a form that is not in forms.py needs a name less like it)"
                self.report(id, f"{place}{name!r} is no form of forms.py{cure}")

    def _report_unsent(self, verb: str, name: str, id: str | None, place: str, awaited: bool) -> None:
        known = [*self.sends, *(mail for mails in self.sends.values() for mail in mails)]
        if awaited and self.mails is not None and name in self.mails:
            self.report(
                id, f'{place}{verb}("{name}"): no step of this scenario sends that mail{did_you_mean(name, known)}'
            )
        elif awaited:
            self.report(id, f'{place}{verb}("{name}"): there is no such step or mail here{did_you_mean(name, known)}')
        elif any(_slip(name, other) for other in known):
            # Outside a wait_for, a mail of another scenario is fine; a mistyped one of this scenario is not.
            self.report(id, f'{place}{verb}("{name}"): there is no such step or mail here{did_you_mean(name, known)}')

    def mail_step(self, pattern: Pattern) -> str | None:
        """The one send step that an event names, by its id or by a mail that only it sends."""
        spec = BY_NAME.get(pattern.event)
        if spec is None or spec.names != "mail" or spec.property not in pattern.where:
            return None
        steps: dict[str, None] = {}
        for name in _words(pattern.where[spec.property]):
            by_id = _matching(name, self.sends)
            steps.update(dict.fromkeys(by_id))
            if not by_id or "*" in name:
                steps.update(dict.fromkeys(step for step, mails in self.sends.items() if _matching(name, mails)))
        return next(iter(steps)) if len(steps) == 1 else None


def _words(match: object) -> tuple[str, ...]:
    return tuple(str(one) for one in match) if isinstance(match, tuple) else (str(match),)


def _matching(name: str, known: Iterable[str]) -> list[str]:
    """Those that a name or a glob means. Only `*` is special in our globs."""
    if "*" not in name:
        return [one for one in known if one == name]
    pattern = name.replace("[", "[[]").replace("?", "[?]")
    return [one for one in known if fnmatchcase(one, pattern)]


def _slip(name: str, other: str) -> bool:
    """Whether one is probably the other mistyped; `news-41` and `news-42` are not."""
    apart = [re.sub(r"\d+", "", word) for word in (name, other)]
    return apart[0] != apart[1] and difflib.SequenceMatcher(None, name, other).ratio() >= 0.85
