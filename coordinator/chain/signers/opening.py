"""From the text of a setting to the signer of an account, whoever's it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from coordinator.chain.signers.keystores import (
    KeystoreKey,
    address_in,
    find_keystore,
    read_keystore,
)
from coordinator.chain.signers.signers import Key, Signer
from coordinator.domain.address import checksummed
from coordinator.domain.errors import ConfigurationError

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}", re.ASCII)
_KMS_KEY: Final = re.compile(
    r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+"
    r"|alias/[A-Za-z0-9/_-]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}",
    re.ASCII,
)
_PASSWORD: Final = "COORDINATOR_KEYSTORE_PASSWORD"


def load_signer(
    text: str, secrets: Mapping[str, str], *, setting: str = "COORDINATOR_SIGNER"
) -> Signer:
    """The signer of the account that ``setting`` gives in ``text``; no key is opened if not needed.

    ``env:NAME``, ``keystore:PATH``, ``aws-kms:KEY_ID``, ``pkcs11:URI``, or ``address:0x…``, which
    signs nothing. Those of a device take ``?address=0x…`` (or ``&address=``): it is known at once
    then, and compared when the key is opened; without it the device is asked here.

    ``secrets`` looks names up in the environment, ``.env`` and their ``_FILE`` forms.
    ConfigurationError when the key is missing or what is given is none; SignerUnavailable when a
    device or service that is asked for the address does not answer.
    """
    kind, _, rest = text.partition(":")
    # What is given is never repeated: a key may have been put where its name belongs.
    if kind == "env" and _VARIABLE.fullmatch(rest):
        return _of_variable(rest, secrets.get(rest))
    if kind == "keystore" and rest:
        return _of_keystore(rest, secrets.get(_PASSWORD), setting)
    if kind == "address" and rest:
        return Signer(_address(rest, f"{setting}=address:…"), setting=setting)
    if kind in ("aws-kms", "pkcs11") and rest:
        path, _, query = rest.partition("?")
        return _of_device(kind, path, _parse_query(query, setting), secrets, setting)
    raise ConfigurationError(
        f"{setting} must be env:NAME, keystore:PATH, aws-kms:KEY_ID, pkcs11:URI, address:0x… or"
        " address"
    )


def _address(text: str, what: str) -> str:
    try:
        return checksummed(text)
    except ValueError:
        raise ConfigurationError(
            f"{what} must be followed by the account's address, 0x and 40 hex digits"
        ) from None


def _of_variable(name: str, text: str | None) -> Signer:
    if not text:
        raise ConfigurationError(f"{name} is not set: put the treasury's private key there")
    try:
        return Signer.of_key(bytes.fromhex(text.strip().removeprefix("0x")))
    except ValueError:
        raise ConfigurationError(f"{name} is not a private key: it must be 64 hex digits") from None


def _of_keystore(text: str, password: str | None, setting: str) -> Signer:
    path = find_keystore(text)
    document = read_keystore(path)
    if password is None:
        raise ConfigurationError(f"{_PASSWORD} is not set (or its _FILE form)")
    # Foundry's keystores do not say whose key they hold.
    return _signer(KeystoreKey(path, document, password), address_in(document), setting)


def _of_device(
    kind: str, path: str, query: dict[str, str], secrets: Mapping[str, str], setting: str
) -> Signer:
    given = query.pop("address", None)
    address = _address(given, f"address= in {setting}") if given is not None else None
    if kind == "pkcs11":
        from coordinator.chain.signers.pkcs11_token import PIN, TokenKey, TokenUri

        uri = TokenUri.parse(path, query)
        return _signer(TokenKey(uri, lambda: secrets.get(PIN)), address, setting)
    from coordinator.chain.signers.aws_kms import KmsKey

    if query or not _KMS_KEY.fullmatch(path):
        raise ConfigurationError(
            f"{setting}=aws-kms:… must be followed by a key's id, ARN or alias/NAME, and at most"
            " ?address=0x…"
        )
    return _signer(KmsKey(path), address, setting)


def _signer(key: Key, address: str | None, setting: str) -> Signer:
    return Signer(address if address is not None else key.open(), key, setting=setting)


def _parse_query(query: str, setting: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in found:
            raise ConfigurationError(f"{setting} has {name[:20]}= twice")
        found[name] = value
    return found
