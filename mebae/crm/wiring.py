"""From the rules to adapters and channels: secrets come out of the environment here, and go nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog

from mebae.clock import WorldClock
from mebae.crm.adapter import Adapter, CrmAway, CrmRefused
from mebae.crm.channel import CrmChannel
from mebae.crm.hubspot import HubSpot
from mebae.crm.kintone import Kintone
from mebae.crm.model import CrmRules, System
from mebae.crm.outside import WAIT_FOR_CURE, Outside, check_address
from mebae.crm.rounds import CrmInbox, pulling, pushing
from mebae.crm.salesforce import Salesforce
from mebae.crm.signing import key_of
from mebae.crm.webhook import Webhook
from mebae.mail.outgoing import MailSettings
from mebae.periodic import Every, Job
from mebae.resting import Setting
from mebae.store.database import Database
from mebae.telling import Channel, Message

log = structlog.get_logger()


def adapter_of(system: System, environ: Mapping[str, str]) -> Adapter:
    """Raises `CrmAway` (`crm-unset`) for a variable that is not set, `CrmRefused` (`crm-address`) for an address that may not be."""
    match system.kind:
        case "webhook":
            url = check_address(secret_of(system, "url", environ), private=system.private, hosts=(system.host,))
            secret = secret_of(system, "secret", environ)
            _readable(secret)
            return Webhook(Outside(url, private=system.private), secret)
        case "hubspot":
            return HubSpot(system, secret_of(system, "token", environ))
        case "salesforce":
            return Salesforce(system, secret_of(system, "client_id", environ), secret_of(system, "client_secret", environ))
        case "kintone":
            other = secret_of(system, "activities_token", environ) if "activities_token" in system.secrets else None
            return Kintone(system, secret_of(system, "token", environ), other)


def secret_of(system: System, of: str, environ: Mapping[str, str]) -> str:
    """What a variable holds. Raises `CrmAway` (`crm-unset`)."""
    name = system.secrets.get(of, "")
    found = environ.get(name, "").strip()
    if not found:
        raise CrmAway("crm-unset", raw=f"{name} is not set", retry_after=WAIT_FOR_CURE)
    return found


def secrets_of(system: System, of: str, environ: Mapping[str, str]) -> list[str]:
    """Several secrets stand in one variable while one takes the other's place, with spaces between; none if it is not set."""
    return environ.get(system.secrets.get(of, ""), "").split()


def crm_channels(
    database: Database, rules: CrmRules | None, settings: MailSettings, environ: Mapping[str, str]
) -> dict[str, Channel]:
    """A channel for each system, by the name that its tellings carry. One that cannot be made yet says why to each telling."""
    found: dict[str, Channel] = {}
    for system in (rules or CrmRules()).systems:
        try:
            found[system.channel] = CrmChannel(database, system, adapter_of(system, environ), settings)
        except (CrmAway, CrmRefused) as error:
            log.error("crm.not_ready", system=system.name, code=error.code, cure="mebae crm test says what is missing")
            found[system.channel] = _NotReady(error)
    return found


def crm_inbox(
    database: Database, channels: Mapping[str, Channel], setting: Setting, clock: WorldClock,
    machine: Callable[[], datetime] | None = None,
) -> CrmInbox:  # fmt: skip
    """What reads the records of which the systems say that they have changed."""
    ready = {one.system.name: (one.system, one.adapter) for one in channels.values() if isinstance(one, CrmChannel)}
    return CrmInbox(database, ready, setting, clock=clock, machine=machine)


def crm_jobs(rules: CrmRules | None, setting: Setting, environ: Mapping[str, str]) -> list[Job]:
    """The pulls and pushes of `crm.py`, as jobs that Schedules run."""
    found = []
    for system in (rules or CrmRules()).systems:
        if system.outcomes.every_minutes is not None:
            work = pulling(system, partial(adapter_of, system, environ), setting)
            title = f"what became of leads in {system.name}"
            found.append(Job(f"crm-pull-{system.name}", title, _every(system.outcomes.every_minutes), work))
        if system.sending.every_minutes is not None:
            title = f"leads that changed, to {system.name}"
            found.append(Job(f"crm-push-{system.name}", title, _every(system.sending.every_minutes), pushing(system)))
    return found


def _every(minutes: int) -> Every:
    return Every(timedelta(minutes=minutes))


class _NotReady:
    """Everything waits until somebody has put it right, and started the worker again."""

    def __init__(self, error: CrmAway | CrmRefused) -> None:
        self._why = CrmAway(error.code, raw=error.raw, retry_after=WAIT_FOR_CURE)

    async def tell(self, message: Message, now: object) -> str:
        raise self._why


def _readable(secret: str) -> None:
    try:
        key_of(secret)
    except ValueError as error:
        raise CrmAway("crm-credentials", raw=str(error), retry_after=WAIT_FOR_CURE) from None
