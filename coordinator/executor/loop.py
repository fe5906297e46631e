"""The executor's thread: it looks at the chain and runs rounds as often as they are due."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from coordinator.domain.chain.events import Block
from coordinator.domain.errors import ChainUnavailable, LeaseLost, LedgerUnavailable
from coordinator.domain.ports import HeadHints, Observation
from coordinator.executor.rounds import RENEW_SECONDS, Rounds
from coordinator.executor.tempo import Pace, Tempo
from coordinator.ledger.ledger import Ledger

log = logging.getLogger(__name__)

_FAULT_SECONDS: Final = 0.5
_FAULT_SECONDS_MAX: Final = 5.0


class Executor(Rounds):
    """One thread of work for one signer.

    ``tempo`` says when the chain is looked at. Whoever asked something is waited for no longer than
    a change of the ledger takes to be seen. ``hints`` of new heads are wanted while something is in
    flight. A fault that can't be (ImpossibleState, a failed assertion) stops it: ``fault``.
    """

    def __init__(
        self, *, ledger: Ledger, tempo: Tempo, hints: HeadHints | None = None, **terms: Any
    ) -> None:
        super().__init__(ledger=ledger, **terms)
        self._hints = hints
        if hints is not None:
            hints.tell(self._hinted, self._unhinted)
        self._purchases = ledger.purchases
        self._bonds = ledger.bonds
        self._tempo = tempo
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        # Somebody asks for a round; one is owed until it was done.
        self._asked = self._owed = False
        self.fault: BaseException | None = None
        #: Why the last round could not be done, for people; None when it was.
        self.trouble: str | None = None

    def start(self) -> None:
        """Work in a background thread until ``stop``; a second start changes nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="coordinator-executor", daemon=True
                )
                self._thread.start()

    def wait_for_look(self, timeout_seconds: float) -> bool:
        """Wait until the chain was followed once since ``start``; False at the timeout.

        While another executor acts there is nothing to wait for: it follows the chain.
        """
        return self._looked.wait(timeout_seconds)

    def wake(self) -> None:
        """Start the next round at once."""
        self._asked = True
        self._woken.set()

    def _hinted(self, number: int, block_hash: str) -> None:
        """Look at the chain at once where that is due with a head that was announced."""
        tempo = self._tempo
        tempo.announced(number, block_hash)
        if tempo.pace is Pace.BUSY:
            self._woken.set()

    def _unhinted(self) -> None:
        """Go on at the usual beat: nothing is announced for now."""
        self._tempo.announcements_ended()
        self._woken.set()

    def stop(self) -> None:
        """Stop after the current round and let another process act at once."""
        self._stopping.set()
        self._woken.set()
        if self._hints is not None:
            self._hints.stop()
        self._changes.unsubscribe(self._notice)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.release()

    @property
    def starting(self) -> bool:
        """Whether it was started and has not followed the chain yet."""
        return self._thread is not None and not self._followed

    def _run(self) -> None:
        self._changes.subscribe(self._notice)
        pause = _FAULT_SECONDS
        while not self._stopping.is_set():
            try:
                self.turn()
                left, pause, self.trouble = self._seconds_left(), _FAULT_SECONDS, None
            except (ChainUnavailable, LedgerUnavailable) as fault:
                log.warning("executor_waits reason=%s", fault)
                self.trouble = str(fault)
                left, pause = pause, min(pause * 2, _FAULT_SECONDS_MAX)
            except LeaseLost:
                log.warning("executor_lease_lost")
                self._lease, left = None, self._tempo.standby_seconds
            except Exception as fault:
                log.exception("executor_stopped")
                self.fault = fault
                self._changes.look()
                return
            self._woken.wait(left)

    def turn(self) -> None:
        """Run a round where there is something to do, and renew the lease where that is due."""
        if self._lease is not None:
            self._renew()
        try:
            self._act()
        except ChainUnavailable:
            # Whoever waited for a silent endpoint is about to wait again.
            self._renew()
            raise
        self._renew()

    def _act(self) -> None:
        self._woken.clear()
        if self._asked:
            self._asked, self._owed = False, True
        if self._lease is None or self._tempo.round_is_due:
            self._begin_round(again=False)
        elif self._owed:
            self._begin_round(again=self._tempo.is_fresh)
        elif self._tempo.seconds_left <= 0:
            self._look()

    def _begin_round(self, *, again: bool, head: Block | None = None) -> None:
        """Run a round, which is owed until it was done; it finalises whenever that is due."""
        self._owed, final = True, self._tempo.final_is_due
        self._tempo.round_begins()
        self.run_round(quick=not final, again=again, finalise=final, head=head)

    def _look(self) -> None:
        """Look at the chain, and run a round if it has anything that was not followed."""
        head = None
        if self._tempo.pace is Pace.BUSY:
            head = self._new_head()
            found = head is not None
        else:
            found = self._has_news()
        if found:
            self._begin_round(again=False, head=head)
        else:
            self._tempo.looked()

    def _renew(self) -> None:
        with self._round:
            if self._ticks() - self._lease_renewed > RENEW_SECONDS and self._hold_lease():
                self._keep_house(self._clock())

    def _seconds_left(self) -> float:
        if self._lease is None:
            self._want_hints(False)
            return self._tempo.standby_seconds
        renew = self._lease_renewed + RENEW_SECONDS - self._ticks()
        return max(0.0, min(self._tempo.seconds_left, renew))

    def _was_followed(self, seen: Observation, finalised: bool) -> None:
        self._tempo.followed(seen, final=finalised)

    def _done(self, seen: Observation) -> None:
        self._owed = False
        self._tempo.round_done(self._pace(seen))
        self._want_hints(self._tempo.pace is Pace.BUSY)
        self._changes.look()

    def _want_hints(self, wanted: bool) -> None:
        if self._hints is not None:
            self._hints.want(wanted)

    def _notice(self, changes: frozenset[str] | None) -> None:
        """Wake when another process asked for what has to be signed, or let it go on."""
        if changes == frozenset():
            return
        if changes is None or changes & self._held_by or self._has_work(changes):
            self.wake()

    def _has_work(self, changes: frozenset[str]) -> bool:
        return bool(
            self._purchases.unsigned(changes)
            or (self._authorising is not None and self._authorising.is_waited_for())
            or self._operations.orders_to_send()
            or self._bonds.to_dispute()
        )
