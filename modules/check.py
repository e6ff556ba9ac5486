"""The conformance check: what a worker relies on, tried on a module before it meets real work."""

import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from modules.check_images import SampleImage
from modules.check_steps import CHECKS, single_images
from modules.check_subject import REPEAT_S, Doubt, Fault, Subject, described
from modules.contract import ModuleTraits
from modules.errors import ModuleInvalid, ModuleLoadFailed
from modules.loading import load_model, load_module
from schemas.errors import AnalysisError

Verdict = Literal["passed", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    check: str
    verdict: Verdict
    message: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings about one module."""

    module: str
    device: str
    images: int
    passed: bool
    findings: tuple[Finding, ...]


def check_module(
    spec: str, device: str, samples: Sequence[SampleImage], repeat_s: float = REPEAT_S
) -> Report:
    """Runs all checks, the later ones only when loading and single images pass.

    Args:
        repeat_s: how long a check that repeats the same work may take, roughly.

    Raises:
        ModuleNotFound: there is nothing to check.
    """
    findings: list[Finding] = []
    subject = _load(spec, device, samples, findings)
    if subject is not None:
        subject.repeat_s = repeat_s
    for check in CHECKS if subject else ():
        assert subject is not None
        findings.append(_run(check, subject))
        if check is single_images and findings[-1].verdict == "failed":
            break
    passed = all(finding.verdict != "failed" for finding in findings)
    return Report(module=spec, device=device, images=len(samples), passed=passed, findings=tuple(findings))


def _load(spec: str, device: str, samples: Sequence[SampleImage], findings: list[Finding]) -> Subject | None:
    started = time.monotonic()
    try:
        module = load_module(spec)
        load_model(module, device)
    except (ModuleInvalid, ModuleLoadFailed) as error:
        findings.append(Finding("load", "failed", error.message))
        return None
    spent = time.monotonic() - started
    findings.append(Finding("load", "passed", f"{module.name} {module.version}, in {spent:.1f} s"))
    return Subject(spec, device, samples, module, ModuleTraits.of(module))


def _run(check: Callable[[Subject], str], subject: Subject) -> Finding:
    name = check.__name__.replace("_", " ")
    try:
        return Finding(name, "passed", check(subject))
    except Doubt as doubt:
        return Finding(name, "warning", str(doubt))
    except (Fault, AnalysisError) as fault:
        return Finding(name, "failed", str(fault))
    except Exception as error:  # noqa: BLE001 - the module's code may raise anything
        return Finding(name, "failed", described(error))
