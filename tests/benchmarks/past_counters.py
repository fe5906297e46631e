"""Counters of a past, whose ids and sums follow from the number of purchases alone.

Purchase n is one of ``width`` that share a counter: of an hour, a day, a task, a session, or all;
of a counter for each agent it is every eighth of these. So no purchase has to be read again to
know which counters it charged, or what a counter says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tests.benchmarks.course import (
    AGENTS,
    CATEGORY,
    PURCHASES_PER_SESSION,
    PURCHASES_PER_TASK,
)

_WINDOW_SECONDS: Final = {"hourly": 3600, "daily": 86_400}


@dataclass(frozen=True, slots=True)
class PastCounter:
    """One kind of counter: ``first_id`` and on, ``agents`` for each ``width`` purchases."""

    scope_kind: str
    # SQL of the number ``i`` of the width and ``a`` of the agent.
    scope_id: str
    window: str
    width: int
    agents: int
    first_id: int

    def rows(self, count: int) -> int:
        """How many ids it takes for so many purchases."""
        return -(-count // self.width) * self.agents

    def id_of(self, n: str) -> str:
        """SQL of the id of the counter that purchase ``n`` charged."""
        id_ = f"{self.first_id} + {n} / {self.width} * {self.agents}"
        return id_ if self.agents == 1 else f"{id_} + {n} % {self.agents}"

    def insert(self, count: int, began: int, amount: int) -> str:
        """SQL that inserts the counters of the purchases [0, count)."""
        seconds = _WINDOW_SECONDS.get(self.window)
        start = "0" if seconds is None else f"{began} + i * {seconds}"
        in_width = (
            f"CASE WHEN {count} - i * {self.width} < {self.width}"
            f" THEN {count} - i * {self.width} ELSE {self.width} END"
        )
        charged = f"({in_width} - a + {self.agents - 1}) / {self.agents}"
        return f"""
            WITH RECURSIVE widths (i) AS (
                SELECT 0 UNION ALL SELECT i + 1 FROM widths WHERE (i + 1) * {self.width} < {count}
            ), agents (a) AS (
                SELECT 0 UNION ALL SELECT a + 1 FROM agents WHERE a + 1 < {self.agents}
            )
            INSERT INTO counters (id, scope_kind, scope_id, "window", start, held, spent)
            SELECT {self.first_id} + i * {self.agents} + a, '{self.scope_kind}', {self.scope_id},
                '{self.window}', {start}, 0, CAST({amount} AS BIGINT) * ({charged})
            FROM widths CROSS JOIN agents WHERE {charged} > 0
        """


def past_counters(
    charged: Iterable[tuple[str, str, str]], count: int, seconds_between: int
) -> list[PastCounter]:
    """The counters of up to ``count`` purchases, as one purchase charged them."""
    kinds = []
    for kind, of, window in charged:
        scope_id, width, agents = _scope(kind, of, count)
        if window in _WINDOW_SECONDS:
            width = _WINDOW_SECONDS[window] // seconds_between
        elif window != "total":
            raise ValueError(f"the benchmark's past knows no window {window}")
        kinds.append(PastCounter(kind, scope_id, window, width, agents, first_id=1))
    made, first_id = [], 1
    # Totals are made by the first purchases: their rows lie together.
    for one in sorted(kinds, key=lambda one: one.rows(count)):
        made.append(replace(one, first_id=first_id))
        first_id += one.rows(count)
    return made


def _scope(kind: str, of: str, count: int) -> tuple[str, int, int]:
    """SQL of the scope's id, how many purchases share it, and of how many agents each has one."""
    match kind:
        case "agent":
            return "'a' || a", count, AGENTS
        case "agent_category":
            return f"'a' || a || '/{CATEGORY}'", count, AGENTS
        case "task":
            return "'task-' || i", PURCHASES_PER_TASK, 1
        case "task_category":
            return f"'task-' || i || '/{CATEGORY}'", PURCHASES_PER_TASK, 1
        case "session":
            return "'session-' || i", PURCHASES_PER_SESSION, 1
        case _:
            return f"'{of}'", count, 1
