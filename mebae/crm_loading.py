"""Reads `scenarios/crm.py`, and checks it as scenarios are checked; every problem at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mebae import crm_language
from mebae.checking import Checker
from mebae.crm.model import MOVES, VALUES, CrmRules, Sending, System, Value
from mebae.crm_language import Crm
from mebae.errors import Problem, ScenarioError, did_you_mean
from mebae.pyfile import place, read_object, reporter
from mebae.sales import SalesRules
from mebae.vocabulary import Vocabulary
from mebae.words import QUALIFICATIONS

CRM_FILE = "crm.py"

_ID = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?")
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_SALESFORCE_FIELD = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")
_HUBSPOT_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_OWN = "lead."
_ACTIVITY = ("key", "lead", "what", "title", "body", "at", "due", "owner")


def load_crm(root: Path, *, known: Vocabulary | None = None, sales: SalesRules | None = None) -> CrmRules | None:
    """The systems under `root` (the project's root or its `scenarios` folder); None if there is no `crm.py`.

    `known` are the words of the scoring model and the tracking plan, `sales` the rules of hand-over, whose people and reasons are named.
    Raises `ScenarioError` with every problem of the file.
    """
    root = Path(root).resolve()
    home = root / "scenarios" if (root / "scenarios").is_dir() else root
    path = home / CRM_FILE
    if not path.is_file():
        return None
    problems: list[Problem] = []
    report = reporter(path, problems)
    written = read_object(
        path, Crm, crm_language.__all__, report, what="set of CRM systems", write="crm = Crm(systems=[…])", several="keep one"
    )
    if written is None:
        raise ScenarioError(problems)
    checker = Checker(place(path), None, known)
    rules = compile_crm(written, checker, sales)
    problems += checker.problems
    if problems:
        raise ScenarioError(problems)
    return rules


def compile_crm(written: Crm, check: Checker, sales: SalesRules | None = None) -> CrmRules:
    """The systems as data; what is wrong with them is reported to the checker."""
    systems = tuple(written.systems)
    names = [one.name for one in systems]
    done = []
    for system in systems:

        def report(message: str, system: System = system) -> None:
            check.report(None, f"{system.kind}({system.name!r}, …): {message}")

        if not _ID.fullmatch(system.name):
            report('a name is small letters, digits and hyphens, such as "hubspot"; it stays for ever')
        if names.count(system.name) > 1:
            report("two systems have this name")
        _check_address(system, report)
        _check_fields(system, check, report)
        _check_outcomes(system, sales or SalesRules(), report)
        done.append(system.model_copy(update={"sending": _sending(system.sending, system, check, report)}))
    return CrmRules(systems=tuple(done))


def _check_address(system: System, report: Callable[[str], None]) -> None:
    if not _HOST.fullmatch(system.host):
        report(f'host={system.host!r} is no host: write "example.my.salesforce.com", without https:// and path')
    if system.url and not _URL.fullmatch(system.url):
        report(f'url={system.url!r} is no address: write "https://gateway.example.jp/hubspot"')
    elif system.url.startswith("http://") and not system.private:
        report(f"url={system.url!r}: http is for a private network: write https, or private=True")


def _check_fields(system: System, check: Checker, report: Callable[[str], None]) -> None:
    if not system.fields:
        report('fields={}: nothing would be sent: write fields={"mebae_score": "score"}')
    for theirs, ours in system.fields.items():
        _check_value(theirs, ours, check, report)
        _check_name(theirs, system, report)
    match system.kind:
        case "hubspot":
            if "email" in system.fields:
                report('fields: leave "email" out: contacts are found by their address, which is sent anyway')
        case "salesforce":
            for wanted in ("LastName", "Company"):
                if wanted not in system.fields:
                    of = "last_name" if wanted == "LastName" else "company"
                    report(f'fields: Salesforce takes no lead without {wanted}: write "{wanted}": value("{of}", otherwise="—")')
            if system.options.get("lead_key") in system.fields:
                report(f'fields: leave "{system.options["lead_key"]}" out: it is the key, which is sent anyway')
        case "kintone":
            if system.options["key"] in system.fields:
                report(f'fields: leave "{system.options["key"]}" out: it is the key, which is sent anyway')
            for name in (one.removeprefix("activity.") for one in system.options if one.startswith("activity.")):
                if name not in _ACTIVITY:
                    report(f"activities: an activity has no '{name}'{did_you_mean(name, _ACTIVITY)}")
            if "activity_app" in system.options and not {"activity.key", "activity.lead"} <= set(system.options):
                report('activities: say which fields hold "key" and "lead"')
        case "webhook":
            pass


def _check_value(theirs: str, ours: Value, check: Checker, report: Callable[[str], None]) -> None:
    if ours.of.startswith(_OWN):
        if ours.of.removeprefix(_OWN) in VALUES:
            report(f'fields: "{theirs}": write "{ours.of.removeprefix(_OWN)}", without lead.')
        return
    if ours.of not in VALUES:
        near = did_you_mean(ours.of, VALUES)
        report(f"""fields: "{theirs}": a lead has no '{ours.of}'{near} (an attribute of your own is written "lead.{ours.of}")""")
    for word in ours.table:
        if ours.of == "qualification" and word not in QUALIFICATIONS:
            report(f"""fields: "{theirs}": no lead's qualification is '{word}'{did_you_mean(word, QUALIFICATIONS)}""")
        if ours.of == "stage" and (wrong := check.known.wrong("lead.stage", word)):
            report(f'fields: "{theirs}": {wrong}')


def _check_name(theirs: str, system: System, report: Callable[[str], None]) -> None:
    if system.kind == "hubspot" and not _HUBSPOT_FIELD.fullmatch(theirs):
        report(f"{theirs!r} is no internal name of a property: small letters, digits and underscores, such as mebae_score")
    if system.kind == "salesforce" and not _SALESFORCE_FIELD.fullmatch(theirs):
        report(f"{theirs!r} is no API name of a field, such as Mebae_Score__c")


def _check_outcomes(system: System, sales: SalesRules, report: Callable[[str], None]) -> None:
    outcomes = system.outcomes
    for field, table in outcomes.fields:
        for theirs, move in table.items():
            if move not in MOVES:
                report(f"outcomes: {theirs!r} cannot mean '{move}'{did_you_mean(move, MOVES)}")
        if not table:
            report(f'outcomes: "{field}" says nothing: write {{"customer": "won"}}')
    for name in outcomes.names:
        _check_name(name, system, report)
    codes = [one.code for one in sales.reasons_for("lost")]
    for theirs, code in outcomes.reasons.items():
        if code not in codes:
            report(f"outcomes: reasons: {theirs!r}: '{code}' is no reason for a loss{did_you_mean(code, codes)}")
    if outcomes.reasons and not outcomes.reason:
        report('outcomes: reasons= needs reason="…", the field that holds them')
    if outcomes.every_minutes is not None and outcomes.every_minutes < 1:
        report("outcomes: every= is a minute or more")
    if outcomes.fields and outcomes.every_minutes is None and "inbound" not in system.secrets:
        report("outcomes: how do they come? Write every=minutes(15), or inbound= for their webhook, or both")
    people = [one.id for one in sales.people]
    for ours in system.owners:
        if ours not in people:
            report(f"owners: '{ours}' is none of the people of sales.py{did_you_mean(ours, people)}")


def _sending(sending: Sending, system: System, check: Checker, report: Callable[[str], None]) -> Sending:
    if sending.every_minutes is not None and sending.every_minutes < 1:
        report("send: every= is a minute or more")
    if sending.only is None:
        return sending
    return sending.model_copy(update={"only": check.condition(sending.only, None, f"{system.name}: only: ")})
