"""Verbs that join: the consumer, and a naive one to compare with."""

from pathlib import Path
from typing import Any

import click

from houses.cli.terminal import configured, until_stopped, work_shown


@click.command(short_help="Join parts to houses until stopped.")
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
        return run_consumer(config, **choices)
    with work_shown("Reading", err=False):
        return run_consumer(config, **choices)


@click.command(short_help="A join that loses and doubles houses when it is killed, to compare with.")
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

    folder.mkdir(parents=True, exist_ok=True)
    return until_stopped(lambda stop: naive_consume(configured(ctx), folder, stop.should_stop), stdin=True)
