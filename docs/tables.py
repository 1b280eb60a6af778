"""Prints the tables of the reference that are made from code. From the project's root:

    .venv/bin/python -m docs.tables events

`tests/test_docs.py` checks that the pages say what this prints.
"""

from __future__ import annotations

import sys

from mebae.events import EVENTS


def events() -> str:
    """The events that have a verb of their own, from `mebae/events.py`."""
    lines = ["| write | Segment event | argument matches | meaning | aliases |", "| --- | --- | --- | --- | --- |"]
    for spec in EVENTS:
        argument = f"`{spec.property}`" if spec.property else ""
        verb = f"`{spec.verb}({spec.property or ''})`"
        aliases = ", ".join(f"`{alias}`" for alias in spec.aliases)
        lines.append(f"| {verb} | `{spec.name}` | {argument} | {spec.meaning} | {aliases} |")
    return "\n".join(lines)


TABLES = {"events": events}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        print(TABLES[name]())
