"""Measures how a run's answers can be trusted: what it rejects, and its probabilities.

    python benchmarks/rejection.py --logdir=runs/lenet

Draws kinds of non-digits that the fitting of rejection knows nothing of (`unseen_drawings.py`),
and prints which share of each kind is rejected where 99 % of the test split is kept, and with the
run's own threshold. The calibration error is that of Guo et al. 2017, over 15 bins, of the test
split's probabilities with and without the temperature.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import load_manifest

KEPT = 0.99  # of the test split


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder whose test split is kept.")
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder with the model.")
    flags.DEFINE_integer("images", 500, "Drawings of each kind.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Another seed makes other drawings.", lower_bound=0)
    flags.DEFINE_bool("json", False, "Prints one JSON object instead of the table.")


def main(argv: list[str]) -> None:
    """Measures a run and prints what was found."""
    values = flags.FLAGS
    command_line.import_tensorflow()
    results = measure(
        Path(values.logdir), Path(values.data_dir), num_images=values.images, seed=values.seed
    )
    print(json.dumps(results) if values.json else format_results(results))


def measure(logdir: Path, data_dir: Path, *, num_images: int, seed: int) -> dict[str, Any]:
    """Measures a run.

    Args:
      logdir: its folder.
      data_dir: the dataset folder.
      num_images: how many drawings of each kind.
      seed: decides the drawings.

    Returns:
      `kept` of the test split by the run's threshold, `rejected` by it and `rejected_at_99` by
      kind, all shares from 0 to 1; the mean over the kinds is `mean`. And the expected calibration
      error of the probabilities, `calibration_error`, and `uncalibrated_error`.

    Raises:
      UserError: the run cannot reject, or the dataset does not fit it.
    """
    from benchmarks.unseen_drawings import KINDS, draw_unseen
    from model_definition.checkpoints import choose_checkpoint
    from model_definition.inference import open_model
    from model_definition.run_dir import load_run, require_same_dataset
    from predict.classifier import load_classifier

    run = load_run(logdir)
    classifier = load_classifier(run)
    if classifier.rejection is None:
        raise UserError(
            f"{logdir}: this run rejects nothing; run train_lenet.py again with its flags and a "
            "dataset of 100 validation images or more"
        )
    require_same_dataset(run, load_manifest(data_dir), exactly=False)
    images, labels = _load_test(data_dir)
    kept = classifier.judge(images)
    with open_model(run, choose_checkpoint(run, "best")) as model:
        uncalibrated = model.predict(images)
    at_99 = float(np.quantile(kept.scores, 1 - KEPT))
    rejected, rejected_at_99 = {}, {}
    for number, kind in enumerate(KINDS):
        drawings = draw_unseen(
            kind,
            num_images,
            image_shape=run.image_shape,
            image_preparation=run.image_preparation,
            seed=seed * len(KINDS) + number,
        )
        scores = classifier.judge(drawings).scores
        rejected[kind] = float(np.mean(scores < classifier.rejection))
        rejected_at_99[kind] = float(np.mean(scores < at_99))
    for shares in (rejected, rejected_at_99):
        shares["mean"] = float(np.mean(list(shares.values())))
    return {
        "run": str(logdir),
        "num_test": len(labels),
        "kept": float(kept.is_digit.mean()),
        "rejected": rejected,
        "rejected_at_99": rejected_at_99,
        "calibration_error": _calibration_error(images, labels, kept.probabilities),
        "uncalibrated_error": _calibration_error(images, labels, uncalibrated),
    }


def format_results(results: dict[str, Any]) -> str:
    """Returns what `measure` found as lines of text."""
    kept = results["kept"]
    lines = [f"{'':22s}  99.0 % kept  {kept:6.1%} kept"]
    for kind, share in results["rejected_at_99"].items():
        lines.append(f"{kind:22s}  {share:11.1%}  {results['rejected'][kind]:11.1%}")
    before, after = results["uncalibrated_error"], results["calibration_error"]
    lines.append(f"expected calibration error: {before:.4f}, with the temperature {after:.4f}")
    return "\n".join(lines)


def _load_test(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Loads the test split: uint8 [n, height, width, channels] and int64 [n]."""
    import tensorflow as tf

    from input_pipeline.records import parse_batch, read_shards, shard_paths
    from input_pipeline.splits import count_examples

    manifest = load_manifest(data_dir)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        records = read_shards(shard_paths(data_dir, manifest, ["test"]))
        batch = records.batch(count_examples(manifest, ["test"]))
        parsed = batch.map(lambda serialized: parse_batch(serialized, manifest))
        return session.run(tf.compat.v1.data.make_one_shot_iterator(parsed).get_next())


def _calibration_error(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> float:
    from eval.metrics import StreamingMetrics

    metrics = StreamingMetrics(probabilities.shape[1], num_mistakes=0)
    metrics.update(images, labels, probabilities)
    return metrics.expected_calibration_error


if __name__ == "__main__":
    command_line.run(main, define_flags)
