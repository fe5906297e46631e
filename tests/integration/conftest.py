"""One Anvil for each test process, taken back to its deployment after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.anvil import Anvil
from coordinator.chain.rpc import Rpc
from tests.integration.chains import CHAINS, open_chain
from tests.integration.local_chain import LocalChain
from tests.integration.world import World


@pytest.fixture(scope="session")
def _deployed_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalChain]:
    with Anvil.start() as anvil:
        yield LocalChain(Rpc([anvil.url]), tmp_path_factory.mktemp("deployments"))


@pytest.fixture
def chain(_deployed_chain: LocalChain) -> Iterator[LocalChain]:
    yield _deployed_chain
    _deployed_chain.reset()


@pytest.fixture(scope="module", params=CHAINS)
def _either_chain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalChain]:
    with open_chain(request.param, tmp_path_factory.mktemp("deployments")) as chain:
        yield chain


@pytest.fixture
def held_chain(_either_chain: LocalChain) -> Iterator[LocalChain]:
    """Anvil, and then the simulated node; blocks are held."""
    _either_chain.hold_blocks()
    yield _either_chain
    _either_chain.reset()


@pytest.fixture
def make_world(chain: LocalChain, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes the test's world from the parameters that matter to it."""
    made: list[World] = []

    def make(**parameters: Any) -> World:
        made.append(World(chain, tmp_path, **parameters))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
