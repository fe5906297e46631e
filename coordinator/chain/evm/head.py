"""The newest block and the treasury's state after it, read twice before it costs money."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from coordinator.chain.abi import number, quantity, uint
from coordinator.chain.evm.aggregator import Aggregator
from coordinator.chain.evm.answers import block_of, decoded
from coordinator.chain.evm.contracts import RailContracts
from coordinator.chain.evm.everywhere import read_everywhere
from coordinator.chain.evm.fiat_token import AMOUNT_MAX, FiatToken
from coordinator.chain.evm.payer import Payer
from coordinator.chain.networks import Network
from coordinator.chain.rpc.client import Rpc, RpcRefusal
from coordinator.domain.chain.events import Block
from coordinator.domain.chain.gas import suggested_fees
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import Observation
from coordinator.domain.usdc import Usdc

log = logging.getLogger(__name__)

# Base's own suggestion for its sequencer; a tip above the base fee buys nothing there.
_TIP_MIN_WEI: Final = 1_000_000
# Nobody creates so many escrows.
_CREATES_MAX: Final = 2**63 - 1
# No L1 data fee of ours comes near it: 0.1 ETH.
_L1_FEE_MAX_WEI: Final = 10**17
# An endpoint that does not have the head yet is asked about a block that it should have.
BEHIND: Final = 8
# How long a quick reading goes on with the tip and the final block of the last whole one.
_REMEMBERED_SECONDS: Final = 300
# Nonces have a confirmation of their own; the other two are no part of the state after a block.
_NOT_COMPARED: Final = frozenset({"nonce", "final", "readable"})


@dataclass(frozen=True, slots=True)
class _Header:
    """A block's header, read before the state after it."""

    block: Block
    base_fee_wei: int
    tip_wei: int
    final: Block | None


class HeadReader:
    """Reads one treasury's ``Observation``, and compares it with what other endpoints tell."""

    def __init__(
        self,
        rpc: Rpc,
        network: Network,
        account: str,
        payer: Payer,
        token: FiatToken,
        contracts: RailContracts,
        *,
        confirmations: int,
        finality: str,
        max_fee_wei: int | None,
        wallet: str | None = None,
    ) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._account = account
        self._payer = payer
        self._network = network
        self._token = token
        self._contracts = contracts
        self._confirmations = confirmations
        self._finality = finality
        self._max_fee_wei = max_fee_wei
        self._aggregator = Aggregator(account)
        self._confirmed: Observation | None = None
        self._looked_at: dict[str, Any] = {}
        # The last that was read whole.
        self._header: _Header | None = None

    @property
    def host(self) -> str:
        return self._rpc.current_host

    @decoded
    def newest(self) -> Block:
        """The newest block, in one call."""
        self._looked_at = self._rpc.call("eth_getBlockByNumber", "latest", False)
        return block_of(self._looked_at)

    @decoded
    def observe(self, *, quick: bool = False, head: Block | None = None) -> Observation:
        """The newest block and the state after it; ``confirm`` reads them a second time.

        A ``quick`` reading takes tip and final block from the last whole one, for five minutes.
        ``head`` is the newest block where it was just asked for.
        """
        header = self._newest(quick, head)
        self._aggregator.try_again()
        _, *state = self._state_at(header.block.number)
        nonce, *answers = self._rpc.batch(state)
        if self._aggregator.is_missing(answers):
            _, *state = self._state_at(header.block.number)
            nonce, *answers = self._rpc.batch(state)
        return self._observation([nonce, *self._aggregator.results(answers)], header)

    def confirm(self, seen: Observation) -> None:
        """Refuse what a second reading of the head, or another endpoint, contradicts.

        ChainUnavailable names what differs. An endpoint that goes on and does not have the head
        yet is waited for: a block that only one has may be made up. Where one stands still, the
        others have to agree, and all about a block a little before the head.
        """
        if seen.fees is None or seen == self._confirmed:
            return
        told, all_tell = self._read_head_everywhere(seen)
        if not told:
            raise ChainUnavailable(f"no endpoint tells block {seen.head.number} a second time")
        for reading in told:
            _compare(seen, reading)
        if not all_tell:
            first, *others = self._read_everywhere(seen, seen.head.number - BEHIND) or [seen]
            for reading in others:
                _compare(first, reading)
        self._confirmed = seen

    def _read_head_everywhere(self, seen: Observation) -> tuple[list[Observation], bool]:
        """Read the head at every endpoint; the other value is False where one stands still.

        ChainUnavailable when one that goes on still does not have it after six seconds.
        """
        _, *state = self._state_at(seen.head.number)
        states, all_tell = read_everywhere(self._rpc, seen.head.number, state)
        readings = [self._reading(seen, state) for state in states]
        return [reading for reading in readings if reading is not None], all_tell

    def _newest(self, quick: bool, head: Block | None) -> _Header:
        remembered = self._header
        if remembered is None or not quick:
            self._header = self._read_header()
            return self._header
        block = self.newest() if head is None or block_of(self._looked_at) != head else head
        newest = self._looked_at
        if not 0 <= block.at - remembered.block.at < _REMEMBERED_SECONDS:
            self._header = self._read_header()
            return self._header
        base_fee = quantity(newest.get("baseFeePerGas"))
        final = block if self._finality == "1" else remembered.final
        return replace(remembered, block=block, base_fee_wei=base_fee, final=final)

    def _read_header(self) -> _Header:
        wanted: list[tuple[str, list[Any]]] = [
            ("eth_getBlockByNumber", ["latest", False]),
            ("eth_maxPriorityFeePerGas", []),
        ]
        tagged = not self._finality.isdecimal()
        if tagged:
            wanted.append(("eth_getBlockByNumber", [self._finality, False]))
        newest, tip, *finals = self._rpc.batch(wanted)
        if not isinstance(newest, dict):
            raise ChainUnavailable("the endpoint does not tell its latest block")
        block, base_fee = block_of(newest), quantity(newest.get("baseFeePerGas"))
        tip_wei = _TIP_MIN_WEI if isinstance(tip, RpcRefusal) else quantity(tip)
        if tagged:
            final = block_of(finals[0]) if isinstance(finals[0], dict) else None
        else:
            final = self._sealed_before(block)
        return _Header(block, base_fee, tip_wei, final)

    def _sealed_before(self, block: Block) -> Block | None:
        number = block.number - int(self._finality) + 1
        if number < 0 or number == block.number:
            return block if number == block.number else None
        header = self._rpc.call("eth_getBlockByNumber", hex(number), False)
        if header is None:
            raise ChainUnavailable(f"the endpoint does not have block {number}")
        return block_of(header)

    def _state_at(self, block_number: int) -> list[tuple[str, list[Any]]]:
        """The calls that tell a block, and treasury and rail after it."""
        me, at = self._account, hex(block_number)
        calls = [
            self._token.balance_call(),
            self._token.allowance_call(self._contracts.spender),
            *self._contracts.state_calls(),
            *self._payer.state_calls(),
        ]
        if self._wallet is not None:
            calls.append(self._token.usdc_call(self._wallet))
        if self._network.l1_fee_oracle:
            # getL1FeeUpperBound(uint256)
            data = "0xf1c7a58b" + self._payer.tx_bytes.to_bytes(32, "big").hex()
            calls.append((self._network.l1_fee_oracle, data))
        return [
            ("eth_getBlockByNumber", [at, False]),
            ("eth_getTransactionCount", [me, at]),
            *self._aggregator.requests(calls, at),
        ]

    def _read_everywhere(self, seen: Observation, block_number: int) -> list[Observation]:
        """Read a block at every endpoint that has it and tells its numbers."""
        states = self._rpc.everywhere(self._state_at(max(0, block_number)))
        told = [self._reading(seen, state) for state in states]
        return [reading for reading in told if reading is not None]

    def _reading(self, seen: Observation, state: Sequence[Any]) -> Observation | None:
        try:
            return self._decode_reading(seen, state)
        except ChainUnavailable as fault:
            log.debug("reading_not_counted reason=%s", fault)
            return None

    @decoded
    def _decode_reading(self, seen: Observation, state: Sequence[Any]) -> Observation:
        assert seen.fees is not None
        base_fee, tip = quantity(state[0]["baseFeePerGas"]), seen.fees.max_priority_fee_per_gas
        header, nonce = _Header(block_of(state[0]), base_fee, tip, seen.final), state[1]
        return self._observation([nonce, *self._aggregator.results(state[2:])], header)

    def _observation(self, state: Sequence[Any], header: _Header) -> Observation:
        """Decode nonce, wei and the results of the calls after the header's block."""
        answers, head, base_fee = [*state], header.block, header.base_fee_wei
        tip_wei = min(header.tip_wei, max(base_fee, _TIP_MIN_WEI))
        l1_bound = answers.pop() if self._network.l1_fee_oracle else None
        refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
        if refused is not None:
            raise ChainUnavailable(
                f"the endpoint does not answer for block {head.number}: {refused.message[:200]}"
            )
        wallet_units = uint(answers.pop()) if self._wallet is not None else None
        nonce, wei = number(answers[0]), quantity(answers[1])
        balance, allowance = map(uint, answers[2:4])
        of_rail = 4 + len(self._contracts.state_calls())
        rail = self._contracts.state(answers[4:of_rail])
        l1_bound_wei = int(l1_bound, 16) if isinstance(l1_bound, str) and len(l1_bound) == 66 else 0
        if max(base_fee, l1_bound_wei) > _L1_FEE_MAX_WEI or rail.create_nonce > _CREATES_MAX:
            raise ChainUnavailable(
                f"the endpoint tells numbers that can't be: base fee {base_fee}, L1 data fee"
                f" {l1_bound_wei} wei, {rail.create_nonce} escrows"
            )
        return Observation(
            account=self._account,
            treasury=self._payer.treasury,
            head=head,
            readable=head.number - self._confirmations + 1,
            final=header.final,
            base_fee_wei=base_fee,
            nonce=nonce,
            create_nonce=rail.create_nonce,
            usdc_balance=_usdc(balance),
            usdc_allowance=_usdc(allowance),
            gas_balance_wei=wei,
            fees=suggested_fees(
                base_fee,
                tip_wei,
                l1_bound_wei,
                self._max_fee_wei,
                call_gas=self._payer.call_gas,
                making_gas=self._payer.making_gas,
            ),
            rail_trouble=rail.trouble,
            wallet=self._wallet,
            wallet_balance=None if wallet_units is None else _usdc(wallet_units),
            chain_limit=self._payer.limit(answers[of_rail:], at=head.at),
        )


def _usdc(units: int) -> Usdc:
    return Usdc.from_base_units(min(units, AMOUNT_MAX))


def _compare(one: Observation, other: Observation) -> None:
    differing = [
        f"{name} {getattr(one, name)} and {getattr(other, name)}"
        for name in (field.name for field in fields(Observation))
        if name not in _NOT_COMPARED and getattr(one, name) != getattr(other, name)
    ]
    if differing:
        raise ChainUnavailable(
            f"two readings contradict each other about block {one.head.number}:"
            f" {', '.join(differing)}; nothing is signed until they agree"
        )
