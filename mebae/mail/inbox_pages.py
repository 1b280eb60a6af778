"""The pages of the development inbox. All that a mail says is escaped; its HTML is shown without scripts or network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, StrictUndefined

from mebae.errors import NotFound
from mebae.http.lead_words import Language, language_asked
from mebae.mail.inbox import Inbox

PAGE = 50
WORDS: dict[Language, dict[str, str]] = {
    "ja": {
        "title": "受信箱", "total": "{} 通・開発専用（メールはこのパソコンの外に出ません）", "search": "宛先で探す", "go": "探す",
        "date": "日時", "to": "宛先", "from": "差出人", "subject": "件名", "of": "配信元", "no_subject": "（件名なし）",
        "none_to": "「{}」宛てのメールはありません。", "none": "まだメールはありません。", "pages": "ページ", "newer": "← 新しいメール",
        "older": "古いメール →", "not_found": "このメールはありません。", "views": "表示", "text": "テキスト", "headers": "ヘッダー",
        "source": "ソース", "scenario": "シナリオ", "broadcast": "一斉配信", "handover": "営業への引き渡し", "call": "営業への電話依頼",
        "digest": "営業への週次まとめ", "test": "テスト送信",
    },
    "en": {
        "title": "Inbox", "total": "Mails: {} · development only, nothing leaves this machine", "search": "Search by recipient",
        "go": "Search", "date": "Date", "to": "To", "from": "From", "subject": "Subject", "of": "Sent by", "no_subject": "(no subject)",
        "none_to": "No mail to “{}”.", "none": "No mail yet.", "pages": "pages", "newer": "← Newer", "older": "Older →",
        "not_found": "There is no such mail.", "views": "views", "text": "Text", "headers": "Headers", "source": "Source",
        "scenario": "Scenario", "broadcast": "Broadcast", "handover": "To sales: hand-over", "call": "To sales: call",
        "digest": "To sales: weekly digest", "test": "Test",
    },
}  # fmt: skip
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'; base-uri 'none'"
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


def inbox_routes(inbox: Inbox, *, zone: str = "Asia/Tokyo") -> APIRouter:
    """`/inbox`, `/inbox/{id}`, its HTML alone and its source. For development: it knows no log-in.

    In the language of the browser: who looks is no reader of the mails, but whoever develops them. Times are in `zone`.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/inbox")
    def listing(
        request: Request,
        to: Annotated[str, Query(max_length=200)] = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> HTMLResponse:
        found = inbox.page(to=to, offset=(page - 1) * PAGE, limit=PAGE + 1)
        return _page("inbox.html", request, zone, entries=found[:PAGE], to=to, page=page, more=len(found) > PAGE, total=inbox.count(to=to))

    @router.get("/inbox/{id}")
    def mail(request: Request, id: str, view: Annotated[str, Query(pattern="^(html|text|headers)$")] = "html") -> HTMLResponse:
        try:
            return _page("inbox_mail.html", request, zone, mail=inbox.get(id), view=view)
        except NotFound:
            return _page("inbox_mail.html", request, zone, status=404, mail=None, view=view)

    @router.get("/inbox/{id}/html")
    def body(id: str) -> Response:
        try:
            html = inbox.get(id).html
        except NotFound:
            return PlainTextResponse("no such mail", 404, headers=_SAFE)
        # Links open beside the inbox, not inside its frame.
        return HTMLResponse('<base target="_blank">' + html, headers=_SAFE | {"Content-Security-Policy": _MAIL_POLICY})

    @router.get("/inbox/{id}/source")
    def source(id: str) -> Response:
        try:
            content = inbox.get(id).source
        except NotFound:
            return PlainTextResponse("no such mail", 404, headers=_SAFE)
        return Response(
            content, media_type="text/plain; charset=utf-8", headers=_SAFE | {"Content-Security-Policy": "sandbox"}
        )

    return router


@cache
def _pages() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@cache
def _template(name: str) -> Any:
    return _pages().from_string(files("mebae.mail").joinpath(f"templates/{name}").read_text(encoding="utf-8"))


def _page(name: str, request: Request, zone: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    language = language_asked(request)
    given = {"words": WORDS[language], "language": language, "zone": zone} | values
    return HTMLResponse(
        _template(name).render(given), status, headers=_SAFE | {"Content-Security-Policy": _PAGE_POLICY}
    )
