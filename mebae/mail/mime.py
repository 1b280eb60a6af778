"""Reads mails that strangers sent: their headers, parts and texts. Nothing that is in them raises, recurses or grows.

The standard library's parser calls itself for each level of MIME, so that a mail of 1,000 nested parts ends the program
(`RecursionError`), and copies a mail several times. What comes back about our mails needs little: this reads the first
mebibyte, ten levels and a hundred parts, and makes the best of what is malformed.
"""

from __future__ import annotations

import binascii
import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

LARGEST = 1024 * 1024
"""Bytes that are looked at; what is said about a mail stands before the mail itself."""
DEEPEST = 10
MOST_PARTS = 100
LARGEST_HEADER = 128 * 1024

_END_OF_HEADERS = re.compile(rb"\r?\n[ \t]*\r?\n")
_FIELD = re.compile(rb"^([!-9;-~]{1,200})[ \t]*:[ \t]*(.*)$", re.DOTALL)
_ENCODED = re.compile(r"=\?([\w.:*-]{1,60})\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
_PARAMETER = re.compile(r""";\s*([\w*-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))""")
_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)")

# Only these: Python has codecs that are no charsets, and some that take for ever (punycode).
_CHARSETS = {
    "us-ascii": "ascii", "ascii": "ascii", "ansi_x3.4-1968": "ascii", "utf-8": "utf-8", "utf8": "utf-8", "cp65001": "utf-8",
    "unicode-1-1-utf-7": "utf-7", "utf-7": "utf-7",
    "iso-2022-jp": "iso2022_jp_ext", "iso-2022-jp-1": "iso2022_jp_ext", "iso-2022-jp-2": "iso2022_jp_2", "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext", "csiso2022jp": "iso2022_jp_ext", "iso-2022-jp-ms": "iso2022_jp_ext",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "cp932": "cp932", "ms932": "cp932",
    "windows-31j": "cp932", "windows-932": "cp932", "euc-jp": "euc_jp", "x-euc-jp": "euc_jp", "eucjp": "euc_jp",
    "gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "big5": "big5", "big5-hkscs": "big5hkscs",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "iso-2022-kr": "iso2022_kr", "koi8-r": "koi8_r", "koi8-u": "koi8_u",
    "tis-620": "tis_620", "latin1": "latin-1", "macintosh": "mac_roman",
}  # fmt: skip
_FAMILIES = re.compile(r"(?:iso-?8859-?(\d{1,2})(?:-[ie])?|(?:windows-?|cp-?|x-cp)(125\d|874))")


@dataclass(frozen=True)
class Headers:
    """The fields of a header, unfolded and decoded, in their order."""

    fields: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""

    def get(self, name: str) -> str:
        """The first of this name; empty if there is none."""
        return next(self.all(name), "")

    def all(self, *names: str) -> Iterator[str]:
        """Every value of these names, in the order of the names."""
        for name in names:
            yield from (value for known, value in self.fields if known == name)

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _ in self.fields)


@dataclass(frozen=True)
class Part:
    """A piece of a mail that has no parts itself. A `message/rfc822` is one piece: `inner` has its headers."""

    type: str
    """In lower case, such as `message/delivery-status`."""
    headers: Headers
    body: bytes
    """As it stands, still encoded."""
    charset: str | None = None

    @property
    def content(self) -> bytes:
        """Its bytes, decoded from base64 or quoted-printable."""
        encoding = self.headers.get("content-transfer-encoding").strip().lower()
        if encoding == "base64":
            return _base64(self.body)
        return quopri.decodestring(self.body) if encoding == "quoted-printable" else self.body

    @property
    def text(self) -> str:
        """Its text, with line ends as `\\n`."""
        return decoded(self.content, self.charset).replace("\r\n", "\n").replace("\r", "\n")

    @property
    def inner(self) -> Headers:
        """Of a mail in the mail (or its headers alone): its headers."""
        return read_headers(self.content.lstrip(b"\r\n")[:LARGEST_HEADER])


@dataclass(frozen=True)
class Mail:
    """A mail, read."""

    headers: Headers
    type: str
    """Of the whole, such as `multipart/report`."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Of the whole's type, such as `report-type`; names in lower case."""
    parts: tuple[Part, ...] = ()

    def of(self, *types: str) -> Iterator[Part]:
        """The parts of these types, in the order of the mail."""
        return (part for part in self.parts if part.type in types)


def read_mail(raw: bytes) -> Mail:
    """A mail from its bytes, whatever they are."""
    raw = raw[:LARGEST]
    header, body = _split(raw)
    headers = read_headers(header)
    type, parameters = content_type(headers)
    parts: list[Part] = []
    # A stack and no recursion; last in, first out, so parts are pushed in reverse.
    waiting: list[tuple[Headers, bytes, str, int]] = [(headers, body, "text/plain", 0)]
    while waiting and len(parts) < MOST_PARTS:
        its, content, usual, depth = waiting.pop()
        kind, named = content_type(its, usual)
        boundary = named.get("boundary", "")
        if kind.startswith("multipart/") and boundary and depth < DEEPEST:
            pieces = _pieces(content, boundary, MOST_PARTS)
            if pieces:
                below = "message/rfc822" if kind == "multipart/digest" else "text/plain"
                for piece in reversed(pieces):
                    header, inside = _split(piece)
                    waiting.append((read_headers(header), inside, below, depth + 1))
                continue
        if kind.startswith("multipart/"):
            kind = "text/plain"  # says that it has parts, and has none that can be found
        parts.append(Part(kind, its, content, named.get("charset")))
    return Mail(headers, type, parameters, tuple(parts))


def read_headers(block: bytes) -> Headers:
    """The fields of a header block; lines that are none are left out. Ends at the first empty line."""
    end = _END_OF_HEADERS.search(block)
    block = block[: end.start() if end else LARGEST_HEADER]
    fields: list[tuple[str, str]] = []
    for line in re.split(rb"\r?\n(?![ \t])", block):
        found = _FIELD.match(line)
        if found is not None:
            unfolded = re.sub(rb"\r?\n[ \t]+", b" ", found[2]).strip()
            fields.append((found[1].decode("ascii").lower(), decode_words(decoded(unfolded, None))))
    return Headers(tuple(fields))


def content_type(headers: Headers, usual: str = "text/plain") -> tuple[str, dict[str, str]]:
    """The type and its parameters; `usual` where none can be read (RFC 2045 §5.2)."""
    written = headers.get("content-type")
    found = _TYPE.match(written)
    if found is None:
        return usual, {}
    parameters: dict[str, str] = {}
    for name, quoted, plain in _PARAMETER.findall(written[:4096]):
        parameters.setdefault(name.lower().rstrip("*"), re.sub(r"\\(.)", r"\1", quoted) if quoted else plain)
    return found[1].lower(), parameters


def decoded(content: bytes, charset: str | None) -> str:
    """Bytes as text: by the charset that is named, if that can be; else by what they look like. Never raises."""
    name = (charset or "").strip().strip("'\"").lower().partition("'")[0]
    codec = _CHARSETS.get(name) or _of_family(name)
    if b"\x1b$" in content and not (codec or "").startswith("iso2022"):
        codec = "iso2022_jp_ext"  # Japanese that says nothing, or says US-ASCII
    for guess in filter(None, (codec, "utf-8", "cp932")):
        try:
            return content.decode(guess)
        except UnicodeError:
            continue
    return content.decode(codec if codec and codec != "ascii" else "latin-1", "replace")


def decode_words(text: str) -> str:
    """Encoded words (RFC 2047) as they read.

    >>> decode_words("=?iso-2022-jp?B?GyRCSVQ6XxsoQg==?= =?utf-8?q?=E3=81=AE?= sato")
    '不在の sato'
    """
    return _ENCODED.sub(_word, _BETWEEN.sub(r"\1", text)) if "=?" in text else text


def _word(found: re.Match[str]) -> str:
    charset, encoding, content = found[1].partition("*")[0], found[2].lower(), found[3].encode("ascii", "replace")
    raw = _base64(content) if encoding == "b" else quopri.decodestring(content.replace(b"_", b"=20"))
    return decoded(raw, charset)


def _of_family(name: str) -> str | None:
    found = _FAMILIES.fullmatch(name)
    if found is None:
        return None
    guess = f"iso8859-{found[1]}" if found[1] else f"cp{found[2]}"
    try:
        return codecs.lookup(guess).name
    except LookupError:
        return None


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """The header block and what comes after its empty line."""
    if raw.startswith((b"\n", b"\r\n")):
        return b"", raw.lstrip(b"\r\n")
    end = _END_OF_HEADERS.search(raw, 0, LARGEST_HEADER)
    return (raw[: end.start()], raw[end.end() :]) if end else (raw[:LARGEST_HEADER], b"")


def _pieces(body: bytes, boundary: str, most: int) -> list[bytes]:
    """What stands between the boundaries. The last one may be missing: mails are cut."""
    line = re.compile(rb"(?m)^--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*\r?$")
    pieces: list[bytes] = []
    start: int | None = None
    for found in line.finditer(body):
        if start is not None:
            pieces.append(body[start : found.start()])
        start = found.end() + 1
        if found[1] or len(pieces) >= most:
            return pieces
    if start is not None and start < len(body):
        pieces.append(body[start:])
    return pieces


def _base64(content: bytes) -> bytes:
    """Base64 as far as it goes: line breaks, foreign signs and a missing end do not matter."""
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", content)
    letters = letters[: len(letters) - 1] if len(letters) % 4 == 1 else letters
    try:
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
    except binascii.Error:
        return content
