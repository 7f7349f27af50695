"""Reads which splits of a dataset are meant; without TensorFlow, so that slips are told at once."""

from __future__ import annotations

from collections.abc import Sequence

from data_prep.command_line import UserError
from data_prep.schema import Manifest


def resolve_splits(splits: str, manifest: Manifest) -> tuple[str, ...]:
    """Reads a split or a sum of splits.

    Args:
      splits: such as `train` or `train+validation`.
      manifest: of the dataset.

    Returns:
      The names, in the order given.

    Raises:
      UserError: a split that the dataset does not have, or one named twice.
    """
    names = tuple(splits.split("+"))
    for name in names:
        if name not in manifest.splits:
            raise UserError(
                f"split {name!r}: the dataset {manifest.name} has {', '.join(manifest.splits)}; "
                "join several with a plus sign, as in train+validation"
            )
    if len(set(names)) < len(names):
        raise UserError(f"split {splits!r}: names a split twice; its images would count twice")
    return names


def count_examples(manifest: Manifest, splits: Sequence[str]) -> int:
    """Returns how many examples the splits have together."""
    return sum(manifest.splits[split].num_examples for split in splits)
