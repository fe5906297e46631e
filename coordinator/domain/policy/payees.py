"""Addresses that must never be paid: USDC sent there is lost, or goes nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coordinator.domain.policy.model import PolicyModel

# Below it stand precompiled contracts; nobody has a key of any such address.
_RESERVED_MAX: Final = 0xFFFF
# What people burn tokens to, and the predeployed contracts of the OP stack (namespace 0x4200…).
_BURN: Final = frozenset(
    {
        "0x000000000000000000000000000000000000dead",
        "0xdead000000000000000042069420694206942069",
        "0x" + "de" + "ad" * 19,
        "0x" + "ff" * 20,
        "0x" + "ee" * 20,
    }
)
_PREDEPLOYED: Final = "0x42000000000000000000000000000000"

Contracts = Mapping[str, str]
"""What stands at an address in lower case: "the USDC token", "the treasury" and so on."""


def contracts_of(
    *,
    treasury: str,
    signer: str | None = None,
    usdc: str,
    vault: str,
    kernel: str,
    formers: Iterable[str] = (),
    wallet: str | None = None,
) -> Contracts:
    """Return the treasury's own address and its contracts, none of which can be a payee."""
    named = {
        **({signer: "the account that signs for the treasury"} if signer is not None else {}),
        **dict.fromkeys(formers, "a former account of the treasury"),
        **({wallet: "the wallet that pays for HTTP requests"} if wallet is not None else {}),
        kernel: "the escrow kernel",
        vault: "the escrow vault",
        usdc: "the USDC token",
        treasury: "the treasury's own address",
    }
    return {address.lower(): what for address, what in named.items()}


def not_payable(address: str, contracts: Contracts) -> str | None:
    """Say why ``address`` (0x and 40 hex digits) can't be paid; None when it can."""
    plain = address.lower()
    if plain in contracts:
        return f"{address} is {contracts[plain]}: USDC sent there is lost or goes nowhere"
    reserved = int(plain, 16) <= _RESERVED_MAX or plain.startswith(_PREDEPLOYED)
    if reserved or plain in _BURN:
        return f"{address} is nobody's address: USDC sent there is lost"
    return None


def not_bound(policy: PolicyModel, payee: str, host: str) -> str | None:
    """Say why a payment to ``payee`` for a request to ``host`` is unknown to the policy.

    An agent can make a server's answer up: it is the policy that binds hosts to payees.
    """
    name, provider = policy.provider(payee)
    if provider is None:
        return f"{payee} is no provider of the policy"
    if host not in (provider.hosts or ()):
        known = ", ".join(provider.hosts or ()) or "none"
        return f"{name} is paid for requests to its hosts alone: {known}; {host} is not one"
    return None


def unpayable_providers(policy: PolicyModel, contracts: Contracts) -> Iterator[tuple[str, str]]:
    """Yield each provider of the policy that can't be paid, with why."""
    for name, provider in policy.providers.items():
        why = not_payable(provider.address, contracts)
        if why is not None:
            yield name, why
