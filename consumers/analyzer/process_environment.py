"""What workers are given beyond the settings: it is read once, when a process starts."""

import os

WORKER_ENVIRONMENT = {
    # Workers are the parallelism: threads of their own would make them fight for the cores.
    "OMP_NUM_THREADS": "1",
    # glibc gives large buffers back to the kernel as soon as they are free, and takes them from it again,
    # page by page, for the next batch. Measured with `shapes` on two cores at batch 16, per image:
    # 580 page faults and 1.9 ms in the kernel; 160 and 0.9 ms with one arena; 3 and 0.15 ms with all three.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


def prepare_environment() -> None:
    """Sets what the environment does not say otherwise, for the processes that are spawned from here on."""
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
