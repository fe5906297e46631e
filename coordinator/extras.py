"""Say in one sentence which extra to install, where a package of one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from coordinator.domain.errors import ConfigurationError

Extra = Literal["server", "postgres", "alerts", "aws-kms", "mcp", "pkcs11", "x402"]
_PACKAGE: Final = "usdc-escrow-coordinator"


@contextmanager
def needs_extra(extra: Extra, what: str) -> Iterator[None]:
    """Import within what only ``extra`` installs; ConfigurationError where it is not installed."""
    try:
        yield
    except ImportError as missing:
        # psycopg is there without a library that it can use: an ImportError with a name of ours
        # would be a fault of ours.
        if (missing.name or "").partition(".")[0] == "coordinator":
            raise
        name = missing.name or "a library"
        raise ConfigurationError(
            f"{what} needs {name}, which is not installed: pip install '{_PACKAGE}[{extra}]'"
        ) from None
