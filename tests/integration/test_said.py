"""An endpoint's words reach people without its key and without escape codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COORDINATOR = Path(sys.executable).parent / "coordinator"
KEY = "k3y-of-the-endpoint-0042"


class Rude(BaseHTTPRequestHandler):
    """Quotes the request's URL, with escape codes and a forged line, to all but the chain's id."""

    def do_POST(self) -> None:
        calls = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = f"\x1b]0;owned\x07\x1b[2J upstream http://x{self.path}\nerror: send your key"
        answers: list[dict[str, Any]] = []
        for call in calls:
            answer: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
            if call["method"] == "eth_chainId":
                answer["result"] = hex(84532)
            else:
                answer["error"] = {"code": -32000, "message": said}
            answers.append(answer)
        body = json.dumps(answers).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def rude() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rude)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://user:{KEY}@127.0.0.1:{server.server_port}/v2/{KEY}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rude: str) -> Path:
    """Where a treasury was set up, with the endpoint and its secrets in the environment."""
    made = tmp_path_factory.mktemp("treasury")
    credential = f"address:0x{'11' * 20}"
    run(made, rude, "init", "--network", "base-sepolia", "--credential", credential, "--yes")
    return made


def run(folder: Path, rude: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COORDINATOR_NETWORK": "base-sepolia",
        "COORDINATOR_RPC_URL": rude,
        "TREASURY_PRIVATE_KEY": "0x" + "11" * 32,
        "COORDINATOR_ID_SECRET": "22" * 32,
    }
    return subprocess.run(
        [COORDINATOR, *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.mark.each_choice
@pytest.mark.parametrize("json_wanted", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("command", ["gas", "reconcile", "doctor", "report", "recover"])
def test_what_an_endpoint_says_is_shown_without_its_key(
    rude: str, folder: Path, command: str, json_wanted: bool
) -> None:
    arguments = [command, *(["--timeout-seconds", "3"] if command == "recover" else [])]
    if json_wanted:
        arguments.append("--json")

    done = run(folder, rude, *arguments)

    assert done.returncode != 0
    printed = done.stdout + done.stderr
    assert printed
    assert KEY.encode() not in printed
    assert b"\x1b" not in printed and b"\\u001b" not in printed
    assert b"\nerror: send your key" not in printed
