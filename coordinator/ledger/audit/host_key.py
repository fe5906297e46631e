"""The key of a host: an Ed25519 key that signs what this host writes."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.plain_text import decode_file

_BYTES: Final = 32


class HostKey:
    """Signs as one host; the private key never leaves this object."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        #: In hex, as `coordinator hosts add` takes it.
        self.public_key = raw.hex()

    def __repr__(self) -> str:
        return f"HostKey({self.public_key})"

    @classmethod
    def generate(cls) -> HostKey:
        """Make a key that this process alone has."""
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def parse(cls, text: str, where: str) -> HostKey:
        """Return the key in hex; ConfigurationError, which names ``where``, when it is none."""
        try:
            return cls(bytes.fromhex(text.strip().removeprefix("0x")))
        except ValueError:
            raise ConfigurationError(f"{where} is not a host key: it is 64 hex digits") from None

    @classmethod
    def load(cls, path: Path) -> HostKey:
        """Return the key in the file, which is made, for its owner alone, where there is none."""
        try:
            if not path.exists():
                _make(path)
            return cls.parse(decode_file(path.read_bytes()), f"the file {path}")
        except OSError as fault:
            raise ConfigurationError(
                f"the host key {path} can't be read or made ({fault.strerror}): set"
                " COORDINATOR_HOST_KEY_FILE to a file that this user may write"
            ) from None
        except ValueError as fault:
            raise ConfigurationError(f"the host key {path} {fault}") from None

    def sign(self, message: bytes) -> str:
        """Return the signature in hex."""
        return self._key.sign(message).hex()


def is_signed(public_key: str, signature: str, message: bytes) -> bool:
    """Return whether the key's owner signed the message; False for what is no key or signature."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _make(path: Path) -> None:
    """Write a new key whole, and never over one: of two processes the second uses the first's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, replaces nothing.
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink()
