"""Where sales answers: the page behind the buttons, and the API.

`/h/{token}`: a GET shows who, why and how it stands, and decides nothing: mail scanners, previews and link checkers open every
address. A POST of the page's form decides. The token is signed and names the hand-over and the message whose button it is, and so
who was asked. Pressed twice, by two people, too late, or by somebody from whom it was passed on, it does the right thing and says so.

`POST /v1/handovers/{id}/{move}` and `POST /v1/calls/{id}`: the same for systems, with a write key. A page's key opens nothing here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlmodel import Session

from mebae import calling, handing
from mebae.clock import WorldClock
from mebae.errors import BadInput, DatabaseUnavailable, NotFound
from mebae.handing import Decision, Outdated
from mebae.handover import BY_PEOPLE, CLOSED, NOBODY, WITH_REASON, IllegalMove, Move, Status, possible
from mebae.http.body import HttpError
from mebae.http.fields import Refused, read_fields
from mebae.http.handover_words import WORDS, Words
from mebae.http.intake import _basic_user, _is_one_of, _unauthorised
from mebae.http.lead_words import Language, language_asked
from mebae.http.pages import later_page, page, unknown_page
from mebae.mail.outgoing import MailSettings
from mebae.reports.explaining import explain
from mebae.reports.explaining_ja import Japanese
from mebae.resting import Setting
from mebae.sales import SalesRules
from mebae.store.database import Database
from mebae.store.facts import LeadFacts
from mebae.store.sales import rules_of
from mebae.store.scoring import rule_title, stage_titles_of
from mebae.store.tables import Handover, HandoverEvent, Lead, Telling
from mebae.tokens import Kind
from mebae.words import spoken

log = structlog.get_logger()

LARGEST = 64 * 1024
REASONS = 3
"""Rules that are named beside a score."""
_DIGITS = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class _Seen:
    """A hand-over as its page shows it: of the lead no more than a person needs to recognise it."""

    handover: Handover
    name: str
    company: str
    rules: SalesRules
    by: str
    """Who was asked with this token."""
    language: Language
    """Of the message whose button it is; whatever the browser prefers."""
    may_answer: bool
    sql_missing: str | None
    """What the SQL rule lacks; empty if it holds; None if there is none."""
    history: list[HandoverEvent]
    reasons: list[tuple[str, float]]
    """The rules that gave most when it was opened, in the language of the page."""


class HandoverPages:
    """Shows hand-overs to sales, and takes what sales says."""

    def __init__(
        self, database: Database, settings: MailSettings, clock: WorldClock, at: Setting, write_keys: Collection[str] = ()
    ) -> None:
        self._database, self._settings, self._clock, self._at = database, settings, clock, at
        self._keys = [key.encode() for key in write_keys if key]

    def routes(self) -> APIRouter:
        routes = APIRouter(include_in_schema=False)
        routes.add_api_route("/h/{token}", self._ask, methods=["GET", "HEAD"])
        routes.add_api_route("/h/{token}", self._said, methods=["POST"])
        routes.add_api_route("/v1/handovers/{handover}/{move}", self._by_api, methods=["POST"])
        routes.add_api_route("/v1/calls/{call}", self._called, methods=["POST"])
        return routes

    # The page ---------------------------------------------------------------------------------------------------------

    async def _ask(self, token: str, request: Request) -> Response:
        try:
            seen = await self._look(token)
        except DatabaseUnavailable:
            return later_page(language_asked(request))
        if seen is None:
            return unknown_page(language_asked(request))
        words, notice = WORDS[seen.language], None
        if not seen.may_answer:
            notice = words.passed_on.format(owner=self._person(seen, seen.handover.owner))
        elif seen.handover.status in CLOSED:
            notice = self._stands(seen, words.expired if seen.handover.status == Status.EXPIRED else words.closed, words)
        return self._page(seen, notice, wanted=request.query_params.get("do", ""))

    async def _said(self, token: str, request: Request) -> Response:
        language = language_asked(request)
        try:
            seen = await self._look(token)
            if seen is None:
                return unknown_page(language)
            language = seen.language
            said = dict(await read_fields(request))
            if not seen.may_answer:
                notice = WORDS[language].passed_on.format(owner=self._person(seen, seen.handover.owner))
                return self._page(seen, notice, status=409)
            return await self._decide(token, seen, said)
        except DatabaseUnavailable:
            return later_page(language)
        except Refused as refused:
            return _json(refused.status, refused.code, "This is no form.")

    async def _decide(self, token: str, seen: _Seen, said: dict[str, str]) -> Response:
        words = WORDS[seen.language]
        if lacking := _lacking(said, words):
            return self._page(seen, lacking, wanted=said.get("move", ""), status=422)
        try:
            decision = _decision(said, seen.by)
            decided = await self._write(seen.handover.id or 0, decision)
        except IllegalMove as no:
            after = await self._look(token) or seen
            text = words.expired if no.status is Status.EXPIRED else words.not_possible
            return self._page(after, self._stands(after, text, words), status=409)
        except Outdated:
            after = await self._look(token) or seen
            return self._page(after, self._stands(after, words.moved, words), status=409)
        except (BadInput, NotFound) as wrong:
            log.info("handover.not_read", handover=seen.handover.id, why=type(wrong).__name__)  # a form that is none of ours
            return self._page(seen, words.lacking, wanted=said.get("move", ""), status=422)
        after = await self._look(token) or seen
        text = words.done if decided.changed else words.already
        return self._page(after, self._stands(after, text, words), folded=True)

    def _page(self, seen: _Seen, notice: str | None, *, wanted: str = "", status: int = 200, folded: bool = False) -> Response:
        """`wanted`: the move that is asked about first. `folded`: somebody has just answered, so the next answer is out of sight."""
        language, row = seen.language, seen.handover
        words = WORDS[language]
        moves = list(possible(Status(row.status))) if seen.may_answer else []
        moves.sort(key=lambda move: move != wanted)  # what was pressed comes first, the rest stays in its order
        facts = [
            (words.stands, words.statuses[Status(row.status)]), (words.why, row.why),
            (words.score, self._score(seen, words)),
            (words.owner, self._person(seen, row.owner)), (words.due, "" if row.due_at is None else self._time(row.due_at)),
        ]  # fmt: skip
        if seen.sql_missing is not None and Move.SQL in moves:
            facts.append((words.sql_rule, words.lacks.format(missing=seen.sql_missing) if seen.sql_missing else words.holds))
        return page(
            "handover.html", language, status=status, title=words.title, said=words, notice=notice, sender=self._settings.sender,
            who=words.name_and_firm.join(part for part in (seen.name, seen.company) if part) or words.unknown_person,
            facts=[fact for fact in facts if fact[1]], forms=[_form(move, words, seen, language) for move in moves],
            version=row.version, currency=seen.rules.currency, open_all=wanted not in moves, folded=folded,
            history=[(self._time(one.at), self._line(one, seen, words)) for one in seen.history],
        )  # fmt: skip

    def _score(self, seen: _Seen, words: Words) -> str:
        parts = words.between.join(f"{rule} {points:g}" for rule, points in seen.reasons)
        return f"{seen.handover.score}" + (words.brackets.format(parts) if parts else "")

    def _line(self, event: HandoverEvent, seen: _Seen, words: Words) -> str:
        said = words.happened.get(event.move, event.move)
        to = f" → {self._person(seen, event.owner)}" if event.move == Move.PASS else ""
        return said + to + (words.brackets.format(self._person(seen, event.by)) if event.by not in NOBODY else "")

    def _stands(self, seen: _Seen, text: str, words: Words) -> str:
        last = next((one for one in reversed(seen.history) if one.move in set(Move)), None)
        who = self._person(seen, last.by) if last is not None else ""
        at = self._time(last.at) if last is not None else ""
        return text.format(status=words.statuses[Status(seen.handover.status)], who=who, at=at)

    def _person(self, seen: _Seen, id: str) -> str:
        return seen.rules.somebody(id).name or id

    def _time(self, moment: datetime) -> str:
        return f"{moment.astimezone(ZoneInfo(self._at.zone)):%Y-%m-%d %H:%M}"

    # The API ----------------------------------------------------------------------------------------------------------

    async def _by_api(self, handover: int, move: str, request: Request) -> Response:
        try:
            body = await self._body(request)
            wanted = _move(move)
            said = {key: str(value) for key, value in body.items() if value is not None}
            decision = _decision({**said, "move": wanted}, said.get("by", "api"), how="api", skipping=body.get("skipping") is True)
            decided = await self._write(handover, decision)
        except HttpError as error:
            return _json(error.status, error.code, error.message)
        except NotFound as wrong:
            return _json(404 if wrong.what == "hand-over" else 422, "not-found", str(wrong))
        except (IllegalMove, Outdated) as no:
            return _json(409, "not-possible", str(no))
        except BadInput as wrong:
            return _json(422, "bad-input", str(wrong))
        except DatabaseUnavailable:
            return _json(503, "database-unavailable", "Nothing was written: try again.", headers={"Retry-After": "5"})
        row = decided.handover
        return JSONResponse({"id": row.id, "status": row.status, "version": row.version, "owner": row.owner, "changed": decided.changed})

    async def _called(self, call: int, request: Request) -> Response:
        try:
            body = await self._body(request)
            row, changed = await self._database.write(
                calling.done, call, str(body.get("outcome", "")), by=str(body.get("by", "api")), how="api",
                note=str(body.get("note", ""))[:2000], now=self._now(),
            )  # fmt: skip
        except HttpError as error:
            return _json(error.status, error.code, error.message)
        except NotFound as wrong:
            return _json(404, "not-found", str(wrong))
        except BadInput as wrong:
            return _json(422, "bad-input", str(wrong))
        except DatabaseUnavailable:
            return _json(503, "database-unavailable", "Nothing was written: try again.", headers={"Retry-After": "5"})
        return JSONResponse({"id": row.id, "status": row.status, "outcome": row.outcome, "changed": changed})

    async def _body(self, request: Request) -> dict[str, Any]:
        """The JSON of a request that has a write key. Raises `HttpError`."""
        given = request.headers.get("authorization")
        if not _is_one_of(self._keys, _basic_user(given.encode("latin-1") if given else None)):
            raise _unauthorised("The write key is missing or wrong.")
        raw = bytearray()
        async for part in request.stream():
            raw += part
            if len(raw) > LARGEST:
                raise HttpError(413, "too-large", "The body is too large.")
        try:
            body = json.loads(bytes(raw) or b"{}")
        except ValueError:
            raise HttpError(400, "malformed-json", "The body is no JSON.") from None
        if not isinstance(body, dict):
            raise HttpError(400, "malformed-json", "The body is no JSON object.")
        return body

    # Reading and writing ----------------------------------------------------------------------------------------------

    async def _look(self, token: str) -> _Seen | None:
        tokens = self._settings.tokens
        numbers = tokens.read(Kind.HANDOVER, token, now=self._now()) if tokens is not None else None
        if numbers is None or len(numbers) != 2:
            return None
        return await self._database.read(_seen, numbers[0], numbers[1], self._now(), self._at.zone, self._settings.language)

    async def _write(self, handover: int, decision: Decision) -> handing.Decided:
        return await self._database.write(handing.decide, handover, decision, self._now(), self._at.zone, self._at.calendar)

    def _now(self) -> datetime:
        return self._clock.world(datetime.now(UTC))


def _seen(session: Session, handover: int, telling: int, now: datetime, zone: str, language: str) -> _Seen | None:
    row, told = session.get(Handover, handover), session.get(Telling, telling)
    if row is None or told is None or told.handover_id != handover:
        return None
    lead = session.get(Lead, row.lead_id)
    if lead is None or lead.erased_at is not None:
        return None
    rules = rules_of(session)
    managers = {one.id for one in rules.managers()}
    mine = told.target in (row.owner, "team", *managers) or told.version >= row.owner_since
    speaks = spoken(rules.somebody(told.target).language or language)
    missing = None
    if rules.sql is not None:
        facts = LeadFacts(session, lead, now, {})
        if speaks == "ja":
            japanese = Japanese(stage_titles_of(session))
            missing = japanese.missing(explain(rules.sql, facts, zone, japanese))
        else:
            missing = explain(rules.sql, facts, zone).missing
    history = handing.history_of(session, [handover])
    reasons = [(rule_title(session, one["rule"], speaks), one["points"]) for one in row.reasons[:REASONS]]
    return _Seen(row, lead.name or "", lead.company or "", rules, told.target, speaks, mine, missing, history, reasons)


def _lacking(said: dict[str, str], words: Words) -> str:
    """What a form lacks that a person can mend, in the page's words."""
    if said.get("move") in WITH_REASON and not said.get("reason"):
        return words.needs_reason
    if said.get("move") == Move.PASS and not said.get("to"):
        return words.needs_person
    return words.wrong_amount if _amount(said) and not _DIGITS.fullmatch(_amount(said)) else ""


def _amount(said: dict[str, str]) -> str:
    return said.get("amount", "").replace(",", "").strip()


def _decision(said: dict[str, str], by: str, *, how: str = "button", skipping: bool = False) -> Decision:
    """What was said, read. Raises `BadInput`."""
    amount = _amount(said)
    if amount and not _DIGITS.fullmatch(amount):
        raise BadInput(f"'{amount[:40]}' is no amount: write digits only")
    version = said.get("version", "")
    return Decision(
        move=_move(said.get("move", "")), by=by[:100], how=how, reason=said.get("reason") or None, note=said.get("note", "")[:2000],
        amount=int(amount) if amount else None, to=said.get("to") or None,
        version=int(version) if _DIGITS.fullmatch(version) else None,
        cause=f"api:{said['message_id'][:200]}" if said.get("message_id") else None, skipping=skipping,
    )  # fmt: skip


def _move(word: str) -> Move:
    for move in BY_PEOPLE:
        if move == word:
            return move
    raise BadInput(f"'{word[:40]}' cannot be said of a hand-over: one of {', '.join(BY_PEOPLE)}")


def _form(move: Move, words: Words, seen: _Seen, language: Language) -> dict[str, Any]:
    """What the page asks with a move."""
    rules = seen.rules
    return {
        "move": str(move), "words": words.confirm[move],
        "reasons": [(one.code, one.titled(language)) for one in rules.reasons_for(move)] if move in WITH_REASON else [],
        "reason": "",
        "people": [(one.id, one.name or one.id) for one in rules.people if move is Move.PASS and one.id != seen.handover.owner],
        "amount": move in (Move.WON, Move.OPPORTUNITY), "noted": move is not Move.ACCEPT,
    }  # fmt: skip


def _json(status: int, code: str, message: str, *, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"success": False, "code": code, "message": message}, status, headers=headers)
