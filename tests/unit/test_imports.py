"""What an import costs and reaches: the domain is pure, the package's root is light."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_socket import SocketBlockedError

import coordinator.domain

_DOMAIN = Path(coordinator.domain.__file__).parent
_MODULES = sorted(path.stem for path in _DOMAIN.glob("*.py") if path.stem != "__init__")
_HEAVY = {
    "alembic",
    "apprise",
    "coincurve",
    "eth_abi",
    "eth_account",
    "psycopg",
    "sqlalchemy",
    "web3",
}
_IMPURE = {
    "asyncio",
    "getpass",
    "http",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "uuid",
}


def _loaded_after(*modules: str) -> set[str]:
    code = (
        "import importlib, json, sys\n"
        f"for name in {list(modules)!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=_DOMAIN.parent.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout))


def test_importing_the_package_loads_neither_web3_nor_sql() -> None:
    assert not _loaded_after("coordinator") & _HEAVY


def test_importing_the_whole_domain_loads_neither_web3_nor_sql() -> None:
    assert not _loaded_after(*(f"coordinator.domain.{name}" for name in _MODULES)) & _HEAVY


def test_whoever_has_no_announcing_endpoint_does_not_load_what_follows_one() -> None:
    loaded = _loaded_after("coordinator.cli", "coordinator.wiring", "coordinator.executor")
    assert "websockets" not in loaded


def test_whoever_has_a_file_does_not_load_the_driver_of_postgresql() -> None:
    loaded = _loaded_after(
        "coordinator.cli", "coordinator.wiring", "coordinator.ledger.store.sqlite"
    )
    assert "sqlalchemy" in loaded
    assert "psycopg" not in loaded


@pytest.mark.parametrize(
    "modules", [("coordinator.cli", "coordinator.server.app"), ("coordinator_client.async_agent",)]
)
def test_whoever_serves_no_tools_does_not_load_their_library(modules: tuple[str, ...]) -> None:
    assert not _loaded_after(*modules) & {"mcp", "mcp_types"}


def test_the_heavy_modules_would_be_seen_if_they_were_loaded() -> None:
    assert "sqlalchemy" in _loaded_after("sqlalchemy")


@pytest.mark.parametrize("module", _MODULES)
def test_each_domain_module_imports_on_its_own_rules_and_no_io(module: str) -> None:
    tree = ast.parse((_DOMAIN / f"{module}.py").read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    assert not {name.partition(".")[0] for name in imported} & (_IMPURE | _HEAVY)
    ours = {name for name in imported if name.partition(".")[0] == "coordinator"}
    assert all(name.startswith("coordinator.domain") for name in ours)


@pytest.mark.parametrize("module", _MODULES)
def test_no_domain_module_reads_a_clock(module: str) -> None:
    tree = ast.parse((_DOMAIN / f"{module}.py").read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"now", "utcnow", "today", "monotonic", "time_ns"} - _fields_of(tree)


def _fields_of(tree: ast.AST) -> set[str]:
    """Names that the module itself declares as values, such as ``Facts.now``."""
    return {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def test_a_unit_test_cannot_open_a_network_socket() -> None:
    with pytest.raises(SocketBlockedError), pytest.warns(UserWarning, match="A test tried"):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def test_a_unit_test_may_use_a_unix_socket() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"
