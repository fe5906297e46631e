"""Escrows as kernel and vault tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.chain.abi import number, uint
from coordinator.chain.actp.abi import contract_abis, kernel_abi, vault_abi
from coordinator.chain.actp.terms import MINIMUM_BOND, STATES
from coordinator.chain.evm.answers import UNREADABLE, decoded, refusal_of
from coordinator.chain.evm.calls import ContractCall
from coordinator.chain.evm.contract_reader import ContractReader
from coordinator.chain.evm.fiat_token import FiatToken
from coordinator.chain.evm.head import BEHIND
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import ChainUnavailable, TxReverted
from coordinator.domain.ports import Accounts, EscrowOnChain
from coordinator.domain.usdc import Usdc

# Where provider, state, amount, deadline, escrow key, dispute window and bond's share stand.
_FIELDS: Final = (2, 3, 4, 7, 10, 12, 16)


@dataclass(frozen=True, slots=True)
class EscrowReader:
    """Reads the escrows of one kernel and vault, and what is in the accounts that pay for them."""

    contracts: ContractReader
    token: FiatToken
    kernel: str
    vault: str
    accounts: Accounts

    @property
    def host(self) -> str:
        return self.contracts.host

    @decoded
    def escrow(self, escrow_id: str) -> EscrowOnChain:
        answer = self.contracts.ask([self._escrow_call(escrow_id)], "latest")[0]
        if isinstance(answer, RpcRefusal):
            raise TxReverted(refusal_of(answer, contract_abis()))
        return escrow_of(answer)

    def windows(self, escrow_id: str, *, head: int) -> frozenset[int | None]:
        """Read the end of its window at each endpoint; None where it is not delivered.

        An endpoint far behind block ``head`` counts only where it has the delivery.
        """
        told: set[int | None] = set()
        for newest, answer in self.contracts.ask_everywhere(self._escrow_call(escrow_id)):
            try:
                ends = escrow_of(answer).window_ends
                near = number(newest) >= head - BEHIND
            except (ChainUnavailable, *UNREADABLE):
                continue
            if near or ends is not None:
                told.add(ends)
        return frozenset(told)

    def window_ends(self, escrow_ids: Sequence[str]) -> dict[str, int | None]:
        """Read the ends of delivered escrows' windows; None for one that was cancelled since."""
        # Written once, at delivery: the latest block tells the same, and is never pruned.
        answers = self.contracts.ask([self._escrow_call(i) for i in escrow_ids], "latest")
        windows = {}
        for escrow_id, answer in zip(escrow_ids, answers, strict=True):
            found = None if isinstance(answer, RpcRefusal) else escrow_of(answer)
            cancelled = found is not None and found.state is EscrowState.CANCELLED
            if found is None or (found.window_ends is None and not cancelled):
                raise ChainUnavailable(f"the endpoint does not tell the window of {escrow_id} yet")
            windows[escrow_id] = found.window_ends
        return windows

    @decoded
    def funded_by_treasury(self, escrow_key: str) -> bool:
        """Whether an account of ours ever funded the vault under this key, by its own record."""
        vault, encode = self.vault, vault_abi().call
        found, left = self.contracts.ask(
            [(vault, encode("escrows", escrow_key)), (vault, encode("remaining", escrow_key))],
            "latest",
        )
        if isinstance(found, RpcRefusal):
            # A vault without that getter: what it still holds under the key tells as much.
            return uint(left) > 0
        requester, _, amount, *_ = vault_abi().result("escrows", found)
        ours = {account.address.lower() for account in self.accounts()}
        return bool(amount) and requester.lower() in ours

    @decoded
    def escrows_at(
        self, escrow_ids: Sequence[str], *, block_number: int
    ) -> Mapping[str, EscrowOnChain]:
        answers = self.contracts.ask([self._escrow_call(i) for i in escrow_ids], hex(block_number))
        return {
            escrow_id: escrow_of(answer)
            for escrow_id, answer in zip(escrow_ids, answers, strict=True)
            if not isinstance(answer, RpcRefusal) or not refusal_of(answer, contract_abis())
        }

    @decoded
    def usdc_of(self, accounts: Sequence[str], *, block_number: int) -> Mapping[str, Usdc]:
        """Read the accounts' USDC after a block."""
        calls = [self.token.usdc_call(account) for account in accounts]
        return dict(zip(accounts, self._amounts(calls, block_number), strict=True))

    @decoded
    def authorisations_used(
        self, nonces: Sequence[tuple[str, str]], *, block_number: int
    ) -> frozenset[tuple[str, str]]:
        """Read which of (account, nonce) were used after a block."""
        calls = [self.token.used_call(account, nonce) for account, nonce in nonces]
        told = zip(nonces, self._words(calls, block_number), strict=True)
        return frozenset(pair for pair, used in told if used)

    @decoded
    def held_for(self, escrow_keys: Sequence[str], *, block_number: int) -> Mapping[str, Usdc]:
        """Read what the vault holds under each key after a block."""
        calls = [(self.vault, vault_abi().call("remaining", key)) for key in escrow_keys]
        return dict(zip(escrow_keys, self._amounts(calls, block_number), strict=True))

    def _amounts(self, calls: Sequence[ContractCall], block_number: int) -> list[Usdc]:
        return [Usdc.from_base_units(word) for word in self._words(calls, block_number)]

    def _words(self, calls: Sequence[ContractCall], block_number: int) -> list[int]:
        answers = self.contracts.ask(calls, hex(block_number))
        refused = next((a for a in answers if isinstance(a, RpcRefusal)), None)
        if refused is not None:
            raise ChainUnavailable(
                f"the endpoint has no balances of block {block_number}: {refused.message[:200]}"
            )
        # No code at the address yet answers with nothing: then it holds nothing.
        return [0 if answer == "0x" else uint(answer) for answer in answers]

    def _escrow_call(self, escrow_id: str) -> ContractCall:
        return self.kernel, kernel_abi().call("getTransaction", escrow_id)


def escrow_of(answer: Any) -> EscrowOnChain:
    """An escrow from the result of ``getTransaction``."""
    fields = kernel_abi().struct("getTransaction", answer, _FIELDS)
    provider, state_number, units, deadline, escrow_key, window, bond_bps = fields
    state, amount = STATES[state_number], Usdc.from_base_units(units)
    # Until it is delivered the window is a span; from then on the instant at which it ends.
    ended = state in (EscrowState.DELIVERED, EscrowState.DISPUTED, EscrowState.SETTLED)
    bond = Usdc.from_base_units(amount.base_units * bond_bps // 10_000)
    return EscrowOnChain(
        state=state,
        provider=provider,
        escrow_key=escrow_key,
        amount=amount,
        deadline=deadline,
        window_ends=window if ended else None,
        bond=max(bond, MINIMUM_BOND),
    )
