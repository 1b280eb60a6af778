"""The fields of a posted HTML form, urlencoded or multipart, whatever its page's encoding."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mebae.store.traits import clean_text

LARGEST_BODY = 96 * 1024
"""Bytes. A Japanese character takes nine of them in a form."""
SLOWEST_BODY = 30.0
MOST_FIELDS = 200

_REFERENCE = re.compile(r"&#(\d{1,7});")


class Refused(Exception):
    """What a visitor is told instead of being sent on."""

    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code
        super().__init__(code)


async def read_fields(request: Request) -> list[tuple[str, str]]:
    """The fields of a form, decoded, in their order. Raises `Refused`."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    raw = await _body(request)
    if kind == b"application/x-www-form-urlencoded":
        pairs = [_unquoted(part) for part in raw.split(b"&") if part]
    elif kind == b"multipart/form-data" and options.get(b"boundary"):
        pairs = _parts(raw, options[b"boundary"])
    else:
        raise Refused(415, "no-form")
    if len(pairs) > MOST_FIELDS:
        raise Refused(413, "too-large")
    return _decoded(pairs)


async def _body(request: Request) -> bytes:
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > LARGEST_BODY:
        raise Refused(413, "too-large")
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST_BODY):
            async for part in request.stream():
                size += len(part)
                if size > LARGEST_BODY:
                    raise Refused(413, "too-large")
                parts.append(part)
    except (TimeoutError, ClientDisconnect):
        raise Refused(400, "cut-off") from None
    return b"".join(parts)


def _unquoted(part: bytes) -> tuple[bytes, bytes]:
    name, _, value = part.replace(b"+", b" ").partition(b"=")
    return unquote_to_bytes(name), unquote_to_bytes(value)


def _parts(raw: bytes, boundary: bytes) -> list[tuple[bytes, bytes]]:
    reader = _Parts()
    calls = {
        "on_part_begin": reader.begin,
        "on_part_data": reader.data,
        "on_part_end": reader.end,
        "on_header_field": reader.header_name,
        "on_header_value": reader.header_value,
        "on_header_end": reader.header_end,
    }
    try:
        parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]
        parser.write(raw)
        parser.finalize()
    except FormParserError:
        raise Refused(400, "cut-off") from None
    if not reader.ended:
        raise Refused(400, "cut-off")
    return reader.pairs


class _Parts:
    """Collects the parts of a multipart body. Files are not taken; a file field that was left empty is no file."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        self.ended = False
        self.begin()

    def begin(self) -> None:
        self._value, self._name, self._said = bytearray(), bytearray(), bytearray()
        self._disposition = b""
        self.ended = False

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._said += data[start:end]

    def header_end(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._said)
        self._name, self._said = bytearray(), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end(self) -> None:
        self.ended = True
        _, options = parse_options_header(self._disposition)
        if b"filename" in options:
            if self._value:
                raise Refused(422, "file")
            return
        self.pairs.append((options.get(b"name", b""), bytes(self._value)))


def _decoded(pairs: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Text in the encoding of the page: UTF-8, else Shift_JIS. Browsers do not say which, except in a field `_charset_`."""
    said = next((value for name, value in pairs if name == b"_charset_"), b"").decode("ascii", "replace").lower()
    sjis = said in ("shift_jis", "windows-31j", "x-sjis", "cp932")
    for encoding in ("cp932",) if sjis else ("utf-8", "cp932"):
        try:
            found = [(name.decode(encoding), value.decode(encoding)) for name, value in pairs]
        except UnicodeDecodeError:
            continue
        if encoding == "cp932":  # what the encoding does not have, browsers write as &#12345;
            found = [(name, _REFERENCE.sub(lambda it: html.unescape(it[0]), value)) for name, value in found]
        break
    else:
        found = [(name.decode(errors="replace"), value.decode(errors="replace")) for name, value in pairs]
    return [(clean_text(name).strip(), clean_text(value)) for name, value in found]
