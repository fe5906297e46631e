"""Say in one sentence which extra to install, where a package of one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coordinator_client.errors import ConfigurationError


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Import within what only ``extra`` installs; ConfigurationError where it is not installed."""
    try:
        yield
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] == "coordinator_client":
            raise
        raise ConfigurationError(
            f"{what} needs {missing.name}, which is not installed:"
            f" pip install 'usdc-escrow-client[{extra}]'"
        ) from None
