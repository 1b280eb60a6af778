"""From a scoring model as written to the frozen one; every problem is reported, none stops the next."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from zoneinfo import ZoneInfo

from mebae.checking import Checker
from mebae.conditions import (
    All,
    Among,
    Any_,
    Compare,
    Condition,
    Did,
    Not,
    OlderThan,
    Scalar,
    Tagged,
    parts_of,
    refs_of,
)
from mebae.errors import ScenarioError, did_you_mean
from mebae.scoring_language import Scoring
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import (
    FORMAT,
    LIMIT,
    By,
    Engagement,
    Exclusion,
    Fit,
    Graded,
    Qualification,
    ScoringModel,
    Stage,
    Topic,
)
from mebae.timing import Duration
from mebae.tracking import TrackingPlan
from mebae.vocabulary import Vocabulary
from mebae.words import QUALIFICATIONS

_QUALIFIED = ("mql", "sql")
"""What a rule can make of a lead; the rest is for people to say."""


def compile_scoring(
    scoring: Scoring,
    *,
    file: str = "scoring.py",
    mapping: Mapping | None = None,
    mapping_file: str = "mapping.csv",
    plan: TrackingPlan | None = None,
) -> ScoringModel:
    """The model, checked. `mapping` is what ranks and industry groups are checked against, `plan` what events are; None
    leaves that unchecked (of events, near misses of our own names are reported still).

    Raises `ScenarioError` with all problems, each with its rule.
    """
    return _Compiler(scoring, file, mapping, mapping_file, plan).compile()


class _Compiler(Checker):
    def __init__(
        self, scoring: Scoring, file: str, mapping: Mapping | None, mapping_file: str, plan: TrackingPlan | None
    ) -> None:
        self.scoring, self.mapping, self.mapping_file = scoring, mapping, mapping_file
        self.stages = tuple(stage.id for stage in scoring.stages)
        self.ranks = tuple(scoring.ranks)
        super().__init__(file, known=Vocabulary(stages=self.stages, ranks=self.ranks, plan=plan))

    def compile(self) -> ScoringModel:
        scoring = self.scoring
        self._names("rule", [*scoring.fit, *scoring.engagement, *scoring.exclusions])
        self._names("stage", scoring.stages)
        self._names("topic", scoring.topics)
        self._ranks()
        self._zone()
        model = ScoringModel(
            format=FORMAT,
            ranks=self.ranks,
            fit=tuple(self._fit(rule) for rule in scoring.fit),
            engagement=tuple(self._engagement(rule) for rule in scoring.engagement),
            exclusions=tuple(self._exclusion(rule) for rule in scoring.exclusions),
            stages=tuple(self._stage(stage, i) for i, stage in enumerate(scoring.stages)),
            qualifications=tuple(self._qualification(rule) for rule in scoring.qualifications),
            topics=tuple(self._topic(rule) for rule in scoring.topics),
            time_zone=scoring.time_zone,
        )
        if not self.stages:
            self.report(
                None, 'there is no stage: write stages=[stage("awareness"), stage("interest", when=lead.score >= 50)]'
            )
        if self.problems:
            raise ScenarioError(self.problems)
        return model

    # -- rules

    def _fit(self, rule: Fit) -> Fit:
        self._worth(rule.points, rule.id)
        when = self._lowered(rule.when, rule.id, "fit", scored=False)
        if any(isinstance(part, Did) for part in parts_of(rule.when)):
            self.report(rule.id, "fit is for what a lead is: for what it does write engagement(…)")
        return rule.model_copy(update={"when": when})

    def _engagement(self, rule: Engagement) -> Engagement:
        match rule.points:
            case By(of=of, otherwise=otherwise):
                if not any(points for _, points in of) and not otherwise:
                    self._worth(0, rule.id)
                self._known_twice(rule.id, [value for value, _ in of])
            case Graded(grades=grades):
                if not any(points for _, points in grades):
                    self._worth(0, rule.id)
            case points:
                self._worth(points, rule.id)
        for word, span in (("per", rule.per), ("half_life", rule.half_life), ("within", rule.within)):
            if span is not None:
                self.span(span, rule.id, word)
        if rule.where is not None:
            self._where(rule.where, rule.id)
        if self.known.plan is not None:
            for name, value in _asked(rule):
                self._property(self.known.plan, rule, name, value)
        return rule.model_copy(update={"event": self.pattern(rule.event, rule.id)})

    def _property(self, plan: TrackingPlan, rule: Engagement, name: str, value: Scalar | None) -> None:
        wrong = plan.wrong_property(rule.event.event, name)
        if wrong is None and value is not None:
            wrong = plan.wrong_value(rule.event.event, name, value)
        if wrong is not None:
            self.report(rule.id, f"event.{name}: {wrong}")

    def _exclusion(self, rule: Exclusion) -> Exclusion:
        return rule.model_copy(update={"when": self._lowered(rule.when, rule.id, "exclude", scored=False)})

    def _stage(self, stage: Stage, at: int) -> Stage:
        if at == 0:
            if stage.when is not None:
                self.report(stage.id, f'everyone begins in the first stage: write stage("{stage.id}") without when=')
            if stage.falls:
                self.report(stage.id, "below the first stage there is none: leave falls=True out")
            return stage
        if stage.when is None:
            self.report(stage.id, f'when does a lead reach it? write stage("{stage.id}", when=lead.score >= 50)')
            return stage
        when = self._lowered(stage.when, stage.id, "stage")
        if "lead.stage" in refs_of(stage.when):
            self.report(stage.id, "a stage can not ask for the stage itself: write the score or did(…)")
        return stage.model_copy(update={"when": when})

    def _qualification(self, rule: Qualification) -> Qualification:
        if rule.to not in _QUALIFIED:
            self.report(
                f"qualify {rule.to}", f"'{rule.to}' is nothing that a rule can give{did_you_mean(rule.to, _QUALIFIED)}"
            )
        return rule.model_copy(update={"when": self._lowered(rule.when, f"qualify {rule.to}", "qualify")})

    def _topic(self, topic: Topic) -> Topic:
        if not topic.events:
            self.report(topic.id, f'by what is it seen? write topic("{topic.id}", visited("/…"))')
        if topic.within is not None:
            self.span(topic.within, topic.id, "within")
        return topic.model_copy(update={"events": tuple(self.pattern(one, topic.id) for one in topic.events)})

    # -- conditions

    def _lowered(self, condition: Condition, id: str, verb: str, *, scored: bool = True) -> Condition:
        """The condition, checked, with `lead.rank.at_least(…)` as the list of the ranks that it means."""
        for ref in refs_of(condition):
            if not ref.startswith("lead."):
                self.report(id, f"'{ref}' has no meaning in {verb}(…), where only the lead is known")
            elif not scored and ref in ("lead.score", "lead.stage"):
                self.report(id, f"'{ref}' is what this model computes: {verb}(…) can not ask for it")
            elif ref in ("lead.topics", "lead.excluded"):
                self.report(
                    id, f"'{ref}' is what this model computes: {verb}(…) can not ask for it: write did(…) or a tag"
                )
            elif ref in ("lead.active_at", "lead.contacted_at"):
                self.report(id, f"'{ref}' changes with the events themselves: write did(…, within=…) or did_not(…)")
        for part in parts_of(condition):
            if isinstance(part, Did) and part.times > LIMIT:
                self.report(id, f"did(…, times={part.times}): no rule looks at more than {LIMIT} events")
        return self.condition(condition, id)

    def _where(self, condition: Condition, id: str) -> None:
        for part in parts_of(condition):
            if isinstance(part, (Did, Tagged, OlderThan)) or any(not ref.startswith("event.") for ref in refs_of(part)):
                self.report(id, "where= asks the event's own properties only: write where=event.seconds >= 60")
                return

    def value(self, ref: str, value: object, id: str | None, place: str = "") -> None:
        known, where = {
            "lead.stage": (self.stages, "is no stage"),
            "lead.rank": (self.ranks, "is no rank of ranks=[…]"),
            "lead.industry_group": (self._groups(), f"is no group of {self.mapping_file}"),
            "lead.qualification": (QUALIFICATIONS, "is no qualification"),
        }.get(ref, (None, ""))
        if known is not None and value not in known:
            self.report(id, f"{place}{value!r} {where}{did_you_mean(str(value), known)}")

    def span(self, span: Duration, id: str | None, word: str) -> Duration:
        if span.business_days:
            self.report(id, f"{word}: a score counts no business days: write days(…)")
        return super().span(span, id, word)

    # -- names

    def _groups(self) -> tuple[str, ...] | None:
        return None if self.mapping is None else self.mapping.names("industry")

    def _ranks(self) -> None:
        self._known_twice(None, self.ranks, "the rank")
        for rank in self.mapping.names("rank") if self.mapping is not None else ():
            if rank not in self.ranks:
                cure = did_you_mean(rank, self.ranks) or "; name it there, the lowest first"
                self.report(None, f"{self.mapping_file} gives the rank '{rank}', which is none of ranks=[…]{cure}")

    def _zone(self) -> None:
        try:
            ZoneInfo(self.scoring.time_zone)
        except (KeyError, ValueError, OSError):
            self.report(None, f"'{self.scoring.time_zone}' is not a time zone: write a name such as 'Asia/Tokyo'")

    def _names(self, word: str, rules: Iterable[Fit | Engagement | Exclusion | Stage | Topic]) -> None:
        ids = [rule.id for rule in rules]
        for id in dict.fromkeys(ids):
            if not id.strip() or id != id.strip():
                self.report(id or None, f"a {word} needs a name, without spaces around it")
            elif ids.count(id) > 1:
                self.report(
                    id, f"the {word} '{id}' is there {ids.count(id)} times: its name is what its points are kept under"
                )

    def _known_twice(self, id: str | None, values: Collection[object], word: str = "the value") -> None:
        listed = list(values)
        for value in dict.fromkeys(listed):
            if listed.count(value) > 1:
                self.report(id, f"{word} {value!r} is there twice")

    def _worth(self, points: float, id: str) -> None:
        if not points:
            self.report(id, "no points: leave the rule out, or write how many it gives")


def _asked(rule: Engagement) -> Iterator[tuple[str, Scalar | None]]:
    """The properties of the event that a rule looks at, with each value that it looks for."""
    for part in parts_of(rule.where) if rule.where is not None else ():
        match part:
            case Compare(ref=ref, to=to):
                yield _name(ref), to
            case Among(ref=ref, to=several):
                yield from ((_name(ref), one) for one in several)
            case _:
                yield from (
                    (_name(ref), None) for ref in (refs_of(part) if not isinstance(part, (All, Any_, Not)) else ())
                )
    match rule.points:
        case By(ref=ref, of=of):
            yield from ((_name(ref), value) for value, _ in of)
        case Graded(ref=ref, grades=grades):
            yield from ((_name(ref), grade) for grade, _ in grades)
    if rule.once_for is not None:
        yield _name(rule.once_for), None


def _name(ref: str) -> str:
    return ref.partition(".")[2]
