"""The files beside the shards with which TFDS opens the folder.

With them, `tfds.builder_from_directory(data_dir)` gives the same examples, decoded, under the same
names. The layout is the one that TFDS 4.9.10 writes itself; `benchmarks/tfds_opens.py` opens a
folder with the real library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_prep.schema import Manifest

TFDS_NAMES = ("dataset_info.json", "features.json", "image-class-label.labels.txt")
_FEATURES = "tensorflow_datasets.core.features"


def write_tfds_metadata(folder: Path, manifest: Manifest) -> None:
    """Writes dataset_info.json, features.json and the file of class names.

    Args:
      folder: the dataset folder.
      manifest: what the folder holds.
    """
    info = {
        "fileFormat": "tfrecord",
        "name": manifest.name,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": name,
                "numBytes": str(split.num_bytes),
                "shardLengths": [str(shard.num_examples) for shard in split.shards],
            }
            for name, split in manifest.splits.items()
        ],
        "version": "1.0.0",
    }
    _write_json(folder / TFDS_NAMES[0], info)
    _write_json(folder / TFDS_NAMES[1], _features(manifest))
    labels = "".join(f"{name}\n" for name in manifest.class_names)
    (folder / TFDS_NAMES[2]).write_text(labels, encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _features(manifest: Manifest) -> dict[str, Any]:
    """Returns the record's schema as TFDS describes it; nested names are joined by slashes."""
    shape = {"dimensions": [str(size) for size in manifest.image_shape]}
    encoded: dict[str, Any] = {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": "uint8", "encoding": "bytes", "shape": shape},
    }
    if manifest.image_format == "png":
        encoded = {
            "pythonClassName": f"{_FEATURES}.image_feature.Image",
            "image": {"dtype": "uint8", "encodingFormat": "png", "shape": shape},
        }
    integer = {
        "pythonClassName": f"{_FEATURES}.scalar.Scalar",
        "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
    }
    label = {
        "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(len(manifest.class_names))},
    }
    return _features_dict(
        image=_features_dict(
            channels=integer,
            **{"class": _features_dict(label=label)},
            encoded=encoded,
            format={"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}},
            height=integer,
            width=integer,
        )
    )


def _features_dict(**features: dict[str, Any]) -> dict[str, Any]:
    name = f"{_FEATURES}.features_dict.FeaturesDict"
    return {"pythonClassName": name, "featuresDict": {"features": features}}
