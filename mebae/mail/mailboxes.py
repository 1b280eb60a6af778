"""Reads the mails in a maildir, an mbox, a folder of `.eml` files or one such file. Nothing in them is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mebae.errors import BadInput

LARGEST = 16 * 1024 * 1024
"""Bytes of one mail that are read."""
_LINE = 64 * 1024
_FROM = re.compile(rb"From [^\r\n]*\d\d?:\d\d")


class Stored(NamedTuple):
    """One mail."""

    raw: bytes
    done: int
    """Bytes of the mailbox that have been read with it."""


def size_of(path: Path) -> int:
    """Bytes of the whole mailbox. Raises `BadInput` where there is none."""
    return sum(file.stat().st_size for file in _files(path))


def mails_in(path: Path) -> Iterator[Stored]:
    """Every mail, in the order of the files' names or of the mbox. One that is moved meanwhile is left out."""
    done = 0
    for file in _files(path):
        try:
            with file.open("rb") as opened:
                if opened.read(5) == b"From ":
                    opened.seek(0)
                    for raw, at in _of_mbox(opened):
                        yield Stored(raw, done + at)
                else:
                    opened.seek(0)
                    yield Stored(opened.read(LARGEST), done + os.fstat(opened.fileno()).st_size)
                done += os.fstat(opened.fileno()).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BadInput(f"{file}: cannot be read ({error.strerror})") from None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path}: no such mailbox; name a maildir, an mbox or a mail")
    boxes = [path / name for name in ("new", "cur") if (path / name).is_dir()]
    if boxes:
        return sorted(
            file for box in boxes for file in box.iterdir() if file.is_file() and not file.name.startswith(".")
        )
    mails = sorted(file for file in path.iterdir() if file.suffix == ".eml" and file.is_file())
    if not mails:
        raise BadInput(f"{path}: is no maildir (no `new` and `cur` in it) and holds no .eml files")
    return mails


def _of_mbox(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Mails begin at a `From ` with a time, after an empty line; `>From ` in a mail was written for `From ` (mboxrd)."""
    kept: list[bytes] = []
    size, blank, begun = 0, True, False
    while line := file.readline(_LINE):
        if blank and _FROM.match(line):
            if begun:
                yield b"".join(kept), file.tell() - len(line)
            kept, size, begun = [], 0, True
        elif size < LARGEST:
            kept.append(line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(b"From ") else line)
            size += len(line)
        blank = line in (b"\n", b"\r\n")
    if begun:
        yield b"".join(kept), file.tell()
