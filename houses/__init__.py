"""Houses from three parts: a lab for joining Kafka streams.

The public names are loaded when they are first used, so that `import houses` and the consumer stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from houses.analysis import plot_latency, plot_latency_over_time, save_figure, summary
    from houses.errors import HousesError
    from houses.experiment import Experiment
    from houses.frames import load, load_metrics
    from houses.naive import NaiveConsumer
    from houses.panel import panel
    from houses.tables import as_table
    from houses.trials import sweep

__version__ = "1.0.0"
__all__ = [
    "Experiment",
    "HousesError",
    "NaiveConsumer",
    "__version__",
    "as_table",
    "load",
    "load_metrics",
    "panel",
    "plot_latency",
    "plot_latency_over_time",
    "save_figure",
    "summary",
    "sweep",
]

_HOME = {
    "Experiment": "experiment",
    "HousesError": "errors",
    "NaiveConsumer": "naive",
    "as_table": "tables",
    "load": "frames",
    "load_metrics": "frames",
    "panel": "panel",
    "plot_latency": "analysis",
    "plot_latency_over_time": "analysis",
    "save_figure": "analysis",
    "summary": "analysis",
    "sweep": "trials",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
