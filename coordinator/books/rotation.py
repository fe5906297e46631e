"""Rotate the treasury's key: begin with both keys, follow the former account, finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.domain.chain.rotation import FormerAccount
from coordinator.domain.errors import ConfigurationError, InvalidRequest
from coordinator.domain.ports import Clock, GasSender
from coordinator.ledger.chain.rotation import Key, RotationBook
from coordinator.ledger.tx.leases import LeaseBook, new_holder

_LEASE_SECONDS: Final = 10
_LOOK_SECONDS: Final = 1.0

Leases = Callable[[str], LeaseBook]
"""The leases of an account's executor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The operator's side of a rotation; the worker ends escrows and moves USDC meanwhile.

    ``present`` and ``formers`` are the accounts that the settings name, those with a key only;
    ``safe`` is the treasury where they sign for one, which keeps its USDC and its escrows.
    """

    book: RotationBook
    present: Key | None
    formers: Sequence[Key]
    gas: Callable[[str], GasSender]
    leases: Leases
    clock: Clock
    safe: str | None = None

    def begin(self, *, by: str) -> bool:
        """Make the present key's account the treasury, or the Safe's signer; False when it is.

        InvalidRequest while a worker acts for the former one.
        """
        if self.present is None or not self.formers:
            raise ConfigurationError(
                "a rotation needs both keys: set COORDINATOR_SIGNER to the new one and"
                " COORDINATOR_FORMER_SIGNERS to the one before"
            )
        former = self.formers[0]
        leases = self.leases(former.address)
        lease = leases.acquire(new_holder(), seconds=_LEASE_SECONDS)
        if lease is None:
            raise InvalidRequest(f"a worker acts for {former.address}: stop it first")
        try:
            if self.safe is not None:
                return self.book.change_key(
                    self.safe, former, self.present, by=by, now=self.clock()
                )
            return self.book.begin(former, self.present, by=by, now=self.clock())
        finally:
            leases.release(lease)

    def status(self) -> Sequence[FormerAccount]:
        return self.book.formers()

    def finish(self, *, by: str, timeout_seconds: float) -> Sequence[FormerAccount]:
        """End every former account that has nothing left to do, and move its ETH to the treasury.

        InvalidRequest while one has; again, it goes on where it was interrupted: a former account
        sends its ETH to the treasury alone, under a nonce that nothing else takes any more.
        """
        known = self.status()
        for account in known:
            self.book.finish(account.address, by=by, now=self.clock())
        assert self.present is not None
        for key in self.formers:
            if self.safe is not None or any(one.address == key.address for one in known):
                self._move_gas(key.address, self.present.address, timeout_seconds)
        return self.status()

    def _move_gas(self, former: str, to: str, timeout_seconds: float) -> None:
        sender, deadline = self.gas(former), time.monotonic() + timeout_seconds
        sent = sender.send_gas(to)
        while sent is not None and not sender.receipts([sent]):
            if time.monotonic() >= deadline:
                raise InvalidRequest(
                    f"the ETH of {former} is on its way in {sent}: run this again to see it arrive"
                )
            time.sleep(_LOOK_SECONDS)
