"""Reading a request's body as real clients send it: any Content-Type, gzip or not, and never more than we can hold."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncIterable, Iterator
from typing import Any, NamedTuple

import msgspec

LARGEST_BODY = 5 * 1024 * 1024
"""Bytes on the wire. Segment's clients stop at 475 KB, RudderStack's at 4 MB, which they may send without gzip."""
LARGEST_UNPACKED = 5 * 1024 * 1024

MOST_VALUES = 512 * 1024
"""Commas and brackets. Values of two or three bytes take a hundred in memory each: 5 KB of gzip came to 120 MB, and held up
the server for a second. No body below 512 KB can have so many, and none that tells of leads does."""

_GZIP = b"\x1f\x8b"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


class HttpError(Exception):
    """An answer that is no 200: what is wrong, and what to do about it."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.code, self.message, self.headers = status, code, message, headers
        super().__init__(code)


class Unparsed:
    """Stands for one event of a batch that JSON itself cannot read; its neighbours can."""

    def __init__(self, reason: str, text: str = "") -> None:
        self.reason, self.text = reason, text


class _Envelope(msgspec.Struct):
    """A batch whose events are left as they are: what is needed to answer, at a fifth of the cost."""

    batch: list[msgspec.Raw]
    writeKey: Any = None


_DECODER = msgspec.json.Decoder()
_ENVELOPE = msgspec.json.Decoder(_Envelope)


class Glance(NamedTuple):
    """What is to be known of a body before it is kept."""

    events: int
    key: Any
    body: dict[str, Any] | None
    """The body, where it is small enough to be read now; None for a large batch."""


def glance(raw: bytes, *, single: bool, most: int) -> Glance | None:
    """The fast look at a body: an event, or a batch, read whole up to `most` events. None where only `parse` can tell.

    What the fast parser takes, the slow one reads the same; what it does not take (NaN, half characters, wrong bytes,
    nesting without end) may still be a body whose other events are good.
    """
    try:
        if single:
            event = _DECODER.decode(raw)
            return Glance(1, event.get("writeKey"), event) if isinstance(event, dict) else None
        envelope = _ENVELOPE.decode(raw)
        events = len(envelope.batch)
        return Glance(events, envelope.writeKey, _DECODER.decode(raw) if events <= most else None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def read_capped(stream: AsyncIterable[bytes]) -> bytes:
    """The raw body; 413 as soon as it is too large, before the rest is read."""
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > LARGEST_BODY:
            raise too_large()
        parts.append(part)
    return b"".join(parts)


def unpack(raw: bytes, encoding: str = "") -> bytes:
    """The body without gzip, which is recognised by its first bytes: some clients gzip and do not say so."""
    if not raw.startswith(_GZIP):
        if "gzip" in encoding.lower() and not raw.lstrip().startswith((b"{", b"\xef\xbb\xbf{")):
            raise HttpError(
                400, "bad-gzip", "Content-Encoding says gzip, but the body is not gzip: compress it or drop the header."
            )
        return _of_few_values(raw)
    # A decompressor that stops at the cap: a bomb of 5 GB costs 5 MB.
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(raw, LARGEST_UNPACKED + 1)
    except zlib.error:
        raise HttpError(400, "bad-gzip", "The gzip body is damaged: send it again.") from None
    if len(unpacked) > LARGEST_UNPACKED:
        raise too_large(unpacked=True)
    if not unpacker.eof:
        raise HttpError(400, "bad-gzip", "The gzip body ends too early: send it again.")
    return _of_few_values(unpacked)


def _of_few_values(raw: bytes) -> bytes:
    if len(raw) > MOST_VALUES and sum(raw.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise HttpError(
            413, "too-many-values", f"The body holds more than {MOST_VALUES} values: split it and send the parts one by one."
        )
    return raw


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body. Events that are nested without end come back as `Unparsed`, alone."""
    try:
        body = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = _parse_slowly(raw)
    if not isinstance(body, dict):
        raise HttpError(400, "malformed-json", 'The body is JSON, but no object. Send one JSON object: {"batch": […]}.')
    return body


def _parse_slowly(raw: bytes) -> Any:
    # One wrong byte in one event is no reason to drop the batch.
    text = raw.decode("utf-8-sig", errors="replace")
    try:
        return json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno} (character {error.pos})"
        raise HttpError(
            400, "malformed-json", f"The body is not JSON: {error.msg} at {place}. Send one JSON object."
        ) from None
    except RecursionError:
        return _parse_apart(text)


def too_large(*, unpacked: bool = False) -> HttpError:
    """What a body beyond the limits is answered with."""
    what = f"{LARGEST_UNPACKED >> 20} MB when unpacked" if unpacked else f"{LARGEST_BODY >> 20} MB"
    return HttpError(
        413, "too-large", f"The body is larger than {what}: split the batch into smaller ones and send them one by one."
    )


def texts_of_events(raw: bytes) -> list[str]:
    """The JSON of each event of a batch, as it was written: for events that cannot be written again."""
    text = raw.decode("utf-8-sig", errors="replace")
    return [text[start:end].strip() for start, end in _event_spans(text)]


def _whole(digits: str) -> int | float:
    """Python refuses numbers of more than 4,300 digits, and takes its time over those below."""
    return int(digits) if len(digits) < 20 else float(digits)


def _parse_apart(text: str) -> dict[str, Any]:
    """Reads each event of the batch by itself, because one of them is nested deeper than Python's parser goes."""
    too_deep = HttpError(400, "too-deep", "The body is nested too deeply: nothing that a lead does is.")
    spans = list(_event_spans(text))
    if not spans:
        raise too_deep
    rest = text[: spans[0][0]] + text[spans[-1][1] :]
    try:
        body = json.loads(rest, parse_int=_whole)
    except (ValueError, RecursionError):
        raise too_deep from None
    events: list[Any] = []
    for start, end in spans:
        try:
            events.append(json.loads(text[start:end], parse_int=_whole))
        except RecursionError:
            events.append(Unparsed("is nested too deeply", text[start:end]))
        except ValueError:
            raise too_deep from None
    if not isinstance(body, dict) or body.get("batch") != []:
        raise too_deep
    body["batch"] = events
    return body


def _event_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the elements of the top-level `batch` array begin and end. Only ever used on valid or hopeless JSON."""
    depth, start, in_batch, last_string = 0, -1, False, ""
    for found in _TOKEN.finditer(text):
        mark = found[0]
        if mark in "[{":
            depth += 1
            if depth == 2 and mark == "[" and last_string == '"batch"':
                in_batch, start = True, found.end()
        elif mark in "]}":
            depth -= 1
            if in_batch and depth == 1:
                if text[start : found.start()].strip():
                    yield start, found.start()
                return
        elif mark == ",":
            if in_batch and depth == 2:
                yield start, found.start()
                start = found.end()
        elif depth == 1:
            last_string = mark
