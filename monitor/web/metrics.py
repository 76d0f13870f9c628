"""Metrics of the daemon for Prometheus, all of them declared here.

Shell. The worker publishes a snapshot after every commit, and a scrape shows the latest one: it never waits for the
worker and counts no event that is not committed. What the process itself has done is counted at the scrape, also while
another daemon owns the store. The number of series is bounded by the models and versions of the
configuration. Names follow the conventions of Prometheus: base units, `_total` for counters.
"""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detectors.findings import Family
from fallback.types import Reason, Tier
from monitor.alerting.records import AlertKind
from monitor.clock import SYSTEM_CLOCK, Clock
from monitor.events.refusals import Refusal
from monitor.pipeline.shown import features_of
from monitor.pipeline.status import CHECK_RESULTS
from monitor.publishing.loop import DeliveryState
from monitor.reference.progress import ReferenceStatus
from monitor.spec import Severity
from monitor.times import parse_time
from monitor.web.page import Vitals


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric: its kind (`counter` or `gauge`), its labels, and a description for operators."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_G, _C = "gauge", "counter"
_PARTITION, _MODEL, _VERSION = ("topic", "partition"), ("model",), ("model", "version")
_DESTINATION = ("destination",)

DECLARED: Final = (
    Declared("driftd_records_read_total", _C, "Records read, refused ones included."),
    Declared("driftd_events_total", _C, "Accepted events, duplicates and late ones included.", ("type",)),
    Declared("driftd_late_predictions_total", _C, "Predictions whose pane had ended; see stream.lateness."),
    Declared(
        "driftd_late_after_idle_total", _C,
        "Predictions whose pane was closed while their partition was idle or left out; see stream.hold.",
    ),
    Declared("driftd_dead_letters_total", _C, "Refused records, written to the dead-letter topic.", ("reason",)),
    Declared("driftd_ignored_events_total", _C, "Events of models that are not configured, by model.", _MODEL),
    Declared("driftd_synthetic_events_total", _C, "Events that say that they are synthetic; they count nowhere else."),
    Declared(
        "driftd_unusable_values_total", _C, "Values of accepted events that cannot be used and count as missing.",
        (*_MODEL, "field", "reason"),
    ),
    Declared("driftd_join_total", _C, "Outcomes and duplicates, by the result of the join.", ("result",)),
    Declared("driftd_join_pending", _G, "Predictions waiting for their outcome."),
    Declared(
        "driftd_early_metrics_dropped_total", _C,
        "Outcomes whose own metrics were dropped: too many waited for their prediction.",
    ),
    Declared("driftd_join_sampling_ratio", _G, "Share of requests whose outcomes are awaited; 1 without sampling."),
    Declared("driftd_duplicate_horizon_seconds", _G, "How far back duplicates are recognised; see limits.seen."),
    Declared("driftd_alerts_total", _C, "Alerts that began to fire, by kind.", ("kind",)),
    Declared("driftd_alerts_firing", _G, "Alerts that fire now.", ("kind", "severity")),
    Declared("driftd_alerts_resolved_total", _C, "Alerts that were resolved."),
    Declared("driftd_decisions_total", _C, "Decisions, by reason.", ("reason",)),
    Declared("driftd_stream_time_seconds", _G, "Stream time (the watermark), as a Unix time."),
    Declared("driftd_lag_records", _G, "Records not read yet.", _PARTITION),
    Declared("driftd_partition_parked", _G, "1 while paused: too many refused records, or a fault.", _PARTITION),
    Declared(
        "driftd_partition_left_out", _G,
        "1 while the others go on without it: it cannot deliver what it holds; see stream.hold.", _PARTITION,
    ),
    Declared("driftd_gap_records_total", _C, "Records removed by retention before they were read."),
    Declared("driftd_batch_seconds_total", _C, "Time spent processing batches."),
    Declared("driftd_batches_total", _C, "Batches processed."),
    Declared("driftd_commits_total", _C, "Transactions committed."),
    Declared("driftd_commit_seconds_total", _C, "Time spent committing."),
    Declared("driftd_commit_age_seconds", _G, "Time since the last commit; grows while the database is unavailable."),
    Declared("driftd_commit_failures_total", _C, "Commits that failed and were retried."),
    Declared("driftd_fenced_total", _C, "Takeovers of the store by another daemon: two daemons run."),
    Declared("driftd_outbox_depth", _G, "Committed messages not published yet."),
    Declared("driftd_published_total", _C, "Messages published, repeats included."),
    Declared("driftd_relay_failing", _G, "1 while publishing fails."),
    Declared("driftd_destination_depth", _G, "Messages waiting for a destination.", _DESTINATION),
    Declared("driftd_destination_attempts_total", _C, "Attempts to deliver a message or a batch.", _DESTINATION),
    Declared("driftd_destination_failures_total", _C, "Attempts that failed.", _DESTINATION),
    Declared("driftd_destination_delivered_total", _C, "Messages acknowledged by a destination.", _DESTINATION),
    Declared("driftd_destination_failing", _G, "1 while deliveries to a destination fail.", _DESTINATION),
    Declared(
        "driftd_destination_given_up_total", _C, "Messages never delivered to a destination.", (*_DESTINATION, "reason")
    ),
    Declared("driftd_ready", _G, "1 while this daemon owns the store and the stream is available."),
    Declared("driftd_standby", _G, "1 while another daemon owns the store and this one is ready to take over."),
    Declared("driftd_store_info", _G, "1; the label tells stores apart; a copy of one has the same.", ("store",)),
    Declared("driftd_build_info", _G, "1; the labels say which release runs.", ("version", "python")),
    Declared("driftd_loop_age_seconds", _G, "Time since the last turn of the poll loop, which feeds the watchdog."),
    Declared("driftd_feature_type_mismatches_total", _C, "Feature values of another type than the reference.", _MODEL),
    Declared("driftd_join_segments", _G, "Rows of pending predictions in the database."),
    Declared("driftd_model_active_level", _G, "1 for the active tier.", ("model", "level")),
    Declared("driftd_model_generation", _G, "Generation of the latest decision.", _MODEL),
    Declared("driftd_blind", _G, "1 while something that is watched cannot be judged.", (*_VERSION, "cause")),
    Declared("driftd_version_predictions_total", _C, "Predictions counted.", _VERSION),
    Declared("driftd_version_outcomes_total", _C, "Predictions joined with their outcome.", _VERSION),
    Declared("driftd_version_metric", _G, "A metric of the latest window.", (*_VERSION, "metric")),
    Declared("driftd_version_role", _G, "1 for the role of a version, judged or not.", (*_VERSION, "role")),
    Declared(
        "driftd_version_health", _G, "2 healthy, 1 degraded, 0 failed; none where it is not judged.",
        (*_VERSION, "role"),
    ),
    Declared("driftd_version_drifted_features", _G, "Features of the firing drift alert.", _VERSION),
    Declared("driftd_version_alerts_firing", _G, "Firing rules.", _VERSION),
    Declared("driftd_version_alerts_pending", _G, "Rules that breach, but not yet for long enough to fire.", _VERSION),
    Declared("driftd_version_served_ratio", _G, "Share of predictions by tier.", (*_VERSION, "served_by")),
    Declared(
        "driftd_feature_drift_ratio", _G,
        "Largest effect of the latest window divided by the smallest that counts; none where it was not judged.",
        (*_VERSION, "feature", "kind"),
    ),
    Declared("driftd_reference_state", _G, "1 for the state of the reference of the features.", (*_MODEL, "state")),
    Declared("driftd_reference_rows", _G, "Predictions or rows behind the reference, or gathered for it.", _MODEL),
    Declared(
        "driftd_reference_since_seconds", _G,
        "Stream time from which on the reference is in force, as a Unix time; none where it was there at the start.",
        _MODEL,
    ),
    Declared("driftd_checks_total", _C, "Drift checks, by result.", (*_VERSION, "result")),
    Declared("driftd_checks_skipped_features", _G, "Features skipped by the latest check.", (*_VERSION, "reason")),
)  # fmt: skip


class PartitionLag(NamedTuple):
    """How far reading of a partition is behind.

    Attributes:
        lag: Records that are not processed yet; None: unknown.
        parked: Whether reading waits.
        left_out: Whether the others go on without it.
    """

    lag: float | None
    parked: bool
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The committed state, with measurements of the process.

    Attributes:
        status: The status document; empty while this daemon does not own the store.
        values: Metrics without labels, by name.
        partitions: How far reading is behind, by topic and partition.
        mistyped: Number of feature values of another type than the reference, by model.
        destinations: State of the delivery to each destination, by its name.
    """

    status: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    partitions: Mapping[tuple[str, int], PartitionLag] = field(default_factory=dict)
    mistyped: Mapping[str, int] = field(default_factory=dict)
    destinations: Mapping[str, DeliveryState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessCounts:
    """What the process has done since its start, whoever owns the store.

    Attributes:
        values: Counters without labels, by name.
        destinations: State of the delivery to each destination, by its name; only its counters are shown.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    destinations: Mapping[str, DeliveryState] = field(default_factory=dict)


class Telemetry(Collector):
    """Exposes the latest snapshot as metrics. The worker calls `tick` and `publish`, the HTTP thread `scrape`."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.counts: Callable[[], ProcessCounts] = ProcessCounts
        self._snapshot = MetricsSnapshot({})
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.committed_at = self._clock.monotonic()
        self.turned_at = self._clock.monotonic()
        self.ready = self.standby = False
        self.why_not = "starting"
        self.owner = self.store = ""
        self._build = installed("driftd"), platform.python_version()

    @property
    def why_not_for_people(self) -> str:
        """Why the daemon is not ready, with the owner that a stand-by waits for."""
        return f"{self.why_not} ({self.owner})" if self.standby and self.owner else self.why_not

    @property
    def status(self) -> Mapping[str, Any]:
        """The latest published status document, with the destinations; empty where there is none."""
        snapshot = self._snapshot
        if not snapshot.status:
            return snapshot.status
        vitals = self.vitals()
        return {
            **snapshot.status,
            "destinations": {name: _told(s) for name, s in snapshot.destinations.items()},
            "stream_time": vitals.stream_time,
            "lag_records": vitals.lag,
            "commit_age_s": round(vitals.commit_age_s, 3),
        }

    def vitals(self) -> Vitals:
        """Return how the daemon is doing, for the page."""
        snapshot = self._snapshot
        lags = [partition.lag for partition in snapshot.partitions.values() if partition.lag is not None]
        time = snapshot.values.get("driftd_stream_time_seconds", 0.0)
        return Vitals(round(time * 1000), sum(lags) if lags else None, self._clock.monotonic() - self.committed_at)

    def publish(self, snapshot: MetricsSnapshot) -> None:
        """Replace the snapshot that scrapes show."""
        self._snapshot = snapshot

    def tick(self) -> None:
        """Record a turn of the poll loop."""
        self.turned_at = self._clock.monotonic()

    def set_ready(self, ready: bool, why_not: str = "", *, standby: bool = False) -> None:
        """Set whether the daemon is ready; if not, `why_not` is the reason that /-/ready reports.

        Args:
            ready: Whether it does its work.
            why_not: Why it does not.
            standby: Whether the only reason is that another daemon does it.
        """
        self.ready, self.why_not, self.standby = ready, why_not, standby

    def loop_age_s(self) -> float:
        """Return the seconds since the last turn of the poll loop."""
        return self._clock.monotonic() - self.turned_at

    def scrape(self) -> bytes:
        """Return the content of `/metrics`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families; called by the client library."""
        samples: dict[str, list[tuple[tuple[str, ...], float]]] = {d.name: [] for d in DECLARED}
        snapshot = self._snapshot
        for name, labels, value in _samples(snapshot):
            samples[name].append((labels, value))
        for name, labels, value in _counted(self.counts(), snapshot):
            samples[name].append((labels, value))
        now = self._clock.monotonic()
        samples["driftd_commit_age_seconds"].append(((), now - self.committed_at))
        samples["driftd_loop_age_seconds"].append(((), now - self.turned_at))
        samples["driftd_ready"].append(((), float(self.ready)))
        samples["driftd_standby"].append(((), float(self.standby)))
        if self.store:
            samples["driftd_store_info"].append(((self.store,), 1.0))
        samples["driftd_build_info"].append((self._build, 1.0))
        for declared in DECLARED:
            if not samples[declared.name]:
                continue
            counter = declared.kind == _C
            family: CounterMetricFamily | GaugeMetricFamily = (
                CounterMetricFamily(declared.name.removesuffix("_total"), declared.help, labels=declared.labels)
                if counter
                else GaugeMetricFamily(declared.name, declared.help, labels=declared.labels)
            )
            for labels, value in samples[declared.name]:
                family.add_metric([_clean(label) for label in labels], value)
            yield family


def _clean(label: str) -> str:
    """Replace lone surrogates: in a label they would break every later scrape."""
    return label.encode("utf-8", "replace").decode()


Sample = tuple[str, tuple[str, ...], float]


def _samples(snapshot: MetricsSnapshot) -> Iterator[Sample]:
    status = snapshot.status
    for name, value in snapshot.values.items():
        if math.isfinite(value):
            yield name, (), value
    for (topic, number), partition in snapshot.partitions.items():
        at = (topic, str(number))
        if partition.lag is not None:
            yield "driftd_lag_records", at, partition.lag
        yield "driftd_partition_parked", at, float(partition.parked)
        yield "driftd_partition_left_out", at, float(partition.left_out)
    for model, count in snapshot.mistyped.items():
        yield "driftd_feature_type_mismatches_total", (model,), count
    for name, state in snapshot.destinations.items():
        yield "driftd_destination_depth", (name,), state.depth
        yield "driftd_destination_failing", (name,), float(state.failing)
    if not status:
        return
    yield from _totals(status)
    yield from _firing(status)
    for name, model in status["models"].items():
        if not model["removed_at"]:
            yield from _model(name, model)


def _firing(status: Mapping[str, Any]) -> Iterator[Sample]:
    counts = dict.fromkeys(itertools.product(AlertKind, Severity), 0)
    for model in status["models"].values():
        for alert in model["alerts"]:
            counts[AlertKind(alert["kind"]), Severity(alert["severity"])] += 1
    for (kind, severity), count in counts.items():
        if kind is not AlertKind.DAEMON:
            yield "driftd_alerts_firing", (kind.value, severity.value), count
    daemon = status["alerts"]["active_by_kind"].get(AlertKind.DAEMON.value, 0)
    yield "driftd_alerts_firing", (AlertKind.DAEMON.value, Severity.CRITICAL.value), daemon


def _counted(counts: ProcessCounts, snapshot: MetricsSnapshot) -> Iterator[Sample]:
    for name, value in counts.values.items():
        yield name, (), value
    for name, state in {**snapshot.destinations, **counts.destinations}.items():
        yield "driftd_destination_attempts_total", (name,), state.attempts
        yield "driftd_destination_failures_total", (name,), state.failures
        yield "driftd_destination_delivered_total", (name,), state.delivered
        for reason, count in state.given_up.items():
            yield "driftd_destination_given_up_total", (name, reason.value), count


def _told(state: DeliveryState) -> dict[str, Any]:
    """Return the entry of a destination in the status document."""
    return {"waiting": state.depth, "last_error": state.last_error}


def _totals(status: Mapping[str, Any]) -> Iterator[Sample]:
    events, join = status["events"], status["join"]
    yield "driftd_records_read_total", (), events["read"]
    for kind in ("predictions", "outcomes", "resources"):
        yield "driftd_events_total", (kind.removesuffix("s") if kind != "resources" else kind,), events[kind]
    yield "driftd_late_predictions_total", (), events["late_predictions"]
    yield "driftd_late_after_idle_total", (), events["late_after_idle"]
    for model, count in events["ignored"].items():
        yield "driftd_ignored_events_total", (model,), count
    yield "driftd_synthetic_events_total", (), events["synthetic"]
    for model, fields in status["unusable"].items():
        for path, reasons in fields.items():
            for reason, count in reasons.items():
                yield "driftd_unusable_values_total", (model, path, reason), count
    yield from _from_zero("driftd_dead_letters_total", Refusal, status["dead_letters_by_reason"])
    for result in ("joined", "duplicates", "conflicts", "orphans", "late", "expired"):
        yield "driftd_join_total", (result,), join[result]
    yield "driftd_join_pending", (), join["pending"]
    yield "driftd_early_metrics_dropped_total", (), join["early_metrics_dropped"]
    yield from _from_zero("driftd_alerts_total", AlertKind, status["alerts"]["by_kind"])
    yield "driftd_alerts_resolved_total", (), status["alerts"]["resolved"]
    yield from _from_zero("driftd_decisions_total", Reason, status["decisions_by_reason"])


def _from_zero(name: str, values: Iterable[str], counts: Mapping[str, int]) -> Iterator[Sample]:
    """Yield a counter for each value of its label, since an increase from nothing to one is not seen."""
    for value in sorted({*map(str, values), *counts}):
        yield name, (value,), counts.get(value, 0)


_HEALTH: Final = {"healthy": 2.0, "degraded": 1.0, "failed": 0.0}


def _model(name: str, model: Mapping[str, Any]) -> Iterator[Sample]:
    for tier in Tier:
        yield "driftd_model_active_level", (name, tier.value), float(model["active_level"] == tier)
    yield "driftd_model_generation", (name,), model["generation"]
    yield from _reference(name, model["reference"])
    for blind in model["blind"]:
        yield "driftd_blind", (name, blind["version"], blind["cause"]), 1.0
    for version, v in model["versions"].items():
        at = (name, version)
        yield "driftd_version_predictions_total", at, v["predictions"]
        yield "driftd_version_outcomes_total", at, v["outcomes"]
        yield "driftd_version_role", (*at, v["role"]), 1.0
        if v["health"] in _HEALTH:
            yield "driftd_version_health", (*at, v["role"]), _HEALTH[v["health"]]
        yield "driftd_version_drifted_features", at, len(v["drifted"])
        yield "driftd_version_alerts_firing", at, len(v["firing"])
        yield "driftd_version_alerts_pending", at, len(v["pending"])
        for metric, value in v["metrics"].items():
            yield "driftd_version_metric", (*at, metric), value
        total = sum(v["served_by"].values())
        for level, count in v["served_by"].items():
            if total:
                yield "driftd_version_served_ratio", (*at, level), count / total
        for result in sorted({*CHECK_RESULTS, *v["checks"]}):
            yield "driftd_checks_total", (*at, result), v["checks"].get(result, 0)
        yield from _features(at, v)
        for reason in sorted(set(v["skipped"].values())):
            yield "driftd_checks_skipped_features", (*at, reason), sum(w == reason for w in v["skipped"].values())


def _features(at: tuple[str, str], version: Mapping[str, Any]) -> Iterator[Sample]:
    """Yield how much features differ, as far as the latest window tells."""
    for feature, its in features_of(version).items():
        for family, course in ((Family.DRIFT, its.drift), (Family.DATA_QUALITY, its.data_quality)):
            if course is not None and course.ratio is not None:
                yield "driftd_feature_drift_ratio", (*at, feature, family.value), course.ratio


def _reference(name: str, reference: Mapping[str, Any]) -> Iterator[Sample]:
    for state in ReferenceStatus:
        yield "driftd_reference_state", (name, state.value), float(reference["state"] == state)
    yield "driftd_reference_rows", (name,), reference["rows"]
    if reference["since"] is not None:
        yield "driftd_reference_since_seconds", (name,), parse_time(reference["since"]) / 1000
