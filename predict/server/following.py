"""Follows the versions of the served runs, so that an update is served without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable

from data_prep.command_line import log
from model_definition.run_dir import Run
from predict.server.runs import in_current_versions

_POLL_SECONDS = 1.0


class VersionFollower:
    """A thread that looks which version of each run is in use, and exchanges the run for it.

    The new network is loaded beside the old one, which answers until the new one has answered once.
    Whoever looks up a run gets the old one or the new one, and keeps it to the end of its request.
    """

    def __init__(self, runs: dict[str, Run], warm_up: Callable[[Run], None]) -> None:
        """Starts the thread.

        Args:
          runs: the served runs by name; those whose version changes are exchanged in it.
          warm_up: loads a run's network and runs it once; raises `UserError` where it cannot.
        """
        self._runs = runs
        self._warm_up = warm_up
        self._refused: dict[str, str] = {}  # what the log has said of a run since it last changed
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="versions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._closing.wait(_POLL_SECONDS):
            for name, run in list(self._runs.items()):
                self._look_at(name, run)

    def _look_at(self, name: str, run: Run) -> None:
        try:
            current = in_current_versions(run)
            if current is not run:
                self._warm_up(current)
                self._runs[name] = current
                log(f"serving version {current.version} of {name}, no longer {run.version}")
            self._refused.pop(name, None)
        except Exception as error:  # Whatever it is, the old version goes on.
            # It is tried again each second, for it may be mended, and said once.
            if self._refused.get(name) != str(error):
                self._refused[name] = str(error)
                log(f"still serving version {run.version} of {name}: {error}")
