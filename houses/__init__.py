"""Houses from three parts: a lab for joining Kafka streams.

The public names are loaded when they are first used, so that `import houses` and the consumer stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from houses.errors import HousesError
    from houses.lab.analysis.blame import blame, blame_pending, evicted, plot_blame, plot_pending_blame
    from houses.lab.analysis.fates import fates, plot_fates, plot_losses
    from houses.lab.analysis.figure import as_table, save_figure
    from houses.lab.analysis.frames import load, load_metrics, truth
    from houses.lab.analysis.latency import plot_latency, plot_latency_over_time, summary
    from houses.lab.analysis.sweep import plot_sweep
    from houses.lab.analysis.timeline import littles_law, plot_pending, plot_timeline, plot_watermarks, restarts
    from houses.lab.analysis.waterfall import plot_waterfall
    from houses.lab.experiment import Experiment
    from houses.lab.moments import check_moments, moments, plot_moments, plot_pending_at
    from houses.lab.naive import NaiveConsumer
    from houses.lab.trials import crash, sweep, try_crashes
    from houses.multirun import sweep_notebook
    from houses.panel import panel
    from houses.runner import run_notebook
    from houses.timemachine import time_machine

__version__ = "1.0.0"
__all__ = [
    "Experiment",
    "HousesError",
    "NaiveConsumer",
    "__version__",
    "as_table",
    "blame",
    "blame_pending",
    "check_moments",
    "crash",
    "evicted",
    "fates",
    "littles_law",
    "load",
    "load_metrics",
    "moments",
    "panel",
    "plot_blame",
    "plot_fates",
    "plot_latency",
    "plot_latency_over_time",
    "plot_losses",
    "plot_moments",
    "plot_pending",
    "plot_pending_at",
    "plot_pending_blame",
    "plot_sweep",
    "plot_timeline",
    "plot_waterfall",
    "plot_watermarks",
    "restarts",
    "run_notebook",
    "save_figure",
    "summary",
    "sweep",
    "sweep_notebook",
    "time_machine",
    "truth",
    "try_crashes",
]

_HOME = {
    "Experiment": "experiment",
    "HousesError": "errors",
    "NaiveConsumer": "naive",
    "as_table": "tables",
    "blame": "guilt",
    "blame_pending": "guilt",
    "check_moments": "hindsight",
    "crash": "crashlab",
    "evicted": "guilt",
    "fates": "outcomes",
    "littles_law": "growth",
    "load": "frames",
    "load_metrics": "frames",
    "moments": "hindsight",
    "panel": "panel",
    "plot_blame": "guilt",
    "plot_fates": "outcomes",
    "plot_latency": "analysis",
    "plot_latency_over_time": "analysis",
    "plot_losses": "losses",
    "plot_moments": "hindsight",
    "plot_pending": "growth",
    "plot_pending_at": "hindsight",
    "plot_pending_blame": "guilt",
    "plot_sweep": "sweeps",
    "plot_timeline": "timeline",
    "plot_waterfall": "waterfall",
    "plot_watermarks": "timeline",
    "restarts": "timeline",
    "run_notebook": "runner",
    "save_figure": "picture",
    "summary": "analysis",
    "sweep": "trials",
    "sweep_notebook": "multirun",
    "time_machine": "timemachine",
    "truth": "injected",
    "try_crashes": "crashlab",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
