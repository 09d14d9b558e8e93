"""Verbs that run the whole lab: the demo, and notebooks without a browser."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from houses.cli.terminal import complain, configured, say, table
from houses.errors import HousesError
from houses.system.log import progress_shown

if TYPE_CHECKING:
    from houses.lab.headless.runner import NotebookRun


class _Pairs(click.Command):
    """Explains options of two words to those who write `-p NAME=VALUE`; click takes the next option for the second word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for option, word in pairwise(args):
            name, equals, value = word.partition("=")
            if option in _PAIRS and equals:
                said, right = shlex.join((option, word)), shlex.join((option, name, value or "VALUE"))
                raise click.UsageError(f"{said}: the name and the value are two words; write: {right}", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            if error.option_name not in _PAIRS:
                raise
            example = "rate_hz 100,1000" if error.option_name == "--sweep" else "rate_hz 500"
            said = f"{error.option_name}: takes a name and a value, for example: {error.option_name} {example}"
            raise click.UsageError(said, ctx) from None


_PAIRS = ("-p", "--parameter", "--sweep")


@click.command(cls=_Pairs, short_help="Run a notebook, or all of them, without a browser.")
@click.argument("notebook", required=False)
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter.")
@click.option("--all", "every", is_flag=True, help="All of notebooks/ in order, also after a failure.")
@click.option("--sweep", nargs=2, metavar="NAME V1,V2,...", help="Once for each value, with a table and a figure.")
@click.option("--report", is_flag=True, help="Also write NOTEBOOK.html, which opens without a network.")
@click.option("--hide-code", is_flag=True, help="That report, without the code.")
@click.option("--help-parameters", is_flag=True, help="List the notebook's parameters, run nothing.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for runs; output/runs without it."
)
@click.pass_context
def run(
    ctx: click.Context,
    notebook: str | None,
    given: tuple[tuple[str, str], ...],
    every: bool,
    sweep: tuple[str, str] | None,
    report: bool,
    hide_code: bool,
    help_parameters: bool,
    output: Path | None,
) -> int:
    """Run NOTEBOOK, a file or any part of a name in notebooks/, without a browser; all goes to output/runs/TIME-NOTEBOOK.

    Exit status: 0 fine, 1 a cell failed, 130 Ctrl-C, 143 terminated. What was done so far is kept in each case. The seconds
    told are those from the start of the kernel to its end.

    \b
    Examples:
      houses run 01_first_run -p rate_hz 500 -p seconds 5 --report
      houses run 01 --sweep rate_hz 100,1000,5000
      houses run --all --report --hide-code
    """
    _refuse_mixtures(ctx, notebook, every, bool(given or sweep or help_parameters))
    options: dict[str, Any] = {"report": report, "hide_code": hide_code}
    if output:
        options["runs"] = output.absolute()
    # A terminal shows papermill's bar; whatever else reads this gets a line for each code cell that begins.
    with _stop_noted(), nullcontext() if sys.stderr.isatty() else progress_shown(say):
        if notebook is None:
            return 0 if _run_all(options) else 1
        if help_parameters:
            _list_parameters(notebook)
            return 0
        values = _by_name(given)
        ok = _run_sweep(notebook, *sweep, values, options) if sweep else _run(notebook, values, options)
        return 0 if ok else 1


def _refuse_mixtures(ctx: click.Context, notebook: str | None, every: bool, has_more: bool) -> None:
    if ctx.find_root().obj:
        raise click.UsageError("--config: a notebook uses the project's config.yaml; set HOUSES_SECTION__KEY instead")
    if every == bool(notebook):
        raise click.UsageError("name one notebook, or give --all")
    if every and has_more:
        raise click.UsageError("--all: takes no parameters; each notebook has its own")


def _by_name(given: tuple[tuple[str, str], ...]) -> dict[str, str]:
    values = dict(given)
    if len(values) < len(given):
        raise click.UsageError(f"-p: each parameter once, not {' '.join(name for name, _ in given)}")
    return values


def _list_parameters(notebook: str) -> None:
    from houses.lab.headless.notebooks import find_notebook
    from houses.lab.headless.parameters import read_parameters

    rows = [
        (each.name, each.type, each.default, each.help) for each in read_parameters(find_notebook(notebook)).values()
    ]
    table(("parameter", "type", "default", "meaning"), rows)


def _run(notebook: str, parameters: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    from houses.lab.headless.runner import run_notebook

    done = run_notebook(notebook, parameters, **options)
    _complain(done)
    outcome = "ok" if done.ok else "failed"
    say(f"{done.notebook.stem}: {outcome} after {done.seconds:.1f} s, {done.cell_seconds:.1f} s of them in its cells")
    say(f"Notebook:  {done.notebook}")
    if done.report:
        say(f"Report:    {done.report}")
    return done.ok


@contextmanager
def _stop_noted() -> Iterator[None]:
    """Say on stderr what is left of a run that a signal ends, or that there was none at that moment."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        complain("\n".join(getattr(error, "__notes__", ["Stopped; no notebook was running"])))
        raise


def _complain(done: "NotebookRun") -> None:
    if done.failure:
        complain(f"{done.notebook.stem} {done.failure}")


def _run_all(options: Mapping[str, Any]) -> bool:
    from houses.lab.headless.notebooks import NOTEBOOKS, all_notebooks

    sources, rows = all_notebooks(), list[tuple[str, ...]]()
    if not sources:
        raise HousesError(f"--all: {NOTEBOOKS} holds no notebook; name a file")
    try:
        for source in sources:
            rows.append(_row(source, options))
    except (KeyboardInterrupt, SystemExit):
        rows.append((source.stem, "stopped", "", ""))
        raise
    finally:
        table(("notebook", "result", "seconds", "folder"), rows)
    return all(result == "ok" for _, result, *_ in rows)


def _row(source: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Run one of many, and tell of it."""
    from houses.lab.headless.runner import run_notebook

    try:
        done = run_notebook(source, **options)
    except HousesError as error:  # it is no notebook: the others may be
        complain(f"Error: {error}")
        return (source.stem, "failed", "", "")
    _complain(done)
    return (source.stem, "ok" if done.ok else "failed", f"{done.seconds:.1f}", str(done.folder))


def _run_sweep(
    notebook: str, parameter: str, text: str, parameters: Mapping[str, Any], options: Mapping[str, Any]
) -> bool:
    from houses.lab.headless.sweep import sweep_notebook

    values = [value.strip() for value in text.split(",")]
    done = sweep_notebook(notebook, parameter, values, parameters, **options)
    for each in done.runs:
        _complain(each)
    idle = ["folder"] if done.table["experiment"].nunique() > 1 else ["folder", "experiment"]  # 80 columns are few
    shown = done.table.drop(columns=idle).astype(object)
    table(list(shown.columns), shown.where(shown.notna(), None).to_numpy().tolist())
    say(f"Folder:  {done.folder}")
    say(f"Table:   {done.table_file}")
    say(f"Figure:  {done.figure_file}")
    for each in done.runs:
        if each.report:
            say(f"Report:  {each.report}")
    return done.ok


@click.command(short_help="Everything once, with a crash in the middle and a proof at the end.")
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Send, join, cancel, crash, recover and prove it: the whole lab in about half a minute.

    \b
    Example:
      houses demo
    """
    from houses.lab.demo import demo as run

    run(configured(ctx))
