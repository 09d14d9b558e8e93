"""One Kafka producer that forgets no failure: batches in, order kept, a full queue waits, errors latched."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from houses.config.config import Config
from houses.config.models import ProducerConfig
from houses.errors import BrokerError
from houses.kafka.clients import connect, error_text, metadata_of
from houses.system.text import counted

LOG = logging.getLogger(__name__)

_WAIT_S = 0.05
_PRODUCER_ID_S = 0.55
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


def producer_settings(producer: ProducerConfig) -> dict[str, Any]:
    """librdkafka settings of the producer section; a value that turns idempotence off is said."""
    weak = _against_idempotence(producer)
    if weak:
        LOG.info(
            f"{weak}: idempotence is off, so messages may be lost, repeated or reordered in an outage; "
            "producer.acks: all with the default retries keeps it on"
        )
    return {
        "compression.type": producer.compression_type,
        "linger.ms": producer.linger_ms,
        "batch.size": producer.batch_size,
        "queue.buffering.max.kbytes": producer.buffer_memory // 1024,
        "queue.buffering.max.messages": 0,  # memory is the limit, whatever the size of a message
        "acks": producer.acks,
        "retries": producer.retries,
        "enable.idempotence": not weak,
    }


def _against_idempotence(producer: ProducerConfig) -> str:
    if producer.acks in (0, 1):
        return f"producer.acks = {producer.acks}"
    return "producer.retries = 0" if producer.retries == 0 else ""


class Sender:
    """A Kafka producer shared by threads; what one thread sends to a partition arrives in that order.

    Only failures are reported back one by one, which is cheaper; the rest is the producer's own count.
    """

    def __init__(self, config: Config, topic: str) -> None:
        """Returns when a broker has described the topic; `BrokerError` when none answers or the topic is absent."""
        self._kafka, self._topic = config.kafka, topic
        self._lock = threading.Lock()
        self._accepted = 0
        self._moved = (0, 0.0)  # messages that had left the queue, and when that number was new (monotonic clock)
        self._patience_s: float | None = None
        self._outage: int | None = None  # messages that had been taken, less those that failed, when one was said
        self._errors: list[KafkaError] = []
        self._first_failure = ""
        self._broken = ""  # by what, once this client can send nothing any more
        self.failed = 0
        """Messages that were refused, finally failed, or were given up."""
        settings = producer_settings(config.producer)
        settings |= {"delivery.report.only.error": True, "error_cb": self._note_error}
        self._client = connect(Producer, config.kafka, settings)
        self._ready_s = time.monotonic() + (_PRODUCER_ID_S if settings["enable.idempotence"] else 0.0)
        metadata_of(self._client, config.kafka, self._errors, topic)

    def await_producer_id(self) -> None:
        """Return when messages leave at once, usually; sent before, they are the slow ones of a run.

        An idempotent producer sends nothing before the broker gave it an id. librdkafka asks for it at once, when no
        connection is up yet, and again half a second later: `rd_kafka_idemp_pid_timer_restart` in rdkafka_idempotence.c.
        """
        time.sleep(max(0.0, self._ready_s - time.monotonic()))

    @property
    def queued(self) -> int:
        """Messages handed over that Kafka has not confirmed yet."""
        return len(self._client)

    def send(self, partition: int, messages: list[dict[str, Any]]) -> int:
        """Hand messages ({"key", "value"}, each its own dict) to Kafka, waiting while the queue is full.

        Returns:
            How many were not handed over: 0, except when it gave up (after `limit_patience`); they count as failed.
        Raises:
            BrokerError: what this producer has sent before ended in an error that it cannot go on from.
        """
        while messages:
            messages = self._hand_over(partition, messages)
            if messages and self._stalled():
                self._note_failures(len(messages), self._errors[-1].str() if self._errors else "the queue stayed full")
                return len(messages)
            self.poll(_WAIT_S if messages else 0.0)
        return 0

    def _hand_over(self, partition: int, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One produce_batch; returns what found the queue full, which is always the rest of the batch.

        What produce_batch really does (confluent_kafka 2.16.1): it ignores a message's own partition, raises no
        BufferError, returns the number accepted, and writes `_error` into the dict of each refused message.
        """
        with self._lock:
            accepted = self._client.produce_batch(
                self._topic, messages, partition=partition, on_delivery=self._note_delivery
            )
            self._accepted += accepted
        if accepted == len(messages):
            return []
        refused = [(message.pop("_error"), message) for message in messages if "_error" in message]
        full = [message for error, message in refused if error.code() == KafkaError._QUEUE_FULL]
        for error, _ in refused:
            if error.code() != KafkaError._QUEUE_FULL:
                self._note_failures(1, f"partition {partition}: {error.str()}")
        return full

    def poll(self, wait_s: float = 0.0) -> None:
        """Take in what happened to messages sent earlier, or happens in so many seconds; raises as `send` does."""
        self._serve(self._client.poll, wait_s)
        if self._broken:
            raise BrokerError(f"Kafka refuses this producer for good: {self._broken}; start it again")
        self._note_recovery()

    def _serve(self, wait: Callable[[float], object], wait_s: float) -> None:
        # error_cb never hears of a fatal error: confluent_kafka raises it, once, out of whichever call serves the events.
        try:
            wait(wait_s)
        except KafkaException as error:
            self._broken = error_text(error)

    def limit_patience(self, patience_s: float) -> None:
        """From now on give up when no message leaves the queue for that long; without this, wait for ever."""
        self._moved = (self._left_queue(), time.monotonic())
        self._patience_s = patience_s

    def _stalled(self) -> bool:
        left, now_s = self._left_queue(), time.monotonic()
        if left > self._moved[0]:  # len() counts unserved events too, so the number may also fall for a moment
            self._moved = (left, now_s)
        return self._patience_s is not None and now_s - self._moved[1] > self._patience_s

    def _left_queue(self) -> int:
        with self._lock:
            return self._accepted - len(self._client)

    def close(self) -> None:
        """Flush, give up what does not move any more, and leave the broker.

        Raises:
            BrokerError: how many messages were not delivered since the start, and the first reason.
        """
        while self.queued and not self._stalled():
            self._serve(self._client.flush, _WAIT_S)
        if self.queued:
            self._client.purge()  # each message that it gives up is reported, and so counted
            self._serve(self._client.flush, 1.0)
        if self.failed:
            raise BrokerError(
                f"{counted(self.failed, 'message was', 'messages were')} not delivered to {self._kafka.bootstrap_servers}: {self._first_failure}; "
                "see that the broker is well (houses kafka status, for the local one), then start again"
            )

    def _note_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        given_up = error.code() in _PURGED and self._errors
        cause = self._errors[-1] if given_up else error
        self._note_failures(1, f"partition {message.partition()}: {cause.str()}")

    def _note_failures(self, count: int, reason: str) -> None:
        with self._lock:
            self.failed += count
            self._first_failure = self._first_failure or reason

    def _note_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._TRANSPORT and self._outage is None:  # one broken connection may heal unnoticed
            with self._lock:
                self._outage = self._accepted - self.failed
            LOG.info(f"Kafka: {error.str()}; messages wait until it answers again")
        self._errors[1:] = [error]  # the first and the latest are enough

    def _note_recovery(self) -> None:
        """Say that an outage is over once Kafka has confirmed a message that was taken after it was said."""
        if self._outage is None:
            return
        with self._lock:
            delivered = self._accepted - len(self._client) - self.failed
            if self._outage is None or delivered <= self._outage:
                return
            self._outage = None
        LOG.info("Kafka answers again: messages go out")
