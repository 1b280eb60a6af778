"""One attempt at handing a composed mail to the mail server, and what came of it: the same for journeys and broadcasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mebae.errors import DatabaseUnavailable
from mebae.ledger import Fate
from mebae.mail.composing import Composed
from mebae.mail.rendering import BrokenMail
from mebae.mail.transport import RelayRefused, RelayUnavailable, Transport

T = TypeVar("T")

_PATIENCE = (0.2, 0.5, 1, 2, 5, 10, 10, 10)
"""Seconds between tries, while the database is away."""


async def hand_over(transport: Transport, mail: Composed, before_data: Callable[[], Awaitable[None]]) -> Fate:
    """Hands a mail over. What `before_data` raises comes through: then no byte of the message went out."""
    try:
        receipt = await transport.deliver(mail.envelope_from, mail.to, mail.message, before_data=before_data)
    except BrokenMail as broken:  # an address that no mail server could take
        return Fate("refused", broken.code, broken.detail)
    except RelayRefused as no:
        return Fate("refused", no.code, no.raw)
    except RelayUnavailable as away:
        return Fate("unknown" if away.after_data else "later", away.code, away.raw, rest=away.retry_after)
    return Fate("sent", raw=receipt.text, forms=mail.forms)


async def insist(write: Callable[[], Awaitable[T]]) -> T:
    """The mail is out, or not: that must be written, so a database that is away is waited for within the attempt."""
    for wait in _PATIENCE:
        try:
            return await write()
        except DatabaseUnavailable:
            await asyncio.sleep(wait)
    return await write()
