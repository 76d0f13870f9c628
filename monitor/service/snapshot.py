"""What the metrics page shows: of a commit, and of the process.

Shell: reads the session and the relay; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.publishing.relay import Relay
from monitor.service.session import Session
from monitor.web.metrics import MetricsSnapshot, PartitionLag, ProcessCounts


@dataclass(slots=True)
class Counters:
    """What the process has done since its start."""

    batches: int = 0
    batch_s: float = 0.0
    commits: int = 0
    commit_s: float = 0.0
    commit_failures: int = 0
    fenced: int = 0
    gap_records: int = 0


def process_counts(relay: Relay, counters: Counters) -> ProcessCounts:
    """Return the counters of the process; may be called by another thread.

    Args:
        relay: The publisher of the outbox.
        counters: Counts since the start of the process.
    """
    values = {
        "driftd_batch_seconds_total": counters.batch_s,
        "driftd_batches_total": float(counters.batches),
        "driftd_commits_total": float(counters.commits),
        "driftd_commit_seconds_total": counters.commit_s,
        "driftd_commit_failures_total": float(counters.commit_failures),
        "driftd_fenced_total": float(counters.fenced),
        "driftd_gap_records_total": float(counters.gap_records),
        "driftd_published_total": float(relay.published),
    }
    return ProcessCounts(values, relay.states())


def metrics_snapshot(session: Session, lags: Mapping[tuple[str, int], PartitionLag], relay: Relay) -> MetricsSnapshot:
    """Return what is committed, with how publishing and reading are doing.

    Args:
        session: The session; everything in it is committed.
        lags: As `StreamInput.lags` returns them.
        relay: The publisher of the outbox.
    """
    pipeline = session.pipeline
    table, now = pipeline.join.table, pipeline.watermark.now
    values = {
        "driftd_stream_time_seconds": now / 1000 if now >= 0 else 0.0,
        "driftd_outbox_depth": float(relay.depth),
        "driftd_relay_failing": float(relay.failing),
        "driftd_join_sampling_ratio": 0.5**table.sampling_log2,
        "driftd_join_segments": float(pipeline.join.log.segments),
    }
    if table.horizon is not None:
        values["driftd_duplicate_horizon_seconds"] = max(now - table.horizon, 0) / 1000
    mistyped = {m.spec.name: m.references.mistyped for m in pipeline.models}
    return MetricsSnapshot(pipeline.status(), values, lags, mistyped, relay.states())
