"""Reads `scenarios/sales.py`, and checks it as scenarios are checked; every problem at once."""

from __future__ import annotations

import re
from pathlib import Path

from mebae import sales_language
from mebae.checking import Checker
from mebae.errors import BadInput, Problem, ScenarioError, did_you_mean
from mebae.pyfile import place, read_object, reporter
from mebae.sales import Clock, Digest, SalesRules, Territory
from mebae.sales_language import Sales
from mebae.timing import parse_time
from mebae.vocabulary import Vocabulary

SALES_FILE = "sales.py"

_ID = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?")


def load_sales(root: Path, *, known: Vocabulary | None = None) -> SalesRules | None:
    """The rules of hand-over under `root` (the project's root or its `scenarios` folder); None if there is no `sales.py`.

    `known` are the words of the scoring model and the tracking plan. Raises `ScenarioError` with every problem of the file.
    """
    root = Path(root).resolve()
    home = root / "scenarios" if (root / "scenarios").is_dir() else root
    path = home / SALES_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    report = reporter(path, problems)
    written = read_object(
        path, Sales, sales_language.__all__, report, what="set of rules", write="sales = Sales(people=[…])", several="keep one"
    )
    if written is None:
        raise ScenarioError(problems)
    checker = Checker(place(path), None, known)
    rules = compile_sales(written, checker)
    problems += checker.problems
    if problems:
        raise ScenarioError(problems)
    return rules


def compile_sales(written: Sales, check: Checker) -> SalesRules:
    """The rules as data; what is wrong with them is reported to the checker."""
    people = tuple(written.people)
    ids = [one.id for one in people]
    if not people:
        check.report(None, 'people=[]: somebody must sell: write people=[person("sato", "佐藤", "sato@example.jp")]')
    for one in people:
        if not _ID.fullmatch(one.id):
            check.report(None, f'person({one.id!r}, …): an id is small letters, digits and hyphens, such as "sato"; it stays for ever')
        if ids.count(one.id) > 1:
            check.report(None, f"two people have the id '{one.id}'")
        if one.email and not _ADDRESS.fullmatch(one.email):
            check.report(None, f"person({one.id!r}, …): {one.email!r} is no address")
    territories = []
    for at, territory in enumerate(written.territories, 1):
        for id in territory.people:
            if id not in ids:
                check.report(None, f"territory {at}: '{id}' is none of the people{did_you_mean(id, ids)}")
        territories.append(Territory(when=check.condition(territory.when, None, f"territory {at}: "), people=territory.people))
    codes = [reason.code for reason in written.reasons]
    for reason in written.reasons:
        if not _ID.fullmatch(reason.code):
            check.report(None, f'reason({reason.code!r}, …): a code is small letters, digits and hyphens, such as "too-early"')
        if codes.count(reason.code) > 1:
            check.report(None, f"two reasons have the code '{reason.code}'")
        if reason.rest is not None:
            check.span(reason.rest, None, f"reason({reason.code!r}, rest=…)")
    for host in written.webhook_hosts:
        if not _HOST.fullmatch(host):
            check.report(None, f'webhook_hosts: {host!r} is no host: write "hooks.slack.com", without https:// and path')
    _clock(written.response, "response", check)
    _clock(written.judgement, "judgement", check)
    return SalesRules(
        people=people, territories=tuple(territories), on_mql=written.hand_over_mqls, response=written.response,
        judgement=written.judgement, reasons=tuple(written.reasons), rest=check.span(written.rest, None, "rest="),
        sql=None if written.sql is None else check.condition(written.sql, None, "sql: "), mail_waits=written.mail_waits,
        hours=written.open, call_within=check.span(written.call_within, None, "call_within="), slack=written.slack,
        webhook_hosts=tuple(written.webhook_hosts), webhooks_private=written.webhooks_private, currency=written.currency,
        digest=_digest(written.digest, ids, check),
    )  # fmt: skip


def _digest(written: Digest | None, ids: list[str], check: Checker) -> Digest | None:
    if written is None:
        return None
    for id in written.to:
        if id not in ids:
            check.report(None, f"digest: to: '{id}' is none of the people{did_you_mean(id, ids)}")
    try:
        parse_time(written.at)
    except BadInput:
        check.report(None, f'digest: at={written.at!r} is no time of day: write at="09:00"')
    return written.model_copy(update={"when": check.condition(written.when, None, "digest: when: ")})


def _clock(clock: Clock, name: str, check: Checker) -> None:
    for word, span in (("within", clock.within), ("escalate_after", clock.escalate_after), ("expire_after", clock.expire_after)):
        if span is not None:
            check.span(span, None, f"{name}: {word}")
