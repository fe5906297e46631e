"""A coordinator of its own for one test: fresh key, funded treasury, fresh database."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eth_account import Account

from coordinator import Coordinator
from coordinator.chain.abi import token_abi
from coordinator.config import Secrets, load_settings
from coordinator.domain.chain.accounts import account_name
from coordinator.domain.chain.journal import Entry
from coordinator.domain.chain.steps import Step, StepKind
from coordinator.domain.policy.policy import Policy
from coordinator.domain.policy.text import parse_policy
from coordinator.domain.ports import KillPoint
from coordinator.domain.purchase.purchase import Purchase
from coordinator.domain.usdc import ZERO, Usdc
from coordinator.executor import Executor
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.migrate import migrate
from coordinator.ledger.store.opening import open_database
from coordinator.wiring import Wiring
from tests.integration import stores
from tests.integration.local_chain import LocalChain
from tests.integration.stores import Store
from tests.integration.treasuries import SafeTreasury, deploy_treasury, usual_limits

AGENT = "research-agent"
_ROUNDS_MAX = 16

_LOCK_TIMEOUT_SECONDS = 45
POLICY = """
[organisation]
total_limit = "10000"
daily_limit = "10000"

[agents.research-agent]
per_purchase_limit = "1000"
total_limit = "2000"
approval_threshold = "50"

[agents.data-agent]
per_purchase_limit = "1000"
total_limit = "2000"
approval_threshold = "50"

[providers.paper-api]
address = "{provider}"
service = "papers"

[providers.other-api]
address = "{other_provider}"

[approvals]
approvers = ["alice", "bob"]

[escrow]
create_within = "1h"
deadline_after = "24h"
dispute_window = "48h"
settle = "{settle}"

[alerts]
gas_balance_below_eth = "0.0005"
"""


class World:
    """One treasury on the chain. Blocks are held: nothing happens between two lines of a test.

    With ``safe``, its limits but for the usual ones, it pays from a Safe.

    ``clock`` is the wall clock plus all time passed by ``pass_time``. The coordinator decides
    without a thread of its own; ``round`` is one round of its executor.
    """

    def __init__(
        self,
        chain: LocalChain,
        folder: Path,
        store: Store,
        *,
        usdc: str = "1000",
        wei: int = 10**17,
        settle: str = "after_window",
        provider: str | None = None,
        more_secrets: Mapping[str, str] | None = None,
        safe: Mapping[str, Any] | None = None,
        **settings: str,
    ) -> None:
        self.chain = chain
        self.folder = folder
        self.store = store
        self.policy = self.make_policy(settle=settle, provider=provider)
        self._passed = 0
        self._host = 1
        self._due_at: dict[KillPoint, Callable[[], object]] = {}
        self._opened: list[Coordinator] = []
        self.secrets = {
            "TREASURY_PRIVATE_KEY": "0x" + secrets.token_hex(32),
            "COORDINATOR_ID_SECRET": secrets.token_hex(32),
        } | dict(more_secrets or {})
        self.database = store.url()
        self.safe: SafeTreasury | None = None
        if safe is not None:
            key = Account.from_key(self.secrets["TREASURY_PRIVATE_KEY"]).address
            self.safe = deploy_treasury(chain, usual_limits(chain, member=key, **safe), usdc="0")
            places = self.safe.places
            settings |= {
                "payer": "safe",
                "safe_address": places.safe,
                "roles_address": places.roles,
            }
        self._settings = settings
        self.coordinator = self.open()
        self.treasury = self.coordinator.wiring.treasury_address
        self.signer = self.coordinator.wiring.signer.address
        chain.fund(self.treasury, usdc=usdc, wei=0)
        chain.fund(self.signer, usdc="0", wei=wei)
        chain.hold_blocks()

    def make_policy(self, *, settle: str, provider: str | None = None) -> Policy:
        chain = self.chain
        text = POLICY.format(
            provider=provider or chain.provider, other_provider=chain.other_provider, settle=settle
        )
        return parse_policy(text, name="policy.toml")

    def environment(self, **settings: str) -> dict[str, str]:
        """The variables of a process of this treasury, without secrets."""
        chosen = {
            "rpc_url": self.chain.url,
            "database_url": self.database,
            "deployments_folder": str(self.chain.folder),
            "state_folder": str(self.folder / f"state-{self._host}"),
        }
        chosen |= settings
        return {f"COORDINATOR_{name.upper()}": value for name, value in chosen.items()}

    def open(
        self, database: str | None = None, *, act: bool = False, **settings: str
    ) -> Coordinator:
        """A coordinator of the same treasury, on the same or another database."""
        url = self.store.migrated(database or self.database)
        env = self.environment(**{"database_url": url} | self._settings | settings)
        wiring = Wiring(
            load_settings(env),
            Secrets(self.secrets),
            policy=self.policy,
            clock=self.clock,
            reach=self._reach,
        )
        # A slow machine stands still for seconds; a person would not wait so long.
        url = env["COORDINATOR_DATABASE_URL"]
        wiring.database = open_database(url, lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS)
        migrate(wiring.database)
        coordinator = Coordinator(wiring, act=act)
        self._opened.append(coordinator)
        return coordinator

    def apply(self, policy: Policy) -> None:
        """Put another policy in force, in the running coordinator too."""
        # A copy of a policy remembers the hash of the first.
        self.policy = policy = Policy.from_dict(policy.document())
        self.wiring.activate_policy(policy, author="olga", reason="a test", now=self.clock())

    def restart(self, database: str | None = None, **settings: str) -> Coordinator:
        """Close the coordinator and go on with a new one, on ``database`` from now on."""
        self._settings |= settings
        self.coordinator.close()
        self.database = database or self.database
        self.coordinator = self.open()
        return self.coordinator

    def change_host(self) -> None:
        """Start next time where no worker of this treasury has run."""
        self._host += 1

    def close(self) -> None:
        for coordinator in self._opened:
            coordinator.close()

    def clock(self) -> int:
        return int(time.time()) + self._passed

    def at(self, point: KillPoint, act: Callable[[], object]) -> None:
        """Let ``act`` happen once, when a coordinator next reaches ``point``."""
        self._due_at[point] = act

    def _reach(self, point: KillPoint) -> None:
        act = self._due_at.pop(point, None)
        if act is not None:
            act()

    def pass_time(self, seconds: int) -> None:
        """Both clocks go on by ``seconds``; the chain's with a new block."""
        self._passed += seconds
        self.chain.pass_time(seconds)

    def next_block_at(self, instant: int) -> None:
        """Both clocks go on: the next block will be at exactly ``instant``."""
        self._passed += instant - self.chain.time
        self.chain.rpc.call("evm_setNextBlockTimestamp", instant)

    def pass_time_until(self, instant: int) -> None:
        """Mine a block at exactly ``instant``."""
        self.next_block_at(instant)
        self.chain.mine()

    # Driving.

    @property
    def wiring(self) -> Wiring:
        return self.coordinator.wiring

    @property
    def executor(self) -> Executor:
        return self.coordinator.wiring.executor

    def round(self) -> None:
        """One round of the executor; AssertionError if it may not act."""
        assert self.executor.run_once(), "another executor holds the lease"

    def go(self) -> None:
        """Rounds and blocks until nothing is in flight and nothing waits to be created."""
        for _ in range(_ROUNDS_MAX):
            self.round()
            if self.executor.idle():
                # What this round ended gives its hold back in the next.
                self.round()
                return
            self.chain.mine()
        raise AssertionError(f"not idle after {_ROUNDS_MAX} rounds: {self.in_flight()}")

    def unpause(self) -> None:
        """An approver has looked at why everything was paused."""
        assert "organisation" in {str(p) for p in self.wiring.operations.pauses()}
        assert self.coordinator.unpause("looked at it", by="alice")

    def sent_as(self, kind: StepKind) -> StepKind:
        """The kind of the step that makes a call of this kind: a Safe funds in batches."""
        together = (StepKind.APPROVE, StepKind.CREATE, StepKind.LINK)
        return StepKind.BATCH if self.safe is not None and kind in together else kind

    @property
    def unfunded(self) -> str:
        """How a purchase ends whose funding was refused: a Safe leaves no escrow to cancel."""
        return "cancelled" if self.safe is None else "failed"

    def in_flight(self) -> list[Step]:
        return self.wiring.steps.in_flight()

    def hold_back(self, unwanted: Callable[[Step], bool]) -> list[Step]:
        """Leave only our other transactions in the pool; the steps whose bytes are lost there.

        A node may drop what it took. ``send_bytes`` brings them back.
        """
        self.chain.rpc.call("anvil_dropAllTransactions")
        steps = self.in_flight()
        self.send_bytes([step for step in steps if not unwanted(step)])
        return [step for step in steps if unwanted(step)]

    def send_bytes(self, steps: Sequence[Step]) -> None:
        """Send the stored bytes of steps again, which anybody may do."""
        for step in steps:
            self.chain.rpc.call("eth_sendRawTransaction", step.attempts[-1].raw)

    def send_as_treasury(self, to: str, data: str, **fields: Any) -> str:
        """A transaction that somebody else made with the treasury's key, left in the pool."""
        with self.chain.as_account(self.signer):
            return self.chain.send(self.signer, to, data, **fields)

    def send_usdc_away(self, amount: str, **fields: Any) -> str:
        """Leave in the pool a transfer that the ledger knows nothing of."""
        data = token_abi().call("transfer", self.chain.stranger, Usdc(amount).base_units)
        if self.safe is None:
            return self.send_as_treasury(self.chain.deployment.usdc, data, **fields)
        # As when its owners do it.
        self.chain.rpc.call("anvil_setBalance", self.treasury, hex(10**18))
        with self.chain.as_account(self.treasury):
            return self.chain.send(self.treasury, self.chain.deployment.usdc, data, **fields)

    # Buying.

    def buy(self, amount: str = "25.00", *, agent: str = AGENT, **terms: Any) -> Purchase:
        """Ask to buy papers; nothing is signed yet."""
        asked: dict[str, Any] = {"provider": "paper-api", "purpose": "a test", "wait": False}
        asked |= terms
        return self.coordinator.agent(agent).purchase(amount=amount, **asked)

    def fund(self, amount: str = "25.00", **terms: Any) -> Purchase:
        """A purchase that is funded."""
        asked = self.buy(amount, **terms)
        self.go()
        purchase = self.get(asked)
        assert purchase.status == "funded", purchase.reason
        return purchase

    def buy_and_send(self, amount: str = "25.00", **terms: Any) -> Purchase:
        """A purchase whose create and link both wait in the pool."""
        purchase = self.buy(amount, **terms)
        self.round()
        parts = [call for step in self.in_flight() for call in step.call.parts]
        kinds = [call.kind.value for call in parts if call.purchase_id == purchase.id]
        assert kinds == ["create", "link"]
        assert len(self.chain.pool(self.signer)) == len(self.in_flight())
        return purchase

    def to_settle(self, amount: str = "5.00") -> Purchase:
        """A delivered purchase that the next round settles, having asked the kernel first."""
        purchase = self.fund(amount)
        self.chain.deliver(purchase.escrow_id)
        self.go()
        assert self.coordinator.settle(purchase.id, approver="alice").done
        return purchase

    def get(self, purchase: Purchase) -> Purchase:
        return self.coordinator.get(purchase.id)

    def status(self, purchase: Purchase) -> str:
        return self.get(purchase).status.value

    # The books.

    def rows(self, query: str, *values: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """Rows as they stand in the database, read past the program."""
        return stores.rows(database or self.database, query, *values)

    def edit(self, statement: str, *values: str | int) -> None:
        """Change the database behind the program's back."""
        stores.edit(self.database, statement, *values)

    def approvals_sent(self) -> list[str]:
        """The allowances that were signed, in nonce order."""
        rows = self.rows("SELECT usdc FROM steps WHERE kind = 'approve' ORDER BY nonce")
        return [str(Usdc.from_base_units(units)) for (units,) in rows]

    def steps_of(self, purchase: Purchase) -> list[Step]:
        """Its steps in nonce order."""
        with self.wiring.database.read() as connection:
            return self.wiring.steps.of_purchases(connection, [purchase.id])

    def hold(self, purchase: Purchase, kind: str = "purchase") -> tuple[str, Usdc]:
        """(status, posted) of the purchase's hold."""
        ((status, posted),) = self.rows(
            "SELECT status, posted FROM holds WHERE purchase_id = ? AND kind = ?",
            purchase.id,
            kind,
        )
        return status, Usdc.from_base_units(posted)

    def usage(self, scope: str = "organisation", of: str = "") -> tuple[Usdc, Usdc]:
        """(held, spent) of a scope in total."""
        found = self.rows(
            "SELECT held, spent FROM counters"
            " WHERE scope_kind = ? AND scope_id = ? AND \"window\" = 'total'",
            scope,
            of,
        )
        held, spent = found[0] if found else (0, 0)
        return Usdc.from_base_units(held), Usdc.from_base_units(spent)

    def entries(self) -> list[Entry]:
        return list(self.wiring.journal.entries())

    def moves(self, purchase: Purchase | None = None) -> list[tuple[str, str]]:
        """(kind, amount) of the journal's entries, of one purchase or of all."""
        return [
            (entry.kind.value, str(entry.amount))
            for entry in self.entries()
            if purchase is None or entry.escrow_key == purchase.escrow_key
        ]

    def discrepancies(self) -> list[tuple[str, str | None]]:
        """(kind, amount) of everything that reconciling finds."""
        found = self.coordinator.reconcile().discrepancies
        return [(d.kind, str(d.amount) if d.amount is not None else None) for d in found]

    def check_books(self) -> None:
        """Budget, journal, chain and audit log agree, each read by itself."""
        found = self.coordinator.reconcile().discrepancies
        assert not found, found
        assert self._booked(account_name(self.treasury)) == self.chain.balance(self.treasury)
        for (key,) in self.rows("SELECT escrow_key FROM escrows WHERE escrow_key IS NOT NULL"):
            assert self._booked(f"escrow:{key}") == self.chain.remaining(key)
        for scope in {row for row in self.rows("SELECT scope_kind, scope_id FROM counters")}:
            held, spent = self._charged(*scope)
            assert self.usage(*scope) == (held, spent), scope
        assert verify(self.wiring.audit).ok

    def check_nothing_spent(self, agent: str = AGENT) -> None:
        """Every counter is back where it started."""
        assert self.usage() == self.usage("agent", agent) == (ZERO, ZERO)

    def _booked(self, account: str) -> Usdc:
        ((units,),) = self.rows(
            "SELECT coalesce(sum(CASE WHEN debit = ? THEN amount ELSE -amount END), 0)"
            " FROM journal WHERE debit = ? OR credit = ?",
            *[account] * 3,
        )
        return Usdc.from_base_units(units)

    def _charged(self, scope: str, of: str) -> tuple[Usdc, Usdc]:
        ((held, spent),) = self.rows(
            "SELECT coalesce(sum(CASE WHEN status = 'held' THEN amount END), 0),"
            " coalesce(sum(posted), 0) FROM holds WHERE id IN"
            " (SELECT hold_id FROM hold_charges WHERE scope_kind = ? AND scope_id = ?)",
            scope,
            of,
        )
        return Usdc.from_base_units(held), Usdc.from_base_units(spent)
