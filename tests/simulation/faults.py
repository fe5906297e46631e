"""The faults of a run, by kind: each arms or does one thing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi
from coordinator.chain.simulated import genesis
from coordinator.domain.ports import KillPoint
from coordinator.domain.usdc import Usdc
from tests.simulation.process_faults import fork, interrupt

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_ARMED = (
    "send_cut",
    "read_cut",
    "answer_lost",
    "answer_lost",
    "pool_lost",
    "kill_before_send",
    "kill_after_send",
    "kill_before_commit",
    "kill_after_commit",
    "database_busy",
    "database_full",
    "logs_left_out",
    "logs_doubled",
    "preconfirmed",
)


def kinds(s: Simulation) -> list[Callable[[], None]]:
    """Every kind of fault; a kind that stands twice comes twice as often."""
    return [
        *(partial(_arm, s, name) for name in _ARMED),
        *[partial(_kill_at, s)] * 3,
        *(partial(act, s) for act in ACTS.values()),
        *(partial(act, s) for act in (_tamper, fork, interrupt)),
    ]


def _arm(s: Simulation, name: str) -> None:
    s.faults.armed[name] += s.rng.choice((1, 1, 2, 6))


def _kill_at(s: Simulation) -> None:
    s.faults.kill_at = s.rng.choice(list(KillPoint))


def _lag(s: Simulation) -> None:
    s.faults.lag = s.rng.choice((1, 3, 8))
    s.faults.armed["stale_node"] = s.rng.choice((1, 3, 20))


def _lie(s: Simulation) -> None:
    s.faults.fork_lie = 0 if s.faults.fork_lie else 1
    s.faults.struck["nodes_disagree"] += s.faults.fork_lie


def _absurd_nonce(s: Simulation) -> None:
    """One endpoint tells that the treasury has sent more transactions than it has."""
    s.faults.nonces_too_many = s.rng.choice((1, 3, 500, 2**63))
    s.faults.armed["absurd_nonce"] = s.rng.choice((1, 1, 2, 6))


def _drop(s: Simulation) -> None:
    waiting = s.node.call("txpool_content")
    hashes = [
        tx["hash"]
        for part in ("pending", "queued")
        for account, by_nonce in waiting[part].items()
        if account.lower() == s.treasury.lower()
        for tx in by_nonce.values()
    ]
    if hashes:
        s.node.call("anvil_dropTransaction", s.rng.choice(hashes))
        s.faults.struck["dropped"] += 1


def _spike(s: Simulation) -> None:
    """Up to beyond the fee ceiling of 40 gwei."""
    wei = s.rng.choice((5_000_000, 50_000_000, 5 * 10**9, 60 * 10**9))
    s.node.call("anvil_setNextBlockBaseFeePerGas", hex(wei))
    s.faults.struck["base_fee"] += 1


def _gas(s: Simulation) -> None:
    wei = s.rng.choice((0, 10**14, 10**18, 10**18, 10**18))
    s.node.call("anvil_setBalance", s.treasury, hex(wei))
    s.faults.struck["gas_drained"] += wei < 10**18


def _allowance(s: Simulation) -> None:
    s.node.set_allowance(s.treasury, genesis.VAULT, 0)
    s.faults.struck["allowance_gone"] += 1


def _foreign(s: Simulation) -> None:
    """A transaction of the treasury's key that somebody else made."""
    data = token_abi().call("transfer", genesis.ACCOUNTS[8], Usdc("1").base_units)
    nonce = int(s.node.call("eth_getTransactionCount", s.treasury, "latest"), 16)
    ours = [r[0] for r in s.invariants.rows("SELECT nonce FROM steps WHERE nonce >= ?", nonce)]
    if s.rng.random() < 0.5 and ours:
        nonce = s.rng.choice(ours)
    s.foreign.add(s.node.send_as(s.treasury, genesis.USDC, data, nonce=nonce))
    s.faults.struck["foreign_transaction"] += 1


def _clock(s: Simulation) -> None:
    s.time.skew = s.rng.choice((0, 0, 0, -3600, 3600, -86_400, 86_400))
    s.faults.struck["clock_jump"] += s.time.skew != 0


def _restart_in_the_past(s: Simulation) -> None:
    """Whoever acts is killed, and then the clock is put right by six hours."""
    s._survive(s._round)
    s.end_processes()
    s.time.skew = -21_600
    s.faults.struck["clock_jump"] += 1


def _token(s: Simulation) -> None:
    paused = int(s.node.call("eth_call", _to(genesis.USDC, token_abi().call("paused"))), 16)
    s._admin(genesis.USDC, token_abi().call("unpause" if paused else "pause"))
    s.faults.struck["token_paused"] += not paused


def _kernel(s: Simulation) -> None:
    paused = int(s.node.call("eth_call", _to(genesis.KERNEL, kernel_abi().call("paused"))), 16)
    s._admin(genesis.KERNEL, kernel_abi().call("unpause" if paused else "pause"))
    s.faults.struck["kernel_paused"] += not paused


def _blacklist(s: Simulation) -> None:
    provider = s.rng.choice((genesis.ACCOUNTS[4], genesis.ACCOUNTS[5]))
    listed = s.rng.random() < 0.5
    name = "blacklist" if listed else "unBlacklist"
    s._admin(genesis.USDC, token_abi().call(name, provider))
    s.faults.struck["blacklisted"] += listed


def _deposit(s: Simulation) -> None:
    s._admin(genesis.USDC, token_abi().call("mint", s.treasury, Usdc("50").base_units))


def _tamper(s: Simulation) -> None:
    s.tampering.strike()


def _to(address: str, data: str) -> dict[str, str]:
    return {"to": address, "data": data}


ACTS: Final = {
    "lag": _lag,
    "lie": _lie,
    "absurd_nonce": _absurd_nonce,
    "drop": _drop,
    "spike": _spike,
    "gas": _gas,
    "allowance": _allowance,
    "foreign": _foreign,
    "clock": _clock,
    "restart_in_the_past": _restart_in_the_past,
    "token": _token,
    "kernel": _kernel,
    "blacklist": _blacklist,
    "deposit": _deposit,
    "tamper": _tamper,
    "fork": fork,
    "interrupt": interrupt,
}
NAMES: Final = ("kill_at", *sorted(set(_ARMED)), *ACTS)


def strike(s: Simulation, name: str) -> None:
    """Arm or do the fault of this name."""
    if name in ACTS:
        ACTS[name](s)
    elif name == "kill_at":
        _kill_at(s)
    else:
        _arm(s, name)
