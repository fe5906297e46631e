"""Interfaces of the chain for the use cases; ``chain`` implements them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.events import Block, EscrowState, EventBatch
from coordinator.domain.chain.gas import Fees
from coordinator.domain.chain.steps import Attempt, Call, Receipt
from coordinator.domain.errors import ChainUnavailable
from coordinator.domain.signatures.safe_signatures import SafeState
from coordinator.domain.typed_data import Domain
from coordinator.domain.usdc import Usdc

Clock = Callable[[], int]
"""The unix second, UTC."""

Accounts = Callable[[], tuple[OwnAccount, ...]]
"""Every account that is or was ours."""

HeadTold = Callable[[int, str], None]
"""Called with the number and hash of a block that somebody says is the newest."""

Ticks = Callable[[], float]
"""Seconds that only go forward, from no particular instant."""


class KillPoint(StrEnum):
    """Moments at which a crash must lose nothing; tests kill the process there."""

    REQUEST_COMMITTED = "request_committed"
    BEFORE_ALLOCATE = "before_allocate"
    STEPS_ALLOCATED = "steps_allocated"
    ATTEMPTS_SIGNED = "attempts_signed"
    ATTEMPTS_STORED = "attempts_stored"
    ATTEMPTS_SENT = "attempts_sent"
    AUTHORISATIONS_SIGNED = "authorisations_signed"
    AUTHORISATIONS_STORED = "authorisations_stored"
    EVENTS_READ = "events_read"
    EVENTS_STORED = "events_stored"
    ROLLED_BACK = "rolled_back"
    RECEIPTS_READ = "receipts_read"
    RECEIPTS_STORED = "receipts_stored"
    HOLDS_ENDED = "holds_ended"


Reach = Callable[[KillPoint], None]
"""Called whenever a kill point is reached; does nothing in production."""


class Sent(StrEnum):
    """The outcomes of a send that a node's answer proves.

    accepted: it has the transaction · underpriced: it waits for more than these fees, or holds
    another transaction of the nonce · nonce_used: a mined transaction had the nonce, look at the
    receipts · insufficient_funds: the signer can't pay, the step waits · too_cheap: it takes
    nothing for such fees, whatever holds the nonce · unknown: nothing is proved, whatever was said.
    """

    ACCEPTED = "accepted"
    UNDERPRICED = "underpriced"
    NONCE_USED = "nonce_used"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    TOO_CHEAP = "too_cheap"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """The outcome of a send; ``tip_wei`` is the least tip that the node asks for, if told."""

    sent: Sent
    said: str
    tip_wei: int | None = None


@dataclass(frozen=True, slots=True)
class ChainLimit:
    """The limit that the treasury's own contracts set, at one block.

    ``left`` may still be paid, of at most ``at_once``; more comes back at ``refills_at`` (unix
    seconds, UTC; None: nothing does).
    """

    left: Usdc
    at_once: Usdc
    refills_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The treasury, the account that signs for it and the rail, at one block, ``head``.

    ``usdc_balance`` and ``usdc_allowance`` are those of ``treasury``, ``gas_balance_wei`` that of
    ``account``, the signer. ``nonce`` is the signer's count of mined transactions, ``create_nonce``
    the rail's count of escrows created; ``readable`` the newest block that is deep enough to be
    believed and ``final`` the newest that can't be undone (None: none yet). ``fees`` is None above
    the fee ceiling; ``base_fee_wei`` is the head's, per gas. ``wallet`` is the account that x402
    payments are made from, ``wallet_balance`` its USDC; None where there is none. ``chain_limit``
    is None where the chain limits the treasury by its balance alone.
    """

    account: str
    treasury: str
    head: Block
    readable: int
    final: Block | None
    base_fee_wei: int
    nonce: int
    create_nonce: int
    usdc_balance: Usdc
    usdc_allowance: Usdc
    gas_balance_wei: int
    fees: Fees | None
    rail_trouble: str | None
    wallet: str | None = None
    wallet_balance: Usdc | None = None
    chain_limit: ChainLimit | None = None

    @property
    def usdc(self) -> Mapping[str, Usdc]:
        """The USDC of each account that was read."""
        found = {self.treasury: self.usdc_balance}
        if self.wallet is not None and self.wallet_balance is not None:
            found[self.wallet] = self.wallet_balance
        return found

    @property
    def final_number(self) -> int:
        """The number of the final block; -1 while there is none."""
        return self.final.number if self.final is not None else -1


@dataclass(frozen=True, slots=True)
class EscrowOnChain:
    """An escrow as the rail tells it at one block; zeros for ``escrow_key`` until it is linked."""

    state: EscrowState
    provider: str
    escrow_key: str
    amount: Usdc
    deadline: int
    window_ends: int | None
    bond: Usdc


class Unlinked(ChainUnavailable):
    """The block that was to be read on from is not on the chain any more, or not for this node."""


class ChainReader(Protocol):
    """Reads blocks, events, escrows and balances; the books use it.

    Reads are retried inside; ChainUnavailable when no endpoint answers. ``tail`` raises Unlinked
    where block ``after`` is not ``after_hash``. ``authorisations_used`` are those of (account,
    nonce) that were.
    """

    def observe(self, *, quick: bool = False, head: Block | None = None) -> Observation: ...
    def block(self, number: int) -> Block: ...
    def hashes(self, number: int, *, all_of_them: bool = False) -> Sequence[str]: ...
    def events(self, *, after: int, after_hash: str, to: int) -> EventBatch: ...
    def tail(self, *, after: int, after_hash: str, to: int) -> EventBatch: ...
    def receipts(
        self, hashes: Sequence[str], *, block: Block | None = None
    ) -> Mapping[str, Receipt]: ...
    def escrows_at(
        self, escrow_ids: Sequence[str], *, block_number: int
    ) -> Mapping[str, EscrowOnChain]: ...
    def usdc_of(self, accounts: Sequence[str], *, block_number: int) -> Mapping[str, Usdc]: ...
    def authorisations_used(
        self, nonces: Sequence[tuple[str, str]], *, block_number: int
    ) -> Collection[tuple[str, str]]: ...
    def held_for(self, escrow_keys: Sequence[str], *, block_number: int) -> Mapping[str, Usdc]: ...


@dataclass(frozen=True, slots=True)
class SafeDifferences:
    """The words of a Safe's storage that are not as they must be, said for people.

    ``code`` is about what it runs, of which no event tells, ``actors`` about who acts for it beside
    its owners, ``limits`` about what the policy asks the chain to keep.
    """

    code: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.code, *self.actors, *self.limits)


class ChainWatch(Protocol):
    """Tells at little cost whether there is anything to read.

    ``head`` is the newest block, in one call; ``anything_after`` is whether later blocks have logs
    of USDC, new escrows of the treasury's or its ``payments``, which are nonces, in one call, or in
    two with the moves of ``escrows``, which are ids and keys, or with what is done to a Safe.
    """

    def head(self) -> Block: ...
    def anything_after(
        self, block_number: int, *, escrows: Collection[str], payments: Collection[str] = ()
    ) -> bool: ...


class HeadHints(Protocol):
    """Tells of new heads before anybody asks. A hint is no evidence: it says when to ask.

    ``tell`` names who is told in another thread: each head, and that no more come for now.
    """

    def tell(self, told: HeadTold, ended: Callable[[], None]) -> None: ...
    def want(self, wanted: bool) -> None: ...
    def stop(self) -> None: ...


class EndpointChoice(Protocol):
    """Changes the endpoint that is read from.

    ``look_elsewhere`` reads from now on at another endpoint that has blocks ``above`` a number, if
    there is one; ``turn_away`` at any other.
    """

    def observe(self, *, quick: bool = False, head: Block | None = None) -> Observation: ...
    def look_elsewhere(self, *, above: int) -> bool: ...
    def turn_away(self) -> None: ...


class TransactionSender(Protocol):
    """Signs, sends, and finds the outcome. A send is one try of stored bytes.

    ``composed`` are the transactions that make the calls, in their order, always the same for the
    same calls.     It goes to one endpoint, or ``everywhere``. ``confirm`` refuses what was seen
    and costs money where a second reading, or another endpoint, tells something else;
    ``confirm_nonce`` a nonce, unless several readings tell it and show whose transaction used the
    last one from ``known`` on.
    """

    def fill(self) -> Call: ...
    def composed(self, calls: Sequence[Call]) -> Sequence[Call]: ...
    def sign(self, call: Call, *, nonce: int, fees: Fees) -> Attempt: ...
    def send(self, raws: Sequence[str], *, everywhere: bool = False) -> Sequence[SendAnswer]: ...
    def receipts(
        self, hashes: Sequence[str], *, block: Block | None = None
    ) -> Mapping[str, Receipt]: ...
    def block(self, number: int) -> Block: ...
    def mined_at_nonce(self, nonce: int, *, by: int) -> str | None: ...
    def confirm(self, seen: Observation) -> None: ...
    def confirm_nonce(self, seen: Observation, *, known: int) -> None: ...
    def refusal(self, call: Call, *, block_number: int | None = None) -> str | None: ...


class GasSender(Protocol):
    """Sends away all ETH of an account that signs nothing else any more.

    ``send_gas`` returns the transaction's hash; None where what is left pays no transaction.
    """

    def send_gas(self, to: str) -> str | None: ...
    def receipts(
        self, hashes: Sequence[str], *, block: Block | None = None
    ) -> Mapping[str, Receipt]: ...


class Rail(Protocol):
    """Makes the calls of an escrow's life, and asks the contracts before they are made."""

    def confirm(self, seen: Observation) -> None: ...
    def composed(self, calls: Sequence[Call]) -> Sequence[Call]: ...
    def refusal(self, call: Call, *, block_number: int | None = None) -> str | None: ...
    def escrow(self, escrow_id: str) -> EscrowOnChain: ...
    def windows(self, escrow_id: str, *, head: int) -> frozenset[int | None]: ...
    def funded_by_treasury(self, escrow_key: str) -> bool: ...

    def approve(self, amount: Usdc) -> Call: ...
    def create(
        self,
        *,
        purchase_id: str,
        provider: str,
        amount: Usdc,
        service: str | None,
        deadline: int,
        dispute_window: int,
        create_nonce: int,
    ) -> Call: ...
    def link(self, *, purchase_id: str, escrow_id: str, escrow_key: str, amount: Usdc) -> Call: ...
    def cancel(self, *, purchase_id: str, escrow_id: str) -> Call: ...
    def reclaim(self, *, purchase_id: str, escrow_id: str) -> Call: ...
    def settle(self, *, purchase_id: str, escrow_id: str) -> Call: ...
    def dispute(self, *, purchase_id: str, escrow_id: str, bond: Usdc) -> Call: ...
    def withdraw(self, *, order_id: str, recipient: str, amount: Usdc) -> Call: ...
    def sweep(self, *, recipient: str, amount: Usdc) -> Call: ...
    def top_up(self, *, order_id: str, recipient: str, amount: Usdc) -> Call: ...
    def mint(self, *, order_id: str, amount: Usdc) -> Call: ...


class SafeReader(Protocol):
    """Reads Safes that approve, after one block, as every endpoint tells them.

    ``state`` is a Safe's owners and threshold, ConfigurationError for what is no Safe of use;
    ``is_valid`` whether it says that it has signed. ChainUnavailable where endpoints do not answer
    or contradict each other.
    """

    def state(self, safe: str, *, block: Block) -> SafeState: ...
    def is_valid(self, safe: str, digest: bytes, signature: bytes, *, block: Block) -> bool: ...


class Chain(ChainReader, ChainWatch, EndpointChoice, TransactionSender, Rail, Protocol):
    """Every port of one treasury on one chain.

    ``account`` is the one that signs for it. Where it ``approves_each`` call, no allowance stands.
    """

    @property
    def treasury(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def approves_each(self) -> bool: ...
    @property
    def token_domain(self) -> Domain: ...
    @property
    def safes(self) -> SafeReader: ...
