"""Scores checkpoints on validation images, remembers the scores, and keeps the best one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from input_pipeline.datasets import make_eval_dataset
from input_pipeline.records import damage_named, shard_paths
from model_definition.architecture import Architecture
from model_definition.checkpoints import InferenceSaver, checkpoint_step
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import BEST_NAME, HISTORY_NAME, write_atomically
from train.plan import ImageSet

_BATCH_SIZE = 500


@dataclass(frozen=True)
class Score:
    """What one checkpoint reached on the validation images."""

    step: int
    accuracy: float
    loss: float
    mean_squared_error: float

    def better_than(self, other: Score | None) -> bool:
        """Compares accuracies, and losses where they are equal."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


class History:
    """Every validation of a run, in a file that is rewritten whole after each of them.

    The best score and the patience that is left are computed from it, so a run that is taken up
    again stops exactly where it would have stopped uninterrupted.
    """

    def __init__(self, logdir: Path, *, up_to_step: int, must_exist: bool = False) -> None:
        """Reads what validations there were.

        Args:
          logdir: the run folder.
          up_to_step: the step at which the run goes on; later validations will be made again.
          must_exist: whether there were validations before that step.

        Raises:
          UserError: the file is damaged, or missing.
        """
        self._path = logdir / HISTORY_NAME
        self.scores: list[Score] = []
        if must_exist and not self._path.is_file():
            raise UserError(
                f"{self._path}: missing, so the best checkpoint is not known; restore it, or train "
                "again into another --logdir"
            )
        if self._path.is_file():
            try:
                entries = json.loads(self._path.read_text(encoding="utf-8"))
                self.scores = [Score(**entry) for entry in entries]
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{self._path}: not a list of validations ({error}); restore it, or train "
                    "again into another --logdir"
                ) from error
        self.scores = [score for score in self.scores if score.step <= up_to_step]

    def add(self, score: Score) -> None:
        """Appends a validation."""
        self.scores.append(score)
        text = json.dumps([asdict(score) for score in self.scores], indent=1)
        write_atomically(self._path, text + "\n")

    @property
    def best(self) -> Score | None:
        """The best score so far; None before the first validation."""
        best = None
        for score in self.scores:
            if score.better_than(best):
                best = score
        return best

    def has(self, step: int) -> bool:
        """Tells whether the step was validated."""
        return any(score.step == step for score in self.scores)

    def patience_ended(self, patience: int) -> bool:
        """Tells whether the last `patience` validations brought nothing better; 0 never ends."""
        if not patience or self.best is None:
            return False
        since = [score for score in self.scores if score.step > self.best.step]
        return len(since) >= patience


class Validator:
    """Images to score with, and the model, in a graph and a session of their own."""

    def __init__(
        self, data_dir: Path, manifest: Manifest, architecture: Architecture, images: ImageSet
    ) -> None:
        """Takes what to score with. The first score builds the graph: training need not wait.

        Args:
          data_dir: the dataset folder.
          manifest: its manifest.
          architecture: the model.
          images: those to score with.

        Raises:
          UserError: a shard is not whole.
        """
        shard_paths(data_dir, manifest, images.splits)
        self._data = data_dir, manifest, images.splits
        self._kept = images.kept
        self._architecture = architecture
        self._opened: _Scoring | None = None

    @property
    def _scoring(self) -> _Scoring:
        """The graph, built when it is first needed."""
        if self._opened is None:
            self._opened = _build_scoring(*self._data, self._kept, self._architecture)
        return self._opened

    def score(self, checkpoint: Path) -> Score:
        """Evaluates a checkpoint on all of the images.

        Args:
          checkpoint: the prefix of its files.

        Returns:
          Its score.

        Raises:
          UserError: a record is damaged.
        """
        with damage_named(*self._data):
            scoring = self._scoring
            with scoring.session.graph.as_default():
                scoring.saver.restore(scoring.session, checkpoint)
                scoring.session.run(scoring.start)
                try:
                    while True:
                        scoring.session.run(scoring.updates)
                except tf.errors.OutOfRangeError:
                    values = scoring.session.run(scoring.values)
        return Score(checkpoint_step(checkpoint), **{k: float(v) for k, v in values.items()})

    def close(self) -> None:
        """Frees the session."""
        if self._opened is not None:
            self._opened.session.close()

    def save_best(self, logdir: Path, score: Score) -> None:
        """Saves the weights that were scored last as the run's best."""
        with self._scoring.session.graph.as_default():
            self._scoring.saver.save(self._scoring.session, logdir / BEST_NAME, score.step)


@dataclass(frozen=True)
class _Scoring:
    """A session of the model, with what to run there: first `start`, then `updates` to the end."""

    session: tf.compat.v1.Session
    saver: InferenceSaver
    start: list[tf.Operation]
    updates: list[tf.Tensor]
    values: dict[str, tf.Tensor]


def _build_scoring(
    data_dir: Path,
    manifest: Manifest,
    splits: Sequence[str],
    kept: np.ndarray | None,
    architecture: Architecture,
) -> _Scoring:
    with tf.Graph().as_default() as graph:
        dataset = make_eval_dataset(
            data_dir, manifest, splits=splits, batch_size=_BATCH_SIZE, kept=kept
        )
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        features, labels = iterator.get_next()
        spec = model_fn(features, labels, ModeKeys.EVAL, ModelParams(architecture))
        return _Scoring(
            session=tf.compat.v1.Session(graph=graph),
            saver=InferenceSaver(),
            start=[iterator.initializer, tf.compat.v1.local_variables_initializer()],
            updates=[update for _, update in spec.eval_metric_ops.values()],
            values={name: value for name, (value, _) in spec.eval_metric_ops.items()},
        )
