"""Trains the network of PyTorch's MNIST example as that example does, for the time that it takes.

Two 3x3 convolutions of 32 and 64 filters, one pool, a dense layer of 128, dropout; Adadelta with a
rate of 1 that falls by 0.7 an epoch, batches of 64. Runs in the peers' environment, on all 60,000
training images, which it shuffles (on a CPU the example itself does not).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from benchmarks.comparing import ROOT, current_commit, describe_machine, write_json
from benchmarks.recipe_runs import load_results
from benchmarks.tfds_opens import load_arrays
from data_prep import command_line
from data_prep.command_line import UserError, log


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, of MNIST.")
    flags.DEFINE_integer("epochs", 4, "Passes over the training images; the example makes 14.", 1)
    flags.DEFINE_integer("seed", 0, "Decides weights and order.")
    results = str(ROOT / "benchmarks/results/pytorch_example.json")
    flags.DEFINE_string("results", results, "The results' file.")


def main(argv: list[str]) -> None:
    """Trains, and prints each epoch's accuracy on test with the seconds of training so far."""
    values = flags.FLAGS
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "PyTorch is missing; make the peers' environment as benchmarks/README.md says"
        ) from error
    data_dir = Path(values.data_dir)
    train = [_read(data_dir, split) for split in ("train", "validation")]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    test_images, test_labels = _read(data_dir, "test")
    torch.manual_seed(values.seed)
    nn = torch.nn
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(128, 10), nn.LogSoftmax(dim=1)),
    )
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    data = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    epochs, seconds = [], 0.0
    for epoch in range(1, values.epochs + 1):
        network.train()
        start = time.perf_counter()
        for features, targets in loader:
            optimizer.zero_grad()
            nn.functional.nll_loss(network(features), targets).backward()
            optimizer.step()
        schedule.step()
        seconds += time.perf_counter() - start
        network.eval()
        with torch.no_grad():
            found = [network(part).argmax(1) for part in torch.from_numpy(test_images).split(1000)]
        accuracy = float((torch.cat(found).numpy() == test_labels).mean())
        epochs.append({"seconds": round(seconds, 1), "test_accuracy": accuracy})
        log(f"epoch {epoch}  {seconds:.0f} s  test {accuracy:.2%}")
    path = Path(values.results)
    results = load_results(path) or {"runs": {}}
    results["machine"] = describe_machine()
    results["runs"][str(values.seed)] = {
        "epochs": epochs,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
        "commit": current_commit(),
    }
    write_json(path, results)
    print(f"{epochs[-1]['test_accuracy']:.2%} on test after {seconds:.0f} s")


def _read(data_dir: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a split as the example feeds it: float32 [n, 1, 28, 28] of mean 0, labels int64 [n]."""
    images, labels = load_arrays(data_dir, split)
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    return (pixels / 255 - np.float32(0.1307)) / np.float32(0.3081), labels


if __name__ == "__main__":
    command_line.run(main, define_flags)
