"""From what rounds measured to medians, ratios and whether they are what they should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple


class Sample(NamedTuple):
    """Decisions a second, and the median time of one from a caller's asking to its answer."""

    per_second: float
    p50_ms: float


class Case(NamedTuple):
    """On which kind of database, after how many earlier purchases, how many callers at once."""

    database: str
    history: int
    callers: int


@dataclass(slots=True)
class Round:
    """What was measured one after the other, so that whatever else the machine does meets all."""

    fdatasync_per_second: list[float] = field(default_factory=list)
    bare_insert_ms: dict[str, list[float]] = field(default_factory=dict)
    samples: dict[Case, Sample] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio should be; ``aim`` is what would be better still.

    At most the bound; ``above`` it, or with ``least`` at least it.
    """

    bound: float
    above: bool = False
    aim: float | None = None
    least: bool = False

    def met(self, value: float) -> bool:
        """Whether the value is on the right side; the bound itself is good enough but ``above``."""
        if self.above:
            return value > self.bound
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        sign = ">" if self.above else ">=" if self.least else "<="
        text = f"{sign} {self.bound:g}"
        return text if self.aim is None else f"{text} (aim {self.aim:g})"


TARGETS: Final[Mapping[str, Target]] = {
    "decisions_per_fdatasync": Target(1, above=True, aim=2),
    "one_caller_per_bare_insert": Target(3),
    "p50_full_over_empty": Target(1.2),
    "p50_full_over_empty_at_most_callers": Target(1.2),
    "memory_mb": Target(50),
}


def ratios(rounds: Sequence[Round], database: str) -> dict[str, float]:
    """Medians over rounds of ratios within a round, on the longest history and most callers."""
    cases = [case for case in rounds[0].samples if case.database == database]
    longest = max(case.history for case in cases)
    shortest = min(case.history for case in cases)
    one, most = min(case.callers for case in cases), max(case.callers for case in cases)

    def over(of: Callable[[Round], float]) -> float:
        return round(median(map(of, rounds)), 3)

    def slower(callers: int) -> float:
        full, empty = Case(database, longest, callers), Case(database, shortest, callers)
        return over(lambda r: r.samples[full].p50_ms / r.samples[empty].p50_ms)

    crowd, alone = Case(database, longest, most), Case(database, longest, one)
    return {
        "decisions_per_fdatasync": over(
            lambda r: r.samples[crowd].per_second / median(r.fdatasync_per_second)
        ),
        "one_caller_per_bare_insert": over(
            lambda r: r.samples[alone].p50_ms / median(r.bare_insert_ms[database])
        ),
        "p50_full_over_empty": slower(one),
        "p50_full_over_empty_at_most_callers": slower(most),
    }


def judged(found: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Each ratio's target and whether it is met."""
    return judge(found, TARGETS)


def judge(found: Mapping[str, float], targets: Mapping[str, Target]) -> dict[str, dict[str, Any]]:
    """Each ratio that has a target, with it and whether it is met."""
    return {
        name: {"target": str(targets[name]), "met": targets[name].met(value)}
        for name, value in found.items()
        if name in targets
    }


def medians(rounds: Sequence[Round], part: str) -> dict[str, dict[str, dict[str, float]]]:
    """The medians of ``part`` of samples, by database, history and callers."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for case in rounds[0].samples:
        value = median(getattr(each.samples[case], part) for each in rounds)
        of = found.setdefault(case.database, {}).setdefault(str(case.history), {})
        of[str(case.callers)] = round(value, 3)
    return found


def machine_medians(rounds: Sequence[Round]) -> dict[str, Any]:
    """The medians of what the machine does by itself."""
    syncs = [rate for each in rounds for rate in each.fdatasync_per_second]
    return {
        "fdatasync_per_second": round(median(syncs), 1),
        "bare_insert_ms": {
            kind: round(median(ms for each in rounds for ms in each.bare_insert_ms[kind]), 4)
            for kind in rounds[0].bare_insert_ms
        },
    }
