"""A key in a PKCS#11 token (an HSM, a smart card, SoftHSM2), which signs there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_to_bytes

from coordinator.chain.signers.secp256k1 import address_of_point
from coordinator.domain.errors import ConfigurationError, SignerUnavailable
from coordinator.extras import needs_extra

if TYPE_CHECKING:
    from pkcs11 import Session, Token

PIN: Final = "COORDINATOR_PKCS11_PIN"
_TOKEN_FIELDS: Final = ("token", "serial", "manufacturer", "model")
_FORM: Final = "pkcs11:token=LABEL;object=LABEL?module-path=/PATH/OF/THE/MODULE.so"
# The OID of secp256k1, 1.3.132.0.10, in DER.
_SECP256K1: Final = bytes.fromhex("06052b8104000a")
# A module is initialised for one thread: one call at a time, whichever key it is for.
_calls = threading.RLock()
# How often each module was shut down: sessions opened before are gone, those of other keys too.
_shutdowns: Counter[str] = Counter()


@dataclass(frozen=True, slots=True)
class TokenUri:
    """An RFC 7512 URI of a key in a token; a part that it leaves out is empty."""

    module_path: str
    token: str = ""
    serial: str = ""
    manufacturer: str = ""
    model: str = ""
    object: str = ""
    id: bytes = b""

    @classmethod
    def parse(cls, path: str, query: dict[str, str]) -> TokenUri:
        """Read the URI's path and query; ConfigurationError names a part that is wrong."""
        found: dict[str, Any] = {}
        for part in filter(None, path.split(";")):
            name, _, value = part.partition("=")
            if name not in (*_TOKEN_FIELDS, "object", "id", "type") or name in found:
                raise ConfigurationError(f"a pkcs11: URI has each part once: {_FORM}")
            found[name] = unquote_to_bytes(value) if name == "id" else unquote(value)
        if found.pop("type", "private") != "private":
            raise ConfigurationError("a pkcs11: URI is that of a private key: type=private")
        secret = [name for name in ("pin-value", "pin-source") if name in query]
        if secret:
            raise ConfigurationError(
                f"a pkcs11: URI is no place for {secret[0]}: set {PIN} or {PIN}_FILE"
            )
        module = unquote(query.get("module-path", ""))
        unknown = set(query) - {"module-path"}
        if unknown or not module or not ({"object", "id"} & set(found)):
            raise ConfigurationError(f"a pkcs11: URI must be like {_FORM}")
        return cls(module_path=module, **found)

    def is_of(self, token: Token) -> bool:
        """Whether the token is the one that is meant."""
        said = (
            (self.token, token.label),
            (self.serial, _text(token.serial)),
            (self.manufacturer, token.manufacturer_id),
            (self.model, token.model),
        )
        return all(wanted in ("", found.rstrip(" \0")) for wanted, found in said)


class TokenKey:
    """A key in a token; after a fault the module is started anew, as tokens come and go."""

    def __init__(self, uri: TokenUri, pin: Callable[[], str | None]) -> None:
        with needs_extra("pkcs11", "a key in a PKCS#11 token"):
            import pkcs11  # noqa: F401
        self._uri = uri
        self._pin = pin
        self._refused: ConfigurationError | None = None
        self._session: Session | None = None
        self._opened_after = 0
        self._private: Any = None
        self._address = ""

    @property
    def name(self) -> str:
        said = self._uri.object or self._uri.id.hex()
        of = self._uri.token or self._uri.serial
        return f"the PKCS#11 key {said}" + (f" of the token {of}" if of else "")

    def open(self) -> str:
        with self._call():
            self._connect()
            return self._address

    def sign(self, digest: bytes) -> bytes:
        from pkcs11 import Mechanism

        with self._call():
            self._connect()
            return bytes(self._private.sign(digest, mechanism=Mechanism.ECDSA))

    @contextmanager
    def _call(self) -> Iterator[None]:
        """One call of the module; SignerUnavailable in place of its faults."""
        from pkcs11 import PKCS11Error

        with _calls:
            try:
                yield
            except SignerUnavailable:
                self._shut_down()
                raise
            except PKCS11Error as fault:
                self._shut_down()
                said = f"{self.name}: {type(fault).__name__}"
                raise SignerUnavailable(f"{said}; nothing was signed") from None

    def _connect(self) -> None:
        shutdowns = _shutdowns[self._uri.module_path]
        if self._session is not None and self._opened_after == shutdowns:
            return
        if self._refused is not None:
            raise self._refused
        session = self._log_in(self._find_token())
        try:
            self._private, self._address = self._find_key(session)
        except ConfigurationError:
            session.close()
            raise
        self._session, self._opened_after = session, shutdowns

    def _shut_down(self) -> None:
        """Make the next call load the module's tokens anew: it may hold what is gone."""
        import pkcs11

        path = self._uri.module_path
        _shutdowns[path] += 1
        self._session = self._private = None
        try:
            pkcs11.lib(path).finalize()
        except pkcs11.PKCS11Error:
            return  # it could not even be started

    def _find_token(self) -> Token:
        import pkcs11

        try:
            module = pkcs11.lib(self._uri.module_path)
        except pkcs11.PKCS11Error as fault:
            if type(fault) is not pkcs11.PKCS11Error:  # the module was loaded, and refused
                raise
            raise ConfigurationError(
                f"the PKCS#11 module {self._uri.module_path} can't be loaded: install the token's"
                " software (SoftHSM2 is Debian's package softhsm2)"
            ) from None
        tokens = [token for token in module.get_tokens() if self._uri.is_of(token)]
        if not tokens:
            raise SignerUnavailable(f"{self.name}: no such token is there; nothing was signed")
        if len(tokens) > 1:
            raise ConfigurationError(
                f"{self.name}: {len(tokens)} tokens are like this; add serial= to the URI"
            )
        return tokens[0]

    def _log_in(self, token: Token) -> Session:
        import pkcs11

        pin = self._pin()
        if pin is None:
            raise ConfigurationError(f"{PIN} is not set (or its _FILE form)")
        if token.flags & pkcs11.TokenFlag.USER_PIN_FINAL_TRY:
            raise ConfigurationError(
                f"{self.name}: one more wrong PIN locks the token; log in with its own tool first"
            )
        try:
            return token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            # Another key of this token is open, and a login is the whole process's.
            return token.open()
        except (
            pkcs11.PinIncorrect,
            pkcs11.PinInvalid,
            pkcs11.PinLenRange,
            pkcs11.PinLocked,
            pkcs11.PinExpired,
            pkcs11.UserPinNotInitialized,
        ) as fault:
            # Kept: a token locks itself after a few wrong ones, so it is not tried again.
            self._refused = ConfigurationError(
                f"the token refused the PIN in {PIN} ({type(fault).__name__}); nothing was signed"
            )
            raise self._refused from None

    def _find_key(self, session: Session) -> tuple[Any, str]:
        from pkcs11 import Attribute, KeyType, ObjectClass

        wanted: dict[Attribute, Any] = {Attribute.KEY_TYPE: KeyType.EC}
        if self._uri.object:
            wanted[Attribute.LABEL] = self._uri.object
        if self._uri.id:
            wanted[Attribute.ID] = self._uri.id
        pair = []
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            # The whole list: a search that is left before its end blocks the session.
            found = list(session.get_objects({Attribute.CLASS: kind, **wanted}))
            if len(found) != 1:
                raise ConfigurationError(
                    f"{self.name}: the token has {len(found)} objects like this of the kind"
                    f" {kind.name}, not one; object= and id= in the URI name a pair"
                )
            pair += found
        private, public = pair
        if bytes(public[Attribute.EC_PARAMS]) != _SECP256K1:
            raise ConfigurationError(f"{self.name} is on another curve than secp256k1")
        point = bytes(public[Attribute.EC_POINT])
        # Some tokens leave out the octet string around the point.
        return private, address_of_point(point[2:] if len(point) == 67 else point)


def _text(serial: bytes | str) -> str:
    return serial.decode(errors="replace") if isinstance(serial, bytes) else serial
