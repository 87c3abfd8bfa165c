"""Measurements of a server in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from epalm.serve.engine.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the histograms' buckets."""


class ServerMetrics:
    """Counters and histograms of one server."""

    def __init__(self, service: Service) -> None:
        """Register them; the service reports its batches from now on."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "epalm_requests", "Requests.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "epalm_request_seconds",
            "Time from a request to its reply, or to the first event of a stream.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._batch = Histogram(
            "epalm_batch_size", "Requests of a batch.", buckets=SIZES, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "epalm_batch_seconds", "Time of a batch.", buckets=SECONDS, registry=self._registry
        )
        self._bytes = Counter(
            "epalm_received_bytes", "Bytes of request bodies.", registry=self._registry
        )
        self._gauge("epalm_requests_in_flight", "Requests in flight.", lambda: service.active)
        self._gauge("epalm_jobs_waiting", "Jobs that wait for a batch.", service.waiting)
        service.on_batch = self.batch

    def _gauge(self, name: str, help_text: str, value: object) -> None:
        Gauge(name, help_text, registry=self._registry).set_function(value)  # type: ignore[arg-type]

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def received(self, count: int) -> None:
        """Count the bytes of a body."""
        self._bytes.inc(count)

    def batch(self, count: int, seconds: float) -> None:
        """Count a batch of the model thread."""
        self._batch.observe(count)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All values in the text format."""
        return generate_latest(self._registry)
