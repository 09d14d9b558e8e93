"""Verbs that run something: the consumer."""

import click

from houses.terminal import configured, say


@click.command()
@click.option("--accept-gap", is_flag=True, help="Go on although records were deleted before they were read.")
@click.option("--rescan", is_flag=True, help="Forget the checkpoint and find the position from the files.")
@click.option("--until-end", is_flag=True, help="Stop at the end that the topics have now.")
@click.option("--stop-with-stdin", is_flag=True, help="Stop when stdin or the parent process ends (for programs).")
@click.pass_context
def consume(ctx: click.Context, accept_gap: bool, rescan: bool, until_end: bool, stop_with_stdin: bool) -> int:
    """Join parts to houses until stopped by Ctrl-C or `houses stop`.

    \b
    Example: houses consume
             houses consume --until-end
    """
    from houses.process import run_consumer

    return run_consumer(
        configured(ctx),
        say,
        accept_gap=accept_gap,
        rescan=rescan,
        until_end=until_end,
        stop_with_stdin=stop_with_stdin,
    )
