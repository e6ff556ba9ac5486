"""What leads to the local servers, whatever else the environment of a user says."""

from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from psycopg2.extensions import parse_dsn

from infra.kafka import client_config
from infra.local.stack import Stack
from infra.s3 import make_client
from infra.settings import KafkaSettings, LocalSettings, S3Settings, TopicSettings, load


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    made = Stack(tmp_path, LocalSettings())
    made.folder.create()
    return made


def test_a_file_of_another_cluster_is_not_followed(stack: Stack, tmp_path: Path) -> None:
    production = tmp_path / "production.properties"
    production.write_text("bootstrap.servers=production:9092\n")
    user = {"KAFKA_CONFIG_FILE": str(production), "TOPIC_REPLICATION_FACTOR": "3"}
    merged = {**user, **stack.environment()}
    assert client_config(load(KafkaSettings, merged))["bootstrap.servers"] == "127.0.0.1:29092"
    assert load(TopicSettings, merged).replication_factor == 1


def test_the_database_is_reached_whatever_libpqs_variables_say(stack: Stack) -> None:
    parts = parse_dsn(stack.environment()["DATABASE_URL"])
    assert (parts["hostaddr"], parts["sslmode"], parts["dbname"]) == ("127.0.0.1", "disable", "analysis")


def test_a_profile_that_does_not_exist_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")
    make_client(S3Settings(access_key_id="key", secret_access_key="secret")).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_stands_before_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    address = f"http://{host}:2"
    settings = S3Settings(endpoint_url=address, access_key_id="key", secret_access_key="secret")
    with pytest.raises(EndpointConnectionError, match=address):
        make_client(settings, attempts=1, timeout_s=2).list_buckets()
