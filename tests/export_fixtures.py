"""A run with weights made by hand, and a dataset, for the tests of exporting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim

from data_prep.schema import Manifest
from model_definition.architecture import parse_run_architecture
from model_definition.inference import open_model
from model_definition.network import build_network
from model_definition.run_dir import Run, write_run
from predict.exports.exporting import Reference
from predict.exports.formats import ExportSource
from tests.train_fixtures import make_config

v1 = tf.compat.v1
MODEL = "conv 4 3x3\nmaxpool 2x2\nflatten\ndense 7\ndropout 0.5\noutput\n"

# Every kind of layer, every activation, and the options that exporters are known to trip over.
EVERY_KIND = """\
width = 3
conv 2*width 3x2 stride=2x1 activation=gelu
batchnorm momentum=0.9 epsilon=0.1
separable_conv 4 3x3 dilation=2 activation=none bias=false
elu
residual
  conv 2*width 3x3 activation=leaky_relu l2=0.01
  repeat 2
    batchnorm
    swish
    conv 5 2x3 stride=1 activation=none
  end
end
residual
  conv 5 3x3 activation=sigmoid
end
maxpool 2x2 padding=same
leaky_relu slope=0.3
conv 4 2x2 stride=2 padding=same activation=tanh
avgpool 2x2 stride=1 padding=same
gelu
batchnorm
separable_conv 2*width 2x2 padding=same activation=swish
tanh
residual
  conv width 3x3 padding=same activation=elu
end
relu
global_avgpool
batchnorm
residual
  dense 6 activation=leaky_relu
end
sigmoid
dropout 0.3
dense 7 activation=gelu bias=false
output
"""


def make_run(logdir: Path, data_dir: Path, manifest: Manifest, text: str = MODEL) -> Run:
    """Writes a run folder with a best checkpoint of step 5, whose weights are random."""
    run = Run(
        logdir=logdir,
        model="tiny",
        architecture_text=text,
        data_dir=str(data_dir),
        dataset_name=manifest.name,
        dataset_digest=manifest.digest,
        image_shape=manifest.image_shape,
        image_preparation=manifest.image_preparation,
        class_names=manifest.class_names,
        config=make_config("tiny").to_json(),
        versions={"tensorflow": tf.__version__},
    )
    write_run(run)
    write_checkpoint(run)
    return run


def write_checkpoint(run: Run, seed: int = 0) -> Path:
    """Saves random weights as the run's best, and returns the prefix of their files."""
    random = np.random.default_rng(seed)
    (run.logdir / "best").mkdir(exist_ok=True)
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, *run.image_shape])
        build_network(parse_run_architecture(run), images, is_training=False)
        for variable in slim.get_model_variables():
            fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 100
            value = random.normal(size=variable.shape) * 2 / np.sqrt(fan_in)
            if variable.op.name.endswith("gamma"):
                value = 1 + random.random(variable.shape)
            if variable.op.name.endswith("variance"):  # Small, for activations level differences.
                value = 0.2 + 0.3 * random.random(variable.shape)
            variable.load(value.astype(np.float32), session)
        saver = v1.train.Saver(slim.get_model_variables())
        prefix = str(run.logdir / "best" / "model.ckpt")
        return Path(saver.save(session, prefix, 5, write_meta_graph=False))


def make_images(run: Run, n: int, *, seed: int = 0) -> np.ndarray:
    """Returns stripes, uint8 [n, height, width, channels], each of its own waves and brightness."""
    random = np.random.default_rng(seed)
    height, width, channels = run.image_shape
    waves = random.uniform(-1, 1, (3, n, 1, 1, channels))
    y, x = np.mgrid[:height, :width][..., None]
    heights = np.sin(waves[0] * y + waves[1] * x + 3 * waves[2])
    return (random.uniform(40, 255, (n, 1, 1, channels)) * (heights + 1) / 2).astype(np.uint8)


def make_source(run: Run, n: int = 23) -> tuple[ExportSource, Reference]:
    """Returns the run's best checkpoint as what to export, and its answers on n images."""
    checkpoint = run.logdir / "best" / "model.ckpt-5"
    images = make_images(run, n)
    with open_model(run, checkpoint) as model:
        weights, probabilities = model.weights(), model.predict(images)
    source = ExportSource(
        run, checkpoint, parse_run_architecture(run), weights, make_images(run, 40, seed=1)
    )
    return source, Reference("validation", images, probabilities)
