"""Stornos: cancelling a house, or one part of it, once or every so many seconds."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Self

from confluent_kafka import KafkaError

from houses.config.config import Config
from houses.kafka.clients import confirming_producer, metadata_of, produce_confirmed
from houses.kafka.reader import last_records
from houses.producer.ids import RECENT_IDS, highest_id, pick_recent
from houses.records.message import PARTS, encode_storno, part_named

LOG = logging.getLogger(__name__)

_LOOP_TIMEOUT_S = 4.0  # a stop waits for the storno that is on its way


class StornoSender:
    """Sends stornos, each confirmed by Kafka before `send` returns; threads may share it.

    Acks are all and idempotence is on whatever the producer section says: a storno is rare and must not be lost.
    """

    def __init__(self, config: Config, timeout_s: float = 10.0) -> None:
        """Returns when a broker has described the storno topic.

        Args:
            config: where Kafka is, and the storno topic.
            timeout_s: how long Kafka may take to confirm a storno.
        Raises:
            BrokerError: no broker answers, or the topic is absent.
        """
        self._topic = config.consumer.storno_topic
        errors = deque[KafkaError](maxlen=20)
        self._client = confirming_producer(config.kafka, timeout_s, {"error_cb": errors.append})
        metadata_of(self._client, config.kafka, errors, self._topic, timeout_s)

    def send(self, house_id: int, part_name: str | None = None) -> int:
        """Cancel a house, or only its part of that name; returns the storno's offset in the storno topic.

        Raises:
            MessageError: the id does not fit a message. ConfigError: there is no such part.
            BrokerError: Kafka did not confirm it in time; it may have arrived all the same.
        """
        value = encode_storno(house_id, None if part_name is None else part_named(part_name))
        return int(produce_confirmed(self._client, self._topic, value, partition=0).offset() or 0)


def send_storno(config: Config, house_id: int, part_name: str | None = None) -> int:
    """One storno by a sender of its own; see `StornoSender.send`."""
    return StornoSender(config).send(house_id, part_name)


def checked_interval_s(config: Config, interval_s: float | None) -> float:
    """Seconds between two stornos; None: as configured. `ConfigError` when producer.storno_interval_sec may not be it."""
    given = {} if interval_s is None else {"producer.storno_interval_sec": interval_s}
    return config.with_values(given).producer.storno_interval_sec


class SentStorno(NamedTuple):
    """A storno that the loop has sent."""

    house_id: int
    part_name: str | None
    """None: the whole house."""
    offset: int


class StornoLoop:
    """A thread that cancels a random recent house every so many seconds: half of the times fully, else one part.

    An error does not end it, the next storno is tried all the same; `stop` raises the first one.
    """

    def __init__(
        self,
        config: Config,
        recent_id: Callable[[], int | None] | None = None,
        interval_s: float | None = None,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            config: broker, topics, seed (producer.seed) and interval (producer.storno_interval_sec).
            recent_id: gives an id, or None for "not now"; by default one of the newest in the parts topic.
            interval_s: instead of the configured interval.
        Raises:
            ConfigError: the interval is not one that the configuration may hold.
        """
        self.interval_s = checked_interval_s(config, interval_s)
        self.sent: list[SentStorno] = []
        """What was sent, oldest first."""
        self.error: Exception | None = None
        """The first error; `stop` raises it."""
        self._config = config
        self._random = Random() if config.producer.seed is None else Random(f"{config.producer.seed}/storno")
        self._recent_id = recent_id or self._recent_in_topic
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storno-loop", daemon=True)

    def start(self) -> Self:
        """Connect and begin; the first storno comes after one interval. Raises BrokerError as `StornoSender` does."""
        self._sender = StornoSender(self._config, _LOOP_TIMEOUT_S)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread, within 5 seconds, and raise the first error since the start."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self.error:
            raise self.error

    def _run(self) -> None:
        while not self._stopping.wait(self.interval_s):
            try:
                self._send_one()
            except Exception as error:  # noqa: BLE001  # raised again by stop(), in the thread that can show it
                self.error = self.error or error
                LOG.info(str(error))

    def _send_one(self) -> None:
        house_id = self._recent_id()
        if house_id is None:
            return
        part_name = self._random.choice(PARTS).name if self._random.random() < 0.5 else None
        sent = SentStorno(house_id, part_name, self._sender.send(house_id, part_name))
        self.sent.append(sent)
        LOG.info(f"storno of house {house_id}{f', {part_name} only' if part_name else ''} at offset {sent.offset}")

    def _recent_in_topic(self) -> int | None:
        records = last_records(self._config.kafka, self._config.kafka.topic, RECENT_IDS, _LOOP_TIMEOUT_S)
        return pick_recent(self._random, 0, highest_id(records))
