"""Verbs that send: producers, stornos."""

import re
import time
from typing import TYPE_CHECKING, Any

import click

from houses.cli.terminal import Count, Seconds, configured, house_id, progress, say, until_stopped
from houses.system.text import counted

if TYPE_CHECKING:
    from houses.config.config import Config
    from houses.kafka.clients import TopicInfo
    from houses.producer.producers import Producers
    from houses.producer.storno import StornoLoop
    from houses.system.stopping import StopRequest

_POLL_S = 0.1
_RATE_HELP = "Messages per second of each part, or of one."
_FAULT_HELP = "drop, duplicate, malformed (share) or delay_ms of a part."
_INCOMPLETE_HELP = "At the end leave the houses pending that a slower part has not reached."


def part_name(value: str) -> str:
    """A part of a house, by name; what names there are is looked up when it is used."""
    from houses.records.message import PART_BY_NAME

    if value not in PART_BY_NAME:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(PART_BY_NAME)}")
    return value


def part_rate(value: str) -> tuple[str, float]:
    """`X` or `PART=X`, for example `1000` or `wall=50`: the name of the part, empty for all, and the number."""
    part, _, number = value.rpartition("=")
    name = part_name(part) if part else ""
    return name, _number(number, f"{value!r} is neither a number nor PART=NUMBER, such as wall=50")


def part_fault(value: str) -> tuple[str, float]:
    """`PART.FAULT=X`, for example `roof.drop=0.01`: the configuration key, and the number."""
    from houses.config.models import PartFaults

    key, _, number = value.partition("=")
    part, _, fault = key.partition(".")
    part_name(part)
    if fault not in PartFaults.model_fields:
        raise click.BadParameter(f"{fault!r} is not one of {', '.join(PartFaults.model_fields)}")
    return f"producer.faults.{key}", _number(number, f"{value!r} gives no number, as roof.drop=0.01 does")


def _number(text: str, complaint: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(complaint) from None


@click.command(short_help="Send the parts of houses.")
@click.option("--seconds", type=Seconds(min_open=True), help="Stop after so many seconds.")
@click.option("--count", type=Count, help="Stop after so many houses.")
@click.option("--rate", "rates", type=part_rate, multiple=True, metavar="[PART=]HZ", help=_RATE_HELP)
@click.option("--fault", "faults", type=part_fault, multiple=True, metavar="PART.FAULT=X", help=_FAULT_HELP)
@click.option("--incomplete", is_flag=True, help=_INCOMPLETE_HELP)
@click.pass_context
def produce(
    ctx: click.Context,
    seconds: float | None,
    count: int | None,
    rates: tuple[tuple[str, float], ...],
    faults: tuple[tuple[str, float], ...],
    incomplete: bool,
) -> int:
    """Send the three parts of houses until Ctrl-C, `houses stop`, or the end that an option sets.

    \b
    Examples:
      houses produce --seconds 10 --rate 1000
      houses produce --count 500 --rate 200 --rate wall=50
      houses produce --fault roof.drop=0.01 --fault wall.delay_ms=200
    """
    from houses.errors import ConfigError
    from houses.records.message import PARTS

    config = configured(ctx).with_values(rate_values(rates) | dict(faults))
    if not any(config.producer.rate(part.name) for part in PARTS):
        raise ConfigError("all rates are 0: nothing would ever be sent; give one, such as --rate 200")
    config.folder.mkdir(parents=True, exist_ok=True)
    return until_stopped(
        lambda stop: _produce(config, stop, seconds, count, complete=not incomplete),
        config.folder,
        "producer",
        early="Stopped before anything was sent",
    )


def _produce(
    config: "Config", stop: "StopRequest", seconds: float | None, count: int | None, *, complete: bool
) -> None:
    from houses.offsets.binding import check_topics, load_binding
    from houses.producer.producers import Producers
    from houses.system.files import REAL

    topics = _ready(config)
    # Only the consumer makes a binding: two that begin at once must not make two.
    if binding := load_binding(REAL, config.binding_path):
        check_topics(binding, *topics)
    stop.begin()
    with Producers(config, config.kafka.topic, config.folder, count=count) as producers:
        _watch(producers, stop, seconds, count)
        producers.stop(complete=complete)
    if producers.highest_id < producers.first_id:
        say("Nothing was sent")
    else:
        say(f"Sent houses {producers.first_id} to {producers.highest_id}: {_sent(producers)}")


def rate_values(rates: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    """Configuration values for rates given as options: one for all replaces those of config.yaml, then one by one.

    Of several for the same the last counts.
    """
    for_all = [rate_hz for part, rate_hz in rates if not part]
    values: dict[str, Any] = {"producer.msgs_per_sec": for_all[-1], "producer.rates": {}} if for_all else {}
    return values | {f"producer.rates.{part}": rate_hz for part, rate_hz in rates if part}


def _watch(producers: "Producers", stop: "StopRequest", seconds: float | None, count: int | None) -> None:
    """Return when it is time to stop, showing until then how far it is."""
    begun_s = time.monotonic()
    with progress("Sending", seconds if count is None else count) as show:
        while not (producers.done or producers.error or stop.wait(_POLL_S)):
            passed_s = time.monotonic() - begun_s
            if seconds is not None and passed_s >= seconds:
                return
            show(passed_s if count is None else min(producers.sent.values()), _sent(producers))


def _sent(producers: "Producers") -> str:
    return ", ".join(counted(number, name) for name, number in producers.sent.items())


# --- stornos ---


class _Id(click.Command):
    """Explains a negative id, which click takes for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if re.fullmatch(r"-\d+", word):
                raise click.UsageError(f"{word}: an id is 0 or more, for example: houses storno 7", ctx)
        return super().parse_args(ctx, args)


@click.command(cls=_Id, short_help="Cancel a house, or one part of it.")
@click.argument("cancelled_id", metavar="ID", type=house_id)
@click.option("--part", type=part_name, metavar="PART", help="Cancel only this part: foundation, wall or roof.")
@click.pass_context
def storno(ctx: click.Context, cancelled_id: int, part: str | None) -> None:
    """Cancel the house with this ID, or one part of it; before, between or after its parts.

    \b
    Examples:
      houses storno 7
      houses storno 9 --part wall
    """
    from houses.producer.storno import send_storno

    config = configured(ctx)
    _ready(config)
    offset = send_storno(config, cancelled_id, part)
    what = f"house {cancelled_id}{f', {part} only' if part else ''}"
    say(f"Storno of {what}: offset {offset} of {config.consumer.storno_topic}")


@click.command("storno-loop", short_help="Cancel a random recent house every so many seconds.")
@click.option("--interval", type=float, help="Seconds between two.  [default: config.yaml]")
@click.pass_context
def storno_loop(ctx: click.Context, interval: float | None) -> int:
    """Cancel a random recent house every so many seconds, or only a part of it, until Ctrl-C or `houses stop`.

    \b
    Example:
      houses storno-loop --interval 5
    """
    from houses.producer.storno import StornoLoop
    from houses.system.locks import FolderLock

    config = configured(ctx)
    if interval is not None:
        config = config.with_values({"producer.storno_interval_sec": interval})
    _ready(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(config.folder, "storno-loop"):
        loop = StornoLoop(config)
        status = until_stopped(lambda stop: _cancel_again(loop, stop), config.folder, "storno-loop")
        loop.stop()
    say(f"Sent {counted(len(loop.sent), 'storno')}")
    return status


def _cancel_again(loop: "StornoLoop", stop: "StopRequest") -> None:
    loop.start()
    say(f"A storno every {loop.interval_s:g} s; stop with Ctrl-C or houses stop")
    while not stop.wait(1.0):
        pass


def _ready(config: "Config") -> "tuple[TopicInfo, TopicInfo]":
    """The parts and the storno topic, in a Kafka that answers."""
    from houses.kafka.broker import ensure_broker, ensure_topics

    ensure_broker(config)
    return ensure_topics(config)
