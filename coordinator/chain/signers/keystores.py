"""Keystore files: a private key, encrypted with a password, in Ethereum's JSON format.

Names, folder and format are Foundry's: `cast wallet` reads these files, and we read its.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.chain.signers.secp256k1 import address_of_key
from coordinator.chain.signers.signers import RawKey
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.plain_text import decode_file

#: Foundry's folder of keystores; without ``expanduser`` it is the same for every user.
KEYSTORE_FOLDER: Final = Path("~/.foundry/keystores")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeystoreFile:
    """A keystore file; ``address`` is None where the file does not say it."""

    path: Path
    address: str | None

    @property
    def name(self) -> str:
        return self.path.name


class KeystoreKey:
    """The key in a keystore file, decrypted when it is first used."""

    def __init__(self, path: Path, document: dict[str, Any], password: str) -> None:
        self._path = path
        self._document = document
        self._password = password
        self._raw: RawKey | None = None

    @property
    def name(self) -> str:
        return f"the keystore {self._path}"

    def open(self) -> str:
        if self._raw is None:
            self._raw = RawKey(_decrypt(self._path, self._document, self._password))
        return self._raw.address

    def sign(self, digest: bytes) -> bytes:
        self.open()
        assert self._raw is not None
        return self._raw.sign(digest)


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


def find_keystore(text: str, folder: Path | None = None) -> Path:
    """Return the file of a path, or of a name in ``folder``, which is Foundry's unless given.

    A file of that name in the working directory comes first.
    """
    path = Path(text).expanduser()
    if path.name != text or path.exists():
        return path
    named = (folder or KEYSTORE_FOLDER).expanduser() / text
    return named if named.exists() else path


def read_keystore(path: Path) -> dict[str, Any]:
    """The file's document; ConfigurationError when it is not a keystore."""
    document = _read(path)
    if document is None:
        raise ConfigurationError(f"{path} is not a readable keystore file")
    return document


def open_keystore(path: Path, password: str) -> bytes:
    """The private key in a keystore file; ConfigurationError when the password is wrong."""
    return _decrypt(path, read_keystore(path), password)


def write_keystore(
    key: bytes, password: str, folder: Path, name: str | None = None
) -> KeystoreFile:
    """Write a new file of mode 0600, named by the address unless ``name`` is given.

    InvalidRequest where there is a file of that name, or the name is none.
    """
    address = address_of_key(key)
    name = name if name is not None else address
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "a keystore's name has at most 64 of a-z, A-Z, 0-9, dot, dash and underscore"
        )
    path = folder.expanduser() / name
    if path.exists():
        raise InvalidRequest(f"{path} exists already; nothing was written")
    document = _encrypt(key, password)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), document)
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be written: {fault.strerror}") from None
    return KeystoreFile(path, address)


def change_password(path: Path, password: str, new_password: str) -> str:
    """Encrypt a keystore's key anew and return its address; the file is the old or the new one.

    ConfigurationError when ``password`` does not open it; InvalidRequest when it can't be written.
    """
    key = open_keystore(path, password)
    document = _encrypt(key, new_password)
    try:
        # A link's target is replaced, not the link.
        _replace(path.resolve(), document)
    except OSError as fault:
        raise InvalidRequest(f"{path} can't be written: {fault.strerror}") from None
    return address_of_key(key)


def list_keystores(folder: Path) -> Iterator[KeystoreFile]:
    """Find the keystore files in the folder, by name."""
    folder = folder.expanduser()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        document = _read(path) if path.is_file() and not path.name.startswith(".") else None
        if document is not None:
            yield KeystoreFile(path, address_in(document))


def address_in(document: dict[str, Any]) -> str | None:
    """The address that a keystore claims, None when it says none; ValueError when it is wrong."""
    claimed = document.get("address")
    if claimed is None or claimed == "":
        return None
    return checksummed("0x" + str(claimed).removeprefix("0x"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(decode_file(path.read_bytes()))
        address_in(document)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return document if "crypto" in document or "Crypto" in document else None


def _encrypt(key: bytes, password: str) -> dict[str, Any]:
    from eth_account import Account

    return dict(Account.encrypt(key, password))


def _decrypt(path: Path, document: dict[str, Any], password: str) -> bytes:
    from eth_account import Account

    try:
        return bytes(Account.decrypt(document, password))
    except (ValueError, TypeError, KeyError):
        quoted = password[:1] in ("'", '"') and password[:1] == password[-1:]
        hint = ", which begins and ends with a quote (Docker's --env-file keeps quotes),"
        raise ConfigurationError(
            f"the password{hint if quoted else ''} does not open the keystore {path}"
        ) from None


def _replace(path: Path, document: dict[str, Any]) -> None:
    """Put the document in the file's place at once; whatever fails, the file is as it was."""
    # Of mode 0600, and beside the file, as only a rename within a file system is atomic.
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}-")
    try:
        _write(handle, document)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise


def _write(handle: int, document: dict[str, Any]) -> None:
    with os.fdopen(handle, "w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
