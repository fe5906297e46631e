"""Make, import, list and change keystores, and read the addresses of keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from coordinator.chain.signers.keystores import (
    KEYSTORE_FOLDER,
    KeystoreFile,
    change_password,
    find_keystore,
    list_keystores,
    new_key,
    open_keystore,
    parse_key,
    write_keystore,
)
from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.secp256k1 import address_of_key

__all__ = [
    "KEYSTORE_FOLDER",
    "KeystoreFile",
    "address_of_key",
    "change_password",
    "find_keystore",
    "import_keystore",
    "import_private_key",
    "list_keystores",
    "new_key",
    "new_keystore",
    "open_address",
]


def new_keystore(password: str, folder: Path, name: str | None = None) -> KeystoreFile:
    """Write a new key, encrypted, into a file of the folder."""
    return write_keystore(new_key(), password, folder, name)


def import_private_key(
    text: str, password: Callable[[], str], folder: Path, name: str | None = None
) -> KeystoreFile:
    """Write a key given in hex, encrypted; InvalidRequest, and no password asked, for no key."""
    return write_keystore(parse_key(text), password(), folder, name)


def import_keystore(
    file: Path, password: str, folder: Path, name: str | None = None
) -> KeystoreFile:
    """Copy a keystore of any tool under its password; ConfigurationError when it does not open."""
    return write_keystore(open_keystore(file, password), password, folder, name)


def open_address(text: str, secrets: Mapping[str, str]) -> str:
    """Return the address of a signer as COORDINATOR_SIGNER gives it, after opening its key.

    ConfigurationError when the key is another account's than the setting or the file says.
    """
    signer = load_signer(text, secrets)
    if signer.can_sign:
        signer.open()
    return signer.address
