"""The language of CRM: `from mebae.crm_language import *` is all that `scenarios/crm.py` needs (DESIGN §9).

What is written is data: which systems there are, which of a lead's values go to which field, when, and what the values that come
back mean. Secrets are named by the variables of the environment that hold them; a secret in the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mebae.authoring import (
    _condition,
    _one_of,
    _show,
    _span,
    _text,
    all_of,
    any_of,
    days,
    did,
    did_not,
    hours,
    lead,
    minutes,
    not_,
    visited,
)
from mebae.conditions import Condition
from mebae.crm.model import OCCASIONS, Kind, Occasion, Outcomes, Sending, System, Value
from mebae.errors import AuthoringError
from mebae.timing import Duration

__all__ = [
    "Crm",
    "all_of",
    "any_of",
    "choice",
    "days",
    "did",
    "did_not",
    "hours",
    "hubspot",
    "kintone",
    "lead",
    "minutes",
    "not_",
    "outcomes",
    "salesforce",
    "sending",
    "value",
    "visited",
    "webhook",
]

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_FIELDS = 'fields={"mebae_score": "score"}'

Fields = Mapping[str, "str | Value"]


@dataclass(frozen=True, eq=False)
class Crm:
    """The systems that leads go to.

    >>> Crm(systems=[webhook("datahub", host="hooks.example.jp", url="DATAHUB_URL", secret="DATAHUB_SECRET")]).systems[0].kind
    'webhook'
    """

    systems: Iterable[System]

    def __post_init__(self) -> None:
        given: Any = self.systems
        spelling = 'systems=[hubspot("hubspot", token="HUBSPOT_TOKEN", fields={…})]'
        if isinstance(given, (str, System)) or not isinstance(given, Iterable):
            raise AuthoringError(f"systems={_show(given)}: they stand in a list: {spelling}")
        found = tuple(given)
        for one in found:
            if not isinstance(one, System):
                raise AuthoringError(f"systems=[…, {_show(one)}]: write {spelling}")
        object.__setattr__(self, "systems", found)


def webhook(
    name: str, /, *, host: str, url: str, secret: str, fields: Fields | None = None, send: Sending | None = None,
    inbound: str | None = None, private: bool = False,
) -> System:  # fmt: skip
    """A program of your own, or anything that takes Standard Webhooks.

    `url`: the variable with the whole address; `host`: the host that it must have, with its port if it is not 443. `secret`: the variable
    with what messages are signed with (`whsec_…`). `inbound`: the variable with what those are signed with that come back to
    `/v1/crm/NAME`. `private=True`: the host may be in a private network or on this machine, and http will do.

    >>> webhook("datahub", host="10.0.0.7:8080", url="DATAHUB_URL", secret="DATAHUB_SECRET", private=True).secrets["url"]
    'DATAHUB_URL'
    """
    fields = {name: name for name in ("name", "company", "title", "industry", "stage", "qualification", "score", "fit", "engagement",
                                      "reasons", "behaviour")} if fields is None else fields  # fmt: skip
    return _system(
        name, "webhook", host, fields, send, private=private, secrets={"url": url, "secret": secret, "inbound": inbound}
    )


def hubspot(
    name: str, /, *, token: str, fields: Fields, send: Sending | None = None, outcomes: Outcomes | None = None,
    owners: Mapping[str, str] | None = None, inbound: str | None = None, key_field: str = "", url: str = "", private: bool = False,
) -> System:  # fmt: skip
    """HubSpot: contacts by their address, notes and tasks.

    `token`: the variable with the access token of a private app. `key_field`: a text property with unique values of notes and of tasks,
    such as `mebae_key`: by it a note whose answer was lost is not made twice. `inbound`: the variable with the app's client secret, for
    its webhook to `/v1/crm/NAME`. `owners`: ids of sales people → owner ids. `url`: another address, of a gateway of your own.

    >>> hubspot("hubspot", token="HUBSPOT_TOKEN", fields={"mebae_score": "score"}).host
    'api.hubapi.com'
    """
    return _system(
        name, "hubspot", "api.hubapi.com", fields, send, outcomes, owners, url=url, private=private,
        secrets={"token": token, "inbound": inbound}, options={"key_field": key_field},
    )  # fmt: skip


def salesforce(
    name: str, /, *, host: str, client_id: str, client_secret: str, fields: Fields, lead_key: str = "Mebae_Id__c", task_key: str = "",
    send: Sending | None = None, outcomes: Outcomes | None = None, owners: Mapping[str, str] | None = None, url: str = "",
    private: bool = False,
) -> System:  # fmt: skip
    """Salesforce: leads by an external id, and tasks. OAuth 2.0 client credentials of an External Client App.

    `host`: your My Domain, such as `example.my.salesforce.com`. `lead_key`: the field of Lead that is an external id and holds our number
    of the lead. `task_key`: the same of Task (a text field of Activity): by it a task whose answer was lost is not made twice.
    Salesforce sends no webhooks that are signed: outcomes come by `outcomes(…, every=minutes(15))`.

    >>> salesforce("sf", host="example.my.salesforce.com", client_id="SF_ID", client_secret="SF_SECRET", fields={"LastName": "name"}).kind
    'salesforce'
    """
    return _system(
        name, "salesforce", host, fields, send, outcomes, owners, url=url, private=private,
        secrets={"client_id": client_id, "client_secret": client_secret}, options={"lead_key": lead_key, "task_key": task_key},
    )  # fmt: skip


def kintone(
    name: str, /, *, host: str, app: int, token: str, key: str, fields: Fields, activities: tuple[int, Mapping[str, str]] | None = None,
    activities_token: str | None = None, send: Sending | None = None, outcomes: Outcomes | None = None,
    owners: Mapping[str, str] | None = None, inbound: str | None = None, updated: str = "更新日時", url: str = "", private: bool = False,
) -> System:  # fmt: skip
    """kintone: records of an app.

    `host`: such as `example.cybozu.com`. `key`: the code of a text or number field without duplicates that holds our number of the lead.
    `token`: the variable with the app's API token (view, add, edit). `activities`: another app for activities and tasks, and which of
    its fields holds what: `key` (a text field without duplicates), `lead`, `what`, `title`, `body`, `at`, `due`, `owner`.
    `inbound`: the variable with the token that kintone's webhook to `/v1/crm/NAME` carries. `updated`: the code of the field that holds
    when a record was last changed.

    >>> system = kintone("k", host="example.cybozu.com", app=12, token="KINTONE_TOKEN", key="mebae", fields={"会社名": "company"})
    >>> system.options["app"]
    '12'
    """
    wanted = {"app": str(_number(app, "app=12")), "key": key, "updated": updated}
    if activities is not None:
        spelling = 'activities=(13, {"key": "キー", "lead": "リード", "title": "件名", "body": "内容", "at": "日時"})'
        if not isinstance(activities, tuple) or len(activities) != 2 or not isinstance(activities[1], Mapping):
            raise AuthoringError(f"activities={_show(activities)}: write {spelling}")
        wanted["activity_app"] = str(_number(activities[0], spelling))
        wanted |= {f"activity.{_text(of, spelling)}": _text(code, spelling) for of, code in activities[1].items()}
    return _system(
        name, "kintone", host, fields, send, outcomes, owners, url=url, private=private,
        secrets={"token": token, "activities_token": activities_token, "inbound": inbound}, options=wanted,
    )  # fmt: skip


def sending(
    *, at_once: Iterable[Occasion] = OCCASIONS, every: Duration | None = None, only: Condition | None = None, activities: bool = True,
    tasks: bool = True,
) -> Sending:  # fmt: skip
    """When leads go out: at once at these occasions, and every so often all that changed meanwhile.

    `only`: which leads go at all. `activities`, `tasks`: whether hand-overs and calls go too.

    >>> sending(at_once=["qualification", "handover"], every=minutes(30), only=lead.score >= 30).every_minutes
    30
    """
    given: Any = (at_once,) if isinstance(at_once, str) else tuple(at_once)
    for one in given:
        _one_of(one, OCCASIONS, "at_once")
    return Sending(
        at_once=given, every_minutes=_minutes(every, "every=minutes(30)"),
        only=None if only is None else _condition(only, "only="), activities=bool(activities), tasks=bool(tasks),
    )  # fmt: skip


def outcomes(
    fields: Mapping[str, Mapping[str, str]], /, *, amount: str = "", reason: str = "", reasons: Mapping[str, str] | None = None,
    every: Duration | None = None,
) -> Outcomes:  # fmt: skip
    """What comes back: their fields, and what the values mean.

    A value means `"accept"`, `"reject"`, `"return"`, `"sql"`, `"opportunity"`, `"won"` or `"lost"`; others mean nothing. `amount` and
    `reason`: their fields with the amount of a deal and with why one was lost; `reasons`: its values → codes of `sales.py`. `every`:
    how often changes are fetched, beside what a webhook tells.

    >>> outcomes({"lifecyclestage": {"salesqualifiedlead": "sql"}}, every=minutes(15)).names
    ('lifecyclestage',)
    """
    spelling = 'outcomes({"lifecyclestage": {"salesqualifiedlead": "sql", "customer": "won"}})'
    given: Any = fields
    if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
        raise AuthoringError(f"outcomes({_show(fields)}): write {spelling}")
    meanings = [(field, {str(theirs): str(move) for theirs, move in table.items()}) for field, table in given.items()]
    return Outcomes(
        fields=tuple((_text(field, spelling), table) for field, table in meanings),
        amount=amount, reason=reason, reasons={str(theirs): str(code) for theirs, code in (reasons or {}).items()},
        every_minutes=_minutes(every, "every=minutes(15)"),
    )  # fmt: skip


def value(of: str, /, *, otherwise: str | None = None) -> Value:
    """One of a lead's values, and what is sent where it has none.

    >>> value("company", otherwise="（未登録）").otherwise
    '（未登録）'
    """
    return Value(of=_text(of, 'value("company", otherwise="…")'), otherwise=otherwise)


def choice(of: str, table: Mapping[str, str], /, *, otherwise: str | None = None) -> Value:
    """One of a lead's values in their words, for lists and stages. A value that is not in the table is not sent.

    >>> choice("qualification", {"mql": "marketingqualifiedlead"}).table
    {'mql': 'marketingqualifiedlead'}
    """
    spelling = 'choice("stage", {"awareness": "認知", "interest": "興味"})'
    given: Any = table
    if not isinstance(given, Mapping) or not given:
        raise AuthoringError(f"choice({of!r}, {_show(table)}): write {spelling}")
    words = {str(ours): str(theirs) for ours, theirs in given.items()}
    return Value(of=_text(of, spelling), table=words, otherwise=otherwise)


def _system(
    name: str, kind: Kind, host: str, fields: Fields, send: Sending | None, outcomes: Outcomes | None = None,
    owners: Mapping[str, str] | None = None, *, secrets: Mapping[str, str | None], options: Mapping[str, str] | None = None, url: str = "",
    private: bool = False,
) -> System:  # fmt: skip
    given: Any = fields
    if not isinstance(given, Mapping):
        raise AuthoringError(f"fields={_show(fields)}: write their field and our value: {_FIELDS}")
    sends: Any = send or Sending()
    comes: Any = outcomes or Outcomes()
    if not isinstance(sends, Sending):
        raise AuthoringError(f"send={_show(send)}: write send=sending(every=minutes(30))")
    if not isinstance(comes, Outcomes):
        raise AuthoringError(f'outcomes={_show(outcomes)}: write outcomes=outcomes({{"lifecyclestage": {{"customer": "won"}}}})')
    return System(
        name=_text(name, f'{kind}("{kind}", …)'), kind=kind, host=_text(host, 'host="…"'), url=_text(url, 'url="…"'),
        private=bool(private), secrets={of: _variable(one, of) for of, one in secrets.items() if one is not None},
        options={of: _text(one, f'{of}="…"') for of, one in (options or {}).items() if one},
        fields={_text(theirs, _FIELDS): _value(ours) for theirs, ours in given.items()},
        sending=sends, outcomes=comes, owners={str(ours): str(theirs) for ours, theirs in (owners or {}).items()},
    )  # fmt: skip


def _value(given: object) -> Value:
    if isinstance(given, Value):
        return given
    if isinstance(given, str):
        return Value(of=given)
    raise AuthoringError(f'{_show(given)}: write the name of one of our values, in quotes: {_FIELDS}, or value(…), or choice(…)')


def _variable(given: object, name: str) -> str:
    if not isinstance(given, str) or not _VARIABLE.fullmatch(given):
        raise AuthoringError(
            f'{name}=…: write the name of a variable of the environment, such as {name}="HUBSPOT_{name.upper()}"; not what it holds'
        )
    return given


def _minutes(span: Duration | None, spelling: str) -> int | None:
    if span is None:
        return None
    given = _span(span, spelling)
    if given.business_days:
        raise AuthoringError(f"{spelling}: it goes on by night too: write minutes, hours or days, no business days")
    return int(timedelta(days=given.days, hours=given.hours, minutes=given.minutes).total_seconds() // 60)


def _number(given: object, spelling: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise AuthoringError(f"{_show(given)} is no number of an app: write {spelling}")
    return given
