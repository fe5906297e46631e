"""Deliver events to every webhook, in the one process that holds the lease.

Each target gets each of its events at least once, in the order of the log but for those that
failed, which are tried again. The position and the failed events are in the database: nothing is
lost when a process dies, and what is told twice has the same ``webhook-id``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Final

from coordinator.domain.access.webhooks import Webhook, WebhookSecrets
from coordinator.domain.errors import CoordinatorError, LedgerTampered
from coordinator.domain.events.event import EventFilter, PublicEvent
from coordinator.domain.ports import Clock, Ticks
from coordinator.ledger.events.event_book import EventBook
from coordinator.ledger.events.outbox import Outbox
from coordinator.ledger.events.webhook_book import WebhookBook
from coordinator.ledger.tx.changes import ChangeFeed
from coordinator.ledger.tx.leases import Lease, LeaseBook, new_holder
from coordinator.webhooks.sending import Outcome, Sender

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15
_RENEW_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 16


class Deliverer:
    """Delivers in threads of its own between ``start`` and ``stop``."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        webhooks: WebhookBook,
        events: EventBook,
        leases: LeaseBook,
        changes: ChangeFeed,
        secrets: WebhookSecrets,
        sender: Sender,
        clock: Clock,
        ticks: Ticks,
    ) -> None:
        self._outbox = outbox
        self._webhooks = webhooks
        self._events = events
        self._leases = leases
        self._changes = changes
        self._secrets = secrets
        self._sender = sender
        self._clock = clock
        self._ticks = ticks
        self._holder = new_holder()
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._mutex = threading.Lock()
        self._busy: set[str] = set()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="coordinator-webhook")
        self._listening = False

    def start(self) -> None:
        """Deliver until ``stop``; a second start changes nothing."""
        if self._threads:
            return
        self._loop = asyncio.new_event_loop()
        for name, work in (("sending", self._loop.run_forever), ("webhooks", self._run)):
            thread = threading.Thread(target=work, name=f"coordinator-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End what is on its way; it is tried again by whoever delivers next."""
        loop = self._loop
        if loop is None:
            return
        with self._mutex:
            self._stopping.set()
        self._news.set()
        loop.call_soon_threadsafe(_cancel_all, loop)
        self._threads[1].join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        loop.call_soon_threadsafe(loop.stop)
        self._threads[0].join()
        loop.close()
        self._loop = None
        if self._listening:
            self._changes.unsubscribe(self._look)
        try:
            self._give_up_lease()
        except CoordinatorError as fault:
            log.warning("webhooks_lease_kept reason=%s", fault)

    def _look(self, changed: frozenset[str] | None) -> None:
        self._news.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hand_out()
            except CoordinatorError as fault:
                log.warning("webhooks_wait reason=%s", fault)
            except Exception:
                log.exception("webhooks_wait")
            self._news.wait(_LOOK_SECONDS)
            self._news.clear()

    def _hand_out(self) -> None:
        """Have each target that has nothing under way told what it has not been told."""
        enabled = self._outbox.enabled()
        self._listen(bool(enabled))
        if not enabled:
            self._give_up_lease()
            return
        if not self._hold_lease():
            return
        for webhook in enabled:
            with self._mutex:
                if webhook.id in self._busy or self._stopping.is_set():
                    continue
                self._busy.add(webhook.id)
            self._pool.submit(self._serve, webhook)

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            self._changes.subscribe(self._look)
        elif not wanted and self._listening:
            self._changes.unsubscribe(self._look)
        self._listening = wanted

    def _hold_lease(self) -> bool:
        if self._lease is None or self._ticks() - self._renewed > _RENEW_SECONDS:
            asked_at = self._ticks()
            self._lease = self._leases.acquire(self._holder, seconds=LEASE_SECONDS)
            self._renewed = asked_at
        return self._lease is not None

    def _give_up_lease(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._leases.release(lease)

    def _serve(self, webhook: Webhook) -> None:
        try:
            found: Webhook | None = webhook
            while found is not None and not self._stopping.is_set():
                found = self._step(found)
        except CancelledError:
            pass  # the process stops
        except LedgerTampered as fault:
            log.error("webhook_not_served webhook_id=%s reason=%s", webhook.id, fault)
        except CoordinatorError as fault:
            log.warning("webhooks_wait webhook_id=%s reason=%s", webhook.id, fault)
        except Exception:
            log.exception("webhook_not_served webhook_id=%s", webhook.id)
        finally:
            with self._mutex:
                self._busy.discard(webhook.id)

    def _step(self, webhook: Webhook) -> Webhook | None:
        """Tell what failed before and is due, else the next page; None: nothing is left to do."""
        lease, now = self._lease, self._clock()
        if lease is None or webhook.retry_at > now:
            return None
        again = self._outbox.due(webhook.id, now)
        if again is not None:
            event = self._events.one(again.seq)
            if event is None:
                fault = "its row was changed"
                self._outbox.failed(lease, webhook, again.seq, fault, again=True, now=now)
                return self._outbox.find(webhook.id)
            return self._tell(lease, webhook, event, again=True)
        page, found = self._events.read(webhook.position), webhook
        wanted = EventFilter(frozenset(webhook.types), webhook.agent)
        for event in page.events:
            if wanted.wants(event):
                told = self._tell(lease, found, event, again=False)
                if told is None or told.position != event.seq or told.failures:
                    return told
                found = told
        if page.position > found.position and not self._outbox.advance(lease, found, page.position):
            return None
        return self._outbox.find(webhook.id) if page.more else None

    def _tell(
        self, lease: Lease, webhook: Webhook, event: PublicEvent, *, again: bool
    ) -> Webhook | None:
        """Try one event; the target as it is then, None if it changed meanwhile or is gone."""
        self._webhooks.prove(webhook)
        generations = webhook.generations(self._clock())
        secrets = [self._secrets.of(webhook.id, generation) for generation in generations]
        outcome = self._wait_for(self._sender.send(webhook.url, event, secrets))
        now, fault = self._clock(), outcome.fault
        if fault is None:
            noted = self._outbox.delivered(lease, webhook, event.seq, again=again, now=now)
        elif outcome.gone:
            self._outbox.disable(lease, webhook, fault, now=now)
            noted = False
        else:
            log.warning(
                "webhook_not_delivered webhook_id=%s seq=%s: %s", webhook.id, event.seq, fault
            )
            noted = self._outbox.failed(lease, webhook, event.seq, fault, again=again, now=now)
        return self._outbox.find(webhook.id) if noted else None

    def _wait_for(self, sending: Coroutine[Any, Any, Outcome]) -> Outcome:
        with self._mutex:
            loop = self._loop
            if loop is None or self._stopping.is_set():
                sending.close()
                raise CancelledError
            sent = asyncio.run_coroutine_threadsafe(sending, loop)
        return sent.result()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
