"""The arithmetic of benchmarks, on runs that were made up."""

from pathlib import Path

import msgspec
import pytest

from benchmarks import end_to_end, figures, latency, stages
from benchmarks.bounds import Bounds
from benchmarks.figures import Sheet
from benchmarks.runs import Run, Snapshot
from consumers.analyzer.account import Cost
from consumers.analyzer.account import Report as Account
from infra.settings import AnalyzerSettings


def a_run(images: int = 800, seconds: float = 4.0, cpu_s: float = 3.2, servers_cpu_s: float = 0.8) -> Run:
    """A run of which `images` count: what happened before the first mark must not."""
    begin = Snapshot(at_s=100.0, results=100, cpu_s=50.0, servers_cpu_s=70.0)
    late = Snapshot(at_s=103.0, results=850, cpu_s=52.0, servers_cpu_s=70.5)
    end = Snapshot(
        at_s=100.0 + seconds,
        results=100 + images,
        cpu_s=50.0 + cpu_s,
        servers_cpu_s=70.0 + servers_cpu_s,
    )
    return Run(begin, late, end, first_result_s=2.5)


def some_bounds(**changes: float) -> Bounds:
    plain = Bounds(
        fetch_ms=0.5,
        decode_ms=2.5,
        decode_full_ms=5.0,
        preprocess_ms=0.5,
        preprocess_full_ms=6.0,
        infer_ms=3.0,
        s3_ms=1.0,
        kafka_ms=0.5,
        best_batch=16,
        fetch_decode_rate=300.0,
        module_rate=600.0,
        single_image_ms=9.0,
        cores=2,
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_run_counts_from_its_first_mark_to_its_last_result() -> None:
    run = a_run()
    assert run.rate == 200.0
    assert run.steady_rate == 250.0
    assert run.cpu_ms == pytest.approx(4.0)
    assert run.servers_cpu_ms == pytest.approx(1.0)
    assert run.cores_used == pytest.approx(1.0)


def test_the_bound_is_the_cores_over_the_sum_of_all_parts() -> None:
    bounds = some_bounds()
    assert bounds.cpu_ms == 8.0
    assert bounds.rate == bounds.cpu_rate == 250.0
    assert bounds.efficiency(225.0) == pytest.approx(0.9)


def test_devices_that_allow_less_than_the_cores_are_the_bound() -> None:
    bounds = some_bounds(infer_ms=0.0, module_rate=100.0)
    assert bounds.cpu_rate == 400.0
    assert bounds.rate == 100.0
    assert bounds.efficiency(90.0) == pytest.approx(0.9)


def test_figures_are_medians_and_ratios_are_of_medians() -> None:
    sheet = Sheet()
    for rate in (300.0, 100.0, 310.0):
        sheet.add("end_to_end.dummy.ours", rate, "images/s")
    for rate in (90.0, 100.0, 400.0):
        sheet.add("end_to_end.dummy.celery", rate, "images/s")
    sheet.add("end_to_end.dummy.ours_rows", 250.0, "images/s")
    end_to_end.compare(sheet, "dummy", ["celery", "ray"])
    for rate, infer_ms in ((300.0, 0.0), (100.0, 3.0), (310.0, 0.0)):
        end_to_end.add_efficiency(sheet, "dummy", some_bounds(infer_ms=infer_ms), rate)
    report = sheet.report("a machine", "a command")
    assert report.value("end_to_end.dummy.ours") == 300.0
    assert report.spread("end_to_end.dummy.ours") == (100.0, 310.0)
    assert report.value("end_to_end.dummy.ratio.celery") == 3.0
    assert report.value("end_to_end.dummy.rows_ratio.celery") == 2.5
    assert report.value("end_to_end.dummy.efficiency") == 0.75
    assert report.value("end_to_end.dummy.ratio.ray") is None


def test_a_file_of_figures_is_what_is_promised_of_it(tmp_path: Path) -> None:
    sheet = Sheet()
    end_to_end.record(sheet, "end_to_end.dummy.ours", a_run())
    sheet.notes["ray"] = "it has no wheel for this Python"
    file = figures.write("end_to_end", sheet.report("a machine", "a command"), tmp_path)
    content = msgspec.json.decode(file.read_bytes())
    assert content["machine"] == "a machine"
    assert content["date"]
    assert {"name": "end_to_end.dummy.ours", "value": 200.0, "unit": "images/s"} in content["figures"]
    assert all(figure.keys() == {"name", "value", "unit"} for figure in content["figures"])
    assert figures.read_all(tmp_path)["end_to_end"].notes == {"ray": "it has no wheel for this Python"}


def test_the_target_of_latency_adds_what_an_image_may_wait_for() -> None:
    settings = AnalyzerSettings(max_wait_ms=5.0, transaction_interval_ms=100.0)
    assert latency.target_ms(9.0, settings) == 132.0


def an_account(process_cpu_s: float, infer_wall_s: float) -> Account:
    stages_ = {
        "fetch": Cost(calls=500, wall_s=4.0, cpu_s=0.1),
        "decode": Cost(calls=500, wall_s=3.0, cpu_s=2.0),
        "preprocess": Cost(calls=500, wall_s=0.5, cpu_s=0.4),
        "infer": Cost(calls=50, wall_s=infer_wall_s, cpu_s=0.2),
        "publish": Cost(calls=40, wall_s=0.4, cpu_s=0.1),
    }
    threads, batches = {"fetch": 8, "decode": 1}, {8: 40, 16: 10}
    return Account(5.0, process_cpu_s, stages_, threads, batches, max_batch=16)


def test_the_mean_batch_is_of_all_batches() -> None:
    idle = msgspec.structs.replace(an_account(1.0, 1.0), batches={})
    assert stages.mean_batch([an_account(3.2, 1.0), idle]) == pytest.approx((40 * 8 + 10 * 16) / 50)


def test_own_cpu_is_what_fetch_decode_and_module_leave() -> None:
    accounts = [an_account(3.2, 1.0), an_account(3.4, 1.0)]
    threads_s = {"tokio-runtime-w": 0.6, "rdk:main": 0.1, "rdk:broker1": 0.1, "python": 5.8}
    shares = stages.share(accounts, threads_s, images=1000)
    assert shares.stages["fetch"] == pytest.approx(0.8)
    assert shares.kafka_client == pytest.approx(0.2)
    assert shares.total == pytest.approx(6.6)
    assert shares.own == pytest.approx(6.6 - 0.8 - 4.0 - 0.8 - 0.4)


def test_the_bottleneck_is_named() -> None:
    busy_cpu, busy_device = an_account(3.2, 1.0), an_account(3.2, 4.8)
    for account, words in ((busy_cpu, "decode takes"), (busy_device, "the device is the limit")):
        shares = stages.share([account], {}, images=500)
        assert words in stages.bottleneck(stages.busy_shares([account]), shares)
