"""From `broadcast.py` to a plan, with every problem at once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, timedelta

from mebae.broadcasts import EVERYBODY, VARIANTS, Ab, BroadcastPlan, Variant
from mebae.broadcasts_language import AbTest, Broadcast, NamedSegment, Subject
from mebae.checking import Checker
from mebae.conditions import Condition
from mebae.errors import BadInput, did_you_mean
from mebae.recurring import WEEKDAYS, EveryMonth, EveryWeek, Once
from mebae.segments import SLUG, Saved, report_impossible
from mebae.timing import Duration, check_zone

LONGEST_ID = 60
"""Characters of a broadcast's id: it is part of workflow ids."""

Languages = Mapping[str, Collection[str]]
"""The languages of each mail beside the file; `""` stands for every language."""
Report = Callable[[str], None]


def compile_broadcast(
    written: Broadcast,
    checker: Checker,
    *,
    mails: Languages,
    segments: Sequence[Saved] | None,
    taken: Collection[str] = (),
) -> BroadcastPlan:
    """The plan; what is wrong is in `checker.problems`.

    `segments` are those of `segments.py`; None if it could not be read, and then none is reported as unknown. `taken` are the
    ids that scenarios have.
    """

    def report(message: str) -> None:
        checker.report(None, message)

    if not SLUG.fullmatch(written.id) or len(written.id) > LONGEST_ID:
        report(
            f'Broadcast({written.id!r}, …): the id is lower-case words joined by hyphens, such as "monthly-news", '
            f"of {LONGEST_ID} characters at most"
        )
    if written.id in (*taken, "layouts"):
        report(f"a scenario is called '{written.id}' too: mails are kept by that name, so take another one")
    if written.mail not in mails:
        report(f"mail '{written.mail}' not found{_near(written.mail, mails, 'there is no mail beside the file')}")
    if written.zone:
        try:
            check_zone(written.zone)
        except BadInput as error:
            report(f"zone=: {error}")
    _check_schedule(written, report)
    _check_shares(written, report)
    _check_span(written.give_up_after, "give_up_after=", checker)
    return BroadcastPlan(
        format=BroadcastPlan.newest_format,
        broadcast=written.id,
        title=written.title,
        segment=written.to.id if isinstance(written.to, NamedSegment) else "",
        to=_to(written, checker, segments),
        mail=written.mail,
        schedule=written.schedule,
        zone=written.zone,
        local_time=written.local_time,
        ab=None if written.ab is None else _ab(written, written.ab, checker, mails),
        holdout=written.holdout,
        give_up_after=written.give_up_after,
    )


def _to(written: Broadcast, checker: Checker, segments: Sequence[Saved] | None) -> Condition:
    if not isinstance(written.to, NamedSegment):
        condition = checker.condition(written.to, None, "to=: ")
        report_impossible(condition, checker, "to=: ")
        return condition
    found = {one.id: one.condition for one in segments or ()}
    if written.to.id not in found and segments is not None:
        checker.report(
            None, f"segment '{written.to.id}' not found{_near(written.to.id, found, 'segments.py has none')}"
        )
    return found.get(written.to.id, EVERYBODY)


def _check_span(span: Duration, word: str, checker: Checker) -> None:
    checker.span(span, None, word)
    if span.business_days:
        checker.report(None, f"{word}: counts no business days: write hours(…) or days(…)")


def _near(name: str, known: Collection[str], none: str) -> str:
    return did_you_mean(name, known) or f": {none}"


# When -------------------------------------------------------------------------------------------------------------------


def _check_schedule(written: Broadcast, report: Report) -> None:
    when = written.schedule
    if when is None:
        if written.local_time:
            report('local_time= needs a time: write schedule=every_week("tue", at="10:00"), every_month(…) or on(…)')
        return
    if isinstance(when, Once):
        return
    verb, most = ("every_week", 52) if isinstance(when, EveryWeek) else ("every_month", 24)
    if not 1 <= when.every <= most:
        report(f"{verb}(…, every={when.every}): write a number from 1 to {most}")
    elif when.every > 1 and when.starting is None:
        report(f'{verb}(…, every={when.every}): say from when it is counted, such as starting="2026-04-07"')
    match when:
        case EveryMonth() if not 1 <= when.day <= 31:
            report(f"every_month(day={when.day}, …): write a day from 1 to 31; 31 is the last day of every month")
        case EveryWeek(starting=date() as starting) if WEEKDAYS[starting.weekday()] not in when.days:
            days = (starting + timedelta(days=n) for n in range(1, 7))
            first = next(day for day in days if WEEKDAYS[day.weekday()] in when.days)
            report(f'starting="{starting}" is a {starting:%A}: write the first day, such as starting="{first}"')


# Shares -----------------------------------------------------------------------------------------------------------------


def _check_shares(written: Broadcast, report: Report) -> None:
    share = written.ab.share if written.ab is not None else 0
    if not 0 <= written.holdout < 100:
        report(f"holdout={written.holdout}: write a percentage from 0 to 99")
    elif written.ab is not None and not 1 <= share <= 100:
        report(f"ab_test(…, share={share}): write a percentage from 1 to 100")
    elif share + written.holdout > 100:
        report(
            f"share={share} and holdout={written.holdout} are {share + written.holdout} percent of the leads: 100 at most"
        )
    if written.ab is not None and written.local_time:
        # Who is in the west would be asked long after the east has got the winner.
        report("ab= and local_time= do not go together: the winner is known for all zones at once or for none")


def _ab(written: Broadcast, ab: AbTest, checker: Checker, mails: Languages) -> Ab:
    _check_span(ab.after, "ab_test(…, after=…)", checker)
    if len(ab.others) >= len(VARIANTS):
        checker.report(
            None, f"ab_test(…): {len(VARIANTS)} variants at most, and the broadcast's own mail is one of them"
        )
    variants = [Variant(id=VARIANTS[0], mail=written.mail)]
    for id, other in zip(VARIANTS[1:], ab.others, strict=False):
        if isinstance(other, Subject):
            _check_subject(other, mails.get(written.mail, ()), id, checker)
            variants.append(Variant(id=id, mail=written.mail, subjects=dict(other.texts)))
            continue
        _check_other_mail(written, other, checker, mails)
        variants.append(Variant(id=id, mail=other))
    for one in variants:
        if any(_same(one, two) for two in variants if two.id < one.id):
            checker.report(None, f"ab_test(…): variant {one.id} is the same as one before it")
    return Ab(variants=tuple(variants), share=ab.share, winner_by=ab.winner_by, after=ab.after)


def _same(one: Variant, two: Variant) -> bool:
    return (one.mail, one.subjects) == (two.mail, two.subjects)


def _check_other_mail(written: Broadcast, mail: str, checker: Checker, mails: Languages) -> None:
    if mail not in mails:
        checker.report(
            None, f"ab_test(…): mail '{mail}' not found{_near(mail, mails, 'there is no mail beside the file')}"
        )
    elif written.mail in mails and set(mails[mail]) != set(mails[written.mail]):
        # Else the languages, and not the texts, would decide who wins.
        has, other = (", ".join(sorted(one or "any" for one in mails[name])) for name in (written.mail, mail))
        checker.report(
            None,
            f"ab_test(…): mail '{mail}' is there in {other}, and '{written.mail}' in {has}: write both in the same",
        )


def _check_subject(subject: Subject, languages: Collection[str], id: str, checker: Checker) -> None:
    for code in subject.texts:
        if code and languages and code not in languages:
            known = did_you_mean(code, [one for one in languages if one])
            checker.report(None, f"ab_test(…): subject {id} is in '{code}', in which the mail is not{known}")
    if "" not in subject.texts:
        for code in sorted(languages):
            if code not in subject.texts:
                called = f'{code}="…"' if code else "the text alone"
                checker.report(
                    None,
                    f"ab_test(…): subject {id} is missing for {code or 'any language'}: write subject({called}, …)",
                )
    for code, text in subject.texts.items():
        if not text.strip() or "\n" in text:
            checker.report(None, f"ab_test(…): subject {id} in {code or 'any language'} is one line, and not empty")
