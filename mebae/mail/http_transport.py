"""Handing messages to a provider's HTTP API: the message as it is (RFC 5322) in one POST, with a key that makes a repeat harmless.

    POST <url>
    Authorization: Bearer <key>
    Content-Type: message/rfc822
    Idempotency-Key: <the Message-ID>
    Envelope-From: bounce+…@return.example
    Envelope-To: taro@example.jp

Providers differ in these names and in how the message is wrapped; a subclass says so in `request`. All else is the same:

| what the API does | raised | `after_data` |
| --- | --- | --- |
| cannot be reached | `RelayUnavailable` | no |
| 400, 406, 410 to 422 and other 4xx: it wants no such message | `RelayRefused` | |
| 401 to 405, 407, 3xx: our address or key of it is wrong, or the bill is not paid | `RelayUnavailable` | no |
| 408, 409, 423, 425, 429, 501, 503: not now | `RelayUnavailable` | no |
| other 5xx, silence or a dropped line after the request | `RelayUnavailable` | only if the API knows no keys |

A second try carries the same key, so an API that knows keys takes the mail once, whatever was lost on the way. `Retry-After`
is heeded: the API is left alone until then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from mebae.mail.message import address_spec, message_id_of
from mebae.mail.transport import Receipt, RelayRefused, RelayUnavailable

LONGEST_REST = timedelta(hours=24)
"""What is heeded of a `Retry-After`: the 72 hours of a mail must not pass in one rest."""

_OURS = {
    HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
}  # fmt: skip
_NOT_NOW = {
    HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE,
}  # fmt: skip
_RAW = 500
"""Characters of an answer's body that are kept."""


class HttpTransport:
    """One API.

    Args:
        connections: how many deliveries run at once; an API that hangs holds no more than these.
        timeout: seconds for connecting, and for each wait for the API; a delivery ends within about four of them, plus what
            `before_data` takes.
        knows_keys: whether the API takes one mail for one key, however often it is sent. Without that, an attempt whose
            answer was lost leaves a mail of unknown fate, as with SMTP.
    """

    def __init__(
        self, url: str, key: str, *, connections: int = 4, timeout: float = 30.0, knows_keys: bool = True
    ) -> None:
        self.url, self.timeout = url, timeout
        self._key, self._knows_keys = key, knows_keys
        self._slots = asyncio.Semaphore(connections)
        self._rests_until = 0.0
        self._client = httpx.AsyncClient(
            timeout=timeout, limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        )

    def request(self, envelope_from: str, to: str, message: bytes) -> httpx.Request:
        """The request that hands a message over. For another provider's wrapping, say it here."""
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "message/rfc822",
            "Idempotency-Key": message_id_of(message),
            "Envelope-From": envelope_from,
            "Envelope-To": to,
        }
        return self._client.build_request("POST", self.url, content=message, headers=headers)

    async def deliver(
        self, envelope_from: str, to: str, message: bytes, *, before_data: Callable[[], Awaitable[None]]
    ) -> Receipt:
        """See `Transport.deliver`. An API is not asked about the recipient beforehand: the last word comes right before the POST.

        Raises `RelayUnavailable`, `RelayRefused`, `BrokenMail` (impossible address), and what `before_data` raises.
        """
        request = self.request(address_spec(envelope_from), address_spec(to), message)
        try:
            async with asyncio.timeout(2 * self.timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise RelayUnavailable("every connection to the mail API was busy") from None
        try:
            left = self._rests_until - time.monotonic()
            if left > 0:
                raise RelayUnavailable("the mail API asked to be left alone", retry_after=timedelta(seconds=left))
            await before_data()
            return self._read(await self._answer(request))
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._client.send(request, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise RelayUnavailable(f"cannot connect: {type(error).__name__}") from None
        except httpx.TimeoutException:
            raise RelayUnavailable("timed out after the message", after_data=not self._knows_keys) from None
        except httpx.HTTPError as error:
            raise RelayUnavailable(
                f"lost the connection after the message: {type(error).__name__}", after_data=not self._knows_keys
            ) from None

    def _read(self, answer: httpx.Response) -> Receipt:
        code, raw = answer.status_code, f"{answer.status_code} {answer.text[:_RAW]}".strip()
        if 200 <= code < 300:
            return Receipt(code, answer.text[:_RAW])
        if 400 <= code < 500 and code not in _OURS and code not in _NOT_NOW:
            raise RelayRefused(raw)
        rest = _retry_after(answer)
        if rest is not None:
            self._rests_until = max(self._rests_until, time.monotonic() + rest.total_seconds())
        nobody_knows = code >= 500 and code not in _NOT_NOW and not self._knows_keys
        raise RelayUnavailable(raw, after_data=nobody_knows, retry_after=rest)


def _retry_after(answer: httpx.Response) -> timedelta | None:
    """How long to leave the API alone (RFC 9110 §10.2.3). A date is read against the API's own clock; ours may be wrong."""
    written = answer.headers.get("Retry-After", "").strip()
    if written.isdigit():
        return min(timedelta(seconds=min(int(written), 10**6)), LONGEST_REST)
    try:
        span = parsedate_to_datetime(written) - parsedate_to_datetime(answer.headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return min(max(span, timedelta(0)), LONGEST_REST)
