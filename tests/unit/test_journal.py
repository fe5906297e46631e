"""Entries come from transfers and payouts alone, and balance like the accounts on chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coordinator.domain.chain.accounts import OwnAccount
from coordinator.domain.chain.events import ChainEvent, EscrowState, EventKind
from coordinator.domain.chain.journal import Entry, EntryKind, FundedEscrow, make_entries
from coordinator.domain.usdc import ZERO, Usdc

TREASURY = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OURS = [OwnAccount(TREASURY)]
OWN = OURS[0].name
VAULT = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
PROVIDER = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
FEES = "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"
KERNEL = "0x52908400098527886E0F7030069857D2E4169EE7"
STRANGER = "0x8617E340B3D01FA5F11F306F4090FD50E238070D"
ID, OTHER_ID = "0x" + "1d" * 32, "0x" + "2d" * 32
KEY, OTHER_KEY = "0x" + "1e" * 32, "0x" + "2e" * 32
ESCROW, OTHER_ESCROW = f"escrow:{KEY}", f"escrow:{OTHER_KEY}"
FUNDED = {KEY: FundedEscrow(ID, KEY, PROVIDER)}
BOTH = {**FUNDED, OTHER_KEY: FundedEscrow(OTHER_ID, OTHER_KEY, PROVIDER)}


def at(address: str) -> str:
    return f"address:{address.lower()}"


@dataclass
class Chain:
    """Writes logs one after the other, a block for each transaction."""

    events: list[ChainEvent] = field(default_factory=list)
    block: int = 0

    def tx(self, *logs: dict[str, Any]) -> None:
        self.block += 1
        self.same_block(*logs)

    def same_block(self, *logs: dict[str, Any]) -> None:
        index = sum(event.block_number == self.block for event in self.events)
        tx_hash = f"0x{self.block:032x}{index:032x}"
        for offset, log in enumerate(logs):
            self.events.append(
                ChainEvent(
                    block_number=self.block,
                    block_hash=f"0x{self.block:064x}",
                    log_index=index + offset,
                    tx_hash=tx_hash,
                    at=1_777_636_800 + self.block,
                    **log,
                )
            )


def transfer(sender: str, recipient: str, amount: str | Usdc) -> dict[str, Any]:
    return {
        "kind": EventKind.TRANSFER,
        "sender": sender,
        "recipient": recipient,
        "amount": Usdc(amount),
    }


def payout(recipient: str, amount: str | Usdc, key: str = KEY) -> dict[str, Any]:
    return {
        "kind": EventKind.PAYOUT,
        "recipient": recipient,
        "amount": Usdc(amount),
        "escrow_key": key,
    }


def funded(
    amount: str | Usdc, key: str = KEY, escrow_id: str = ID, provider: str = PROVIDER
) -> dict[str, Any]:
    return {
        "kind": EventKind.ESCROW_FUNDED,
        "amount": Usdc(amount),
        "escrow_key": key,
        "escrow_id": escrow_id,
        "provider": provider,
    }


def moved(state: EscrowState, escrow_id: str = ID) -> dict[str, Any]:
    return {"kind": EventKind.ESCROW_MOVED, "state": state, "escrow_id": escrow_id}


def entries_of(
    *logs: dict[str, Any],
    known: dict[str, FundedEscrow] | None = None,
    bonds: Iterable[str] = (),
    treasury: str = TREASURY,
) -> list[Entry]:
    chain = Chain()
    chain.tx(*logs)
    return make_entries(
        chain.events, accounts=[OwnAccount(treasury)], vault=VAULT, known=known or {}, bonds=bonds
    )


def told(entries: Iterable[Entry]) -> list[tuple[EntryKind, str, str, str]]:
    return [(entry.kind, entry.debit, entry.credit, str(entry.amount)) for entry in entries]


def balances(entries: Iterable[Entry]) -> dict[str, Usdc]:
    sums: dict[str, Usdc] = defaultdict(lambda: ZERO)
    for entry in entries:
        sums[entry.debit] += entry.amount
        sums[entry.credit] -= entry.amount
    return sums


def test_funding_moves_the_amount_from_the_treasury_to_the_escrow() -> None:
    made = entries_of(transfer(TREASURY, VAULT, "25"), funded("25"), moved(EscrowState.FUNDED))
    assert told(made) == [(EntryKind.FUND, ESCROW, OWN, "25.00")]
    assert made[0].escrow_key == KEY
    assert made[0].log_index == 0


def test_two_escrows_of_one_amount_that_one_transaction_funds_are_told_apart() -> None:
    first, second = funded("25"), funded("25", OTHER_KEY, OTHER_ID)
    pull = transfer(TREASURY, VAULT, "25")
    made = entries_of(pull, first, pull, second)
    assert told(made) == [
        (EntryKind.FUND, ESCROW, OWN, "25.00"),
        (EntryKind.FUND, OTHER_ESCROW, OWN, "25.00"),
    ]


def test_settling_pays_the_provider_and_the_fee_out_of_the_escrow() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED), payout(PROVIDER, "24.75"), payout(FEES, "0.25"), known=FUNDED
    )
    assert told(made) == [
        (EntryKind.PAYOUT, at(PROVIDER), ESCROW, "24.75"),
        (EntryKind.FEE, at(FEES), ESCROW, "0.25"),
    ]
    assert {entry.escrow_key for entry in made} == {KEY}


def test_an_archive_share_that_takes_a_detour_is_a_fee_like_the_rest() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED),
        payout(PROVIDER, "24.75"),
        payout(KERNEL, "0.00025"),
        payout(FEES, "0.24975"),
        known=FUNDED,
    )
    assert [entry.kind for entry in made] == [EntryKind.PAYOUT, EntryKind.FEE, EntryKind.FEE]
    assert balances(made)[ESCROW] == ZERO - Usdc("25")


@pytest.mark.parametrize("transfer_first", [True, False])
def test_a_refund_is_one_entry_though_the_chain_tells_it_twice(transfer_first: bool) -> None:
    logs = [transfer(VAULT, TREASURY, "25"), payout(TREASURY, "25")]
    if not transfer_first:
        logs.reverse()
    made = entries_of(moved(EscrowState.CANCELLED), *logs, known=FUNDED)
    assert told(made) == [(EntryKind.REFUND, OWN, ESCROW, "25.00")]


def test_a_late_reclaim_refunds_less_the_penalty_and_its_fee() -> None:
    made = entries_of(
        moved(EscrowState.CANCELLED),
        transfer(VAULT, TREASURY, "23.75"),
        payout(TREASURY, "23.75"),
        payout(PROVIDER, "1.20"),
        payout(FEES, "0.05"),
        known=FUNDED,
    )
    assert told(made) == [
        (EntryKind.REFUND, OWN, ESCROW, "23.75"),
        (EntryKind.PENALTY, at(PROVIDER), ESCROW, "1.20"),
        (EntryKind.FEE, at(FEES), ESCROW, "0.05"),
    ]


def test_two_refunds_of_the_same_amount_are_two_entries() -> None:
    made = entries_of(
        transfer(VAULT, TREASURY, "5"),
        payout(TREASURY, "5", KEY),
        transfer(VAULT, TREASURY, "5"),
        payout(TREASURY, "5", OTHER_KEY),
        known=BOTH,
    )
    assert told(made) == [
        (EntryKind.REFUND, OWN, ESCROW, "5.00"),
        (EntryKind.REFUND, OWN, OTHER_ESCROW, "5.00"),
    ]


def test_a_dispute_moves_the_bond_from_the_treasury_to_an_account_of_its_own() -> None:
    made = entries_of(transfer(TREASURY, VAULT, "1.25"), moved(EscrowState.DISPUTED), known=FUNDED)
    assert told(made) == [(EntryKind.BOND, f"bond:{ID}", OWN, "1.25")]


@pytest.mark.parametrize("end", [EscrowState.SETTLED, EscrowState.CANCELLED])
def test_a_bond_comes_back_to_the_treasury_or_is_lost_to_the_provider(end: EscrowState) -> None:
    back = entries_of(moved(end), transfer(VAULT, TREASURY, "1.25"), known=FUNDED, bonds=[ID])
    assert told(back) == [(EntryKind.BOND_RETURN, OWN, f"bond:{ID}", "1.25")]
    lost = entries_of(moved(end), transfer(VAULT, PROVIDER, "1.25"), known=FUNDED, bonds=[ID])
    assert told(lost) == [(EntryKind.BOND_LOSS, at(PROVIDER), f"bond:{ID}", "1.25")]


def test_a_bond_comes_back_once_and_what_comes_after_it_is_a_deposit() -> None:
    back = transfer(VAULT, TREASURY, "5")
    made = entries_of(moved(EscrowState.SETTLED), back, back, known=FUNDED, bonds=[ID])
    assert [entry.kind for entry in made] == [EntryKind.BOND_RETURN, EntryKind.DEPOSIT]
    assert balances(made)[f"bond:{ID}"] == ZERO - Usdc("5")


def test_a_split_dispute_pays_both_sides_and_returns_the_bond_apart() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED),
        transfer(VAULT, TREASURY, "10"),
        payout(TREASURY, "10"),
        payout(PROVIDER, "14.85"),
        payout(FEES, "0.15"),
        transfer(VAULT, TREASURY, "1.25"),
        known=FUNDED,
        bonds=[ID],
    )
    assert told(made) == [
        (EntryKind.REFUND, OWN, ESCROW, "10.00"),
        (EntryKind.PAYOUT, at(PROVIDER), ESCROW, "14.85"),
        (EntryKind.FEE, at(FEES), ESCROW, "0.15"),
        (EntryKind.BOND_RETURN, OWN, f"bond:{ID}", "1.25"),
    ]


def test_a_bond_as_large_as_the_refund_is_still_told_apart_from_it() -> None:
    made = entries_of(
        moved(EscrowState.CANCELLED),
        transfer(VAULT, TREASURY, "1"),
        payout(TREASURY, "1"),
        transfer(VAULT, TREASURY, "1"),
        known=FUNDED,
        bonds=[ID],
    )
    assert [entry.kind for entry in made] == [EntryKind.REFUND, EntryKind.BOND_RETURN]


def test_the_providers_bond_that_the_treasury_wins_is_a_deposit_of_the_vault() -> None:
    made = entries_of(moved(EscrowState.CANCELLED), transfer(VAULT, TREASURY, "1.25"), known=FUNDED)
    assert told(made) == [(EntryKind.DEPOSIT, OWN, at(VAULT), "1.25")]


def test_a_bond_is_remembered_from_an_earlier_transaction_of_the_same_events() -> None:
    chain = Chain()
    chain.tx(transfer(TREASURY, VAULT, "25"), funded("25"))
    chain.tx(transfer(TREASURY, VAULT, "1.25"), moved(EscrowState.DISPUTED))
    chain.tx(moved(EscrowState.SETTLED), transfer(VAULT, TREASURY, "1.25"))
    chain.tx(transfer(VAULT, TREASURY, "1.25"))
    made = make_entries(chain.events, accounts=OURS, vault=VAULT, known={})
    assert [entry.kind for entry in made] == [
        EntryKind.FUND,
        EntryKind.BOND,
        EntryKind.BOND_RETURN,
        EntryKind.DEPOSIT,
    ]


def test_two_disputes_that_end_in_one_transaction_both_give_their_bonds_back() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED, ID),
        transfer(VAULT, TREASURY, "1.25"),
        moved(EscrowState.SETTLED, OTHER_ID),
        transfer(VAULT, TREASURY, "2.50"),
        known=BOTH,
        bonds=[ID, OTHER_ID],
    )
    assert told(made) == [
        (EntryKind.BOND_RETURN, OWN, f"bond:{ID}", "1.25"),
        (EntryKind.BOND_RETURN, OWN, f"bond:{OTHER_ID}", "2.50"),
    ]


def test_a_cancellation_beside_a_settlement_does_not_make_the_payout_a_penalty() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED, ID),
        payout(PROVIDER, "24.75", KEY),
        moved(EscrowState.CANCELLED, OTHER_ID),
        payout(TREASURY, "25", OTHER_KEY),
        known=BOTH,
    )
    assert [entry.kind for entry in made] == [EntryKind.PAYOUT, EntryKind.REFUND]


def test_money_from_outside_is_a_deposit() -> None:
    made = entries_of(transfer(STRANGER, TREASURY, "100"))
    assert told(made) == [(EntryKind.DEPOSIT, OWN, at(STRANGER), "100.00")]


def test_money_to_the_outside_is_an_outflow() -> None:
    made = entries_of(transfer(TREASURY, STRANGER, "100"))
    assert told(made) == [(EntryKind.OUTFLOW, at(STRANGER), OWN, "100.00")]


def test_money_to_the_vault_without_an_escrow_is_an_outflow() -> None:
    assert told(entries_of(transfer(TREASURY, VAULT, "5"))) == [
        (EntryKind.OUTFLOW, at(VAULT), OWN, "5.00")
    ]
    made = entries_of(transfer(TREASURY, VAULT, "6"), transfer(TREASURY, VAULT, "5"), funded("5"))
    assert [entry.kind for entry in made] == [EntryKind.OUTFLOW, EntryKind.FUND]


def test_a_transfer_to_oneself_moves_nothing() -> None:
    assert entries_of(transfer(TREASURY, TREASURY, "5")) == []


def test_a_transfer_of_nothing_makes_no_entry() -> None:
    # USDC lets anybody move zero from anybody's account.
    assert entries_of(transfer(TREASURY, STRANGER, "0"), transfer(STRANGER, TREASURY, "0")) == []


def test_payouts_and_transfers_of_others_are_not_ours() -> None:
    made = entries_of(
        moved(EscrowState.SETTLED, OTHER_ID),
        payout(PROVIDER, "5", OTHER_KEY),
        transfer(VAULT, PROVIDER, "5"),
        transfer(STRANGER, VAULT, "5"),
        transfer(STRANGER, PROVIDER, "5"),
        known=FUNDED,
    )
    assert made == []


def test_addresses_are_compared_whatever_their_case() -> None:
    for treasury in (TREASURY, TREASURY.lower(), "0x" + TREASURY[2:].upper()):
        made = entries_of(
            transfer(TREASURY.lower(), "0x" + VAULT[2:].upper(), "25"),
            funded("25", provider=PROVIDER.lower()),
            payout("0x" + PROVIDER[2:].upper(), "25"),
            treasury=treasury,
        )
        assert told(made) == [
            (EntryKind.FUND, ESCROW, OWN, "25.00"),
            (EntryKind.PAYOUT, at(PROVIDER), ESCROW, "25.00"),
        ]


def test_entries_stand_in_chain_order_and_carry_their_place() -> None:
    chain = Chain()
    chain.tx(transfer(STRANGER, TREASURY, "1"))
    chain.same_block(transfer(STRANGER, TREASURY, "2"))
    chain.tx(transfer(VAULT, TREASURY, "3"), payout(PROVIDER, "4"), payout(TREASURY, "3"))
    made = make_entries(chain.events, accounts=OURS, vault=VAULT, known=FUNDED)
    assert [(entry.block_number, entry.log_index) for entry in made] == [
        (1, 0),
        (1, 1),
        (2, 1),
        (2, 2),
    ]
    source = {(event.block_hash, event.log_index): event for event in chain.events}
    for entry in made:
        event = source[(entry.block_hash, entry.log_index)]
        assert (entry.tx_hash, entry.at, entry.amount) == (event.tx_hash, event.at, event.amount)


def test_what_was_known_before_is_left_as_it_was() -> None:
    known, bonds = dict(FUNDED), [ID]
    entries_of(
        transfer(TREASURY, VAULT, "5"),
        funded("5", OTHER_KEY, OTHER_ID),
        moved(EscrowState.SETTLED, ID),
        transfer(VAULT, TREASURY, "1"),
        known=known,
        bonds=bonds,
    )
    assert (known, bonds) == (FUNDED, [ID])


amounts = st.integers(min_value=1_000_000, max_value=10**12)


class Books(RuleBasedStateMachine):
    """A chain beside its journal: whatever happens, both hold the same balances.

    The chain's side is the kernel's arithmetic: the fee is 1 %, at least 0.05 USDC, the penalty
    5 %. ``read`` splits the events over several readings, as a cursor does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain()
        self.seen = 0
        self.journal: list[Entry] = []
        self.treasury = 0
        self.remaining: dict[str, int] = {}
        self.amount: dict[str, int] = {}
        self.open: list[int] = []
        self.disputed: dict[int, int] = {}
        self.bonds: dict[int, int] = {}

    def _names(self, number: int) -> tuple[str, str]:
        return f"0x{number:064x}", f"0x{number + 10**6:064x}"

    def _pay(self, number: int, gross: int) -> list[dict[str, Any]]:
        fee = max(gross // 100, 50_000)
        _, key = self._names(number)
        self.remaining[key] -= gross
        logs = []
        if gross > fee:
            logs.append(payout(PROVIDER, Usdc.from_base_units(gross - fee), key))
        return [*logs, payout(FEES, Usdc.from_base_units(fee), key)]

    def _refund(self, number: int, amount: int) -> list[dict[str, Any]]:
        _, key = self._names(number)
        self.remaining[key] -= amount
        self.treasury += amount
        back = Usdc.from_base_units(amount)
        return [transfer(VAULT, TREASURY, back), payout(TREASURY, back, key)]

    @rule(amount=amounts)
    def deposit(self, amount: int) -> None:
        self.treasury += amount
        self.chain.tx(transfer(STRANGER, TREASURY, Usdc.from_base_units(amount)))

    @rule(amount=amounts)
    def withdraw(self, amount: int) -> None:
        self.treasury -= amount
        self.chain.tx(transfer(TREASURY, STRANGER, Usdc.from_base_units(amount)))

    @rule(amount=amounts)
    def fund(self, amount: int) -> None:
        number = len(self.remaining) + 1
        escrow_id, key = self._names(number)
        self.treasury -= amount
        self.remaining[key] = self.amount[key] = amount
        self.open.append(number)
        units = Usdc.from_base_units(amount)
        self.chain.tx(
            transfer(TREASURY, VAULT, units),
            funded(units, key, escrow_id),
            moved(EscrowState.FUNDED, escrow_id),
        )

    @precondition(lambda self: self.open)
    @rule(data=st.data(), late=st.booleans())
    def cancel(self, data: st.DataObject, late: bool) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.open.remove(number)
        escrow_id, key = self._names(number)
        penalty = self.amount[key] * 5 // 100 if late else 0
        logs = self._refund(number, self.remaining[key] - penalty)
        if late:
            logs += self._pay(number, penalty)
        self.chain.tx(moved(EscrowState.CANCELLED, escrow_id), *logs)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.open.remove(number)
        escrow_id, key = self._names(number)
        logs = self._pay(number, self.remaining[key])
        self.chain.tx(moved(EscrowState.SETTLED, escrow_id), *logs)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ours=st.booleans())
    def dispute(self, data: st.DataObject, ours: bool) -> None:
        number = data.draw(st.sampled_from(self.open))
        self.open.remove(number)
        escrow_id, key = self._names(number)
        bond = max(self.amount[key] * 5 // 100, 1_000_000)
        self.disputed[number] = bond
        if ours:
            self.bonds[number] = bond
            self.treasury -= bond
        payer = TREASURY if ours else PROVIDER
        self.chain.tx(
            transfer(payer, VAULT, Usdc.from_base_units(bond)),
            moved(EscrowState.DISPUTED, escrow_id),
        )

    @precondition(lambda self: self.disputed)
    @rule(
        data=st.data(),
        we_win=st.booleans(),
        end=st.sampled_from([EscrowState.SETTLED, EscrowState.CANCELLED]),
    )
    def resolve(self, data: st.DataObject, we_win: bool, end: EscrowState) -> None:
        number = data.draw(st.sampled_from(sorted(self.disputed)))
        escrow_id, key = self._names(number)
        left = self.remaining[key]
        refund = data.draw(st.integers(0, left))
        if left - refund < 50_000:
            refund = left
        bond = self.disputed.pop(number)
        self.bonds.pop(number, None)
        logs = [moved(end, escrow_id)]
        if refund:
            logs += self._refund(number, refund)
        if left > refund:
            logs += self._pay(number, left - refund)
        self.treasury += bond if we_win else 0
        winner = TREASURY if we_win else PROVIDER
        self.chain.tx(*logs, transfer(VAULT, winner, Usdc.from_base_units(bond)))

    @rule(amount=amounts)
    def strangers_settle(self, amount: int) -> None:
        units = Usdc.from_base_units(amount)
        stranger = f"0x{10**9 + self.chain.block:064x}"
        self.chain.tx(moved(EscrowState.SETTLED, stranger), payout(PROVIDER, units, stranger))

    @rule()
    def read(self) -> None:
        self.journal += self._entries(self.chain.events[self.seen :])
        self.seen = len(self.chain.events)

    def _entries(self, events: list[ChainEvent]) -> list[Entry]:
        before = {e.escrow_key for e in self.journal if e.kind is EntryKind.FUND}
        known = {}
        for number in range(1, len(self.remaining) + 1):
            escrow_id, key = self._names(number)
            if key in before:
                known[key] = FundedEscrow(escrow_id, key, PROVIDER)
        placed = {e.debit for e in self.journal if e.kind is EntryKind.BOND}
        ended = {
            e.credit for e in self.journal if e.kind in (EntryKind.BOND_RETURN, EntryKind.BOND_LOSS)
        }
        bonds = [account.removeprefix("bond:") for account in placed - ended]
        return make_entries(events, accounts=OURS, vault=VAULT, known=known, bonds=bonds)

    @invariant()
    def the_journal_holds_what_the_chain_holds(self) -> None:
        whole = [*self.journal, *self._entries(self.chain.events[self.seen :])]
        held = balances(whole)
        assert held[OWN].base_units == self.treasury
        for key, remaining in self.remaining.items():
            assert held[f"escrow:{key}"].base_units == remaining
        for number in range(1, len(self.remaining) + 1):
            escrow_id, _ = self._names(number)
            assert held[f"bond:{escrow_id}"].base_units == self.bonds.get(number, 0)
        assert sum(amount.base_units for amount in held.values()) == 0
        places = [(entry.block_hash, entry.log_index) for entry in whole]
        assert len(set(places)) == len(places)

    def teardown(self) -> None:
        at_once = make_entries(self.chain.events, accounts=OURS, vault=VAULT, known={})
        assert at_once == [*self.journal, *self._entries(self.chain.events[self.seen :])]


TestBooks = Books.TestCase


addresses = st.sampled_from([TREASURY, VAULT, PROVIDER, STRANGER])
usdc = st.integers(min_value=0, max_value=3).map(Usdc.from_base_units)
keys, ids = st.sampled_from([KEY, OTHER_KEY]), st.sampled_from([ID, OTHER_ID])
logs = st.one_of(
    st.builds(transfer, addresses, addresses, usdc),
    st.builds(payout, addresses, usdc, keys),
    st.builds(funded, usdc, keys, ids),
    st.builds(moved, st.sampled_from(EscrowState), ids),
)


@given(st.lists(st.lists(logs, max_size=6), max_size=5), st.sets(ids))
def test_the_same_events_give_the_same_entries_and_both_sides_are_equal(
    transactions: list[list[dict[str, Any]]], bonds: set[str]
) -> None:
    chain = Chain()
    for transaction in transactions:
        chain.tx(*transaction)
    first, again = (
        make_entries(list(chain.events), accounts=OURS, vault=VAULT, known=FUNDED, bonds=bonds)
        for _ in range(2)
    )
    assert first == again
    assert sum(amount.base_units for amount in balances(first).values()) == 0
    assert all(entry.debit != entry.credit for entry in first)
    places = [(entry.block_number, entry.log_index) for entry in first]
    assert places == sorted(places)


@given(st.lists(st.lists(st.builds(transfer, addresses, addresses, usdc), max_size=6), max_size=5))
def test_the_journals_treasury_is_the_sum_of_the_transfers_whatever_they_mean(
    transactions: list[list[dict[str, Any]]],
) -> None:
    chain = Chain()
    for transaction in transactions:
        chain.tx(*transaction)
    made = make_entries(chain.events, accounts=OURS, vault=VAULT, known={})
    expected = ZERO
    for event in chain.events:
        assert event.amount is not None
        expected += event.amount if event.recipient == TREASURY else ZERO
        expected -= event.amount if event.sender == TREASURY else ZERO
    assert balances(made)[OWN] == expected


PAYER = OwnAccount("0x52908400098527886E0F7030069857D2E4169EE8", first_block=3, place=1)


def entries_of_ours(chain: Chain, *ours: OwnAccount, bonds: Iterable[str] = ()) -> list[Entry]:
    return make_entries(chain.events, accounts=ours, vault=VAULT, known=FUNDED, bonds=bonds)


def test_a_transfer_between_two_of_our_accounts_is_one_entry() -> None:
    chain = Chain(block=2)
    chain.tx(transfer(TREASURY, PAYER.address, "100"))
    chain.tx(transfer(PAYER.address.lower(), TREASURY, "40"))
    made = entries_of_ours(chain, *OURS, PAYER)
    assert told(made) == [
        (EntryKind.INTERNAL, PAYER.name, OWN, "100.00"),
        (EntryKind.INTERNAL, OWN, PAYER.name, "40.00"),
    ]


def test_an_account_is_ours_in_its_own_blocks_alone() -> None:
    chain = Chain(block=1)
    for _ in range(4):
        chain.tx(transfer(TREASURY, PAYER.address, "1"), transfer(STRANGER, PAYER.address, "2"))
    made = entries_of_ours(chain, *OURS, replace(PAYER, last_block=4))
    outside = [(EntryKind.OUTFLOW, at(PAYER.address), OWN, "1.00")]
    inside = [
        (EntryKind.INTERNAL, PAYER.name, OWN, "1.00"),
        (EntryKind.DEPOSIT, PAYER.name, at(STRANGER), "2.00"),
    ]
    assert told(made) == [*outside, *inside, *inside, *outside]


def test_an_account_opens_and_closes_with_what_it_has_after_the_block() -> None:
    chain = Chain(block=2)
    turned = {"recipient": PAYER.address, "amount": Usdc("7")}
    chain.tx({"kind": EventKind.ACCOUNT_OPENED, **turned})
    chain.tx({"kind": EventKind.ACCOUNT_CLOSED, **turned})
    made = entries_of_ours(chain, *OURS, PAYER)
    assert told(made) == [
        (EntryKind.OPENING, PAYER.name, "opening", "7.00"),
        (EntryKind.CLOSING, at(PAYER.address), PAYER.name, "7.00"),
    ]
    assert {account.opening_index for account in (*OURS, PAYER)} == {-1, -3}
    assert {account.closing_index for account in (*OURS, PAYER)} == {-2, -4}


def test_what_comes_back_goes_to_the_account_that_it_is_sent_to() -> None:
    chain = Chain(block=2)
    chain.tx(transfer(VAULT, PAYER.address, "5"), payout(PAYER.address, "5"))
    chain.tx(moved(EscrowState.SETTLED), transfer(VAULT, PAYER.address, "1.25"))
    made = entries_of_ours(chain, *OURS, PAYER, bonds=[ID])
    assert told(made) == [
        (EntryKind.REFUND, PAYER.name, ESCROW, "5.00"),
        (EntryKind.BOND_RETURN, PAYER.name, f"bond:{ID}", "1.25"),
    ]
