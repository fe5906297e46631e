"""SoftHSM2 as a real PKCS#11 token: made in a folder, taken away and brought back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

PIN: Final = "4711-treasury"
_SO_PIN: Final = "0815-officer"
_CURVES: Final = {"secp256k1": "06052b8104000a", "prime256v1": "06082a8648ce3d030107"}
_MODULE: Final = next(
    (
        found
        for folder in ("/usr", "/usr/local", "/opt/homebrew")
        for inside in ("lib*", "lib/*")
        for found in sorted(Path(folder).glob(f"{inside}/*/libsofthsm2.so"))
    ),
    None,
)
# A machine that checks what is merged must not pass by what it leaves out.
needs_softhsm = pytest.mark.skipif(
    (_MODULE is None or shutil.which("softhsm2-util") is None) and not os.environ.get("CI"),
    reason="SoftHSM2 is not installed here",
)


class SoftToken:
    """A token with one key; ``uri`` is its key's, without an address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._away = folder.with_name("away")
        self.secrets = {"COORDINATOR_PKCS11_PIN": PIN}

    def make_token(self, label: str = "treasury") -> None:
        pins = ("--pin", PIN, "--so-pin", _SO_PIN)
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, *pins],
            check=True,
            capture_output=True,
        )
        forget_tokens()

    def make_key(self, label: str = "payer", *, curve: str = "secp256k1") -> None:
        import pkcs11
        from pkcs11 import Attribute, KeyType

        token = pkcs11.lib(str(_MODULE)).get_token(token_label="treasury")
        terms = {Attribute.EC_PARAMS: bytes.fromhex(_CURVES[curve])}
        with token.open(rw=True, user_pin=PIN) as session:
            curve_of = session.create_domain_parameters(KeyType.EC, terms, local=True)
            curve_of.generate_keypair(store=True, label=label, id=label.encode())

    def uri(self, key: str = "payer", **query: str) -> str:
        query = {"module-path": str(_MODULE)} | query
        asked = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        return f"pkcs11:token=treasury;object={quote(key)}?{asked}"

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """While it lasts there is no token, and its sessions are lost."""
        self._folder.rename(self._away)
        try:
            yield
        finally:
            self._away.rename(self._folder)


@contextmanager
def soft_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    """A token of its own, which nothing else of this process sees afterwards."""
    tokens = folder / "tokens"
    tokens.mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(settings))
    made = SoftToken(tokens)
    made.make_token()
    made.make_key()
    try:
        yield made
    finally:
        forget_tokens()


def forget_tokens() -> None:
    """Shut the module down: started again it reads its settings and tokens anew."""
    import pkcs11

    with suppress(pkcs11.PKCS11Error):
        pkcs11.lib(str(_MODULE)).finalize()
