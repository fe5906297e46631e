"""Read the next thing from the chain while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, cast

T = TypeVar("T")
_END: Final = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, each made by a thread of its own while the one before is worked on.

    Faults come up where the item would. Whoever stops early waits for the one on its way.
    """
    with ThreadPoolExecutor(1, "coordinator-ahead") as pool:
        coming = pool.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, items, _END)
            yield cast(T, item)
