"""What the default run holds of a large product of parameters; campaigns hold it whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any, TypeVar
from zlib import crc32

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.compiled import share_compiled_statements

T = TypeVar("T")
# The id of a value, and the place of its list among the decorators.
Values = tuple[tuple[int, str], ...]
_STORES = ("store", "stage")


# Their tests go on with what those before them left, or share what is slow to set up.
_TOGETHER = (
    "test_cli.py",
    "test_client.py",
    "test_deploy.py",
    "test_scripts.py",
    "test_wheel.py",
)


def pytest_configure() -> None:
    share_compiled_statements()


class _FilesTogether(LoadScopeScheduling):
    """Sends each test to whoever is free, and all tests of some files to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(_TOGETHER) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _FilesTogether(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    functions: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in functions.items():
        for case in set(cases).difference(_default_run(name, cases)):
            case.add_marker(pytest.mark.campaign)


def _default_run(name: str, cases: list[pytest.Function]) -> Iterable[pytest.Function]:
    """What the marks of a function leave to the default run."""
    strength = 0
    if cases[0].get_closest_marker("each_choice"):
        strength = 1
    if cases[0].get_closest_marker("pairwise"):
        strength = 2
    if not cases[0].get_closest_marker("on_either"):
        # With a Safe one of the two databases is enough.
        safe = [case for case in cases if case.callspec.params.get("payer_kind") == "safe"]
        both = {case: _values(case) for case in cases if case not in safe}
        return [*_covering(both, strength), *_on_one_store(name, safe, strength)]
    return _on_one_store(name, cases, strength)


def _on_one_store(
    name: str, cases: list[pytest.Function], strength: int
) -> Iterable[pytest.Function]:
    """Each case on one of its databases, in turn."""
    stores: dict[Values, list[pytest.Function]] = {}
    for case in cases:
        stores.setdefault(_values(case, but=_STORES), []).append(case)
    # Which of the two comes first stays with the function, whatever tests are added.
    turn = crc32(name.encode())
    chosen = _covering({values: values for values in stores}, strength)
    return [stores[v][(n + turn) % len(stores[v])] for n, v in enumerate(chosen)]


def _covering(cases: dict[T, Values], strength: int) -> Iterator[T]:
    """Few cases that hold every value (strength 1) or every pair of values (strength 2)."""
    strength = min([strength, *map(len, cases.values())])
    if not strength:
        yield from cases
        return
    holds = {case: set(combinations(values, strength)) for case, values in cases.items()}
    wanted = set().union(*holds.values())
    while wanted:
        best = max(holds, key=lambda case: len(holds[case] & wanted))
        wanted -= holds.pop(best)
        yield best


def _values(case: pytest.Function, *, but: tuple[str, ...] = ()) -> Values:
    """What it takes from each list of cases, without the databases ``but``."""
    left_out = {case.callspec.params.get(name) for name in but}
    return tuple((n, v) for n, v in enumerate(case.callspec._idlist) if v not in left_out)
