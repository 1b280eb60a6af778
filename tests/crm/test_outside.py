"""Requests go to the configured host and nowhere else, and nothing that comes back is endless."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

from mebae.crm import outside
from mebae.crm.adapter import CrmAway, CrmRefused, Refused
from mebae.crm.outside import Outside, Reply, check_address, classed
from mebae.crm.wiring import adapter_of
from mebae.crm_language import webhook
from tests.crm.site import Asked, Said, Site, running


@pytest.mark.parametrize(
    ("url", "private", "good"),
    [
        ("https://hooks.example.jp/x", False, True),
        ("http://hooks.example.jp/x", False, False),
        ("http://10.0.0.7:8080/x", True, False),
        ("https://hooks.example.jp:8443/x", False, False),
        ("https://hooks.example.jp@evil.example/x", False, False),
        ("https://evil.example/hooks.example.jp", False, False),
        ("https://hooks.example.jp.evil.example/", False, False),
        ("ftp://hooks.example.jp/", True, False),
        ("http://[::1", True, False),
        ("", True, False),
    ],
)
def test_only_the_host_that_is_written_down_over_https(url: str, private: bool, good: bool) -> None:
    if good:
        assert check_address(url, private=private, hosts=("hooks.example.jp",)) == url
        return
    with pytest.raises(CrmRefused, match="crm-address"):
        check_address(url, private=private, hosts=("hooks.example.jp",))


HIDDEN = ("::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::1")
"""IPv4 addresses within IPv6."""


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fd00::1", "100.64.0.1", "0.0.0.0", *HIDDEN]
)
async def test_name_that_leads_into_a_private_network_reaches_nobody(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that somebody else runs may say anything; one public address beside it does not help."""

    async def looked_up(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in ("93.184.216.34", address)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
    one = Outside("https://crm.example.jp")
    with pytest.raises(CrmRefused, match="crm-address"):
        await one.ask("GET", "/")
    await one.aclose()


async def test_this_machine_is_private_unless_it_is_said() -> None:
    async with running(Site()) as site:
        closed = Outside(site.url.replace("http://", "https://"))
        with pytest.raises(CrmRefused):
            await closed.ask("GET", "/")
        assert site.asked == []
        open_ = Outside(site.url, private=True)
        assert (await open_.ask("GET", "/x", params={"q": "佐藤"})).ok
        assert site.asked[0].headers["host"] == f"127.0.0.1:{site.port}"
        await closed.aclose()
        await open_.aclose()


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        ({"retry-after": "7"}, timedelta(seconds=7)),
        ({"retry-after": "Thu, 01 Apr 2027 00:01:00 GMT", "date": "Thu, 01 Apr 2027 00:00:00 GMT"}, timedelta(minutes=1)),
        ({"retry-after": "Thu, 01 Apr 2027 00:00:00 GMT", "date": "Thu, 01 Apr 2027 00:01:00 GMT"}, timedelta(0)),
        ({"retry-after": "Fri, 31 Dec 2100 00:00:00 GMT", "date": "Thu, 01 Apr 2027 00:00:00 GMT"}, timedelta(days=1)),
        ({"retry-after": "Thu, 01 Apr 2027 00:01:00 GMT"}, None),
        ({"retry-after": "soon", "date": "Thu, 01 Apr 2027 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_to_leave_it_alone_is_read_by_its_own_clock(headers: dict[str, str], span: timedelta | None) -> None:
    assert Reply(503, headers, b"").retry_after == span


async def test_redirect_is_followed_nowhere() -> None:
    async with running(Site()) as other, running(Site()) as site:
        site.away = Said(302, None, {"Location": f"{other.url}/secrets"})
        one = Outside(site.url, private=True)
        answer = classed(await one.ask("POST", "/", body={"a": 1}))
        assert isinstance(answer, Refused)
        assert (answer.code, other.asked) == ("crm-address", [])
        await one.aclose()


async def test_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "LARGEST", 1000)
    async with running(Site()) as site:
        one = Outside(site.url, private=True)
        for said in (Said(200, b"x" * 2000), Said(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})):
            site.away = said
            with pytest.raises(CrmAway, match="crm-answer"):
                await one.ask("GET", "/")
        await one.aclose()


async def test_system_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Site):
        def answer(self, asked: Asked) -> Said:
            return Said()

        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the other side has had enough
            writer.close()

    monkeypatch.setattr(outside, "WHOLE", 0.2)
    async with running(Silent()) as site:
        one = Outside(site.url, private=True)
        with pytest.raises(CrmAway, match="crm-away"):
            await one.ask("GET", "/")
        await one.aclose()


async def test_webhook_whose_variable_names_another_host_is_never_asked() -> None:
    system = webhook("hook", host="hooks.example.jp", url="U", secret="S")
    with pytest.raises(CrmRefused, match="crm-address"):
        adapter_of(system, {"U": "https://169.254.169.254/latest/meta-data", "S": "whsec_c2VjcmV0"})
    with pytest.raises(CrmAway, match="crm-unset"):
        adapter_of(system, {"S": "whsec_c2VjcmV0"})
    with pytest.raises(CrmAway, match="crm-credentials"):
        adapter_of(system, {"U": "https://hooks.example.jp/x", "S": "whsec_not base64"})
