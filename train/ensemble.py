"""Trains an ensemble: `ensemble.py --members=5 --logdir=runs/ens [any flag of train_lenet.py]`.

Member i is a run in LOGDIR/member-i with the seed --seed + i. It holds out fold i + 1 of --folds of
the training images, and keeps the checkpoint that is best on them. The same command again goes on
where it stopped; with more --members it adds those that are missing, up to one for each fold.
Ctrl-C or SIGTERM stops all members after saving, and the exit code is 42.

LOGDIR is then a --logdir of evaluate.py, predict.py, export.py and serve.py, which average the
members' probabilities. At the end they are scored on the validation split, which none of them has
seen; where --train_splits takes it to train on, no such images are left, and they are not.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import load_manifest
from input_pipeline.folds import parse_fold
from input_pipeline.splits import resolve_splits
from model_definition import run_dir
from model_definition.ensemble import is_ensemble, list_members, member_name, write_ensemble
from model_definition.run_dir import HISTORY_NAME
from train.config import TrainConfig, training_flags
from train.recipes import describe_recipes
from train.run_lock import locked, require_folder
from train.training_flags import define_recipe_flag, define_training_flags, read_config

FEWEST_FOLDS = 12  # of which one is held out: a twelfth, as convert.py sets aside
_EVALUATE = Path(__file__).resolve().parents[1] / "eval/evaluate.py"
_OWN_FLAGS = ("seed", "validate_on")  # of the training flags, decided for each member


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/ensemble", "The folder to make or go on with.")
    flags.DEFINE_integer("members", 5, "How many runs are trained.", 2, 100)
    flags.DEFINE_integer(
        "folds",
        None,
        "Into so many folds the training images are cut, of which each member holds out one. "
        f"[those of the members that are there, else {FEWEST_FOLDS}, or the members]",
        2,
    )
    flags.DEFINE_integer("parallel", 1, "How many members train at a time.", 1, 100)
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    define_recipe_flag()
    define_training_flags()


def main(argv: list[str]) -> int:
    """Trains the members and prints what they reach."""
    values = flags.FLAGS
    if values.recipe == "help":
        print(describe_recipes())
        return 0
    config, logdir = read_config(values), Path(values.logdir)
    require_folder(logdir)
    configs = make_member_configs(values, config, logdir)
    manifest = load_manifest(Path(values.data_dir))
    trained_on = resolve_splits(config.train_splits, manifest)
    command_line.import_tensorflow()
    from train.members import is_trained, train_members

    with locked(logdir):
        commands = {
            name: [*_list_shared_flags(values), *_list_own_flags(one, logdir / name)]
            for name, one in configs.items()
            if not is_trained(one, manifest, logdir / name)
        }
        code = train_members(commands, parallel=values.parallel)
        if code == 0:
            write_ensemble(logdir, {name: one.validate_on for name, one in configs.items()})
    if code == command_line.EXIT_STOPPED:
        log(f"stopped; saved in {logdir}; run the same command again to go on")
    if code != 0:
        return code
    members = [_describe_member(logdir / name, one) for name, one in configs.items()]
    validation = None
    if "validation" in manifest.splits and "validation" not in trained_on:
        validation = _evaluate(logdir)
    else:
        log("the ensemble is not scored: no validation split is left that none of them has seen")
    facts = {"logdir": str(logdir), "members": members, "validation": validation}
    print(json.dumps(facts) if values.json else _format(facts))
    return 0


def make_member_configs(
    values: flags.FlagValues, config: TrainConfig, logdir: Path
) -> dict[str, TrainConfig]:
    """Gives each member its seed and its fold.

    Args:
      values: the script's flags, parsed.
      config: what the members have in common; the first one's seed.
      logdir: the ensemble's folder; it need not be there.

    Returns:
      What to train, by the member's name.

    Raises:
      UserError: there are fewer folds than members, other folds or more members than are asked for
        are there already, or the fold is given.
    """
    if values["validate_on"].present:
        raise UserError(
            "--validate_on: every member has a fold of its own; leave it out, and set how many "
            "folds there are with --folds"
        )
    num_members, there = values.members, _count_members(logdir)
    if num_members < there:
        raise UserError(
            f"{logdir}: has {there} members, more than --members={num_members}; give "
            f"--members={there}, or name fewer of its runs to what reads them, as in "
            f"--logdir={logdir / member_name(0)},{logdir / member_name(1)}"
        )
    num_folds = _choose_folds(values, logdir)
    if num_members > num_folds:
        raise UserError(
            f"--folds={num_folds}: fewer than the {num_members} members, each of which holds "
            "out another one; raise it, or leave it out"
        )
    return {
        member_name(i): replace(config, seed=config.seed + i, validate_on=f"{i + 1}/{num_folds}")
        for i in range(num_members)
    }


def _count_members(logdir: Path) -> int:
    """Returns how many members an ensemble that is trained has; a damaged one is written anew."""
    if is_ensemble(logdir):
        with contextlib.suppress(UserError):
            return len(list_members(logdir))
    return 0


def _choose_folds(values: flags.FlagValues, logdir: Path) -> int:
    """Returns how many folds there are: those of the members that are there, or as asked."""
    first, fold = logdir / member_name(0), None
    if run_dir.exists(first):
        fold = parse_fold(str(run_dir.load_run(first).config.get("validate_on")))
    if fold is None:
        return values.folds or max(FEWEST_FOLDS, values.members)
    if values.folds not in (None, fold.num_folds):
        raise UserError(
            f"--folds={values.folds}: the members in {logdir} hold out folds of "
            f"{fold.num_folds}; leave it out, or name another --logdir"
        )
    if values.members > fold.num_folds:
        raise UserError(
            f"--members={values.members}: the members in {logdir} hold out folds of "
            f"{fold.num_folds}, so there can be no more than that; ask for fewer, or train "
            f"others with --folds={values.members} and another --logdir"
        )
    return fold.num_folds


def _list_shared_flags(values: flags.FlagValues) -> list[str]:
    """Returns the flags that train_lenet.py gets as they were given."""
    names = ("data_dir", "recipe", *training_flags())
    given = [name for name in names if values[name].present and name not in _OWN_FLAGS]
    return [line for name in given for line in values[name].serialize().splitlines()]


def _list_own_flags(config: TrainConfig, logdir: Path) -> list[str]:
    """Returns the flags that train_lenet.py gets for one member."""
    return [f"--logdir={logdir}", f"--seed={config.seed}", f"--validate_on={config.validate_on}"]


def _describe_member(logdir: Path, config: TrainConfig) -> dict[str, Any]:
    """Returns a member as the JSON document has it, with the validation that is its best."""
    history = json.loads((logdir / HISTORY_NAME).read_text(encoding="utf-8"))
    best = max(history, key=lambda score: (score["accuracy"], -score["loss"]))
    facts = {"seed": config.seed, "validate_on": config.validate_on}
    return {"logdir": str(logdir), **facts, "best": best}


def _evaluate(logdir: Path) -> dict[str, Any]:
    """Scores the ensemble on the validation split, by the script that is there for it."""
    command = [_EVALUATE, f"--logdir={logdir}", "--split=validation", "--json"]
    done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise UserError(
            f"{logdir}: the members are trained, but scoring them failed, as the line above says; "
            f"python eval/evaluate.py --logdir={logdir} --split=validation tries again"
        )
    return json.loads(done.stdout)


def _format(facts: dict[str, Any]) -> str:
    """Returns the members and the ensemble as a table, and what comes next."""
    validation = facts["validation"]
    title = f"  {'on validation':>13}" if validation else ""
    lines = [f"{'member':<10}  {'own fold':>8}  {'accuracy':>8}{title}"]
    for number, member in enumerate(facts["members"]):
        line = f"{Path(member['logdir']).name:<10}  {member['validate_on']:>8}  "
        line += f"{member['best']['accuracy']:>8.2%}"
        if validation:
            line += f"  {validation['members'][number]['accuracy']:>13.2%}"
        lines.append(line)
    if validation:
        lines.append(f"{'ensemble':<10}  {'':>8}  {'':>8}  {validation['accuracy']:>13.2%}")
    quoted = shlex.quote(facts["logdir"])
    return "\n".join(
        [
            *lines,
            "next:",
            f"  python eval/evaluate.py --logdir={quoted}",
            f"  python predict/predict.py --logdir={quoted} --url=URL",
            f"  python predict/export.py --logdir={quoted} --format=saved_model,litert,onnx",
        ]
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
