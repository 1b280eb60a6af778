"""Compiled data that is kept for ever: a format number, a canonical text, and a version that is the hash of it."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, ClassVar, Self

from pydantic import field_serializer

from mebae.conditions import Data

_TAGS = ("do", "op", "kind")
"""The discriminators. Each is a default too, and must stand."""


class Hashed(Data):
    """Equal content gives the equal version on any machine: a graph, a scoring model."""

    newest_format: ClassVar[int]
    """Raised when what is compiled today could not be read by the code of yesterday. Every past format must still load."""
    called: ClassVar[str]

    format: int

    @field_serializer("format")
    def _format(self, value: int) -> int:
        return value

    def dump(self) -> str:
        """The canonical JSON: sorted keys, no defaults."""
        return canonical_json(self)

    @cached_property
    def version(self) -> str:
        return hashlib.sha256(self.dump().encode()).hexdigest()[:16]

    @classmethod
    def load(cls, text: str) -> Self:
        """Reads what `dump` wrote; a newer format than this code knows is refused."""
        data = json.loads(text)
        if data.get("format", 0) > cls.newest_format:
            raise ValueError(
                f"{cls.called} format {data['format']} is newer than {cls.newest_format}: upgrade the workers first"
            )
        return cls.model_validate(data)


def canonical_json(data: Data) -> str:
    """The same text for equal data, whatever defaults were written out."""
    return json.dumps(_plain(data), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def written_json(data: Data) -> str:
    """Without defaults, in the order written: of rules that are no part of a version."""
    return json.dumps(_plain(data), ensure_ascii=False, separators=(",", ":"))


def _plain(data: Data) -> Any:
    return _with_tags(data, data.model_dump(mode="json", exclude_defaults=True))


def _with_tags(value: Any, dumped: Any) -> Any:
    """Puts the discriminators back, which `exclude_defaults` took away."""
    if isinstance(value, Data) and isinstance(dumped, dict):
        out = {name: _with_tags(getattr(value, name), part) for name, part in dumped.items()}
        for tag in _TAGS:
            if tag in type(value).model_fields:
                out[tag] = getattr(value, tag)
        return out
    if isinstance(value, (tuple, list)) and isinstance(dumped, list):
        return [_with_tags(one, part) for one, part in zip(value, dumped, strict=True)]
    return dumped
