"""The locks by which SQLite's processes know of each other stay while connections come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.ledger.conftest import Opener
from tests.integration.ledger.deciding import ask, assert_books_agree

_LOOK = (
    "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM purchases')"
)


def test_a_process_that_leaves_does_not_delete_the_log_that_another_writes(
    opener: Opener, path: Path
) -> None:
    coordinator = opener()
    ask(coordinator.agent("ada"))
    log = path.with_name(f"{path.name}-wal")
    database = coordinator.wiring.database
    with database.read(), database.read(), database.read():
        before = log.stat().st_ino
        # Whoever closes the last connection takes the log away: it must not think that it does.
        subprocess.run([sys.executable, "-c", _LOOK, str(path)], check=True)
        assert log.exists() and log.stat().st_ino == before
    ask(coordinator.agent("ada"))
    coordinator.close()
    assert_books_agree(str(path))
