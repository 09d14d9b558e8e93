"""The checkpoint in the commit metadata of a Kafka consumer group."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from houses.errors import AccessError, BrokerError, PositionError
from houses.kafka.clients import NO_ACCESS, error_text
from houses.offsets.checkpoint import Checkpoint
from houses.records.message import PARTS

_METADATA_CAP_BYTES = 4096
_REMEMBERED = 8


class Commit(NamedTuple):
    """What a group holds."""

    offsets: tuple[int, ...]
    """The low watermarks, and the next storno."""
    record: str
    """Metadata of partition 0."""


class KafkaStore:
    """The record in the commit metadata of a Kafka consumer group, whose offsets are the low watermarks.

    All partitions go in one OffsetCommit request, which the group's coordinator appends as one batch.
    """

    def __init__(self, client: dict[str, Any], group_id: str, topics: tuple[str, str], timeout_s: float = 5.0) -> None:
        """`client` holds the librdkafka settings to connect with; `topics` are the parts and the storno topic."""
        parts, storno = topics
        self._places = (*((parts, part.partition) for part in PARTS), (storno, 0))
        self._timeout_s = timeout_s
        self._settings = client
        self._group_id = group_id
        self._ours = deque[Commit | None](maxlen=_REMEMBERED)
        """What this store has found or tried to put there; a commit that failed may have been taken all the same."""
        self.name = f"Kafka group {group_id}"
        # No subscribe(): the group only keeps offsets, partitions are assigned by hand.
        self._client = Consumer(client | {"group.id": group_id, "enable.auto.commit": False})

    def load(self) -> Checkpoint | None:
        """See `CheckpointStore`; `PositionError` when another program has set the offsets of the group."""
        found = self._committed()
        self._ours.append(found)
        if found is None:
            return None
        checkpoint = Checkpoint.decode(found.record.encode(), self.name)
        if found != _commit_of(checkpoint):
            raise self._set_by_others(found)
        return checkpoint

    def _committed(self) -> Commit | None:
        wanted = [TopicPartition(*place) for place in self._places]
        places = self._answer("its offsets cannot be read", lambda: self._client.committed(wanted, self._timeout_s))
        offsets = tuple(place.offset for place in places)
        return None if max(offsets) < 0 else Commit(offsets, places[0].metadata or "")

    def _set_by_others(self, found: Commit) -> PositionError:
        return PositionError(
            f"{self.name}: another program has set its offsets ({', '.join(map(str, found.offsets))}), which this consumer "
            "alone may do: see that none uses the group, then go on from the files themselves with: houses consume --rescan"
        )

    def save(self, checkpoint: Checkpoint, *, last: bool = False) -> None:
        """See `CheckpointStore`; `PositionError` when another program has set the offsets of the group meanwhile."""
        commit = _commit_of(checkpoint)
        if len(commit.record) > _METADATA_CAP_BYTES:
            raise PositionError(
                f"{self.name}: a record of {len(commit.record)} bytes does not fit the {_METADATA_CAP_BYTES} of a commit"
            )
        if found := self._committed():  # one that was lost is put there again
            if found not in self._ours:
                raise self._set_by_others(found)
            self._ours.remove(found)
            self._ours.append(found)  # not forgotten, however many fail after it
        self._ours.append(commit)
        self._commit(commit)

    def _commit(self, commit: Commit) -> None:
        (first, *others), offsets = self._places, commit.offsets
        positions = [TopicPartition(*first, offsets[0], commit.record)]
        positions += [TopicPartition(*place, offset) for place, offset in zip(others, offsets[1:], strict=True)]
        self._answer("the checkpoint was not taken", lambda: self._client.commit(offsets=positions, asynchronous=False))

    def _answer(self, failure: str, request: Callable[[], list[TopicPartition] | None]) -> list[TopicPartition]:
        try:
            places = request() or []
            errors = [place.error for place in places if place.error]
        except KafkaException as error:
            places, errors = [], [error.args[0]]
        if errors:
            refused = errors[0]
            if refused.code() in NO_ACCESS:
                raise AccessError(
                    f"{self.name}: {failure} ({refused.str()}): check kafka.security and the broker's log"
                )
            raise BrokerError(f"{self.name}: {failure} ({refused.str()}): check the broker")
        return places

    def forget(self) -> None:
        """See `CheckpointStore`: the group goes, with its offsets."""
        admin = AdminClient(self._settings)
        (future,) = admin.delete_consumer_groups([self._group_id], request_timeout=self._timeout_s).values()
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise BrokerError(f"{self.name}: cannot be deleted ({error_text(error)}): check the broker") from None

    def close(self) -> None:
        """See `CheckpointStore`."""
        self._client.close()


def _commit_of(checkpoint: Checkpoint) -> Commit:
    return Commit((*checkpoint.low, checkpoint.storno_next), checkpoint.encode().decode())
