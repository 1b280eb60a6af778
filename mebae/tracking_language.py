"""The language of the tracking plan: `from mebae.tracking_language import *` is all that `scenarios/events.py` needs.

A plan is data, like a scenario. The standard events (`mebae.events`) are in every plan; a team declares its own beside
them, and says more of a standard one: its title in the team's language, more properties, the values that are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mebae.authoring import _scalar, _show, _text
from mebae.conditions import Scalar
from mebae.errors import AuthoringError
from mebae.tracking import PlannedEvent, Property

__all__ = ["Plan", "anything", "boolean", "date", "event", "number", "one_of", "text"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The whole tracking plan, as written.

    >>> Plan(events=[event("Trial Started", title="トライアル開始", properties={"plan": one_of("team", "business")})]).events[0].title
    'トライアル開始'
    """

    events: Iterable[PlannedEvent]

    def __post_init__(self) -> None:
        given: Any = self.events
        if isinstance(given, (PlannedEvent, str)) or not isinstance(given, Iterable):
            raise AuthoringError(f"events={_show(given)}: events stand in a list: Plan(events=[event(…), …])")
        events = tuple(given)
        for one in events:
            if not isinstance(one, PlannedEvent):
                raise AuthoringError(f"events=[…, {_show(one)}]: here stand event(…) only")
        object.__setattr__(self, "events", events)


def event(
    name: str, /, *, title: str = "", properties: Mapping[str, Property] | None = None, others: bool = False
) -> PlannedEvent:
    """One event, by the name that is sent; with its title, and the properties that it has.

    A standard event keeps its own properties beside these. With `others=True` it may have any other property too.

    >>> event("Content Downloaded", title="資料ダウンロード", properties={"content": one_of("whitepaper-*")}).name
    'Content Downloaded'
    >>> event("Trial Started", properties={"seats": 5})
    Traceback (most recent call last):
    mebae.errors.AuthoringError: event('Trial Started', properties={'seats': 5}): write what it is, such as {"seats": number()}
    """
    spelling = 'event("Trial Started", title="トライアル開始", properties={"plan": text()})'
    _text(name, spelling)
    if not name.strip():
        raise AuthoringError(f"an event needs the name under which it is sent: write {spelling}")
    if properties is not None and not isinstance(properties, Mapping):
        raise AuthoringError(f"event({_show(name)}, properties={_show(properties)}): write {spelling}")
    for key, value in (properties or {}).items():
        _text(key, spelling)
        if not isinstance(value, Property):
            kind = {bool: "boolean()", int: "number()", float: "number()", str: "text()"}.get(type(value), "text()")
            raise AuthoringError(
                f"event({_show(name)}, properties={{{key!r}: {_show(value)}}}): "
                f'write what it is, such as {{"{key}": {kind}}}'
            )
    if not isinstance(others, bool):
        raise AuthoringError(f"event({_show(name)}, others={_show(others)}): write others=True, or leave it out")
    return PlannedEvent(
        name.strip(), _text(title, 'title="トライアル開始"'), dict(properties or {}), others, is_own=True
    )


def text(*, title: str = "", required: bool = False) -> Property:
    """A property that is any text.

    >>> text(title="プラン").kind
    'text'
    """
    return _property("text", (), title, required)


def number(*, title: str = "", required: bool = False) -> Property:
    """A property that is a number.

    >>> number(title="閲覧秒数").kind
    'number'
    """
    return _property("number", (), title, required)


def boolean(*, title: str = "", required: bool = False) -> Property:
    """A property that is true or false.

    >>> boolean(title="決裁者か").kind
    'boolean'
    """
    return _property("boolean", (), title, required)


def date(*, title: str = "", required: bool = False) -> Property:
    """A property that is a date or a moment, written as `2026-04-01` or `2026-04-01T10:00:00+09:00`.

    >>> date(title="開催日時", required=True).required
    True
    """
    return _property("date", (), title, required)


def one_of(*values: Scalar, title: str = "", required: bool = False) -> Property:
    """A property that is one of these; a text with `*` stands for every text that it matches.

    >>> one_of("3か月以内", "半年以内", "未定", title="導入時期").values
    ('3か月以内', '半年以内', '未定')
    """
    several: tuple[Any, ...] = values
    if len(several) == 1 and isinstance(several[0], (list, tuple)):
        several = tuple(several[0])
    if not several:
        raise AuthoringError('one_of() needs the values: one_of("team", "business"); for any text write text()')
    return _property("one_of", tuple(_scalar(value, "one_of(…)") for value in several), title, required)


def anything(*, title: str = "", required: bool = False) -> Property:
    """A property that may be anything, a list or an object too.

    >>> anything().kind
    'anything'
    """
    return _property("anything", (), title, required)


def _property(kind: Any, values: tuple[Scalar, ...], title: object, required: object) -> Property:
    if not isinstance(required, bool):
        raise AuthoringError(f"{kind}(…, required={_show(required)}): write required=True, or leave it out")
    return Property(kind, values, _text(title, 'title="プラン"'), required)
