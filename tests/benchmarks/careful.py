"""The nearest package's careful caller on the same work, in its own environment.

``pay_carefully`` starts ``careful_caller.py`` with the interpreter of ``.venv-peer``.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.course import AMOUNT
from tests.benchmarks.scene import Scene, Treasury, for_child
from tests.integration.ledger.deciding import PROVIDER

_ROOT: Final = Path(__file__).resolve().parents[2]
_PYTHON: Final = _ROOT / ".venv-peer/bin/python"


@dataclass(frozen=True, slots=True)
class Careful:
    """Seconds until the last of its purchases is linked, and what of that is the creates."""

    name: str
    purchases: int
    seconds: float
    creating_seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "purchases": self.purchases,
            "seconds": round(self.seconds, 3),
            "creating_seconds": round(self.creating_seconds, 3),
        }


def pay_carefully(scene: Scene, treasury: Treasury, count: int) -> Careful | None:
    """Fund so many escrows by the peer's own code; None where its environment was not made."""
    if not _PYTHON.exists():
        return None
    d = scene.deployment
    command = [str(_PYTHON), str(Path(__file__).with_name("careful_caller.py"))]
    command += ["--rpc-url", scene.url, "--kernel", d.kernel, "--vault", d.vault, "--usdc", d.usdc]
    command += ["--provider", PROVIDER, "--amount", AMOUNT, "--count", str(count)]
    with subprocess.Popen(
        command,
        cwd=scene.folder,
        env=for_child({"PEER_PRIVATE_KEY": treasury.key}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        assert caller.stdin and caller.stdout
        if caller.stdout.readline() != "ready\n":
            raise RuntimeError("the peer's caller did not start")
        scene.wait_for_block()
        told, _ = caller.communicate("\n", timeout=600)
    found = json.loads(told)
    return Careful(found["name"], count, found["seconds"], found["creating_seconds"])
