"""The container and systemd files run the documented commands, and these commands work."""

from __future__ import annotations

import fcntl
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml
from eth_account import Account

from tests.integration.service.processes import Service, client
from tests.integration.stores import on_postgresql

ROOT: Final = Path(__file__).resolve().parents[3]
UNITS: Final = ROOT / "deploy" / "systemd"
ORIGIN: Final = "https://pay.example.org"
PASSWORD: Final = "not a secret"


@dataclass(frozen=True)
class Run:
    """One process as a file starts it: arguments, settings, and files by their path."""

    arguments: Sequence[str]
    settings: Mapping[str, str]
    secrets: Mapping[str, str]
    check: Sequence[str] | None = None

    @property
    def command(self) -> str:
        return shlex.join(["coordinator", *self.arguments])


def env_file(path: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, _, value in lines if name and not name.startswith("#")}


def composed() -> dict[str, Run]:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    runs = {}
    for name in ("serve", "worker"):
        service = document["services"][name]
        assert service["env_file"] == "coordinator.env"
        program, *arguments = service["command"]
        assert program == "coordinator"
        secrets = {f"/run/secrets/{secret}": secret for secret in service["secrets"]}
        check = service["healthcheck"]["test"]
        runs[name] = Run(arguments, service["environment"], secrets, check[1:])
    return runs


def units() -> dict[str, Run]:
    runs = {}
    for name in ("serve", "worker"):
        text = (UNITS / f"coordinator-{name}.service").read_text()
        given: dict[str, list[str]] = {}
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            given.setdefault(key, []).append(value)
        (start,) = given["ExecStart"]
        program, *arguments = shlex.split(start)
        assert program == "/opt/coordinator/bin/coordinator"
        credentials = f"/run/credentials/coordinator-{name}.service"
        settings = dict(
            line.replace("%d", credentials).split("=", 1) for line in given["Environment"]
        )
        assert given["EnvironmentFile"][0] == "/etc/coordinator/coordinator.env"
        if given["EnvironmentFile"][1:] == ["/etc/coordinator/worker.env"]:
            settings |= env_file(UNITS / "worker.env")
        secrets = {
            f"{credentials}/{loaded.partition(':')[0]}": loaded.rpartition("/")[2]
            for loaded in given["LoadCredential"]
        }
        runs[name] = Run(arguments, settings, secrets)
    return runs


def test_every_file_runs_exactly_the_documented_commands() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("## Ten minutes from an empty server\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^ *(coordinator (?:serve|worker)\b.*)$", section, re.MULTILINE)
    dockerfile = (ROOT / "Dockerfile").read_text()
    image = json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)[0])
    check = json.loads(re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)[0])
    containers, services = composed(), units()

    runs = [*containers.values(), *services.values()]
    assert sorted(documented) == sorted(run.command for run in runs)
    assert shlex.join(image) == containers["serve"].command
    assert check == containers["serve"].check
    for name in ("serve", "worker"):
        assert set(containers[name].settings) == set(services[name].settings)


def test_only_the_worker_is_given_the_treasury_s_key() -> None:
    for runs in (composed(), units()):
        given = set(runs["serve"].secrets.values())
        assert given == {"database_url", "rpc_url", "id_secret"}
        assert set(runs["worker"].secrets.values()) - given == {
            "treasury_keystore",
            "keystore_password",
        }


def test_containers_are_read_only_and_run_as_nobody_special() -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for name in ("serve", "worker"):
        service = document["services"][name]
        assert service["read_only"] is True
        assert service["user"] == "10001:10001"
        assert service["cap_drop"] == ["ALL"]
        assert "ports" not in service
    assert "USER 10001:10001" in (ROOT / "Dockerfile").read_text()


def test_no_file_names_a_registry_or_holds_a_secret() -> None:
    files = [ROOT / "Dockerfile", ROOT / "compose.yaml", *(ROOT / "deploy").rglob("*.*")]
    for file in files:
        for image in re.findall(r"^(?:FROM| *image:) *(\S+)", file.read_text(), re.MULTILINE):
            assert re.fullmatch(r"[a-z0-9-]+(:[a-z0-9.-]+)?", image), f"{file}: {image}"
        assert not re.search(r"(?:PASSWORD|SECRET|KEY|TOKEN)[A-Z_]*[=:] *[^/\s%]", file.read_text())


@contextmanager
def _alone() -> Iterator[None]:
    """The commands name their ports: on one machine they run once at a time."""
    with open(Path(tempfile.gettempdir()) / "coordinator-test-8402.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@on_postgresql
@pytest.mark.parametrize("runs", [composed(), pytest.param(units(), marks=pytest.mark.campaign)])
def test_the_commands_of_the_files_serve_and_act(service: Service, runs: dict[str, Run]) -> None:
    contents = {
        "database_url": service.deciding["COORDINATOR_DATABASE_URL"],
        "rpc_url": service.deciding["COORDINATOR_RPC_URL"],
        "id_secret": service.deciding["COORDINATOR_ID_SECRET"],
        "treasury_keystore": json.dumps(
            Account.encrypt(
                service.acting["TREASURY_PRIVATE_KEY"], PASSWORD, kdf="pbkdf2", iterations=1000
            )
        ),
        "keystore_password": PASSWORD,
    }
    # coordinator.env, as somebody with a local chain would write it.
    operator = env_file(ROOT / "deploy" / "coordinator.env.example") | {
        "COORDINATOR_NETWORK": "anvil",
        "COORDINATOR_DEPLOYMENTS_FOLDER": service.deciding["COORDINATOR_DEPLOYMENTS_FOLDER"],
        "COORDINATOR_SIGNER": f"address:{service.treasury}",
    }
    assert operator["COORDINATOR_PUBLIC_URL"] == ORIGIN
    with service.opened() as treasury:
        token = treasury.create_api_key("agent", "research-agent", by="olga").token

    with _alone():
        for name in ("worker", "serve"):
            _start(service, runs[name], contents, operator)
        with client("http://127.0.0.1:8402", token) as http:
            http.headers["host"] = ORIGIN.removeprefix("https://")
            funded = http.post(
                "/v1/purchases",
                params={"wait": "funded", "timeout": 30},
                headers={"Idempotency-Key": "papers-1"},
                json={"provider": "paper-api", "amount": "25.00", "purpose": "Paper access"},
            )
            assert funded.json()["status"] == "funded", funded.text
            assert http.get("/v1/purchases", headers={"host": "other.example"}).status_code == 421
            assert http.get("/readyz", headers={"host": "127.0.0.1:8402"}).status_code == 200
        for run in runs.values():
            if run.check is not None:
                program, *arguments = run.check
                assert program == "python"
                subprocess.run([sys.executable, *arguments], check=True, timeout=30)
        service.close()


def _start(
    service: Service, run: Run, contents: Mapping[str, str], operator: Mapping[str, str]
) -> None:
    """Start it with its arguments and settings; only the folders are this test's."""
    place = service.folder / run.arguments[0]
    files = {path: contents[secret] for path, secret in run.secrets.items()}
    files["/etc/coordinator/policy.toml"] = (service.folder / "policy.toml").read_text()
    for path, text in files.items():
        written = place / path.lstrip("/")
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text)
    settings = {
        name: re.sub(r"(?<![\w.])/(?=run/|etc/|var/)", f"{place}/", value)
        for name, value in run.settings.items()
    }
    state = place / settings["COORDINATOR_STATE_FOLDER"]
    state.mkdir(parents=True)
    if run.arguments[0] == "serve":
        service.certify("deployed", state)
    service.start(*run.arguments, environment={**operator, **settings})


def test_the_image_copies_files_that_are_there() -> None:
    for copied in copied_files():
        assert (ROOT / copied).exists(), copied


def copied_files() -> list[str]:
    """What the Dockerfile takes from the repository."""
    lines = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    return [name for line in lines for name in line.split()]
