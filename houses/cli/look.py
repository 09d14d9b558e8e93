"""Verbs that look: status, houses, one house's story, raw messages, the proof; and compact."""

from typing import TYPE_CHECKING

import click

from houses.cli.terminal import Count, configured, house_id, print_json, say, table, tell, work_shown
from houses.system.text import counted

if TYPE_CHECKING:
    from houses.config.config import Config


@click.command(short_help="Say how things stand, in plain words.")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Say how things stand: Kafka, topics, processes, and what the consumer measured last. Starts nothing.

    \b
    Example:
      houses status
    """
    from houses.cli.status import status_lines

    for line in status_lines(configured(ctx)):
        say(line)


@click.command(short_help="Show houses as a table, the pending ones, or one house's story.")
@click.option("--last", type=Count, default=10, show_default=True, metavar="K", help="How many houses.")
@click.option("--pending", is_flag=True, help="The pending houses instead: those that lack parts.")
@click.option("--id", "wanted_id", type=house_id, metavar="N", help="The story of one house instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.pass_context
def show(ctx: click.Context, last: int, pending: bool, wanted_id: int | None, as_json: bool) -> None:
    """Show the newest houses, the pending ones, or all that is known of one.

    \b
    Examples:
      houses show --last 20
      houses show --pending
      houses show --id 7
      houses show --json
    """
    if pending and wanted_id is not None:
        raise click.UsageError("--pending and --id exclude each other")
    config = configured(ctx)
    if wanted_id is not None:
        from houses.verify.story import story

        tell(story(config, wanted_id), as_json)
    elif pending:
        _show_pending(config, last, as_json)
    else:
        _show_recent(config, last, as_json)


def _show_recent(config: "Config", count: int, as_json: bool) -> None:
    from houses.kafka.reader import printable
    from houses.records.message import PART_NAMES, PARTS
    from houses.verify.recent import recent_houses

    houses = recent_houses(config.houses_path, config.storno_houses_path, count)
    if as_json:
        for house in houses:
            print_json(house.to_json())
        return
    rows = []
    for house in houses:
        parts = [house.line.parts.get(f"partition_{part.number}", {}) for part in PARTS]
        completed = (house.line.completed_at or "").partition("T")[2][:12]  # to the millisecond
        texts = [printable(str(text).encode()) for text in (*(part.get("name", "") for part in parts), completed)]
        latency = "" if house.latency_ms is None else f"{house.latency_ms:.1f}"
        rows.append((house.line.id, *texts, latency, house.state))
    if rows:
        table(("id", *PART_NAMES, "completed (UTC)", "ms", "state"), rows)
    else:
        say(f"No house is finished yet: {_why_none(config)}")


def _why_none(config: "Config") -> str:
    from houses.system.locks import lock_owner

    if lock_owner(config.folder, "consumer"):
        return "the consumer that runs has not come to one; houses status says more"
    if config.base_id_path.exists():
        return "parts were sent, and houses consume joins them"
    return "houses produce sends parts, and houses consume joins them"


def _show_pending(config: "Config", count: int, as_json: bool) -> None:
    from houses.records.message import PART_NAMES
    from houses.verify.pending import pending_houses

    with work_shown("Looking"):
        houses = pending_houses(config)
    if as_json:
        for house in houses[:count]:
            print_json(house.to_json())
        return
    rows = [(house.id, *(house.offsets.get(name, "missing") for name in PART_NAMES)) for house in houses[:count]]
    said = counted(len(houses), "house is pending", "houses are pending")
    if rows:
        say(f"{said}; the first {len(rows)}, with the offsets of what has come:")
        table(("id", *PART_NAMES), rows)
    else:
        say(said)


@click.command(short_help="Print raw messages of a topic.")
@click.option("--topic", metavar="NAME", help="Which topic.  [default: the parts topic]")
@click.option("--partition", type=click.IntRange(min=0), metavar="P", help="Only this partition.  [default: all]")
@click.option(
    "--from", "start", type=click.IntRange(min=0), metavar="OFFSET", help="The first offset.  [default: the last ones]"
)
@click.option("--count", type=Count, default=10, show_default=True, help="How many of each partition.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.pass_context
def peek(
    ctx: click.Context, topic: str | None, partition: int | None, start: int | None, count: int, as_json: bool
) -> None:
    """Print raw messages as they stand in Kafka, control characters escaped.

    \b
    Examples:
      houses peek --count 3
      houses peek --partition 1 --from 100
      houses peek --topic house-storno
    """
    from houses.kafka.reader import peek as read

    records = read(configured(ctx), topic, partition, start, count)
    if records and not as_json:
        say(records[0].heading())
    for record in records:
        tell(record, as_json)
    if not records and not as_json:
        say("No messages there")


@click.command(short_help="Prove that every message has exactly one outcome.")
@click.option("--json", "as_json", is_flag=True, help="The certificate as one JSON object, for programs.")
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> int:
    """Compare the output files with the topics: print a certificate, exit with 1 when anything is wrong. Starts nothing.

    \b
    Example:
      houses verify
    """
    from houses.verify.verify import verify as prove

    with work_shown("Verifying"):
        certificate = prove(configured(ctx))
    tell(certificate, as_json)
    return 0 if certificate.ok else 1


@click.command(short_help="Write houses_live.jsonl, without the cancelled houses.")
@click.pass_context
def compact(ctx: click.Context) -> None:
    """Write houses_live.jsonl beside houses.jsonl: the same without the houses that are cancelled, as a whole or in part.

    So a house whose wall alone was cancelled is not in it. Nothing else is changed.

    \b
    Example:
      houses compact
    """
    from houses.verify.compact import compact as write_live

    config = configured(ctx)
    with work_shown("Writing"):
        done = write_live(config)
    say(str(done))
