"""The local stack by its commands, on real servers: a stack of its own, since it is killed here."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import psycopg2
import pytest
from confluent_kafka import Consumer, Producer

from infra.exit_codes import ExitCode
from infra.kafka import client_config
from infra.local import process
from infra.local.stack import local_stack
from infra.local.state import StackFolder
from infra.s3 import make_client
from infra.settings import DatabaseSettings, KafkaSettings, LocalSettings, S3Settings, load
from schemas.errors import AnalysisError, ErrorCode
from tests.stack import environment, free_ports, guarded, temporary_folder, unique

SERVERS = ("kafka", "s3", "postgres")
_PATIENCE_S = 90


class Done(msgspec.Struct, frozen=True):
    """How a command ended."""

    code: int
    out: str
    err: str


class OwnStack:
    """A stack that this module starts, kills and stops; the environment leads to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = StackFolder(root)

    def run(self, *arguments: str) -> Done:
        """Runs `analysis ARGUMENTS` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "analysis", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def up(self) -> None:
        local_stack().up(services_only=True)

    def down(self) -> list[str]:
        return local_stack().down()

    def states(self) -> dict[str, str]:
        """How each component is."""
        return {state.name: state.state for state in local_stack().states()}

    def pids(self) -> dict[str, int]:
        """The recorded process of each component."""
        records = {name: self.folder.record(name) for name in self.folder.recorded()}
        return {name: record.pid for name, record in records.items() if record is not None}

    def kill(self, names: Sequence[str]) -> None:
        """SIGKILL, and waits until the processes are gone."""
        for name in names:
            record = self.folder.record(name)
            assert record is not None
            os.kill(record.pid, signal.SIGKILL)
            assert process.wait_end(record, 10)

    def processes(self) -> list[psutil.Process]:
        """Whatever runs with this stack's folder on its command line or as its place."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self.root) in text for text in (*each.cmdline(), each.cwd())):
                    found.append(each)
        return found


@pytest.fixture(scope="module")
def own() -> Iterator[OwnStack]:
    with temporary_folder() as root, environment(free_ports(root)), guarded(root):
        yield OwnStack(root)


@pytest.fixture
def up(own: OwnStack) -> OwnStack:
    own.up()
    return own


class Kept:
    """Something in each server, by which a test sees whether data survived."""

    def __init__(self) -> None:
        self.name = unique("kept")

    def write(self) -> None:
        """A record, an object and a row, each acknowledged."""
        producer = Producer({**client_config(load(KafkaSettings)), "acks": "all"})
        producer.produce(load(KafkaSettings).images_topic, self.name.encode())
        assert producer.flush(20) == 0
        settings = load(S3Settings)
        make_client(settings).put_object(Bucket=settings.uploads_bucket, Key=self.name, Body=b"kept")
        with self._database() as connection, connection.cursor() as cursor:
            cursor.execute(f'CREATE TABLE "{self.name}" AS SELECT 42 AS answer')

    def assert_there(self) -> None:
        """Everything that was written is there."""
        assert self.name.encode() in _all_values(load(KafkaSettings).images_topic)
        settings = load(S3Settings)
        found = make_client(settings).get_object(Bucket=settings.uploads_bucket, Key=self.name)
        assert found["Body"].read() == b"kept"
        with self._database() as connection, connection.cursor() as cursor:
            cursor.execute(f'SELECT answer FROM "{self.name}"')
            assert cursor.fetchall() == [(42,)]

    @contextlib.contextmanager
    def _database(self) -> Iterator[psycopg2.extensions.connection]:
        connection = psycopg2.connect(load(DatabaseSettings).url)
        try:
            with connection:
                yield connection
        finally:
            connection.close()


def _all_values(topic: str) -> set[bytes]:
    consumer = Consumer(
        {
            **client_config(load(KafkaSettings)),
            "group.id": unique("group"),
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    partitions = len(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.subscribe([topic])
    values: set[bytes] = set()
    ended: set[int] = set()
    deadline = time.monotonic() + 30
    while len(ended) < partitions:
        assert time.monotonic() < deadline
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            ended.add(message.partition() or 0)
        else:
            values.add(message.value() or b"")
    consumer.close()
    return values


def test_up_is_idempotent_and_status_agrees(up: OwnStack) -> None:
    before = up.pids()
    assert set(before) == set(SERVERS)
    again = up.run("up", "--services-only")
    assert again.code == ExitCode.OK
    assert again.out.count("ready") == len(SERVERS)
    assert up.pids() == before
    status = up.run("status")
    assert (status.code, status.out.count("ready")) == (ExitCode.OK, len(SERVERS))


def test_secrets_are_private(up: OwnStack) -> None:
    files = [up.root / "credentials.json", up.root / "stack.env"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    credentials = up.folder.credentials()
    secrets = {credentials.postgres_password, credentials.s3_secret_access_key, *credentials.s3_signing_keys}
    shown = [text for each in up.processes() for text in each.cmdline()]
    shown += [path.read_text(errors="replace") for path in up.folder.logs.iterdir()]
    assert not [text for text in shown if any(secret in text for secret in secrets)]


def test_only_loopback_is_served(up: OwnStack) -> None:
    listening = [
        connection.laddr.ip
        for pid in up.pids().values()
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 13
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_s3_refuses_whoever_has_no_key(up: OwnStack) -> None:
    settings = msgspec.structs.replace(load(S3Settings), access_key_id="wrong", secret_access_key="wrong")
    client = make_client(settings)
    with pytest.raises(client.exceptions.ClientError, match="InvalidAccessKeyId"):
        client.list_buckets()


def test_logs_can_be_chosen_and_followed(up: OwnStack) -> None:
    everything = up.run("logs", "-n", "3").out
    assert {"kafka", "postgres"} <= {line.partition("|")[0].strip() for line in everything.splitlines()}
    unknown = up.run("logs", "nothing")
    assert unknown.code == ExitCode.USAGE
    assert "kafka" in unknown.err
    command = [sys.executable, "-m", "analysis", "logs", "-f", "-n", "0", "postgres"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following,
        ThreadPoolExecutor(1) as threads,
    ):
        assert following.stdout is not None
        line = threads.submit(following.stdout.readline)
        deadline = time.monotonic() + 30
        while not line.done() and time.monotonic() < deadline:
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(load(DatabaseSettings).url, password="wrong")
            time.sleep(0.2)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == ExitCode.INTERRUPTED
        assert "authentication failed" in line.result(10)


@pytest.mark.parametrize("names", [("s3",), ("postgres",), SERVERS], ids="+".join)
def test_data_survives_kill_9(up: OwnStack, names: tuple[str, ...]) -> None:
    kept = Kept()
    kept.write()
    before = up.pids()
    # A backend outlives its server while it works, and holds the shared memory.
    busy = psycopg2.connect(load(DatabaseSettings).url)
    with contextlib.closing(busy), busy.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE unfinished ()")
        up.kill(names)
        assert {name for name, state in up.states().items() if state == "died"} == set(names)
        up.up()
    after = up.pids()
    assert {name for name in SERVERS if after[name] != before[name]} == set(names)
    kept.assert_there()


def test_data_survives_down_and_other_ports(up: OwnStack) -> None:
    kept = Kept()
    kept.write()
    up.down()
    moved = free_ports(up.root)
    with environment(moved):
        up.up()
        kept.assert_there()
    # The folder alone is enough to find it again, and other ports than it has are a mistake.
    with environment({"LOCAL_DIR": str(up.root)}):
        assert set(up.states().values()) == {"ready"}
    with pytest.raises(AnalysisError, match="analysis down") as caught:
        up.up()
    assert caught.value.code == ErrorCode.USAGE
    up.down()


def test_a_stranger_with_a_recorded_pid_is_left_alone(own: OwnStack) -> None:
    own.down()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        # As after a reboot: the records are there, the pids are other processes' by now.
        for name in (*SERVERS, "sink"):
            own.folder.keep(name, process.Record(pid=stranger.pid, born="earlier boot 1", mark=""))
        database = own.root / "postgres" / "data"
        if database.exists():
            (database / "postmaster.pid").write_text(f"{stranger.pid}\n/elsewhere\n")
        assert list(own.states().values()) == ["died"] * 4
        own.up()
        assert stranger.pid not in {own.pids()[name] for name in SERVERS}
        own.down()
        assert stranger.poll() is None
        stranger.kill()
    assert own.folder.recorded() == []


def test_a_taken_port_is_explained_by_the_command(own: OwnStack) -> None:
    own.down()
    number = load(LocalSettings).kafka_port + 1
    with socket.create_server(("127.0.0.1", number)):
        failed = own.run("up", "--services-only")
    assert failed.code == ExitCode.UNAVAILABLE
    for part in ("stack_port_taken", str(number), "kafka", f"process {os.getpid()} (", "LOCAL_KAFKA_PORT"):
        assert part in failed.err
    # The others were started, and are kept for the next try.
    assert set(own.pids()) == set(SERVERS) - {"kafka"}


def test_down_leaves_no_process_and_is_quiet_when_nothing_runs(up: OwnStack) -> None:
    assert up.processes() != []
    assert up.run("down").err.strip() == "stopped kafka, s3, postgres"
    assert up.processes() == []
    assert set(up.states().values()) == {"stopped"}
    assert up.run("down") == Done(ExitCode.OK, "", "")
    assert up.run("status").code == ExitCode.FAILED


def test_two_at_once_start_one_stack(own: OwnStack) -> None:
    own.down()
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(own.run, "up", "--services-only") for _ in range(2)]
        assert [each.result().code for each in both] == [ExitCode.OK, ExitCode.OK]
    assert set(own.states().values()) == {"ready"}
    assert len([each for each in own.processes() if each.name() == "java"]) == 1


def test_the_application_starts_and_stops_with_the_stack(up: OwnStack) -> None:
    failed = up.run("up", "--module", "no-such-module")
    assert failed.code == ExitCode.UNAVAILABLE
    assert "analyzer.no-such-module ended while it started" in failed.err
    assert "module_not_found" in failed.err
    assert up.run("up", "--module", "dummy").code == ExitCode.OK
    assert up.states() == dict.fromkeys((*SERVERS, "analyzer.dummy", "gateway", "sink"), "ready")
    lines = up.run("logs", "analyzer", "-n", "5").out.splitlines()
    assert lines
    assert not any(line.startswith("kafka") for line in lines)
    assert up.down() == ["analyzer.dummy", "gateway", "sink", *SERVERS]
    assert up.processes() == []


def test_reset_deletes_everything_and_asks_first(up: OwnStack) -> None:
    credentials = up.folder.credentials()
    assert up.run("reset").code != ExitCode.OK
    assert set(up.states().values()) == {"ready"}
    assert up.run("reset", "--yes").code == ExitCode.OK
    assert up.processes() == []
    assert [path.name for path in up.root.iterdir()] == ["lock"]
    assert up.run("status").code == ExitCode.FAILED
    up.folder.create()
    assert up.folder.credentials() != credentials


@pytest.mark.timeout(180)
def test_a_stack_comes_up_where_there_is_no_folder_yet() -> None:
    with temporary_folder() as parent:
        root = parent / "not-yet"
        with environment(free_ports(root)), guarded(root):
            local_stack().up(services_only=True)
            assert {state.state for state in local_stack().states()} == {"ready"}
            with (
                environment({**os.environ, **free_ports(root), "LOCAL_BROKERS": "3"}),
                pytest.raises(AnalysisError, match="data of 1 brokers, not 3"),
            ):
                local_stack().up(services_only=True)
