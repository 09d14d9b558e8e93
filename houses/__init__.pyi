# The public names, and where each is defined: `houses/__init__.py` loads them from here.

from .config.types import check_limits as check_limits
from .errors import HousesError as HousesError
from .lab.analysis.blame import blame as blame
from .lab.analysis.blame import blame_pending as blame_pending
from .lab.analysis.blame import evicted as evicted
from .lab.analysis.blame import plot_blame as plot_blame
from .lab.analysis.blame import plot_pending_blame as plot_pending_blame
from .lab.analysis.fates import fates as fates
from .lab.analysis.fates import plot_fates as plot_fates
from .lab.analysis.fates import plot_losses as plot_losses
from .lab.analysis.figure import as_table as as_table
from .lab.analysis.figure import save_figure as save_figure
from .lab.analysis.frames import load as load
from .lab.analysis.frames import load_metrics as load_metrics
from .lab.analysis.frames import truth as truth
from .lab.analysis.latency import plot_latency as plot_latency
from .lab.analysis.latency import plot_latency_over_time as plot_latency_over_time
from .lab.analysis.latency import summary as summary
from .lab.analysis.sweep import plot_sweep as plot_sweep
from .lab.analysis.timeline import littles_law as littles_law
from .lab.analysis.timeline import plot_pending as plot_pending
from .lab.analysis.timeline import plot_timeline as plot_timeline
from .lab.analysis.timeline import plot_watermarks as plot_watermarks
from .lab.analysis.timeline import restarts as restarts
from .lab.analysis.waterfall import plot_waterfall as plot_waterfall
from .lab.experiment import Experiment as Experiment
from .lab.headless.runner import run_notebook as run_notebook
from .lab.headless.sweep import sweep_notebook as sweep_notebook
from .lab.moments import check_moments as check_moments
from .lab.moments import moments as moments
from .lab.moments import plot_moments as plot_moments
from .lab.moments import plot_pending_at as plot_pending_at
from .lab.naive import NaiveConsumer as NaiveConsumer
from .lab.run_folder import check_experiment as check_experiment
from .lab.trials import crash as crash
from .lab.trials import sweep as sweep
from .lab.trials import try_crashes as try_crashes
from .lab.widgets.panel import panel as panel
from .lab.widgets.time_machine import time_machine as time_machine
from .system.crash_points import check_crash_point as check_crash_point

__version__: str
