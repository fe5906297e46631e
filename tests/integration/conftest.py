"""One Anvil and one PostgreSQL for each test process, taken back to their start after a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from coordinator.chain.local.anvil import Anvil
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.usdc import Usdc
from coordinator.executor.tempo import Pace
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from tests.integration.chains import CHAINS, open_chain
from tests.integration.local_chain import LocalChain
from tests.integration.public_beat import ROUND, Calls, Ticks, make_public, watched
from tests.integration.stores import (
    PostgresqlServer,
    PostgresqlStore,
    SqliteStore,
    Store,
    started_postgresql,
)
from tests.integration.treasuries import (
    OTHER_SALT,
    USUAL_SALT,
    SafeTreasury,
    deploy_treasury,
    lay_contracts,
    usual_limits,
)
from tests.integration.world import World

# Limits of a Safe that no test reaches which is not about them.
WIDE: Final = {"purchase_max": Usdc("1000"), "daily": Usdc("30000"), "total": None}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = ["sqlite"]
    if metafunc.definition.get_closest_marker("on_postgresql"):
        kinds = ["postgresql"]
    elif any(map(metafunc.definition.get_closest_marker, ("on_both", "on_either"))):
        kinds = ["sqlite", "postgresql"]
    if "store" in metafunc.fixturenames and kinds != ["sqlite"]:
        metafunc.parametrize("store", kinds, indirect=True)
    marked = metafunc.definition.get_closest_marker
    both = marked("on_both_payers")
    if "payer_kind" in metafunc.fixturenames and both and not marked("on_wallet"):
        later = [pytest.mark.campaign] if both.kwargs.get("campaign") else []
        kinds = ["wallet", pytest.param("safe", marks=later)]
        metafunc.parametrize("payer_kind", kinds, indirect=True)


@pytest.fixture(scope="session")
def _deployed_chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalChain]:
    with Anvil.start() as anvil:
        yield LocalChain(
            Rpc([anvil.url], timeout_seconds=30), tmp_path_factory.mktemp("deployments")
        )


@pytest.fixture
def chain(_deployed_chain: LocalChain) -> Iterator[LocalChain]:
    yield _deployed_chain
    _deployed_chain.reset()


@pytest.fixture(scope="module")
def _chain_with_safes(_deployed_chain: LocalChain) -> Iterator[LocalChain]:
    with _deployed_chain.laid_under(lambda: lay_contracts(_deployed_chain)):
        yield _deployed_chain


@pytest.fixture
def make_treasury(_chain_with_safes: LocalChain, chain: LocalChain) -> Callable[..., SafeTreasury]:
    """Makes a Safe with a role of usual limits, but for the changes that are given."""

    def make(**changes: Any) -> SafeTreasury:
        limits = usual_limits(chain, **changes)
        return deploy_treasury(chain, limits, salt_nonce=OTHER_SALT)

    return make


@pytest.fixture(scope="module")
def _usual_treasury(_chain_with_safes: LocalChain) -> Iterator[SafeTreasury]:
    chain, made = _chain_with_safes, list[SafeTreasury]()

    def lay() -> None:
        made.append(deploy_treasury(chain, usual_limits(chain), salt_nonce=USUAL_SALT))

    with chain.laid_under(lay):
        yield made[0]


@pytest.fixture
def treasury(_usual_treasury: SafeTreasury, chain: LocalChain) -> SafeTreasury:
    """A Safe with a role of usual limits, the same for each test."""
    return _usual_treasury


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "coordinator.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    with started_postgresql() as server:
        yield server


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
def store(request: pytest.FixtureRequest, tmp_path: Path, _migrated_file: Path) -> Iterator[Store]:
    """Where this test keeps its databases: files, unless its marks say otherwise."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield SqliteStore(tmp_path, _migrated_file)
        return
    made = PostgresqlStore(request.getfixturevalue("postgresql"))
    yield made
    made.close()


@pytest.fixture
def payer_kind(request: pytest.FixtureRequest) -> str:
    """What the treasury of this test is: a wallet, unless its marks say otherwise."""
    kind = str(getattr(request, "param", "wallet"))
    if kind == "safe":
        request.getfixturevalue("_chain_with_safes")
    return kind


@pytest.fixture
def make_world(
    payer_kind: str, chain: LocalChain, tmp_path: Path, store: Store
) -> Iterator[Callable[..., World]]:
    """Makes the test's world from the parameters that matter to it."""
    made: list[World] = []

    def make(**parameters: Any) -> World:
        if payer_kind == "safe":
            parameters = {"safe": WIDE, **parameters}
        made.append(World(chain, tmp_path, store, **parameters))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def make_safe_world(
    _chain_with_safes: LocalChain, make_world: Callable[..., World]
) -> Callable[..., World]:
    """Makes worlds that pay from a Safe, whose limits are far above what tests buy."""

    def make(safe: Mapping[str, Any] | None = None, **parameters: Any) -> World:
        return make_world(safe={**WIDE, **(safe or {})}, **parameters)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def idle(world: World, ticks: Ticks, calls: Calls) -> Iterator[World]:
    """A world whose executor acts as on a public network and has nothing to do."""
    make_public(world, ticks)
    world.chain.mine()
    ticks.now += ROUND
    world.executor.turn()
    assert world.executor._tempo.pace is Pace.IDLE
    with watched(world, calls):
        yield world
