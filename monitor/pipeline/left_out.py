"""Alerts about references that were learned of fewer features than events had.

Pure. They last as long as such a reference is in force, so they neither end nor begin with the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.alerting.daemon import LEFT_OUT, DaemonAlerts
from monitor.alerting.records import AlertRecord
from monitor.pipeline.model import ModelMonitor


def tell_left_out(models: Sequence[ModelMonitor], daemon: DaemonAlerts) -> list[AlertRecord]:
    """Begin or end the alerts of models whose reference has changed since the last call."""
    told = [
        _tell(model.spec.name, count, daemon, time)
        for model in models
        for time, count in model.references.newly_left_out()
    ]
    return [record for record in told if record is not None]


def settle_left_out(models: Sequence[ModelMonitor], daemon: DaemonAlerts, now: int) -> list[AlertRecord]:
    """Make the alerts agree with the references that a daemon goes on with, at stream time `now` in ms."""
    told = [_tell(model.spec.name, model.references.left_out, daemon, now) for model in models]
    names = {model.spec.name for model in models}
    for alert in [a for a in daemon.state.firing if a.startswith(LEFT_OUT) and a.removeprefix(LEFT_OUT) not in names]:
        told.append(daemon.resolve(alert, f"{alert.removeprefix(LEFT_OUT)} is not configured any more", now))
    return [record for record in told if record is not None]


def _tell(model: str, count: int, daemon: DaemonAlerts, now: int) -> AlertRecord | None:
    if not count:
        return daemon.resolve(f"{LEFT_OUT}{model}", f"{model}: no reference that leaves features out is in force", now)
    summary = (
        f"{model}: the reference leaves out {count} features: too many names came, as where a name holds an "
        "id; send the id as a value, or set the feature to ignore"
    )
    return daemon.fire(f"{LEFT_OUT}{model}", summary, now)
