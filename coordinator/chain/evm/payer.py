"""The payer: whose USDC is paid, and how the account that signs makes calls in its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.evm.logs import Log
from coordinator.domain.chain.events import ChainEvent
from coordinator.domain.chain.steps import Call
from coordinator.domain.ports import ChainLimit


class PayerEvents(Protocol):
    """Reads acts on the payer itself, by logs with these first topics at these addresses.

    ``events`` takes the logs of whole blocks in their order, with the treasury's transfers and
    approvals.
    """

    @property
    def addresses(self) -> Sequence[str]: ...
    @property
    def topics(self) -> Sequence[str]: ...
    def events(self, logs: Sequence[Log]) -> Iterator[ChainEvent]: ...


class Payer(Protocol):
    """The account whose USDC is paid.

    ``composed`` are the transactions of the signer that make the treasury's calls, ``call_gas``
    the gas that each adds, ``making_gas`` what a purchase takes until it is funded where that is no
    create and link (0), and ``tx_bytes`` the most that one of them or their share has, as signed.
    ``approves_each`` tells that each approves what it takes, so that the rail may take nothing
    else; else an allowance stands.
    """

    @property
    def treasury(self) -> str: ...
    @property
    def call_gas(self) -> int: ...
    @property
    def making_gas(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def approves_each(self) -> bool: ...
    def composed(self, calls: Sequence[Call]) -> Sequence[Call]: ...
    def state_calls(self) -> Sequence[ContractCall]:
        """The calls whose answers ``limit`` decodes; none where it has no limit of its own."""

    def limit(self, answers: Sequence[Any], *, at: int) -> ChainLimit | None:
        """The limit that holds in blocks from the unix second ``at`` on."""

    def reading(self, call: Call) -> str | None:
        """The data of a reading that tells how the call within went; None where there is none."""

    def reason(self, revert_data: Any) -> str | None:
        """Why the payer itself refuses, in words; None where the call within was refused."""

    def revert_data(self, told: str) -> str | None:
        """The revert data of the call within, by the answer to ``reading``; None: it worked."""

    def watched(self, *, kernel: str, signer: str) -> PayerEvents | None:
        """The events of itself to follow, where ``signer`` acts for it; None: there are none."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """The signer's own account."""

    treasury: str
    call_gas: int = 0
    making_gas: int = 0
    tx_bytes: int = 600
    approves_each: bool = False

    def composed(self, calls: Sequence[Call]) -> Sequence[Call]:
        return calls

    def state_calls(self) -> Sequence[ContractCall]:
        return ()

    def limit(self, answers: Sequence[Any], *, at: int) -> ChainLimit | None:
        return None

    def reading(self, call: Call) -> str | None:
        return None

    def reason(self, revert_data: Any) -> str | None:
        return None

    def revert_data(self, told: str) -> str | None:
        return None

    def watched(self, *, kernel: str, signer: str) -> PayerEvents | None:
        return None
