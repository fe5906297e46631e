"""Look for garbage less often while a past is read, or a round is done."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Logs and rows stand in no cycle, and there are ten thousands of them at once: looking through all
# of them, and all else that the process has, again and again takes a third of the time of reading
# them.
_YOUNG_MAX: Final = 100_000

_lock: Final = threading.Lock()
_inside: list[tuple[int, int, int]] = []


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Collect cycles only after 100,000 objects more, until everybody who asked is done.

    It is a setting of the whole process, which may be somebody else's: nothing is switched off, and
    where it collects less often already, or never, that stays, as does what is set meanwhile.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else gc.get_threshold())
        first, second, third = _inside[0]
        if 0 < first < _YOUNG_MAX and gc.get_threshold() == _inside[0]:
            gc.set_threshold(_YOUNG_MAX, second, third)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside and gc.get_threshold() == (_YOUNG_MAX, *before[1:]):
                gc.set_threshold(*before)
