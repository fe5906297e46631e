"""The client's wheel works in an environment of its own, beside httpx and nothing of ours."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_CLIENT = _ROOT / "client"
_PAIRS = 9


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what it declares."""
    folder = tmp_path_factory.mktemp("client")
    building = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*building, _CLIENT], check=True, capture_output=True, timeout=180)
    (wheel,) = folder.glob("usdc_escrow_client-*.whl")
    uv = Path(sys.executable).parent / "uv"
    made = folder / "env" / "bin" / "python"
    installing = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", made]
    lock = _ROOT / "scripts" / "locks" / "development.txt"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, folder / "env"],
        [*installing, "--constraint", lock, wheel],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    return made


def test_the_wheel_brings_httpx_and_its_needs_alone(python: Path, tmp_path: Path) -> None:
    program = """
import json
from importlib.metadata import distributions
print(*sorted(d.name for d in distributions()))
"""
    installed = set(_run(python, "-c", program, cwd=tmp_path).split())
    wanted = {"anyio", "certifi", "h11", "httpcore", "httpx", "idna", "usdc-escrow-client"}
    assert wanted <= installed <= wanted | {"exceptiongroup", "sniffio", "typing_extensions"}


def test_the_wheel_is_typed_and_has_every_public_name(python: Path, tmp_path: Path) -> None:
    program = """
import coordinator_client, pathlib
assert (pathlib.Path(coordinator_client.__file__).parent / "py.typed").exists()
for name in coordinator_client.__all__: getattr(coordinator_client, name)
print(coordinator_client.__file__, coordinator_client.__version__)
"""
    where, version = _run(python, "-c", program, cwd=tmp_path).split()
    assert not Path(where).is_relative_to(_ROOT)
    assert version in (_CLIENT / "coordinator_client" / "_version.py").read_text()


def test_without_its_extra_the_tools_say_what_to_install(python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [python.parent / "coordinator-mcp"],
        env={"TREASURY_URL": "http://127.0.0.1:9", "TREASURY_KEY": "uec_0123456789abcdef"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "coordinator-mcp: it needs mcp, which is not installed:"
        " pip install 'usdc-escrow-client[mcp]'\n"
    )


def test_without_its_extra_a_paying_client_says_what_to_install(
    python: Path, tmp_path: Path
) -> None:
    program = """
from coordinator_client import Agent, AsyncAgent, ConfigurationError
for kind in (Agent, AsyncAgent):
    try: kind("http://127.0.0.1:9", "uec_0123456789abcdef").x402_client()
    except ConfigurationError as error: print(error)
"""
    said = _run(python, "-c", program, cwd=tmp_path).splitlines()
    assert said[0].startswith("x402_client needs ") and said[1].startswith("x402_client needs ")
    assert all(one.endswith("pip install 'usdc-escrow-client[x402]'") for one in said)


def test_importing_it_costs_little_more_than_importing_httpx(python: Path, tmp_path: Path) -> None:
    timed = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"

    def seconds(statement: str) -> float:
        return float(_run(python, "-c", timed.format(statement), cwd=tmp_path))

    pairs = [
        (seconds("import httpx"), seconds("from coordinator_client import Agent"))
        for _ in range(_PAIRS)
    ]
    httpx, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert ours <= 1.3 * httpx, f"{ours:.3f} s, and httpx alone {httpx:.3f} s"
