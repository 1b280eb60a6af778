"""The words that the user's own files give: what stages, ranks, groups, topics, exclusions, segments and events there are.

Scenarios, segments and forms are checked against it when they are compiled. It is a parameter and no global: a file is
read before it is known which words the others name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Self

from mebae.errors import did_you_mean
from mebae.events import BY_NAME, IDENTIFIED, REQUESTED
from mebae.references import wrong_value
from mebae.scoring_mapping import Mapping
from mebae.scoring_model import ScoringModel
from mebae.tracking import TrackingPlan
from mebae.words import STAGES


@dataclass(frozen=True)
class Vocabulary:
    """What is known of each kind of word; None leaves that kind unchecked."""

    stages: Collection[str] | None = STAGES
    ranks: Collection[str] | None = None
    industry_groups: Collection[str] | None = None
    topics: Collection[str] | None = None
    exclusions: Collection[str] | None = None
    segments: Collection[str] | None = None
    forms: Collection[str] | None = None
    """Those of forms.py. A page of its own may send others, so that only a slip in one of these is told."""
    mail_topics: Collection[str] | None = None
    """Those of mailing.py, which mails say with `topic:`. Not those of scoring.py, which are what a lead is interested in."""
    pieces: Collection[str] | None = None
    """Those of content.py; none where there is no such file."""
    layouts: Collection[str] | None = None
    blocks: Collection[str] | None = None
    """Those of the folders `layouts` and `blocks`, which mails name."""
    plan: TrackingPlan | None = None

    @classmethod
    def of(
        cls,
        *,
        scoring: tuple[ScoringModel, Mapping] | None = None,
        plan: TrackingPlan | None = None,
        segments: Collection[str] | None = None,
    ) -> Self:
        """What these files say. Without a scoring model the stages are the default ones."""
        if scoring is None:
            return cls(plan=plan, segments=segments)
        model, mapping = scoring
        return cls(
            stages=model.stage_ids,
            ranks=model.ranks,
            industry_groups=mapping.names("industry"),
            topics=tuple(topic.id for topic in model.topics),
            exclusions=tuple(rule.id for rule in model.exclusions),
            segments=segments,
            plan=plan,
        )

    def wrong(self, ref: str, value: object) -> str | None:
        """What is wrong with comparing `lead.stage` … with this value; None if nothing is, or nobody can say.

        >>> Vocabulary().wrong("lead.stage", "interst")
        "'interst' is no stage, did you mean 'interest'?"
        """
        known, called = {
            "lead.stage": (self.stages, "stage"),
            "lead.rank": (self.ranks, "rank of scoring.py"),
            "lead.industry_group": (self.industry_groups, "group of mapping.csv"),
            "lead.topics": (self.topics, "topic of scoring.py"),
            "lead.excluded": (self.exclusions, "exclusion of scoring.py"),
            "lead.segment": (self.segments, "segment of segments.py"),
        }.get(ref, (None, ""))
        if known is None:
            return wrong_value(ref, value)
        return None if value in known else f"{value!r} is no {called}{did_you_mean(str(value), known)}"

    def wrong_mail_topic(self, topic: str) -> str | None:
        """What is wrong with the `topic:` of a mail; None if nothing is, or there is no mailing.py.

        >>> Vocabulary(mail_topics=["product"]).wrong_mail_topic("produkt")
        "topic 'produkt' is none of mailing.py, did you mean 'product'?"
        """
        if self.mail_topics is None or topic in self.mail_topics:
            return None
        if topic:
            return f"topic '{topic}' is none of mailing.py{did_you_mean(topic, self.mail_topics)}"
        known = ", ".join(self.mail_topics)
        return f"the mail has no topic, so nobody can choose to get no more of its kind: write one of {known} under 'topic:'"

    def wrong_event(self, name: str) -> str | None:
        """What is wrong with the name of an event: by the plan, or (without one) if it is a slip in a standard one."""
        if self.plan is not None:
            return self.plan.wrong_event(name)
        plan = TrackingPlan()
        if name in BY_NAME or name in (IDENTIFIED, REQUESTED) or not _is_slip(name, plan.nearest(name)):
            return None
        return plan.wrong_event(name)


def _is_slip(name: str, near: str | None) -> bool:
    """Whether it is a standard event mistyped, and not one of the user's own that sounds like it."""
    return near is not None and SequenceMatcher(None, name.casefold(), near.casefold()).ratio() >= 0.85
