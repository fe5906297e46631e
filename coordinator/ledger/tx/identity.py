"""The identity of a database: which treasury, chain and contracts it belongs to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from sqlalchemy import insert, select

from coordinator.domain.errors import ConfigurationError
from coordinator.ledger.store import schema as t
from coordinator.ledger.store.database import Database


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a database: its chain, contracts, treasury and id secret.

    ``treasury`` is the account whose USDC is paid, ``signer`` the one whose key signs for it: the
    same, unless the treasury is a Safe.
    """

    chain_id: int
    genesis: str
    kernel: str
    vault: str
    usdc: str
    treasury: str
    signer: str
    secret_mark: str


class IdentityBook:
    """Binds a database to one treasury, for ever."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def identity(self) -> Identity | None:
        """The identity that the database has; None while it is fresh."""
        with self._database.read() as connection:
            row = connection.execute(select(t.identity)).one_or_none()
        if row is None:
            return None
        return Identity(
            row.chain_id,
            row.genesis,
            row.kernel,
            row.vault,
            row.usdc,
            row.treasury,
            row.signer,
            row.secret_mark,
        )

    def claim(self, identity: Identity) -> None:
        """Bind a fresh database; ConfigurationError when it belongs to something else."""
        known = self.identity()
        if known is None:
            with self._database.write() as connection:
                if connection.execute(select(t.identity)).first() is None:
                    connection.execute(insert(t.identity).values(asdict(identity)))
            known = self.identity()
        assert known is not None
        if replace(known, secret_mark=identity.secret_mark) == identity != known:
            raise ConfigurationError(
                "COORDINATOR_ID_SECRET is not the secret this database was made with; with"
                " another one a purchase could be paid twice"
            )
        if known != identity:
            raise ConfigurationError(
                f"this database belongs to treasury {known.treasury}, key {known.signer}, kernel"
                f" {known.kernel}, vault {known.vault} and token {known.usdc} on chain"
                f" {known.chain_id} (genesis {known.genesis[:12] or 'any'}); use another"
                " COORDINATOR_DATABASE_URL"
            )
