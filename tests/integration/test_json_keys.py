"""What programs read of commands stays as it was written down."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.json_keys import FILE, SILENT, keys_of_every_command
from tests.public_face import KEPT

WRITTEN = json.loads(FILE.read_text())


def test_every_command_prints_the_keys_that_are_written_down(tmp_path: Path) -> None:
    """After a change that users are told of: ``python -m tests.integration.json_keys``."""
    assert keys_of_every_command(tmp_path) == WRITTEN


def test_every_command_that_prints_json_is_written_down() -> None:
    commands = {name.removeprefix("coordinator").strip() for name in KEPT["commands"]}
    groups = {name for name in commands if any(n.startswith(f"{name} ") for n in commands)}
    leaves = commands - groups - {""} - SILENT
    assert leaves - set(WRITTEN) == set()
