"""All ways to the outside: mail and webhooks to sales, and the CRM systems, by the names that tellings carry."""

from __future__ import annotations

from collections.abc import Mapping

from mebae.crm.model import CrmRules
from mebae.crm.wiring import crm_channels
from mebae.mail.outgoing import MailSettings
from mebae.mail.transport import Transport
from mebae.sales_channels import SalesMail, SlackWebhook
from mebae.store.database import Database
from mebae.telling import Channel


def channels(
    database: Database, transport: Transport, mail: MailSettings, crm: CrmRules | None, environ: Mapping[str, str]
) -> dict[str, Channel]:
    """`environ`: where addresses and secrets are, by the names that `sales.py` and `crm.py` give."""
    return {
        "mail": SalesMail(database, transport, mail),
        "slack": SlackWebhook(database, mail, environ),
        **crm_channels(database, crm, mail, environ),
    }
