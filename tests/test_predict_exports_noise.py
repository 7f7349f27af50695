import subprocess
import sys

import pytest

from tests.train_fixtures import ROOT

SCRIPT = """
import os, sys
from predict.exports.noise import silenced

def make_noise():
    print("from Python")
    print("an error", file=sys.stderr)
    os.write(1, b"from C\\n")
    os.write(2, b"an error of C\\n")

print("before")
try:
    with silenced():
        make_noise()
        END
except BaseException as error:
    print("raised", error)
print("after")
"""


@pytest.mark.parametrize(
    ("end", "stdout", "shown"),
    [
        ("pass", "before\nafter\n", False),
        ("raise ValueError(7)", "before\nraised 7\nafter\n", True),
        ("raise KeyboardInterrupt(7)", "before\nraised 7\nafter\n", False),
    ],
)
def test_noise_is_shown_only_where_the_block_fails(end, stdout, shown):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("END", end)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == stdout
    noise = {"from Python", "an error", "from C", "an error of C"} if shown else set()
    assert set(done.stderr.splitlines()) == noise
