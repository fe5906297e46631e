"""A simulated node: JSON-RPC in this process, over one chain in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from coordinator.chain.networks import Deployment
from coordinator.chain.rpc.client import Call, RpcRefusal
from coordinator.chain.simulated import genesis
from coordinator.chain.simulated.machine import Machine, Rules
from coordinator.chain.simulated.pool import Refused
from coordinator.chain.simulated.reading import Reading
from coordinator.chain.simulated.safe import Safe
from coordinator.chain.simulated.transactions import Transaction, Undecodable, decode, unsigned

_UNKNOWN_METHOD: Final = -32601
_INVALID_PARAMS: Final = -32602


def _wall_clock() -> int:
    return int(time.time())


def _number(value: int | str) -> int:
    return value if type(value) is int else int(str(value), 0)


class SimulatedNode:
    """A node with the rail's contracts and funded unlocked accounts; it mines every transaction.

    ``clock`` tells the unix second; blocks are never at the same second or before. With a clock
    that is not the wall's, ``seed`` and what is asked decide every hash: the head's is the run's
    fingerprint. Safe to use from several threads.
    """

    def __init__(
        self,
        chain_id: int = 31337,
        *,
        clock: Callable[[], int] = _wall_clock,
        seed: int = 0,
        rules: Rules | None = None,
    ) -> None:
        self.machine = Machine(chain_id, clock=clock, seed=seed, rules=rules or Rules())
        self.deployment: Deployment = genesis.deployment(chain_id)
        self._lock = threading.RLock()
        self._unlocked = {account.lower() for account in genesis.ACCOUNTS}
        self._methods: dict[str, Callable[..., Any]] = {
            **Reading(self.machine).methods,
            "eth_sendRawTransaction": self._send_raw,
            "eth_sendTransaction": self._send_unlocked,
            **self._controls(),
        }

    def _controls(self) -> Mapping[str, Callable[..., Any]]:
        machine = self.machine
        return {
            "anvil_mine": self._mine,
            "evm_mine": self._mine,
            "evm_setAutomine": self._set_automine,
            "anvil_setAutomine": self._set_automine,
            "anvil_reorg": self._reorg,
            "anvil_rollback": lambda depth=1: self._nothing(machine.rollback(_number(depth))),
            "anvil_dropTransaction": self._drop,
            "anvil_dropAllTransactions": machine.pool.clear,
            "anvil_setBalance": self._set_balance,
            "anvil_setNextBlockBaseFeePerGas": lambda wei: machine.set_next_base_fee(_number(wei)),
            "evm_increaseTime": self._increase_time,
            "evm_setNextBlockTimestamp": lambda at: machine.next_block_at(_number(at)),
            "evm_snapshot": lambda: hex(machine.snapshot()),
            "evm_revert": lambda number: machine.revert(_number(number)),
            "anvil_impersonateAccount": lambda who: self._unlocked.add(who.lower()),
            "anvil_stopImpersonatingAccount": lambda who: self._unlocked.discard(who.lower()),
            "anvil_setLoggingEnabled": lambda _: None,
        }

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to a batch, in order: results, and an RpcRefusal for each error."""
        with self._lock:
            return [self._answer(method, params) for method, params in calls]

    def call(self, method: str, *params: Any) -> Any:
        """The result of one method; Refused when it has none."""
        answer = self.ask([(method, params)])[0]
        if isinstance(answer, RpcRefusal):
            raise Refused(answer.message, answer.code, answer.data)
        return answer

    def _answer(self, method: str, params: Sequence[Any]) -> Any:
        handler = self._methods.get(method)
        if handler is None:
            return RpcRefusal(_UNKNOWN_METHOD, f"the method {method} does not exist")
        try:
            return handler(*params)
        except Refused as refused:
            return RpcRefusal(refused.code, refused.message, refused.data)
        except Undecodable as fault:
            return RpcRefusal(-32000, str(fault))
        except (TypeError, ValueError, AttributeError) as fault:
            return RpcRefusal(_INVALID_PARAMS, f"invalid params of {method}: {fault}")

    # What tests and campaigns do without JSON.

    @property
    def head_hash(self) -> str:
        """The fingerprint of all that happened on this chain."""
        return self.machine.chain.head.hash

    @property
    def height(self) -> int:
        return self.machine.chain.head.number

    def now(self) -> int:
        """The unix second on this chain: the clock and all time that was passed."""
        with self._lock:
            return self.machine.now()

    def pass_time(self, seconds: int) -> None:
        with self._lock:
            self.machine.pass_time(seconds)

    def mine(self, blocks: int = 1) -> None:
        with self._lock:
            self.machine.mine(blocks)

    def reorg(
        self,
        depth: int,
        *,
        placed: Mapping[str, int] | None = None,
        lost: Collection[str] = (),
    ) -> None:
        """Replace the last ``depth`` blocks by as many others.

        ``placed`` are hashes of their transactions, or of waiting ones, and into which of the new
        blocks they go, counted from 0; those in ``lost`` are gone; all others wait in the pool.
        """
        with self._lock:
            machine = self.machine
            first = machine.chain.head.number - depth + 1
            known = {
                m.tx.hash: m.tx for b in machine.chain.span(first, self.height) for m in b.mined
            }
            chosen = [
                (known.get(tx_hash) or machine.pool.get(tx_hash), offset)
                for tx_hash, offset in (placed or {}).items()
            ]
            machine.reorg(depth, placed=[(t, i) for t, i in chosen if t is not None], lost=lost)

    def send_as(
        self, sender: str, to: str, data: str, *, gas: int = 1_000_000, nonce: int | None = None
    ) -> str:
        """A transaction of any account, ahead of all others, which costs it nothing; its hash.

        With ``nonce`` it takes the place of whatever waits there.
        """
        with self._lock:
            machine, sender = self.machine, sender.lower()
            fee = 10 * machine.next_base_fee() + 10**10
            machine.write(genesis.balance_key(sender), machine.balance(sender) + gas * fee)
            fields = {"to": to, "data": data, "gas": gas, "nonce": nonce}
            return machine.submit(self._unsigned(sender, fields, (fee, fee)))

    def set_usdc(self, account: str, units: int) -> None:
        """Make the token say that ``account`` has so much, without a transfer."""
        self._write(self.machine.rail.token.balance_key(account.lower()), units)

    def set_allowance(self, owner: str, spender: str, units: int) -> None:
        token = self.machine.rail.token
        self._write(token.allowance_key(owner.lower(), spender.lower()), units)

    def set_create_nonce(self, requester: str, count: int) -> None:
        """Make the kernel have counted so many creates of ``requester``."""
        self._write(self.machine.rail.kernel.nonce_key(requester.lower()), count)

    def deploy_safe(self, owners: Sequence[str], threshold: int) -> str:
        """Put a Safe onto the chain, without a transaction; its address."""
        with self._lock:
            contracts = self.machine.rail.by_address
            address = genesis.fixed(f"Safe {len(contracts)}")
            contracts[address.lower()] = Safe(address.lower(), self.machine.chain_id)
            self.set_safe(address, owners, threshold)
            return address

    def set_safe(self, safe: str, owners: Sequence[str], threshold: int) -> None:
        """Make the Safe have these owners, and ask for so many."""
        contract = self.machine.rail.by_address[safe.lower()]
        assert isinstance(contract, Safe)
        self._write(contract.owners_key(), tuple(owner.lower() for owner in owners))
        self._write(contract.threshold_key(), threshold)

    def _write(self, key: tuple[Any, ...], value: Any) -> None:
        with self._lock:
            self.machine.write(key, value)

    # Sends.

    def _send_raw(self, raw: str) -> str:
        return self.machine.submit(decode(raw))

    def _send_unlocked(self, fields: dict[str, Any]) -> str:
        sender = str(fields["from"]).lower()
        if sender not in self._unlocked:
            raise Refused("no signer available")
        return self.machine.submit(self._unsigned(sender, fields, self._fees()))

    def _unsigned(self, sender: str, fields: dict[str, Any], fees: tuple[int, int]) -> Transaction:
        machine = self.machine
        nonce = machine.pool.next_nonce(sender, machine.nonce(sender))
        return unsigned(fields, sender=sender, nonce=nonce, fees=fees, chain_id=machine.chain_id)

    def _fees(self) -> tuple[int, int]:
        tip = self.machine.rules.tip_wei
        return 2 * self.machine.next_base_fee() + tip, tip

    # Controls.

    @staticmethod
    def _nothing(_: object) -> None:
        return None

    def _mine(self, blocks: int | str = 1, interval: int | str | None = None) -> None:
        self.machine.mine(_number(blocks), interval=None if interval is None else _number(interval))

    def _set_automine(self, on: bool) -> None:
        self.machine.automine = on

    def _drop(self, tx_hash: str) -> str | None:
        return tx_hash if self.machine.pool.drop(tx_hash.lower()) else None

    def _set_balance(self, account: str, wei: int | str) -> None:
        self.machine.write(genesis.balance_key(account.lower()), _number(wei))

    def _increase_time(self, seconds: int | str) -> int:
        self.machine.pass_time(_number(seconds))
        return _number(seconds)

    def _reorg(self, depth: int | str, pairs: Sequence[Sequence[Any]] = ()) -> None:
        """Transactions of the replaced blocks that are not among ``pairs`` are lost."""
        placed = []
        for what, offset in pairs:
            if isinstance(what, str):
                tx = decode(what)
            else:
                sender = str(what["from"]).lower()
                tx = self._unsigned(sender, what, self._fees())
            placed.append((tx, _number(offset)))
        self.machine.reorg(_number(depth), placed=placed, lost=None)
