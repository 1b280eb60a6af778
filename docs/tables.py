"""Prints the tables of the reference that are made from code. From the project's root:

    .venv/bin/python -m docs.tables events

`tests/test_docs.py` checks that the pages say what this prints.
"""

from __future__ import annotations

import sys

from mebae.events import EVENTS
from mebae.mail.bounce_reasons import TABLE
from mebae.mail.reports import MEANINGS


def events() -> str:
    """The events that have a verb of their own, from `mebae/events.py`."""
    lines = ["| write | Segment event | argument matches | meaning | aliases |", "| --- | --- | --- | --- | --- |"]
    for spec in EVENTS:
        argument = f"`{spec.property}`" if spec.property else ""
        verb = f"`{spec.verb}({spec.property or ''})`"
        aliases = ", ".join(f"`{alias}`" for alias in spec.aliases)
        lines.append(f"| {verb} | `{spec.name}` | {argument} | {spec.meaning} | {aliases} |")
    return "\n".join(lines)


def kinds() -> str:
    """What can come back, from `mebae/mail/reports.py`."""
    lines = ["| kind | means |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{kind.value}` | {meaning} |" for kind, meaning in MEANINGS.items())])


def reasons() -> str:
    """Why mails come back, from `mebae/mail/bounce_reasons.py`."""
    head = ["| reason | about | means | status codes |", "| --- | --- | --- | --- |"]
    rows = [(spec, ", ".join(f"`{status}`" for status in spec.statuses)) for spec in TABLE]
    return "\n".join([*head, *(f"| `{spec.reason.value}` | {spec.about} | {spec.meaning} | {codes} |" for spec, codes in rows)])


TABLES = {"events": events, "kinds": kinds, "reasons": reasons}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        print(TABLES[name]())
