"""Makes a trained run, or several as one, the teacher of another that is to be trained.

The teacher answers for every image as it is trained on, distorted in the same way (Beyer et al.
2022, https://arxiv.org/abs/2106.05237). Its weights stand in the training graph as constants, so
that neither the optimiser nor a checkpoint knows of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import UserError, log
from data_prep.schema import Manifest
from model_definition.checkpoints import choose_checkpoint
from model_definition.distillation import Teacher
from model_definition.ensemble import Member, load_ensemble
from model_definition.inference import build_members, restore_members
from model_definition.run_dir import LITERT_NAME, Run, find_misfit
from train.config import TrainConfig
from train.plan import ImageSet, TrainPlan, find_trained_images


def load_teacher(config: TrainConfig, plan: TrainPlan) -> Teacher | None:
    """Loads the teacher that a configuration names.

    Args:
      config: what to train and how.
      plan: what that means for the dataset.

    Returns:
      The teacher; None where none is named.

    Raises:
      UserError: the run is missing, knows other classes or images, or was trained on images that
        the student is validated on.
    """
    if not config.teacher:
        return None
    try:
        ensemble = load_ensemble(config.teacher)
    except UserError as error:
        raise UserError(f"--teacher: {error}") from error
    if misfit := find_misfit(ensemble.first, plan.manifest):
        raise UserError(
            f"--teacher={ensemble.first.logdir}: {misfit}; name a teacher for which they are the "
            "same"
        )
    for run in ensemble.runs:
        _require_unseen_validation(run, plan)
        if not run.export_path.is_file():  # Training writes it last, save for a search's trials.
            log(f"--teacher={run.logdir}: has no {LITERT_NAME}, so its training may not have ended")
    members = [Member(run, choose_checkpoint(run, "best")) for run in ensemble.runs]
    graph = _freeze(members)

    def logits_fn(features: tf.Tensor) -> tf.Tensor:
        inputs, outputs = {"features": features}, ["logits:0"]
        return tf.graph_util.import_graph_def(graph, inputs, outputs, name="teacher")[0]

    log(f"learning from {config.teacher} as well, {config.teacher_share:.0%} of the loss")
    return Teacher(
        logits_fn, config.teacher_share, config.teacher_temperature, digest=_digest(members)
    )


def _require_unseen_validation(run: Run, plan: TrainPlan) -> None:
    """Refuses a teacher that knows the student's validation images: it would tell the answers."""
    if plan.validation is None:
        return
    if run.is_imported or run.dataset_digest != plan.manifest.digest:
        log(
            f"--teacher={run.logdir}: was trained on images that are not known here; if this "
            "run's validation images are among them, validation looks too good"
        )
        return
    trained = find_trained_images(run, plan.data_dir, plan.manifest)
    taught = _find_examples(trained, plan.manifest)
    validated = _find_examples(plan.validation, plan.manifest)
    known = sum(
        int((examples & taught[split]).sum())
        for split, examples in validated.items()
        if split in taught
    )
    if known:
        raise UserError(
            f"--teacher={run.logdir}: was trained on {known:,} of the images that this run would "
            "be validated on, and would tell their answers; name a teacher that was not, or give "
            "--validate_on=none"
        )


def _find_examples(images: ImageSet, manifest: Manifest) -> dict[str, np.ndarray]:
    """Returns which examples of each split are among some images: bool [n]."""
    sizes = [manifest.splits[split].num_examples for split in images.splits]
    kept = np.ones(sum(sizes), bool) if images.kept is None else images.kept
    return dict(zip(images.splits, np.split(kept, np.cumsum(sizes)[:-1]), strict=True))


def _freeze(members: Sequence[Member]) -> tf1.GraphDef:
    """Returns the graph from `features` to `logits` with the weights as constants."""
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        shape = [None, *members[0].run.image_shape]
        features = tf1.placeholder(tf.float32, shape, "features")
        spec = build_members(features, None, members)
        tf.identity(spec.predictions["logits"], "logits")
        restore_members(session, members)
        return tf1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logits"]
        )


def _digest(members: Sequence[Member]) -> str:
    """Returns the SHA-256 of the files with the members' weights, in hex."""
    digest = hashlib.sha256()
    for member in members:
        prefix = member.checkpoint
        for path in sorted(prefix.parent.glob(f"{prefix.name}.data-*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
