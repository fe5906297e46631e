"""The doctor's checks of this machine: settings, key, policy, database, worker."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from coordinator.chain.networks import NETWORKS, Network
from coordinator.chain.signers.opening import load_signer
from coordinator.chain.signers.signers import Signer, refuse_development_key
from coordinator.config import Secrets, Settings, id_secret, load_settings, read_policy
from coordinator.doctor.check import Check, guarded, skipped
from coordinator.doctor.service import checks_of_the_service
from coordinator.domain.chain.escrow_key import audit_key
from coordinator.domain.errors import (
    ConfigurationError,
    LedgerTampered,
    LedgerUnavailable,
    SignerUnavailable,
)
from coordinator.domain.policy.policy import Policy
from coordinator.ledger.audit.log import AuditLog
from coordinator.ledger.proofs.verification import verify
from coordinator.ledger.store.database import Database
from coordinator.ledger.store.migrate import HEAD, revision
from coordinator.ledger.store.opening import open_database
from coordinator.ledger.store.sqlite import SQLITE_VERSION_MIN, SqliteDatabase
from coordinator.ledger.tx.identity import IdentityBook
from coordinator.ledger.tx.leases import LeaseBook
from coordinator.ledger.tx.notices import NoticeBook
from coordinator.ledger.tx.pausing import list_pauses
from coordinator.ledger.tx.policies import PolicyBook
from coordinator.startup import ADDRESS_OF_DATABASE, address_of_database

_INIT = "coordinator init"


class LocalPatient:
    """Settings and what they lead to; a missing part is None."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.secrets = Secrets(env)

    @cached_property
    def settings(self) -> Settings | None:
        try:
            return load_settings(self._env)
        except ConfigurationError:
            return None

    @cached_property
    def network(self) -> Network | None:
        return NETWORKS[self.settings.network] if self.settings else None

    @cached_property
    def signer(self) -> Signer | None:
        try:
            return self._load_signer()
        except (ConfigurationError, SignerUnavailable):
            return None

    @property
    def treasury(self) -> str | None:
        """The account whose USDC is paid."""
        if self.settings is not None and self.settings.safe_address:
            return self.settings.safe_address
        return self.signer.address if self.signer is not None else None

    def _named(self, signer: Signer) -> str:
        if self.settings is not None and self.settings.safe_address:
            return f"treasury {self.settings.safe_address}, a Safe, with the key {signer.address}"
        return f"treasury {signer.address}"

    def _load_signer(self) -> Signer | None:
        if self.settings is None:
            return None
        if self.settings.signer != ADDRESS_OF_DATABASE:
            return load_signer(self.settings.signer, self.secrets)
        if self.database is None or not revision(self.database):
            raise ConfigurationError("COORDINATOR_SIGNER=address needs a database that was used")
        return address_of_database(IdentityBook(self.database))

    @cached_property
    def audit_key(self) -> bytes | None:
        try:
            return audit_key(id_secret(self.secrets))
        except ConfigurationError:
            return None

    @cached_property
    def database(self) -> Database | None:
        """The database where there is one; the doctor makes none."""
        if self.settings is None:
            return None
        try:
            database = open_database(self.settings.database_url)
            return database if database.exists() else None
        except (ConfigurationError, OSError):
            return None

    def checks_before_the_chain(self) -> Iterator[Check]:
        yield guarded("settings", "configuration", self._settings)
        yield guarded("id secret", "configuration", self._id_secret)
        yield guarded("key", "configuration", self._key)
        yield guarded("policy", "configuration", self._policy)

    def checks_of_the_service(self) -> Iterator[Check]:
        """Check what `coordinator serve` needs, where a public URL says that it is to serve."""
        if self.settings is not None and self.settings.public_url is not None:
            yield from checks_of_the_service(self.settings.public_url)

    def checks_of_the_database(self) -> Iterator[Check]:
        if self.database is None or not self.database.many_hosts:
            yield _sqlite_version()
        try:
            yield from self._checks_of_its_contents()
        finally:
            if self.database is not None:
                self.database.close()

    def _checks_of_its_contents(self) -> Iterator[Check]:
        found = guarded("database", "configuration", self._database)
        yield found
        names = ("audit log", "worker", "pauses", "alerts")
        if found.status != "ok":
            yield from (skipped(name, "see the database's row") for name in names)
            return
        if self.database is None:
            yield from (Check(name, "ok", "nothing yet") for name in names)
            return
        yield guarded("audit log", "configuration", self._audit)
        yield guarded("worker", "configuration", self._worker)
        yield guarded("pauses", "configuration", self._pauses)
        yield guarded("alerts", "configuration", self._alerts)

    def _settings(self) -> Check:
        settings = load_settings(self._env)
        given = sorted(name for name in self._env if name.startswith("COORDINATOR_"))
        if not given:
            found = f"no settings: using the defaults, network {settings.network}"
            return Check("settings", "warn", found, _INIT)
        file = Path(".env")
        source = ".env and the environment" if file.is_file() else "the environment"
        found = f"network {settings.network}, from {source}"
        if file.is_file() and file.stat().st_mode & 0o077:
            return Check("settings", "warn", f"{found}; others can read .env", "chmod 600 .env")
        return Check("settings", "ok", found)

    def _id_secret(self) -> Check:
        try:
            id_secret(self.secrets)
        except ConfigurationError as fault:
            return Check("id secret", "fail", str(fault), _INIT)
        return Check("id secret", "ok", "set")

    def _key(self) -> Check:
        if self.settings is None:
            return skipped("key", "the settings are wrong")
        spec = self.settings.signer
        if spec.startswith("env:") and self.settings.network == "base":
            found = "a key in the environment is refused on base"
            return Check("key", "fail", found, "coordinator wallet new")
        try:
            signer = self._load_signer()
            assert signer is not None
            if signer.can_sign:
                signer.open()
            if self.network is not None and not (self.network.local or self.network.simulated):
                refuse_development_key(signer.address, self.network.name)
        except SignerUnavailable as fault:
            action = "see that the device or service that has the key is reachable"
            return Check("key", "fail", str(fault), action)
        except ConfigurationError as fault:
            in_device = spec.startswith(("aws-kms:", "pkcs11:"))
            action = "see docs/keys.md" if in_device else f"{_INIT}, or coordinator wallet new"
            return Check("key", "fail", str(fault), action)
        if not signer.can_sign:
            found = f"{self._named(signer)}; no key here: this host decides, a worker signs"
            return Check("key", "ok", found)
        return Check("key", "ok", f"{self._named(signer)} from {spec}")

    def _policy(self) -> Check:
        if self.settings is None:
            return skipped("policy", "the settings are wrong")
        path = self.settings.policy_file
        try:
            policy = read_policy(path)
        except ConfigurationError as fault:
            action = "coordinator policy check" if path.exists() else _INIT
            return Check("policy", "fail", str(fault).replace("\n", "; "), action)
        found = f"agents: {len(policy.agents)}, providers: {len(policy.providers)}"
        if not policy.providers:
            return Check(
                "policy",
                "warn",
                f"{found}: without providers every purchase is denied",
                f"edit {path}",
            )
        if not policy.approvals.approvers:
            found = f"{found}; without approvers, purchases above a threshold expire"
            return Check("policy", "warn", found, f"edit {path}")
        try:
            in_force = self._in_force()
        except LedgerTampered as fault:
            return Check("policy", "fail", str(fault), "coordinator audit verify")
        if in_force is not None and in_force.hash != policy.hash:
            found += f"; the file was changed: {self._what_applies_it(in_force)}"
            return Check("policy", "warn", found, "coordinator policy diff")
        return Check("policy", "ok", f"{found}, hash {policy.hash[:12]}…")

    def _what_applies_it(self, in_force: Policy) -> str:
        if in_force.approvals.signatures == "required":
            return "approvers have to sign it, run coordinator policy draft"
        if self.database is not None and self.database.many_hosts:
            return "run coordinator policy apply"
        return "the next command applies it"

    def _in_force(self) -> Policy | None:
        if self.database is None or self.audit_key is None or not revision(self.database):
            return None
        try:
            return PolicyBook(self.database, self._log(self.database, self.audit_key)).current()
        except ConfigurationError:
            return None

    def _log(self, database: Database, key: bytes) -> AuditLog:
        signer = self.signer.address if self.signer else None
        return AuditLog(database, key, treasury=self.treasury, signer=signer)

    def _database(self) -> Check:
        if self.settings is None:
            return skipped("database", "the settings are wrong")
        database = self.database or open_database(self.settings.database_url)
        if isinstance(database, SqliteDatabase) and not database.exists():
            return _file_to_be_made(database.path)
        try:
            with database.write():
                pass
        except LedgerUnavailable as fault:
            action = "see which process uses it, and whether this user may write it"
            return Check("database", "fail", str(fault), action)
        known = revision(database)
        if known != HEAD:
            found = f"{database.name}, schema revision {known or 'none'}, not {HEAD}"
            return Check("database", "warn", found, "coordinator migrate")
        return self._owner(database)

    def _owner(self, database: Database) -> Check:
        owner = IdentityBook(database).identity()
        found = f"{database.name}, schema revision {HEAD}"
        if owner and self.treasury and owner.treasury != self.treasury:
            found = f"{database.name} belongs to treasury {owner.treasury}"
            return Check("database", "fail", found, "set COORDINATOR_DATABASE_URL")
        return Check("database", "ok", found)

    def _audit(self) -> Check:
        assert self.database is not None
        if self.audit_key is None:
            return skipped("audit log", "the id secret is missing")
        result = verify(self._log(self.database, self.audit_key))
        if result.ok:
            return Check("audit log", "ok", f"{result.head.count} rows, verified")
        found = f"{len(result.faults)} faults: {result.faults[0]}"
        return Check("audit log", "fail", found, "coordinator audit verify")

    def _worker(self) -> Check:
        assert self.database is not None
        owner = IdentityBook(self.database).identity()
        holder = None
        if owner is not None:
            leases = LeaseBook(self.database, chain_id=owner.chain_id, signer=owner.signer)
            holder = leases.present()
        if holder is not None and holder.alive:
            return Check("worker", "ok", f"alive, process {holder.pid}")
        found = "none is running: a command acts only for its own purchase; nothing settles later"
        return Check("worker", "warn", found, "coordinator worker")

    def _pauses(self) -> Check:
        assert self.database is not None
        with self.database.read() as connection:
            pauses = list_pauses(connection)
        if not pauses:
            return Check("pauses", "ok", "spending is not paused")
        shown = [
            f"{p} for {int(time.time() - p.at) // 60} min, by {p.by}: {p.reason}" for p in pauses
        ]
        return Check("pauses", "warn", "; ".join(shown), "coordinator unpause")

    def _alerts(self) -> Check:
        assert self.database is not None
        if self.audit_key is None:
            return skipped("alerts", "the id secret is missing")
        try:
            policy = PolicyBook(self.database, self._log(self.database, self.audit_key)).current()
        except LedgerTampered as fault:
            return Check("alerts", "fail", str(fault), "coordinator audit verify")
        except ConfigurationError:
            return Check("alerts", "ok", "nothing yet")
        count = len(policy.alerts.notify)
        if not count:
            found = "no targets: notices are kept, not delivered"
            return Check("alerts", "ok", found, "set [alerts] notify in the policy")
        found = f"targets: {count}"
        if find_spec("apprise") is None:
            action = "pip install 'usdc-escrow-coordinator[alerts]'"
            return Check("alerts", "warn", f"{found}; apprise, which delivers, is missing", action)
        last = NoticeBook(self.database).last_tried()
        if last is None:
            return Check("alerts", "ok", f"{found}; nothing delivered yet")
        if last.fault is not None:
            return Check("alerts", "warn", f"{found}; {last.fault}", "coordinator alerts test")
        return Check("alerts", "ok", f"{found}; the last notice was delivered")


def _sqlite_version() -> Check:
    sqlite = sqlite3.sqlite_version
    least = ".".join(map(str, SQLITE_VERSION_MIN))
    if sqlite3.sqlite_version_info >= SQLITE_VERSION_MIN:
        return Check("SQLite", "ok", f"version {sqlite}")
    action = "use a Python with a newer SQLite"
    return Check("SQLite", "fail", f"version {sqlite}, older than {least}", action)


def _file_to_be_made(path: Path) -> Check:
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK):
        found = f"{folder} can't be written by this user"
        return Check("database", "fail", found, "set COORDINATOR_DATABASE_URL")
    return Check("database", "ok", f"{path} does not exist yet; the first command creates it")
