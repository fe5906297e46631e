"""The ACTP rail: its kernel and vault in the project's words.

ACTP says transaction for our escrow, and escrow id for our escrow key. Its states translate as

    INITIATED created · QUOTED quoted · COMMITTED funded · IN_PROGRESS started ·
    DELIVERED delivered · SETTLED settled · DISPUTED disputed · CANCELLED cancelled
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.packed import encode_packed

from coordinator.chain.abi import kernel_abi, number, vault_abi, word
from coordinator.domain.address import keccak256
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.gas import GAS_LIMITS
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.ports import EscrowOnChain
from coordinator.domain.usdc import Usdc

STATES: Final = (
    EscrowState.CREATED,
    EscrowState.QUOTED,
    EscrowState.FUNDED,
    EscrowState.STARTED,
    EscrowState.DELIVERED,
    EscrowState.SETTLED,
    EscrowState.DISPUTED,
    EscrowState.CANCELLED,
)

_MIN_BOND: Final = Usdc("1.00")
_NO_AGENT_ID: Final = 0


@dataclass(frozen=True, slots=True)
class ActpRail:
    """Encodes calls and decodes logs for one kernel and vault."""

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
        packed = encode_packed(
            ["address", "address", "uint256", "bytes32", "uint256"],
            [
                self.treasury,
                provider,
                amount.base_units,
                bytes.fromhex(service_key[2:]),
                create_nonce,
            ],
        )
        return "0x" + keccak256(packed).hex()

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

    def escrow(self, data: str) -> EscrowOnChain:
        """An escrow from the result of ``getTransaction``."""
        fields = kernel_abi().result("getTransaction", data)
        state, amount, deadline, window, bond_bps = (
            STATES[fields[3]],
            Usdc.from_base_units(fields[4]),
            fields[7],
            fields[12],
            fields[16],
        )
        # Until it is delivered the window is a span; from then on the instant at which it ends.
        ended = state in (EscrowState.DELIVERED, EscrowState.DISPUTED, EscrowState.SETTLED)
        bond = Usdc.from_base_units(amount.base_units * bond_bps // 10_000)
        return EscrowOnChain(
            state=state,
            provider=fields[2],
            escrow_key="0x" + fields[10].hex(),
            amount=amount,
            deadline=deadline,
            window_ends=window if ended else None,
            bond=max(bond, _MIN_BOND),
        )

    def filters(self) -> list[dict[str, Any]]:
        """Log filters, without the range: the kernel's events, our vault escrows, all payouts."""
        kernel, vault = kernel_abi(), vault_abi()
        ours = "0x" + self.treasury[2:].lower().rjust(64, "0")
        moved = [kernel.topic("EscrowLinked"), kernel.topic("StateTransitioned")]
        return [
            {"address": self.kernel, "topics": [kernel.topic("TransactionCreated"), None, ours]},
            {"address": self.kernel, "topics": [moved]},
            {"address": self.vault, "topics": [vault.topic("EscrowCreated"), None, ours]},
            {"address": self.vault, "topics": [vault.topic("EscrowPayout")]},
        ]

    def events(self, logs: Sequence[dict[str, Any]]) -> Iterator[ChainEvent]:
        """The events of ``logs``, which carry their block's time under ``at``."""
        kernel, vault = kernel_abi(), vault_abi()
        names = {
            kernel.topic(name): name
            for name in ("TransactionCreated", "EscrowLinked", "StateTransitioned")
        } | {vault.topic(name): name for name in ("EscrowCreated", "EscrowPayout")}
        named = [(names[log["topics"][0]], log) for log in logs if log["topics"][0] in names]
        funded = _funded_by_us(named)
        for name, log in named:
            if name == "TransactionCreated":
                yield _created(log)
            elif name == "EscrowLinked":
                values = kernel.log(name, log)
                provider = funded.get((log["transactionHash"], values["escrowId"]))
                if provider is not None and values["escrowContract"].lower() == self.vault.lower():
                    yield _event(
                        EventKind.ESCROW_FUNDED,
                        log,
                        escrow_id=values["transactionId"],
                        escrow_key=values["escrowId"],
                        provider=provider,
                        amount=Usdc.from_base_units(values["amount"]),
                    )
            elif name == "StateTransitioned":
                values = kernel.log(name, log)
                yield _event(
                    EventKind.ESCROW_MOVED,
                    log,
                    escrow_id=values["transactionId"],
                    state=STATES[values["newState"]],
                )
            elif name == "EscrowPayout":
                values = vault.log(name, log)
                yield _event(
                    EventKind.PAYOUT,
                    log,
                    escrow_key=values["escrowId"],
                    recipient=values["recipient"],
                    amount=Usdc.from_base_units(values["amount"]),
                )

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


def _funded_by_us(
    named: Iterable[tuple[str, dict[str, Any]]],
) -> Mapping[tuple[str, str], str]:
    found = {}
    for name, log in named:
        if name == "EscrowCreated":
            values = vault_abi().log(name, log)
            found[(log["transactionHash"], values["escrowId"])] = values["provider"]
    return found


def _created(log: dict[str, Any]) -> ChainEvent:
    values = kernel_abi().log("TransactionCreated", log)
    return _event(
        EventKind.ESCROW_CREATED,
        log,
        escrow_id=values["transactionId"],
        requester=values["requester"],
        provider=values["provider"],
        amount=Usdc.from_base_units(values["amount"]),
        service_hash=values["serviceHash"],
        deadline=values["deadline"],
    )


def _event(kind: EventKind, log: dict[str, Any], **values: Any) -> ChainEvent:
    return ChainEvent(
        kind=kind,
        block_number=number(log["blockNumber"]),
        block_hash=word(log["blockHash"]),
        log_index=number(log["logIndex"]),
        tx_hash=word(log["transactionHash"]),
        at=log["at"],
        **values,
    )


make_event = _event
