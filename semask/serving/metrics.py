"""Numbers for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
MEDIA = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What a server counts and measures; labels are names of models, forms, stages and codes of errors only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "semask_requests", "Answered requests", ("route", "model", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "semask_request_seconds", "Time to an answer", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "semask_stage_seconds",
            "Time in a stage: body, decode, queue, compute, encode",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "semask_batch_images",
            "Images that went through the model together",
            ("model",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.errors = Counter("semask_errors", "Answers with an error", ("code",), registry=self.registry)
        self.restarts = Counter(
            "semask_process_restarts", "Processes that were started again", ("kind",), registry=self.registry
        )
        self.reloads = Counter(
            "semask_model_reloads", "Models loaded anew", ("model", "outcome"), registry=self.registry
        )
        self.waiting = Gauge("semask_queue_images", "Images that wait for a model", ("model",), registry=self.registry)
        self.ready = Gauge("semask_model_ready", "Whether a model can compute", ("model",), registry=self.registry)
        self.memory = Gauge("semask_held_bytes", "Bodies and decoded images in memory", registry=self.registry)
        self.open = Gauge("semask_requests_open", "Requests that are being answered", registry=self.registry)

    def text(self) -> bytes:
        """All numbers as Prometheus reads them."""
        return generate_latest(self.registry)
