"""What the processor can do that decides how to train; needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def has_bfloat16(cpuinfo: Path = _CPUINFO) -> bool:
    """Tells whether the processor multiplies bfloat16 itself.

    Args:
      cpuinfo: Linux's description of the processor; where there is none, the answer is no.
    """
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.is_file() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags
