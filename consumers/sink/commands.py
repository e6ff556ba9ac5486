"""`analysis sink`."""

import logging

import typer

from infra import logs
from infra.exit_codes import ExitCode
from infra.health import HealthServer
from infra.lifecycle import StopSignals, announce_ready
from infra.settings import DatabaseSettings, KafkaSettings, SinkSettings, load
from schemas.errors import AnalysisError

logger = logging.getLogger(__name__)


def sink() -> None:
    """Run the sink: results from Kafka into PostgreSQL.

    Start as many as the results topic has partitions. Stops on SIGTERM or Ctrl-C after writing what it holds.
    """
    logs.configure()
    kafka, database, settings = load(KafkaSettings), load(DatabaseSettings), load(SinkSettings)
    with StopSignals() as signals:
        try:
            _run(kafka, database, settings, signals)
        except AnalysisError:
            raise
        except Exception:
            logger.exception("the sink ends because of a bug, a changed database or a fatal error of Kafka")
            raise typer.Exit(ExitCode.CRASHED) from None


def _run(
    kafka: KafkaSettings, database: DatabaseSettings, settings: SinkSettings, signals: StopSignals
) -> None:
    from consumers.sink.start import make_sink

    made = make_sink(kafka, database, settings)
    with HealthServer(settings.health_address, lambda: made.live, lambda: made.ready):
        made.run(signals.stopping, announce_ready)
