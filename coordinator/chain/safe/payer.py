"""The payer `safe`: USDC of a Safe, through a role that the signer is a member of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from eth_abi.exceptions import DecodingError

from coordinator.chain.abi import token_abi
from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.evm.fiat_token import AMOUNT_MAX
from coordinator.chain.safe.addresses import MULTI_SEND
from coordinator.chain.safe.allowances import Allowance
from coordinator.chain.safe.configuration import DAILY, DISPUTES, PURCHASES, TOTAL
from coordinator.chain.safe.multisend import CALL, DELEGATE_CALL, InnerCall, multi_send
from coordinator.chain.safe.refusals import role_refusal
from coordinator.chain.safe.roles import (
    ALLOWANCES,
    EXECUTE,
    EXECUTE_AND_TELL,
    execute,
    outcome,
    stored_allowance,
)
from coordinator.chain.safe.watching import SafeEvents
from coordinator.domain.chain.gas import GAS_LIMITS
from coordinator.domain.chain.steps import Call, StepKind
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.ports import ChainLimit
from coordinator.domain.usdc import Usdc

# Together they stay below what a transaction may take on Base (16,777,216 gas, EIP-7825).
PURCHASES_MAX: Final = 25
_BATCH_GAS_MAX: Final = 16_500_000
# Of each purchase after the first, and of each provider that the role compares it with: measured
# 521k and 5.7k.
_NEXT_GAS: Final = 560_000
_LISTED_GAS: Final = 6_000
# Of a purchase that goes alone since it failed before: for whatever the role's list has.
_ALONE_GAS: Final = 4_000_000
# A purchase alone in its transaction.
_TX_BYTES: Final = 1_300
# What the role's checks, the Safe and MultiSend take beside a single call.
_CALL_GAS: Final = 200_000
_PULLS: Final = (StepKind.LINK, StepKind.DISPUTE)
# Made by the signer itself: whoever mints a test token names who gets it, and a fill is nobody's.
_OWN: Final = (StepKind.MINT, StepKind.FILL)
_ROLES: Final[Mapping[StepKind, bytes]] = {StepKind.DISPUTE: DISPUTES}
_WORD: Final = 32
_SELECTOR: Final = 4
# execTransactionWithRole's last parameter, whether to revert where the inner call does.
_SHOULD_REVERT: Final = slice(_SELECTOR + 5 * _WORD, _SELECTOR + 6 * _WORD)
_FAILED_WITHIN: Final = "ModuleTransactionFailed"


@dataclass(frozen=True, slots=True)
class SafePayer:
    """A Safe and its Roles modifier.

    What has the rail pull USDC approves exactly that in the same transaction: nothing stays
    approved, and the allowance of the role on chain counts all that leaves. ``listed`` is how many
    providers the role may pay: each makes each purchase dearer.
    """

    treasury: str
    roles: str
    usdc: str
    vault: str
    listed: Callable[[], int] = lambda: 0
    call_gas: int = _CALL_GAS
    tx_bytes: int = _TX_BYTES
    approves_each: bool = True

    @property
    def making_gas(self) -> int:
        """Its share of a batch that fails, and a batch of its own."""
        return self._next_gas + self._gas_limit(1)

    @property
    def _next_gas(self) -> int:
        return _NEXT_GAS + _LISTED_GAS * self.listed()

    def _gas_limit(self, purchases: int) -> int:
        first = GAS_LIMITS[StepKind.BATCH.value] + _LISTED_GAS * self.listed()
        return first + self._next_gas * (purchases - 1)

    @property
    def _most(self) -> int:
        """The most purchases that share a transaction."""
        others = (_BATCH_GAS_MAX - self._gas_limit(1)) // self._next_gas
        return max(1, min(PURCHASES_MAX, 1 + others))

    def composed(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Put purchases, each a create and its link, together; all else goes by itself.

        A purchase that goes alone has a batch of its own, too: it is made whole or not at all. A
        batch is what its members make.
        """
        made: list[Call] = []
        waiting: list[tuple[Call, Call]] = []
        for one in _paired(calls):
            if isinstance(one, Call):
                made.append(self._single(one))
            elif one[0].alone:
                made += self._batches(waiting)
                made += [replace(each, gas_limit=_ALONE_GAS) for each in self._batches([one])]
                waiting = []
            else:
                waiting.append(one)
        return [*made, *self._batches(waiting)]

    def state_calls(self) -> Sequence[ContractCall]:
        return [(self.roles, "0x" + ALLOWANCES.call(one).hex()) for one in (DAILY, TOTAL)]

    def limit(self, answers: Sequence[Any], *, at: int) -> ChainLimit | None:
        daily, total = (_allowance(answer) for answer in answers)
        left, at_once, refills_at = daily.left_at(at), daily.max_refill, _next_refill(daily, at)
        # One that was never set is not asked for by the role either.
        if total.max_refill and total.left_at(at) < left:
            left, refills_at = total.left_at(at), None
        return ChainLimit(_usdc(left), _usdc(at_once), refills_at)

    def reading(self, call: Call) -> str | None:
        if call.to != self.roles:
            return None
        data = bytearray.fromhex(call.data[2:])
        if data[:_SELECTOR] != EXECUTE.selector:
            return None
        data[:_SELECTOR] = EXECUTE_AND_TELL.selector
        data[_SHOULD_REVERT] = bytes(_WORD)
        return "0x" + data.hex()

    def reason(self, revert_data: Any) -> str | None:
        found = role_refusal(revert_data)
        return None if found is None or found.name == _FAILED_WITHIN else str(found)

    def revert_data(self, told: str) -> str | None:
        worked, data = outcome(bytes.fromhex(told.removeprefix("0x")))
        return None if worked else "0x" + data.hex()

    def watched(self, *, kernel: str, signer: str) -> SafeEvents:
        return SafeEvents(
            self.treasury, self.roles, self.usdc, self.vault, kernel=kernel, signer=signer
        )

    def _batches(self, purchases: Sequence[tuple[Call, Call]]) -> Iterator[Call]:
        most = self._most
        for first in range(0, len(purchases), most):
            part = purchases[first : first + most]
            yield self._batch([replace(call, alone=False) for pair in part for call in pair])

    def _batch(self, members: Sequence[Call]) -> Call:
        return Call(
            kind=StepKind.BATCH,
            to=self.roles,
            data=self._together(members, PURCHASES),
            gas_limit=self._gas_limit(len(members) // 2),
            usdc=_taken(members),
            members=tuple(members),
        )

    def _single(self, call: Call) -> Call:
        if call.kind is StepKind.BATCH:
            return self._batch(call.members)
        if call.kind in _OWN or call.to == self.roles:
            return call
        role = _ROLES.get(call.kind, PURCHASES)
        if call.kind in _PULLS:
            data = self._together((call,), role)
        else:
            inner = _inner(call)
            data = "0x" + execute(inner.to, inner.data, operation=CALL, role=role).hex()
        gas_limit = call.gas_limit + self.call_gas
        if call.kind is StepKind.CREATE:
            gas_limit += _LISTED_GAS * self.listed()
        return replace(call, to=self.roles, data=data, gas_limit=gas_limit)

    def _together(self, calls: Sequence[Call], role: bytes) -> str:
        """Encode the calls in one transaction, behind the approval of all that they take."""
        approval = token_abi().call("approve", self.vault, _taken(calls).base_units)
        inner = [InnerCall(self.usdc, bytes.fromhex(approval[2:])), *map(_inner, calls)]
        data = multi_send(inner)
        return "0x" + execute(MULTI_SEND.address, data, operation=DELEGATE_CALL, role=role).hex()


def _allowance(answer: Any) -> Allowance:
    """Decode the answer to ``allowances``; ChainUnavailable for none."""
    try:
        return stored_allowance(bytes.fromhex(answer.removeprefix("0x")))
    except (AttributeError, DecodingError, ValueError):
        raise ChainUnavailable("the endpoint does not tell an allowance of the role") from None


def _next_refill(allowance: Allowance, at: int) -> int | None:
    """Return when one that is not full by then next grows; None where it never does."""
    if not allowance.period or not allowance.refill:
        return None
    periods = max(at - allowance.timestamp, 0) // allowance.period
    return allowance.timestamp + (periods + 1) * allowance.period


def _usdc(units: int) -> Usdc:
    return Usdc.from_base_units(min(units, AMOUNT_MAX))


def _taken(calls: Iterable[Call]) -> Usdc:
    return Usdc.sum(call.usdc for call in calls if call.kind in _PULLS and call.usdc)


def _inner(call: Call) -> InnerCall:
    return InnerCall(call.to, bytes.fromhex(call.data[2:]))


def _paired(calls: Iterable[Call]) -> Iterator[Call | tuple[Call, Call]]:
    """Yield each create with the link that follows it, and every other call by itself."""
    create: Call | None = None
    for call in calls:
        if create is not None and call.kind is StepKind.LINK and call.escrow_id == create.escrow_id:
            yield create, call
            create = None
            continue
        if create is not None:
            yield create
        create = call if call.kind is StepKind.CREATE else None
        if create is None:
            yield call
    if create is not None:
        yield create
