"""Which programs and networks are known to be machines, as data (`machines.toml` and a file of the team's own).

What a visitor says of itself is read once, on receipt, and only the answer is kept: neither its address nor its words are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

from mebae.errors import BadInput

Said = Literal["browser", "scanner", "scanner-network", "proxy", "prefetch", "none"]
"""What a visitor is by its own words and address. `prefetch`: a browser, ahead of its user. `none`: it does not say."""

_KEYS = {"agent": {"is", "words", "exactly", "only", "source"}, "network": {"is", "blocks", "only", "source"}}
_ACTS = ("open", "click")


@dataclass(frozen=True)
class _Agent:
    verdict: str
    only: str | None
    words: tuple[str, ...]
    exactly: tuple[str, ...]


@dataclass(frozen=True)
class _Network:
    verdict: str
    only: str | None
    block: IPv4Network | IPv6Network


@dataclass(frozen=True)
class Machines:
    """The known ones."""

    agents: tuple[_Agent, ...] = ()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def load(cls, written: str, where: str) -> Machines:
        """Reads a file's text. Raises `BadInput` with the place."""
        try:
            read = tomllib.loads(written)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(f"{where}: {error}") from None
        agents: list[_Agent] = []
        networks: list[_Network] = []
        for kind, rules in read.items():
            if kind not in _KEYS or not isinstance(rules, list):
                raise BadInput(f"{where}: '{kind}' is unknown; write [[agent]] and [[network]]")
            for number, rule in enumerate(rules, 1):
                at = f"{where}, {kind} {number}"
                verdict, only = _checked(rule, kind, at)
                if kind == "agent":
                    words, exactly = _list(rule, "words", at), _list(rule, "exactly", at)
                    if not words and not exactly:
                        raise BadInput(f"{at}: name it by 'words' or 'exactly'")
                    agents.append(_Agent(verdict, only, tuple(word.lower() for word in words), exactly))
                    continue
                for block in _list(rule, "blocks", at):
                    try:
                        networks.append(_Network(verdict, only, ip_network(block)))
                    except ValueError as error:
                        raise BadInput(f"{at}: {error}") from None
        return cls(tuple(agents), tuple(networks))

    def __add__(self, more: Machines) -> Machines:
        return Machines(more.agents + self.agents, more.networks + self.networks)

    def said(self, act: str, agent: str, address: str, headers: Mapping[str, str]) -> Said:
        """What a visitor is, by what it brings.

        Args:
            act: `open`, `click` or `trap`.
            headers: of the request, names in small letters.

        >>> known_machines().said("click", "Mozilla/5.0 (compatible; Barracuda)", "203.0.113.7", {})
        'scanner'
        >>> known_machines().said("open", "Mozilla/5.0", "203.0.113.7", {})
        'proxy'
        """
        found: str | None = None
        written, small = agent.strip(), agent.lower()
        for one in self.agents:
            if one.only in (None, act) and (written in one.exactly or any(word in small for word in one.words)):
                found = one.verdict
                break
        if found is None and (network := self._network(act, address)) is not None:
            found = "scanner-network" if network == "scanner" else network
        if found is None and _prefetches(headers):
            found = "prefetch"
        if found is None:
            found = "browser" if written else "none"
        return found  # type: ignore[return-value]

    def _network(self, act: str, address: str) -> str | None:
        try:
            its = ip_address(address)
        except ValueError:
            return None
        its = getattr(its, "ipv4_mapped", None) or its
        return next((one.verdict for one in self.networks if one.only in (None, act) and its in one.block), None)


@cache
def known_machines() -> Machines:
    """Those of `machines.toml`."""
    return Machines.load(files("mebae").joinpath("machines.toml").read_text(encoding="utf-8"), "machines.toml")


def machines_with(path: Path | None) -> Machines:
    """The known ones and those of a file. Raises `BadInput`."""
    if path is None:
        return known_machines()
    try:
        written = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({type(error).__name__}); see MEBAE_MACHINES") from None
    return known_machines() + Machines.load(written, str(path))


def _prefetches(headers: Mapping[str, str]) -> bool:
    purpose = " ".join(headers.get(name, "") for name in ("sec-purpose", "purpose", "x-purpose", "x-moz")).lower()
    return "prefetch" in purpose or "prerender" in purpose or "preview" in purpose


def _checked(rule: Any, kind: str, at: str) -> tuple[str, str | None]:
    if not isinstance(rule, dict):
        raise BadInput(f"{at}: write a table, [[{kind}]]")
    if strange := sorted(set(rule) - _KEYS[kind]):
        raise BadInput(f"{at}: '{strange[0]}' is unknown; known: {', '.join(sorted(_KEYS[kind]))}")
    verdict, only = rule.get("is"), rule.get("only")
    if verdict not in ("scanner", "proxy"):
        raise BadInput(f"{at}: 'is' is scanner or proxy")
    if only is not None and only not in _ACTS:
        raise BadInput(f"{at}: 'only' is click or open")
    return verdict, only


def _list(rule: Mapping[str, Any], key: str, at: str) -> tuple[str, ...]:
    found = rule.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, str) and one.strip() for one in found):
        raise BadInput(f"{at}: '{key}' is a list of texts")
    return tuple(found)
