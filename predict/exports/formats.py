"""What a format of export is: how it is written, opened again, and how exact it has to be.

The modules beside this one import nothing heavy outside their functions, so that one runtime can be
used without the others, and that the list of formats is there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from model_definition.ensemble import Member

if TYPE_CHECKING:
    import numpy as np

    from model_definition.architecture import Architecture
    from model_definition.run_dir import Run

Predict: TypeAlias = "Callable[[np.ndarray], np.ndarray]"


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
      run: the run; of several the first, and so are checkpoint and architecture.
      checkpoint: the prefix of the checkpoint's files.
      architecture: the run's network.
      weights: the inference weights by their variables' names (`conv1/weights`), float32; moving
        averages of weights, where the run kept them, already stand for the weights themselves.
        Those of several runs are under a scope each.
      calibration_images: uint8 [n, height, width, channels], a few hundred training images.
      others: the other runs whose probabilities are averaged with the first one's.
      ensemble_name: what several are called together.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.
    """

    run: Run
    checkpoint: Path
    architecture: Architecture
    weights: Mapping[str, np.ndarray]
    calibration_images: np.ndarray
    others: tuple[Member, ...] = ()
    ensemble_name: str = ""
    test_time_shifts: int = 0

    @property
    def members(self) -> tuple[Member, ...]:
        """All that is averaged, or the one."""
        return (Member(self.run, self.checkpoint), *self.others)

    @property
    def name(self) -> str:
        """With what the names of its exports begin: the run folder's name, then the shifts."""
        name = self.ensemble_name if self.others else self.run.logdir.resolve().name
        return f"{name}-shifts-{self.test_time_shifts}" if self.test_time_shifts else name


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from its checkpoint.

    Attributes:
      difference: of a probability.
      share: of the images, 0 to 1, in which a probability may differ by more than that.
      reason: why it cannot be less.
    """

    difference: float
    share: float
    reason: str


@dataclass(frozen=True)
class Format:
    """A format of export.

    Attributes:
      name: as `--format` has it.
      suffix: what follows the run's name in the file's name; `/` where it is a folder of versions.
      summary: one line for `--format=help`.
      write: writes a source to a path, whose name ends as the format wants it and which does not
        exist yet.
      load: opens what was written, in a process of its own that has only this format's runtime.
        Gets the path, and that of the file of `checked_with`; returns a function from pixels,
        uint8 [n, height, width, channels], to probabilities, float32 [n, num_classes]. None for a
        format that `write` itself reads back.
      tolerance: for the comparison with the checkpoint; None where `load` is.
      example: Python for the model card that makes `probabilities` of images. `{images}` stands for
        the line that makes `images`, `{file}` for the file's name, quoted, and `{beside}` for that
        of `checked_with`. Empty where `load` is None.
      checked_with: the format whose file is needed besides to compute anything: an architecture
        needs weights, and weights an architecture.
      can_average: whether it can hold several networks, or shifts, and the mean of their answers.
    """

    name: str
    suffix: str
    summary: str
    write: Callable[[ExportSource, Path], None]
    load: Callable[[Path, Path | None], Predict] | None
    tolerance: Tolerance | None
    example: str
    checked_with: str | None = None
    can_average: bool = False

    def filename(self, name: str) -> str:
        """Returns the name of a run's file, or of the folder that holds its versions."""
        return name + self.suffix.rstrip("/")

    @property
    def is_versioned(self) -> bool:
        """Whether an export is a folder that is called after its version."""
        return self.suffix == "/"
