"""Make, import and list the treasury's keys in keystore files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.chain.signers.keystores import (
    list_keystores,
    new_key,
    open_keystore,
    parse_key,
    write_keystore,
)
from coordinator.chain.signers.signers import address_of_key

__all__ = [
    "address_of_key",
    "import_keystore",
    "import_private_key",
    "list_keystores",
    "new_key",
    "new_keystore",
]


def new_keystore(password: str, folder: Path) -> tuple[str, Path]:
    """Write a new key, encrypted; return its address and its file."""
    return write_keystore(new_key(), password, folder)


def import_private_key(text: str, password: Callable[[], str], folder: Path) -> tuple[str, Path]:
    """Write a key given in hex, encrypted; InvalidRequest, and no password asked, for no key."""
    return write_keystore(parse_key(text), password(), folder)


def import_keystore(file: Path, password: str, folder: Path) -> tuple[str, Path]:
    """Copy a keystore of any tool under its password; ConfigurationError when it does not open."""
    return write_keystore(open_keystore(file, password), password, folder)
