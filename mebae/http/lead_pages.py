"""The leads' own pages, reached from their mails by signed links: unsubscribing, preferences, the mail itself.

`/u/{token}`: a GET shows a page and changes nothing, since gateways look at every link. A POST unsubscribes: at once and
without a page where a mail program sends `List-Unsubscribe=One-Click` (RFC 8058), with one where a person pressed the button.
`/p/{token}`: topics and language. `/v/{token}`: the mail as a page. No log-in, no cookies, no scripts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from mebae.clock import WorldClock
from mebae.errors import DatabaseUnavailable, MailInvalid
from mebae.http.fields import Refused, read_fields
from mebae.http.lead_words import WORDS, Language, Words, language_asked
from mebae.http.pages import NEVER_KEPT, later_page, message_page, page, unknown_page
from mebae.mail.outgoing import MailSettings
from mebae.mail.tracking import links_of
from mebae.mail.viewing import mail_again
from mebae.mailing import Topic
from mebae.store.database import Database
from mebae.store.lead_wishes import HOW, Wishes, resume, save, stop, wishes
from mebae.store.links import store_links
from mebae.tokens import Kind

log = structlog.get_logger()

ONE_CLICK = ("List-Unsubscribe", "One-Click")
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src https: http: data:; font-src https:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-popups allow-popups-to-escape-sandbox"
)


class _Visit(NamedTuple):
    """Whose page it is, and how it speaks."""

    delivery: int
    known: Wishes | None
    words: Words

    @property
    def language(self) -> Language:
        return self.words.language

    @property
    def who(self) -> str:
        """The address, as much of it as tells its owner which one it is: a forwarded mail is read by others too."""
        if self.known is None or self.known.email is None:
            return self.words.you
        local, _, domain = self.known.email.rpartition("@")
        masked = f"{local[:1]}***@{domain}"
        return f" {masked} " if self.language == "ja" else masked


class LeadPages:
    """Shows and takes what leads say."""

    def __init__(self, database: Database, settings: MailSettings, clock: WorldClock) -> None:
        if settings.tokens is None:
            raise ValueError("the leads' pages need a key for tokens (MEBAE_TOKEN_KEYS)")
        self._database, self._settings, self._clock, self._tokens = database, settings, clock, settings.tokens

    def routes(self) -> APIRouter:
        routes = APIRouter(include_in_schema=False)
        for path, asked, said in (
            ("/u/{token}", self._ask_to_stop, self._stopped),
            ("/p/{token}", self._ask_preferences, self._preferred),
        ):
            routes.add_api_route(path, asked, methods=["GET", "HEAD"])
            routes.add_api_route(path, said, methods=["POST"])
        routes.add_api_route("/v/{token}", self._view, methods=["GET", "HEAD"])
        return routes

    # Unsubscribing ----------------------------------------------------------------------------------------------------

    async def _ask_to_stop(self, token: str, request: Request) -> Response:
        try:
            visit = await self._visit(Kind.UNSUBSCRIBE, token, request)
        except DatabaseUnavailable:
            return later_page(language_asked(request))
        if visit is None:
            return unknown_page(language_asked(request))
        words = visit.words
        if visit.known is None or visit.known.stopped:
            return self._told(visit, words.already_title, words.already_text, undo=_undo(visit.known))
        topic = self._topic(visit.known)
        return self._told(
            visit, words.stop_title, words.stop_text, asks=True, topic=topic.title(visit.language) if topic else None
        )

    async def _stopped(self, token: str, request: Request) -> Response:
        now = self._now()
        numbers = self._tokens.read(Kind.UNSUBSCRIBE, token, now=now)
        if numbers is None or len(numbers) != 1:
            return unknown_page(language_asked(request))
        try:
            said = dict(await _said(request))
            if said.get(ONE_CLICK[0]) == ONE_CLICK[1] or "action" not in said:
                # Whatever else a mail program sends: who posts to this address wants no more mail.
                await self._database.write(stop, numbers[0], now, how="one-click")
                return PlainTextResponse("Unsubscribed.\n", headers=NEVER_KEPT)
            return await self._do(said["action"], numbers[0], now, request)
        except DatabaseUnavailable:
            log.warning("unsubscribe.not_kept", delivery=numbers[0], why="the database is away", answer=503)
            return later_page(language_asked(request))
        except Refused as refused:
            return _unreadable(refused, request)

    async def _do(self, action: str, delivery: int, now: datetime, request: Request) -> Response:
        """What a person pressed on the page."""
        visit = await self._look(delivery, request)
        words, topic = visit.words, self._topic(visit.known)
        title = topic.title(visit.language) if topic is not None else ""
        if action == "resume":
            if visit.known is None or not visit.known.can_resume:
                return self._told(visit, words.already_title, words.already_text, undo="never")
            await self._resume(visit, now)
            return self._told(visit, words.resumed_title, words.resumed_text, news=True)
        if action in ("stop-topic", "resume-topic") and topic is not None:
            if action == "resume-topic":
                await self._database.write(resume, delivery, now, wording="", topic=topic.id)
                return self._told(visit, words.resumed_title, words.resumed_text, news=True)
            await self._database.write(stop, delivery, now, how="link", topic=topic.id)
            heading = words.topic_stopped_title.format(topic=title)
            return self._told(visit, heading, words.topic_stopped_text, news=True, undo="topic")
        await self._database.write(stop, delivery, now, how="link")
        after = await self._look(delivery, request)
        return self._told(visit, words.stopped_title, words.stopped_text, news=True, undo=_undo(after.known))

    def _told(
        self, visit: _Visit, title: str, text: str, *,
        news: bool = False, asks: bool = False, topic: str | None = None, undo: str | None = None,
    ) -> HTMLResponse:  # fmt: skip
        links = links_of(self._settings, visit.delivery, self._now())
        return page(
            "unsubscribe.html", visit.language, title=title, text=_with(text, visit.who), news=news, asks=asks,
            topic=topic, undo=undo, sender=self._settings.sender, preferences=links.preferences if links else "",
        )  # fmt: skip

    # Preferences ------------------------------------------------------------------------------------------------------

    async def _ask_preferences(self, token: str, request: Request) -> Response:
        try:
            visit = await self._visit(Kind.PREFERENCES, token, request)
        except DatabaseUnavailable:
            return later_page(language_asked(request))
        return self._preferences(visit) if visit is not None else unknown_page(language_asked(request))

    async def _preferred(self, token: str, request: Request) -> Response:
        now = self._now()
        try:
            visit = await self._visit(Kind.PREFERENCES, token, request)
            if visit is None:
                return unknown_page(language_asked(request))
            pairs = await _said(request)
            said = dict(pairs)
            notice = await self._choose(visit, said.get("action", ""), pairs, now)
            after = await self._look(visit.delivery, request)
            return self._preferences(after, notice(after.words))
        except DatabaseUnavailable:
            return later_page(language_asked(request))
        except Refused as refused:
            return _unreadable(refused, request)

    async def _choose(self, visit: _Visit, action: str, pairs: list[tuple[str, str]], now: datetime) -> Any:
        if action == "stop":
            await self._database.write(stop, visit.delivery, now, how=HOW)
            return lambda words: words.stopped_title
        if action == "resume":
            if visit.known is not None and visit.known.can_resume:
                await self._resume(visit, now)
                return lambda words: words.resumed_title
            return lambda words: None
        if action != "save":
            return lambda words: None
        known = {topic.id for topic in self._topics()}
        language = next((value for name, value in pairs if name == "language" and value in WORDS), None)
        await self._database.write(
            save, visit.delivery, now,
            shown={value for name, value in pairs if name == "shown"} & known,
            wanted={value for name, value in pairs if name == "topic"} & known,
            language=language,
        )  # fmt: skip
        return lambda words: words.saved

    def _preferences(self, visit: _Visit, notice: str | None = None) -> HTMLResponse:
        known, language = visit.known, visit.language
        if known is None:
            return unknown_page(language)
        topics = [
            {
                "id": topic.id, "title": topic.title(language), "description": topic.description(language),
                "wanted": known.choices.get(topic.id, True),
            }
            for topic in self._topics()
        ]  # fmt: skip
        return page(
            "preferences.html", language, title=visit.words.preferences_title, who=visit.who, notice=notice,
            stopped=known.stopped, can_resume=known.can_resume, topics=topics, mail_language=known.language[:2].lower(),
            sender=self._settings.sender,
        )  # fmt: skip

    # The mail as a page -----------------------------------------------------------------------------------------------

    async def _view(self, token: str, request: Request) -> Response:
        now = self._now()
        numbers = self._tokens.read(Kind.VIEW, token, now=now)
        if numbers is None or len(numbers) != 1:
            return unknown_page(language_asked(request))
        language = language_asked(request)
        try:
            language = (await self._look(numbers[0], request)).language
            found = await self._database.read(mail_again, numbers[0], self._settings, now)
            if found is not None:
                await self._database.write(store_links, found.links, found.own)
        except DatabaseUnavailable:
            return later_page(language)
        except MailInvalid as error:
            log.warning("view.not_shown", delivery=numbers[0], why=error.code)
            found = None
        if found is None:
            return message_page(410, language, WORDS[language].gone, sender=self._settings.sender)
        return HTMLResponse(found.html, headers=NEVER_KEPT | {"Content-Security-Policy": _MAIL_POLICY})

    # What they share --------------------------------------------------------------------------------------------------

    async def _visit(self, kind: Kind, token: str, request: Request) -> _Visit | None:
        """Whose page it is; None if the token is none of this kind."""
        numbers = self._tokens.read(kind, token, now=self._now())
        return await self._look(numbers[0], request) if numbers is not None and len(numbers) == 1 else None

    async def _look(self, delivery: int, request: Request) -> _Visit:
        known = await self._database.read(wishes, delivery)
        return _Visit(delivery, known, WORDS[language_asked(request, *(known.speaks if known is not None else ()))])

    async def _resume(self, visit: _Visit, now: datetime) -> None:
        words = visit.words
        wording = f"{words.resume_button}: {_with(words.resumed_text, visit.who)}"
        await self._database.write(resume, visit.delivery, now, wording=wording)

    def _topics(self) -> list[Topic]:
        """Those that a lead may choose: what it asked for itself is no matter of taste."""
        return [topic for topic in self._settings.rules.topics if not topic.transactional]

    def _topic(self, known: Wishes | None) -> Topic | None:
        """The mail's own, if it is one to choose."""
        topics = (topic for topic in self._topics() if known is not None and topic.id == known.topic)
        return next(topics, None)

    def _now(self) -> datetime:
        return self._clock.world(datetime.now(UTC))


def _with(text: str, who: str) -> str:
    return text.format(who=who).strip()


def _undo(known: Wishes | None) -> str | None:
    if known is None:
        return None
    return "stop" if known.can_resume else "never"


async def _said(request: Request) -> list[tuple[str, str]]:
    """The fields of a form. What is no form at all says nothing, and is no mistake: mail programs send what they like."""
    try:
        return await read_fields(request)
    except Refused as refused:
        if refused.code == "no-form":
            return []
        raise


def _unreadable(refused: Refused, request: Request) -> Response:
    language = language_asked(request)
    return message_page(refused.status, language, WORDS[language].unreadable)
