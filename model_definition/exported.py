"""The LiteRT model that training exported, read whole or not at all; without TensorFlow."""

from __future__ import annotations

import hashlib

from data_prep.command_line import UserError
from model_definition.run_dir import FIRST_VERSION, Run


def read_exported_model(run: Run) -> bytes:
    """Reads the model that a run exported.

    Args:
      run: the run.

    Returns:
      The LiteRT file's bytes, which have the sha256 that was written beside them, where there is
      one.

    Raises:
      UserError: the model is missing or damaged.
    """
    path = run.export_path
    if not path.is_file():
        finish = "training writes it at its end, so let it finish; "
        finish = finish if run.version == FIRST_VERSION else ""
        raise UserError(f"{path}: no such file; {finish}{export_remedy(run)}")
    model = path.read_bytes()
    digest_path = path.with_name(f"{path.name}.sha256")
    # Not there beside the models of earlier versions, and where training was killed just then.
    if digest_path.is_file():
        expected = digest_path.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
        if hashlib.sha256(model).hexdigest() != expected:
            raise UserError(
                f"{path}: damaged, for its sha256 is not the one in {digest_path.name}; "
                f"{export_remedy(run)}"
            )
    return model


def export_remedy(run: Run) -> str:
    """Returns how to get the exported model again, for errors."""
    if run.version != FIRST_VERSION:
        return f"train/update.py --logdir={run.logdir} --rollback=1 returns to the trained run"
    return (
        f"train_lenet.py --logdir={run.logdir}, with the flags that the run was trained with, "
        "writes it anew"
    )
