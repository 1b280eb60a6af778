"""The tree of errors: each says whose fault it is and whether trying again can help.

```
MebaeError
├── AuthoringError      the author wrote something that cannot mean what it says (raised at once, shows the right spelling)
├── ScenarioError       a scenario was refused when loaded; carries every problem at once
├── NotFound            a scenario, lead or mail that was named does not exist (shows the nearest names)
├── BadInput            a row, event or option that cannot be read; names the place and the cure
└── Refusal             an activity's no, as a code; nothing personal in it
    ├── Temporary       trying again later can help   (MailServerUnavailable → RelayUnavailable, DatabaseUnavailable, Overloaded)
    └── Permanent       trying again cannot help      (RecipientRefused → RelayRefused, MailInvalid → BrokenMail)
```

The message of a `Refusal` is its code, because Temporal keeps messages for ever and in the clear: what a server really
answered goes to the ledger.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class MebaeError(Exception):
    """Anything that Mebae itself raises."""


class AuthoringError(MebaeError, TypeError):
    """A spelling that cannot mean what it says; the message shows the right one. It is a `TypeError` for Python's sake."""


class Problem(BaseModel):
    """One thing wrong with a scenario or a file beside it: where, what, and the cure."""

    model_config = ConfigDict(frozen=True)

    file: str
    step: str | None = None
    message: str

    @property
    def part(self) -> str:
        """What of the file it is about, in words; empty for the whole."""
        what = "rule" if self.file.endswith("scoring.py") else "step"
        return f"{what} '{self.step}'" if self.step else ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.file, self.part, self.message)))


class ScenarioError(MebaeError):
    """A scenario that was refused when loaded, with all of its problems. `so_far`: what of it could be read, if it can be looked at
    further (a `Loaded`, or a `LoadedBroadcast`)."""

    def __init__(self, problems: Iterable[Problem], so_far: object = None) -> None:
        self.problems, self.so_far = list(problems), so_far
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def counted(self) -> str:
        return "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"


class NotFound(MebaeError):
    """Something that was named does not exist."""

    def __init__(self, what: str, name: str, known: Iterable[str] = ()) -> None:
        self.what, self.name = what, name
        super().__init__(f"{what} '{name}' not found{did_you_mean(name, known)}")


class BadInput(MebaeError):
    """Input that cannot be read. The message names the place and the cure."""


class Refusal(MebaeError):
    """An activity's no. `code` is the whole message: no names, no addresses, no server replies."""

    code = "refused"

    def __init__(self, code: str | None = None) -> None:
        self.code = code or type(self).code
        super().__init__(self.code)


class Temporary(Refusal):
    """Trying again later can help."""

    code = "temporary"


class Permanent(Refusal):
    """Trying again cannot help."""

    code = "permanent"


class MailServerUnavailable(Temporary):
    """The mail server did not answer, dropped the line, or said 4xx."""

    code = "mail-server-unavailable"


class RecipientRefused(Permanent):
    """The mail server said 5xx of this recipient or message."""

    code = "recipient-refused"


class MailInvalid(Permanent):
    """The mail cannot be rendered for this lead (a missing variable, a broken template)."""

    code = "mail-invalid"

    def __init__(self, code: str | None = None) -> None:
        super().__init__(code)
        self.detail = self.code
        """What and where, for people, as far as it is known."""


class DatabaseUnavailable(Temporary):
    """The database did not answer."""

    code = "database-unavailable"


class Overloaded(Temporary):
    """More comes in than can be kept."""

    code = "overloaded"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that helps a person who mistyped.

    >>> did_you_mean("helo", ["hello", "thanks"])
    ", did you mean 'hello'?"
    >>> did_you_mean("xyz", ["hello", "thanks"])
    '; known: hello, thanks'
    """
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    if near:
        return ", did you mean " + " or ".join(f"'{word}'" for word in near) + "?"
    if known:
        return "; known: " + ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    return ""
