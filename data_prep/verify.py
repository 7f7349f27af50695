"""Checks a dataset folder against its manifest and names everything that is damaged.

Prints a line for each damaged shard and record, with the record's index and byte offset, and
exits with 1 if there is any.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.damage import find_damage
from data_prep.schema import load_manifest


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder to check.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")


def main(argv: list[str]) -> int:
    """Verifies the folder and returns 1 if anything in it is damaged."""
    data_dir = Path(flags.FLAGS.data_dir)
    manifest = load_manifest(data_dir)
    damage = find_damage(data_dir, manifest)
    total = sum(split.num_examples for split in manifest.splits.values())
    shards = sum(len(split.shards) for split in manifest.splits.values())
    if flags.FLAGS.json:
        result = {"data_dir": str(data_dir), "dataset": manifest.name, "damage": damage}
        print(json.dumps(result, ensure_ascii=False))
    elif damage:
        print("\n".join(damage))
        command_line.log(
            f"{data_dir} is damaged; python data_prep/convert.py --overwrite, with the flags it "
            "was made with, makes it anew"
        )
    else:
        print(f"{manifest.name} in {data_dir}: {total:,} records in {shards} shards, all intact")
    return 1 if damage else 0


if __name__ == "__main__":
    command_line.run(main, define_flags)
