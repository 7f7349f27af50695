"""Goes on learning: `update.py --logdir=runs/lenet --examples=DIR` improves a run with new images.

DIR is what serve.py keeps as feedback of a run, a folder with a folder of images for each class, a
CSV file, or a dataset folder; a single image will do. The run's own training images are mixed in,
so that it does not forget. The result becomes a new version of the run if it reads more of the new
images right, those held out, and loses none of its accuracy on the original validation images that
a test would notice. Otherwise the old version stays, and the reasons are printed.

--list shows the versions, --rollback=N returns to one. Whatever runs afterwards takes the version
in use; serve.py exchanges it while it runs. The exit code is 0 where the update was accepted, and 1
where it was not.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import EXIT_USER_ERROR, UserError
from model_definition.run_dir import FIRST_VERSION, exists, load_run, read_current_version
from model_definition.versions import Version, choose_version, list_versions
from train.run_lock import locked

if TYPE_CHECKING:
    from train.updating.updating import UpdateResult


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder.")
    flags.DEFINE_string("examples", None, "New labelled images: a folder or a CSV file.")
    flags.DEFINE_string("data_dir", None, "Where the run's dataset is now. [where it was trained]")
    flags.DEFINE_integer("steps", None, "Steps to learn in. [100 to 2,000]", 1, 1_000_000)
    flags.DEFINE_float("learning_rate", 0.0001, "Adam's, the largest of one_cycle.", 1e-9, 1.0)
    flags.DEFINE_integer("seed", 0, "Decides order, dropout and distortions.", 0, 2**31 - 1)
    flags.DEFINE_bool("list", False, "Shows the run's versions.")
    flags.DEFINE_integer("rollback", None, "Returns to this version; 1 is the trained run.", 1)
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")


def main(argv: list[str]) -> int:
    """Updates, lists or returns as the flags say.

    Returns:
      0, or 1 where an update was not accepted.
    """
    values = flags.FLAGS
    logdir = Path(values.logdir)
    _refuse_unused(values)
    if values.list:
        print(_list(logdir, as_json=values.json))
        return 0
    if values.rollback is not None:
        print(_roll_back(logdir, values.rollback, as_json=values.json))
        return 0
    # Slips are answered before TensorFlow's import takes its seconds.
    examples = Path(values.examples)
    load_run(logdir)
    if not examples.exists():
        raise UserError(f"--examples={examples}: no such file or folder; name the new images")
    if examples.is_dir() and not any(examples.iterdir()):
        raise UserError(f"--examples={examples}: an empty folder; name the new images")
    if math.isnan(values.learning_rate):  # absl lets it pass as within any range.
        raise UserError("--learning_rate=nan: expected a number from 1e-09 to 1")
    command_line.import_tensorflow()
    from train.updating.updating import UpdateOptions, update

    result = update(
        logdir,
        examples,
        UpdateOptions(values.learning_rate, values.steps, values.seed),
        Path(values.data_dir) if values.data_dir else None,
    )
    print(json.dumps(result.to_json()) if values.json else format_result(result))
    return 0 if result.version else EXIT_USER_ERROR


def _refuse_unused(values: flags.FlagValues) -> None:
    """Refuses anything but one thing to do, and flags that would change nothing."""
    asked = [name for name in ("examples", "rollback", "list") if values[name].value]
    if len(asked) != 1:
        found = " and ".join(f"--{name}" for name in asked) or "none"
        raise UserError(f"expected one of --examples=DIR, --rollback=N and --list, found {found}")
    for name in ("data_dir", "steps", "learning_rate", "seed"):
        if values[name].present and not values.examples:
            raise UserError(f"--{name} belongs to --examples; leave it out")


def _list(logdir: Path, *, as_json: bool) -> str:
    load_run(logdir)
    current, versions = read_current_version(logdir), list_versions(logdir)
    if as_json:
        facts = {"current": current, "versions": [asdict(version) for version in versions]}
        return json.dumps({"logdir": str(logdir), **facts})
    lines = [f"{_mark(FIRST_VERSION, current)}  as it was trained"]
    lines += [f"{_mark(version.number, current)}  {_describe(version)}" for version in versions]
    return "\n".join(lines)


def _mark(number: int, current: int) -> str:
    return f"version {number}{', in use' if number == current else ''}".ljust(18)


def _describe(version: Version) -> str:
    learnt = f"{version.num_learnt:,} learnt, {version.num_held_out:,} held out"
    return f"from version {version.base}, {version.created}, {learnt}, of {version.examples}"


def _roll_back(logdir: Path, number: int, *, as_json: bool) -> str:
    if not exists(logdir):
        load_run(logdir)  # Says that there is none.
    with locked(logdir):
        choose_version(logdir, number)
    load_run(logdir)
    if as_json:
        return json.dumps({"logdir": str(logdir), "current": number})
    return f"{logdir}: version {number} is in use"


def format_result(result: UpdateResult) -> str:
    """Returns a result as text: how images were read before and after, and what was decided."""
    lines = []
    for one in result.comparisons:
        before, after = (right / one.num_images for right in (one.right_before, one.right_after))
        changed = f"{one.gained:,} gained, {one.lost:,} lost"
        chance = "" if one.is_new else f" (p = {one.chance:.2f} for so many losses)"
        what = f"{one.images} ({one.num_images:,} images), against version {one.version}"
        lines.append(f"{what}\n  {before:.2%} before, {after:.2%} after: {changed}{chance}")
    if result.version:
        lines.append(f"accepted: version {result.version.number} of {result.run.logdir} is in use")
    else:
        lines.append(f"not accepted, version {result.run.version} stays in use:")
        lines += [f"  {objection}" for objection in result.objections]
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
