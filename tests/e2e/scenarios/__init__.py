"""What mailbearer must do between real parts: one function per behaviour, named by a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from bench.bench import Bench


@dataclass(frozen=True)
class Scenario:
    name: str
    play: Callable[[Bench], str | None]
    """Raises when the behaviour is not there. What it returns is a remark for the report."""


ALL: list[Scenario] = []


def scenario(name: str) -> Callable[[Callable[[Bench], str | None]], Callable[[Bench], str | None]]:
    """Registers a function as the scenario of this name, in the order of writing."""

    def register(play: Callable[[Bench], str | None]) -> Callable[[Bench], str | None]:
        ALL.append(Scenario(name, play))
        return play

    return register


def load() -> list[Scenario]:
    """All scenarios, in the order in which they are played."""
    for group in ("upstream", "clients", "tokens", "outages", "crashes"):
        import_module(f"{__name__}.{group}")
    return ALL
