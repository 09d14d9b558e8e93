"""First steps: a producer that says hello, and a listener that prints what it hears."""

import time
from typing import TYPE_CHECKING

import click

from houses.cli.terminal import Count, Seconds, configured, say, until_stopped

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from houses.config.config import Config
    from houses.system.stopping import StopRequest

_CONFIRM_TIMEOUT_S = 10.0
_POLL_S = 0.1


@click.group(short_help="First steps: send and hear a few hellos.")
def hello() -> None:
    """First steps: a producer that says hello, and a listener that prints what it hears.

    \b
    Examples:
      houses hello listen
      houses hello send
    """


@hello.command("send")
@click.option("--count", type=Count, default=10, show_default=True, help="How many.")
@click.option("--interval", type=Seconds(), default=1.0, show_default=True, help="Seconds between two.")
@click.pass_context
def hello_send(ctx: click.Context, count: int, interval: float) -> int:
    """Send hellos, and say in which partition and at which offset each one landed.

    \b
    Example:
      houses hello send --count 3 --interval 0.5
    """
    return until_stopped(lambda stop: _send(configured(ctx), count, interval, stop))


@hello.command("listen")
@click.option("--from-beginning", is_flag=True, help="Begin with the messages that are there already.")
@click.pass_context
def hello_listen(ctx: click.Context, from_beginning: bool) -> int:
    """Print each hello as it comes, until Ctrl-C.

    \b
    Example:
      houses hello listen --from-beginning
    """
    return until_stopped(lambda stop: _listen(configured(ctx), from_beginning, stop))


def _topic(config: "Config") -> tuple[str, int]:
    """Name and number of partitions of the hello topic, made with one when absent; Kafka is started if need be."""
    from houses.kafka.broker import describe_topics, ensure_broker, ensure_topics_named

    ensure_broker(config)
    name = config.kafka.hello_topic
    topics = describe_topics(config.kafka, [name]) or ensure_topics_named(config.kafka, {name: 1})
    return name, topics[name].partitions


def _send(config: "Config", count: int, interval_s: float, stop: "StopRequest") -> None:
    """Send `Hello 1`, `Hello 2` and so on, each confirmed by Kafka before the next."""
    from houses.kafka.clients import confirming_producer, produce_confirmed

    topic, _ = _topic(config)
    producer = confirming_producer(config.kafka, _CONFIRM_TIMEOUT_S)
    begun_s = time.monotonic()
    for number in range(1, count + 1):
        text = f"Hello {number}"
        sent = produce_confirmed(producer, topic, text.encode())
        say(f"sent: partition {sent.partition()}, offset {sent.offset()}: {text}")
        # Against the start, so that the time a confirmation takes does not add up.
        if number < count and stop.wait(max(0.0, begun_s + number * interval_s - time.monotonic())):
            return


def _listen(config: "Config", from_beginning: bool, stop: "StopRequest") -> None:
    """Say each message of the hello topic as it comes; `from_beginning`: also those that are there already."""
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

    from houses.kafka.clients import READER, connect

    topic, partitions = _topic(config)
    start = OFFSET_BEGINNING if from_beginning else OFFSET_END
    # What was deleted meanwhile is no error here: it listens on.
    own = {"auto.offset.reset": "latest", "enable.partition.eof": False, "error_cb": _say_when_away}
    consumer = connect(Consumer, config.kafka, READER | own)
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition in range(partitions)])
        say(f"Listening to {topic}; stop with Ctrl-C")
        while not stop.should_stop():
            for message in consumer.consume(100, _POLL_S):
                _hear(message)
    finally:
        consumer.close()


def _say_when_away(error: "KafkaError") -> None:
    if error.code() == error._ALL_BROKERS_DOWN:
        say(f"Kafka: {error.str()}")


def _hear(message: "Message") -> None:
    from houses.kafka.reader import printable

    if error := message.error():
        say(f"Kafka: {error.str()}")
    else:
        say(f"heard: partition {message.partition()}, offset {message.offset()}: {printable(message.value())}")
