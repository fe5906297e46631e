"""Services of one test, with a funded treasury."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.local_chain import LocalChain
from tests.integration.service.processes import Service
from tests.integration.stores import Store


@pytest.fixture
def service(chain: LocalChain, store: Store, tmp_path: Path) -> Iterator[Service]:
    made = Service(chain, tmp_path, store.migrated(store.url()))
    chain.fund(made.treasury, usdc="1000", wei=10**17)
    yield made
    made.close()
