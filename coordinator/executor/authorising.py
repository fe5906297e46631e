"""Sign what pays for HTTP requests: whoever asked waits for it, so it waits for no block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from coordinator.domain.ports import Clock, KillPoint, Reach
from coordinator.domain.typed_data import Domain, TypedData
from coordinator.ledger.proofs.evidence import Seen
from coordinator.ledger.tx.leases import Lease
from coordinator.ledger.x402.authorisation_book import AT_ONCE, AuthorisationBook, Signed

log = logging.getLogger(__name__)


class Authorising:
    """Signs authorisations with the wallet's key, each once it is judged, and keeps them.

    ``token`` tells the EIP-712 domain of USDC.
    """

    def __init__(
        self,
        *,
        book: AuthorisationBook,
        wallet: str,
        sign: Callable[[TypedData], str],
        token: Callable[[], Domain],
        clock: Clock,
        reach: Reach,
    ) -> None:
        self._book = book
        self.address = wallet
        self._sign = sign
        self._token = token
        self._clock = clock
        self._reach = reach
        # The last one of a whole batch; 0 to begin with the oldest.
        self._last = 0

    def is_waited_for(self) -> bool:
        """Whether a purchase waits for it."""
        return bool(self._book.unsigned())

    def next_ones(self) -> Sequence[str]:
        """Find purchases that wait for it: of many, others than the last time.

        What is kept back keeps nobody else waiting.
        """
        found = self._book.unsigned(after=self._last) or self._book.unsigned()
        self._last = found[-1][0] if len(found) == AT_ONCE else 0
        return [purchase_id for _, purchase_id in found]

    def sign(self, lease: Lease, purchase_ids: Sequence[str], seen: Seen) -> None:
        """Sign what may be signed of these; the rest is told to people, or waits."""
        now = self._clock()
        found = self._book.to_sign(purchase_ids, self.address, seen=seen, now=now)
        token = self._token() if found else None
        signed = [
            Signed(of, one, self._sign(one.message(token)))
            for of, one in found.items()
            if token is not None
        ]
        self._reach(KillPoint.AUTHORISATIONS_SIGNED)
        kept = self._book.store(lease, purchase_ids, signed, self.address, seen=seen, now=now)
        if kept:
            self._reach(KillPoint.AUTHORISATIONS_STORED)
            log.info("authorisations_signed count=%s", kept)
