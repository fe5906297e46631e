"""The wheel works outside the repository: in an empty environment, with README's own lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.demo.stage import Stage, open_stage

_ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel and what it declares."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=_ROOT)
    (wheel,) = folder.glob("*.whl")
    uv = Path(sys.executable).parent / "uv"
    _run(uv, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    lock = _ROOT / "scripts" / "locks" / "runtime.txt"
    _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock, cwd=folder)
    _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", python, wheel, cwd=folder)
    return python.parent


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(keep=False) as stage:
        stage.close()
        yield stage


def _environment(stage: Stage) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(stage.folder), **stage.environment}


def test_readmes_ten_lines_buy_from_the_installed_wheel(
    installed: Path, stage: Stage, tmp_path: Path
) -> None:
    readme = (_ROOT / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)

    said = _run(installed / "python", "-c", lines, cwd=tmp_path, env=_environment(stage))

    assert said.startswith("funded 0x"), said
    assert "organisation total remains 975.00" in said


def test_doctor_runs_from_the_installed_wheel(
    installed: Path, stage: Stage, tmp_path: Path
) -> None:
    said = _run(
        installed / "coordinator", "doctor", "--json", cwd=tmp_path, env=_environment(stage)
    )
    assert '"fail"' not in said


def test_the_installed_wheel_carries_abi_bytecode_and_deployments(
    installed: Path, tmp_path: Path
) -> None:
    program = (
        "from coordinator.chain.networks import packaged, shipped_deployment\n"
        "assert packaged('abi', 'ACTPKernel.json')['bytecode'].startswith('0x')\n"
        "import coordinator; print(coordinator.__file__)\n"
        "print(shipped_deployment(84532).kernel)"
    )
    said = _run(installed / "python", "-c", program, cwd=tmp_path, env={"PATH": ""})
    where, kernel = said.split()
    assert not Path(where).is_relative_to(_ROOT)
    assert kernel == "0x9d25A874f046185d9237Cd4954C88D2B74B0021b"
