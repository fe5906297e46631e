"""One target of notices, reached through apprise on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

from coordinator.domain.errors import ConfigurationError
from coordinator.domain.notices import Notice, Severity
from coordinator.extras import needs_extra

_THREAD: Final = "coordinator-notify"
_TYPES: Final = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "failure",
}


class _Quiet(logging.Filter):
    """Drops what libraries log while they deliver: their lines hold whole URLs."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(_THREAD)


_QUIET: Final = _Quiet()


class Target:
    """One URL with its thread; sends one notice after the other. Its faults never hold the URL.

    ``wanted`` is asked before a notice (url, seq) is sent; ``answer`` gets its fault or None.
    """

    def __init__(
        self,
        shown: str,
        url: str,
        *,
        wanted: Callable[[str, int], bool],
        answer: Callable[[str, int, str | None], None],
    ) -> None:
        self._shown = shown
        self._url = url
        self._wanted = wanted
        self._answer = answer
        self._plugin: Any = None
        self._extras: dict[str, str] | None = None
        self._waiting: SimpleQueue[tuple[int, Notice] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=f"{_THREAD} {shown}", daemon=True).start()

    def put(self, seq: int, notice: Notice) -> None:
        self._waiting.put((seq, notice))

    def stop(self) -> None:
        self._waiting.put(None)

    def _run(self) -> None:
        for name in ("apprise", "urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).addFilter(_QUIET)
        while (one := self._waiting.get()) is not None:
            seq, notice = one
            if not self._wanted(self._url, seq):
                continue
            fault = self._send(notice)
            self._answer(self._url, seq, fault)
            if fault is not None and not self._fail_the_others(fault):
                return

    def _fail_the_others(self, fault: str) -> bool:
        """Answer what waits with the same fault, so that a slow target isn't asked for each."""
        while True:
            try:
                one = self._waiting.get_nowait()
            except Empty:
                return True
            if one is None:
                return False
            self._answer(self._url, one[0], fault)

    def _send(self, notice: Notice) -> str | None:
        try:
            if self._plugin is None:
                self._plugin = _plugin(self._url)
            if self._plugin is None:
                return f"{self._shown}: apprise does not know this URL"
            if self._extras is None:
                self._extras = getattr(self._plugin, "payload_extras", None)
            if self._extras is not None:
                # A webhook's own document (json, xml, form) has the fields beside the message.
                self._plugin.payload_extras = {**notice.fields, **self._extras}
            taken = self._plugin.notify(
                title=_plain(f"{notice.severity}: {notice.kind.replace('_', ' ')}"),
                body=_plain(notice.message),
                notify_type=_notify_type(notice.severity),
            )
        except ConfigurationError as fault:
            return f"{self._shown}: {fault}"
        except Exception as fault:
            return f"{self._shown}: {type(fault).__name__}"
        return None if taken else f"{self._shown} did not take it"


def _plugin(url: str) -> Any:
    with needs_extra("alerts", "a target of [alerts] notify"):
        import apprise

    asset = apprise.AppriseAsset(app_id="coordinator", async_mode=False, storage_mode="memory")
    return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def _notify_type(severity: Severity) -> Any:
    import apprise

    return apprise.NotifyType(_TYPES[severity])


def _plain(text: str) -> str:
    """The text with no link and nothing that calls people: agents choose some of its words."""
    return text.replace("@", "@\u200b").replace("<", "(").replace("://", ":\u200b//")
