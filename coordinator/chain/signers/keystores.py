"""Keystore files: a private key, encrypted with a password, in Ethereum's JSON format."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from coordinator.chain.signers.signers import address_in, address_of_key, read_keystore
from coordinator.domain.errors import ConfigurationError, InvalidRequest


def new_key() -> bytes:
    """A new private key from the system's randomness."""
    while True:
        key = secrets.token_bytes(32)
        try:
            address_of_key(key)
        except ValueError:  # zero, or not below the curve's order
            continue
        return key


def parse_key(text: str) -> bytes:
    """The private key in hex; InvalidRequest, without repeating the text, when it is none."""
    try:
        key = bytes.fromhex(text.strip().removeprefix("0x"))
        address_of_key(key)
    except ValueError:
        raise InvalidRequest("not a private key: it must be 64 hex digits") from None
    return key


def open_keystore(path: Path, password: str) -> bytes:
    """The private key in a keystore file; ConfigurationError when the password is wrong."""
    from eth_account import Account

    document = read_keystore(path)
    if document is None:
        raise ConfigurationError(f"{path} is not a readable keystore file")
    try:
        return bytes(Account.decrypt(document, password))
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(f"the password does not open the keystore {path}") from None


def write_keystore(key: bytes, password: str, folder: Path) -> tuple[str, Path]:
    """Address and path of a new file of mode 0600; never overwrites one."""
    from eth_account import Account

    address = address_of_key(key)
    path = folder / f"{address}.json"
    if path.exists():
        raise InvalidRequest(f"{path} exists already; nothing was written")
    document = Account.encrypt(key, password)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be written: {fault.strerror}") from None
    with os.fdopen(handle, "w") as file:
        json.dump(document, file)
    return address, path


def list_keystores(folder: Path) -> Iterator[tuple[str | None, Path]]:
    """(address, path) of every keystore file in the folder, by name; None: it does not say."""
    for path in sorted(folder.glob("*.json")):
        document = read_keystore(path)
        if document is not None:
            yield address_in(document), path
