"""Draws a search with Optuna's own plots: history, importances, parallel coordinates."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import Study
from optuna.trial import TrialState

from model_definition.run_dir import write_atomically

_TARGET = "validation accuracy"
_BEST_SHARE = 0.25  # of the finished trials: what the importances explain
_DPI = 120
_WIDTH = 1.6  # inches for each parameter of the parallel coordinates


def make_evaluator() -> PedAnovaImportanceEvaluator:
    """Returns what computes importances: of each parameter for being among the best quarter.

    The best are compared with the whole space and not with the other trials, since TPE soon draws
    mostly what is good.
    """
    return PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE, evaluate_on_local=False)


def write_pictures(study: Study, weighed: Study | None, logdir: Path) -> None:
    """Writes `history.png`, `parallel_coordinates.png` and `importances.png`, without a display.

    Args:
      study: one with a finished trial.
      weighed: with the trials that the importances are computed from; None where they are too few.
      logdir: where to write them.
    """
    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as plots

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = np.array([trial.value for trial in finished], dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few trials with some parameter
        axes = plots.plot_optimization_history(study, target_name=_TARGET)
        axes.set_title(study.study_name)
        # The worse half may leave the picture, so that the better one can be told apart.
        low, high = np.median(values), np.max(values)
        if low < high:
            axes.set_ylim(max(np.min(values), 2 * low - high) - 0.0005, high + 0.0005)
        _save(axes, logdir / "history.png", width=8.0)

        axes = plots.plot_parallel_coordinate(study, target_name=_TARGET)
        axes.set_title(study.study_name)
        for one in _figure_of(axes).axes:
            one.grid(False)
        num_params = len({name for trial in finished for name in trial.params})
        _save(axes, logdir / "parallel_coordinates.png", width=4.0 + _WIDTH * num_params)

        if weighed:
            evaluator = make_evaluator()
            axes = plots.plot_param_importances(weighed, evaluator=evaluator, target_name=_TARGET)
            axes.set_title(f"{study.study_name}: importance for reaching the best quarter")
            _save(axes, logdir / "importances.png", width=8.0)


def _save(axes: Axes, path: Path, *, width: float) -> None:
    from matplotlib import pyplot as plt

    figure = _figure_of(axes)
    figure.set_size_inches(width, 5.0)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI, bbox_inches="tight")
    plt.close("all")
    write_atomically(path, png.getvalue())


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None, "the axes were just made in one"
    return figure
