"""What a search shows on stderr while it goes on: a line a trial, and a bar on a terminal."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from train.search.trials import Outcome, rank
from train.validation import Score


class Progress:
    """Shows how far a search is.

    It keeps the stderr that it was made with, for that of a trial goes to a file.
    """

    def __init__(self, most: int | None) -> None:
        """Begins to show.

        Args:
          most: how many trials there shall be; None where the time decides.
        """
        self._most = most
        self._stream = sys.stderr
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm  # Without a terminal nothing needs it.

            self._bar = tqdm(total=most, unit="trial", file=self._stream, leave=False)

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def show_score(self, place: int, share: float, score: Score) -> None:
        """Shows a validation of a trial that goes on, on a terminal."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"trial {place}: {share:.0%}, {score.accuracy:.2%}")

    def show_trials(self, outcomes: Sequence[Outcome]) -> None:
        """Sets the bar."""
        if self._bar is not None:
            self._bar.n = len(outcomes)
            self._bar.refresh()

    def show_end(self, outcome: Outcome, outcomes: Sequence[Outcome], seconds_left: float) -> None:
        """Prints the line of a trial that has ended.

        Args:
          outcome: of the trial.
          outcomes: of all so far.
          seconds_left: how long the search will take.
        """
        words = [f"trial {outcome.place}", _tell_end(outcome), tell_values(outcome.drawn)]
        if best := rank(outcomes):
            words.append(f"best {best[0].score['accuracy']:.2%} (trial {best[0].place})")
        words += [f"{outcome.seconds:,.0f} s", f"{tell_time(seconds_left)} left"]
        self.say("  ".join(words))
        self.show_trials(outcomes)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


def typical_seconds(outcomes: Sequence[Outcome]) -> float:
    """Returns how long a trial takes, the median; 0 before the first one has ended."""
    return statistics.median([outcome.seconds for outcome in outcomes] or [0.0])


def tell_values(drawn: Mapping[str, Any]) -> str:
    """Returns `learning_rate=0.004  batch_size=64`."""
    return "  ".join(f"{name}={value}" for name, value in drawn.items())


def tell_time(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _tell_end(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"failed: {outcome.failure.partition(';')[0]}"
    accuracy = f"{outcome.score['accuracy']:.2%}"
    if outcome.state == "pruned":
        return f"{accuracy} pruned"
    return f"{accuracy}"
