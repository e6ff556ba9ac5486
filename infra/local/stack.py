"""The local stack as a whole: what belongs to it, and in which order it starts and stops."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from infra.local import kafka
from infra.local.application import Application, application, recorded_application
from infra.local.component import LOOPBACK, Component
from infra.local.launch import State, halt, inspect, launch
from infra.local.postgres import Postgres
from infra.local.provision import provision
from infra.local.seaweed import Seaweed
from infra.local.state import Credentials, StackFolder
from infra.settings import AnalyzerSettings, LocalSettings, SettingError, load, local_dir, variable


class Stack:
    """Kafka, S3, PostgreSQL and the application, in one folder.

    Args:
        notify: called with a few words about what happens next.
    """

    def __init__(
        self, root: Path, settings: LocalSettings, notify: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder = StackFolder(root)
        self._settings = settings
        self._notify = notify

    @cached_property
    def _credentials(self) -> Credentials:
        return self.folder.credentials()

    @cached_property
    def _kafka(self) -> tuple[Component, ...]:
        return kafka.cluster(self.folder.data("kafka"), self._settings, self._credentials.kafka_cluster_id)

    @cached_property
    def _s3(self) -> Seaweed:
        return Seaweed(self.folder.data("s3"), self._settings, self._credentials)

    @cached_property
    def _postgres(self) -> Postgres:
        return Postgres(self.folder.data("postgres"), self._settings, self._credentials.postgres_password)

    @property
    def servers(self) -> tuple[Component, ...]:
        """The servers, in the order in which they stop."""
        return (*self._kafka, self._s3, self._postgres)

    def environment(self) -> dict[str, str]:
        """The settings that lead to these servers, and the ports, so that other commands find them again.

        Among them are those that could lead elsewhere: `up` must not touch the cluster that a user's
        KAFKA_CONFIG_FILE names.
        """
        ports = {
            variable(LocalSettings, field): str(getattr(self._settings, field))
            for field in ("kafka_port", "s3_port", "postgres_port", "gateway_port")
        }
        return {
            **ports,
            "LOCAL_BROKERS": str(len(self._kafka)),
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(node.address for node in self._kafka),
            "KAFKA_CONFIG_FILE": "",
            "TOPIC_REPLICATION_FACTOR": str(len(self._kafka)),
            "TOPIC_MIN_INSYNC_REPLICAS": str(max(1, len(self._kafka) - 1)),
            "S3_ENDPOINT_URL": self._s3.address,
            "S3_ACCESS_KEY_ID": self._credentials.s3_access_key_id,
            "S3_SECRET_ACCESS_KEY": self._credentials.s3_secret_access_key,
            "DATABASE_URL": self._postgres.url,
            "GATEWAY_ADDRESS": f"{LOOPBACK}:{self._settings.gateway_port}",
        }

    def up(self, services_only: bool = False, modules: Sequence[str] = ()) -> None:
        """Starts what does not run yet, and waits until all of it answers.

        1. The servers, in parallel.
        2. Tables, topics and buckets, which the application expects.
        3. The application, in parallel.

        Raises:
            SettingError: there is data of another number of brokers.
            AnalysisError: something could not be started; what runs by then keeps running.
        """
        with self.folder.locked():
            self.folder.create()
            if len(self._kafka) != self._settings.brokers:
                raise SettingError(
                    f"LOCAL_BROKERS: {self.folder.root} holds the data of {len(self._kafka)} brokers, not "
                    f"{self._settings.brokers}; `analysis reset` deletes it"
                )
            for server in self.servers:
                server.fetch()
            self._notify("starting " + ", ".join(server.name for server in self.servers))
            # Before anything runs: other commands have to find what this one started, even if it fails.
            self.folder.write_environment(self.environment())
            self._launch(self.servers)
            self._notify("creating tables, topics and buckets")
            provision(self.environment())
            if not services_only:
                processes = self._application(modules)
                self._notify("starting " + ", ".join(each.name for each in processes))
                self._launch(processes)

    def down(self) -> list[str]:
        """Stops everything that this stack started; returns the names of what was running."""
        if not self.folder.exists:
            return []
        with self.folder.locked():
            # A `reset` may have been what we waited for.
            return self._halt_all() if self.folder.exists else []

    def reset(self) -> None:
        """Stops everything and deletes all data, logs and secrets."""
        if not self.folder.exists:
            return
        # Under one lock: another command's `up` in between would lose its data while it runs.
        with self.folder.locked():
            self._halt_all()
            for server in self.servers:
                server.erase()
            self.folder.erase()

    def states(self) -> list[State]:
        """How each server is, and each process of the application that was started."""
        if not self.folder.exists:
            return []
        components = (*self.servers, *self._recorded_application())
        with ThreadPoolExecutor(len(components)) as threads:
            return list(threads.map(lambda each: inspect(each, self.folder), components))

    def _application(self, modules: Sequence[str]) -> tuple[Application, ...]:
        settings = load(AnalyzerSettings, {**os.environ, **self.environment()})
        return application(self.folder, self.environment(), modules or (settings.module,), settings)

    def _recorded_application(self) -> tuple[Application, ...]:
        servers = {server.name for server in self.servers}
        names = (name for name in self.folder.recorded() if name not in servers)
        return recorded_application(self.folder, names, load(AnalyzerSettings))

    def _launch(self, components: Sequence[Component]) -> None:
        cancelled = threading.Event()
        with ThreadPoolExecutor(len(components)) as threads:
            started = [threads.submit(launch, each, self.folder, cancelled) for each in components]
            try:
                for each in started:
                    each.result()
            except KeyboardInterrupt:
                cancelled.set()
                raise

    def _halt_all(self) -> list[str]:
        """Stops the application first, so that it finishes what it began and commits it.

        Then Kafka, then what Kafka's clients depend on.
        """
        groups = (self._recorded_application(), self._kafka, (self._s3,), (self._postgres,))
        return [name for group in groups for name in self._halt(group)]

    def _halt(self, components: Sequence[Component]) -> Iterable[str]:
        if not components:
            return []
        # Together: the last of several Kafka nodes that stop one by one never ends.
        with ThreadPoolExecutor(len(components)) as threads:
            ran = threads.map(lambda each: halt(each, self.folder), components)
            return [each.name for each, it_ran in zip(components, ran, strict=True) if it_ran]


def local_stack(notify: Callable[[str], None] = lambda _: None) -> Stack:
    """The stack that the environment names."""
    return Stack(local_dir(), load(LocalSettings), notify)
