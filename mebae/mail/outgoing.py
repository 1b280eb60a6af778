"""What the composition root says about outgoing mail."""

from __future__ import annotations

from dataclasses import dataclass, field

from mebae.ledger import Policy
from mebae.mail.dkim import DkimSigner
from mebae.mail.rendering import Sender
from mebae.mailing import MailRules
from mebae.tokens import Tokens


@dataclass(frozen=True)
class MailSettings:
    """Everything that all mails have in common."""

    sender: Sender
    sales_email: str
    language: str = "ja"
    zone: str = "Asia/Tokyo"
    """In which sales reads times; and that of leads without one."""
    policy: Policy = "hold"
    rules: MailRules = field(default_factory=MailRules)
    tokens: Tokens | None = None
    """None: links are not tracked, and there is no unsubscribe link, so that no marketing mail passes the gate."""
    public_url: str = ""
    """Where tracked links begin."""
    bounce_domain: str = ""
    """Of the return addresses (VERP); empty: the sender's own address."""
    signer: DkimSigner | None = None
    """None: mails are not signed here."""
