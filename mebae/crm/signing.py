"""Signatures of webhooks: ours by Standard Webhooks, and those that come in.

Standard Webhooks (https://www.standardwebhooks.com, 1.0): HMAC-SHA256 over `id.timestamp.body`; a secret is `whsec_` and base64.
HubSpot v3: HMAC-SHA256 of the app's client secret over method, address, body and timestamp (milliseconds), in base64.
kintone signs nothing: its requests carry a token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import unquote

TOLERANCE = timedelta(minutes=5)
"""How far a request's clock may be off, before it is taken for one that somebody has kept and sends again."""
_PREFIX = "whsec_"


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for. `ValueError` for one that says `whsec_` and is no base64.

    >>> key_of("whsec_c2VjcmV0"), key_of("as it is")
    (b'secret', b'as it is')
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret[len(_PREFIX) :], validate=True)
    except binascii.Error:
        raise ValueError("the secret begins with whsec_ and is no base64") from None


def sign(secret: str, id: str, at: datetime, body: bytes) -> str:
    """The header `webhook-signature`."""
    said = b".".join((id.encode(), str(int(at.timestamp())).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), said, hashlib.sha256)).decode()


def headers(secret: str, id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a message. The id stays the same at every attempt, the time is that of the attempt."""
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign(secret, id, at, body),
    }


def is_signed(secrets: Iterable[str], given: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether one of these secrets has signed a message, and lately. `given`: its headers, in lower case."""
    id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    at = _moment(stamp, 1)
    if not id or at is None or abs(at - now.timestamp()) > TOLERANCE.total_seconds():
        return False
    offered = [one for one in given.get("webhook-signature", "").split() if one.startswith("v1,")]
    said = b".".join((id.encode(), stamp.encode(), body))
    right = [b"v1," + base64.b64encode(hmac.digest(key_of(one), said, hashlib.sha256)) for one in secrets]
    # Every pair is compared, so that time tells nothing of which was nearly right.
    return sum(hmac.compare_digest(one, mine.encode()) for one in right for mine in offered) > 0


def is_signed_by_hubspot(
    secrets: Iterable[str], given: Mapping[str, str], method: str, url: str, body: bytes, now: datetime
) -> bool:
    """Whether HubSpot has signed a request, lately, for this address (as HubSpot was told to call it)."""
    stamp = given.get("x-hubspot-request-timestamp", "")
    at = _moment(stamp, 1000)
    if at is None or abs(at - now.timestamp()) > TOLERANCE.total_seconds():
        return False
    said = method.encode() + unquote(url).encode() + body + stamp.encode()
    offered = given.get("x-hubspot-signature-v3", "").encode()
    right = [base64.b64encode(hmac.digest(one.encode(), said, hashlib.sha256)) for one in secrets]
    return sum(hmac.compare_digest(one, offered) for one in right) > 0


def is_token(secrets: Iterable[str], given: str) -> bool:
    """Whether it is one of these tokens."""
    return sum(hmac.compare_digest(one.encode(), given.encode()) for one in secrets) > 0


def _moment(stamp: str, per_second: int) -> float | None:
    return int(stamp) / per_second if stamp.isascii() and stamp.isdigit() and len(stamp) < 16 else None
