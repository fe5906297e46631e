"""The kernel's table, on Anvil and simulated: who may do what and when, its words, what follows.

Every refusal is one ``eth_call`` at an exact time. Within a step the rows stand in the order in
which the kernel looks, and each row's call breaks the later rules too wherever that is possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordinator.chain.abi import revert_reason, token_abi
from coordinator.chain.actp.abi import contract_abis, kernel_abi, vault_abi
from coordinator.chain.actp.chain import ActpChain
from coordinator.chain.actp.terms import MINIMUM_AMOUNT, STATES
from coordinator.chain.networks import NETWORKS
from coordinator.chain.rpc.client import RpcRefusal
from coordinator.chain.signers.signers import Signer
from coordinator.domain.address import checksummed
from coordinator.domain.chain.accounts import OwnAccount, account_name
from coordinator.domain.chain.escrow_key import service_hash
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.journal import Entry, make_entries
from coordinator.domain.errors import TxReverted
from coordinator.domain.usdc import Usdc
from tests.integration.chains import CHAINS, open_chain
from tests.integration.local_chain import LocalChain

HOUR, DAY = 3600, 86_400
NOBODY, NO_ID = "0x" + "00" * 20, "0x" + "00" * 32
NEVER_CREATED = "0x" + "ab" * 32
MAXIMUM, ABOVE_MAXIMUM = "1000000000", "1000000000.000001"
TOPICS = {
    abi.topic(item["name"]): item["name"]
    for abi in (kernel_abi(), vault_abi(), token_abi())
    for item in abi.items
    if item["type"] == "event"
}


@dataclass
class Board:
    """A chain with an escrow of 25 USDC in every state, and names for who acts and when."""

    chain: LocalChain
    escrows: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chain = self.chain
        last = [checksummed(account) for account in chain.rpc.call("eth_accounts")[8:10]]
        self.who = {
            "requester": last[0],
            "penniless": last[1],
            "provider": chain.provider,
            "stranger": chain.stranger,
            "mediator": chain.payee,
            "admin": chain.admin,
            "fees": chain.fee_recipient,
            "archive": chain.archive,
            "vault": chain.deployment.vault,
            "kernel": chain.deployment.kernel,
            "nobody": NOBODY,
        }
        self.names = {address.lower(): name for name, address in self.who.items()}
        self.evm = ActpChain(
            chain.rpc,
            NETWORKS["anvil"],
            chain.deployment,
            Signer(self.who["requester"]),
            confirmations=1,
            finality="1",
            max_fee_wei=None,
        )
        for name in ("requester", "provider", "stranger"):
            chain.fund(self.who[name], usdc="3000000000", wei=0)
            self.allow(name, "2000000000")
        self.start = chain.height
        self.deadline = chain.time + DAY
        for state in STATES:
            self.escrows[state] = self.make(state)

    def allow(self, who: str, usdc: str) -> None:
        data = token_abi().call("approve", self.who["vault"], Usdc(usdc).base_units)
        self.chain.act(self.who[who], self.chain.deployment.usdc, data)

    def make(self, state: str, amount: str = "25", by: str = "requester") -> str:
        """The id of a new escrow in ``state``."""
        made = self.act(by, create(amount=amount, deadline=self.deadline))
        escrow_id = str(log_values(made, "TransactionCreated")["transactionId"])
        self.keys[escrow_id] = self.fresh_key()
        for who, do in WAYS[state]:
            self.act(who, do, escrow_id)
        return escrow_id

    def fresh_key(self) -> str:
        return f"0x{len(self.keys) + 1:064x}"

    def time(self, when: str, escrow_id: str) -> int:
        """``now``, ``deadline`` or ``window``, the last second of it, and ``+1`` or ``-1``."""
        name, sign, seconds = when.partition(when[-2]) if when[-1] == "1" else (when, "", "0")
        known = {"now": self.chain.time, "deadline": self.deadline}
        at = known[name] if name in known else self.chain.window_ends(escrow_id)
        return at + int(sign + seconds)

    def refusal(self, who: str, when: str, do: Do, escrow_id: str = NEVER_CREATED) -> str | None:
        """What the kernel would say at that second; None when it would do it."""
        at = self.time(when, escrow_id)
        call = {"from": self.who[who], "to": self.who["kernel"], "data": do(self, escrow_id, at)}
        asked = ("eth_call", [call, "latest", {}, {"time": hex(at)}])
        (answer,) = self.chain.rpc.batch([asked])
        return revert_reason(answer, contract_abis()) if isinstance(answer, RpcRefusal) else None

    def answer(self, given: str, who: str, when: str, what: str) -> str | None:
        """The kernel's words for a row of a table; None when it would do it."""
        return self.refusal(who, when, WHAT[what], self.escrows[given])

    def administer(self, function: str, *args: Any) -> None:
        data = kernel_abi().call(function, *args)
        self.chain.act(self.who["admin"], self.who["kernel"], data)

    def act(
        self, who: str, do: Do, escrow_id: str = NEVER_CREATED, when: str = "now"
    ) -> dict[str, Any]:
        """The receipt of doing it, in a block of that second."""
        at = self.time(when, escrow_id)
        if when != "now":
            self.chain.rpc.call("evm_setNextBlockTimestamp", at)
        data = do(self, escrow_id, at)
        tx_hash = self.chain.send(self.who[who], self.who["kernel"], data)
        self.chain.mine()
        receipt = self.chain.receipt(tx_hash)
        assert receipt["status"] == "0x1", self.refusal(who, when, do, escrow_id)
        return receipt

    def events(self) -> tuple[ChainEvent, ...]:
        """All events since the board was set up, as the adapter reads them."""
        return self.evm.events(after=self.start, after_hash="", to=self.chain.height).events

    def events_of(self, receipt: dict[str, Any]) -> list[ChainEvent]:
        return [e for e in self.events() if e.tx_hash == receipt["transactionHash"]]

    def entries_of(self, receipt: dict[str, Any]) -> list[Entry]:
        """The journal's entries of one transaction, with everything before it known."""
        treasury, vault = self.who["requester"], self.who["vault"]
        entries = make_entries(
            self.events(), accounts=[OwnAccount(treasury)], vault=vault, known={}
        )
        return [e for e in entries if e.tx_hash == receipt["transactionHash"]]

    def told(self, event: ChainEvent) -> str:
        """An event in one line, with names for addresses."""
        words = [event.kind.value]
        words += [str(v) for v in (event.state, event.amount) if v is not None]
        ways = (
            (event.sender or event.requester, event.recipient or event.provider)
            if event.kind is not EventKind.ESCROW_FUNDED
            else (None, event.provider)
        )
        names = [self.names[a.lower()] if a else "" for a in ways]
        return " ".join(words + (["→".join(names)] if any(names) else []))

    def booked(self, entry: Entry) -> str:
        """A journal entry in one line: kind, amount, from, to."""
        sides = (entry.credit, entry.debit)
        names = [self.names.get(side.removeprefix("address:"), side) for side in sides]
        return f"{entry.kind.value} {entry.amount} " + "→".join(n.partition(":")[0] for n in names)


# What can be done: each makes the call's data from the board, an escrow id and the second.

Do = Callable[[Board, str, int], str]


def create(
    amount: str = "25",
    *,
    provider: str = "provider",
    deadline: int | None = None,
    deadline_in: int = DAY,
    window: int = HOUR,
) -> Do:
    """Always in the requester's name where the arguments are the kernel's to judge."""

    def do(board: Board, _: str, at: int) -> str:
        call = board.evm.create(
            purchase_id="",
            provider=board.who[provider],
            amount=Usdc(amount),
            service="papers",
            deadline=at + deadline_in if deadline is None else deadline,
            dispute_window=window,
            create_nonce=0,
        )
        return call.data

    return do


def create_for(sender: str, amount: str = "25") -> Do:
    """A create by somebody else than the treasury, in its own name."""

    def do(board: Board, *_: object) -> str:
        terms = (Usdc(amount).base_units, board.deadline, HOUR, NO_ID, 0, 0)
        return kernel_abi().call(
            "createTransaction", board.who["provider"], board.who[sender], *terms
        )

    return do


def link(vault: str = "vault", key: str | None = None, key_of: str | None = None) -> Do:
    def do(board: Board, escrow_id: str, _: int) -> str:
        used = board.keys[board.escrows[key_of]] if key_of else board.keys.get(escrow_id, NO_ID)
        kernel = kernel_abi()
        return kernel.call("linkEscrow", escrow_id, board.who[vault], key or used)

    return do


def move(state: EscrowState, proof: str = "") -> Do:
    return lambda board, escrow_id, _: board.chain.transition(escrow_id, state, proof)


def quote(proof: str = "") -> Do:
    return move(EscrowState.QUOTED, proof)


def deliver(proof: str = "") -> Do:
    return move(EscrowState.DELIVERED, proof)


def accept(amount: str) -> Do:
    units = Usdc(amount).base_units
    return lambda board, escrow_id, _: kernel_abi().call("acceptQuote", escrow_id, units)


def release(amount: str) -> Do:
    units = Usdc(amount).base_units
    return lambda board, escrow_id, _: kernel_abi().call("releaseMilestone", escrow_id, units)


def settle(board: Board, escrow_id: str, _: int) -> str:
    return board.evm.settle(purchase_id="", escrow_id=escrow_id).data


def cancel(board: Board, escrow_id: str, _: int) -> str:
    return board.evm.cancel(purchase_id="", escrow_id=escrow_id).data


def dispute(board: Board, escrow_id: str, _: int) -> str:
    return board.evm.dispute(purchase_id="", escrow_id=escrow_id, bond=Usdc("1")).data


def resolve(
    requester: str,
    provider: str,
    *,
    mediator: str | None = None,
    at_fault: bool | None = None,
    to: EscrowState = EscrowState.SETTLED,
) -> Do:
    """64 bytes of proof, 96 with the fault, 128 with a mediator, 160 with both."""

    def do(board: Board, escrow_id: str, _: int) -> str:
        words = [Usdc(requester).base_units, Usdc(provider).base_units]
        if mediator is not None:
            words += [int(board.who["mediator"], 16), Usdc(mediator).base_units]
        if at_fault is not None:
            words.append(int(at_fault))
        return board.chain.transition(escrow_id, to, "".join(word(w) for w in words))

    return do


def word(number: int) -> str:
    return f"{number:064x}"


def log_values(receipt: dict[str, Any], event: str) -> dict[str, Any]:
    """The arguments of the one log of the kernel's ``event``."""
    (log,) = [g for g in receipt["logs"] if TOPICS[g["topics"][0]] == event]
    return kernel_abi().log(event, log)


START = move(EscrowState.STARTED)
FUNDED_WAY = [("requester", link())]
STARTED_WAY = [*FUNDED_WAY, ("provider", START)]
DELIVERED_WAY = [*STARTED_WAY, ("provider", deliver(word(2 * DAY)))]
WAYS: dict[str, list[tuple[str, Do]]] = {
    "created": [],
    "quoted": [("provider", quote())],
    "funded": FUNDED_WAY,
    "started": STARTED_WAY,
    "delivered": DELIVERED_WAY,
    "disputed": [*DELIVERED_WAY, ("requester", dispute)],
    "disputed by the provider": [*DELIVERED_WAY, ("provider", dispute)],
    "settled": [*DELIVERED_WAY, ("requester", settle)],
    "cancelled": [("requester", cancel)],
}
HASH, SHORT, LONG = "cd" * 32, "cd" * 31, "cd" * 33
FRESH = "0x" + "ef" * 32
ALL_WRONG: dict[str, Any] = {"deadline_in": 0, "window": 0}
WHAT: dict[str, Do] = {
    "create all wrong": create("0", provider="nobody", **ALL_WRONG),
    "create for oneself": create("0", provider="requester", **ALL_WRONG),
    "create of 0.049999": create("0.049999", **ALL_WRONG),
    "create of too much": create(ABOVE_MAXIMUM, **ALL_WRONG),
    "create due now": create(**ALL_WRONG),
    "create due 365 d 1 s": create(deadline_in=365 * DAY + 1, window=0),
    "create window 3599 s": create(window=HOUR - 1),
    "create window 30 d 1 s": create(window=30 * DAY + 1),
    "create": create(),
    "create of 0.05": create("0.05", deadline_in=1),
    "create of the maximum": create(MAXIMUM, deadline_in=365 * DAY),
    "create window 30 d": create(window=30 * DAY),
    "quote": quote(),
    "quote 31 bytes": quote(SHORT),
    "quote 32 bytes": quote(HASH),
    "quote 33 bytes": quote(LONG),
    "quote 32 zero bytes": quote(word(0)),
    "accept 0": accept("0"),
    "accept 0.049999": accept("0.049999"),
    "accept 0.05": accept("0.05"),
    "accept the maximum": accept(MAXIMUM),
    "accept too much": accept(ABOVE_MAXIMUM),
    "link": link(),
    "link fresh key": link(key=FRESH),
    "link used key": link(key_of="funded"),
    "link used, elsewhere": link("stranger", key_of="funded"),
    "link zero, elsewhere": link("stranger", NO_ID),
    "link zero, nowhere": link("nobody", NO_ID),
    "cancel": cancel,
    "start": START,
    "deliver": deliver(),
    "deliver 1 s": deliver(word(1)),
    "deliver 3599 s": deliver(word(HOUR - 1)),
    "deliver 3600 s": deliver(word(HOUR)),
    "deliver 30 d": deliver(word(30 * DAY)),
    "deliver 30 d 1 s": deliver(word(30 * DAY + 1)),
    "settle": settle,
    "dispute": dispute,
    "split 1 1": resolve("1", "1"),
    "split 10 14.999999": resolve("10", "14.999999"),
    "split 10 15": resolve("10", "15"),
    "split 10 15.000001": resolve("10", "15.000001"),
    "split 1.25 23.75": resolve("1.25", "23.75"),
    "split 10 12.5 2.5": resolve("10", "12.5", mediator="2.5"),
    "split 10 15 1": resolve("10", "15", mediator="1"),
    "split 9 9 2.500001": resolve("9", "9", mediator="2.500001"),
    "split 0 25, not at fault": resolve("0", "25", at_fault=False),
    "split 24 0 1, not at fault": resolve("24", "0", mediator="1", at_fault=False),
    "split 25 0, at fault": resolve("25", "0", at_fault=True),
    "split 25 0": resolve("25", "0"),
    "split 20 2.5 2.5": resolve("20", "2.5", mediator="2.5"),
    "release 0": release("0"),
    "release 0.049999": release("0.049999"),
    "release 0.05": release("0.05"),
    "release 10": release("10"),
    "release 25": release("25"),
    "release 25.000001": release("25.000001"),
}


def table(text: str) -> list[tuple[str, ...]]:
    """Rows of cells; the first line is the head."""
    return [tuple(re.split(r" {2,}", line)) for line in text.strip().splitlines()[1:] if line]


REFUSED = table("""
given      who        when        what                    says
-          stranger   now         create all wrong        Requester mismatch
-          requester  now         create all wrong        Zero provider
-          requester  now         create for oneself      Self-transaction not allowed
-          requester  now         create of 0.049999      Amount below minimum
-          requester  now         create of too much      Amount exceeds maximum
-          requester  now         create due now          Deadline in past
-          requester  now         create due 365 d 1 s    Deadline too far
-          requester  now         create window 3599 s    Dispute window too short
-          requester  now         create window 30 d 1 s  Dispute window too long

missing    stranger   now         quote 31 bytes          Tx missing
quoted     stranger   deadline+1  quote 31 bytes          No-op
funded     stranger   deadline+1  quote 31 bytes          Invalid transition
created    requester  deadline+1  quote 31 bytes          Only provider
created    stranger   deadline+1  quote 31 bytes          Only provider
created    provider   deadline+1  quote 31 bytes          Transaction expired
created    provider   deadline    quote 31 bytes          Quote hash must be 32 bytes
created    provider   deadline    quote 33 bytes          Quote hash must be 32 bytes
created    provider   deadline    quote 32 zero bytes     Invalid quote hash

missing    stranger   now         accept 0                Tx missing
created    stranger   deadline+1  accept 0                Not quoted
funded     stranger   deadline+1  accept 0                Not quoted
quoted     provider   deadline+1  accept 0                Only requester
quoted     requester  deadline+1  accept 0                Expired
quoted     requester  deadline    accept 0.049999         Below minimum
quoted     requester  deadline    accept too much         Above maximum

missing    stranger   now         link zero, nowhere      Escrow addr
missing    stranger   now         link zero, elsewhere    Invalid escrow ID
missing    stranger   now         link used, elsewhere    Escrow not approved
missing    stranger   now         link used key           Escrow ID already used
missing    stranger   now         link fresh key          Tx missing
funded     stranger   deadline+1  link fresh key          Invalid state for linking escrow
cancelled  stranger   deadline+1  link fresh key          Invalid state for linking escrow
unpayable  provider   deadline+1  link                    Only requester
quoted     stranger   deadline+1  link                    Only requester
unpayable  penniless  deadline+1  link                    Transaction expired
unpayable  penniless  deadline    link                    ERC20: transfer amount exceeds allowance

missing    stranger   now         cancel                  Tx missing
cancelled  requester  now         cancel                  No-op
cancelled  stranger   now         cancel                  No-op
delivered  requester  now         cancel                  Invalid transition
settled    requester  now         cancel                  Invalid transition
created    provider   now         cancel                  Only requester can cancel
quoted     provider   deadline+1  cancel                  Only requester can cancel
quoted     stranger   deadline+1  cancel                  Only requester can cancel
funded     stranger   now         cancel                  Party only
funded     requester  now         cancel                  Deadline not reached
funded     requester  deadline-1  cancel                  Deadline not reached
started    stranger   now         cancel                  Party only
started    requester  now         cancel                  Cannot cancel after work started
started    requester  deadline+1  cancel                  Cannot cancel after work started

created    stranger   deadline+1  start                   Invalid transition
quoted     provider   deadline    start                   Invalid transition
funded     requester  deadline+1  start                   Only provider
funded     provider   deadline+1  start                   Transaction expired
funded     stranger   deadline+1  deliver 1 s             Invalid transition
started    requester  deadline+1  deliver 1 s             Only provider
started    provider   deadline+1  deliver 1 s             Transaction expired
started    provider   deadline    deliver 3599 s          Dispute window too short
started    provider   deadline    deliver 30 d 1 s        Dispute window too long

funded     requester  now         settle                  Invalid transition
started    requester  now         settle                  Invalid transition
delivered  provider   now         settle                  Requester decision pending
delivered  provider   window      settle                  Requester decision pending
delivered  stranger   window      settle                  Not authorized to settle

started    stranger   now         dispute                 Invalid transition
delivered  stranger   window+1    dispute                 Party only
delivered  requester  window+1    dispute                 Dispute window closed
delivered  provider   window+1    dispute                 Dispute window closed

disputed   requester  window+1    settle                  Resolver only
disputed   provider   window+1    split 1 1               Resolver only
disputed   stranger   now         split 1 1               Resolver only
disputed   admin      now         settle                  Dispute resolution requires explicit proof
disputed   admin      now         split 9 9 2.500001      Mediator fee too high
disputed   admin      now         split 10 14.999999      Must distribute ALL funds
disputed   admin      now         split 10 15.000001      Must distribute ALL funds
disputed   admin      now         split 10 15 1           Must distribute ALL funds
disputed   requester  window+1    cancel                  Resolver only
disputed   provider   window+1    cancel                  Resolver only

missing    stranger   now         release 0               Tx missing
funded     stranger   now         release 0               Not in progress
delivered  stranger   now         release 0               Not in progress
started    provider   now         release 0               Only requester
started    requester  now         release 0               Amount zero
started    requester  now         release 25.000001       Insufficient escrow
started    requester  now         release 0.049999        Fee exceeds amount
""")

# The last column: what the kernel says once the vault is off its list; "-" when it does not matter.
ALLOWED = table("""
given      who        when        what                    unlisted
-          requester  now         create of 0.05          -
-          requester  now         create of the maximum   -
-          requester  now         create window 30 d      -
created    provider   deadline    quote                   -
created    provider   deadline    quote 32 bytes          -
quoted     requester  deadline    accept 0.05             -
quoted     requester  deadline    accept the maximum      -
created    requester  deadline    link                    Escrow not approved
quoted     requester  deadline    link                    Escrow not approved
created    requester  deadline+1  cancel                  -
quoted     requester  now         cancel                  -
quoted     requester  deadline+1  cancel                  -
funded     requester  deadline    cancel                  Vault not approved
funded     provider   now         cancel                  Vault not approved
funded     provider   deadline+1  cancel                  Vault not approved
started    provider   now         cancel                  Vault not approved
started    provider   deadline+1  cancel                  Vault not approved
funded     provider   deadline    start                   -
started    provider   deadline    deliver                 -
started    provider   deadline    deliver 3600 s          -
started    provider   deadline    deliver 30 d            -
delivered  requester  now         settle                  Vault not approved
delivered  requester  deadline+1  settle                  Vault not approved
delivered  requester  window+1    settle                  Vault not approved
delivered  provider   window+1    settle                  Vault not approved
delivered  stranger   window+1    settle                  Vault not approved
delivered  requester  window      dispute                 Vault not approved
delivered  provider   window      dispute                 Vault not approved
disputed   admin      now         split 10 15             Vault not approved
disputed   admin      window+1    split 10 12.5 2.5       Vault not approved
disputed   admin      window+1    cancel                  Vault not approved
started    requester  deadline+1  release 0.05            Vault not approved
started    requester  now         release 25              Vault not approved
""")


@dataclass(frozen=True)
class Effect:
    """What one step leaves behind: logs of all contracts, our events, our journal, the state."""

    name: str
    step: tuple[str, ...]
    state: str
    logs: list[str]
    events: list[str]
    journal: list[str]

    @classmethod
    def read(cls, text: str) -> Effect:
        lines = re.sub(r"\n {2,}", " ", text.strip()).splitlines()
        values = [line.partition(" ")[2].strip() for line in lines]
        step, _, state = values[1].partition(" → ")
        logs, events, journal = ([i for i in v.split(", ") if i != "-"] for v in values[2:])
        return cls(values[0], tuple(re.split(r" {2,}", step)), state, logs, events, journal)

    def logs_with(self, archive: str) -> list[str]:
        return ", ".join(self.logs).replace("(archive), ", archive).split(", ")


# "(archive)" among the logs is the archive's share of the fee on its way: vault, kernel, archive.
ARCHIVE = "Transfer, EscrowPayout, Transfer, "
EFFECT_TEXTS = """
# a create moves nothing
step     -  requester  now  create → created
logs     TransactionCreated
events   escrow_created 25.00 requester→provider
journal  -

# a quote moves nothing
step     created  provider  now  quote 32 bytes → quoted
logs     StateTransitioned
events   escrow_moved quoted
journal  -

# an accepted quote stays quoted
step     quoted  requester  now  accept 0.05 → quoted
logs     QuoteAccepted
events   -
journal  -

# a link funds what was created
step     created  requester  now  link → funded
logs     Transfer, EscrowCreated, EscrowLinked, StateTransitioned
events   transfer 25.00 requester→vault, escrow_funded 25.00 →provider, escrow_moved funded
journal  fund 25.00 own→escrow

# a link funds what was quoted
step     quoted  requester  now  link → funded
logs     Transfer, EscrowCreated, EscrowLinked, StateTransitioned
events   transfer 25.00 requester→vault, escrow_funded 25.00 →provider, escrow_moved funded
journal  fund 25.00 own→escrow

# cancelling a created one is free
step     created  requester  now  cancel → cancelled
logs     StateTransitioned
events   escrow_moved cancelled
journal  -

# cancelling a quoted one is free
step     quoted  requester  now  cancel → cancelled
logs     StateTransitioned
events   escrow_moved cancelled
journal  -

# a reclaim at the deadline costs the penalty
step     funded  requester  deadline  cancel → cancelled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowRefunded, Transfer, EscrowPayout,
         EscrowReleased, (archive), EscrowCompleted, Transfer, EscrowPayout, PlatformFeeAccrued
events   escrow_moved cancelled, transfer 23.75 vault→requester, payout 23.75 →requester,
         payout 1.20 →provider, payout 0.00005 →kernel, payout 0.04995 →fees
journal  refund 23.75 escrow→own, penalty 1.20 escrow→provider, fee 0.00005 escrow→kernel,
         fee 0.04995 escrow→fees

# the provider gives all back before work
step     funded  provider  now  cancel → cancelled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded
events   escrow_moved cancelled, transfer 25.00 vault→requester, payout 25.00 →requester
journal  refund 25.00 escrow→own

# the provider gives all back after work started
step     started  provider  deadline+1  cancel → cancelled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded
events   escrow_moved cancelled, transfer 25.00 vault→requester, payout 25.00 →requester
journal  refund 25.00 escrow→own

# a start moves nothing
step     funded  provider  now  start → started
logs     StateTransitioned
events   escrow_moved started
journal  -

# a delivery moves nothing
step     started  provider  now  deliver → delivered
logs     StateTransitioned
events   escrow_moved delivered
journal  -

# the requester settles at once
step     delivered  requester  now  settle → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowReleased, (archive), EscrowCompleted,
         Transfer, EscrowPayout, PlatformFeeAccrued
events   escrow_moved settled, payout 24.75 →provider, payout 0.00025 →kernel, payout 0.24975 →fees
journal  payout 24.75 escrow→provider, fee 0.00025 escrow→kernel, fee 0.24975 escrow→fees

# anyone settles after the window
step     delivered  stranger  window+1  settle → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowReleased, (archive), EscrowCompleted,
         Transfer, EscrowPayout, PlatformFeeAccrued
events   escrow_moved settled, payout 24.75 →provider, payout 0.00025 →kernel, payout 0.24975 →fees
journal  payout 24.75 escrow→provider, fee 0.00025 escrow→kernel, fee 0.24975 escrow→fees

# our dispute pulls our bond
step     delivered  requester  window  dispute → disputed
logs     Transfer, StateTransitioned, DisputeOpened
events   transfer 1.25 requester→vault, escrow_moved disputed
journal  bond 1.25 own→bond

# the provider's dispute pulls its bond
step     delivered  provider  now  dispute → disputed
logs     Transfer, StateTransitioned, DisputeOpened
events   escrow_moved disputed
journal  -

# 64 bytes: a split, and the provider is at fault
step     disputed  admin  now  split 10 15 → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowRefunded, Transfer, EscrowPayout,
         EscrowReleased, (archive), EscrowCompleted, Transfer, EscrowPayout, PlatformFeeAccrued,
         Transfer, DisputeResolved
events   escrow_moved settled, transfer 10.00 vault→requester, payout 10.00 →requester,
         transfer 14.85 vault→provider, payout 14.85 →provider, transfer 0.00015 vault→kernel,
         payout 0.00015 →kernel, transfer 0.14985 vault→fees, payout 0.14985 →fees,
         transfer 1.25 vault→requester
journal  refund 10.00 escrow→own, payout 14.85 escrow→provider, fee 0.00015 escrow→kernel,
         fee 0.14985 escrow→fees, bond_return 1.25 bond→own

# a refund and a returned bond of the same amount
step     disputed  admin  now  split 1.25 23.75 → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowRefunded, Transfer, EscrowPayout,
         EscrowReleased, (archive), EscrowCompleted, Transfer, EscrowPayout, PlatformFeeAccrued,
         Transfer, DisputeResolved
events   escrow_moved settled, transfer 1.25 vault→requester, payout 1.25 →requester,
         transfer 23.5125 vault→provider, payout 23.5125 →provider,
         transfer 0.000237 vault→kernel, payout 0.000237 →kernel, transfer 0.237263 vault→fees,
         payout 0.237263 →fees, transfer 1.25 vault→requester
journal  refund 1.25 escrow→own, payout 23.5125 escrow→provider, fee 0.000237 escrow→kernel,
         fee 0.237263 escrow→fees, bond_return 1.25 bond→own

# 96 bytes: the provider is not at fault and gets the bond
step     disputed  admin  now  split 0 25, not at fault → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowReleased, (archive), EscrowCompleted,
         Transfer, EscrowPayout, PlatformFeeAccrued, Transfer, DisputeResolved
events   escrow_moved settled, transfer 24.75 vault→provider, payout 24.75 →provider,
         transfer 0.00025 vault→kernel, payout 0.00025 →kernel, transfer 0.24975 vault→fees,
         payout 0.24975 →fees, transfer 1.25 vault→provider
journal  payout 24.75 escrow→provider, fee 0.00025 escrow→kernel, fee 0.24975 escrow→fees,
         bond_loss 1.25 bond→provider

# 96 bytes: the provider is at fault by name
step     disputed  admin  now  split 25 0, at fault → settled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded, Transfer,
         DisputeResolved
events   escrow_moved settled, transfer 25.00 vault→requester, payout 25.00 →requester,
         transfer 1.25 vault→requester
journal  refund 25.00 escrow→own, bond_return 1.25 bond→own

# 128 bytes: a mediator is paid, the provider at fault
step     disputed  admin  now  split 20 2.5 2.5 → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowRefunded, Transfer, EscrowPayout,
         EscrowReleased, (archive), Transfer, EscrowPayout, PlatformFeeAccrued, EscrowCompleted,
         Transfer, EscrowPayout, EscrowMediatorPaid, Transfer, DisputeResolved
events   escrow_moved settled, transfer 20.00 vault→requester, payout 20.00 →requester,
         transfer 2.45 vault→provider, payout 2.45 →provider, transfer 0.00005 vault→kernel,
         payout 0.00005 →kernel, transfer 0.04995 vault→fees, payout 0.04995 →fees,
         transfer 2.50 vault→mediator, payout 2.50 →mediator, transfer 1.25 vault→requester
journal  refund 20.00 escrow→own, payout 2.45 escrow→provider, fee 0.00005 escrow→kernel,
         fee 0.04995 escrow→fees, fee 2.50 escrow→mediator, bond_return 1.25 bond→own

# 160 bytes: a mediator is paid, the provider not at fault
step     disputed  admin  now  split 24 0 1, not at fault → settled
logs     StateTransitioned, Transfer, EscrowPayout, EscrowRefunded, EscrowCompleted, Transfer,
         EscrowPayout, EscrowMediatorPaid, Transfer, DisputeResolved
events   escrow_moved settled, transfer 24.00 vault→requester, payout 24.00 →requester,
         transfer 1.00 vault→mediator, payout 1.00 →mediator, transfer 1.25 vault→provider
journal  refund 24.00 escrow→own, fee 1.00 escrow→mediator, bond_loss 1.25 bond→provider

# no proof: all comes back, our bond to us
step     disputed  admin  now  cancel → cancelled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded, Transfer,
         DisputeResolved
events   escrow_moved cancelled, transfer 25.00 vault→requester, payout 25.00 →requester,
         transfer 1.25 vault→requester
journal  refund 25.00 escrow→own, bond_return 1.25 bond→own

# no proof: all comes back, the provider's bond to it
step     disputed by the provider  admin  now  cancel → cancelled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded, Transfer,
         DisputeResolved
events   escrow_moved cancelled, transfer 25.00 vault→requester, payout 25.00 →requester,
         transfer 1.25 vault→provider
journal  refund 25.00 escrow→own

# a provider at fault loses its bond to us
step     disputed by the provider  admin  now  split 25 0 → settled
logs     StateTransitioned, EscrowCompleted, Transfer, EscrowPayout, EscrowRefunded, Transfer,
         DisputeResolved
events   escrow_moved settled, transfer 25.00 vault→requester, payout 25.00 →requester,
         transfer 1.25 vault→requester
journal  refund 25.00 escrow→own, deposit 1.25 vault→own

# a milestone pays a part
step     started  requester  now  release 10 → started
logs     Transfer, EscrowPayout, EscrowReleased, (archive), Transfer, EscrowPayout,
         PlatformFeeAccrued, EscrowMilestoneReleased
events   payout 9.90 →provider, payout 0.0001 →kernel, payout 0.0999 →fees
journal  payout 9.90 escrow→provider, fee 0.0001 escrow→kernel, fee 0.0999 escrow→fees
"""
EFFECTS = [Effect.read(text) for text in EFFECT_TEXTS.split("\n\n")]
WITH_FEE = [effect for effect in EFFECTS if "(archive)" in effect.logs]


@pytest.fixture(scope="module", params=CHAINS)
def whole_board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    with open_chain(request.param, tmp_path_factory.mktemp("deployments")) as chain:
        board = Board(chain)
        board.escrows |= {"-": NEVER_CREATED, "missing": NEVER_CREATED}
        made = board.act("penniless", create_for("penniless"))
        board.escrows["unpayable"] = log_values(made, "TransactionCreated")["transactionId"]
        board.keys[board.escrows["unpayable"]] = board.fresh_key()
        board.escrows["disputed by the provider"] = board.make("disputed by the provider")
        yield board


@pytest.fixture
def board(whole_board: Board) -> Iterator[Board]:
    """The board, put back afterwards."""
    rpc = whole_board.chain.rpc
    snapshot, keys = rpc.call("evm_snapshot"), dict(whole_board.keys)
    yield whole_board
    assert rpc.call("evm_revert", snapshot) is True
    whole_board.keys = keys


@pytest.mark.parametrize("row", REFUSED, ids=" ".join)
def test_a_step_is_refused_in_the_kernels_words_and_order(
    whole_board: Board, row: tuple[str, ...]
) -> None:
    *asked, says = row
    assert whole_board.answer(*asked) == says


@pytest.mark.parametrize("row", ALLOWED, ids=" ".join)
def test_a_step_is_allowed_up_to_its_edges(whole_board: Board, row: tuple[str, ...]) -> None:
    *asked, _ = row
    assert whole_board.answer(*asked) is None


def test_a_pause_stops_every_step(board: Board) -> None:
    board.administer("pause")
    assert {row: board.answer(*row[:4]) for row in ALLOWED} == dict.fromkeys(
        ALLOWED, "Kernel paused"
    )
    assert board.evm.observe().rail_trouble == "the kernel is paused"


def test_a_vault_off_the_list_stops_funding_and_every_payment(board: Board) -> None:
    board.administer("approveEscrowVault", board.who["vault"], False)
    assert [(*row[:4], board.answer(*row[:4]) or "-") for row in ALLOWED] == ALLOWED
    assert board.evm.observe().rail_trouble == "the kernel does not accept the vault"


def _names(receipt: dict[str, Any]) -> list[str]:
    return [TOPICS[log["topics"][0]] for log in receipt["logs"]]


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.name)
def test_a_step_is_told_by_its_events_and_booked(board: Board, effect: Effect) -> None:
    given, who, when, what = effect.step
    escrow_id = board.escrows[given]
    receipt = board.act(who, WHAT[what], escrow_id, when)
    events = board.events_of(receipt)

    assert _names(receipt) == effect.logs_with(ARCHIVE)
    assert [board.told(event) for event in events] == effect.events
    assert [board.booked(entry) for entry in board.entries_of(receipt)] == effect.journal
    if given == "-":
        escrow_id = str(events[0].escrow_id)
    assert {e.escrow_id for e in events} <= {escrow_id, None}
    assert {e.escrow_key for e in events} <= {board.keys.get(escrow_id), None}
    assert board.evm.escrow(escrow_id).state.value == effect.state


@pytest.mark.parametrize("effect", WITH_FEE, ids=lambda effect: effect.name)
def test_without_an_archive_the_whole_fee_goes_one_way(board: Board, effect: Effect) -> None:
    board.administer("setArchiveTreasury", NOBODY)
    given, who, when, what = effect.step
    fees = [Usdc(e.split()[1]) for e in effect.journal if e.endswith(("→kernel", "→fees"))]

    receipt = board.act(who, WHAT[what], board.escrows[given], when)

    assert _names(receipt) == effect.logs_with("")
    accrued = log_values(receipt, "PlatformFeeAccrued")["amount"]
    assert accrued == sum(fee.base_units for fee in fees)


@pytest.mark.parametrize(
    ("amount", "to_provider", "fee", "accrued"),
    [
        ("25", "24.75", "0.25", 249_750),
        ("5.01", "4.9599", "0.0501", 50_050),
        ("5", "4.95", "0.05", 49_950),
        ("1", "0.95", "0.05", 49_950),
        ("0.050001", "0.000001", "0.05", 49_950),
        ("0.05", "0", "0.05", 49_950),
    ],
)
def test_the_fee_is_one_percent_and_at_least_five_cents(
    board: Board, amount: str, to_provider: str, fee: str, accrued: int
) -> None:
    escrow_id = board.make("delivered", amount)
    archived = board.chain.balance(board.who["archive"])

    receipt = board.act("requester", settle, escrow_id)

    booked = board.entries_of(receipt)
    sums = {
        kind: sum((e.amount for e in booked if e.kind == kind), Usdc("0"))
        for kind in ("payout", "fee")
    }
    assert sums == {"payout": Usdc(to_provider), "fee": Usdc(fee)}
    assert log_values(receipt, "PlatformFeeAccrued")["amount"] == accrued
    share = board.chain.balance(board.who["archive"]) - archived
    assert share + Usdc.from_base_units(accrued) == Usdc(fee)
    assert ("EscrowReleased" in _names(receipt)) == (to_provider != "0")
    assert board.chain.remaining(board.keys[escrow_id]) == Usdc("0")


@pytest.mark.parametrize(
    ("amount", "refund", "to_provider", "fee"),
    [
        ("1000", "950", "49.50", "0.50"),
        ("25", "23.75", "1.20", "0.05"),
        ("1.01", "0.9595", "0.0005", "0.05"),
        ("1", "0.95", "0", "0.05"),
    ],
)
def test_a_reclaim_costs_five_percent_of_which_the_fee_is_a_part(
    board: Board, amount: str, refund: str, to_provider: str, fee: str
) -> None:
    escrow_id = board.make("funded", amount)

    receipt = board.act("requester", cancel, escrow_id, "deadline")

    booked = board.entries_of(receipt)
    kinds = ("refund", "penalty", "fee")
    sums = [sum((e.amount for e in booked if e.kind == kind), Usdc("0")) for kind in kinds]
    assert sums == [Usdc(refund), Usdc(to_provider), Usdc(fee)]
    assert ("EscrowReleased" in _names(receipt)) == (to_provider != "0")


@pytest.mark.parametrize("amount", ["0.999999", "0.5", "0.05"])
def test_below_one_usdc_only_the_provider_can_give_it_back(board: Board, amount: str) -> None:
    escrow_id = board.make("funded", amount)
    assert Usdc(amount) < MINIMUM_AMOUNT == Usdc("1")
    for when in ("deadline", "deadline+1"):
        assert board.refusal("requester", when, cancel, escrow_id) == "Fee exceeds amount"
    receipt = board.act("provider", cancel, escrow_id, "deadline+1")
    (refund,) = board.entries_of(receipt)
    assert (refund.kind, refund.debit, refund.amount) == (
        "refund",
        account_name(board.who["requester"]),
        Usdc(amount),
    )


@pytest.mark.parametrize(
    ("amount", "bond"),
    [("1000", "50"), ("25", "1.25"), ("20.00002", "1.000001"), ("20", "1"), ("1", "1")],
)
def test_the_bond_is_five_percent_and_at_least_one_usdc(
    board: Board, amount: str, bond: str
) -> None:
    escrow_id = board.make("delivered", amount)
    assert board.evm.escrow(escrow_id).bond == Usdc(bond)
    receipt = board.act("requester", dispute, escrow_id)
    (entry,) = board.entries_of(receipt)
    assert (entry.kind, entry.debit, entry.amount) == ("bond", f"bond:{escrow_id}", Usdc(bond))
    assert log_values(receipt, "DisputeOpened")["bondAmount"] == Usdc(bond).base_units
    assert board.evm.escrow(escrow_id).bond == Usdc(bond)


def test_a_bond_beyond_the_allowance_is_refused_in_the_tokens_words(board: Board) -> None:
    board.allow("requester", "1.249999")
    said = board.refusal("requester", "window", dispute, board.escrows["delivered"])
    assert said == "ERC20: transfer amount exceeds allowance"


def test_a_link_beyond_the_balance_is_refused_in_the_tokens_words_and_leaves_it_created(
    board: Board,
) -> None:
    board.allow("penniless", "25")
    escrow_id = board.escrows["unpayable"]
    said = board.refusal("penniless", "now", link(), escrow_id)
    assert said == "ERC20: transfer amount exceeds balance"
    assert board.evm.escrow(escrow_id).state is EscrowState.CREATED
    board.act("penniless", cancel, escrow_id)
    assert board.evm.escrow(escrow_id).state is EscrowState.CANCELLED


@pytest.mark.parametrize("service", [None, "papers", "Übersetzung"])
def test_an_id_is_known_before_its_create_is_sent(board: Board, service: str | None) -> None:
    nonce = board.evm.observe().create_nonce
    calls = [
        board.evm.create(
            purchase_id="",
            provider=board.who["provider"],
            amount=Usdc("25"),
            service=service,
            deadline=board.deadline,
            dispute_window=HOUR,
            create_nonce=number,
        )
        for number in (nonce, nonce + 1)
    ]
    assert len({call.escrow_id for call in calls}) == 2
    for call in calls:
        receipt = board.act("requester", lambda *_, data=call.data: data)
        (event,) = board.events_of(receipt)
        assert event.escrow_id == call.escrow_id
        assert event.service_hash == service_hash(service)
        assert (event.deadline, event.amount) == (board.deadline, Usdc("25"))
    assert board.evm.observe().create_nonce == nonce + 2


def test_a_foreign_create_in_between_shifts_the_id(board: Board) -> None:
    nonce = board.evm.observe().create_nonce
    terms: dict[str, Any] = {"provider": board.who["provider"], "amount": Usdc("25")}
    terms |= {"purchase_id": "", "service": "papers", "dispute_window": HOUR}
    terms |= {"deadline": board.deadline}
    planned = board.evm.create(**terms, create_nonce=nonce)
    board.act("requester", create("7"))

    receipt = board.act("requester", lambda *_: planned.data)

    (event,) = board.events_of(receipt)
    assert event.escrow_id != planned.escrow_id
    assert event.escrow_id == board.evm.create(**terms, create_nonce=nonce + 1).escrow_id
    assert (
        board.refusal("requester", "now", link(key=FRESH), str(planned.escrow_id)) == "Tx missing"
    )


@pytest.mark.parametrize(
    ("proof", "span"), [("", 2 * DAY), (word(HOUR), HOUR), (word(30 * DAY), 30 * DAY)]
)
def test_a_delivery_overwrites_the_window_and_makes_it_an_instant(
    board: Board, proof: str, span: int
) -> None:
    escrow_id = board.escrows["started"]
    assert board.chain.kernel("getTransaction", escrow_id)[12] == HOUR
    assert board.evm.escrow(escrow_id).window_ends is None

    receipt = board.act("provider", deliver(proof), escrow_id)

    (event,) = board.events_of(receipt)
    assert event.window_ends == event.at + span
    assert board.evm.escrow(escrow_id).window_ends == event.at + span
    assert board.refusal("stranger", "window", settle, escrow_id) == "Not authorized to settle"
    assert board.refusal("stranger", "window+1", settle, escrow_id) is None
    if span < DAY:
        assert board.refusal("requester", "deadline", dispute, escrow_id) == "Dispute window closed"


@pytest.mark.parametrize(("proof", "kept"), [("", "00" * 32), (HASH, HASH)])
def test_a_quotes_hash_is_kept(board: Board, proof: str, kept: str) -> None:
    board.act("provider", quote(proof), board.escrows["created"])
    stored = board.chain.kernel("getTransaction", board.escrows["created"])[13]
    assert stored == bytes.fromhex(kept)


@pytest.mark.parametrize("agreed", ["30", "0.05"])
def test_an_accepted_quote_is_what_the_link_pulls(board: Board, agreed: str) -> None:
    escrow_id = board.escrows["quoted"]
    board.act("requester", accept(agreed), escrow_id)
    assert board.evm.escrow(escrow_id).amount == Usdc(agreed)
    receipt = board.act("requester", link(), escrow_id)
    (fund,) = board.entries_of(receipt)
    assert (fund.kind, fund.amount) == ("fund", Usdc(agreed))
    assert board.chain.remaining(board.keys[escrow_id]) == Usdc(agreed)


def test_the_smallest_fee_is_taken_from_every_milestone_and_the_rest_settles(board: Board) -> None:
    escrow_id = board.escrows["started"]
    for _ in range(2):
        receipt = board.act("requester", release("1"), escrow_id)
        amounts = [str(e.amount) for e in board.entries_of(receipt)]
        assert amounts == ["0.95", "0.00005", "0.04995"]
    assert board.chain.remaining(board.keys[escrow_id]) == Usdc("23")
    said = board.refusal("requester", "now", release("23.000001"), escrow_id)
    assert said == "Insufficient escrow"

    board.act("provider", deliver(), escrow_id)
    receipt = board.act("requester", settle, escrow_id)
    amounts = [str(e.amount) for e in board.entries_of(receipt)]
    assert amounts == ["22.77", "0.00023", "0.22977"]


def test_an_escrow_that_milestones_emptied_settles_without_a_payment(board: Board) -> None:
    escrow_id = board.escrows["started"]
    receipt = board.act("requester", release("25"), escrow_id)
    assert "EscrowCompleted" in _names(receipt)
    board.act("provider", deliver(), escrow_id)
    receipt = board.act("requester", settle, escrow_id)
    assert _names(receipt) == ["StateTransitioned"]
    assert board.entries_of(receipt) == []


@pytest.mark.parametrize("state", ["funded", "settled"])
def test_an_escrow_key_is_used_once_for_ever(board: Board, state: str) -> None:
    other = link(key_of=state)
    said = board.refusal("requester", "now", other, board.escrows["created"])
    assert said == "Escrow ID already used"


def test_a_stranger_who_links_our_key_first_takes_it_and_is_not_booked_as_ours(
    board: Board,
) -> None:
    made = board.act("stranger", create_for("stranger", "0.05"))
    theirs = log_values(made, "TransactionCreated")["transactionId"]
    ours = board.escrows["created"]

    receipt = board.act("stranger", link(key=board.keys[ours]), theirs)

    assert [board.told(e) for e in board.events_of(receipt)] == ["escrow_moved funded"]
    assert board.entries_of(receipt) == []
    assert board.refusal("requester", "now", link(), ours) == "Escrow ID already used"
    assert board.evm.escrow(ours).state is EscrowState.CREATED


def test_an_unknown_id_is_told_as_missing_and_not_as_an_empty_escrow(board: Board) -> None:
    with pytest.raises(TxReverted, match="Tx missing"):
        board.evm.escrow(NEVER_CREATED)
    known = board.escrows["funded"]
    found = board.evm.escrows_at([NEVER_CREATED, known], block_number=board.chain.height)
    assert list(found) == [known]
