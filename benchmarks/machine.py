"""What the figures were measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import confluent_kafka
import psutil

PACKAGES = ("pillow", "obstore", "torch", "msgspec", "psycopg2-binary")


def describe() -> str:
    """Processor, cores, memory, GPUs and system, in one line."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    parts = (
        f"{os.cpu_count()} cores of {_processor()} ({platform.machine()})",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"{gpus} GPUs" if gpus else "no GPU",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
    )
    return ", ".join(parts)


def our_versions() -> str:
    """Versions of the libraries that decide this project's figures."""
    found = [f"librdkafka {confluent_kafka.libversion()[0]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "an unknown processor")
