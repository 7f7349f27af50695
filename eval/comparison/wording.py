"""The results in words: which differences mean something, and how everything was measured."""

from __future__ import annotations

from collections.abc import Callable

from eval.comparison.answers import ComparedSplit
from eval.comparison.comparing import Comparison
from eval.comparison.measuring import Measured
from eval.comparison.significance import LEVEL, Difference
from model_definition.run_dir import FIRST_VERSION


def describe_what(comparison: Comparison) -> str:
    """Returns what is compared, and on what: `2 models, 3 runs, on mnist, test split, …`."""
    split = comparison.split
    images = f"{split.num_examples:,} images"
    if split.test_time_shifts:
        images += f", {split.num_copies} shifts each"
    return (
        f"{_count(len(comparison.models), 'model')}, {_count(comparison.num_runs, 'run')}, on "
        f"{split.manifest.name}, {'+'.join(split.splits)} split, {images}"
    )


def describe_difference(difference: Difference) -> str:
    """Returns what a test says of two models, in words."""
    better, worse = difference.better.name, difference.worse.name
    alone = (
        f"{_count_images(difference.better_alone)} right that the other misreads, "
        f"{_count_images(difference.worse_alone)} the other way"
    )
    points = f"{100 * difference.points:.2f} points"
    p_value = format_p_value(difference.corrected_p_value)
    if difference.is_significant:
        return f"{better} is better than {worse} by {points}: {alone}, {p_value}"
    return f"{better} and {worse}: no difference is shown ({points}: {alone}, {p_value})"


def describe_tests(comparison: Comparison) -> str:
    """Returns which tests were made; for a single model, that none was."""
    num_pairs = len(comparison.differences)
    if not num_pairs:
        return "All runs are of one configuration: there are no two models to compare."
    test = "McNemar's exact test"
    if comparison.num_runs > len(comparison.models):
        test += ", for models of several runs the permutation test that it is a case of"
    return (
        f"Tested on {comparison.split.num_examples:,} images by {test}; p corrected for "
        f"{_count(num_pairs, 'pair')} (Holm); a difference counts if p < {LEVEL}."
    )


def describe_methods(comparison: Comparison) -> list[str]:
    """Returns how the numbers came about, and what to mind in reading them, a note each."""
    split = comparison.split
    notes = [
        "Accuracy and errors are those of the checkpoint that was best on validation, unless it "
        "says otherwise below; every image counts once; the interval is Wilson's."
    ]
    if comparison.num_runs > len(comparison.models):
        notes.append(
            "Runs that differ in nothing but their seed are one model: mean ± standard deviation. "
            "The interval of a mean says what other images could change, not other seeds. In the "
            "tests an image counts once, by the share of the runs that read it right."
        )
    notes += [
        "The tests are of these trained networks. How much another seed changes, only several runs "
        "of a configuration tell. Sources: McNemar 1947, and Dietterich 1998 for classifiers; "
        "Pitman 1937 for the permutation test; Holm 1979.",
        "Training time is that of the steps alone, all processes of a run added up. Latency is the "
        "median for one image at a time in one thread of this machine, by the exported LiteRT "
        "model, whose size is given; the models take turns.",
    ]
    if split.test_time_shifts:
        notes.append(
            f"Every answer is the mean of the probabilities of {split.num_copies} copies of the "
            f"image, shifted by up to {_count(split.test_time_shifts, 'pixel')} both ways; "
            "multiply-adds and latency are those of all copies, one after the other."
        )
    runs = [run for model in comparison.models for run in model.runs]
    for what, holds in _PECULIARITIES:
        if names := [run.entry.name for run in runs if holds(run, split)]:
            notes.append(f"{', '.join(names)}: {what}.")
    if "test" in split.splits and comparison.differences:
        notes.append("To choose one of the models, compare them with --split=validation.")
    return notes


def _trained_on(run: Measured, split: ComparedSplit) -> bool:
    seen = {
        name
        for one in run.entry.ensemble.runs
        for name in one.config.get("train_splits", "").split("+")
    }
    return not seen.isdisjoint(split.splits)


def _uses_last(run: Measured) -> bool:
    """Whether a member of version 1 answers by a checkpoint that is not its best."""
    members = run.answers.evaluation.members
    return any(
        member.checkpoint.parent != member.run.best_dir
        for member in members
        if member.run.version == FIRST_VERSION
    )


def _chosen_on(run: Measured, split: ComparedSplit) -> bool:
    """Whether validation on this very split decided on the checkpoint of a member."""
    chosen = [
        member.run.config.get("validate_on", "validation")
        for member in run.answers.evaluation.members
        if member.run.config and member.checkpoint.parent == member.run.best_dir
    ]
    return not set(split.splits).isdisjoint(chosen)


# What is to be said of runs, and of which.
_PECULIARITIES: tuple[tuple[str, Callable[[Measured, ComparedSplit], bool]], ...] = (
    (
        "the mean of several runs' probabilities, counted as one run; parameters, multiply-adds, "
        "training time, latency and size are the sums over them, and there are no learning curves",
        lambda run, _: not run.entry.ensemble.is_single,
    ),
    (
        "a run folder does not tell how long training took",
        lambda run, _: run.training_seconds is None,
    ),
    (
        "an exported model is missing, so no latency and no size; training writes it at its end, "
        "which may not have come yet",
        lambda run, _: run.model_bytes is None,
    ),
    (
        "the last checkpoint, as there is none that was best on validation",
        lambda run, _: _uses_last(run),
    ),
    (
        "in a version that train/update.py made",
        lambda run, _: any(one.version != FIRST_VERSION for one in run.entry.ensemble.runs),
    ),
    (
        "its checkpoint was chosen on this split, which flatters it a little",
        _chosen_on,
    ),
    (
        "trained on images of this split, so its numbers here say little about other images",
        _trained_on,
    ),
)


def format_p_value(p_value: float) -> str:
    """Returns `p = 0.0123`, or `p < 0.0001` where it is smaller."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.4f}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _count_images(number: float) -> str:
    """Returns a number of images; as a sum of shares it need not be whole."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"
