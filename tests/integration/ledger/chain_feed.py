"""Events as the chain would tell them, put into the books by the program's own code."""

from __future__ import annotations

from typing import Any

from coordinator.api.coordinator import Coordinator
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import Block, ChainEvent, EscrowState, EventBatch, EventKind
from coordinator.domain.chain.gas import Fees
from coordinator.domain.ports import Observation
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc

FEE_COLLECTOR = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
STRANGER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


class ChainFeed:
    """A chain of one block for each call, ten seconds apart."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._wiring = coordinator.wiring
        self._treasury = self._wiring.signer.address
        self._vault = self._wiring.deployment.vault

    def open(self, balance: str = "1000") -> None:
        """Begin the journal at block 100."""
        held = {self._treasury: Usdc(balance)}
        self._wiring.books.open(Block(100, _hash(100), 1000), held, now=self._now)

    def deposit(self, amount: str) -> None:
        self._apply(self._transfer(STRANGER, self._treasury, amount))

    def send(self, to: str, amount: str) -> None:
        """Let the treasury's USDC go to somebody, for no purchase."""
        self._apply(self._transfer(self._treasury, to, amount))

    def fund(self, purchase: Purchase) -> str:
        """Create and fund its escrow in one block; the escrow's id."""
        escrow_id, amount = "0x" + purchase.id.encode().hex().ljust(64, "0"), str(purchase.amount)
        terms = {"escrow_id": escrow_id, "provider": purchase.provider, "amount": purchase.amount}
        self._apply(
            {
                "kind": EventKind.ESCROW_CREATED,
                "service_hash": service_hash(purchase.service),
                "deadline": 90_000,
                **terms,
            },
            {"kind": EventKind.ESCROW_FUNDED, "escrow_key": purchase.escrow_key, **terms},
            self._transfer(self._treasury, self._vault, amount),
        )
        return escrow_id

    def move(self, purchase: Purchase, state: EscrowState) -> None:
        escrow_id = self._wiring.purchases.get(purchase.id).escrow_id
        self._apply({"kind": EventKind.ESCROW_MOVED, "escrow_id": escrow_id, "state": state})

    def settle(self, purchase: Purchase, *, fee: str = "0.10") -> None:
        """Pay the provider all but ``fee``."""
        paid = purchase.amount - Usdc(fee)
        self._pay_out(
            purchase,
            EscrowState.SETTLED,
            [(purchase.provider, str(paid)), (FEE_COLLECTOR, fee)],
        )

    def cancel(self, purchase: Purchase, *, penalty: str = "1.00") -> None:
        """Give the treasury back all but ``penalty``, which the provider gets."""
        back = purchase.amount - Usdc(penalty)
        self._pay_out(
            purchase,
            EscrowState.CANCELLED,
            [(self._treasury, str(back)), (purchase.provider, penalty)],
        )

    def finalise(self) -> int:
        """Make every block so far final; how many holds ended."""
        return self._wiring.books.end_holds(self._cursor.number, now=self._now)

    def observe(self, usdc: str, gas_balance_wei: int = 10**18) -> None:
        """Store the treasury's balances as the executor does, as of now."""
        head = Block(self._cursor.number, self._cursor.hash, self._cursor.at)
        seen = Observation(
            account=self._treasury,
            treasury=self._treasury,
            head=head,
            readable=head.number,
            final=head,
            base_fee_wei=10**9,
            nonce=0,
            create_nonce=0,
            usdc_balance=Usdc(usdc),
            usdc_allowance=ZERO,
            gas_balance_wei=gas_balance_wei,
            fees=Fees(10**9, 10**6, 10**12),
            rail_trouble=None,
        )
        self._wiring.operations.store_balances(self._treasury, seen, now=self._now)

    def _pay_out(
        self, purchase: Purchase, state: EscrowState, shares: list[tuple[str, str]]
    ) -> None:
        key, escrow_id = purchase.escrow_key, self._wiring.purchases.get(purchase.id).escrow_id
        events: list[dict[str, Any]] = []
        for to, amount in shares:
            payout = {"kind": EventKind.PAYOUT, "escrow_key": key, "recipient": to}
            events += [self._transfer(self._vault, to, amount), {**payout, "amount": Usdc(amount)}]
        moved = {"kind": EventKind.ESCROW_MOVED, "escrow_id": escrow_id, "state": state}
        self._apply(*events, moved)

    def _apply(self, *events: dict[str, Any]) -> None:
        cursor = self._cursor
        to = Block(cursor.number + 1, _hash(cursor.number + 1), cursor.at + 10)
        where = {"block_number": to.number, "block_hash": to.hash, "at": to.at}
        tx_hash = "0x" + f"{to.number:064x}"
        made = tuple(
            ChainEvent(log_index=index, tx_hash=tx_hash, **where, **event)
            for index, event in enumerate(events)
        )
        batch = EventBatch(cursor.number, cursor.hash, to, made)
        assert self._wiring.books.apply(batch, now=self._now)

    def _transfer(self, sender: str, to: str, amount: str) -> dict[str, Any]:
        ends = {"sender": sender, "recipient": to, "amount": Usdc(amount)}
        return {"kind": EventKind.TRANSFER, **ends}

    @property
    def _cursor(self) -> Block:
        cursor = self._wiring.books.cursor()
        assert cursor is not None
        return cursor

    @property
    def _now(self) -> int:
        return self._wiring.clock()


def _hash(number: int) -> str:
    return "0x" + f"{number:x}".rjust(64, "b")
