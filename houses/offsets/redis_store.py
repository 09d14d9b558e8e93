"""The checkpoint in Redis."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from houses.errors import StoreError
from houses.offsets.bounded_store import ANSWER_S, CONNECT_S
from houses.offsets.checkpoint import Checkpoint, taken_over

_REPLACE = """
local found, writer, seen, record, generation = redis.call('GET', KEYS[1]), unpack(ARGV)
if found and string.sub(found, 1, #writer) == writer then
  -- A request that was given up may arrive behind a later one.
  if tonumber(string.match(found, '"generation":(%d+)')) > tonumber(generation) then return 1 end
elseif found and found ~= seen then
  return 0
end
redis.call('SET', KEYS[1], record)
return 1
"""


class RedisStore:
    """One key per folder, replaced only by the consumer that has the last record in its hands.

    How durable it is says Redis's appendfsync: with `everysec` a power cut of its machine may take the last second,
    without appendonly everything since its last snapshot. An older record, or none, costs a restart that reads more again.
    """

    def __init__(self, address: str, password: str | None, folder: Callable[[], str | None]) -> None:
        """Connects to nothing yet.

        Args:
            address: redis: or rediss:, without a password.
            folder: tells the UUID of the folder whose record is read, None when it has none yet.
        """
        self._client = redis.Redis.from_url(
            address,
            password=password,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._replace = self._client.register_script(_REPLACE)
        self._folder = folder
        self._writer = str(uuid.uuid4()).encode()
        self._seen: bytes | None = None
        """The value that `load` has found: the UUID of its writer, a space, the record."""
        self.name = address

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise StoreError(
                f"{self.name}: {str(error).rstrip('.')}; check consumer.offset_store, the server and the password"
            ) from None

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`."""
        if (folder := self._folder()) is None:
            return None
        with self._errors():
            found = self._client.get(_key(folder))
        if not isinstance(found, bytes):
            return None
        self._seen = found
        return Checkpoint.decode(found.partition(b" ")[2], self.name)

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`.

        Raises:
            PositionError: somebody else has replaced the record meanwhile. StoreError: no Redis, or it refuses.
        """
        record = self._writer + b" " + checkpoint.encode()
        with self._errors():
            is_taken = self._replace(
                [_key(checkpoint.folder)], [self._writer, self._seen or b"", record, checkpoint.generation]
            )
        if not is_taken:
            raise taken_over(self.name, checkpoint.folder)

    def forget(self) -> None:
        """See `CheckpointStore`."""
        if (folder := self._folder()) is not None:
            with self._errors():
                self._client.delete(_key(folder))

    def close(self) -> None:
        """See `CheckpointStore`."""
        self._client.close()


def _key(folder: str) -> str:
    return f"houses:checkpoint:{folder}"
