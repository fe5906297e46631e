"""Files as people have them: marks, other encodings, quotes and variables."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from coordinator.config import Secrets, environment, load_settings, read_policy
from coordinator.domain.errors import ConfigurationError
from coordinator.domain.plain_text import decode_file

POLICY = '[organisation]\ntotal_limit = "5"\n'
AS_PEOPLE_HAVE_THEM = {
    "plain": POLICY.encode(),
    "mark": codecs.BOM_UTF8 + POLICY.encode(),
    "utf-16": POLICY.encode("utf-16"),
    "utf-16-be": codecs.BOM_UTF16_BE + POLICY.encode("utf-16-be"),
    "windows lines": POLICY.replace("\n", "\r\n").encode(),
    "mark and windows lines": codecs.BOM_UTF8 + POLICY.replace("\n", "\r\n").encode(),
}
NOT_TEXT = {
    "latin-1": '[organisation]\n# Zoë\ntotal_limit = "5"\n'.encode("latin-1"),
    "utf-16 without a mark": POLICY.encode("utf-16-le"),
    "half a utf-16": codecs.BOM_UTF16_LE + b"a",
}


@pytest.mark.parametrize("data", AS_PEOPLE_HAVE_THEM.values(), ids=AS_PEOPLE_HAVE_THEM)
def test_a_policy_is_read_as_its_editor_wrote_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    assert read_policy(path).hash == read_policy(write(tmp_path / "p", POLICY.encode())).hash


@pytest.mark.parametrize("data", NOT_TEXT.values(), ids=NOT_TEXT)
def test_what_is_no_text_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "policy.toml", data)
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        read_policy(path)
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        environment(path)
    with pytest.raises(ConfigurationError, match=r"NAME_FILE.*save it as UTF-8"):
        Secrets({"NAME_FILE": str(path)})["NAME"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_env_file_and_a_secret_s_file_are_read_as_their_editor_wrote_them(
    tmp_path: Path, encoding: str
) -> None:
    text = "COORDINATOR_CONFIRMATIONS=7\r\nCOORDINATOR_RPC_URL=http://x\r\n"
    found = environment(write(tmp_path / "env", text.encode(encoding)))
    assert load_settings({k: v for k, v in found.items() if k in text}).confirmations == 7
    secret = write(tmp_path / "secret", "ab\r\n".encode(encoding))
    assert Secrets({"NAME_FILE": str(secret)})["NAME"] == "ab"


@pytest.mark.parametrize("written", ["'Xk${9}q$Z'", '"Xk${9}q$Z"', "Xk${9}q$Z"])
def test_a_dollar_in_a_password_stands_for_itself(tmp_path: Path, written: str) -> None:
    path = write(tmp_path / "env", f"COORDINATOR_KEYSTORE_PASSWORD={written}\n".encode())
    assert environment(path)["COORDINATOR_KEYSTORE_PASSWORD"] == "Xk${9}q$Z"


def test_a_variable_in_a_setting_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "env", b"COORDINATOR_RPC_URL=http://${HOST}:8545\n")
    with pytest.raises(ConfigurationError, match=r"COORDINATOR_RPC_URL in .* holds \$\{…\}"):
        environment(path)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_docker_kept_are_taken_off_and_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    quote: str,
) -> None:
    monkeypatch.setenv("COORDINATOR_NETWORK", f"{quote}base-sepolia{quote}")
    monkeypatch.setenv("COORDINATOR_KEYSTORE_PASSWORD", f"{quote}mine{quote}")
    monkeypatch.chdir(tmp_path)
    found = environment()
    assert found["COORDINATOR_NETWORK"] == "base-sepolia"
    assert found["COORDINATOR_KEYSTORE_PASSWORD"] == f"{quote}mine{quote}"
    assert [r.message for r in caplog.records] == [
        "quotes_removed name=COORDINATOR_NETWORK: Docker's --env-file keeps quotes"
    ]


def test_every_end_of_line_is_one_line_feed() -> None:
    assert decode_file(b"a\r\nb\rc\n") == "a\nb\nc\n"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
