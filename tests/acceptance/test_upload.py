"""`analysis upload` as a process: what it sends, prints, and how it ends."""

import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest

from infra.exit_codes import ExitCode
from infra.settings import KafkaSettings
from schemas.messages import Request, Result
from tests.images import jpeg
from tests.producer_support import (
    answering,
    environment,
    failed,
    lines,
    ok,
    own_topics,
    publish,
    requests,
    run,
)
from tests.stack import RunningStack


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaSettings:
    """Topics of this test's own."""
    return own_topics(stack.kafka)


@pytest.fixture
def env(kafka: KafkaSettings, tmp_path: Path) -> dict[str, str]:
    """What leads a command to these topics."""
    return environment(kafka, tmp_path / "state")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three images, one of them in a folder below, and a text."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(colour=(255, 0, 0)))
    (folder / "b.JPEG").write_bytes(jpeg(colour=(0, 255, 0)))
    (folder / "below" / "c.jpg").write_bytes(jpeg(colour=(0, 0, 255)))
    (folder / "notes.txt").write_text("no image")
    return folder


def sent_files(kafka: KafkaSettings) -> Counter[str]:
    return Counter(request.attributes["file"] for request in requests(kafka))


def journals(env: dict[str, str]) -> list[Path]:
    return list(Path(env["XDG_STATE_HOME"]).rglob("*.jsonl"))


def test_files_and_folders(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    ended = run(env, "upload", str(photos), str(photos / "notes.txt"), "--module", "faces")
    assert ended.returncode == ExitCode.OK, ended.stderr
    expected = {str(photos / name) for name in ("a.jpg", "b.JPEG", "notes.txt")}
    records = lines(ended.stdout)
    assert {record["path"] for record in records} == expected
    assert {record["status"] for record in records} == {"sent"}
    assert sent_files(kafka) == Counter(expected)
    by_id = {request.request_id: request for request in requests(kafka)}
    for record in records:
        request = by_id[record["request_id"]]
        assert (request.image.bucket, request.image.key) == (record["bucket"], record["key"])
        assert request.modules == ("faces",)
    assert "[3 of 3] sent" in ended.stderr
    assert journals(env) == []


def test_below_folders_with_patterns(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    ended = run(env, "upload", "-r", str(photos), "--include", "*.jp*", "--exclude", "below/*", "--quiet")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert (ended.stdout, ended.stderr) == ("", "")
    assert sent_files(kafka) == Counter(str(photos / name) for name in ("a.jpg", "b.JPEG"))
    assert run(env, "upload", "-r", str(photos)).returncode == ExitCode.OK
    assert sent_files(kafka)[str(photos / "below" / "c.jpg")] == 1


def test_a_list_on_stdin(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    given = f"{photos / 'a.jpg'}\ns3://images/x.jpg\n\n{photos / 'a.jpg'}\n"
    ended = run(env, "upload", "-", given=given)
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert sent_files(kafka) == Counter([str(photos / "a.jpg"), "s3://images/x.jpg"])


def test_names_of_any_bytes(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    odd = photos / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(b"")
    (photos / os.fsdecode(b"\xfe.jpg")).symlink_to("nowhere")
    ended = run(env, "upload", str(photos))
    assert ended.returncode == ExitCode.FAILED
    statuses = {Path(record["path"]).name: record["status"] for record in lines(ended.stdout)}
    assert statuses == {"a.jpg": "sent", "b.JPEG": "sent", r"\xff.jpg": "sent", r"\xfe.jpg": "not_sent"}
    assert rf"{photos}/\xff.jpg" in sent_files(kafka)
    listed = run(env, "upload", "--restart", "-", given=f"{odd}\n")
    assert listed.returncode == ExitCode.OK, listed.stderr
    assert sent_files(kafka)[rf"{photos}/\xff.jpg"] == 2


def test_a_dry_run_contacts_nobody(env: dict[str, str], photos: Path) -> None:
    nowhere = {**env, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    ended = run(nowhere, "upload", str(photos), "--dry-run")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert [record["status"] for record in lines(ended.stdout)] == ["would_send"] * 2


def test_answers_are_printed_as_they_come(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    with answering(kafka, ok):
        ended = run(env, "upload", str(photos), "--wait")
    assert ended.returncode == ExitCode.OK, ended.stderr
    records = lines(ended.stdout)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert all(record["result"]["request_id"] == record["request_id"] for record in records)
    assert ended.stderr.endswith("2 sent, 2 ok\n")


def test_one_answer_of_each_module_is_waited_for(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    def answer(request: Request) -> Result:
        publish(kafka, ok(request, module="faces"))
        return failed(request, module="shapes")

    with answering(kafka, answer):
        ended = run(env, "upload", str(photos / "a.jpg"), "--wait", "--module", "faces", "--module", "shapes")
    assert ended.returncode == ExitCode.FAILED
    assert {record["result"]["module"]["name"] for record in lines(ended.stdout)} == {"faces", "shapes"}


def test_a_failed_answer_fails_the_command(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    with answering(kafka, lambda request: failed(request) if "a.jpg" in str(request) else ok(request)):
        ended = run(env, "upload", str(photos), "--wait")
    assert ended.returncode == ExitCode.FAILED
    assert {record["path"]: record["status"] for record in lines(ended.stdout)} == {
        str(photos / "a.jpg"): "failed",
        str(photos / "b.JPEG"): "ok",
    }


def test_an_answer_that_never_comes(kafka: KafkaSettings, env: dict[str, str], photos: Path) -> None:
    arguments = ("upload", str(photos), "--wait", "--timeout", "1")
    ended = run(env, *arguments)
    assert ended.returncode == ExitCode.FAILED
    assert {record["error"]["code"] for record in lines(ended.stdout)} == {"answer_timeout"}
    # Run again it goes on waiting, and sends nothing twice.
    with answering(kafka, ok):
        again = run(env, *arguments)
    assert again.returncode == ExitCode.OK, again.stderr
    assert sent_files(kafka).most_common(1)[0][1] == 1
    assert journals(env) == []


def test_a_file_that_cannot_be_sent_leaves_the_rest(
    kafka: KafkaSettings, env: dict[str, str], photos: Path
) -> None:
    (photos / "d.jpg").symlink_to(photos / "d.jpg")
    ended = run(env, "upload", str(photos))
    assert ended.returncode == ExitCode.FAILED
    failed_record = next(record for record in lines(ended.stdout) if record["status"] == "not_sent")
    assert failed_record["path"] == str(photos / "d.jpg")
    assert failed_record["error"]["code"] == "input_not_found"
    assert sum(sent_files(kafka).values()) == 2
    (photos / "d.jpg").unlink()
    (photos / "d.jpg").write_bytes(jpeg())
    repaired = run(env, "upload", str(photos))
    assert repaired.returncode == ExitCode.OK, repaired.stderr
    assert Counter(record["status"] for record in lines(repaired.stdout)) == {"already_sent": 2, "sent": 1}
    assert sum(sent_files(kafka).values()) == 3


@pytest.mark.parametrize(
    ("arguments", "changed", "exit_code", "text"),
    [
        (("nowhere.jpg",), {}, ExitCode.USAGE, "error [input_not_found]: nowhere.jpg"),
        (("s3://bucket",), {}, ExitCode.USAGE, "error [usage]"),
        ((), {}, ExitCode.USAGE, "Missing argument"),
        (("--concurrency", "0", "s3://b/k"), {}, ExitCode.USAGE, "--concurrency"),
        (("s3://b/k",), {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, ExitCode.UNAVAILABLE, "analysis up"),
        (("s3://b/k",), {"KAFKA_IMAGES_TOPIC": "missing"}, ExitCode.UNAVAILABLE, "topics create"),
        (("{photo}",), {"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, ExitCode.UNAVAILABLE, "S3_ENDPOINT_URL"),
        (("{photo}",), {"S3_UPLOADS_BUCKET": "no-such-bucket"}, ExitCode.UNAVAILABLE, "no-such-bucket"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    env: dict[str, str],
    photos: Path,
    arguments: tuple[str, ...],
    changed: dict[str, str],
    exit_code: ExitCode,
    text: str,
) -> None:
    given = [argument.format(photo=photos / "a.jpg") for argument in arguments]
    ended = run({**env, **changed}, "upload", *given)
    assert ended.returncode == exit_code, ended.stderr
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    with contextlib.suppress(ValueError):
        assert lines(ended.stdout) == []
