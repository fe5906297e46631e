"""The guide for agents, run as it stands: from an empty folder to purchases over HTTP."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_BIN = Path(sys.executable).parent
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LISTENING = """
python3 - <<'PYTHON'
import os, socket, sys, time
until = time.monotonic() + 60
while socket.socket().connect_ex(("127.0.0.1", {port})):
    if time.monotonic() > until:
        sys.exit("nobody listens at {port}")
    time.sleep(0.05)
PYTHON
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _guide(chain: int, service: int) -> str:
    """The guide's commands as one program: ports of its own, and the client of this checkout."""
    lock = _ROOT / "scripts" / "locks" / "development.txt"
    install = f"uv pip install --quiet --python agent/bin/python -c {lock} {_ROOT / 'client'}"
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p); wait' EXIT"]
    programs = iter(("buy.py", "more.py"))
    for kind, block in _BLOCK.findall((_ROOT / "docs" / "agents.md").read_text()):
        if kind == "python":
            lines.append(f"cat >{next(programs)} <<'PROGRAM'\n{block}PROGRAM")
            continue
        lines.append(
            block.replace("anvil --silent", f"anvil --port {chain} --silent")
            .replace("block-time 1 &", "block-time 1 &" + _LISTENING.format(port=chain))
            .replace("serve --with-worker &", f"serve --with-worker --port {service} &")
            .replace("8402", str(service))
            .replace("python3 -m venv", "uv venv --quiet --python python3")
            .replace("agent/bin/pip install usdc-escrow-client", install)
        )
        if "serve" in block:
            lines.append(_LISTENING.format(port=service))
    return "\n".join([*lines, "echo", "agent/bin/python more.py"])


@pytest.mark.campaign
def test_the_guide_leads_from_an_empty_folder_to_purchases(tmp_path: Path) -> None:
    chain, service = _free_port(), _free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COORDINATOR_", "TREASURY_"))}
    done = subprocess.run(
        ["bash", "-c", _guide(chain, service)],
        cwd=tmp_path,
        env=kept
        | {
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "COORDINATOR_RPC_URL": f"http://127.0.0.1:{chain}",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    bought = re.findall(r"^funded (0x\w+)$", done.stdout, re.MULTILINE)
    assert len(bought) == 2
    assert bought[0] == bought[1]
    assert '"status":"funded"' in done.stdout
    assert "organisation total remains 975.00" in done.stdout
    assert done.stdout.endswith("0.31\nwaiting\n")
