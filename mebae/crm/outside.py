"""Requests to the outside, and nowhere else: only the configured host, no redirect, no private network unless it is said, nothing endless.

A name is looked up once for each connection, every address that it has is looked at, and the connection goes to one of those: a name
that points to 10.0.0.1 a moment later reaches nobody (SSRF, DNS rebinding). No proxy is used that the environment names.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from mebae.crm.adapter import Answer, CrmAway, CrmRefused, Done, Later, Refused

TIMEOUT = 10.0
"""Seconds for each step of a request: connecting, sending, the next bytes of the answer."""
WHOLE = 25.0
"""Seconds for all of it."""
LARGEST = 4 * 1024 * 1024
"""Bytes of an answer. A page of 100 records with their outcome fields has less than 100 KB."""
WAIT_FOR_CURE = timedelta(minutes=15)
"""What a person has to put right is asked for so often."""
LONGEST_REST = timedelta(days=1)
RAW = 400
"""Characters that are kept of what the other side said."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def raw(self) -> str:
        return f"{self.status} {self.body[:RAW].decode(errors='replace')}"

    def json(self) -> Any:
        """Raises `CrmAway` for what is no JSON: a page of a gateway, a cut answer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise CrmAway("crm-answer", raw=self.raw) from None

    @property
    def retry_after(self) -> timedelta | None:
        """Seconds or a date (RFC 9110 §10.2.3), a day at most. A date is read against their own clock; ours may be wrong."""
        given = self.headers.get("retry-after", "").strip()
        if given.isascii() and given.isdigit():
            return min(timedelta(seconds=min(int(given), 10**6)), LONGEST_REST)
        try:
            span = parsedate_to_datetime(given) - parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, TypeError):
            return None
        return min(max(span, timedelta(0)), LONGEST_REST)


class Outside:
    """Requests to one host. Raises `CrmAway` (`crm-away`, `crm-answer`) or `CrmRefused` (`crm-address`)."""

    def __init__(self, base: str, *, private: bool = False) -> None:
        self._base = base.rstrip("/")
        check_address(self._base, private=private)
        self._client = httpx.AsyncClient(
            transport=_Guarded(private), timeout=TIMEOUT, follow_redirects=False, trust_env=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "mebae"},
        )  # fmt: skip

    async def ask(
        self, method: str, path: str, *, body: object = None, content: bytes | None = None, headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None, form: Mapping[str, str] | None = None, told: bool = False,
    ) -> Reply:  # fmt: skip
        """One request. `path` is below the base; "" is the base itself. `told`: only the status counts, and of what is said to it
        no more is read than is kept."""
        given = dict(headers or {})
        if body is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        if content is not None:
            given.setdefault("Content-Type", "application/json")
        try:
            async with (
                asyncio.timeout(WHOLE),
                self._client.stream(method, f"{self._base}{path}", content=content, headers=given, params=params, data=form) as answer,
            ):
                return Reply(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, await _body(answer, told))
        except (httpx.HTTPError, TimeoutError) as error:
            raise CrmAway(raw=type(error).__name__) from None

    async def aclose(self) -> None:
        await self._client.aclose()


def check_address(url: str, *, private: bool, hosts: tuple[str, ...] = ()) -> str:
    """The address, if it may be spoken to at all; its host is one of `hosts`, if they are given. Raises `CrmRefused`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise CrmRefused("crm-address") from None
    named = f"{host}:{port}" if port is not None else host
    wrong = not host or parts.username is not None or parts.fragment or (hosts and named not in hosts)
    if wrong or not (parts.scheme == "https" or (parts.scheme == "http" and private)):
        raise CrmRefused("crm-address")
    return url


def classed(reply: Reply, refused: Callable[[Reply], str] = lambda _: "crm-invalid") -> Answer:
    """The usual meaning of a status. `refused`: the code of a 4xx that is about what was sent."""
    if reply.ok:
        return Done(raw=reply.raw)
    match reply.status:
        case 401 | 403:
            return Later("crm-credentials", reply.raw, WAIT_FOR_CURE)
        case 429:
            return Later("crm-busy", reply.raw, reply.retry_after)
        case 423:
            return Later("crm-locked", reply.raw, reply.retry_after)
        case 408 | 425:
            return Later("crm-away", reply.raw, reply.retry_after)
        case status if status >= 500:
            return Later("crm-away", reply.raw, reply.retry_after)
        case 404 | 410:
            return Refused("crm-not-there", reply.raw)
        case status if status < 400:  # a redirect is followed nowhere
            return Refused("crm-address", reply.raw)
        case _:
            return Refused(refused(reply), reply.raw)


def raised(answer: Answer) -> None:
    """An answer that is no, raised."""
    if isinstance(answer, Later):
        raise CrmAway(answer.code, raw=answer.raw, retry_after=answer.after)
    if isinstance(answer, Refused):
        raise CrmRefused(answer.code, raw=answer.raw)


def answered(error: CrmAway | CrmRefused) -> Answer:
    """What was raised, as an answer."""
    if isinstance(error, CrmAway):
        return Later(error.code, error.raw or "", error.retry_after)
    return Refused(error.code, error.raw or "")


async def _body(answer: httpx.Response, told: bool) -> bytes:
    if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
        if told:
            return b""
        raise CrmAway("crm-answer", raw=f"{answer.status_code} packed")
    parts, size = [], 0
    async for part in answer.aiter_raw():
        size += len(part)
        if told and size >= RAW:
            parts.append(part[:RAW])
            break
        if size > LARGEST:
            raise CrmAway("crm-answer", raw=f"{answer.status_code} more than {LARGEST} bytes")
        parts.append(part)
    return b"".join(parts)


class _Guarded(httpx.AsyncBaseTransport):
    """Connects to the addresses that were looked at, and to no others."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._inner = httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_connections=10, max_keepalive_connections=4))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        found = await _addresses(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        if not found or not (self._private or all(_is_public(one) for one in found)):
            raise CrmRefused("crm-address")
        # The certificate is that of the name, and the header Host was set before.
        request.extensions = {**request.extensions, "sni_hostname": host}
        for at, address in enumerate(found):
            request.url = request.url.copy_with(host=address)
            try:
                return await self._inner.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if at == len(found) - 1:
                    raise
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _addresses(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise httpx.ConnectError("no such host") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


_TUNNELS = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")))
"""IPv6 that leads to an IPv4 address which it holds: IPv4-compatible (RFC 4291), NAT64 (RFC 6052, 8215), Teredo (RFC 4380), 6to4
(RFC 3056). Such an address is private, wherever it leads: a gateway's own rules decide that, which we do not see."""


def _is_public(address: str) -> bool:
    """
    >>> [_is_public(one) for one in ("104.16.0.1", "2606:4700::1", "::ffff:104.16.0.1", "10.0.0.1", "::1", "::ffff:10.0.0.1")]
    [True, True, True, False, False, False]
    >>> [_is_public(one) for one in ("64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::10.0.0.1")]
    [False, False, False]
    """
    one = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        if any(one in network for network in _TUNNELS):
            return False
        one = one.ipv4_mapped or one
    return one.is_global and not one.is_multicast
