"""Note when keys were last used, apart from the requests that use them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from typing import Final

from coordinator.api.coordinator import Coordinator
from coordinator.domain.errors import LedgerUnavailable

log = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 20.0


class KeyUses:
    """Uses since they were last stored: no request waits for this, or fails because of it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._mutex = threading.Lock()
        self._used: set[str] = set()

    def note(self, key_id: str) -> None:
        """Remember that the key was used."""
        with self._mutex:
            self._used.add(key_id)

    @contextlib.asynccontextmanager
    async def stored(self) -> AsyncIterator[None]:
        """Store uses from time to time within the block, and once more at its end."""
        task = asyncio.create_task(self._store_always())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._store()

    def _note(self, used: set[str]) -> None:
        wiring = self._coordinator.wiring
        wiring.api_keys.note_uses(used, now=wiring.clock())

    async def _store_always(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._store()

    async def _store(self) -> None:
        with self._mutex:
            used, self._used = self._used, set()
        if not used:
            return
        try:
            await self._coordinator.off_loop(lambda: self._note(used))
        except LedgerUnavailable as fault:
            log.warning("key_uses_not_stored reason=%s", fault)
