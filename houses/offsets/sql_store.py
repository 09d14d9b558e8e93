"""The checkpoint in a database: SQLite, PostgreSQL, MySQL or MariaDB."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from houses.errors import HousesError, StoreError
from houses.offsets.bounded_store import ANSWER_S, CONNECT_S
from houses.offsets.checkpoint import Checkpoint, taken_over

_PGSQL = {
    "connect_timeout": CONNECT_S,
    "options": f"-c statement_timeout={ANSWER_S * 1000}",
    # A network that swallows everything: <https://www.postgresql.org/docs/current/libpq-connect.html>
    "keepalives_idle": ANSWER_S,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": ANSWER_S * 1000,
}
_MYSQL = {"connect_timeout": CONNECT_S, "read_timeout": ANSWER_S, "write_timeout": ANSWER_S}
_DRIVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sqlite": ("sqlite+pysqlite", {"timeout": CONNECT_S}),
    "postgresql": ("postgresql+psycopg", _PGSQL),
    "mysql": ("mysql+pymysql", _MYSQL),
    "mariadb": ("mariadb+pymysql", _MYSQL),
}
_TABLE = sa.Table(
    "houses_checkpoints",
    sa.MetaData(),
    sa.Column("folder", sa.String(36), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("writer", sa.String(36), nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    mysql_engine="InnoDB",
)


class SqlStore:
    """One row per folder, replaced in one transaction, and only by the consumer that has the last record in its hands."""

    def __init__(self, address: str, password: str | None, folder: Callable[[], str | None]) -> None:
        """Connects to nothing yet.

        Args:
            address: sqlite:, postgresql:, mysql: or mariadb:, without a password.
            folder: tells the UUID of the folder whose record is read, None when it has none yet.
        Raises:
            StoreError: an option of the address has a value that the driver cannot take.
        """
        self.name = address
        self._password = password
        self._folder = folder
        self._writer = str(uuid.uuid4())
        self._seen: tuple[int, str] | None = None
        """Generation and writer of the record that `load` has found."""
        self._has_table = False
        """Whether the table was there when it was last looked for."""
        with self._errors():
            # A record every half a minute: a connection of its own each time, so that none can have gone stale.
            url, options = _url(address, password)
            self._engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=options)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (HousesError, ModuleNotFoundError):
            raise
        except Exception as error:  # noqa: BLE001  # drivers answer an option or a login with TypeError, RuntimeError, ...
            self._has_table = False
            why = str(getattr(error, "orig", error)).strip() or type(error).__name__
            why = why.splitlines()[0]
            why = why.replace(self._password, "***") if self._password else why
            advice = "the file and its folder" if self.name.startswith("sqlite") else "the server and the password"
            raise StoreError(f"{self.name}: {why}; check consumer.offset_store, {advice}") from None

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield connection

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`."""
        with self._transaction() as connection:
            if not self._finds_table(connection):
                return None
            row = connection.execute(sa.select(_TABLE).where(_TABLE.c.folder == self._folder())).one_or_none()
        if row is None:
            return None
        self._seen = (row.generation, row.writer)
        return Checkpoint.decode(row.record.encode(), self.name)

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`.

        Raises:
            PositionError: somebody else has replaced the record meanwhile. StoreError: no database, or it refuses.
        """
        if not self._has_table:
            self._make_table()
        ours = _TABLE.c.writer == self._writer
        if self._seen:
            generation, writer = self._seen
            ours = sa.or_(ours, sa.and_(_TABLE.c.generation == generation, _TABLE.c.writer == writer))
        row = {"generation": checkpoint.generation, "writer": self._writer, "record": checkpoint.encode().decode()}
        with self._transaction() as connection:
            replaced = connection.execute(
                sa.update(_TABLE).where(_TABLE.c.folder == checkpoint.folder, ours).values(row)
            )
            if replaced.rowcount:
                return
            try:  # the first record, or one that was lost
                connection.execute(sa.insert(_TABLE).values(folder=checkpoint.folder, **row))
            except sa.exc.IntegrityError:
                raise taken_over(self.name, checkpoint.folder) from None

    def _make_table(self) -> None:
        try:
            with self._transaction() as connection:
                _TABLE.create(connection, checkfirst=True)
            self._has_table = True
        except StoreError:
            with self._transaction() as connection:
                if not self._finds_table(connection):  # nobody else has made it either
                    raise

    def _finds_table(self, connection: sa.Connection) -> bool:
        self._has_table = sa.inspect(connection).has_table(_TABLE.name)
        return self._has_table

    def forget(self) -> None:
        """See `CheckpointStore`."""
        with self._transaction() as connection:
            if self._finds_table(connection):
                connection.execute(sa.delete(_TABLE).where(_TABLE.c.folder == self._folder()))

    def close(self) -> None:
        """See `CheckpointStore`; no connection is kept."""
        self._engine.dispose()


def _url(address: str, password: str | None) -> tuple[sa.URL, dict[str, Any]]:
    scheme, _, rest = address.partition("://")
    driver, options = _DRIVERS[scheme]
    if scheme == "sqlite":  # all of it is a path, a question mark too, and a file asks for no password
        return sa.URL.create(driver, database=rest.removeprefix("/")), options
    return sa.make_url(address).set(drivername=driver, password=password), options
