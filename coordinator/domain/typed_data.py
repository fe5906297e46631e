"""EIP-712 messages of flat fields, for one treasury on one chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from coordinator.domain.address import keccak256

_DOMAIN_FIELDS: Final = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class Domain(NamedTuple):
    """An EIP-712 domain: whoever verifies the message, and on which chain."""

    name: str
    version: str
    chain_id: int
    contract: str

    @property
    def domain(self) -> Domain:
        return self


@dataclass(frozen=True, slots=True)
class Trust:
    """The root of trust: the treasury's account, and the chain and kernel it signs for.

    ``key`` is the account whose key signs for the treasury where that is a contract, such as a
    Safe; None where it is the treasury's own. What people signed for ``formers``, accounts that the
    treasury had before, is signed for it. What those accounts themselves have signed is worth
    nothing any more.
    """

    treasury: str
    chain_id: int
    kernel: str
    formers: tuple[str, ...] = ()
    key: str | None = None

    @property
    def signer(self) -> str:
        """The account whose signature counts as the treasury's."""
        return self.key or self.treasury

    @property
    def domain(self) -> Domain:
        """The domain of what people and treasuries sign for each other."""
        return Domain("USDC escrow coordinator", "1", self.chain_id, self.kernel)

    def of_now(self) -> Trust:
        """Return it without what was before."""
        return replace(self, formers=())

    def before(self) -> Iterator[Trust]:
        """Yield the root of trust as it was with each former account."""
        for former in self.formers:
            yield Trust(former, self.chain_id, self.kernel)


@dataclass(frozen=True, slots=True)
class TypedData:
    """An EIP-712 message of flat fields, for a treasury or for another contract."""

    trust: Trust | Domain
    name: str
    fields: tuple[tuple[str, str], ...]
    values: tuple[str | int | bytes, ...]

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are signed."""
        separator = domain_separator(self.trust.domain)
        return keccak256(
            b"\x19\x01" + separator + _hash_struct(self.name, self.fields, self.values)
        )

    def document(self) -> dict[str, Any]:
        """Return the message as wallets take it."""
        listed = {"EIP712Domain": _DOMAIN_FIELDS, self.name: self.fields}
        return {
            "types": {
                name: [{"name": field, "type": kind} for field, kind in fields]
                for name, fields in listed.items()
            },
            "primaryType": self.name,
            "domain": {
                name: value
                for (name, _), value in zip(_DOMAIN_FIELDS, self.trust.domain, strict=True)
            },
            "message": {
                name: "0x" + value.hex() if isinstance(value, bytes) else value
                for (name, _), value in zip(self.fields, self.values, strict=True)
            },
        }


def domain_separator(domain: Domain) -> bytes:
    """Return the 32 bytes by which EIP-712 tells domains apart."""
    return _hash_struct("EIP712Domain", _DOMAIN_FIELDS, domain)


def _hash_struct(
    name: str, fields: tuple[tuple[str, str], ...], values: tuple[str | int | bytes, ...]
) -> bytes:
    kind = f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})"
    words = [_word(of, value) for (_, of), value in zip(fields, values, strict=True)]
    return keccak256(keccak256(kind.encode()) + b"".join(words))


def _word(kind: str, value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    if isinstance(value, bytes):
        return value
    if kind == "address":
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return keccak256(value.encode())
