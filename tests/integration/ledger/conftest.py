"""A database file for each test, and coordinators on it that are closed at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.domain.policy import Policy
from coordinator.interfaces.python import Coordinator
from tests.integration.ledger.deciding import Clock, open_coordinator, policy

Opener = Callable[..., Coordinator]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Migrating takes longer than most tests; a copy of a fresh database is as fresh.
    path = tmp_path_factory.mktemp("migrated") / "coordinator.db"
    open_coordinator(path, policy()).close()
    return path


@pytest.fixture
def opener(path: Path, clock: Clock, _migrated: Path) -> Iterator[Opener]:
    """Opens coordinators on ``path`` with a policy (or changes of the usual one)."""
    opened: list[Coordinator] = []

    def open_one(changes: Policy | Path | dict[str, Any] | None = None, **terms: Any) -> Any:
        chosen = changes if isinstance(changes, Policy | Path) else policy(changes)
        terms = {"clock": clock, **terms}
        file = terms.pop("path", path)
        if not file.exists():
            shutil.copy(_migrated, file)
        opened.append(open_coordinator(file, chosen, **terms))
        # The first use of a part writes: the policy in force, what the file belongs to.
        opened[-1].wiring.treasury  # noqa: B018
        return opened[-1]

    yield open_one
    for coordinator in opened:
        coordinator.close()


@pytest.fixture
def coordinator(opener: Opener) -> Coordinator:
    """One coordinator with the usual policy."""
    return opener()
