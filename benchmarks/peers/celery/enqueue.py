"""Publishes the tasks of a run, as the old web server did with each upload, and ends."""

from benchmarks.peers.celery import tasks
from benchmarks.peers.celery.worker import analyze
from benchmarks.peers.job import given

if __name__ == "__main__":
    for request_id, path in tasks.read(given()):
        analyze.delay(request_id, path)
