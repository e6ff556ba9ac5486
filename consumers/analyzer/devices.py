"""Which device a worker uses, found without importing torch: the supervisor must stay small."""

import os
from pathlib import Path

from infra.settings import AnalyzerSettings


def gpu_count(settings: AnalyzerSettings) -> int:
    """GPUs to use on this machine: what CUDA_VISIBLE_DEVICES leaves of those with a device file."""
    if settings.gpus != "auto":
        return int(settings.gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if visible is None or not present:
        return present
    return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])


def device_of(worker_index: int, gpus: int) -> str:
    """The device of a worker, in PyTorch's words: GPU `index % gpus`, or the CPU where there is none."""
    return f"cuda:{worker_index % gpus}" if gpus else "cpu"


def worker_count(settings: AnalyzerSettings, partitions: int, gpus: int) -> int:
    """Workers to start here; more than there are partitions would have nothing to do."""
    if settings.workers != "auto":
        return int(settings.workers)
    return min(partitions, gpus or os.cpu_count() or 1)
