"""The kernel's other half: administration, payments out of escrows, and disputes."""

from __future__ import annotations

from coordinator.chain.simulated import kernel_terms as terms
from coordinator.chain.simulated.codec import word_of_address
from coordinator.chain.simulated.contract import NOBODY, Contract, Frame, Reverted, require
from coordinator.chain.simulated.kernel_terms import Resolution, State, Txn, share
from coordinator.chain.simulated.vault import EscrowVault
from coordinator.domain.address import keccak256


class Administered(Contract):
    """The kernel's administration, and its records of transactions."""

    admin: str

    def key(self, name: str) -> tuple[str, str]:
        return (self.address, name)

    def vault_key(self, vault: str) -> tuple[str, str, str]:
        return (self.address, "vault", vault)

    def vault_at(self, frame: Frame, address: str) -> EscrowVault:
        """The vault's contract; without one there the call reverts, as on any chain."""
        found = frame.contracts.get(address)
        if not isinstance(found, EscrowVault):
            raise Reverted
        return found

    def _pause(self, frame: Frame) -> None:
        require(frame.sender == self.admin, "Not pauser")
        require(not frame.state.get(self.key("paused")), "Already paused")
        frame.state.set(self.key("paused"), True)
        self.emit(frame, "KernelPaused", frame.sender, frame.timestamp)

    def _unpause(self, frame: Frame) -> None:
        require(frame.sender == self.admin, "Not pauser")
        require(bool(frame.state.get(self.key("paused"))), "Not paused")
        frame.state.set(self.key("paused"), False)
        self.emit(frame, "KernelUnpaused", frame.sender, frame.timestamp)

    def _approve_vault(self, frame: Frame, vault: str, approved: bool) -> None:
        require(frame.sender == self.admin, "Not admin")
        require(vault != NOBODY, "Zero vault")
        frame.state.set(self.vault_key(vault), approved)
        self.emit(frame, "EscrowVaultApproved", vault, approved)

    def _set_archive(self, frame: Frame, archive: str) -> None:
        require(frame.sender == self.admin, "Not admin")
        old = frame.state.get(self.key("archive"), NOBODY)
        self.emit(frame, "ArchiveTreasuryUpdated", old, archive)
        frame.state.set(self.key("archive"), archive)

    def _set_fee_recipient(self, frame: Frame, recipient: str) -> None:
        require(frame.sender == self.admin, "Not admin")
        require(recipient != NOBODY, "Zero fee recipient")
        old = frame.state.get(self.key("fee_recipient"), NOBODY)
        self.emit(frame, "FeeRecipientUpdated", old, recipient)
        frame.state.set(self.key("fee_recipient"), recipient)

    def _when_not_paused(self, frame: Frame) -> None:
        require(not frame.state.get(self.key("paused")), "Kernel paused")

    def _existing(self, frame: Frame, transaction_id: bytes) -> Txn:
        txn: Txn | None = frame.state.get((self.address, "txn", transaction_id), None)
        if txn is None:
            raise Reverted("Tx missing")
        return txn

    def _write(self, frame: Frame, txn: Txn) -> None:
        frame.state.set((self.address, "txn", txn.transaction_id), txn)

    def _move_to(self, frame: Frame, txn: Txn, new: State) -> None:
        self._write(frame, txn._replace(state=new, updated_at=frame.timestamp))
        moved = (txn.transaction_id, txn.state, new, frame.sender, frame.timestamp)
        self.emit(frame, "StateTransitioned", *moved)

    def _vault_of(self, frame: Frame, txn: Txn) -> EscrowVault:
        listed = bool(frame.state.get(self.vault_key(txn.escrow_contract)))
        require(listed, "Vault not approved")
        return self.vault_at(frame, txn.escrow_contract)


class Payments(Administered):
    """Money out of an escrow: back to the requester, or to the provider less the fee."""

    def _refund(self, frame: Frame, txn: Txn, vault: EscrowVault, amount: int) -> None:
        vault.refund(frame.by(self.address), txn.escrow_id, amount)
        refunded = (txn.transaction_id, txn.requester, amount, frame.timestamp)
        self.emit(frame, "EscrowRefunded", *refunded)

    def _pay_provider(self, frame: Frame, txn: Txn, vault: EscrowVault, gross: int) -> None:
        fee = max(share(gross, txn.fee_bps), terms.MIN_FEE)
        require(fee <= gross, "Fee exceeds amount")
        net = gross - fee
        if net:
            vault.pay_provider(frame.by(self.address), txn.escrow_id, net)
            released = (txn.transaction_id, txn.provider, net, frame.timestamp)
            self.emit(frame, "EscrowReleased", *released)
        self._pay_fee(frame, txn, vault, fee)

    def _pay_fee(self, frame: Frame, txn: Txn, vault: EscrowVault, fee: int) -> None:
        inner = frame.by(self.address)
        archive = frame.state.get(self.key("archive"), NOBODY)
        recipient = frame.state.get(self.key("fee_recipient"), NOBODY)
        if archive != NOBODY:
            part = share(fee, terms.ARCHIVE_ALLOCATION_BPS)
            fee -= part
            vault.pay(inner, txn.escrow_id, self.address, part)
            vault.token.transfer(inner, archive, part)
        vault.pay(inner, txn.escrow_id, recipient, fee)
        accrued = (txn.transaction_id, recipient, fee, frame.timestamp)
        self.emit(frame, "PlatformFeeAccrued", *accrued)


class Disputes(Payments):
    """Opening a dispute with a bond, and the admin's resolution."""

    def _dispute(self, frame: Frame, txn: Txn) -> None:
        require(frame.sender in (txn.requester, txn.provider), "Party only")
        require(frame.timestamp <= txn.dispute_window, "Dispute window closed")
        bond = max(share(txn.amount, txn.bond_bps), terms.MIN_DISPUTE_BOND)
        txn = txn._replace(dispute_initiator=frame.sender, dispute_bond=bond)
        vault = self._vault_of(frame, txn)
        vault.lock_bond(frame.by(self.address), txn.transaction_id, frame.sender, bond)
        self._move_to(frame, txn, State.DISPUTED)
        opened = (txn.transaction_id, frame.sender, bond, frame.timestamp)
        self.emit(frame, "DisputeOpened", *opened)

    def _resolve(self, frame: Frame, txn: Txn, new: State, proof: bytes) -> None:
        require(frame.sender == self.admin, "Resolver only")
        vault = self._vault_of(frame, txn)
        left = vault.remaining(frame, txn.escrow_id)
        if proof:
            split = terms.read_resolution(proof)
        else:
            explicit = "Dispute resolution requires explicit proof"
            require(new is State.CANCELLED, explicit)
            # Everything back: the bond then goes to whoever paid it.
            ours = txn.dispute_initiator == txn.requester
            split = Resolution(left, provider_at_fault=ours)
        most = share(txn.amount, terms.MAX_MEDIATOR_FEE_BPS)
        require(split.mediator_amount <= most, "Mediator fee too high")
        require(not split.mediator_amount or split.mediator != NOBODY, "Zero mediator")
        require(split.total == left, "Must distribute ALL funds")

        self._move_to(frame, txn, new)
        if split.requester_amount:
            self._refund(frame, txn, vault, split.requester_amount)
        if split.provider_amount:
            self._pay_provider(frame, txn, vault, split.provider_amount)
        if split.mediator_amount:
            paid = (split.mediator, split.mediator_amount)
            vault.pay(frame.by(self.address), txn.escrow_id, *paid)
            self.emit(frame, "EscrowMediatorPaid", txn.transaction_id, *paid, frame.timestamp)
        self._close_dispute(frame, txn, vault, split.provider_at_fault)

    def _close_dispute(
        self, frame: Frame, txn: Txn, vault: EscrowVault, provider_at_fault: bool
    ) -> None:
        winner = txn.requester if provider_at_fault else txn.provider
        bond = vault.release_bond(frame.by(self.address), txn.transaction_id, winner)
        initiator = txn.dispute_initiator
        dispute_id = keccak256(txn.transaction_id + word_of_address(initiator))
        self.emit(
            frame,
            "DisputeResolved",
            *(txn.transaction_id, dispute_id, initiator, provider_at_fault, bond, frame.timestamp),
        )
