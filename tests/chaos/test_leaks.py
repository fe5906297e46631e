"""The look for secrets after every test of chaos finds one wherever it was put."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.leaks import Leaks
from tests.integration.world import World

SECRET = "0x" + "0123456789abcdef" * 4


@pytest.fixture
def planted() -> Leaks:
    """A look of its own: what is planted for it is not a fault of this test."""
    found = Leaks()
    found.guard([SECRET])
    return found


@pytest.mark.parametrize(
    "spelling",
    [SECRET, SECRET[2:], SECRET.upper(), SECRET[2:].upper(), bytes.fromhex(SECRET[2:])],
    ids=["0x", "bare", "upper 0X", "upper", "bytes"],
)
def test_every_spelling_of_a_secret_is_found(planted: Leaks, spelling: str | bytes) -> None:
    raw = spelling.encode() if isinstance(spelling, str) else spelling
    planted.look_at("log", b"signing with " + raw + b" now")
    with pytest.raises(AssertionError, match="a secret was written to: log"):
        planted.check()


def test_a_secret_on_a_command_line_is_found(planted: Leaks) -> None:
    program = [sys.executable, "-c", "input(print('here', flush=True))", SECRET]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(program, text=True, **pipes) as child:
        assert child.stdout is not None and child.stdout.readline() == "here\n"
        planted.look_at_process(child)
        child.communicate("\n")
    with pytest.raises(AssertionError, match="command line"):
        planted.check()


def test_a_secret_in_the_write_ahead_log_of_sqlite_is_found(
    planted: Leaks, world: World, tmp_path: Path
) -> None:
    world.buy(purpose=f"with {SECRET}")
    planted.watch(tmp_path)
    planted.look_into_databases()
    with pytest.raises(AssertionError, match=r"coordinator\.db-wal"):
        planted.check()


def test_a_world_is_looked_at_after_its_test(
    world: World, leaks: Leaks, caplog: pytest.LogCaptureFixture
) -> None:
    world.fund("1.00")
    leaks.look_into_databases()
    assert leaks.looked_at >= {"coordinator.db", "coordinator.db-wal"}
    key = world.secrets["TREASURY_PRIVATE_KEY"]
    logging.getLogger("coordinator").info("planted %s", key)
    seen = Leaks()
    seen.guard([key])
    for record in caplog.records:
        seen.look_at("log", record.getMessage())
    with pytest.raises(AssertionError, match="log"):
        seen.check()
    caplog.clear()
