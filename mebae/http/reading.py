"""Reading single values of what clients send, fast: addresses, paths, where a visitor came from, what a database can keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel

from mebae.errors import BadInput
from mebae.store.leads import LONGEST_ID, normalise_email
from mebae.store.traits import DEEPEST, clean, clean_text

M = TypeVar("M", bound=BaseModel)

_MOST_PLAIN = 2**63
_LONGEST_SEARCH = 4096
_EVERYDAY = re.compile(
    r"[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+(?:com|jp|net|org|io|dev|biz|info|cn|kr|tw|uk|de|fr|us|eu)"
)
"""Addresses that need no long look: `normalise_email` would give them back as they are."""


def made(model: type[M], values: dict[str, Any]) -> M:
    """A model of values that are known to be right and complete; validating them again takes most of an event's time."""
    one = model.__new__(model)
    object.__setattr__(one, "__dict__", values)
    object.__setattr__(one, "__pydantic_fields_set__", set(values))
    object.__setattr__(one, "__pydantic_extra__", None)
    object.__setattr__(one, "__pydantic_private__", None)
    return one


def address_of(written: str) -> str | None:
    """The address in its one spelling; None if it is none."""
    if len(written) <= 64:
        lower = written.lower()
        if _EVERYDAY.fullmatch(lower) is not None:
            return lower
    return _unusual_address(written) if len(written) <= 1000 else None


@lru_cache(maxsize=4096)
def _unusual_address(written: str) -> str | None:
    try:
        return normalise_email(clean_text(written))
    except BadInput:
        return None


def text_of(value: Any, longest: int = 1000) -> str:
    """A value's text, trimmed and cut; empty if it is no text."""
    return clean_text(value[:longest]).strip() if isinstance(value, str) else ""


def storable(value: dict[str, Any]) -> dict[str, Any]:
    """The object as every database can keep it. Nearly all are already, so first only look. Raises `TooDeep`."""
    if _is_storable(value, 0):
        return value
    cleaned: dict[str, Any] = clean(value)
    return cleaned


def _is_storable(holder: dict[str, Any] | list[Any], depth: int) -> bool:
    if depth >= DEEPEST:
        return False
    if isinstance(holder, dict):
        for key in holder:
            if not key.isascii() or "\x00" in key:
                return False
        values: Any = holder.values()
    else:
        values = holder
    for value in values:
        kind = type(value)
        if kind is str:
            if "\x00" in value or not (value.isascii() or clean_text(value) is value):
                return False
        elif kind is int:
            if not -_MOST_PLAIN <= value < _MOST_PLAIN:
                return False
        elif kind is float:
            if value != value or value - value != 0:  # NaN or endless
                return False
        elif (kind is dict or kind is list) and not _is_storable(value, depth + 1):
            return False
    return True


# Where a visitor is, and came from ------------------------------------------------------------------------------------


def path_of(place: Any) -> str | None:
    """The path of a URL or path, without query and fragment; None if there is none.

    >>> path_of("/pricing?plan=pro#top"), path_of("https://example.jp"), path_of(7)
    ('/pricing', '/', None)
    """
    if not isinstance(place, str) or not (place := place.strip()):
        return None
    if place[0] == "/" and not place.startswith("//"):
        return place.partition("?")[0].partition("#")[0]
    try:
        parts = urlsplit(place)
    except ValueError:
        return None
    if parts.path.startswith("/") or not parts.netloc:
        return parts.path or "/"
    return "/" + parts.path


def came_from(context: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Source and campaign: what the client says, else the page's `utm_…`, else the site that linked here."""
    campaign = context.get("campaign")
    if isinstance(campaign, dict):
        source, name = text_of(campaign.get("source"), LONGEST_ID), text_of(campaign.get("name"), LONGEST_ID)
        if source or name:
            return source or None, name or None
    page = context.get("page")
    if not isinstance(page, dict):
        page = properties
    for place in (page.get("search"), page.get("url")):
        if isinstance(place, str) and "utm_" in place:
            source, name = _utm(place[:_LONGEST_SEARCH])
            if source or name:
                return source or None, name or None
    referrer = page.get("referrer")
    if isinstance(referrer, str) and referrer.startswith("http"):
        return _other_site(referrer[:_LONGEST_SEARCH], page.get("url")), None
    return None, None


@lru_cache(maxsize=1024)
def _utm(place: str) -> tuple[str, str]:
    query = place.partition("?")[2].partition("#")[0] if "?" in place else place
    found = dict(parse_qsl(query, max_num_fields=None))
    return text_of(found.get("utm_source"), LONGEST_ID), text_of(found.get("utm_campaign"), LONGEST_ID)


def _other_site(referrer: str, url: Any) -> str | None:
    """The host of another site that linked here. A page of one's own site is no source."""
    there, here = _host(referrer), _host(url[:_LONGEST_SEARCH]) if isinstance(url, str) else ""
    if not there or there == here or there.endswith(f".{here}") or (here and here.endswith(f".{there}")):
        return None
    return there[:LONGEST_ID]


@lru_cache(maxsize=1024)
def _host(url: str) -> str:
    try:
        return clean_text((urlsplit(url).hostname or "").removeprefix("www."))
    except ValueError:
        return ""
