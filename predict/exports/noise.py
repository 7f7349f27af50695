"""Keeps converters quiet."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced() -> Iterator[None]:
    """Keeps aside what is written to stdout and stderr, by C++ code too, and by Python's warnings.

    Where the block fails, it is shown on stderr, for it may say why.

    Yields:
      Nothing.
    """
    streams = (sys.stdout, sys.stderr)
    with tempfile.TemporaryFile() as kept:
        for stream in streams:
            stream.flush()
        descriptors = {number: os.dup(number) for number in (1, 2)}
        for number in descriptors:
            os.dup2(kept.fileno(), number)
        try:
            yield
        except Exception:
            for stream in streams:
                stream.flush()
            kept.seek(0)
            os.write(descriptors[2], kept.read())
            raise
        finally:
            for stream in streams:
                stream.flush()
            for number, descriptor in descriptors.items():
                os.dup2(descriptor, number)
                os.close(descriptor)
