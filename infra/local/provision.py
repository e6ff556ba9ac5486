"""What the servers hold before the application starts: tables, topics and buckets."""

import os
import time
from collections.abc import Mapping

from infra.settings import DatabaseSettings, KafkaSettings, S3Settings, TopicSettings, load

_METADATA_PATIENCE_S = 10.0


def provision(stack: Mapping[str, str]) -> None:
    """Applies migrations, and creates the topics and buckets that are missing.

    Args:
        stack: settings that lead to the local servers; they take precedence over the environment.
    """
    from infra import migrations

    environment = {**os.environ, **stack}
    migrations.migrate(load(DatabaseSettings, environment))
    _create_topics(load(KafkaSettings, environment), load(TopicSettings, environment))
    create_buckets(load(S3Settings, environment))


def create_buckets(settings: S3Settings) -> None:
    """Creates the uploads bucket and the allowed buckets, where they are missing."""
    from infra.s3 import make_client

    client = make_client(settings)
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in sorted({settings.uploads_bucket, *settings.allowed_buckets} - existing):
        client.create_bucket(Bucket=name)


def _create_topics(kafka: KafkaSettings, wanted: TopicSettings) -> None:
    from infra import topics
    from infra.kafka import TopicNotFound

    deadline = time.monotonic() + _METADATA_PATIENCE_S
    while True:
        try:
            topics.create(kafka, wanted)
            return
        except TopicNotFound:
            # Created, but the broker that was asked has not heard of it from the controller yet.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
