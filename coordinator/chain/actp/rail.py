"""The calls of an escrow's life, to ACTP's kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.actp.terms import STATES
from coordinator.chain.words import encoded
from coordinator.domain.address import keccak256
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.chain.gas import GAS_LIMITS
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.usdc import Usdc

_NO_AGENT_ID: Final = 0


@dataclass(frozen=True, slots=True)
class ActpRail:
    """Encodes calls for one kernel and vault."""

    kernel: str
    vault: str
    treasury: str

    def create(
        self,
        *,
        purchase_id: str,
        provider: str,
        amount: Usdc,
        service: str | None,
        deadline: int,
        dispute_window: int,
        create_nonce: int,
    ) -> Call:
        """Open an empty escrow; ``create_nonce`` is the kernel's count of ours, for its id."""
        service_key = service_hash(service)
        data = kernel_abi().call(
            "createTransaction",
            provider,
            self.treasury,
            amount.base_units,
            deadline,
            dispute_window,
            service_key,
            _NO_AGENT_ID,
            _NO_AGENT_ID,
        )
        predicted = self.predicted_id(
            provider=provider, amount=amount, service_key=service_key, create_nonce=create_nonce
        )
        return self._call(StepKind.CREATE, data, purchase_id, predicted)

    def predicted_id(
        self, *, provider: str, amount: Usdc, service_key: str, create_nonce: int
    ) -> str:
        """keccak256(requester, provider, amount, service hash, nonce), tightly packed."""
        rest = encoded(
            ("uint256", "bytes32", "uint256"), (amount.base_units, service_key, create_nonce)
        )
        assert rest is not None
        # Packed, an address has no padding.
        packed = self.treasury[2:] + provider[2:] + rest
        return "0x" + keccak256(bytes.fromhex(packed)).hex()

    def link(self, *, purchase_id: str, escrow_id: str, escrow_key: str, amount: Usdc) -> Call:
        """Fund the escrow from the treasury's allowance, under the purchase's escrow key."""
        data = kernel_abi().call("linkEscrow", escrow_id, self.vault, escrow_key)
        return self._call(StepKind.LINK, data, purchase_id, escrow_id, amount)

    def cancel(self, *, purchase_id: str, escrow_id: str) -> Call:
        """End an empty escrow, free of charge."""
        return self._move(StepKind.CANCEL, purchase_id, escrow_id, EscrowState.CANCELLED)

    def reclaim(self, *, purchase_id: str, escrow_id: str) -> Call:
        """Take a funded escrow's USDC back from its deadline on, less the penalty."""
        return self._move(StepKind.RECLAIM, purchase_id, escrow_id, EscrowState.CANCELLED)

    def settle(self, *, purchase_id: str, escrow_id: str) -> Call:
        """Pay the provider of a delivered escrow."""
        return self._move(StepKind.SETTLE, purchase_id, escrow_id, EscrowState.SETTLED)

    def dispute(self, *, purchase_id: str, escrow_id: str, bond: Usdc) -> Call:
        """Contest a delivered escrow; the kernel pulls ``bond`` through the vault's allowance."""
        return self._move(StepKind.DISPUTE, purchase_id, escrow_id, EscrowState.DISPUTED, bond)

    def _move(
        self,
        kind: StepKind,
        purchase_id: str,
        escrow_id: str,
        state: EscrowState,
        usdc: Usdc | None = None,
    ) -> Call:
        data = kernel_abi().call("transitionState", escrow_id, STATES.index(state), b"")
        return self._call(kind, data, purchase_id, escrow_id, usdc)

    def _call(
        self,
        kind: StepKind,
        data: str,
        purchase_id: str,
        escrow_id: str,
        usdc: Usdc | None = None,
    ) -> Call:
        return Call(
            kind=kind,
            to=self.kernel,
            data=data,
            gas_limit=GAS_LIMITS[kind.value],
            purchase_id=purchase_id,
            escrow_id=escrow_id,
            usdc=usdc,
        )
