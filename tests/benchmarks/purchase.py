"""``scripts/bench purchase``: purchases until they are funded, beside the least the chain allows.

One at a time, and so many at once that wait or do not, with callers in threads and in an event
loop, each case with a treasury and a database of its own. All begin when a block has just come; the
floor is measured in the same round, through the same proxy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from coordinator.chain.rpc.client import Rpc
from tests.benchmarks.buyers import WAYS, Bought, open_buyers
from tests.benchmarks.careful import Careful, pay_carefully
from tests.benchmarks.charts import Chart
from tests.benchmarks.console import Tell, elapsed, positive, show_ratios, show_rows
from tests.benchmarks.figures import Target, judge
from tests.benchmarks.floor import Floor, pay
from tests.benchmarks.machine import described
from tests.benchmarks.proxy import CountingProxy
from tests.benchmarks.scene import BLOCK_SECONDS, Scene, Treasury, open_scene

MANY: Final = 200
COUNTS: Final = (1, 20, 200, 1_000)
# Of a thousand that come at once Anvil leaves some unmined when each gets a block.
AUTOMINE_COUNTS: Final = (1, 20, 200)
SINGLES: Final = 8
# Of what a quick run may take from its start to its last line, the rest is for ending.
QUICK_SECONDS: Final = 150.0
_QUICK_TIMEOUT: Final = 45.0
_TIMEOUT: Final = 300.0
_ROUNDS: Final = 3

TARGETS: Final[Mapping[str, Target]] = {
    "waiting_over_not_waiting": Target(1.2),
    "waiting_over_not_waiting_asyncio": Target(1.2),
    "of_floor_200": Target(0.7, least=True),
    "of_floor_1000": Target(0.7, least=True),
    "calls_per_purchase_200": Target(3),
    "calls_single": Target(25),
    "p50_minus_block_seconds": Target(0.3),
}
_MEANINGS: Final = {
    "waiting_over_not_waiting": "200 at once: time of threads that wait / of not waiting",
    "waiting_over_not_waiting_asyncio": "the same, futures of an event loop that wait",
    "of_floor_200": "200 at once: the floor with signing / time of those that wait",
    "of_floor_1000": "the same of 1,000",
    "calls_per_purchase_200": "200 at once: JSON-RPC calls a purchase, at most",
    "calls_single": "JSON-RPC calls of one purchase, median",
    "p50_over_block": "one purchase: median time / a block's time",
    "p50_minus_block_seconds": "one purchase: median time - a block's time, seconds",
    "careful_over_ours_200": "200 at once: time of the peer's careful caller / of those that wait",
}


@dataclass(slots=True)
class Singles:
    """One purchase after another, asked for at times spread over a block."""

    seconds: list[float]
    calls: list[int]
    requests: list[int]

    def as_dict(self) -> dict[str, Any]:
        return {
            "p50_seconds": round(median(self.seconds), 3),
            "most_seconds": round(max(self.seconds), 3),
            "calls": median(self.calls),
            "requests": median(self.requests),
            "seconds": [round(s, 3) for s in self.seconds],
        }


@dataclass(slots=True)
class Round:
    """The floor and each way of as many purchases, one after the other."""

    floor: Floor
    ways: dict[str, Bought]
    careful: Careful | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "floor": self.floor.as_dict(),
            **{way: bought.as_dict() for way, bought in self.ways.items()},
            "careful": None if self.careful is None else self.careful.as_dict(),
        }


@dataclass(slots=True)
class Measured:
    """``rounds`` by how many purchases at once, on a chain of blocks; ``automine`` without."""

    singles: Singles
    rounds: dict[int, list[Round]]
    automine: dict[int, Round] = field(default_factory=dict)
    proxy_adds_ms: float = 0.0


def parse(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this part."""
    parser.add_argument("--quick", action="store_true", help="one and 200, in under 3 minutes")
    parser.add_argument(
        "--local", action="store_true", help="a local chain's settings, not a public network's"
    )
    parser.add_argument("--rounds", type=positive(int), default=_ROUNDS, metavar="N", help="of 200")


def measure(arguments: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    """Measure what the arguments ask for."""
    bench = _Bench(arguments, tell)
    with open_scene() as scene:
        scene.blocks_every(BLOCK_SECONDS)
        adds = proxy_adds_ms(scene)
        measured = Measured(bench.singles(scene), {MANY: bench.many(scene)}, proxy_adds_ms=adds)
        if not arguments.quick:
            for count in COUNTS:
                if count != MANY:
                    measured.rounds[count] = [bench.round(scene, count)]
    if not arguments.quick:
        with open_scene() as scene:
            measured.automine = {n: bench.round(scene, n) for n in AUTOMINE_COUNTS}
    return summary_of(measured, public=not arguments.local)


def summary_of(measured: Measured, *, public: bool) -> dict[str, Any]:
    """What is printed."""
    ratios = ratios_of(measured)
    return {
        "ratios": ratios,
        "targets": judge(ratios, TARGETS),
        "single": measured.singles.as_dict(),
        "at_once": {str(n): [r.as_dict() for r in rs] for n, rs in sorted(measured.rounds.items())},
        "automine": {str(n): r.as_dict() for n, r in measured.automine.items()},
        "settings": "of a public network" if public else "of a local chain",
        "block_seconds": BLOCK_SECONDS,
        "proxy_adds_ms": measured.proxy_adds_ms,
        "unfunded": sum(
            b.purchases - b.funded
            for rs in measured.rounds.values()
            for r in rs
            for b in r.ways.values()
        ),
        "seconds": round(elapsed(), 1),
        "machine": described(),
    }


def ratios_of(measured: Measured) -> dict[str, float]:
    """Medians over rounds of ratios within a round; waiting counts as its slower way."""
    rounds, p50 = measured.rounds[MANY], median(measured.singles.seconds)

    def over(part: Any) -> float:
        return round(median(part(each) for each in rounds), 3)

    found = {
        "waiting_over_not_waiting": over(lambda r: _slower(r, "threads")),
        "waiting_over_not_waiting_asyncio": over(lambda r: _slower(r, "asyncio")),
        "of_floor_200": over(of_floor),
        "calls_per_purchase_200": over(lambda r: max(b.calls for b in r.ways.values()) / MANY),
        "calls_single": float(median(measured.singles.calls)),
        "p50_over_block": round(p50 / BLOCK_SECONDS, 3),
        "p50_minus_block_seconds": round(p50 - BLOCK_SECONDS, 3),
    }
    if 1_000 in measured.rounds:
        found["of_floor_1000"] = round(median(map(of_floor, measured.rounds[1_000])), 3)
    careful = [r for r in rounds if r.careful is not None]
    if careful:
        found["careful_over_ours_200"] = round(median(map(_careful, careful)), 3)
    return found


def of_floor(found: Round) -> float:
    """The floor's time with signing, as a share of ours that waits: 1 is as fast."""
    waiting = max(found.ways[way].seconds for way in ("threads", "asyncio"))
    return (found.floor.seconds + found.floor.signing_seconds) / waiting


def show(summary: Mapping[str, Any]) -> None:
    """Print what was measured, with each target beside its ratio."""
    single = summary["single"]
    for title, of in (
        (f"Seconds on blocks of {summary['block_seconds']} s", summary["at_once"]),
        ("Seconds with a block for each transaction", summary["automine"]),
    ):
        if of:
            show_rows(title, [*_COLUMNS], [_row(count, found) for count, found in of.items()])
    print(
        f"one purchase: {single['p50_seconds']} s at the median, {single['calls']:g} calls,"
        f" {single['requests']:g} requests; settings {summary['settings']};"
        f" the proxy adds {summary['proxy_adds_ms']} ms to a request"
    )
    if summary["unfunded"]:
        print(f"{summary['unfunded']} purchases were not funded in their time: it is a lower bound")
    show_ratios(summary, _MEANINGS)


def plot(summary: Mapping[str, Any]) -> Chart:
    """Seconds by how many at once, of every way on blocks."""
    series: dict[str, dict[str, float | None]] = {}
    for count, found in summary["at_once"].items():
        rows = [_seconds(each) for each in found]
        for name in rows[0]:
            known = [row[name] for row in rows if row[name] is not None]
            series.setdefault(name, {})[count] = median(known) if known else None
    title = f"Seconds until all of so many at once are funded, blocks of {BLOCK_SECONDS} s"
    return Chart(title, series, logarithmic=True)


def _seconds(found: Mapping[str, Any]) -> dict[str, Any]:
    """A round's seconds by what is shown; the floor's with its signing."""
    floor, careful = found["floor"], found["careful"]
    return {
        "floor, signing": floor["seconds"] + floor["signing_seconds"],
        **{way.replace("_", " "): found[way]["seconds"] for way in WAYS},
        "agirails, careful": careful and careful["seconds"],
    }


_COLUMNS: Final = (
    "at once",
    "floor",
    "signing",
    *(way.replace("_", " ") for way in WAYS),
    "careful",
)


def _row(count: str, found: Any) -> list[str]:
    rounds: list[Any] = found if isinstance(found, list) else [found]

    def middle(part: str, name: str = "seconds") -> str:
        known = [each[part][name] for each in rounds if each[part] is not None]
        return f"{median(known):.2f}" if known else ""

    ways = [middle(way) for way in WAYS]
    return [count, middle("floor"), middle("floor", "signing_seconds"), *ways, middle("careful")]


def _slower(found: Round, way: str) -> float:
    return found.ways[way].seconds / found.ways["not_waiting"].seconds


def _careful(found: Round) -> float:
    assert found.careful is not None
    return found.careful.seconds / max(found.ways[w].seconds for w in ("threads", "asyncio"))


class _Bench:
    """Carries out cases; each has a treasury and a database of its own."""

    def __init__(self, arguments: argparse.Namespace, tell: Tell) -> None:
        self.quick: bool = arguments.quick
        self.public: bool = not arguments.local
        self.rounds: int = arguments.rounds
        self.tell = tell
        self._made = 0

    def singles(self, scene: Scene) -> Singles:
        """As many as make the median steady, each at another part of a block."""
        (treasury,) = self._treasuries(scene, 1)
        found = Singles([], [], [])
        with open_buyers(scene, treasury, public=self.public) as buyers:
            for number in range(SINGLES):
                seconds, counts = buyers.one(number, (number + 0.5) / SINGLES)
                found.seconds.append(seconds)
                found.calls.append(counts.calls)
                found.requests.append(counts.requests)
        self.tell(f"one at a time: {median(found.seconds):.2f} s, {median(found.calls):g} calls")
        return found

    def many(self, scene: Scene) -> list[Round]:
        """Rounds of 200; a quick run ends before a round that would not fit any more."""
        made: list[Round] = []
        longest = 0.0
        while len(made) < self.rounds:
            began = time.monotonic()
            if made and self.quick and elapsed() + longest > QUICK_SECONDS:
                break
            made.append(self.round(scene, MANY))
            longest = max(longest, time.monotonic() - began)
        return made

    def round(self, scene: Scene, count: int) -> Round:
        """The floor, each way, and without ``quick`` the peer."""
        first, *others = self._treasuries(scene, 1 + len(WAYS))
        with CountingProxy(scene.url) as proxy:
            floor = pay(scene, first, proxy.url, count)
        self.tell(
            f"{count:,} at once: floor {floor.seconds:.2f} s, signing {floor.signing_seconds:.2f} s"
        )
        ways: dict[str, Bought] = {}
        for way, treasury in zip(WAYS, others, strict=True):
            with open_buyers(scene, treasury, public=self.public) as buyers:
                bought = buyers.at_once(way, count, _QUICK_TIMEOUT if self.quick else _TIMEOUT)
            ways[way] = bought
            short = "" if bought.funded == count else f", only {bought.funded} funded"
            self.tell(
                f"{count:,} {way}: {bought.seconds:.2f} s{short}, {bought.blocks} blocks,"
                f" {bought.calls / count:.1f} calls each,"
                f" {bought.processor_seconds:.1f} s of processor"
            )
        careful = None
        if not self.quick and count <= MANY:
            careful = self._careful(scene, count)
        return Round(floor, ways, careful)

    def _careful(self, scene: Scene, count: int) -> Careful | None:
        (treasury,) = self._treasuries(scene, 1)
        found = pay_carefully(scene, treasury, count)
        if found is not None:
            self.tell(f"{count:,} of the peer's careful caller: {found.seconds:.2f} s")
        return found

    def _treasuries(self, scene: Scene, count: int) -> list[Treasury]:
        self._made += 1
        return scene.treasuries(
            [f"sqlite:///{scene.folder}/buyers-{self._made}-{n}.db" for n in range(count)]
        )


def proxy_adds_ms(scene: Scene, looks: int = 50) -> float:
    """What the proxy adds to the median time of a small request."""
    with CountingProxy(scene.url) as proxy:
        times: dict[str, list[float]] = {scene.url: [], proxy.url: []}
        rpcs = {url: Rpc([url]) for url in times}
        for _ in range(looks):
            for url, rpc in rpcs.items():
                began = time.perf_counter()
                rpc.call("eth_blockNumber")
                times[url].append(time.perf_counter() - began)
    return round((median(times[proxy.url]) - median(times[scene.url])) * 1000, 3)
