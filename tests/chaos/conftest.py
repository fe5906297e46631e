"""Chaos runs on the fixtures of the integration tests; no secret may show anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.leaks import Leaks, leaks  # noqa: F401
from tests.integration.conftest import (  # noqa: F401
    _chain_with_safes,
    _deployed_chain,
    _migrated_file,
    chain,
    make_safe_world,
    payer_kind,
    postgresql,
    pytest_generate_tests,
    store,
)
from tests.integration.conftest import make_world as _make_plain_world  # noqa: F401
from tests.integration.local_chain import LocalChain
from tests.integration.world import World


@pytest.fixture
def proxy(chain: LocalChain) -> Iterator[FaultProxy]:  # noqa: F811
    """Stands between a world's coordinator and the chain; without a plan it only forwards."""
    with FaultProxy(chain.url) as proxy:
        yield proxy


@pytest.fixture
def make_world(
    _make_plain_world: Callable[..., World],  # noqa: F811
    leaks: Leaks,  # noqa: F811
) -> Iterator[Callable[..., World]]:
    """Makes a world whose secrets are looked for when the test is over."""

    def make(**parameters: Any) -> World:
        world = _make_plain_world(**parameters)
        leaks.guard(world.secrets.values())
        leaks.watch(world.folder, world.database)
        return world

    yield make
    # While they are open: closing a database takes its write-ahead log away.
    leaks.look_into_databases()
    leaks.look_into_tables()


@pytest.fixture
def world(make_world: Callable[..., World], proxy: FaultProxy) -> World:
    """A world behind the proxy; its own view of the chain is not."""
    return make_world(rpc_url=proxy.url)


@pytest.fixture(autouse=True)
def _sends_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds between two sends of the same bytes do not have to pass in tests."""
    monkeypatch.setattr("coordinator.executor.sender._RESEND_SECONDS", 0)
