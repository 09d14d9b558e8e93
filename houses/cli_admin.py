"""Verbs around the pipeline: stop, start anew, first steps."""

from pathlib import Path

import click

from houses.errors import EXIT_ERROR
from houses.terminal import Count, Seconds, complain, configured, say


@click.command()
@click.option("--all", "everywhere", is_flag=True, help="Also those of all experiments in output/runs.")
@click.pass_context
def stop(ctx: click.Context, everywhere: bool) -> None:
    """Stop this project's producers and consumers in good order, and wait for them. Kafka stays: houses kafka stop.

    \b
    Example:
      houses stop
    """
    from houses.lab.stop import stop as stop_all

    stop_all(configured(ctx), say, everywhere=everywhere)


@click.command()
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
        plan = plan_reset(config, say, keep_kafka=keep_kafka or offsets, archive=archive or offsets)
        if not plan.lines():
            say("Nothing to reset")
            return 0
        for line in plan.lines():
            say(f"- {line}")
        if not yes and not click.confirm("Do that?"):
            complain("Nothing was changed")
            return EXIT_ERROR
        carry_out(config, plan, say)
    return 0


@click.group()
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
    from houses.system.stopping import StoppedEarly, StopRequest
    from houses.teaching import hello_send as send

    stop_request = StopRequest()
    try:
        stop_request.listen()
        send(configured(ctx), count, interval, stop_request.wait, say)
    except StoppedEarly:
        pass
    return stop_request.exit_status


@hello.command("listen")
@click.option("--from-beginning", is_flag=True, help="Begin with the messages that are there already.")
@click.pass_context
def hello_listen(ctx: click.Context, from_beginning: bool) -> int:
    """Print each hello as it comes, until Ctrl-C.

    \b
    Example:
      houses hello listen --from-beginning
    """
    from houses.system.stopping import StoppedEarly, StopRequest
    from houses.teaching import hello_listen as listen

    stop_request = StopRequest()
    try:
        stop_request.listen()
        listen(configured(ctx), from_beginning, stop_request.should_stop, say)
    except StoppedEarly:
        pass
    return stop_request.exit_status


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def naive(ctx: click.Context, folder: Path) -> int:
    """Join parts as many do at first, into FOLDER: a kill loses some houses and doubles others. To compare with `consume`.

    Stops when its stdin or its parent process ends, when it has read what is there.

    \b
    Example:
      houses naive output/naive
    """
    from houses.lab.naive import naive_consume
    from houses.system.stopping import StoppedEarly, StopRequest

    folder.mkdir(parents=True, exist_ok=True)
    stop_request = StopRequest()
    try:
        stop_request.listen(stdin=True)
        naive_consume(configured(ctx), folder, stop_request.should_stop, say)
    except StoppedEarly:
        pass
    return stop_request.exit_status
