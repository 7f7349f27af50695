"""Makes a dataset folder, or keeps the one that is there if it is the same and whole."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep import datasets, schema
from data_prep.command_line import UserError
from data_prep.damage import find_damage
from data_prep.dataset_folder import METADATA_NAMES, ConversionOptions, write_dataset
from data_prep.schema import MANIFEST_NAME, Manifest
from data_prep.source import Source
from data_prep.staging import publish, staging_folder


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: the dataset's manifest, and whether it was there already."""

    manifest: Manifest
    kept: bool


def convert(
    options: ConversionOptions,
    *,
    data_dir: Path,
    from_dir: Path | None = None,
    download_dir: Path = Path("data/downloads"),
    mirrors: tuple[str, ...] = (),
    overwrite: bool = False,
) -> Conversion:
    """Makes a dataset folder, or keeps the one that is there if it is the same and whole.

    Args:
      options: what to convert and how.
      data_dir: the dataset folder.
      from_dir: where the source files are; None to download or draw them.
      download_dir: where downloaded files are kept.
      mirrors: addresses to try before the known ones.
      overwrite: replaces a dataset that is there.

    Returns:
      The manifest of the dataset that now stands in `data_dir`.

    Raises:
      UserError: the source is damaged, the options do not fit it, or `data_dir` holds something
        else and is not to be overwritten.
    """
    if from_dir is not None and not from_dir.exists():
        raise UserError(
            f"--from_dir={from_dir}: no such folder; name the one with the source files"
        )
    with staging_folder(data_dir) as staging:
        existing = _load_existing(data_dir)
        if existing and not overwrite:
            _require_same_options(existing, options, data_dir)
            if from_dir is None:
                return _keep(existing, data_dir)
        source = datasets.open_source(
            options.dataset,
            from_dir=from_dir,
            download_dir=download_dir,
            image_shape=options.image_shape,
            seed=options.seed,
            synthetic_train=options.synthetic_train,
            synthetic_test=options.synthetic_test,
            mirrors=mirrors,
        )
        if existing and not overwrite:
            _require_same_source(existing, source, data_dir)
            return _keep(existing, data_dir)
        known = datasets.DATASETS[options.dataset]
        manifest = write_dataset(
            staging,
            source,
            options,
            name=_dataset_name(options, data_dir),
            preparation=options.image_preparation
            or source.image_preparation
            or known.image_preparation,
        )
        publish(data_dir)
    return Conversion(manifest, kept=False)


def _dataset_name(options: ConversionOptions, data_dir: Path) -> str:
    """Returns a known dataset's own name; the user's data are called after their folder."""
    if options.dataset not in ("idx", "csv", "image_folder"):
        return options.dataset
    name = re.sub(r"[^a-z0-9]+", "_", data_dir.absolute().name.lower()).strip("_")
    return name or options.dataset


def _load_existing(data_dir: Path) -> Manifest | None:
    """Returns the manifest of the dataset in `data_dir`; None where there is nothing yet."""
    if not data_dir.exists():
        return None
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: a file; choose another --data_dir")
    present = {path.name for path in data_dir.iterdir()}
    if not present:
        return None
    if MANIFEST_NAME not in present:
        raise UserError(
            f"{data_dir}: holds files but no {MANIFEST_NAME}, so it is not a complete dataset, and "
            "it is left as it is; choose another --data_dir, or move its files away"
        )
    manifest = schema.load_manifest(data_dir)
    own = {shard.name for split in manifest.splits.values() for shard in split.shards}
    foreign = sorted(present - own - set(METADATA_NAMES))
    if foreign:
        raise UserError(
            f"{data_dir}: holds {foreign[0]}, which is not of the dataset {manifest.name} in it; "
            "move it away, or choose another --data_dir"
        )
    return manifest


def _require_same_options(existing: Manifest, options: ConversionOptions, data_dir: Path) -> None:
    asked = json.loads(json.dumps(asdict(options)))
    for key, value in asked.items():
        if existing.conversion.get(key) != value:
            raise UserError(
                f"{data_dir}: holds a dataset made with {key}={existing.conversion.get(key)}, and "
                f"{key}={value} is asked for; pass --overwrite to replace it, or another --data_dir"
            )


def _require_same_source(existing: Manifest, source: Source, data_dir: Path) -> None:
    if [asdict(file) for file in source.files] != list(existing.sources):
        raise UserError(
            f"{data_dir}: holds a dataset made from other source files; pass --overwrite to "
            "replace it, or another --data_dir"
        )


def _keep(existing: Manifest, data_dir: Path) -> Conversion:
    """Verifies the dataset that is there; it is kept if it is whole."""
    damage = find_damage(data_dir, existing)
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise UserError(f"{damage[0]}{more}; pass --overwrite to convert the dataset again")
    return Conversion(existing, kept=True)
