"""What must hold after every step, by rows and by the chain's own state."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from coordinator.chain.abi import token_abi
from coordinator.chain.actp.abi import kernel_abi, vault_abi
from coordinator.chain.simulated import genesis
from coordinator.domain.chain.accounts import account_name
from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.chain.events import EscrowState
from coordinator.domain.errors import LedgerTampered
from coordinator.domain.purchase.lifecycle import FINAL, STATUS_OF, Status
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import Usdc
from coordinator.executor.rounds import LEASE_SECONDS
from coordinator.ledger.proofs.verification import verify
from tests.simulation.tampering import THIEF

if TYPE_CHECKING:
    from tests.simulation.parts import Process
    from tests.simulation.simulation import Asked, Simulation

_DAY: Final = 86_400
# Of every agent in the simulation's policy.
THRESHOLD: Final = Usdc("25")
# Verifying reads the whole log: every so many steps, and at the end.
_AUDIT_EVERY: Final = 50
# In so many blocks a fault is final, and no node lags behind it any more.
_SETTLED_BLOCKS: Final = 16


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, rule: str, found: object = "") -> None:
        super().__init__(f"{rule}: {found}" if found else rule)


class Invariants:
    """Checks one run; it reads the database's file and the chain behind the product's back."""

    def __init__(self, simulation: Simulation) -> None:
        self._s = simulation
        self._file: sqlite3.Connection | None = None
        self._blocks_checked: set[str] = set()
        self._ended: dict[str, str] = {}
        self._cursor: tuple[int, str] | None = None
        self._version = -1
        self._count = 0
        self._contradictions_allowed = False
        self._allowance_struck = 0
        self._allowance_shaken_until = 0
        self._allowance_judged_from = 0
        self._keys = EscrowKeys(
            bytes.fromhex(simulation.secrets["COORDINATOR_ID_SECRET"]),
            simulation.node.deployment.chain_id,
            simulation.node.deployment.kernel,
        )
        self._bound: dict[tuple[str, str], str] = {}
        self._nonces_used = 0
        self._waits_since: dict[Process, tuple[tuple[Any, ...], float]] = {}
        self.approvals: set[str] = set()
        """Purchases that people may have approved."""

    def close(self) -> None:
        """Let go of the file; the next look opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows as they stand in the file; none before it is made."""
        if self._file is None:
            if not self._s.database.exists():
                return []
            self._file = sqlite3.connect(self._s.database, isolation_level=None)
        try:
            return self._file.execute(query, values).fetchall()
        except sqlite3.OperationalError as fault:
            if "no such table" in str(fault):
                return []
            raise

    # What callers were told.

    def answered(self, terms: Asked, purchase: Purchase) -> None:
        """A decision is answered after its commit; a key stays with its purchase."""
        found = self.rows("SELECT status FROM purchases WHERE id = ?", purchase.id)
        self._hold(found != [], "no decision is answered before its commit", purchase.id)
        if purchase.denied:
            return
        key = (terms.agent, terms.key)
        bound = self._bound.setdefault(key, purchase.id)
        self._hold(bound == purchase.id, "a key gives the purchase that it is bound to", key)
        if purchase.status in (Status.APPROVED, Status.AWAITING_APPROVAL):
            self.admitted(purchase)

    def bought(self, purchase_id: str) -> None:
        """What somebody was told is there."""
        found = self.rows("SELECT status FROM purchases WHERE id = ?", purchase_id)
        self._hold(found != [], "no decision is answered before its commit", purchase_id)

    def conflicted(self, terms: Asked) -> None:
        key = (terms.agent, terms.key)
        rows = self.rows(
            "SELECT 1 FROM idempotency_keys WHERE agent = ? AND idempotency_key = ?", *key
        )
        self._hold(rows != [], "only a bound key conflicts", key)

    def admitted(self, purchase: Purchase) -> None:
        """No admission makes a limit exceeded, by a sum over all holds."""
        rows = self.rows(
            "SELECT p.id, p.agent, CASE WHEN h.status = 'held' THEN h.amount ELSE h.posted END,"
            " h.placed_at, h.kind FROM holds h JOIN purchases p ON p.id = h.purchase_id"
        )
        (placed_at,) = [row[3] for row in rows if row[0] == purchase.id][:1] or [0]
        if placed_at != self._s.time.clock():
            return
        day = placed_at // _DAY
        sums: dict[str, int] = defaultdict(int)
        for _, agent, amount, at, kind in rows:
            today = at // _DAY == day
            sums["organisation total"] += amount
            sums["organisation day"] += amount * today
            if agent == purchase.agent and kind == "purchase":
                sums["agent total"] += amount
                sums["agent day"] += amount * today
        limits = {
            "organisation total": "1500",
            "organisation day": "250",
            "agent total": "600",
            "agent day": "120",
        }
        for name, limit in limits.items():
            self._hold(sums[name] <= Usdc(limit).base_units, "no admission exceeds a limit", name)

    def refused(self, fault: Exception) -> None:
        """Only a database that somebody edited is said to be edited."""
        said = isinstance(fault, LedgerTampered)
        self._hold(self._s.tampering.ever or not said, "untouched rows are believed", fault)

    def acted(self) -> None:
        """Somebody holds the lease and does its work."""
        self._waits_since.clear()

    def had_to_wait(self, process: Process) -> None:
        """Nobody waits for a lease whose holder does nothing, whatever clocks say."""
        (lease,) = self.rows("SELECT holder, token, expires_at_ms FROM leases")
        ticks = self._s.time.ticks
        seen, first = self._waits_since.get(process, (lease, ticks))
        first = first if seen == lease else ticks
        self._waits_since[process] = (lease, first)
        self._hold(ticks - first <= 3 * LEASE_SECONDS, "a lease ends with its length", ticks)

    def reorganised(self, *, below_final: bool) -> None:
        self._contradictions_allowed |= below_final

    # What must hold at any time.

    def check(self) -> None:
        """Every invariant; Broken names the first that does not hold."""
        self._count += 1
        self._check_treasurys_transactions()
        self._nonces_used = max(
            self._nonces_used, self._s.node.machine.nonce(self._s.treasury.lower())
        )
        self._note_allowance_faults()
        self._check_payments()
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._check_holds()
            self._check_counters()
            self._check_allowance()
            self._check_lane()
            self._check_approvals()
            self._check_books()
        if self._count % _AUDIT_EVERY == 0:
            self._check_audit()

    def _check_payments(self) -> None:
        s = self._s
        final = s.node.machine.chain.block(max(0, s.node.height - s.finality + 1))
        if s.payments is not None and final is not None and not self._contradictions_allowed:
            s.payments.check(final.timestamp)

    def unused(self) -> int:
        """How many payments for HTTP requests failed because nobody took them."""
        found = self.rows("SELECT 1 FROM purchases WHERE reason_code = 'authorisation_unused'")
        return len(found)

    def _data_version(self) -> int:
        rows = self.rows("SELECT (SELECT count(*) FROM audit), (SELECT sum(number) FROM cursors)")
        return hash(tuple(rows)) if rows else -1

    def _check_treasurys_transactions(self) -> None:
        """No transaction of the treasury's without a stored attempt, on chain or in the pool."""
        s, machine = self._s, self._s.node.machine
        head = machine.chain.head.number
        found = [tx for part in machine.pool.content(machine.nonce) for tx in part]
        for block in machine.chain.span(max(0, head - _SETTLED_BLOCKS), head):
            if block.hash not in self._blocks_checked:
                self._blocks_checked.add(block.hash)
                found += [mined.tx for mined in block.mined]
        for tx in found:
            if tx.sender != s.treasury.lower():
                continue
            if tx.hash in s.foreign:
                self._allowance_shaken_until = head + _SETTLED_BLOCKS
                continue
            stored = self.rows("SELECT 1 FROM attempts WHERE hash = ?", tx.hash)
            self._hold(stored != [], "no chain transaction without a stored attempt", tx.hash)

    def _note_allowance_faults(self) -> None:
        """Steps made while the allowance is taken away from behind may be refused for it."""
        struck, head = self._s.faults.struck, self._s.node.height
        count = struck["allowance_gone"] + struck["foreign_transaction"]
        if count != self._allowance_struck:
            self._allowance_struck = count
            self._allowance_shaken_until = head + _SETTLED_BLOCKS
        if head < self._allowance_shaken_until:
            found = self.rows("SELECT coalesce(max(nonce), -1) + 1 FROM steps")
            self._allowance_judged_from = found[0][0] if found else 0

    def _check_holds(self) -> None:
        rows = self.rows(
            "SELECT p.id, p.status, h.status, h.posted, h.amount, p.agent FROM purchases p"
            " LEFT JOIN holds h ON h.purchase_id = p.id AND h.kind = 'purchase'"
        )
        for purchase_id, status, hold, posted, amount, _ in rows:
            if status == Status.DENIED:
                self._hold(hold is None, "a denied purchase holds nothing", purchase_id)
                continue
            self._hold(hold is not None, "every promise has a hold", purchase_id)
            final = Status(status) in FINAL
            self._hold(final or hold == "held", "a hold lasts until its purchase ends", purchase_id)
            before = self._ended.get(purchase_id)
            if hold == "held":
                allowed = before is None or self._contradicted(purchase_id)
                self._hold(allowed, "a hold ends at most once", purchase_id)
                self._ended.pop(purchase_id, None)
            else:
                self._hold(
                    before in (None, hold), "a hold ends at most once", (purchase_id, before, hold)
                )
                self._ended[purchase_id] = hold
                self._hold(0 <= posted <= amount, "no more is posted than was held", purchase_id)

    def _contradicted(self, purchase_id: str) -> bool:
        told = self.rows(
            "SELECT 1 FROM audit WHERE event = 'contradiction' AND subject = ?", purchase_id
        )
        return self._contradictions_allowed and told != []

    def _check_counters(self) -> None:
        """Each counter is the sum of exactly the holds that charge it."""
        rows = self.rows(
            'SELECT c.scope_kind, c.scope_id, c."window", c.start, c.held, c.spent,'
            " coalesce(s.held, 0), coalesce(s.spent, 0) FROM counters c LEFT JOIN"
            " (SELECT e.value AS id, sum(CASE h.status WHEN 'held' THEN h.amount ELSE 0 END) AS"
            " held, sum(h.posted) AS spent FROM holds h, json_each(h.charges) e GROUP BY 1) s"
            " ON s.id = c.id"
        )
        for *key, held, spent, held_by, spent_by in rows:
            self._hold(
                (held, spent) == (held_by, spent_by),
                "a counter is the sum of its holds",
                (key, held, spent, held_by, spent_by),
            )
        charges = self.rows(
            'SELECT h.purchase_id, h.placed_at, x.start, x."window" FROM holds h JOIN hold_charges'
            " x ON x.hold_id = h.id WHERE x.\"window\" <> 'total'"
        )
        for purchase_id, placed_at, start, window in charges:
            seconds = {"hourly": 3600, "daily": _DAY}[window]
            same = placed_at // seconds == start // seconds
            self._hold(same, "a hold stays in the window of its instant", purchase_id)

    def _check_allowance(self) -> None:
        """Purchases never take each other's allowance.

        Those whose approve itself reverted, while the token was paused, have none to take.
        """
        found = self.rows(
            "SELECT s.purchase_id FROM steps s WHERE s.nonce >= ? AND s.revert_reason LIKE"
            " '%allowance%' AND coalesce((SELECT a.status FROM steps a WHERE a.kind = 'approve'"
            " AND a.nonce < s.nonce ORDER BY a.nonce DESC LIMIT 1), '') <> 'reverted'",
            self._allowance_judged_from,
        )
        self._hold(not found, "no purchase takes another's allowance", found)

    def _check_lane(self) -> None:
        """Nonces that the chain has never used are given out one after the other, without holes."""
        query = "SELECT nonce FROM steps WHERE nonce >= ? ORDER BY nonce"
        given = [nonce for (nonce,) in self.rows(query, self._nonces_used)]
        wanted = list(range(self._nonces_used, self._nonces_used + len(given)))
        self._hold(given == wanted, "no nonce is believed that the chain has not used", given[:3])
        query = "SELECT nonce FROM steps WHERE nonce >= ? AND status = 'displaced'"
        taken = self.rows(query, self._nonces_used)
        self._hold(not taken, "no nonce is believed that the chain has not used", taken[:3])

    def _check_approvals(self) -> None:
        """No signed step and no order stands on the word of an edited row."""
        query = (
            "SELECT DISTINCT p.id, p.amount FROM attempts a JOIN steps s ON s.id = a.step_id"
            " JOIN purchases p ON p.id = s.purchase_id"
            " WHERE s.kind IN ('create', 'link') AND p.amount > ?"
        )
        for purchase_id, _ in self.rows(query, THRESHOLD.base_units):
            known = purchase_id in self.approvals
            self._hold(known, "nothing is signed that nobody approved", purchase_id)
        if self._s.people is not None:
            self._s.people.check()
        found = self.rows("SELECT 1 FROM audit WHERE event = 'tampering_found' LIMIT 1")
        self._hold(self._s.tampering.ever or not found, "untouched rows are believed")

    def _check_books(self) -> None:
        """Where the books stand, journal and escrows are what the chain has in that block."""
        found = self.rows("SELECT number, hash FROM cursors WHERE name = 'books'")
        if not found or found[0] == self._cursor:
            return
        number, block_hash = found[0]
        block = self._s.node.machine.chain.block(number)
        if block is None or block.hash != block_hash:
            return
        if self._unread(number):
            return
        self._cursor = found[0]
        self._check_journal(number)
        self._check_escrows(number)
        self._check_evidence(number)

    def _unread(self, number: int) -> bool:
        """Whether an endpoint left a log out of a block up to ``number`` that is not final yet."""
        found = self.rows("SELECT number FROM cursors WHERE name = 'final'")
        final = found[0][0] if found else 0
        left_out = {block_hash for block_hash, _ in self._s.faults.forgotten}
        blocks = self._s.node.machine.chain.span(final + 1, number)
        return any(block.hash in left_out for block in blocks)

    def _check_journal(self, number: int) -> None:
        accounts: dict[str, int] = defaultdict(int)
        for debit, credit, amount in self.rows("SELECT debit, credit, amount FROM journal"):
            accounts[debit] += amount
            accounts[credit] -= amount
        wallet = [self._s.payments.wallet] if self._s.payments is not None else []
        for own in (self._s.treasury, *wallet):
            balance = self._read(genesis.USDC, token_abi().call("balanceOf", own), number)
            booked = accounts[account_name(own)]
            told = number, own, booked, balance
            self._hold(booked == balance, "the journal equals the chain", told)
        for account, booked in accounts.items():
            if account.startswith("escrow:"):
                data = vault_abi().call("remaining", account.removeprefix("escrow:"))
                left = self._read(genesis.VAULT, data, number)
                self._hold(left == booked, "an escrow's journal equals the vault", account)

    def _check_evidence(self, number: int) -> None:
        """What proves that a step was mined stands in a block of the chain."""
        rows = self.rows(
            "SELECT hash, block_number, block_hash FROM attempts WHERE block_number <= ?", number
        )
        for tx_hash, at, block_hash in rows:
            block = self._s.node.machine.chain.block(at)
            assert block is not None
            self._hold(block.hash == block_hash, "evidence stands on the chain", tx_hash)

    def _check_escrows(self, number: int) -> None:
        rows = self.rows(
            "SELECT e.escrow_id, e.state, e.escrow_key, p.escrow_key, p.status, p.id, p.amount"
            " FROM escrows e LEFT JOIN purchases p ON p.id = e.purchase_id"
            " WHERE e.escrow_key IS NULL OR e.escrow_key <> e.escrow_id"
        )
        for escrow_id, state, key, own_key, status, purchase_id, _ in rows:
            answer = self._call(
                genesis.KERNEL, kernel_abi().call("getTransaction", escrow_id), number
            )
            self._hold(isinstance(answer, str), "an escrow of the books exists", escrow_id)
            from coordinator.chain.actp.terms import STATES

            told = STATES[int(answer[2 + 64 * 3 : 2 + 64 * 4], 16)]
            self._hold(told == state, "an escrow's state is the chain's", (escrow_id, state, told))
            if key is not None and key == own_key:
                wanted = STATUS_OF[EscrowState(state)]
                self._hold(wanted == status, "a purchase stands where its escrow does", purchase_id)

    def _check_audit(self) -> None:
        process = next((p for p in self._s.processes if p is not None), None)
        if process is None or "audit" not in process.coordinator.opened.__dict__:
            return
        told = verify(process.coordinator.opened.audit)
        edited = self._s.tampering.stands
        self._hold(edited or told.ok, "the audit chain verifies", told.faults)
        self._hold(not edited or not told.ok, "an edited row is told")

    # What must hold at the end.

    def at_rest(self) -> bool:
        """Whether nothing is on its way: no open step, no open hold but of what is stranded."""
        steps = self.rows("SELECT 1 FROM steps WHERE status IN ('allocated', 'signed')")
        orders = self.rows("SELECT 1 FROM orders WHERE status = 'approved'")
        return not steps and not orders and not self._open()

    def _open(self) -> list[tuple[Any, ...]]:
        final = ",".join(f"'{status.value}'" for status in FINAL)
        return self.rows(
            "SELECT p.id, p.status, h.status FROM purchases p JOIN holds h ON h.purchase_id = p.id"
            f" WHERE (p.status NOT IN ({final}) OR h.status = 'held') AND p.stranded IS NULL"
            " AND p.status NOT IN ('disputed')"
        )

    def check_end(self) -> None:
        """Everything has come to a final state, and the chain was paid what was asked once."""
        steps = self.rows(
            "SELECT nonce, kind, status FROM steps WHERE status IN ('allocated', 'signed')"
        )
        self._hold(not steps, "no step stays open when faults stop", steps)
        self._hold(not self._open(), "every purchase comes to an end", self._open())
        self._check_audit()
        self._check_fundings()
        self._check_secrets()
        if self._s.payments is not None:
            self._s.payments.check_end()
        process = self._s._process(0)
        found = process.coordinator.reconcile().discrepancies
        known = ("unexplained_outflow", "unknown_escrow")
        told = [d.as_dict() for d in found if d.kind not in known]
        self._hold(not told, "books and chain agree", told)

    def _check_fundings(self) -> None:
        """Every funding on the canonical chain is what somebody asked for, once, at its price."""
        asked = {self._keys.key(*key): terms for key, terms in self._s.asked.items()}
        seen: set[str] = set()
        created = vault_abi().topic("EscrowCreated")
        paid_out = 0
        for block in self._s.node.machine.chain.span(0, self._s.node.height):
            for log in block.logs:
                if log["topics"][0] != created:
                    continue
                key, amount = log["topics"][1], int(log["data"][2:], 16)
                self._hold(key not in seen, "an escrow id is funded once", key)
                seen.add(key)
                terms = asked.get(key)
                self._hold(terms is not None, "no money without a purchase", key)
                assert terms is not None
                wanted = Usdc(terms.amount).base_units
                self._hold(amount == wanted, "what is paid is what was asked", terms)
                paid_out += amount
        transfers = token_abi().topic("Transfer")
        paid = [
            log["topics"][2][-40:]
            for block in self._s.node.machine.chain.span(0, self._s.node.height)
            for log in block.logs
            if log["topics"][0] == transfers
        ]
        withdrawn = paid.count(genesis.ACCOUNTS[7][2:].lower())
        self._hold(withdrawn <= self._s.withdrawals, "a withdrawal is carried out once", withdrawn)
        stolen = paid.count(THIEF[2:].lower())
        self._hold(stolen == 0, "nobody is paid whom nobody named", stolen)

    def _check_secrets(self) -> None:
        """Neither the key nor the id secret is in the database, as text or as bytes."""
        for file in sorted(self._s.folder.iterdir()):
            content = file.read_bytes()
            for name, secret in self._s.secrets.items():
                digits = secret.removeprefix("0x").lower()
                found = digits.encode() in content.lower() or bytes.fromhex(digits) in content
                self._hold(not found, "no secret is in the database", (name, file.name))

    def _read(self, to: str, data: str, number: int) -> int:
        return int(self._call(to, data, number), 16)

    def _call(self, to: str, data: str, number: int) -> Any:
        return self._s.node.ask([("eth_call", [{"to": to, "data": data}, hex(number)])])[0]

    def _hold(self, true: bool, rule: str, found: object = "") -> None:
        if not true:
            raise Broken(rule, found)
