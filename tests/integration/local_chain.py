"""A deployed local chain for tests: it mines when told to, and does what others would do on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from coordinator.chain.abi import Abi, revert_reason, token_abi
from coordinator.chain.actp.abi import contract_abis, kernel_abi, vault_abi
from coordinator.chain.actp.terms import STATES
from coordinator.chain.local.deploy import Deployer, deploy, fund_local, unlocked_account
from coordinator.chain.networks import ARCHIVE, FEE_RECIPIENT
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.chain.simulated import SimulatedRpc
from coordinator.domain.address import checksummed, keccak256
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.usdc import Usdc

# Above what the coordinator ever pays, so that what others send comes first in its block.
_LEADING_FEE_WEI: Final = 10 * 10**9
_GAS: Final = 1_000_000
# Storage slots of FiatTokenV2_2 and of our kernel; each write is read back through a getter.
_BALANCE_SLOT: Final = 9
_ALLOWANCE_SLOT: Final = 10
_CREATE_NONCE_SLOT: Final = 3
_BLACKLISTED: Final = 1 << 255


class LocalChain:
    """An Anvil, or a simulated node, with the rail's contracts; each test gets it as deployed."""

    def __init__(self, rpc: Rpc, folder: Path) -> None:
        self.rpc = rpc
        self.url = rpc.urls[0]
        self.folder = folder
        if isinstance(rpc, SimulatedRpc):
            self.deployment = rpc.node.deployment
        else:
            deployer = Deployer(unlocked_account(rpc), None)
            self.deployment = deploy(rpc, deployer=deployer, folder=folder).deployment
        accounts = [checksummed(a) for a in self.rpc.call("eth_accounts")]
        self.admin, _, _, _, *others = accounts
        self.fee_recipient, self.archive = FEE_RECIPIENT, ARCHIVE
        self.provider, self.other_provider, self.stranger, self.payee = others[:4]
        self._snapshot = self.rpc.call("evm_snapshot")

    def reset(self) -> None:
        """Forget everything since the deployment: blocks, storage, time, and the pool."""
        self.rpc.call("anvil_dropAllTransactions")
        assert self.rpc.call("evm_revert", self._snapshot) is True
        self._snapshot = self.rpc.call("evm_snapshot")
        self.rpc.call("evm_setAutomine", True)

    @contextmanager
    def laid_under(self, lay: Callable[[], object]) -> Iterator[None]:
        """Let every reset inside keep what ``lay`` does, and forget it afterwards."""
        before = self._snapshot
        lay()
        self._snapshot = self.rpc.call("evm_snapshot")
        yield
        assert self.rpc.call("evm_revert", before) is True
        self._snapshot = self.rpc.call("evm_snapshot")

    def hold_blocks(self) -> None:
        """From now on a block is mined only by ``mine``."""
        self.rpc.call("evm_setAutomine", False)

    def mine(self, blocks: int = 1) -> None:
        self.rpc.call("anvil_mine", hex(blocks))

    def pass_time(self, seconds: int) -> None:
        """Mine a block that is ``seconds`` later than it would have been."""
        self.rpc.call("evm_increaseTime", seconds)
        self.mine()

    @property
    def height(self) -> int:
        return int(self.rpc.call("eth_blockNumber"), 16)

    @property
    def time(self) -> int:
        return int(self.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def fund(self, account: str, *, usdc: str, wei: int) -> None:
        """Mint USDC and add ETH; blocks must not be held."""
        fund_local(self.rpc, self.deployment, account, usdc=Usdc(usdc), wei=wei)

    # What the contracts say.

    def kernel(self, function: str, *args: Any) -> Any:
        return self._read(kernel_abi(), self.deployment.kernel, function, *args)

    def token(self, function: str, *args: Any) -> Any:
        return self._read(token_abi(), self.deployment.usdc, function, *args)

    def vault(self, function: str, *args: Any) -> Any:
        return self._read(vault_abi(), self.deployment.vault, function, *args)

    def state(self, escrow_id: str | None) -> EscrowState:
        """The kernel's own state of the escrow."""
        assert escrow_id is not None
        return STATES[self.kernel("getTransaction", escrow_id)[3]]

    def window_ends(self, escrow_id: str | None) -> int:
        """The kernel's dispute window: an instant from delivery on."""
        assert escrow_id is not None
        return int(self.kernel("getTransaction", escrow_id)[12])

    def balance(self, account: str) -> Usdc:
        return Usdc.from_base_units(self.token("balanceOf", account))

    def allowance(self, owner: str) -> Usdc:
        return Usdc.from_base_units(self.token("allowance", owner, self.deployment.vault))

    def remaining(self, escrow_key: str) -> Usdc:
        return Usdc.from_base_units(self.vault("remaining", escrow_key))

    def gas_balance_wei(self, account: str) -> int:
        return int(self.rpc.call("eth_getBalance", account, "latest"), 16)

    def nonce(self, account: str) -> int:
        return int(self.rpc.call("eth_getTransactionCount", account, "latest"), 16)

    def receipt(self, tx_hash: str) -> dict[str, Any]:
        found = self.rpc.call("eth_getTransactionReceipt", tx_hash)
        assert isinstance(found, dict), f"{tx_hash} is not mined"
        return found

    def pool(self, sender: str) -> list[dict[str, Any]]:
        """The transactions of ``sender`` that wait, in nonce order."""
        content = self.rpc.call("txpool_content")
        waiting: dict[str, Any] = {}
        for part in ("pending", "queued"):
            for account, by_nonce in content[part].items():
                if account.lower() == sender.lower():
                    waiting |= by_nonce
        return [waiting[nonce] for nonce in sorted(waiting, key=int)]

    # What others do.

    def send(self, sender: str, to: str, data: str, **fields: Any) -> str:
        """Put an unlocked account's transaction into the pool, ahead of ours; its hash."""
        transaction = {
            "from": sender,
            "to": to,
            "data": data,
            "gas": hex(_GAS),
            "maxFeePerGas": hex(_LEADING_FEE_WEI),
            "maxPriorityFeePerGas": hex(_LEADING_FEE_WEI),
        }
        return str(self.rpc.call("eth_sendTransaction", transaction | fields))

    def act(self, sender: str, to: str, data: str) -> None:
        """Send and mine; AssertionError with the contract's words when it is refused."""
        tx_hash = self.send(sender, to, data)
        self.mine()
        assert int(self.receipt(tx_hash)["status"], 16) == 1, self._refusal(sender, to, data)

    def move(self, sender: str, escrow_id: str | None, state: EscrowState, proof: str = "") -> None:
        """The kernel's transitionState by ``sender``, mined; ``proof`` is hex."""
        self.act(sender, self.deployment.kernel, self.transition(escrow_id, state, proof))

    @staticmethod
    def transition(escrow_id: str | None, state: EscrowState, proof: str = "") -> str:
        return kernel_abi().call(
            "transitionState", escrow_id, STATES.index(state), bytes.fromhex(proof)
        )

    def start(self, escrow_id: str | None, provider: str | None = None) -> None:
        self.move(provider or self.provider, escrow_id, EscrowState.STARTED)

    def deliver(self, escrow_id: str | None, *, window_seconds: int | None = None) -> None:
        """Start and deliver as the provider, with its own window if one is given."""
        if self.state(escrow_id) is EscrowState.FUNDED:
            self.start(escrow_id)
        proof = "" if window_seconds is None else f"{window_seconds:064x}"
        self.move(self.provider, escrow_id, EscrowState.DELIVERED, proof)

    def admin_send(self, to: str, abi: Abi, function: str, *args: Any) -> str:
        """A transaction of whoever administers kernel and token, left in the pool."""
        return self.send(self.admin, to, abi.call(function, *args))

    def kernel_admin(self, function: str, *args: Any) -> str:
        return self.admin_send(self.deployment.kernel, kernel_abi(), function, *args)

    def token_admin(self, function: str, *args: Any) -> str:
        return self.admin_send(self.deployment.usdc, token_abi(), function, *args)

    def resolve(
        self, escrow_id: str | None, *, requester: str, provider: str, provider_at_fault: bool
    ) -> None:
        """Settle a dispute by splitting it; 96 bytes of proof."""
        split = [Usdc(requester).base_units, Usdc(provider).base_units, int(provider_at_fault)]
        proof = "".join(f"{part:064x}" for part in split)
        self.move(self.admin, escrow_id, EscrowState.SETTLED, proof)

    @contextmanager
    def as_account(self, account: str) -> Iterator[None]:
        """Let the node send for an account whose key it does not have."""
        self.rpc.call("anvil_impersonateAccount", account)
        try:
            yield
        finally:
            self.rpc.call("anvil_stopImpersonatingAccount", account)

    # What no transaction does: storage.

    def set_balance(self, account: str, usdc: Usdc) -> None:
        """Make the token say that ``account`` has so much, without a transfer."""
        if isinstance(self.rpc, SimulatedRpc):
            self.rpc.node.set_usdc(account, usdc.base_units)
        else:
            self._store(self.deployment.usdc, _mapped(account, _BALANCE_SLOT), usdc.base_units)
        assert self.balance(account) == usdc

    def set_allowance(self, owner: str, usdc: Usdc) -> None:
        if isinstance(self.rpc, SimulatedRpc):
            self.rpc.node.set_allowance(owner, self.deployment.vault, usdc.base_units)
        else:
            inner = _mapped(owner, _ALLOWANCE_SLOT)
            slot = keccak256(bytes(12) + bytes.fromhex(self.deployment.vault[2:]) + inner)
            self._store(self.deployment.usdc, slot, usdc.base_units)
        assert self.allowance(owner) == usdc

    def set_create_nonce(self, requester: str, count: int) -> None:
        """Make the kernel have counted so many creates of ``requester``."""
        if isinstance(self.rpc, SimulatedRpc):
            self.rpc.node.set_create_nonce(requester, count)
        else:
            self._store(self.deployment.kernel, _mapped(requester, _CREATE_NONCE_SLOT), count)
        assert self.kernel("requesterNonces", requester) == count

    def _store(self, contract: str, slot: bytes, value: int) -> None:
        self.rpc.call("anvil_setStorageAt", contract, "0x" + slot.hex(), f"0x{value:064x}")

    def _read(self, abi: Abi, to: str, function: str, *args: Any) -> Any:
        data = abi.call(function, *args)
        return abi.result(function, self.rpc.call("eth_call", {"to": to, "data": data}, "latest"))

    def _refusal(self, sender: str, to: str, data: str) -> str:
        (answer,) = self.rpc.batch([("eth_call", [{"from": sender, "to": to, "data": data}])])
        return (
            revert_reason(answer, contract_abis())
            if isinstance(answer, RpcRefusal)
            else "mined too late?"
        )


def _mapped(account: str, slot: int) -> bytes:
    """The storage slot of a mapping's value for an address."""
    return keccak256(bytes(12) + bytes.fromhex(account[2:]) + slot.to_bytes(32, "big"))
