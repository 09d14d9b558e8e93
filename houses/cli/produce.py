"""Verbs that send: producers, stornos."""

import re
from typing import TYPE_CHECKING, Any

import click

from houses.cli.terminal import Count, HouseId, Seconds, configured, progress, say
from houses.system.text import counted

if TYPE_CHECKING:
    from houses.config.config import Config
    from houses.kafka.clients import TopicInfo
    from houses.producer.producers import Producers
    from houses.system.stopping import StopRequest

_POLL_S = 0.1


class PartName(click.ParamType[str]):
    """A part of a house, by name; what names there are is looked up when it is used."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, when there is such a part."""
        from houses.records.message import PART_BY_NAME

        if value not in PART_BY_NAME:
            self.fail(f"{value!r} is not one of {', '.join(PART_BY_NAME)}", param, ctx)
        return str(value)


class PartRate(click.ParamType[tuple[str, float]]):
    """`X` or `PART=X`, for example `1000` or `wall=50`."""

    name = "[part=]hz"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The name of the part, empty for all, and the number."""
        part, _, number = str(value).rpartition("=")
        try:
            return (PartName().convert(part, param, ctx) if part else ""), float(number)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor PART=NUMBER, such as wall=50", param, ctx)


class Fault(click.ParamType[tuple[str, float]]):
    """`PART.FAULT=X`, for example `roof.drop=0.01`."""

    name = "part.fault=x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The configuration key below producer.faults, and the number."""
        from houses.config.models import PartFaults

        key, _, number = str(value).partition("=")
        part, _, fault = key.partition(".")
        PartName().convert(part, param, ctx)
        if fault not in PartFaults.model_fields:
            self.fail(f"{fault!r} is not one of {', '.join(PartFaults.model_fields)}", param, ctx)
        try:
            return key, float(number)
        except ValueError:
            self.fail(f"{value!r} gives no number, as roof.drop=0.01 does", param, ctx)


@click.command(short_help="Send the parts of houses.")
@click.option("--seconds", type=Seconds(min_open=True), help="Stop after so many seconds.")
@click.option("--count", type=Count, help="Stop after so many houses.")
@click.option("--rate", "rates", type=PartRate(), multiple=True, help="Messages per second of each part, or of one.")
@click.option(
    "--fault", "faults", type=Fault(), multiple=True, help="drop, duplicate, malformed (share) or delay_ms of a part."
)
@click.option(
    "--incomplete", is_flag=True, help="At the end leave the houses unfinished that a slower part has not reached."
)
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
    from houses.offsets.binding import check_topics, load_binding
    from houses.producer.producers import Producers
    from houses.records.message import PARTS
    from houses.system.files import REAL
    from houses.system.stopping import StoppedEarly, StopRequest

    config = configured(ctx).with_values(
        rate_values(rates) | {f"producer.faults.{key}": value for key, value in faults}
    )
    if not any(config.producer.rate(part.name) for part in PARTS):
        raise ConfigError("all rates are 0: nothing would ever be sent; give one, such as --rate 200")
    config.folder.mkdir(parents=True, exist_ok=True)
    stop = StopRequest(config.folder, "producer")
    try:
        stop.listen()
        topics = _ready(config)
        # Only the consumer makes a binding: two that begin at once must not make two.
        if binding := load_binding(REAL, config.binding_path):
            check_topics(binding, *topics)
        stop.begin()
    except StoppedEarly:
        say("Stopped before anything was sent")
        return stop.exit_status
    with Producers(config, config.kafka.topic, config.folder, count=count) as producers:
        _watch(producers, stop, seconds, count)
        producers.stop(complete=not incomplete)
    if producers.highest_id < producers.first_id:
        say("Nothing was sent")
    else:
        say(f"Sent houses {producers.first_id} to {producers.highest_id}: {_sent(producers)}")
    return stop.exit_status


def rate_values(rates: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    """Configuration values for rates given as options: one for all replaces those of config.yaml, then one by one.

    Of several for the same the last counts.
    """
    values: dict[str, Any] = {}
    for part, rate_hz in sorted(rates, key=lambda rate: bool(rate[0])):
        values |= (
            {f"producer.rates.{part}": rate_hz} if part else {"producer.msgs_per_sec": rate_hz, "producer.rates": {}}
        )
    return values


def _watch(producers: "Producers", stop: "StopRequest", seconds: float | None, count: int | None) -> None:
    """Return when it is time to stop, showing until then how far it is."""
    import time

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
@click.argument("house_id", metavar="ID", type=HouseId())
@click.option("--part", type=PartName(), help="Cancel only this part: foundation, wall or roof.")
@click.pass_context
def storno(ctx: click.Context, house_id: int, part: str | None) -> None:
    """Cancel the house with this ID, or one part of it; before, between or after its parts.

    \b
    Examples:
      houses storno 7
      houses storno 9 --part wall
    """
    from houses.producer.storno import send_storno

    config = configured(ctx)
    _ready(config)
    offset = send_storno(config, house_id, part)
    what = f"house {house_id}{f', {part} only' if part else ''}"
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
    from houses.system.stopping import StoppedEarly, StopRequest

    config = configured(ctx)
    loop = StornoLoop(config, interval_s=interval)
    _ready(config)
    config.folder.mkdir(parents=True, exist_ok=True)
    stop = StopRequest(config.folder, "storno-loop")
    with FolderLock(config.folder, "storno-loop"):
        try:
            stop.listen()
            loop.start()
            say(f"A storno every {loop.interval_s:g} s; stop with Ctrl-C or houses stop")
            while not stop.wait(1.0):
                pass
        except StoppedEarly:
            pass
        loop.stop()
    say(f"Sent {counted(len(loop.sent), 'storno')}")
    return stop.exit_status


def _ready(config: "Config") -> "tuple[TopicInfo, TopicInfo]":
    """The parts and the storno topic, in a Kafka that answers."""
    from houses.kafka.broker import ensure_broker, ensure_topics

    ensure_broker(config)
    return ensure_topics(config)
