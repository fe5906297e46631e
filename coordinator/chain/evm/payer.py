"""The payer: whose USDC is paid, and how the account that signs makes calls in its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, Protocol

from coordinator.domain.chain.steps import Call

Terms = ParamSpec("Terms")


class Payer(Protocol):
    """The account whose USDC is paid.

    ``made`` is a call of the treasury's as the signer sends it, ``call_gas`` the gas that this
    adds to each. ``approves_each`` tells that each call approves what it takes, so that the rail
    may take nothing else; else an allowance stands.
    """

    @property
    def treasury(self) -> str: ...
    @property
    def call_gas(self) -> int: ...
    @property
    def approves_each(self) -> bool: ...
    def made(self, call: Call) -> Call: ...


@dataclass(frozen=True, slots=True)
class Wallet:
    """The signer's own account."""

    treasury: str
    call_gas: int = 0
    approves_each: bool = False

    def made(self, call: Call) -> Call:
        return call


def made_by(payer: Payer, call: Callable[Terms, Call]) -> Callable[Terms, Call]:
    """Return what makes the same call in the payer's way."""

    def made(*args: Terms.args, **terms: Terms.kwargs) -> Call:
        return payer.made(call(*args, **terms))

    return made
