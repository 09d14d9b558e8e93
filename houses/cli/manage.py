"""Verbs around the pipeline: the local Kafka, stop, start anew."""

import click

from houses.cli.terminal import complain, configured, say
from houses.errors import EXIT_ERROR


@click.command(short_help="Stop this project's producers and consumers.")
@click.option("--all", "everywhere", is_flag=True, help="Also those of all experiments in output/runs.")
@click.pass_context
def stop(ctx: click.Context, everywhere: bool) -> None:
    """Stop this project's producers and consumers in good order, and wait for them. Kafka stays: houses kafka stop.

    \b
    Example:
      houses stop
    """
    from houses.lab.stop import stop as stop_all

    stop_all(configured(ctx), everywhere=everywhere)


@click.command(short_help="Start anew: topics, output files, checkpoint.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-kafka", is_flag=True, help="Spare the topics.")
@click.option(
    "--archive", is_flag=True, help="Move the files to archive/STAMP in their folder instead of deleting them."
)
@click.option("--offsets", is_flag=True, help="Both of these: the kept topics are read again from the beginning.")
@click.pass_context
def reset(ctx: click.Context, yes: bool, keep_kafka: bool, archive: bool, offsets: bool) -> int:
    """Start anew: delete the topics, the output files and the checkpoint, after showing which.

    \b
    Examples:
      houses reset
      houses reset --archive
      houses reset --offsets --yes
    """
    from houses.lab.reset import exclusive, plan_reset
    from houses.lab.reset import reset as carry_out

    config = configured(ctx)
    with exclusive(config.folder):
        plan = plan_reset(config, keep_kafka=keep_kafka or offsets, archive=archive or offsets)
        if not plan.lines():
            say("Nothing to reset")
            return 0
        for line in plan.lines():
            say(f"- {line}")
        if not yes and not click.confirm("Do that?"):
            complain("Nothing was changed")
            return EXIT_ERROR
        carry_out(config, plan)
    return 0


@click.group(short_help="Start, stop or look at the local Kafka.")
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
    ensure_broker(config)
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
    local_kafka.stop(config.data_dir)
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
    from houses.cli.status import kafka_lines

    for line in kafka_lines(configured(ctx)):
        say(line)
