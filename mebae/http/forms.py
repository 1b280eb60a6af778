"""`POST /forms/{form}`: a plain HTML form, from any page, without a write key. What it says is kept before the answer.

The browser is sent on to the page that the form names in `scenarios/forms.py`, and to no other. What is wrong is said on a small
page of our own, in Japanese or English.
"""

from __future__ import annotations

import html
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mebae.errors import DatabaseUnavailable, Overloaded
from mebae.forms import LARGEST, LONGEST_ANSWER, ONCE_WITHIN, Wrong, anonymous_id_in, batch_of, key_of, read_submission
from mebae.forms_language import Form
from mebae.forms_loading import FormBook
from mebae.http.fields import Refused, read_fields
from mebae.store.intake import IntakeWriter
from mebae.store.traits import clean_text

log = structlog.get_logger()

REMEMBERED = 10_000
"""Forms of the last minute that a repeated click is compared with."""
ANONYMOUS_COOKIE = "ajs_anonymous_id"
RETRY_AFTER = 5


def form_routes(book: FormBook, writer: IntakeWriter) -> APIRouter:
    """The route that forms are posted to."""
    routes = APIRouter()
    desk = _Desk(book, writer)

    @routes.post("/forms/{form_id}")
    async def submit(form_id: str, request: Request) -> Response:
        return await desk.take(form_id, request)

    return routes


class _Desk:
    """Takes forms."""

    def __init__(self, book: FormBook, writer: IntakeWriter) -> None:
        self._book, self._writer = book, writer
        self._recent: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """What was sent within the last minute: since when, and under which minute's key."""
        self._trapped: dict[str, int] = {}

    async def take(self, form_id: str, request: Request) -> Response:
        form = self._book.find(form_id)
        words = _words(request, form)
        if form is None:
            log.warning("form.unknown", cure="see `mebae forms` for what there is")
            return _page(404, words, words.unknown)
        try:
            pairs = await read_fields(request)
            return await self._take(form, pairs, request, words)
        except Refused as refused:
            log.warning("form.refused", form=form.id, status=refused.status, code=refused.code)
            return _page(refused.status, words, words.refused[refused.code])
        except (DatabaseUnavailable, Overloaded) as error:
            log.warning("form.not_kept", form=form.id, kind=type(error).__name__)
            status = 503 if isinstance(error, DatabaseUnavailable) else 429
            return _page(status, words, words.later, headers={"Retry-After": str(RETRY_AFTER)})

    async def _take(self, form: Form, pairs: Sequence[tuple[str, str]], request: Request, words: _Words) -> Response:
        read = read_submission(form, pairs)
        if read.is_trapped:
            self._trapped[form.id] = self._trapped.get(form.id, 0) + 1
            log.info("form.honeypot", form=form.id, times=self._trapped[form.id])
            return _onward(form, words)
        if read.wrong:
            log.info("form.incomplete", form=form.id, reasons=sorted(set(read.wrong.values())))
            return _incomplete(request, words, read.wrong)
        read.anonymous_id = read.anonymous_id or anonymous_id_in(request.cookies.get(ANONYMOUS_COOKIE, ""))
        received = datetime.now(UTC)
        body = batch_of(
            form,
            read,
            self._key(key_of(form, read, 0), received, lambda minute: key_of(form, read, minute)),
            page=_referer(request),
        )
        raw = json.dumps(body, ensure_ascii=False).encode()
        if len(raw) > LARGEST:
            raise Refused(413, "too-large")
        if read.unreadable:
            log.warning(
                "form.unreadable_fields", form=form.id, fields=sorted(read.unreadable), effect="kept as answers"
            )
        if read.agreed and not read.wording:
            log.warning("form.unknown_wording", form=form.id, cure="add the page's wording to Consent(earlier=[…])")
        await self._writer.put(None, raw, len(body["batch"]), received)
        return _onward(form, words)

    def _key(self, plain: str, received: datetime, keyed: Callable[[int], str]) -> str:
        """The key of a submission: a second one within a minute gets that of the first, also over the minute's edge."""
        now, minute = time.monotonic(), int(received.timestamp()) // ONCE_WITHIN
        while self._recent and next(iter(self._recent.values()))[0] <= now - ONCE_WITHIN:
            self._recent.popitem(last=False)
        _, minute = self._recent.setdefault(plain, (now, minute))
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return keyed(minute)


def _onward(form: Form, words: _Words) -> Response:
    if form.redirect:
        return RedirectResponse(form.redirect, 303)
    return _page(200, words, words.thanks)


def _referer(request: Request) -> str | None:
    """The page that the form is on, where the browser says it."""
    written = clean_text(request.headers.get("referer", ""))[:2000]
    try:
        return written if urlsplit(written).scheme in ("http", "https") else None
    except ValueError:
        return None


# Pages ----------------------------------------------------------------------------------------------------------------


class _Words(NamedTuple):
    """What a visitor reads."""

    language: str
    thanks: tuple[str, str]
    unknown: tuple[str, str]
    later: tuple[str, str]
    incomplete: tuple[str, str]
    back: str
    refused: dict[str, tuple[str, str]]
    wrong: dict[Wrong, str]
    fields: dict[str, str]


_JA = _Words(
    language="ja",
    thanks=("送信しました", "ありがとうございました。"),
    unknown=("フォームが見つかりません", "このフォームは現在ご利用いただけません。"),
    later=("ただいま混み合っています", "送信できませんでした。数秒後に、前のページからもう一度送信してください。"),
    incomplete=(
        "入力内容をご確認ください",
        "まだ送信されていません。ブラウザの「戻る」で入力内容を保ったまま修正できます。",
    ),
    back="フォームに戻る",
    refused={
        "too-large": ("入力内容が長すぎます", "文章を短くして、もう一度送信してください。"),
        "cut-off": ("送信が途中で切れました", "前のページからもう一度送信してください。"),
        "no-form": ("フォームとして読めません", "この宛先はウェブページのフォーム専用です。"),
        "file": ("ファイルは送信できません", "ファイルを外して、もう一度送信してください。"),
    },
    wrong={
        "missing": "入力してください",
        "no-address": "メールアドレスの形式をご確認ください",
        "too-long": f"{LONGEST_ANSWER}文字以内で入力してください",
        "not-agreed": "同意にチェックしてください",
    },
    fields={"email": "メールアドレス", "name": "氏名", "company": "会社名", "title": "役職"},
)
_EN = _Words(
    language="en",
    thanks=("Sent", "Thank you."),
    unknown=("There is no such form", "This form is not available."),
    later=(
        "Please try again in a moment",
        "Your entries could not be sent. Go back and send them again in a few seconds.",
    ),
    incomplete=(
        "Please check your entries",
        "Nothing has been sent yet. Use your browser's back button to keep what you filled in.",
    ),
    back="Back to the form",
    refused={
        "too-large": ("That is too long", "Please shorten your text and send it again."),
        "cut-off": ("The transmission was cut off", "Please go back and send the form again."),
        "no-form": ("This is no form", "This address is for forms of web pages only."),
        "file": ("Files can not be sent", "Please remove the file and send the form again."),
    },
    wrong={
        "missing": "please fill this in",
        "no-address": "this is not a mail address",
        "too-long": f"please keep to {LONGEST_ANSWER} characters",
        "not-agreed": "please tick this box",
    },
    fields={"email": "Email", "name": "Name", "company": "Company", "title": "Job title"},
)


def _words(request: Request, form: Form | None) -> _Words:
    """In the language that the browser asks for first; the form's, if it asks for neither."""
    asked: list[tuple[float, str]] = []
    for place, one in enumerate(request.headers.get("accept-language", "")[:500].split(",")):
        tag, _, quality = one.strip().lower().partition(";q=")
        try:
            asked.append((-float(quality or 1), f"{place:03}{tag[:2]}"))
        except ValueError:
            continue
    for _, tag in sorted(asked):
        if tag[3:] in ("ja", "en"):
            return _JA if tag[3:] == "ja" else _EN
    return _EN if form is not None and form.language not in ("", "ja") else _JA


def _incomplete(request: Request, words: _Words, wrong: dict[str, Wrong]) -> Response:
    lines = [
        f"<li><strong>{html.escape(words.fields.get(name, name))}</strong>: {words.wrong[why]}</li>"
        for name, why in wrong.items()
    ]
    page = _referer(request)
    back = f'<p><a href="{html.escape(page)}">{words.back}</a></p>' if page is not None else ""
    return _page(422, words, words.incomplete, f"<ul>{''.join(lines)}</ul>", back)


def _page(
    status: int, words: _Words, said: tuple[str, str], *parts: str, headers: dict[str, str] | None = None
) -> Response:
    title, text = (html.escape(one) for one in said)
    body = (
        f'<!doctype html><html lang="{words.language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>body{{font:1rem/1.7 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem}}"
        f"h1{{font-size:1.3rem}}</style><h1>{title}</h1>{''.join(parts[:1])}<p>{text}</p>{''.join(parts[1:])}</html>\n"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'"
    safe = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return HTMLResponse(body, status, {**safe, **(headers or {})})
