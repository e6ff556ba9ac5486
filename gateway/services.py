"""What the routes work with: one of each a process."""

from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from fastapi import Depends, Request

from gateway.database import Database
from gateway.feed import Feed
from gateway.security import Rates
from gateway.uploads import Desk
from infra.settings import AnalyzerSettings, DatabaseSettings, GatewaySettings, KafkaSettings, S3Settings
from producers.client import AnalysisClient

STORE_THREADS = 16
DECODE_THREADS = 2
STATEMENT_TIMEOUT_S = 10.0


class Services(msgspec.Struct, frozen=True):
    """Everything that outlives a request."""

    settings: GatewaySettings
    kafka: KafkaSettings
    s3: S3Settings
    client: AnalysisClient
    database: Database
    feed: Feed
    desk: Desk
    store: Any
    """A client of the object store, for images that go out."""
    store_threads: anyio.CapacityLimiter
    decoding: anyio.CapacityLimiter
    """Of those that decode images: each may need gigabytes for a moment."""
    max_pixels: int
    """What the analyzer takes, and so what is worth taking here."""
    rates: Rates

    @classmethod
    def make(
        cls,
        settings: GatewaySettings,
        kafka: KafkaSettings,
        s3: S3Settings,
        database: DatabaseSettings,
        analyzer: AnalyzerSettings,
    ) -> "Services":
        """Connects nothing yet: a server that is away keeps nobody from starting."""
        from infra.s3 import make_client

        client = AnalysisClient(kafka, s3, delivery_timeout_s=10.0, connections=STORE_THREADS)
        feed = Feed(kafka)
        decoding = anyio.CapacityLimiter(DECODE_THREADS)
        max_pixels = analyzer.max_image_pixels
        return cls(
            settings=settings,
            kafka=kafka,
            s3=s3,
            client=client,
            database=Database(database, settings.database_connections, STATEMENT_TIMEOUT_S),
            feed=feed,
            desk=Desk(client, feed, s3.allowed_buckets, STORE_THREADS, decoding, max_pixels),
            store=make_client(s3, STORE_THREADS, attempts=2, timeout_s=5.0),
            store_threads=anyio.CapacityLimiter(STORE_THREADS),
            decoding=decoding,
            max_pixels=max_pixels,
            rates=Rates(settings.uploads_per_minute),
        )

    async def decode(self, function: Any, *arguments: Any) -> Any:
        """Runs what decodes an image in a thread."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self.decoding)

    async def in_store(self, function: Any, *arguments: Any) -> Any:
        """Runs what talks to the object store in a thread."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self.store_threads)


def services_of(request: Request) -> Services:
    """The app's services, for its routes."""
    services: Services = request.app.state.services
    return services


Given = Annotated[Services, Depends(services_of)]
"""What a route declares to get them."""
