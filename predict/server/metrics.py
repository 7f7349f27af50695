"""What Prometheus can ask of the server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The server's counters; none is shared with another server of the same process."""

    def __init__(self) -> None:
        """Starts all at zero."""
        self._registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "digits_requests", "Requests answered.", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "digits_request_seconds",
            "From a request's headers to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_progress = Gauge(
            "digits_requests_in_progress", "Requests being answered.", registry=registry
        )
        self.batch_images = Histogram(
            "digits_batch_images",
            "Images that went through a network at once.",
            buckets=_BATCHES,
            registry=registry,
        )
        self.feedback = Counter(
            "digits_feedback_records", "Corrections kept.", ["model"], registry=registry
        )
        self.reader_restarts = Counter(
            "digits_reader_restarts", "Readers that crashed or took too long.", registry=registry
        )

    def render(self) -> bytes:
        """Returns all of them in Prometheus's text format."""
        return generate_latest(self._registry)
