"""The language of mail rules: `from mebae.mailing_language import *` is all that `scenarios/mailing.py` needs.

The rules are data, like a scenario: what mails are about, how often and when a lead may be written to, and on what ground.
Every marketing mail is held to them, of journeys and of broadcasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mebae.authoring import _show, _span, _text, business_days, days, hours, weeks
from mebae.errors import AuthoringError
from mebae.mailing import BASES, LANGUAGES, Cap, SendingHours, Topic
from mebae.timing import Duration

__all__ = ["Mailing", "at_most", "between", "business_days", "days", "hours", "topic", "weeks"]


@dataclass(frozen=True, eq=False)
class Mailing:
    """The rules of marketing mail, as written.

    - `topics`: what mails can be about; a mail says it with `topic:`, and leads choose on their preference page.
    - `caps`: how many a lead gets at most, over all journeys and broadcasts. Several hold at once.
    - `hours`: when mail goes out, by the clock on the lead's wall.
    - `accepts`: on what grounds a lead may be written to; all that the law knows if left out.
    - `languages`: which text a lead gets whose own language has none, the first that there is; `"any"` is the text for every
      language (`thanks.md`).
    - `needs_consent`: `False` where the law asks for no ground (as in the United States). In Japan and Europe it does.

    >>> Mailing(caps=[at_most(2, within=days(7))], hours=between("08:00", "20:00")).caps[0].count
    2
    """

    topics: Iterable[Topic] = ()
    caps: Iterable[Cap] = ()
    hours: SendingHours | None = None
    accepts: Iterable[str] = field(default=tuple(BASES))
    needs_consent: bool = True
    languages: Iterable[str] = field(default=LANGUAGES)

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", _all(self.topics, Topic, "topics", 'topic("product", ja="製品情報")'))
        object.__setattr__(self, "caps", _all(self.caps, Cap, "caps", "at_most(2, within=days(7))"))
        object.__setattr__(self, "accepts", _all(self.accepts, str, "accepts", '"consent"'))
        object.__setattr__(self, "languages", _all(self.languages, str, "languages", '"any", "ja", "en"'))
        given: Any = self.hours
        if given is not None and not isinstance(given, SendingHours):
            raise AuthoringError(f'hours={_show(given)}: write hours=between("08:00", "20:00")')
        flag: Any = self.needs_consent
        if not isinstance(flag, bool):
            raise AuthoringError(f"needs_consent={_show(flag)}: write needs_consent=False, or leave it out")


def topic(
    id: str,
    /,
    *,
    ja: str = "",
    en: str = "",
    about: Mapping[str, str] | None = None,
    transactional: bool = False,
    capped: bool = True,
    at_any_time: bool = False,
) -> Topic:
    """What mails can be about: its id, what leads read for it, and (`about=`) a sentence more, by language.

    `transactional`: its mails bring what the lead asked for and advertise nothing (the paper that it requested, a ticket).
    They need no consent, and wait for no hours and caps. `capped=False`: its mails neither wait for the caps nor count in them;
    `at_any_time=True`: nor do they wait for the sending hours, as the answer to what the lead has just done.

    >>> topic("seminar", ja="セミナー", en="Seminars", about={"ja": "開催のご案内を月に1、2回"}).title("en")
    'Seminars'
    """
    spelling = 'topic("seminar", ja="セミナー", en="Seminars")'
    titles = {"ja": _text(ja, spelling), "en": _text(en, spelling)}
    said: Any = {} if about is None else about
    if not isinstance(said, Mapping) or not all(isinstance(one, str) for pair in said.items() for one in pair):
        raise AuthoringError(f'topic({_show(id)}, about={_show(said)}): write about={{"ja": "…", "en": "…"}}')
    for name, flag in (("transactional", transactional), ("capped", capped), ("at_any_time", at_any_time)):
        if not isinstance(flag, bool):
            raise AuthoringError(f"topic({_show(id)}, {name}={_show(flag)}): write True or False")
    written = {language: title for language, title in titles.items() if title}
    return Topic(_text(id, spelling), written, dict(said), transactional, capped, at_any_time)


def at_most(count: int, /, *, within: Duration) -> Cap:
    """A frequency cap: so many marketing mails at most in any span of this length.

    >>> at_most(2, within=days(7)).span.days
    7
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise AuthoringError(f"at_most({_show(count)}, …): write a whole number from 1: at_most(2, within=days(7))")
    return Cap(count, _span(within, "at_most(2, within=days(7))"))


def between(start: str, end: str, /, *, on: object = None) -> SendingHours:
    """Sending hours: from `start` on and before `end`, in the lead's time zone, else the workspace's.

    With `on=business_days` only on business days of the workspace's calendar. The end may be "24:00".

    >>> between("08:00", "20:00", on=business_days).business_days
    True
    """
    spelling = 'between("08:00", "20:00", on=business_days)'
    if on is not None and on is not business_days:
        raise AuthoringError(f"between(…, on={_show(on)}): write on=business_days, without a number; or leave it out")
    return SendingHours(_text(start, spelling), _text(end, spelling), business_days=on is not None)


def _all(given: Any, kind: type, name: str, spelling: str) -> tuple[Any, ...]:
    if isinstance(given, (str, kind)) or not isinstance(given, Iterable):
        raise AuthoringError(f"{name}={_show(given)}: they stand in a list: {name}=[{spelling}]")
    found = tuple(given)
    for one in found:
        if not isinstance(one, kind):
            raise AuthoringError(f"{name}=[…, {_show(one)}]: write {name}=[{spelling}, …]")
    return found
