"""The main job passes, and fails when the chain or a limit is changed underneath."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from coordinator import Usdc, demo
from coordinator.demo import stage
from coordinator.demo.scenes import SAFE_SCENES, SCENES, Scene, a_days_limit


def test_a_safe_plays_every_scene_and_a_leaked_key_takes_nothing() -> None:
    shown = _run("--payer", "safe")
    assert [(s["name"], s["outcome"]) for s in shown["scenes"]] == [
        (scene.name, scene.expected) for scene in SAFE_SCENES
    ]
    assert shown["ok"] is True
    assert shown["scenes"][-1]["evidence"] == {
        "refused": {
            "a transfer": "FunctionNotAllowed",
            "an approval": "ParameterNotAllowed",
            "an escrow for a stranger": "ParameterNotAllowed",
        },
        "pauses": ["organisation"],
    }


def _run(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "demo", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_scene_comes_out_as_expected() -> None:
    shown = _run()
    assert [(s["name"], s["outcome"]) for s in shown["scenes"]] == [
        (scene.name, scene.expected) for scene in SCENES
    ]
    assert shown["ok"] is True
    funded = shown["scenes"][0]["evidence"]
    assert funded["kernel_state"] == "funded"
    assert funded["vault_remaining"] == "25.00"
    hashes = {t["step"]: (t["hash"], t["block"]) for t in funded["transactions"]}
    assert hashes["create"][1] == hashes["link"][1], "create and fund land in one block"


def _play(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scenes: Sequence[Scene]
) -> tuple[int, Any]:
    monkeypatch.setattr(demo, "SCENES", scenes)
    status = demo.run(json_output=True)
    return status, json.loads(capsys.readouterr().out)


def test_a_limit_changed_underneath_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = stage.policy_text
    monkeypatch.setattr(
        stage, "policy_text", lambda p: written(p).replace('limit = "300"', 'limit = "400"')
    )
    scene = next(s for s in SCENES if s.play is a_days_limit)

    status, shown = _play(monkeypatch, capsys, [scene])

    assert status == 1
    assert shown["scenes"][0]["ok"] is False


def test_a_treasury_without_usdc_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "TREASURY_USDC", Usdc("10.00"))

    status, shown = _play(monkeypatch, capsys, SCENES[:1])

    assert status == 1
    assert shown["ok"] is False
    assert "insufficient_usdc" in json.dumps(shown["scenes"][0]) or "failed" in json.dumps(shown)
