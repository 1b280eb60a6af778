"""Asking links whether they lead anywhere. Over the network, so only when somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import httpx

PATIENCE = 10.0
"""Seconds for each link."""
AT_ONCE = 8
_BY_GET = (403, 405, 501)
"""What servers answer that know no HEAD."""


async def ask_links(links: Collection[str], asked: Callable[[], object] = lambda: None) -> dict[str, str]:
    """Those that lead nowhere, each with what came instead of a page. `asked` is called after each."""
    wrong: dict[str, str] = {}
    places = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(
        timeout=PATIENCE, follow_redirects=True, headers={"User-Agent": "mebae check"}, trust_env=False
    ) as client:

        async def ask(link: str) -> None:
            async with places:
                try:
                    answer = await client.head(link)
                    if answer.status_code in _BY_GET:
                        async with client.stream("GET", link) as answer:
                            pass
                    if answer.status_code >= 400:
                        wrong[link] = f"answers {answer.status_code}"
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    wrong[link] = f"does not answer ({type(error).__name__})"
            asked()

        await asyncio.gather(*(ask(link) for link in links))
    return wrong
