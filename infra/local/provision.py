"""What the servers hold before the application starts: tables, topics and buckets."""

import os
from collections.abc import Mapping

from infra.settings import DatabaseSettings, KafkaSettings, S3Settings, TopicSettings, load


def provision(stack: Mapping[str, str]) -> None:
    """Applies migrations, and creates the topics and buckets that are missing.

    Args:
        stack: settings that lead to the local servers; they take precedence over the environment.
    """
    from infra import migrations, topics

    environment = {**os.environ, **stack}
    migrations.migrate(load(DatabaseSettings, environment))
    topics.create(load(KafkaSettings, environment), load(TopicSettings, environment))
    create_buckets(load(S3Settings, environment))


def create_buckets(settings: S3Settings) -> None:
    """Creates the uploads bucket and the allowed buckets, where they are missing."""
    from infra.s3 import make_client

    client = make_client(settings)
    existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in sorted({settings.uploads_bucket, *settings.allowed_buckets} - existing):
        client.create_bucket(Bucket=name)
