"""A world whose executor acts as on a public network, by ticks and calls that a test sees."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from coordinator import Usdc
from coordinator.domain.errors import ChainUnavailable
from coordinator.executor.tempo import Tempo
from tests.integration.bad_endpoint import Ask, BadEndpoint, Call
from tests.integration.world import World

LOOK: Final = 14.0
LOOK_OPEN: Final = 3.0
ROUND: Final = 70.0
ROUND_OPEN: Final = 30.0


class Ticks:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Calls:
    """Passes everything on, and keeps the methods that were asked."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.tell: Callable[[str, Sequence[Call], Ask], list[Any]] = pass_on

    def __call__(self, url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
        self.methods += [method for method, _ in calls]
        return self.tell(url, calls, ask)


def pass_on(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
    return ask(url, calls)


def silent(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
    raise ChainUnavailable("the endpoint did not answer")


def make_public(world: World, ticks: Ticks) -> None:
    """Let the executor and its lease go by ``ticks``, from a first round on."""
    executor = world.executor
    executor._ticks = ticks
    executor._tempo = Tempo(ticks=ticks, local=False)
    executor.turn()


@contextlib.contextmanager
def watched(world: World, calls: Calls) -> Iterator[None]:
    """Let ``calls`` see whatever the world's endpoints are asked."""
    with pytest.MonkeyPatch.context() as patch:
        BadEndpoint(world.wiring.rpc, patch, calls, unpacked=False)
        yield


def deposit(world: World, amount: str = "5") -> None:
    chain = world.chain
    chain.rpc.call("evm_setAutomine", True)
    chain.fund(world.treasury, usdc=amount, wei=0)
    chain.hold_blocks()


def booked(world: World) -> Usdc:
    return world.wiring.journal.treasury_balance()
