"""Metrics of a server in the Prometheus text format, summed over its workers.

Every label has few values: bundles and experiments are what the configuration names, and of
variants joined in one label only the first `MAX_VARIANTS` are told apart.
"""

from collections import Counter as Counts
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from abtest.events import Assignment, ConversionEvent, FeedbackEvent

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STEP_SECONDS = (0.0001, 0.0002, 0.0005, *_SECONDS[:9])
MAX_VARIANTS = 64
OTHER = "other"


class Metrics:
    """Counters, gauges and histograms in a registry of their own."""

    def __init__(self, multiprocess_dir: Path | None = None) -> None:
        """All of them at zero, or at what the workers before left.

        Args:
            multiprocess_dir: shared by the workers of one server, and what the variable
                PROMETHEUS_MULTIPROC_DIR named when the process began; None for one worker.

        Raises:
            ValueError: the variable was not set.
        """
        if multiprocess_dir is not None and not values.ValueClass._multiprocess:
            raise ValueError(
                f"metrics cannot be shared in {multiprocess_dir}: set PROMETHEUS_MULTIPROC_DIR "
                "before the process starts"
            )
        self._multiprocess_dir = multiprocess_dir
        self.registry = CollectorRegistry()
        self._http()
        self._answers()
        self._feedback()
        self._health()
        self._bundles()
        self._experiments()
        self._items()
        self._steps_of: dict[tuple[str, str], dict[str, Histogram]] = {}
        self._requests_of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._answers_of: dict[tuple[str, str], Counter] = {}
        self._known_variants: set[str] = set()

    def _http(self) -> None:
        self.requests = self._counter(
            "cascade_http_requests", "Requests answered.", "route", "method", "status"
        )
        self.request_seconds = Histogram(
            "cascade_http_request_seconds",
            "Time to answer.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.refused = self._counter(
            "cascade_refused_requests", "Requests refused before they were worked on.", "reason"
        )
        self.shed = self._counter(
            "cascade_shed_requests", "Requests turned away because of overload.", "reason"
        )

    def _answers(self) -> None:
        self.answers = self._counter(
            "cascade_answers", "Answers, once for each experiment they are in.", "bundle", "variant"
        )
        self.step_seconds = Histogram(
            "cascade_step_seconds",
            "Time of each step of an answer.",
            ("bundle", "variants", "step"),
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )
        self.degraded = self._counter(
            "cascade_degraded_answers",
            "Answers that are less than they should be.",
            "bundle",
            "reason",
        )

    def _feedback(self) -> None:
        self.events = self._counter(
            "cascade_feedback_events",
            "Feedback events: accepted, duplicate or rejected.",
            "outcome",
        )
        self.outcomes = self._counter(
            "cascade_variant_events",
            "Accepted feedback events, once for each experiment of their answer.",
            "type",
            "variant",
        )
        self.revenue_micros = self._counter(
            "cascade_revenue_micros",
            "Revenue of conversions in millionths of the currency, refunds not taken off.",
            "variant",
            "currency",
        )
        self.refunded_micros = self._counter(
            "cascade_refunded_micros",
            "Revenue taken back, in millionths of the currency.",
            "variant",
            "currency",
        )
        self.archived = self._counter(
            "cascade_archived_events", "Events moved from the stream into Parquet files."
        )
        self.archive_failures = self._counter(
            "cascade_archive_failures", "Runs of the archiver that failed; they are tried again."
        )

    def _health(self) -> None:
        self.store_up = self._gauge(
            "cascade_store_up", "1 where the store answered when last asked, else 0.", "livemin"
        )
        self.journal_bytes = self._gauge(
            "cascade_journal_bytes",
            "Size of the events on the local disk that the store does not have safely.",
            "livesum",
        )
        self.log_records = self._counter(
            "cascade_log_records",
            "Events off the usual way: spooled, resent, not synced, lost, unattributed.",
            "outcome",
        )
        self.store_restarts = self._counter(
            "cascade_store_restarts", "Times the embedded Valkey had died and was started again."
        )
        self.background_runs = self._counter(
            "cascade_background_runs",
            "Runs of each step of the background process: done or failed.",
            "step",
            "outcome",
        )
        self.background_seconds = self._counter(
            "cascade_background_seconds", "Time that each step of the background took.", "step"
        )
        self.background_restarts = self._counter(
            "cascade_background_restarts",
            "Times the background process had ended, or did not start, and was started again.",
        )
        self.bundle_info = self._gauge(
            "cascade_bundle_info",
            "1 for the version of a bundle that is served, 0 for those before.",
            "livemax",
            "name",
            "bundle",
        )
        self.bad_files = self._counter(
            "cascade_bad_files", "Changed files not taken over; the old one stays.", "file"
        )

    def _bundles(self) -> None:
        self.bundle_swaps = self._counter(
            "cascade_bundle_swaps",
            "Bundles activated here, followed from another worker, refused or failed.",
            "name",
            "outcome",
        )
        self.bundles_loaded = self._counter("cascade_bundles_loaded", "Bundles taken into memory.")
        self.bundles_freed = self._counter(
            "cascade_bundles_freed", "Bundles that left memory after their last request."
        )
        self.shadow_requests = self._counter(
            "cascade_shadow_requests",
            "Requests of a candidate's share: compared, failed or dropped.",
            "name",
            "outcome",
        )
        self.shadow_overlap = Histogram(
            "cascade_shadow_overlap",
            "Share of an answer's items that the candidate gives, too.",
            ("name",),
            buckets=[tenth / 10 for tenth in range(11)],
            registry=self.registry,
        )
        self.shadow_seconds = Histogram(
            "cascade_shadow_seconds",
            "Time a candidate takes for a request.",
            ("name",),
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )

    def _experiments(self) -> None:
        self.experiment_changes = self._counter(
            "cascade_experiment_changes",
            "Changes of the experiments by http, file or store: adopted, refused or outdated.",
            "way",
            "outcome",
        )
        self.experiments_revision = self._gauge(
            "cascade_experiments_revision",
            "Revision of the experiments in force; of the worker that is furthest behind.",
            "livemin",
        )
        self.sticky_unwritten = self._counter(
            "cascade_sticky_unwritten",
            "Requests whose new sticky variants were not written; the unit's next request does.",
        )

    def _items(self) -> None:
        self.items_put = self._counter("cascade_items_put", "Changes of items that were put.")
        self.items_refused = self._counter(
            "cascade_items_refused", "New items that a bundle had no spare row for.", "bundle"
        )

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count and time one HTTP request."""
        key = (route, method, status)
        children = self._requests_of.get(key)
        if children is None:
            children = self._requests_of[key] = (
                self.requests.labels(route, method, str(status)),
                self.request_seconds.labels(route, method),
            )
        children[0].inc()
        children[1].observe(seconds)

    def observe_answer(
        self,
        bundle: str,
        experiments: Sequence[Assignment],
        latency_us: Mapping[str, int],
        degraded: Sequence[str],
    ) -> None:
        """Count and time one answer of a bundle."""
        variants = [f"{each.key}/{each.variant}" for each in experiments]
        joined = self._bounded("+".join(variants))
        steps = self._steps_of.setdefault((bundle, joined), {})
        for step, duration_us in latency_us.items():
            child = steps.get(step)
            if child is None:
                child = steps[step] = self.step_seconds.labels(bundle, joined, step)
            child.observe(duration_us / 1_000_000)
        for variant in variants or ("",):
            answers = self._answers_of.get((bundle, variant))
            if answers is None:
                answers = self.answers.labels(bundle, variant)
                self._answers_of[(bundle, variant)] = answers
            answers.inc()
        for reason in degraded:
            self.degraded.labels(bundle, reason).inc()

    def observe_feedback(self, accepted: int, duplicates: int, rejected: int) -> None:
        """Count one batch of feedback."""
        self.events.labels("accepted").inc(accepted)
        self.events.labels("duplicate").inc(duplicates)
        self.events.labels("rejected").inc(rejected)

    def observe_outcome(self, event: FeedbackEvent) -> None:
        """Count one accepted event, and its revenue, for the variants of its answer."""
        self.observe_outcomes([event])

    def observe_outcomes(self, events: Iterable[FeedbackEvent]) -> None:
        """Count accepted events, and their revenue, for the variants of their answers."""
        counted: Counts[tuple[str, str]] = Counts()
        earned: Counts[tuple[str, str]] = Counts()
        refunded: Counts[tuple[str, str]] = Counts()
        for event in events:
            for each in event.experiments or (None,):
                variant = f"{each.key}/{each.variant}" if each else ""
                counted[event.type, variant] += 1
                if isinstance(event, ConversionEvent):
                    money = earned if event.revenue_micros >= 0 else refunded
                    money[variant, event.currency] += abs(event.revenue_micros)
        for counter, counts in (
            (self.outcomes, counted),
            (self.revenue_micros, earned),
            (self.refunded_micros, refunded),
        ):
            for labels, number in counts.items():
                counter.labels(*labels).inc(number)

    def render(self) -> bytes:
        """The text a Prometheus server scrapes: of all workers, whichever is asked."""
        if self._multiprocess_dir is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._multiprocess_dir))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _bounded(self, joined: str) -> str:
        if joined not in self._known_variants:
            if len(self._known_variants) >= MAX_VARIANTS:
                return OTHER
            self._known_variants.add(joined)
        return joined

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, mode: str, *labels: str) -> Gauge:
        return Gauge(name, documentation, labels, registry=self.registry, multiprocess_mode=mode)  # type: ignore[arg-type]
