"""The scenario language: `from mebae.authoring import *` is all that a `scenario.py` needs (DESIGN §4).

A scenario is data, read from top to bottom. Nothing here does anything: each verb returns a piece of the plan, which
`mebae.compiling` turns into a graph. A spelling that can not mean what it says raises `AuthoringError` at once and
shows the right one; what only the whole scenario can show (a missing mail, a loop) is reported by the compiler, all
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from mebae import plan
from mebae.conditions import All, Any_, Condition, Did, Match, Not, Pattern, Scalar, _Logic
from mebae.errors import AuthoringError, did_you_mean
from mebae.events import BY_VERB, canonical
from mebae.graph import About, Choice, Series
from mebae.references import COMPUTED, STANDARD, Ref, check_value, entry, lead, wrong_value
from mebae.timing import Duration

__all__ = [
    "Scenario",
    "after",
    "all_of",
    "answered",
    "any_of",
    "attended",
    "auto_replied",
    "bounced",
    "branch",
    "business_days",
    "call_task",
    "called",
    "choose",
    "clicked",
    "complained",
    "contacted",
    "created",
    "days",
    "did",
    "did_not",
    "downloaded",
    "end",
    "enroll",
    "entry",
    "go_to",
    "hand_to_sales",
    "handed_over",
    "handover_accepted",
    "handover_expired",
    "handover_rejected",
    "handover_returned",
    "hours",
    "imported",
    "joined",
    "lead",
    "minutes",
    "not_",
    "notify_sales",
    "on",
    "opened",
    "opportunity_lost",
    "opportunity_opened",
    "opportunity_won",
    "per_day",
    "qualified",
    "registered",
    "requested_quote",
    "resubscribed",
    "run",
    "sales_qualified",
    "send",
    "send_next",
    "set_lead",
    "share",
    "split",
    "stage_reached",
    "submitted",
    "tag",
    "tracked",
    "unsubscribed",
    "unsubscribed_topic",
    "viewed_screen",
    "visited",
    "wait",
    "wait_for",
    "wait_until",
    "weeks",
    "when",
]

OneOrMore = str | tuple[str, ...] | list[str]


class Scenario(plan.Plan):
    """The plan of one scenario, as a marketer writes it.

    - `id`: lower-case words joined by hyphens; the folder has the same name with underscores.
    - `enters_on`: the event that starts a journey, or a list of several. Without it, only `enroll` and commands do.
    - `key`: a reference to the entry; a lead has one journey for each of its values.
    - `audience`: who may enter, asked once, at the start.
    - `exits_when`: ends the journey as soon as it is true, in the middle of any wait and before any action.
    - `re_enter`: `"never"` (default), `"always"`, or `after(days(30))` since the last journey ended.
    - `starts_at_most`: `per_day(500)` lets more than that begin on later days, each at the time of day of its entry.

    Raises `AuthoringError` for a value that can not be meant; everything else is reported when it is compiled.

    >>> hello = Scenario("hello", enters_on=created(), steps=[send("hello"), wait(days(3)), send("how-are-you")])
    >>> len(hello.steps)
    3
    """

    def __init__(
        self,
        id: str,
        *,
        title: str = "",
        enters_on: Pattern | Iterable[Pattern] | None = None,
        key: Ref | None = None,
        audience: Condition | None = None,
        exits_when: Condition | None = None,
        re_enter: Literal["never", "always"] | plan.After = "never",
        starts_at_most: plan.PerDay | None = None,
        steps: Iterable[plan.Step],
    ) -> None:
        starts: tuple[Any, ...]
        if enters_on is None:
            starts = ()
        elif isinstance(enters_on, (list, tuple)):
            starts = tuple(enters_on)
        else:
            starts = (enters_on,)
        if not isinstance(re_enter, (str, plan.After)):
            raise AuthoringError(
                f're_enter={re_enter!r}: write re_enter="never", re_enter="always" or re_enter=after(days(30))'
            )
        if starts_at_most is not None and not isinstance(starts_at_most, plan.PerDay):
            raise AuthoringError(f"starts_at_most={_show(starts_at_most)}: write starts_at_most=per_day(500)")
        super().__init__(
            id=_text(id, 'Scenario("whitepaper-followup", …)'),
            title=_text(title, 'title="…"'),
            enters_on=tuple(_event(start, "enters_on=") for start in starts),
            key=key,
            audience=None if audience is None else _condition(audience, "audience="),
            exits_when=None if exits_when is None else _condition(exits_when, "exits_when="),
            re_enter=re_enter,
            starts_at_most=starts_at_most,
            steps=_steps(steps, "Scenario(…, steps=[…])"),
        )


def after(span: Duration) -> plan.After:
    """For `re_enter=`: the lead may enter again when so much time has passed since its last journey ended.

    >>> after(days(30)).span.days
    30
    """
    return plan.After(_span(span, "after(days(30))"))


def per_day(count: int) -> plan.PerDay:
    """For `starts_at_most=`: so many journeys begin on a day of the workspace; the rest on the days that follow.

    >>> per_day(500).count
    500
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise AuthoringError(f"per_day({_show(count)}): write a whole number, such as per_day(500)")
    return plan.PerDay(count)


# -- durations


def minutes(n: int) -> Duration:
    """So many minutes of elapsed time.

    >>> minutes(30)
    Duration(minutes=30, hours=0, days=0, business_days=0)
    """
    return _duration("minutes", n)


def hours(n: int) -> Duration:
    """So many hours of elapsed time.

    >>> hours(2).hours
    2
    """
    return _duration("hours", n)


def days(n: int) -> Duration:
    """So many calendar days: the same wall-clock time for the lead, over changes of the clock too.

    >>> days(3).days
    3
    >>> days(1.5)
    Traceback (most recent call last):
    mebae.errors.AuthoringError: days(1.5): write a whole number; for a part of a day write hours(36)
    """
    return _duration("days", n)


def weeks(n: int) -> Duration:
    """So many times seven calendar days.

    >>> weeks(2) == days(14)
    True
    """
    return _duration("weeks", n)


def business_days(n: int) -> Duration:
    """So many business days of the workspace's calendar. The bare word in `on=business_days` means "on a business day".

    >>> business_days(3).business_days
    3
    """
    return _duration("business_days", n)


def _duration(unit: str, n: object) -> Duration:
    if isinstance(n, bool) or not isinstance(n, int):
        cure = "write a whole number"
        if isinstance(n, float) and math.isfinite(n):
            smaller = {"weeks": ("days", 7), "days": ("hours", 24), "hours": ("minutes", 60)}
            if unit in smaller and n * smaller[unit][1] == int(n * smaller[unit][1]):
                part = {"weeks": "a week", "days": "a day", "hours": "an hour"}[unit]
                cure += f"; for a part of {part} write {smaller[unit][0]}({int(n * smaller[unit][1])})"
        raise AuthoringError(f"{unit}({n!r}): {cure}")
    if unit == "weeks":
        unit, n = "days", n * 7
    # Unchecked on purpose: a negative span is one problem of many, which the compiler reports with its step.
    return Duration.model_construct(None, **{unit: n})


# -- events


def created() -> Pattern:
    """The lead became known to Mebae.

    >>> created().event
    'Lead Created'
    """
    return _pattern("created")


def imported(list: OneOrMore | None = None) -> Pattern:
    """The lead came in with a list; without an argument with any.

    >>> imported("exhibition-2026").where
    {'list': 'exhibition-2026'}
    """
    return _pattern("imported", list)


def downloaded(content: OneOrMore | None = None) -> Pattern:
    """Downloaded a white paper or other piece. `*` stands for any run of characters; a list means one of several.

    >>> downloaded("whitepaper-*")
    Pattern(event='Content Downloaded', where={'content': 'whitepaper-*'})
    """
    return _pattern("downloaded", content)


def visited(path: OneOrMore | None = None) -> Pattern:
    """Viewed a page with this path; without an argument any page.

    >>> visited("/pricing").where
    {'path': '/pricing'}
    """
    return _pattern("visited", path)


def viewed_screen(name: OneOrMore | None = None) -> Pattern:
    """Viewed a screen of an app; without an argument any screen.

    >>> viewed_screen("Pricing").event
    'Screen Viewed'
    """
    return _pattern("viewed_screen", name)


def submitted(form: OneOrMore | None = None) -> Pattern:
    """Sent a form. A `wait_for` counts it since the mail that carries the form was sent.

    >>> submitted("contact").event
    'Form Submitted'
    """
    return _pattern("submitted", form)


def answered(form: OneOrMore | None = None, /, **props: Scalar | tuple[Scalar, ...] | list[Scalar]) -> Pattern:
    """Answered a questionnaire, with these answers if they are given.

    >>> answered("needs", timing="within-3-months").where
    {'form': 'needs', 'timing': 'within-3-months'}
    """
    return _pattern("answered", form, props)


def registered(seminar: OneOrMore | None = None) -> Pattern:
    """Registered for a seminar.

    >>> registered("seminar-*").event
    'Seminar Registered'
    """
    return _pattern("registered", seminar)


def attended(seminar: OneOrMore | None = None) -> Pattern:
    """Attended a seminar.

    >>> attended().event
    'Seminar Attended'
    """
    return _pattern("attended", seminar)


def opened(mail: OneOrMore | None = None) -> Pattern:
    """Opened a mail: the id of a send step of this scenario, or of a mail. Without an argument any mail.

    >>> opened("thanks").where
    {'mail': 'thanks'}
    """
    return _pattern("opened", mail)


def clicked(mail: OneOrMore | None = None) -> Pattern:
    """Clicked a link in a mail: the id of a send step of this scenario, or of a mail. Without an argument any mail.

    >>> clicked("case-study").event
    'Email Link Clicked'
    """
    return _pattern("clicked", mail)


def bounced(mail: OneOrMore | None = None, /, **props: Scalar | tuple[Scalar, ...] | list[Scalar]) -> Pattern:
    """A mail to the lead came back: `bounce="hard"` for good, `bounce="soft"` for now; `reason` says why in one word.

    No rule is needed to stop mail to it: the gate lets none pass to an address that is gone.

    >>> bounced("thanks", bounce="hard").where
    {'mail': 'thanks', 'bounce': 'hard'}
    """
    return _pattern("bounced", mail, props)


def complained(mail: OneOrMore | None = None) -> Pattern:
    """Called a mail spam, as its mail provider tells. It gets none any more: the gate lets none pass.

    >>> complained().event
    'Email Complained'
    """
    return _pattern("complained", mail)


def auto_replied(mail: OneOrMore | None = None, /, **props: Scalar | tuple[Scalar, ...] | list[Scalar]) -> Pattern:
    """A program answered a mail for the lead: it is `away`, has `left` the company (退職), or was `moved` to another post (異動).

    >>> auto_replied(says="left").where
    {'says': 'left'}
    """
    return _pattern("auto_replied", mail, props)


def requested_quote(product: OneOrMore | None = None) -> Pattern:
    """Asked for a quote.

    >>> requested_quote("starter-kit").where
    {'product': 'starter-kit'}
    """
    return _pattern("requested_quote", product)


def stage_reached(stage: OneOrMore | None = None) -> Pattern:
    """Moved to this stage; without an argument to any.

    >>> stage_reached("consideration").event
    'Stage Reached'
    """
    return _pattern("stage_reached", stage)


def qualified(qualification: OneOrMore | None = None) -> Pattern:
    """Became MQL, SQL, …

    >>> qualified("mql").where
    {'qualification': 'mql'}
    >>> qualified("mlq")
    Traceback (most recent call last):
    mebae.errors.AuthoringError: qualified(…): 'mlq' is no qualification, did you mean 'mql'?
    """
    return _pattern("qualified", qualification)


def joined(segment: OneOrMore | None = None) -> Pattern:
    """Became a member of a segment of `scenarios/segments.py`; without an argument of any.

    >>> joined("dormant").where
    {'segment': 'dormant'}
    """
    return _pattern("joined", segment)


def contacted(channel: OneOrMore | None = None) -> Pattern:
    """Was contacted by sales; without an argument by whatever channel.

    >>> contacted("phone").event
    'Sales Contacted'
    """
    return _pattern("contacted", channel)


def handed_over(owner: OneOrMore | None = None) -> Pattern:
    """Was given to sales; without an argument to whomever.

    >>> handed_over().event
    'Handover Opened'
    """
    return _pattern("handed_over", owner)


def handover_accepted(owner: OneOrMore | None = None) -> Pattern:
    """Was taken by sales; without an argument by whomever.

    >>> handover_accepted("sato").where
    {'owner': 'sato'}
    """
    return _pattern("handover_accepted", owner)


def handover_rejected(reason: OneOrMore | None = None) -> Pattern:
    """Was given to sales, who did not take it; without an argument for whatever reason.

    >>> handover_rejected("no-budget").where
    {'reason': 'no-budget'}
    """
    return _pattern("handover_rejected", reason)


def unsubscribed() -> Pattern:
    """Wants no more marketing mail. No rule is needed for that: the gate lets none pass.

    >>> unsubscribed().event
    'Unsubscribed'
    """
    return _pattern("unsubscribed")


def unsubscribed_topic(topic: OneOrMore | None = None) -> Pattern:
    """Wants no more mail of a topic of `scenarios/mailing.py`; without an argument of any.

    >>> unsubscribed_topic("seminar").where
    {'topic': 'seminar'}
    """
    return _pattern("unsubscribed_topic", topic)


def resubscribed() -> Pattern:
    """Agreed to mail again, after it had unsubscribed.

    >>> resubscribed().event
    'Resubscribed'
    """
    return _pattern("resubscribed")


def handover_returned(reason: OneOrMore | None = None) -> Pattern:
    """Was given back by sales; without an argument for whatever reason.

    >>> handover_returned("too-early").where
    {'reason': 'too-early'}
    """
    return _pattern("handover_returned", reason)


def handover_expired(clock: OneOrMore | None = None) -> Pattern:
    """Came back because sales did not answer (`"response"`) or did not judge (`"judgement"`) in time.

    >>> handover_expired("response").where
    {'clock': 'response'}
    """
    return _pattern("handover_expired", clock)


def sales_qualified(owner: OneOrMore | None = None) -> Pattern:
    """Was judged an SQL by sales.

    >>> sales_qualified().event
    'Sales Qualified'
    """
    return _pattern("sales_qualified", owner)


def opportunity_opened(owner: OneOrMore | None = None) -> Pattern:
    """Became an opportunity (商談).

    >>> opportunity_opened().event
    'Opportunity Opened'
    """
    return _pattern("opportunity_opened", owner)


def opportunity_won(owner: OneOrMore | None = None) -> Pattern:
    """Became a customer (受注).

    >>> opportunity_won().event
    'Opportunity Won'
    """
    return _pattern("opportunity_won", owner)


def opportunity_lost(reason: OneOrMore | None = None) -> Pattern:
    """An opportunity was lost (失注), or came to nothing; without an argument for whatever reason.

    >>> opportunity_lost("competitor-chosen").where
    {'reason': 'competitor-chosen'}
    """
    return _pattern("opportunity_lost", reason)


def called(outcome: OneOrMore | None = None) -> Pattern:
    """Was called by sales: `"appointment"`, `"talked"` or `"no_answer"`; without an argument with whatever outcome.

    >>> called("appointment").where
    {'outcome': 'appointment'}
    """
    return _pattern("called", outcome)


def tracked(name: str, /, **props: Scalar | tuple[Scalar, ...] | list[Scalar]) -> Pattern:
    """Any event by its Segment name, with properties: the way to events that have no verb of their own.

    A property's value is equal to this, is one of a list, or (a text with `*`) matches. Aliases become the one name.

    >>> tracked("Trial Started", plan=["team", "business"])
    Pattern(event='Trial Started', where={'plan': ('team', 'business')})
    >>> tracked("Whitepaper Downloaded").event
    'Content Downloaded'
    """
    if not isinstance(name, str) or not name.strip():
        raise AuthoringError('tracked(…) needs the name of an event: tracked("Trial Started", plan="team")')
    return Pattern(event=canonical(name), where=_where("tracked", props))


def _pattern(verb: str, value: object = None, props: Mapping[str, object] | None = None) -> Pattern:
    spec = BY_VERB[verb]
    where = _where(verb, props or {})
    if value is not None:
        assert spec.property is not None
        if spec.property in where:
            raise AuthoringError(f"{verb}(…): {spec.property} is given twice")
        match = _match(verb, spec.property, value)
        for one in match if isinstance(match, tuple) else (match,):
            if not isinstance(one, str) or not one.strip():
                raise AuthoringError(f"{verb}({value!r}): write a text, {verb}(…) without argument for any, or a list")
            if wrong := wrong_value(f"lead.{spec.property}", one):
                raise AuthoringError(f"{verb}(…): {wrong}")
        where = {spec.property: match, **where}
    return Pattern(event=spec.name, where=where)


def _where(verb: str, props: Mapping[str, object]) -> dict[str, Match]:
    return {name: _match(verb, name, value) for name, value in props.items()}


def _match(verb: str, name: str, value: object) -> Match:
    if isinstance(value, (list, tuple)):
        if not value:
            raise AuthoringError(f"{verb}(…, {name}=…): an empty list matches nothing")
        return tuple(_scalar(one, f"{verb}(…, {name}=…)") for one in value)
    return _scalar(value, f"{verb}(…, {name}=…)")


# -- conditions


def did(event: Pattern, *, times: int = 1, within: Duration | None = None) -> Condition:
    """The lead did this at least so many times, ever or in the window up to now.

    >>> did(visited("/pricing"), times=2, within=days(30)).times
    2
    """
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise AuthoringError(f"did(…, times={times!r}): write a whole number from 1; for never write did_not(…)")
    window = None if within is None else _span(within, "did(…, within=days(30))")
    return Did(pattern=_event(event, "did(…)"), times=times, within=window)


def did_not(event: Pattern, *, within: Duration | None = None) -> Condition:
    """The lead never did this, or not in the window up to now.

    >>> did_not(opened(), within=days(90)).op
    'not'
    """
    return Not(of=did(_event(event, "did_not(…)"), within=within))


def all_of(*conditions: Condition) -> Condition:
    """Every one is true; the same as `(a) & (b)`.

    >>> all_of(lead.score >= 50, lead.tags.has("fair")) == (lead.score >= 50) & lead.tags.has("fair")
    True
    """
    return _joined("all_of", All, conditions)


def any_of(*conditions: Condition) -> Condition:
    """At least one is true; the same as `(a) | (b)`.

    >>> any_of(lead.score >= 50, did(requested_quote())).op
    'or'
    """
    return _joined("any_of", Any_, conditions)


def not_(condition: Condition) -> Condition:
    """It is not true; the same as `~(a)`.

    >>> not_(lead.company.is_known()).op
    'not'
    """
    return ~_condition(condition, "not_(…)")


def _joined(word: str, kind: type[All] | type[Any_], conditions: tuple[Condition, ...]) -> Condition:
    if not conditions:
        raise AuthoringError(f"{word}() needs at least one condition: {word}(lead.score >= 50, …)")
    result = _condition(conditions[0], f"{word}(…)")
    for other in conditions[1:]:
        _condition(other, f"{word}(…)")
        result = result & other if kind is All else result | other
    return result


# -- steps


def send(mail: str | Choice, *, id: str | None = None, on_cap: plan.OnCap = "postpone") -> plan.Send:
    """Send a mail of this scenario's folder, through the gate. The step is called like the mail, or by `id=`.

    `on_cap` says what happens when the frequency cap is reached: `"postpone"`, `"skip"` the mail, or `"end"` the
    journey. A mail that is chosen needs `id=`.

    >>> send("thanks").name
    'thanks'
    >>> send(choose(lead.industry, {"manufacturing": "case-mfg"}, otherwise="case"), id="case-study").name
    'case-study'
    """
    if not isinstance(mail, (str, Choice)):
        raise AuthoringError(
            f'send({_show(mail)}): write the name of a mail, send("thanks"), or send(choose(…), id="…")'
        )
    _one_of(on_cap, get_args(plan.OnCap), "on_cap")
    return plan.Send(mail, _id(id), on_cap)


def wait(
    span: Duration, *, at: str | None = None, on: Callable[[int], Duration] | None = None, id: str | None = None
) -> plan.Wait:
    """Rest for a span, then until a local time of day (`at="10:00"`), then (`on=business_days`) until a business day.

    Times are the lead's own, else the workspace's.

    >>> wait(days(3), at="10:00", on=business_days).at
    '10:00'
    >>> wait(3)
    Traceback (most recent call last):
    mebae.errors.AuthoringError: wait(3): write a duration, such as wait(days(3))
    """
    if on is not None and on is not business_days:
        raise AuthoringError(f"wait(…, on={_show(on)}): write on=business_days, without a number; or leave it out")
    return plan.Wait(_span(span, "wait(days(3))"), _time(at), on is business_days, _id(id))


def wait_until(
    date: Ref,
    *,
    plus: Duration | None = None,
    minus: Duration | None = None,
    at: str | None = None,
    on_late: plan.OnLate = "pass",
    id: str | None = None,
) -> plan.WaitUntil:
    """Rest until a date of the entry or the lead, so much later (`plus`) or earlier (`minus`), at a local time of day.

    A date that is past on arrival passes at once; with `on_late="end"` it ends the journey.

    >>> wait_until(entry.starts_at, minus=days(1), at="09:00").date
    'entry.starts_at'
    """
    if not isinstance(date, Ref) or date.kind not in ("date", "any"):
        raise AuthoringError(
            f"wait_until({_show(date)}): write a date of the entry or the lead, such as wait_until(entry.starts_at)"
        )
    _one_of(on_late, get_args(plan.OnLate), "on_late")
    return plan.WaitUntil(
        date.ref,
        None if plus is None else _span(plus, "plus=days(1)"),
        None if minus is None else _span(minus, "minus=days(1)"),
        _time(at),
        on_late,
        _id(id),
    )


def on(event: Pattern, steps: Iterable[plan.Step] = ()) -> plan.On:
    """In a `wait_for`: when this happens, take this path. An empty path goes on after the `wait_for`.

    >>> on(visited("/pricing"), [notify_sales("料金ページを閲覧")]).event.event
    'Page Viewed'
    """
    if isinstance(event, (_Logic, Ref)):
        raise AuthoringError(f"on({_show(event)}, …): `on` is for events; for a condition write when(…, […])")
    return plan.On(_event(event, "on(…)"), _steps(steps, "on(event, […])"))


def when(condition: Condition, steps: Iterable[plan.Step] = ()) -> plan.When:
    """In a `branch` or a `wait_for`: if this is true, take this path. An empty path goes on after it.

    >>> when(lead.score >= 50, [send("comparison")]).condition
    Compare(op='ge', ref='lead.score', to=50)
    """
    return plan.When(_condition(condition, "when(…)"), _steps(steps, "when(condition, […])"))


def wait_for(
    *arms: plan.On | plan.When,
    within: Duration | None = None,
    otherwise: Iterable[plan.Step] = (),
    id: str | None = None,
) -> plan.WaitFor:
    """Rest until the first of several things happens, or until `within` is over, which is required.

    An event that names a mail or a form counts since that mail was sent in this journey, any other since its last mail.
    A condition that is already true passes at once.

    >>> len(wait_for(on(clicked("thanks"), [send("more")]), when(lead.score >= 50), within=days(7)).arms)
    2
    """
    for arm in arms:
        if not isinstance(arm, (plan.On, plan.When)):
            raise AuthoringError(f"wait_for({_show(arm)}, …): write on(event, […]) or when(condition, […])")
    limit = None if within is None else _span(within, "within=days(7)")
    return plan.WaitFor(arms, limit, _steps(otherwise, "otherwise=[…]"), _id(id))


def branch(*cases: plan.When, otherwise: Iterable[plan.Step] = (), id: str | None = None) -> plan.Branch:
    """Take the path of the first condition that is true, else `otherwise`. All paths go on after the branch.

    >>> branch(when(lead.score >= 50, [send("comparison")]), otherwise=[send("basics")]).paths[1][0].name
    'basics'
    """
    for case in cases:
        if isinstance(case, plan.On):
            raise AuthoringError("branch(on(…)): a branch does not wait; write when(did(event), […]) or wait_for(…)")
        if not isinstance(case, plan.When):
            raise AuthoringError(f"branch({_show(case)}, …): write branch(when(condition, […]), otherwise=[…])")
    return plan.Branch(cases, _steps(otherwise, "otherwise=[…]"), _id(id))


def choose(ref: Ref, values: Mapping[str, str], *, otherwise: str) -> Choice:
    """A mail by the value of an attribute.

    >>> choose(lead.language, {"en": "hello-en"}, otherwise="hello").otherwise
    'hello'
    """
    spelling = 'choose(lead.industry, {"manufacturing": "case-mfg"}, otherwise="case")'
    if not isinstance(ref, Ref):
        raise AuthoringError(f"choose({_show(ref)}, …): write {spelling}")
    if ref.kind in ("number", "date", "tags"):
        raise AuthoringError(f"choose({ref!r}, …): {ref!r} is no text; write a branch(when(…), …) instead")
    if not isinstance(values, Mapping) or not all(isinstance(one, str) for pair in values.items() for one in pair):
        raise AuthoringError(f"choose({ref!r}, …) maps texts to mails: {spelling}")
    for value in values:
        check_value(ref.ref, ref.kind, value)
    return Choice(ref=ref.ref, of=dict(values), otherwise=_text(otherwise, spelling))


def share(name: str, percent: float, steps: Iterable[plan.Step] = ()) -> plan.Share:
    """One part of a `split`: its name, its percentage and its path.

    >>> share("holdout", 10).percent
    10
    """
    if isinstance(percent, bool) or not isinstance(percent, (int, float)):
        raise AuthoringError(f"share({name!r}, {_show(percent)}): write a percentage, such as share({name!r}, 50, […])")
    return plan.Share(_text(name, 'share("a", 50, […])'), percent, _steps(steps, "share(name, percent, […])"))


def split(*shares: plan.Share, id: str | None = None) -> plan.Split:
    """Part the leads by percentages that add up to 100; the same lead always falls into the same part.

    >>> split(share("mail", 90, [send("hello")]), share("holdout", 10)).shares[1].name
    'holdout'
    """
    for one in shares:
        if not isinstance(one, plan.Share):
            raise AuthoringError(f'split({_show(one)}): write split(share("a", 50, […]), share("b", 50, […]))')
    return plan.Split(shares, _id(id))


def set_lead(*, id: str | None = None, **values: Scalar) -> plan.SetLead:
    """Set attributes of the lead.

    >>> dict(set_lead(plan="trial").values)
    {'plan': 'trial'}
    """
    for name, value in values.items():
        if name in ("email", "user_id", "created_at"):
            raise AuthoringError(f"set_lead({name}=…): {name} says who the lead is and can not be set by a scenario")
        if name == "tags":
            raise AuthoringError('set_lead(tags=…): write tag("exhibition-2026") or tag(remove=["exhibition-2026"])')
        if name in COMPUTED:
            raise AuthoringError(f"set_lead({name}=…): {name} is not set: {COMPUTED[name]}")
        if isinstance(value, Ref):
            raise AuthoringError(f"set_lead({name}={value!r}): write a value; a reference has none while this is read")
        check_value(f"lead.{name}", STANDARD.get(name, "any"), value)
    return plan.SetLead(dict(values), _id(id))


def tag(*add: str, remove: OneOrMore = (), id: str | None = None) -> plan.Tag:
    """Add tags to the lead, remove others.

    >>> tag("hot", remove="cold").remove
    ('cold',)
    """
    off = (remove,) if isinstance(remove, str) else tuple(remove)
    spelling = 'tag("hot", remove=["cold"])'
    return plan.Tag(tuple(_text(t, spelling) for t in add), tuple(_text(t, spelling) for t in off), _id(id))


def notify_sales(message: str = "", *, id: str | None = None) -> plan.NotifySales:
    """Tell sales about the lead by mail, with a word of why.

    >>> notify_sales("料金ページを閲覧").message
    '料金ページを閲覧'
    """
    return plan.NotifySales(_text(message, 'notify_sales("料金ページを閲覧")'), _id(id))


def enroll(scenario: str, *, id: str | None = None) -> plan.Enroll:
    """Start another scenario for this lead, by its id; this one goes on.

    >>> enroll("newsletter").scenario
    'newsletter'
    """
    return plan.Enroll(_text(scenario, 'enroll("newsletter")'), _id(id))


def go_to(step: str) -> plan.GoTo:
    """Go on at the step of this id. A loop must contain a `wait`, or a `wait_for` of events only.

    >>> go_to("thanks").target
    'thanks'
    """
    return plan.GoTo(_text(step, 'go_to("thanks")'))


def run(activity: str, /, *, id: str | None = None, **args: Scalar) -> plan.Run:
    """Call a registered activity by its name: the way out to any Python.

    >>> dict(run("crm_sync", list="hot").args)
    {'list': 'hot'}
    """
    checked = {name: _scalar(value, f"run({activity!r}, {name}=…)") for name, value in args.items()}
    return plan.Run(_text(activity, 'run("crm_sync", …)'), checked, _id(id))


def end(outcome: str = "completed") -> plan.End:
    """End the journey with an outcome, by which journeys are counted. After the last step it is `completed`.

    >>> end("sales-told").outcome
    'sales-told'
    """
    return plan.End(_text(outcome, 'end("sales-told")'))


# -- what sales is asked


def hand_to_sales(
    why: str,
    *,
    accepted: Iterable[plan.Step] | None = None,
    rejected: Iterable[plan.Step] | None = None,
    returned: Iterable[plan.Step] | None = None,
    expired: Iterable[plan.Step] | None = None,
    sql: Iterable[plan.Step] | None = None,
    opportunity: Iterable[plan.Step] | None = None,
    won: Iterable[plan.Step] | None = None,
    lost: Iterable[plan.Step] | None = None,
    within: Duration | None = None,
    id: str | None = None,
) -> plan.HandToSales:
    """Give the lead to sales, with a word of why, and rest until sales has judged; a path for each outcome that needs one.

    A lead that is with sales already stays there, and this joins. Without a path an outcome goes on after this step. The path that
    an outcome opens runs to its end before `exits_when` is asked. `within`: the longest rest, a year if left out.

    >>> step = hand_to_sales("料金ページを閲覧", sql=[end("sql")], returned=[send("newsletter-offer")])
    >>> [outcome for outcome, _ in step.outcomes]
    ['sql', 'returned']
    >>> hand_to_sales(sql=[end("sql")])
    Traceback (most recent call last):
    TypeError: hand_to_sales() missing 1 required positional argument: 'why'
    """
    given = {
        "accepted": accepted, "sql": sql, "opportunity": opportunity, "won": won, "lost": lost, "rejected": rejected,
        "returned": returned, "expired": expired,
    }  # fmt: skip
    limit = None if within is None else _span(within, "within=days(90)")
    return plan.HandToSales(_text(why, 'hand_to_sales("料金ページを閲覧")'), _outcomes(given), limit, _id(id))


def call_task(
    why: str,
    *,
    appointment: Iterable[plan.Step] | None = None,
    talked: Iterable[plan.Step] | None = None,
    no_answer: Iterable[plan.Step] | None = None,
    expired: Iterable[plan.Step] | None = None,
    due: Duration | None = None,
    method: str = "phone",
    script: str = "",
    within: Duration | None = None,
    id: str | None = None,
) -> plan.CallTask:
    """Ask inside sales to call the lead, and rest until they did; a path for each outcome that needs one.

    `due`: by when, in business time (hours count while it is open); the rules of sales if left out. `script`: what to say and ask.
    `within`: after so long nobody is asked any more and the path `expired` is taken; ten business days if left out.

    >>> call = call_task("アンケートで面談を希望", due=hours(4), appointment=[end("appointment")], no_answer=[send("missed-you")])
    >>> [outcome for outcome, _ in call.outcomes], call.within.business_days
    (['appointment', 'no_answer'], 10)
    """
    given = {"appointment": appointment, "talked": talked, "no_answer": no_answer, "expired": expired}
    return plan.CallTask(
        _text(why, 'call_task("アンケートで面談を希望")'),
        _outcomes(given),
        _text(method, 'method="phone"'),
        _text(script, 'script="…"'),
        None if due is None else _span(due, "due=business_days(1)"),
        business_days(10) if within is None else _span(within, "within=business_days(5)"),
        _id(id),
    )


def _outcomes(given: Mapping[str, object]) -> tuple[tuple[str, plan.Steps], ...]:
    """The paths that were written, each with its outcome."""
    return tuple((name, _steps(steps, f"{name}=[…]")) for name, steps in given.items() if steps is not None)


# -- verbs of a later version: refused with the way to do without


def send_next(
    *series: str,
    mail: str | None = None,
    topic: OneOrMore = (),
    kind: OneOrMore = (),
    stage: str | None = None,
    otherwise: Iterable[plan.Step] | None = None,
    on_cap: plan.OnCap = "postpone",
    id: str | None = None,
) -> plan.Send:
    """Send what the lead has not had yet, through the gate: of a series of mails, or of the content catalogue.

    `send_next("tip-1", "tip-2", id="tips")`: the first of these mails that the lead has never got from this scenario.
    `send_next(mail="recommendation", id="next-piece")`: this mail, about the piece of scenarios/content.py that suits the lead best by
    language, stage, industry and topics, and that it was neither sent nor has read; the mail says `{{ piece.title }}` and
    `{{ piece.link }}`. `topic`, `kind`: only pieces of these; `stage`: those for leads of this stage.

    When nothing is left, the steps of `otherwise` follow, and without them the next step: in a loop it is the way out.

    >>> send_next("tip-1", "tip-2", id="tips", otherwise=[end("all-sent")]).mails
    ('tip-1', 'tip-2')
    >>> send_next(mail="recommendation", topic="automation", id="next-piece").mails
    ('recommendation',)
    >>> send_next(id="tips")
    Traceback (most recent call last):
    mebae.errors.AuthoringError: send_next(…): write the mails of a series, send_next("tip-1", "tip-2", id="tips"), or mail="…"
    """
    if bool(series) == (mail is not None):
        raise AuthoringError('send_next(…): write the mails of a series, send_next("tip-1", "tip-2", id="tips"), or mail="…"')
    _one_of(on_cap, get_args(plan.OnCap), "on_cap")
    chosen: Series | About
    if mail is None:
        if topic or kind or stage is not None:
            raise AuthoringError('topic=, kind= and stage= choose from the catalogue: write them with mail="…"')
        chosen = Series(series=tuple(_text(one, 'send_next("tip-1", "tip-2")') for one in series))
    else:
        chosen = About(
            about=_text(mail, 'mail="recommendation"'),
            topics=_words(topic, 'topic="automation"'),
            kinds=_words(kind, 'kind="case"'),
            stage=None if stage is None else _text(stage, 'stage="interest"'),
        )
    steps = None if otherwise is None else _steps(otherwise, "send_next(…, otherwise=[…])")
    return plan.Send(chosen, _id(id), on_cap, steps)


# -- what a verb may be given


def _show(value: object) -> str:
    """A value as short as an error needs it; a verb without its parentheses by its name."""
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _words(value: OneOrMore, spelling: str) -> tuple[str, ...]:
    return tuple(_text(one, spelling) for one in ((value,) if isinstance(value, str) else value))


def _text(value: object, spelling: str) -> str:
    if not isinstance(value, str):
        raise AuthoringError(f"{_show(value)} is no text: write {spelling}")
    return value


def _id(value: object) -> str | None:
    return None if value is None else _text(value, 'id="…"')


def _one_of(value: object, known: tuple[str, ...], word: str) -> None:
    if value not in known:
        choices = " or ".join(f'{word}="{one}"' for one in known)
        raise AuthoringError(f"{word}={value!r} means nothing{did_you_mean(str(value), known)}; write {choices}")


def _scalar(value: object, where: str) -> Scalar:
    if isinstance(value, Ref):
        raise AuthoringError(f"{where}: write a value; the reference {value!r} has none while this is read")
    if not isinstance(value, (bool, int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
        raise AuthoringError(f"{where}: {_show(value)} is no text, number, True or False")
    return value


def _span(value: object, spelling: str) -> Duration:
    if not isinstance(value, Duration):
        verb = spelling.partition("(")[0]
        given = f"{verb}({_show(value)})" if spelling.startswith(("wait(", "after(")) else _show(value)
        raise AuthoringError(f"{given}: write a duration, such as {spelling}")
    return value


def _time(value: object) -> str | None:
    """A time of day as written; that it exists is for the compiler to say. "9:00" is taken for "09:00"."""
    if value is None:
        return None
    text = _text(value, 'at="10:00"')
    return f"0{text}" if len(text) == 4 and text[1] == ":" else text


def _event(value: object, where: str) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if callable(value) and getattr(value, "__name__", "") in BY_VERB:
        raise AuthoringError(f"{where}: write {_show(value)}(…), with parentheses")
    raise AuthoringError(f'{where}: {_show(value)} is no event: write for example visited("/pricing")')


def _condition(value: object, where: str) -> Condition:
    if isinstance(value, _Logic):
        return value  # type: ignore[return-value]
    if isinstance(value, Pattern):
        raise AuthoringError(
            f'{where}: an event is no condition: write did(…) around it, as in did(visited("/pricing"))'
        )
    if isinstance(value, Ref):
        bool(value)  # It raises, and shows a condition that this reference can stand in.
    raise AuthoringError(f"{where}: {_show(value)} is no condition: write for example lead.score >= 50")


def _steps(value: object, spelling: str) -> plan.Steps:
    if isinstance(value, (plan.Step, str)) or not isinstance(value, Iterable):
        raise AuthoringError(f"{_show(value)}: steps stand in a list, in square brackets: {spelling}")
    steps = tuple(value)
    for step in steps:
        if isinstance(step, plan.Step):
            continue
        if isinstance(step, (plan.On, plan.When)):
            raise AuthoringError(f"{spelling}: on(…) and when(…) are no steps; they stand in wait_for(…) or branch(…)")
        if isinstance(step, plan.Share):
            raise AuthoringError(f"{spelling}: share(…) is no step; it stands in split(…)")
        if isinstance(step, (list, tuple)):
            raise AuthoringError(f"{spelling}: a list inside a list of steps; write *steps to put its steps here")
        if callable(step):
            raise AuthoringError(f"{spelling}: {_show(step)} is no step: write {_show(step)}(…), with parentheses")
        raise AuthoringError(f'{spelling}: {_show(step)} is no step: write for example send("thanks")')
    return steps
