"""Runs a script that saves and stops when the process that started it is gone, even if killed.

    python train/member_process.py SCRIPT [ARGUMENT ...]

Stdin is a pipe whose other end the starting process holds and never writes to, so its end is that
process's end. The script itself knows nothing of this: it gets a SIGTERM.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _stop_when_left_alone() -> None:
    os.read(0, 1)  # Not by sys.stdin, whose lock a thread may not hold when Python ends.
    # Nobody reads stderr any more, and a line that cannot be written would end the script unsaved.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_when_left_alone, daemon=True).start()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
