"""The checkpoint in a database: SQLite, PostgreSQL, MySQL or MariaDB."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
    and_,
    create_engine,
    delete,
    insert,
    inspect,
    make_url,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from houses.errors import HousesError, StoreError
from houses.offsets.checkpoint import Checkpoint, taken_over

_CONNECT_S, _ANSWER_S = 3, 5
_PGSQL = {
    "connect_timeout": _CONNECT_S,
    "options": f"-c statement_timeout={_ANSWER_S * 1000}",
    # A network that swallows everything: <https://www.postgresql.org/docs/current/libpq-connect.html>
    "keepalives_idle": _ANSWER_S,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": _ANSWER_S * 1000,
}
_MYSQL = {"connect_timeout": _CONNECT_S, "read_timeout": _ANSWER_S, "write_timeout": _ANSWER_S}
_DRIVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sqlite": ("sqlite+pysqlite", {"timeout": _CONNECT_S}),
    "postgresql": ("postgresql+psycopg", _PGSQL),
    "mysql": ("mysql+pymysql", _MYSQL),
    "mariadb": ("mariadb+pymysql", _MYSQL),
}
_TABLE = Table(
    "houses_checkpoints",
    MetaData(),
    Column("folder", String(36), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("writer", String(36), nullable=False),
    Column("record", Text, nullable=False),
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
            self._engine = create_engine(url, poolclass=NullPool, connect_args=options)

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
    def _transaction(self) -> Iterator[Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield connection

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`."""
        with self._transaction() as connection:
            if not self._finds_table(connection):
                return None
            row = connection.execute(select(_TABLE).where(_TABLE.c.folder == self._folder())).one_or_none()
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
            ours = or_(ours, and_(_TABLE.c.generation == generation, _TABLE.c.writer == writer))
        row = {"generation": checkpoint.generation, "writer": self._writer, "record": checkpoint.encode().decode()}
        with self._transaction() as connection:
            replaced = connection.execute(update(_TABLE).where(_TABLE.c.folder == checkpoint.folder, ours).values(row))
            if replaced.rowcount:
                return
            try:  # the first record, or one that was lost
                connection.execute(insert(_TABLE).values(folder=checkpoint.folder, **row))
            except IntegrityError:
                raise taken_over(self.name, checkpoint.folder) from None

    def _make_table(self) -> None:
        with self._transaction() as connection:
            if self._finds_table(connection):
                return
        try:
            with self._transaction() as connection:
                _TABLE.create(connection)
            self._has_table = True
        except StoreError:
            with self._transaction() as connection:
                if not self._finds_table(connection):  # nobody else has made it either
                    raise

    def _finds_table(self, connection: Connection) -> bool:
        self._has_table = inspect(connection).has_table(_TABLE.name)
        return self._has_table

    def forget(self) -> None:
        """See `CheckpointStore`."""
        with self._transaction() as connection:
            if self._finds_table(connection):
                connection.execute(delete(_TABLE).where(_TABLE.c.folder == self._folder()))

    def close(self) -> None:
        """See `CheckpointStore`; no connection is kept."""
        self._engine.dispose()


def _url(address: str, password: str | None) -> tuple[URL, dict[str, Any]]:
    scheme, _, rest = address.partition("://")
    driver, options = _DRIVERS[scheme]
    if scheme == "sqlite":  # all of it is a path, a question mark too, and a file asks for no password
        return URL.create(driver, database=rest.removeprefix("/")), options
    return make_url(address).set(drivername=driver, password=password), options
