"""Pages of our own: one look, no scripts, no cookies, nothing from elsewhere, kept by nobody."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mebae.http.lead_words import WORDS, Language

RETRY_AFTER = 5

NEVER_KEPT = {
    "Cache-Control": "no-store, no-cache, must-revalidate, private, max-age=0",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer about one lead's mail: kept by no cache, found by no search, and its address is told to nobody."""


@cache
def _style() -> Markup:
    return Markup(files("mebae.http").joinpath("templates/pages.css").read_text(encoding="utf-8"))  # noqa: S704 - ours


@cache
def _policy() -> str:
    digest = b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mebae.http"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    name: str, language: Language, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """A page from `templates/`. Everything in `values` is escaped."""
    given = {"words": WORDS[language], "style": _style(), "sender": None} | values
    said = NEVER_KEPT | {"Content-Security-Policy": _policy(), "Content-Language": language} | (headers or {})
    return HTMLResponse(_environment().get_template(name).render(given), status, headers=said)


def message_page(
    status: int, language: Language, said: tuple[str, str], *, sender: Any = None, headers: dict[str, str] | None = None
) -> HTMLResponse:
    """A page with a title and a sentence."""
    title, text = said
    return page("message.html", language, status=status, headers=headers, title=title, text=text, sender=sender)


def unknown_page(language: Language) -> HTMLResponse:
    """For a token that is forged, altered or too old: it is told no more than that."""
    return message_page(404, language, WORDS[language].unknown)


def later_page(language: Language) -> HTMLResponse:
    return message_page(503, language, WORDS[language].later, headers={"Retry-After": str(RETRY_AFTER)})


def nothing_page(language: Language) -> HTMLResponse:
    return message_page(200, language, WORDS[language].nothing)
