"""The escrow vault: holds USDC by escrow id, and moves it only for its kernel."""

from __future__ import annotations

from typing import NamedTuple

from coordinator.chain.simulated.contract import NOBODY, Contract, Frame, Handler, constant, require
from coordinator.chain.simulated.token import FiatToken


class Escrow(NamedTuple):
    """The vault's record, in the order of its getter."""

    requester: str = NOBODY
    provider: str = NOBODY
    amount: int = 0
    released_amount: int = 0
    active: bool = False


_NO_ESCROW = Escrow()


class EscrowVault(Contract):
    def __init__(self, address: str, token: FiatToken, kernel: str) -> None:
        self.token = token
        self._kernel = kernel
        handlers: dict[str, Handler] = {
            "token": constant(token.address),
            "kernel": constant(kernel),
            "escrows": self.escrow,
            "bondBalance": self._bond,
            "remaining": self.remaining,
            "verifyEscrow": self._verify,
            "createEscrow": self.create,
            "payout": self.pay,
            "payoutToProvider": self.pay_provider,
            "refundToRequester": self.refund,
            "lockBond": self.lock_bond,
            "releaseBond": self.release_bond,
        }
        super().__init__(address, "EscrowVault", handlers)

    def escrow(self, frame: Frame, escrow_id: bytes) -> Escrow:
        found: Escrow = frame.state.get((self.address, "escrow", escrow_id), _NO_ESCROW)
        return found

    def remaining(self, frame: Frame, escrow_id: bytes) -> int:
        escrow = self.escrow(frame, escrow_id)
        return escrow.amount - escrow.released_amount

    def create(
        self, frame: Frame, escrow_id: bytes, requester: str, provider: str, amount: int
    ) -> None:
        self._only_kernel(frame)
        require(amount != 0, "Amount zero")
        require(self.escrow(frame, escrow_id).amount == 0, "Escrow exists")
        escrow = Escrow(requester, provider, amount, 0, True)
        frame.state.set((self.address, "escrow", escrow_id), escrow)
        self.token.transfer_from(frame.by(self.address), requester, self.address, amount)
        self.emit(frame, "EscrowCreated", escrow_id, requester, provider, amount)

    def pay_provider(self, frame: Frame, escrow_id: bytes, amount: int) -> int:
        return self.pay(frame, escrow_id, self.escrow(frame, escrow_id).provider, amount)

    def refund(self, frame: Frame, escrow_id: bytes, amount: int) -> int:
        return self.pay(frame, escrow_id, self.escrow(frame, escrow_id).requester, amount)

    def pay(self, frame: Frame, escrow_id: bytes, recipient: str, amount: int) -> int:
        self._only_kernel(frame)
        escrow = self.escrow(frame, escrow_id)
        require(amount != 0, "Amount zero")
        require(amount <= escrow.amount - escrow.released_amount, "Insufficient escrow")
        released = escrow.released_amount + amount
        active = escrow.active and released != escrow.amount
        paid = escrow._replace(released_amount=released, active=active)
        frame.state.set((self.address, "escrow", escrow_id), paid)
        if released == escrow.amount:
            self.emit(frame, "EscrowCompleted", escrow_id, escrow.amount)
        self.token.transfer(frame.by(self.address), recipient, amount)
        self.emit(frame, "EscrowPayout", escrow_id, recipient, amount)
        return amount

    def lock_bond(self, frame: Frame, transaction_id: bytes, disputer: str, amount: int) -> None:
        self._only_kernel(frame)
        require(amount != 0, "Amount zero")
        require(self._bond(frame, transaction_id) == 0, "Bond exists")
        frame.state.set((self.address, "bond", transaction_id), amount)
        self.token.transfer_from(frame.by(self.address), disputer, self.address, amount)

    def release_bond(self, frame: Frame, transaction_id: bytes, recipient: str) -> int:
        self._only_kernel(frame)
        amount = self._bond(frame, transaction_id)
        frame.state.set((self.address, "bond", transaction_id), 0)
        if amount:
            self.token.transfer(frame.by(self.address), recipient, amount)
        return amount

    def _bond(self, frame: Frame, transaction_id: bytes) -> int:
        return int(frame.state.get((self.address, "bond", transaction_id)))

    def _verify(
        self, frame: Frame, escrow_id: bytes, requester: str, provider: str, amount: int
    ) -> tuple[bool, int]:
        escrow = self.escrow(frame, escrow_id)
        same = (escrow.requester, escrow.provider, escrow.amount) == (requester, provider, amount)
        return escrow.active and same, escrow.amount

    def _only_kernel(self, frame: Frame) -> None:
        require(frame.sender == self._kernel, "Only kernel")
