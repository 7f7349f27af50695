"""Fills TensorBoard's HParams dashboard: the space in the search's folder, each trial in its own.

The dashboard reads one experiment, which lists the parameters and the metrics, and for each trial a
session: its values, how it ended, and the metrics under their tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow.compat.v1 as tf1
from tensorboard.plugins.hparams import api_pb2, summary

from model_definition.event_writer import open_event_writer
from train.search.space import Dimension
from train.search.trials import Outcome, folder_of
from train.summaries import scalar_summary

METRICS = {
    "best/accuracy": "validation accuracy",
    "best/loss": "validation cross-entropy",
    "seconds": "training time, s",
}


def write_experiment(logdir: Path, dimensions: Sequence[Dimension]) -> None:
    """Writes what is searched, unless it was written.

    Args:
      logdir: the search's folder.
      dimensions: what is searched.
    """
    if any(logdir.glob("events.out.tfevents.*")):
        return
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name)
        for tag, name in METRICS.items()
    ]
    experiment = summary.experiment_pb([_describe(one) for one in dimensions], metrics)
    _write(logdir, [experiment])


def write_session(logdir: Path, outcome: Outcome) -> None:
    """Writes how a trial ended.

    Args:
      logdir: the search's folder.
      outcome: the trial.
    """
    status = api_pb2.STATUS_FAILURE if outcome.state == "failed" else api_pb2.STATUS_SUCCESS
    folder = folder_of(logdir, outcome.place)
    values = {"seconds": outcome.seconds}
    if outcome.score:
        values |= {f"best/{name}": outcome.score[name] for name in ("accuracy", "loss")}
    _write(
        folder,
        [
            summary.session_start_pb(dict(outcome.drawn), group_name=folder.name),
            scalar_summary(**values),
            summary.session_end_pb(status),
        ],
        step=outcome.score.get("step", 0),
    )


def _describe(dimension: Dimension) -> api_pb2.HParamInfo:
    info = api_pb2.HParamInfo(name=dimension.name, type=api_pb2.DATA_TYPE_FLOAT64)
    if dimension.kind != "choice":
        low, high = dimension.values
        info.domain_interval.min_value, info.domain_interval.max_value = low, high
    elif all(isinstance(value, str) for value in dimension.values):
        info.type = api_pb2.DATA_TYPE_STRING
        info.domain_discrete.extend(list(dimension.values))
    else:
        info.domain_discrete.extend([float(value) for value in dimension.values])
    return info


def _write(folder: Path, summaries: Sequence[tf1.Summary], step: int = 0) -> None:
    with open_event_writer(folder) as writer:
        for one in summaries:
            # By its bytes: TensorBoard has a Summary class of its own.
            writer.add_summary(one.SerializeToString(), step)
