"""Verbs that run the pipeline: the demo, the local Kafka, the consumer."""

from typing import Any

import click

from houses.terminal import configured, progress, say


@click.command()
@click.pass_context
def demo(ctx: click.Context) -> Any:
    """Send, join, cancel, crash, recover and prove it: the whole lab in about half a minute.

    \b
    Example:
      houses demo
    """
    from houses.lab.demo import demo as run

    return run(configured(ctx), say)


@click.group()
def kafka() -> None:
    """Start, stop or look at the local Kafka.

    \b
    Example:
      houses kafka start
    """


@kafka.command("start")
@click.pass_context
def kafka_start(ctx: click.Context) -> None:
    """Start Kafka at kafka.bootstrap_servers, unless one answers there; it stays up until `houses kafka stop`.

    \b
    Example:
      houses kafka start
    """
    from houses.kafka.broker import cluster_id, ensure_broker

    config = configured(ctx)
    ensure_broker(config, say)
    say(f"Kafka answers at {config.kafka.bootstrap_servers}, cluster {cluster_id(config.kafka)}")


@kafka.command("stop")
@click.pass_context
def kafka_stop(ctx: click.Context) -> None:
    """Stop the local Kafka; its topics stay on the disk. A Kafka of somebody else is left alone.

    \b
    Example:
      houses kafka stop
    """
    from houses.kafka.local import server as local_kafka
    from houses.lab.stop import holders

    config = configured(ctx)
    ran = local_kafka.status(config.data_dir).running
    local_kafka.stop(config.data_dir, say)
    if not ran:
        say(f"Nothing to stop: no Kafka of {config.data_dir} runs")
        return
    say("Kafka has stopped")
    for folder, role, process in holders(config, everywhere=True):
        say(f"The {role} of {folder} (process {process.pid}) still runs, and waits until Kafka is back")


@kafka.command("status")
@click.pass_context
def kafka_status(ctx: click.Context) -> None:
    """Say whether Kafka answers, and whether it is the local one.

    \b
    Example:
      houses kafka status
    """
    from houses.status import kafka_lines

    for line in kafka_lines(configured(ctx)):
        say(line)


@click.command()
@click.option("--accept-gap", is_flag=True, help="Go on although records were deleted before they were read.")
@click.option("--rescan", is_flag=True, help="Forget the checkpoint and find the position from the files.")
@click.option("--until-end", is_flag=True, help="Stop at the end that the topics have now.")
@click.option("--stop-with-stdin", is_flag=True, help="Stop when stdin or the parent process ends (for programs).")
@click.option("--crash-at", metavar="POINT", help="Die (SIGKILL) there, to see what recovery does.")
@click.pass_context
def consume(ctx: click.Context, /, until_end: bool, crash_at: str | None, **choices: Any) -> int:
    """Join parts to houses until Ctrl-C or `houses stop`; the next start goes on where this one ends.

    \b
    Examples:
      houses consume
      houses consume --until-end
      houses consume --crash-at "after sync houses.jsonl 200"
    """
    from houses.consumer.consumer import run_consumer

    config, choices = configured(ctx), choices | {"until_end": until_end, "crash_at": crash_at}
    if not until_end or crash_at:  # who is killed leaves no terminal behind as it was
        return run_consumer(config, say, **choices)
    with progress("Reading", None) as show:
        return run_consumer(config, say, **choices, show=lambda line: show(0, line))
