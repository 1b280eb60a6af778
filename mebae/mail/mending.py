"""Going on after a slip: a mail without the expression that is wrong, so that what else is wrong with it can be seen. Pure.

Only `check` reads such a mail; nobody is ever sent one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_PRINTED = re.compile(r"\{\{.*?\}\}")
_ADDRESS = re.compile(r"""[(="']\s*$""")


def line_of(slip: str, where: str) -> int | None:
    """The line of the file that a slip names.

    >>> line_of("trial/hello.ja.md, line 5: 'led' is unknown", "trial/hello.ja.md")
    5
    """
    found = re.match(rf"{re.escape(where)}, line (\d+): ", slip)
    return int(found[1]) if found else None


def without(source: str, line: int, slip: str, slips: Callable[[str], Collection[str]]) -> str | None:
    """The source with words in place of the printed value on this line that makes the slip, or without the line of the front matter
    that does; None where it is neither.

    Lines stay where they are. `slips`: those of a source.

    >>> without("{{ a }} {{ b }}", 1, "b is wrong", lambda source: ["b is wrong"] if "b" in source else [])
    '{{ a }} x'
    """
    lines = source.split("\n")
    if not 1 <= line <= len(lines):
        return None
    for printed in dict.fromkeys(_PRINTED.findall(lines[line - 1])):
        before = lines[line - 1].partition(printed)[0]
        words = "https://www.example.jp/" if _ADDRESS.search(before) else "x"
        changed = "\n".join([*lines[: line - 1], lines[line - 1].replace(printed, words), *lines[line:]])
        if slip not in slips(changed):
            return changed
    if "---" not in lines[1:line] and lines[0].rstrip() == "---":
        changed = "\n".join([*lines[: line - 1], "", *lines[line:]])
        return changed if slip not in slips(changed) else None
    return None


def without_key(source: str, slip: str) -> str | None:
    """The source with plain words for the line of the front matter that a slip begins with; None where it begins with none.

    >>> without_key("---\\nsubject: '{{ a }}'\\n---\\nx", "subject, line 1: a is empty here")
    '---\\nsubject: x\\n---\\nx'
    """
    found = re.match(r"(subject|preheader|from)\b", slip)
    if found is None:
        return None
    changed = re.sub(rf"^{found[1]}\s*:.*$", f"{found[1]}: x", source, count=1, flags=re.MULTILINE)
    return changed if changed != source else None


def without_block(source: str, slip: str) -> str | None:
    """The source without a block that there is not; None where the slip is no such thing.

    >>> without_block('a {{ block("signatur") }}', "block 'signatur' was never published")
    'a x'
    """
    found = re.match(r"block '([^']+)'", slip)
    if found is None:
        return None
    shown = rf"""\{{\{{[^}}]*\bblock\(\s*["']{re.escape(found[1])}["'].*?\}}\}}"""
    changed = re.sub(shown, "x", source)
    return changed if changed != source else None
