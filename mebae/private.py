"""Files that hold personal data or keys: for their owner alone, from the moment at which they are there."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER, FILE = 0o700, 0o600
CHILDREN = 0o077
"""The umask of programs that keep such data: what they make is their owner's alone."""


def private_folder(path: Path) -> None:
    """Makes a folder, and those above it; one that is there already stays as its owner has made it."""
    if not path.parent.exists():
        private_folder(path.parent)  # Python would make it as the umask says
    path.mkdir(exist_ok=True, mode=FOLDER)


def private_file(path: Path) -> None:
    """Makes an empty file, where there is none yet."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE))
    except FileExistsError:
        return


def write_private(path: Path, content: bytes | str) -> None:
    """Writes a file. One that was there already becomes private first."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, FILE), "wb") as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), FILE)
        file.truncate()
        file.write(content.encode() if isinstance(content, str) else content)
