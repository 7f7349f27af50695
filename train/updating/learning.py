"""The steps of an update: the weights of a checkpoint go on learning, slowly, from mixed batches.

Every batch has new images in it and old ones: rehearsal, which keeps a network from forgetting
(Robins 1995, https://doi.org/10.1080/09540099550039318).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import UserError, progress
from input_pipeline.mixture import Part, make_mixed_dataset
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import CHECKPOINT_NAME, InferenceSaver, checkpoint_step
from model_definition.run_dir import Run
from train.config import TrainConfig
from train.graph import build_trained_model
from train.precision import session_config

# In the first steps of a run batch normalisation's averages are short; here they are to last.
_FIRST_STEP = 1_000


def learn(
    run: Run, checkpoint: Path, parts: Sequence[Part], config: TrainConfig, folder: Path
) -> Path:
    """Goes on training a checkpoint's weights, and saves them alone.

    Args:
      run: the run that the checkpoint is of.
      checkpoint: the prefix of its files.
      parts: what batches are made of.
      config: `max_steps`, `batch_size`, the optimiser and its values, and the seed.
      folder: where to save.

    Returns:
      The prefix of the new checkpoint's files, whose step goes on from the old one's.

    Raises:
      UserError: the loss is no longer a finite number, or the checkpoint is of another model.
    """
    assert config.max_steps is not None, "an update's steps are counted"
    first = max(checkpoint_step(checkpoint), _FIRST_STEP)
    last = first + config.max_steps
    with tf.Graph().as_default(), tf1.Session(config=session_config(config.precision)) as session:
        tf1.set_random_seed(config.seed)
        batches = make_mixed_dataset(parts, batch_size=config.batch_size, start_step=first)
        features, labels = tf1.data.make_one_shot_iterator(batches).get_next()
        model = build_trained_model(
            features,
            labels,
            parse_run_architecture(run),
            config,
            total_steps=config.max_steps,
            steps_an_epoch=config.max_steps,
            first_step=first,
        )
        session.run(tf1.global_variables_initializer())
        saver = InferenceSaver()
        saver.restore(session, checkpoint)
        tf1.train.get_global_step().load(first, session)
        with progress("learning", total=config.max_steps, unit="step") as advance:
            for _ in range(config.max_steps):
                step, loss = session.run([model.step, model.loss])
                if not math.isfinite(loss):
                    raise UserError(
                        f"step {step - first}: the loss is {loss}; nothing was changed; update "
                        "with a lower --learning_rate"
                    )
                advance(1)
        saver.save(session, folder, last)
    return folder / f"{CHECKPOINT_NAME}-{last}"
