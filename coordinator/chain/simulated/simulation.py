"""Controls of the simulated chain for tests: the provider, time, and faults."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from coordinator.chain.abi import Abi, revert_reason, token_abi
from coordinator.chain.actp.abi import contract_abis, kernel_abi
from coordinator.chain.actp.terms import STATES
from coordinator.chain.rpc.client import Call, Rpc, RpcRefusal
from coordinator.chain.simulated import genesis
from coordinator.chain.simulated.node import SimulatedNode
from coordinator.chain.simulated.rpc import Ask, SimulatedRpc
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ChainUnavailable, InvalidRequest, TxReverted
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc

_TREASURY_USDC: Final = Usdc("10000")
_TREASURY_WEI: Final = 10**18


class _Throwaway(Mapping[str, str]):
    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        names = ("TREASURY_PRIVATE_KEY", "COORDINATOR_ID_SECRET")
        self._made = {name: secrets.token_hex(32) for name in names}

    def __getitem__(self, name: str) -> str:
        # A key may be under any name, which whoever lists the secrets need not know.
        return self._given.get(name) or self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._made, **dict.fromkeys(self._given)})

    def __len__(self) -> int:
        return len([*self])


def throwaway_secrets(given: Mapping[str, str]) -> Mapping[str, str]:
    """Add a key and an id secret of this process where none are given."""
    return _Throwaway(given)


def simulated_rpc(given: Rpc | None, chain_id: int, treasury: str) -> SimulatedRpc:
    """Return the chain that was given, or one of this process where ``treasury`` has funds."""
    if given is not None:
        assert isinstance(given, SimulatedRpc), "the simulated network has its own nodes"
        return given
    rpc = SimulatedRpc(SimulatedNode(chain_id))
    Simulation(rpc).fund(treasury)
    return rpc


class Simulation:
    """The chain of one coordinator, which mines every transaction at once.

    Acts of the provider need a purchase with an escrow; TxReverted carries the kernel's words
    when it refuses one.
    """

    def __init__(self, rpc: SimulatedRpc, *, wake: Callable[[], None] = lambda: None) -> None:
        self.rpc = rpc
        self._wake = wake

    @property
    def node(self) -> SimulatedNode:
        return self.rpc.node

    def fund(self, address: str, *, usdc: Usdc = _TREASURY_USDC, wei: int = _TREASURY_WEI) -> None:
        """Mint USDC to an account, and add ETH for gas."""
        balance = int(self.node.call("eth_getBalance", address, "latest"), 16)
        self.node.call("anvil_setBalance", address, hex(balance + wei))
        to = self.node.deployment.usdc
        self._act(genesis.ADMIN, to, token_abi(), "mint", address, usdc.base_units)

    def start(self, purchase: Purchase) -> None:
        """The provider starts working: from now on the deadline can't take the USDC back."""
        self._move(purchase, EscrowState.STARTED)

    def deliver(self, purchase: Purchase, *, window_seconds: int | None = None) -> None:
        """The provider delivers, having started if it had not; two days to contest unless given."""
        if self._state(purchase) is EscrowState.FUNDED:
            self.start(purchase)
        proof = b"" if window_seconds is None else window_seconds.to_bytes(32, "big")
        self._move(purchase, EscrowState.DELIVERED, proof)

    def cancel_by_provider(self, purchase: Purchase) -> None:
        """The provider gives all USDC back."""
        self._move(purchase, EscrowState.CANCELLED)

    def pass_time(self, seconds: int) -> None:
        """Both clocks go on, the coordinator's and the chain's, and a block is mined."""
        self.node.pass_time(seconds)
        self.mine()

    def mine(self, blocks: int = 1) -> None:
        self.node.mine(blocks)
        self._wake()

    def usdc_balance(self, address: str) -> Usdc:
        """Read the account's USDC balance."""
        return Usdc.from_base_units(self._read(token_abi(), "balanceOf", address))

    def reorg(self, depth: int) -> None:
        """Replace the last ``depth`` blocks by empty ones; their transactions are mined after.

        The coordinator follows. Here every block is final at once, and a final one that is undone
        pauses spending: for a reorganisation of the everyday kind set COORDINATOR_FINALITY above
        ``depth``.
        """
        self.node.reorg(depth)
        self.mine()

    def drop_answers(self, sends: int = 1) -> None:
        """The next sends reach the chain, and their answers are lost on the way back."""
        left = [sends]

        def tell(url: str, calls: Sequence[Call], ask: Ask) -> list[Any]:
            answers = ask(url, calls)
            if left[0] and any(method == "eth_sendRawTransaction" for method, _ in calls):
                left[0] -= 1
                raise ChainUnavailable("the answer was lost")
            return answers

        self.rpc.tell = tell

    def _move(self, purchase: Purchase, state: EscrowState, proof: bytes = b"") -> None:
        moved = (self._escrow_id(purchase), STATES.index(state), proof)
        kernel = self.node.deployment.kernel
        self._act(purchase.provider, kernel, kernel_abi(), "transitionState", *moved)

    def _state(self, purchase: Purchase) -> EscrowState:
        escrow_id = self._escrow_id(purchase)
        return STATES[self._read(kernel_abi(), "getTransaction", escrow_id)[3]]

    @staticmethod
    def _escrow_id(purchase: Purchase) -> str:
        if purchase.escrow_id is None:
            raise InvalidRequest(f"{purchase.id} has no escrow yet")
        return purchase.escrow_id

    def _act(self, sender: str, to: str, abi: Abi, function: str, *args: Any) -> None:
        data = abi.call(function, *args)
        asked = ("eth_call", [{"from": sender, "to": to, "data": data}, "latest"])
        (answer,) = self.node.ask([asked])
        if isinstance(answer, RpcRefusal):
            raise TxReverted(f"{function}: {revert_reason(answer, contract_abis())}")
        self.node.send_as(sender, to, data)
        if not self.node.machine.automine:
            self.node.mine()
        self._wake()

    def _read(self, abi: Abi, function: str, *args: Any) -> Any:
        d = self.node.deployment
        to = d.usdc if abi is token_abi() else d.kernel
        asked = {"to": to, "data": abi.call(function, *args)}
        return abi.result(function, self.node.call("eth_call", asked, "latest"))
