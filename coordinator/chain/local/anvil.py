"""A local chain: Foundry's Anvil, started and stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from coordinator.chain.networks import AGGREGATOR, packaged
from coordinator.chain.rpc.client import Rpc
from coordinator.domain.errors import ChainUnavailable, ConfigurationError

_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "contracts"
_VERSION_LEAST: Final = (1, 5)
_START_SECONDS: Final = 20
# While blocks stay under half full it falls by an eighth a block, down to a few wei.
_BASE_FEE_WEI: Final = 5_000_000
_STOP_SECONDS: Final = 20
# A tenth of a megabyte each; by itself Anvil forgets blocks that are 4,000 back.
_STATES_MAX: Final = 100_000
_LISTENING: Final = re.compile(rb"^Listening on (\S+)\s*$", re.MULTILINE)
# Runs as a program that becomes Anvil, because preexec_fn is unsafe in a process with threads.
# 1 is PR_SET_PDEATHSIG, 15 SIGTERM; the parent may be gone before the signal is asked for.
_DIE_WITH_PARENT: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
# A Popen that is dropped while its process runs warns; these are meant to run on.
_detached: Final[list[subprocess.Popen[bytes]]] = []


def find_anvil() -> Path:
    """Anvil 1.5 or later: beside this Python, on the PATH, or in the checkout's npm packages.

    Only the program itself will do: npm's launcher leaves it running when it is killed.
    ConfigurationError when there is none.
    """
    for path in _candidates():
        if _version(path) >= _VERSION_LEAST:
            return path
    raise ConfigurationError(
        "there is no Anvil 1.5 or later: run scripts/setup, or put Foundry's anvil on the PATH"
    )


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable).parent / "anvil"
    for folder in os.get_exec_path():
        yield Path(folder).absolute() / "anvil"
    yield from sorted(_CHECKOUT.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))


def _version(path: Path) -> tuple[int, ...]:
    """Major and minor; empty when it is not a program, not for this platform or not Anvil."""
    try:
        with path.open("rb") as file:
            if file.read(2) == b"#!":
                return ()
        ran = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(rb"anvil\D*(\d+)\.(\d+)", ran.stdout)
    return tuple(int(part) for part in found.groups()) if found else ()


class Anvil:
    """A running Anvil; as a context manager it is stopped at the end.

    ``url`` is its endpoint, ``pid`` its own process id.
    """

    def __init__(
        self,
        url: str,
        process: subprocess.Popen[bytes],
        states: tempfile.TemporaryDirectory[str] | None,
    ) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process
        self._states = states

    @classmethod
    def start(
        cls,
        *,
        chain_id: int = 84532,
        port: int = 0,
        block_seconds: int | None = None,
        state: Path | None = None,
        log: Path | None = None,
        detached: bool = False,
    ) -> Anvil:
        """An Anvil that answers at ``url``, on a free port when ``port`` is 0.

        Every transaction is mined at once, or every ``block_seconds``. ``state`` keeps
        the chain, but not its pool, from one run to the next. ``log`` is appended to; without it
        requests are not logged. On Linux it ends with the thread that started it, unless it is
        ``detached``: then it outlives this process.

        ConfigurationError when there is no Anvil, ChainUnavailable when it does not start.
        """
        command = [str(find_anvil()), "--port", str(port), "--chain-id", str(chain_id)]
        command += ["--gas-limit", "400000000", "--base-fee", str(_BASE_FEE_WEI)]
        command += ["--disable-min-priority-fee", "--color", "never"]
        if block_seconds is not None:
            command += ["--block-time", str(block_seconds)]
        if state is not None:
            state.parent.mkdir(parents=True, exist_ok=True)
            command += ["--state", str(state)]
        # Anvil leaves what it kept of old blocks in the user's home when it ends.
        states = None if detached else tempfile.TemporaryDirectory(prefix="anvil-states-")
        if states is not None:
            command += ["--cache-path", states.name, "--max-persisted-states", str(_STATES_MAX)]
        with _output(log) as output:
            said_before = output.seek(0, os.SEEK_END)
            process = _launch(command, output, detached=detached)
            anvil = cls("", process, states)
            try:
                anvil.url = "http://" + _listening(process, output, said_before)
                rpc = Rpc([anvil.url])
                rpc.call("eth_chainId")
                # Public chains have Multicall3 there.
                code = packaged("abi", "Aggregator.json")["deployed_bytecode"]
                rpc.call("anvil_setCode", AGGREGATOR, code)
                if log is None:
                    rpc.call("anvil_setLoggingEnabled", False)
            except BaseException:
                anvil.stop()
                raise
        if detached:
            _detached.append(process)
        return anvil

    def stop(self) -> None:
        """End this process and wait for its end; ``state`` is written before."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._states is not None:
            self._states.cleanup()

    def __enter__(self) -> Anvil:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _output(log: Path | None) -> BinaryIO:
    """A file, because a pipe that nobody reads would stop Anvil when it is full."""
    if log is None:
        return tempfile.TemporaryFile()
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("a+b")


def _launch(command: list[str], output: BinaryIO, *, detached: bool) -> subprocess.Popen[bytes]:
    if sys.platform == "linux" and not detached:
        command = [sys.executable, "-IS", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=detached,
    )


def _listening(process: subprocess.Popen[bytes], output: BinaryIO, start: int) -> str:
    """The host and port that it says it listens on, once it does."""

    def listening_port() -> bytes | None:
        ended = process.poll() is not None
        text = os.pread(output.fileno(), 1_000_000, start)
        if found := _LISTENING.search(text):
            return found[1]
        if ended:
            last = text.decode(errors="replace").strip().splitlines()[-1:]
            raise ChainUnavailable(f"Anvil did not start: {''.join(last)[:300]}")
        return None

    waiting = Retrying(
        stop=stop_after_delay(_START_SECONDS),
        wait=wait_fixed(0.01),
        retry=retry_if_result(lambda found: found is None),
    )
    try:
        found = waiting(listening_port)
    except RetryError:
        raise ChainUnavailable(f"Anvil did not start within {_START_SECONDS} seconds") from None
    assert found is not None
    return found.decode()
