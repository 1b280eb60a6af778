"""Signed tokens: what stands in the links of mails, in return addresses, and on sales' buttons.

A token names a kind and a few numbers (a delivery, a link) and a key's day, and ends with a keyed hash of it all. Nothing
else is in it: what a link leads to, or whom it is about, is looked up by the numbers. A token of one kind is none of
another, so that nobody makes an unsubscribe link out of an image's address.

A key signs from its day on, until the next one's day; it is good for reading a year more, so that the links of last year's
mails still work (CAN-SPAM asks for 30 days). To change keys, add the new one and leave the old one in the list.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import lru_cache

from mebae.errors import BadInput

GOOD_FOR = timedelta(days=366)
"""How long a key's tokens are read after its successor's day."""
SHORTEST = 16
"""Characters of a secret."""
_MAC = 12
"""Bytes of the hash: a forger who tries a million a second needs longer than the sun will shine."""
_EPOCH = date(2020, 1, 1)


class Kind(IntEnum):
    """What a token is good for, and the numbers that it holds."""

    CLICK = 1  # delivery, link
    OPEN = 2  # delivery
    UNSUBSCRIBE = 3  # delivery
    PREFERENCES = 4  # delivery
    TRAP = 5  # delivery
    BOUNCE = 6  # delivery
    HANDOVER = 7  # hand-over, the telling whose button it is (whom, and of which version)
    VIEW = 8  # delivery


@dataclass(frozen=True)
class Tokens:
    """Signs and reads tokens. The keys are from the environment and are never shown."""

    keys: tuple[tuple[date, bytes], ...]
    """Each key with its day, in order of the days."""

    @classmethod
    def read_keys(cls, written: Iterable[str]) -> Tokens:
        """From `20261127:secret`, one a key. Raises `BadInput`, which shows no secret."""
        keys: dict[date, bytes] = {}
        for number, one in enumerate(written, 1):
            day, colon, secret = one.partition(":")
            try:
                at = datetime.strptime(day, "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
            except ValueError:
                raise BadInput(f"key {number}: write the day and the secret, such as 20261127:secret") from None
            if not colon or len(secret) < SHORTEST:
                raise BadInput(f"key {number}: the secret has {SHORTEST} characters or more")
            if at < _EPOCH or at in keys:
                raise BadInput(f"key {number}: every key has a day of its own, from 2020 on")
            keys[at] = hashlib.sha256(b"mebae-token\0" + secret.encode()).digest()
        return cls(tuple(sorted(keys.items())))

    def sign(self, kind: Kind, *numbers: int, now: datetime) -> str:
        """A token for links: letters, digits, `-` and `_`.

        >>> tokens = Tokens.read_keys(["20260101:a-secret-of-the-tests"])
        >>> april = datetime(2026, 4, 1, tzinfo=UTC)
        >>> tokens.read(Kind.CLICK, tokens.sign(Kind.CLICK, 7, 300, now=april), now=april)
        (7, 300)
        """
        return base64.urlsafe_b64encode(self._packed(kind, numbers, now)).rstrip(b"=").decode()

    def sign_address(self, kind: Kind, *numbers: int, now: datetime) -> str:
        """A token for the part of an address before the @: small letters and digits only, since servers may change the case."""
        return base64.b32encode(self._packed(kind, numbers, now)).rstrip(b"=").decode().lower()

    def read(self, kind: Kind, token: str, *, now: datetime) -> tuple[int, ...] | None:
        """The numbers of a token of this kind; None if it was forged, altered, cut, or signed with a key that is no good any more."""
        if not token.isascii() or len(token) > 200:
            return None
        try:
            packed = base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.urlsafe_b64encode(packed).rstrip(b"=").decode() != token:
            return None  # the last letter may hold bits that nothing reads: one token has one spelling
        return self._unpacked(kind, packed, now)

    def read_address(self, kind: Kind, token: str, *, now: datetime) -> tuple[int, ...] | None:
        """The same for `sign_address`, in any case of its letters."""
        if not token.isascii() or len(token) > 200:
            return None
        try:
            packed = base64.b32decode(token.upper().encode() + b"=" * (-len(token) % 8))
        except (binascii.Error, ValueError):
            return None
        return self._unpacked(kind, packed, now)

    def _packed(self, kind: Kind, numbers: tuple[int, ...], now: datetime) -> bytes:
        day, keyed = _signing(self.keys, now.astimezone(UTC).date())
        body = bytes((kind,)) + day + b"".join(map(_varint, numbers))
        mac = keyed.copy()
        mac.update(body)
        return body + mac.digest()[:_MAC]

    def _unpacked(self, kind: Kind, packed: bytes, now: datetime) -> tuple[int, ...] | None:
        body, mac = packed[:-_MAC], packed[-_MAC:]
        if len(body) < 3:
            return None
        day = _EPOCH + timedelta(days=int.from_bytes(body[1:3], "big"))
        key = self._good(day, now)
        # An unknown key costs as much time as a known one.
        same = hmac.compare_digest(hmac.digest(key or b"none", body, "sha256")[:_MAC], mac)
        if key is None or not same or body[0] != kind:
            return None
        return _numbers(body[3:])

    def _good(self, day: date, now: datetime) -> bytes | None:
        for at, (began, key) in enumerate(self.keys):
            if began == day:
                after = self.keys[at + 1][0] if at + 1 < len(self.keys) else None
                return key if after is None or now.astimezone(UTC).date() <= after + GOOD_FOR else None
        return None


@lru_cache(maxsize=64)
def _signing(keys: tuple[tuple[date, bytes], ...], today: date) -> tuple[bytes, hmac.HMAC]:
    """The key that signs today: its day, and HMAC that has read it, to be copied for each body."""
    day, key = next((one for one in reversed(keys) if one[0] <= today), keys[0])
    return (day - _EPOCH).days.to_bytes(2, "big"), hmac.new(key, digestmod="sha256")


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    if number < 0:
        raise ValueError("a token holds no negative numbers")
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _numbers(packed: bytes) -> tuple[int, ...] | None:
    numbers, number, shift = [], 0, 0
    for byte in packed:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number, shift = 0, 0
    return None if shift else tuple(numbers)
