"""Running one transaction, and one call, on a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.chain.simulated.contract import Contract, Frame, Log, Reverted
from coordinator.chain.simulated.gas import execution_gas
from coordinator.chain.simulated.genesis import balance_key, nonce_key
from coordinator.chain.simulated.state import Overlay, Readable
from coordinator.chain.simulated.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Outcome:
    succeeded: bool
    gas_used: int
    price: int
    logs: tuple[Log, ...]


def call(
    contracts: Mapping[str, Contract],
    state: Readable,
    *,
    sender: str,
    to: str,
    data: bytes,
    value: int = 0,
    timestamp: int,
) -> bytes:
    """Run a call without changing the state; Reverted when the contract refuses."""
    contract = contracts.get(to)
    if contract is None:
        return b""
    if value:
        raise Reverted
    return contract.call(Frame(Overlay(state), sender, timestamp, contracts), data)


def run(
    contracts: Mapping[str, Contract],
    state: Overlay,
    tx: Transaction,
    *,
    timestamp: int,
    base_fee: int,
) -> Outcome:
    """Run a transaction whose nonce is due and whose cost is covered; its sender pays."""
    inner = Overlay(state)
    frame = Frame(inner, tx.sender, timestamp, contracts)
    gas_used, succeeded = tx.intrinsic_gas, True
    contract = contracts.get(tx.to or "")
    if contract is not None:
        try:
            if tx.value:
                raise Reverted
            contract.call(frame, tx.data)
        except Reverted:
            succeeded = False
        gas_used += execution_gas(frame.work, wrote=succeeded or bool(inner.writes))
    if gas_used > tx.gas:
        gas_used, succeeded = tx.gas, False
    if succeeded:
        if tx.value:
            inner.add(balance_key(tx.sender), -tx.value)
            inner.add(balance_key(tx.to or ""), tx.value)
        state.writes.update(inner.writes)
    price = base_fee + tx.paid_tip(base_fee)
    state.set(nonce_key(tx.sender), tx.nonce + 1)
    state.add(balance_key(tx.sender), -gas_used * price)
    return Outcome(succeeded, gas_used, price, tuple(frame.logs) if succeeded else ())
