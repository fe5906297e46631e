"""Build the objects of one coordinator from its settings; the only file that knows every part.

Building changes nothing: ``startup`` has the steps that write, claim or refuse.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.alerts.notify_urls import NotifyUrls
from coordinator.books.backup import Backup, back_up
from coordinator.books.follower import Follower
from coordinator.books.rebuilder import Rebuilder
from coordinator.books.reconciler import Reconciler
from coordinator.books.reporting import Reporter
from coordinator.books.rotation import Rotation
from coordinator.budgets.budgets import Budgets
from coordinator.budgets.upkeep import Upkeep
from coordinator.chain.actp.terms import MINIMUM_AMOUNT
from coordinator.chain.signers.signers import Signer
from coordinator.config import Secrets, Settings
from coordinator.domain.access.destinations import Networks, networks
from coordinator.domain.chain.escrow_key import EscrowKeys
from coordinator.domain.chain.steps import Receipt
from coordinator.domain.errors import InvalidRequest
from coordinator.domain.policy.policy import Policy
from coordinator.domain.ports import Chain, HeadHints, Observation
from coordinator.domain.usdc import Usdc
from coordinator.executor import Executor
from coordinator.executor.authorising import Authorising
from coordinator.executor.blocking import Blockers
from coordinator.executor.checkpoint import Checkpoint
from coordinator.executor.former import FormerRounds
from coordinator.executor.signed_rules import SignedRules
from coordinator.executor.tempo import Tempo
from coordinator.foundation import Foundation
from coordinator.ledger.chain.rotation import Key, RotationBook
from coordinator.ledger.ledger import Ledger
from coordinator.ledger.signer_ledger import SignerLedger
from coordinator.ledger.spend.words import Words
from coordinator.startup import (
    kill_switch,
)
from coordinator.treasury.fresh_balances import FreshBalances
from coordinator.treasury.treasury import Treasury
from coordinator.webhooks.delivery import Deliverer
from coordinator.webhooks.sending import Sender

if TYPE_CHECKING:
    from coordinator.chain.actp.chain import ActpChain


class Wiring(Foundation):
    """The parts of one coordinator, each built when it is first used.

    The chain's parts import web3 and are built only by what acts or reads the chain.
    """

    @cached_property
    def words(self) -> Words:
        return Words(lambda: self.chain, self.group_commit.read)

    @cached_property
    def budgets(self) -> Budgets:
        return Budgets(
            costs=self.costs,
            runs=self.runs,
            increases=self.increases,
            words=self.words,
            allocations=self.allocations,
            overlays=self.overlays,
            limits=self.limits,
            policies=self.policies,
            clock=self.clock,
        )

    @cached_property
    def notify_urls(self) -> NotifyUrls:
        return NotifyUrls(self.policies, self.policy_source, self.secrets)

    @cached_property
    def webhook_networks(self) -> Networks:
        """The networks besides public ones that webhooks may be in."""
        return networks(self.settings.webhook_allow)

    @cached_property
    def deliverer(self) -> Deliverer:
        return Deliverer(
            outbox=self.outbox,
            webhooks=self.webhooks,
            events=self.events,
            leases=self.webhook_leases,
            changes=self.changes,
            secrets=self.webhook_secrets,
            sender=Sender(self.webhook_networks),
            clock=self.clock,
            ticks=self.ticks,
        )

    @cached_property
    def blockers(self) -> Blockers:
        return Blockers(
            operations=self.operations,
            policies=self.policies,
            notices=self.notices,
            leases=self.leases,
            trouble=lambda: self.executor.trouble if "executor" in self.__dict__ else None,
            starting=lambda: "executor" in self.__dict__ and self.executor.starting,
        )

    @cached_property
    def chain(self) -> Chain:
        return self._chain_of(self.signer, wallet=self.wallet)

    def _chain_of(self, signer: Signer, *, wallet: str | None = None) -> ActpChain:
        from coordinator.chain.actp.chain import ActpChain

        s = self.settings
        chain = ActpChain(
            self.rpc,
            self.network,
            self.deployment,
            signer,
            confirmations=s.confirmations,
            finality=s.finality or self.network.finality,
            max_fee_wei=s.max_fee_wei,
            payer=self._payer,
            accounts=self.accounts.all,
            wallet=wallet,
        )
        chain.check()
        return chain

    @cached_property
    def follower(self) -> Follower:
        start = self.settings.start_block
        return Follower(
            chain=self.chain,
            books=self.books,
            steps=self.steps,
            start_block=self.deployment.block if start is None else start,
            clock=self.clock,
            reach=self.reach,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        return Reconciler(
            chain=self.chain,
            books=self.books,
            journal=self.journal,
            comparisons=self.comparisons,
            operations=self.operations,
            row_faults=partial(self.evidence.row_faults, self.database),
            follower=self.follower,
            clock=self.clock,
            writes_books=self.signer.can_sign,
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The audit log as this host's worker has seen it; on a simulated chain this process."""
        if self.network.simulated:
            return Checkpoint(None, self.audit, self.checkpoints, self._signed_rules)
        path, *before = [self._checkpoint_of(address) for address in self.own_addresses]
        return Checkpoint(path, self.audit, self.checkpoints, self._signed_rules, before=before)

    def _checkpoint_of(self, treasury: str) -> Path:
        name = f"audit-{self.deployment.chain_id}-{treasury.lower()}"
        if self._genesis:
            name += f"-{self._genesis[2:10]}"
        return self.settings.state_folder / f"{name}.json"

    @cached_property
    def _signed_rules(self) -> SignedRules:
        s = self.settings
        daily, total = s.worker_daily_limit, s.worker_total_limit
        return SignedRules(
            self.checkpoints,
            pins=s.pins,
            daily_limit=Usdc(daily) if daily is not None else None,
            total_limit=Usdc(total) if total is not None else None,
            wallet=self.wallet,
        )

    @cached_property
    def _head_hints(self) -> HeadHints | None:
        urls = self.settings.ws_urls
        if not urls or self.network.simulated:
            return None
        from coordinator.chain.rpc.subscription import HeadSubscription

        return HeadSubscription(urls)

    @cached_property
    def executor(self) -> Executor:
        return Executor(
            chain=self.chain,
            ledger=self,
            checkpoint=self.checkpoint,
            follow=self._follow,
            drift=self.reconciler.drift,
            upkeep=Upkeep(
                budgets=self.budgets,
                notices=self.notices,
                ticks=self.ticks,
                policies_due=self.treasury.put_policies_in_force,
            ).run,
            max_fee_wei=self.settings.max_fee_wei,
            ticks=self.ticks,
            allowance_limit=(
                None if self.chain.approves_each else Usdc(self.settings.allowance_limit)
            ),
            clock=self.clock,
            reach=self.reach,
            hints=self._head_hints,
            tempo=Tempo(
                ticks=self.ticks,
                local=self.network.local,
                poll_seconds=self.settings.poll_seconds,
            ),
            formers=[self._former(one) for one in self.former_accounts if one.can_sign],
            authorising=self._authorising,
        )

    def _follow(self, seen: Observation, final: bool) -> Mapping[str, Receipt] | None:
        receipts = self.follower.follow(seen, finalise=final).receipts
        if self._safe_check is not None:
            self.count_listed()
            self._safe_check.look()
        return receipts

    @property
    def _authorising(self) -> Authorising | None:
        """The part that signs payments for HTTP requests, if this process has the wallet's key."""
        wallet = self.x402_signer
        if wallet is None or not wallet.can_sign:
            return None
        return Authorising(
            book=self.authorisations,
            wallet=wallet.address,
            sign=wallet.sign_typed,
            token=lambda: self.chain.token_domain,
            clock=self.clock,
            reach=self.reach,
        )

    def _former(self, signer: Signer) -> FormerRounds:
        return FormerRounds(
            chain=self._chain_of(signer),
            ledger=SignerLedger(self, signer.address),
            to=self.signer.address,
            checkpoint=self.checkpoint,
            max_fee_wei=self.settings.max_fee_wei,
            ticks=self.ticks,
            clock=self.clock,
            reach=self.reach,
        )

    @cached_property
    def rotation(self) -> Rotation:
        def key_of(signer: Signer) -> Key:
            return Key(address=signer.address, sign=signer.sign_typed)

        keys = {signer.address: signer for signer in self.former_signers if signer.can_sign}
        return Rotation(
            book=RotationBook(self.transactions, self.accounts),
            present=key_of(self.signer) if self.signer.can_sign else None,
            formers=[key_of(signer) for signer in keys.values()],
            gas=lambda address: self._chain_of(keys[address]),
            leases=lambda address: SignerLedger(self, address).leases,
            clock=self.clock,
            safe=self.settings.safe_address,
        )

    @cached_property
    def escrow_keys(self) -> EscrowKeys:
        return EscrowKeys(self._id_secret, self.deployment.chain_id, self.deployment.kernel)

    @cached_property
    def _fresh_balances(self) -> FreshBalances:
        return FreshBalances(
            lambda: self.chain,
            self.operations,
            self.treasury_address,
            self.clock,
            lambda: self.acts,
        )

    @cached_property
    def treasury(self) -> Treasury:
        return Treasury(
            group_commit=self.group_commit,
            operations=self.operations,
            evidence=self.evidence,
            escrow_keys=self.escrow_keys,
            words=self.words,
            address=self.treasury_address,
            wallet=self.wallet,
            contracts=self.contracts,
            minimum=MINIMUM_AMOUNT,
            clock=self.clock,
            reach=self.reach,
            wake=self.wake,
            emit=self.emit,
            read_balances=self._fresh_balances.read,
            owners_withdraw=self.settings.payer == "safe",
            measure=self._measure,
        )

    @cached_property
    def reporter(self) -> Reporter:
        return Reporter(ledger=self, clock=self.clock)

    @cached_property
    def rebuilder(self) -> Rebuilder:
        return Rebuilder(
            chain=self.chain,
            formers=[self._chain_of(signer) for signer in self.former_accounts],
            books=self.books,
            operations=self.operations,
            follower=self.follower,
            reconciler=self.reconciler,
            audit=self.audit,
            imports=self.imports,
            checkpoint=self.checkpoint,
            clock=self.clock,
        )

    def back_up(self, path: Path) -> Backup:
        """A checked copy of the database; needs no chain. InvalidRequest before the first use."""
        if self.identity_book.identity() is None:
            raise InvalidRequest(f"the database {self.database.name} has nothing to back up yet")
        return back_up(self.database, path, self.audit)

    def close(self) -> None:
        """Stop the executor, let others act, and close the database.

        Closing again does nothing, nor does closing what the parent of a forked process uses.
        """
        if not self._opened.here():
            return
        self._opened.close()
        built = self.__dict__
        if "deliverer" in built:
            self.deliverer.stop()
        if "executor" in built:
            self.executor.stop()
        if "changes" in built:
            self.changes.close()
        if "database" in built:
            self.database.close()
        self._remove_ledger()

    def check(self) -> None:
        """Refuse a forked child (ForkedProcess) and any use after the close (CoordinatorClosed)."""
        self._opened.check()

    def here(self) -> bool:
        """Return False in a process that was forked from the one that uses it."""
        return self._opened.here()

    def wake(self) -> None:
        """Let the executor of this process, and those who wait in it, look at once."""
        if "executor" in self.__dict__:
            self.executor.wake()
        if "changes" in self.__dict__:
            self.changes.look()


def _free_builders() -> None:
    """Let a forked child build parts that a thread of its parent was building (Python 3.11)."""
    for part in (*vars(Wiring).values(), *vars(Foundation).values(), *vars(Ledger).values()):
        if hasattr(part, "lock") and isinstance(part, cached_property):
            setattr(part, "lock", threading.RLock())  # noqa: B010 - unknown to type checkers


os.register_at_fork(after_in_child=_free_builders)


def wire(
    env: Mapping[str, str], settings: Settings, *, policy: Policy | Path | None = None
) -> Wiring:
    """The wiring of an environment; COORDINATOR_KILL_AT is for tests of recovery."""
    return Wiring(
        settings, Secrets(env), policy=policy, reach=kill_switch(env.get("COORDINATOR_KILL_AT"))
    )
