"""The main job, played on a local chain: ``run`` shows it as a table or as JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from coordinator.demo.scenes import SAFE_SCENES, SCENES, Outcome, Scene, reported
from coordinator.demo.stage import Stage, open_stage, worker_command
from coordinator.domain.errors import CoordinatorError


@dataclass(slots=True)
class _Show:
    scenes: Sequence[Scene]
    results: list[dict[str, Any]] = field(default_factory=list)
    playing: str | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def ok(self) -> bool:
        return len(self.results) == len(self.scenes) and all(r["ok"] for r in self.results)

    @property
    def seconds(self) -> int:
        return round(time.monotonic() - self.started)

    def __rich__(self) -> Table:
        table = Table(title="USDC escrow payments for a research crew", expand=False)
        table.add_column("", width=2)
        table.add_column("scene", no_wrap=True)
        table.add_column("outcome")
        for result in self.results:
            mark = "[green]✓[/]" if result["ok"] else "[red]✗[/]"
            text = result["outcome"]
            if not result["ok"]:
                text = f"[red]{text}[/]\nexpected: {result['expected']}"
            table.add_row(mark, result["name"], text)
        if self.playing:
            table.add_row("…", self.playing, "")
        return table


def run(*, json_output: bool = False, keep: bool = False, payer: str = "wallet") -> int:
    """Play every scene; 0 when each came out as expected, 1 otherwise.

    ``payer`` is what the treasury is, ``wallet`` or ``safe``. ``json_output`` prints one object at
    the end; ``keep`` leaves chain, database and a worker running and says what to type next.
    """
    show = _Show(SCENES if payer == "wallet" else SAFE_SCENES)
    console = Console(stderr=json_output)
    console.print("Starting a local chain and deploying the contracts …", style="dim")
    with _quiet(), open_stage(keep=keep, payer=payer) as stage:
        with Live(show, console=console, refresh_per_second=8):
            for scene in show.scenes:
                show.playing = scene.name
                show.results.append(_play(scene, stage))
            show.playing = None
        seconds = show.seconds
        console.line()
    if json_output:
        print(json.dumps({"ok": show.ok, "seconds": seconds, "scenes": show.results}, indent=2))
    else:
        _tell_end(console, show, seconds)
    if keep:
        _leave_running(stage, console)
    return 0 if show.ok else 1


@contextmanager
def _quiet() -> Iterator[None]:
    # The scenes provoke what would be warnings elsewhere; their outcome tells it.
    log = logging.getLogger("coordinator")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _play(scene: Scene, stage: Stage) -> dict[str, Any]:
    try:
        outcome = scene.play(stage)
    except (CoordinatorError, LookupError, StopIteration) as fault:
        outcome = Outcome(f"{type(fault).__name__}: {fault}", {})
    return {
        "name": scene.name,
        "expected": scene.expected,
        "outcome": outcome.text,
        "ok": outcome.text == scene.expected,
        "evidence": outcome.evidence,
    }


def _tell_end(console: Console, show: _Show, seconds: int) -> None:
    good = sum(result["ok"] for result in show.results)
    plays = zip(show.scenes, show.results, strict=True)
    report = next((result["evidence"] for scene, result in plays if scene.play is reported), None)
    console.print(f"{good} of {len(show.scenes)} scenes as expected in {seconds} s.")
    if report:
        console.print(
            f"Treasury: opened with {report['deposits']} USDC, {report['in_escrow']} in escrow,"
            f" {report['paid']} paid, {report['fees']} fees, {report['closing']} left."
        )
        console.print(f"Audit head: {report['audit_head']}", soft_wrap=True)


def _leave_running(stage: Stage, console: Console) -> None:
    log = (stage.folder / "worker.log").open("ab")
    worker = subprocess.Popen(
        worker_command(),
        cwd=stage.folder,
        env={**os.environ, **stage.environment},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    # Read by the commands below from the folder's .env.
    stage.write_env()
    console.print(f"\nStill running: Anvil (pid {stage.anvil.pid}), worker (pid {worker.pid}).")
    console.print("Next, for example:", style="bold")
    command = f"{sys.executable} -m coordinator"
    coordinator = os.path.join(os.path.dirname(sys.executable), "coordinator")
    command = coordinator if os.path.exists(coordinator) else command
    console.print(f"  cd {stage.folder}", soft_wrap=True)
    console.print(
        f"  {command} purchase request --agent data-agent --provider paper-api"
        ' --amount 120 --purpose "More papers"',
        soft_wrap=True,
    )
    console.print(f"  {command} approvals list", soft_wrap=True)
    console.print(f"To end both: kill {stage.anvil.pid} {worker.pid}; rm -r {stage.folder}")
    console.print(
        "Purchases without an agent are those that the rebuilt database knows from the chain"
        " alone, until an agent asks with their key again.",
        style="dim",
    )
