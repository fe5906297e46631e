"""The ACTP kernel after contracts/src/ACTPKernel.sol, its checks in the same order."""

from __future__ import annotations

from typing import Any

from coordinator.chain.simulated import kernel_terms as terms
from coordinator.chain.simulated.codec import WORD, word_of_address
from coordinator.chain.simulated.contract import (
    NOBODY,
    Frame,
    Handler,
    Reverted,
    constant,
    require,
)
from coordinator.chain.simulated.kernel_dispute import Disputes
from coordinator.chain.simulated.kernel_terms import NO_BYTES, REACHABLE, State, Txn, share
from coordinator.domain.address import keccak256

_CONSTANTS = (
    "MAX_BPS",
    "MIN_FEE",
    "MIN_TRANSACTION_AMOUNT",
    "MAX_TRANSACTION_AMOUNT",
    "MAX_DEADLINE",
    "MIN_DISPUTE_WINDOW",
    "MAX_DISPUTE_WINDOW",
    "DEFAULT_DISPUTE_WINDOW",
    "MIN_DISPUTE_BOND",
    "MAX_MEDIATOR_FEE_BPS",
    "ARCHIVE_ALLOCATION_BPS",
)


class Kernel(Disputes):
    def __init__(self, address: str, admin: str) -> None:
        self.admin = admin
        handlers: dict[str, Handler] = {
            "createTransaction": self._create,
            "acceptQuote": self._accept_quote,
            "linkEscrow": self._link,
            "transitionState": self._transition,
            "releaseMilestone": self._release_milestone,
            "getTransaction": self._existing,
            "requesterNonces": lambda f, who: f.state.get(self.nonce_key(who)),
            "approvedEscrowVaults": lambda f, vault: bool(f.state.get(self.vault_key(vault))),
            "paused": lambda f: bool(f.state.get(self.key("paused"))),
            "feeRecipient": lambda f: f.state.get(self.key("fee_recipient"), NOBODY),
            "archiveTreasury": lambda f: f.state.get(self.key("archive"), NOBODY),
            "pause": self._pause,
            "unpause": self._unpause,
            "approveEscrowVault": self._approve_vault,
            "setArchiveTreasury": self._set_archive,
            "updateFeeRecipient": self._set_fee_recipient,
        }
        handlers |= {name: constant(getattr(terms, name)) for name in _CONSTANTS}
        fixed: dict[str, Any] = {
            "admin": admin,
            "pauser": admin,
            "platformFeeBps": terms.PLATFORM_FEE_BPS,
            "requesterPenaltyBps": terms.REQUESTER_PENALTY_BPS,
            "disputeBondBps": terms.DISPUTE_BOND_BPS,
        }
        handlers |= {name: constant(value) for name, value in fixed.items()}
        super().__init__(address, "ACTPKernel", handlers)

    def nonce_key(self, requester: str) -> tuple[str, str, str]:
        return (self.address, "nonce", requester)

    def _create(
        self,
        frame: Frame,
        provider: str,
        requester: str,
        amount: int,
        deadline: int,
        window: int,
        service_hash: bytes,
        agent_id: int,
        requester_agent_id: int,
    ) -> bytes:
        self._when_not_paused(frame)
        require(frame.sender == requester, "Requester mismatch")
        require(provider != NOBODY, "Zero provider")
        require(provider != requester, "Self-transaction not allowed")
        require(amount >= terms.MIN_TRANSACTION_AMOUNT, "Amount below minimum")
        require(amount <= terms.MAX_TRANSACTION_AMOUNT, "Amount exceeds maximum")
        now = frame.timestamp
        require(deadline > now, "Deadline in past")
        require(deadline <= now + terms.MAX_DEADLINE, "Deadline too far")
        terms.check_dispute_window(window)

        nonce = frame.state.get(self.nonce_key(requester))
        frame.state.set(self.nonce_key(requester), nonce + 1)
        parties = word_of_address(requester)[12:] + word_of_address(provider)[12:]
        counted = nonce.to_bytes(WORD, "big")
        transaction_id = keccak256(parties + amount.to_bytes(WORD, "big") + service_hash + counted)
        txn = Txn(
            transaction_id,
            requester,
            provider,
            State.INITIATED,
            amount,
            now,
            now,
            deadline,
            service_hash,
            dispute_window=window,
            agent_id=agent_id,
            requester_agent_id=requester_agent_id,
        )
        self._write(frame, txn)
        self.emit(
            frame,
            "TransactionCreated",
            *(transaction_id, requester, provider, amount, service_hash, deadline, now, agent_id),
        )
        return transaction_id

    def _accept_quote(self, frame: Frame, transaction_id: bytes, amount: int) -> None:
        self._when_not_paused(frame)
        txn = self._existing(frame, transaction_id)
        require(txn.state == State.QUOTED, "Not quoted")
        require(frame.sender == txn.requester, "Only requester")
        require(frame.timestamp <= txn.deadline, "Expired")
        require(amount >= terms.MIN_TRANSACTION_AMOUNT, "Below minimum")
        require(amount <= terms.MAX_TRANSACTION_AMOUNT, "Above maximum")
        now = frame.timestamp
        self._write(frame, txn._replace(amount=amount, updated_at=now))
        self.emit(frame, "QuoteAccepted", transaction_id, txn.amount, amount, now)

    def _link(self, frame: Frame, transaction_id: bytes, vault: str, escrow_id: bytes) -> None:
        self._when_not_paused(frame)
        require(vault != NOBODY, "Escrow addr")
        require(escrow_id != NO_BYTES, "Invalid escrow ID")
        require(bool(frame.state.get(self.vault_key(vault))), "Escrow not approved")
        used = (self.address, "used", escrow_id)
        require(not frame.state.get(used), "Escrow ID already used")
        txn = self._existing(frame, transaction_id)
        linkable = txn.state in (State.INITIATED, State.QUOTED)
        require(linkable, "Invalid state for linking escrow")
        require(frame.sender == txn.requester, "Only requester")
        require(frame.timestamp <= txn.deadline, "Transaction expired")

        frame.state.set(used, True)
        txn = txn._replace(escrow_contract=vault, escrow_id=escrow_id)
        holder, inner = self.vault_at(frame, vault), frame.by(self.address)
        holder.create(inner, escrow_id, txn.requester, txn.provider, txn.amount)
        linked = (transaction_id, vault, escrow_id, txn.amount, frame.timestamp)
        self.emit(frame, "EscrowLinked", *linked)
        self._move_to(frame, txn, State.COMMITTED)

    def _transition(self, frame: Frame, transaction_id: bytes, wanted: int, proof: bytes) -> None:
        if wanted not in State._value2member_map_:
            raise Reverted
        new = State(wanted)
        frame.work = f"to {new.name}"
        self._when_not_paused(frame)
        txn = self._existing(frame, transaction_id)
        old = State(txn.state)
        require(new != old, "No-op")
        require(new in REACHABLE[old], "Invalid transition")
        frame.work = f"{old.name} to {new.name}"
        if new is State.QUOTED:
            self._quote(frame, txn, proof)
        elif new is State.IN_PROGRESS:
            self._check_provider_in_time(frame, txn)
            self._move_to(frame, txn, new)
        elif new is State.DELIVERED:
            self._deliver(frame, txn, proof)
        elif new is State.DISPUTED:
            self._dispute(frame, txn)
        elif old is State.DISPUTED:
            self._resolve(frame, txn, new, proof)
        elif new is State.SETTLED:
            self._settle(frame, txn)
        else:
            self._cancel(frame, txn)

    def _release_milestone(self, frame: Frame, transaction_id: bytes, amount: int) -> None:
        self._when_not_paused(frame)
        txn = self._existing(frame, transaction_id)
        require(txn.state == State.IN_PROGRESS, "Not in progress")
        require(frame.sender == txn.requester, "Only requester")
        require(amount != 0, "Amount zero")
        vault = self._vault_of(frame, txn)
        require(amount <= vault.remaining(frame, txn.escrow_id), "Insufficient escrow")
        self._write(frame, txn._replace(updated_at=frame.timestamp))
        self._pay_provider(frame, txn, vault, amount)
        self.emit(frame, "EscrowMilestoneReleased", transaction_id, amount, frame.timestamp)

    def _quote(self, frame: Frame, txn: Txn, proof: bytes) -> None:
        self._check_provider_in_time(frame, txn)
        if proof:
            require(len(proof) == WORD, "Quote hash must be 32 bytes")
            require(proof != NO_BYTES, "Invalid quote hash")
            txn = txn._replace(metadata=proof)
        self._move_to(frame, txn, State.QUOTED)

    def _deliver(self, frame: Frame, txn: Txn, proof: bytes) -> None:
        self._check_provider_in_time(frame, txn)
        require(len(proof) in (0, WORD), "Invalid dispute window proof")
        window = int.from_bytes(proof, "big") or terms.DEFAULT_DISPUTE_WINDOW
        terms.check_dispute_window(window)
        ends = frame.timestamp + window
        self._move_to(frame, txn._replace(dispute_window=ends), State.DELIVERED)

    def _settle(self, frame: Frame, txn: Txn) -> None:
        if frame.sender != txn.requester and frame.timestamp <= txn.dispute_window:
            require(frame.sender != txn.provider, "Requester decision pending")
            raise Reverted("Not authorized to settle")
        self._move_to(frame, txn, State.SETTLED)
        vault = self._vault_of(frame, txn)
        left = vault.remaining(frame, txn.escrow_id)
        if left:
            self._pay_provider(frame, txn, vault, left)

    def _cancel(self, frame: Frame, txn: Txn) -> None:
        ours = frame.sender == txn.requester
        if txn.state in (State.INITIATED, State.QUOTED):
            require(ours, "Only requester can cancel")
            self._move_to(frame, txn, State.CANCELLED)
            return
        require(ours or frame.sender == txn.provider, "Party only")
        if ours:
            frame.work = "reclaim"
            require(txn.state == State.COMMITTED, "Cannot cancel after work started")
            require(frame.timestamp >= txn.deadline, "Deadline not reached")
        self._move_to(frame, txn, State.CANCELLED)
        vault = self._vault_of(frame, txn)
        left = vault.remaining(frame, txn.escrow_id)
        penalty = share(txn.amount, txn.penalty_bps) if ours else 0
        if left != penalty:
            self._refund(frame, txn, vault, left - penalty)
        if ours:
            self._pay_provider(frame, txn, vault, penalty)

    def _check_provider_in_time(self, frame: Frame, txn: Txn) -> None:
        require(frame.sender == txn.provider, "Only provider")
        require(frame.timestamp <= txn.deadline, "Transaction expired")
