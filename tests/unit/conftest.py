"""Unit tests talk to nobody, and property tests give the same answer every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from pytest_socket import disable_socket, enable_socket

settings.register_profile("unit", deadline=None, derandomize=True, database=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    # asyncio talks to itself through a Unix socket.
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
