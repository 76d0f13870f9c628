"""Series at which each alerting rule fires, and series close to them at which it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Series = Mapping[str, str]  # series → values in Prometheus's notation, a value a minute

D: Final = 'job="driftd",instance="a"'
_PARTITION: Final = f'{{{D},topic="events",partition="0"}}'
_VERSION: Final = f'{D},model="heat",version="v2"'


@dataclass(frozen=True, slots=True)
class Case:
    """`fires` and `calm` for `minutes`; `firing` are the labels of what fires, beside `severity`."""

    fires: Series
    calm: Series
    firing: str
    severity: str = "warning"
    minutes: int = 15

    def labels(self, alert: str) -> str:
        """The labels of the series `ALERTS`."""
        return f'ALERTS{{{self.firing},alertname="{alert}",alertstate="firing",severity="{self.severity}"}}'


def always(series: str, value: float) -> Series:
    return {series: f"{value}+0x60"}


def growing(series: str, by: float) -> Series:
    return {series: f"0+{by}x60"}


def _gauge(name: str, bad: float, good: float, labels: str = f"{{{D}}}") -> tuple[Series, Series]:
    return always(name + labels, bad), always(name + labels, good)


def _role(role: str, health: int = 2) -> Series:
    return always(f'driftd_version_health{{{_VERSION},role="{role}"}}', health)


def _watched(series: Series, role: str, elsewhere: str = "observed") -> tuple[Series, Series]:
    """It fires for a version with this role, and not for one that is out of service."""
    return {**series, **_role(role)}, {**series, **_role(elsewhere)}


_HANDED_OVER: Final = {**always(f"driftd_ready{{{D}}}", 0), **always(f"driftd_standby{{{D}}}", 1)}
_OTHER_WORKS: Final = always('driftd_ready{job="driftd",instance="b"}', 1)

CASES: Final[Mapping[str, Sequence[Case]]] = {
    "DriftdDown": [Case(*_gauge("up", 0, 1), D, "critical")],
    "DriftdNotReady": [
        Case(*_gauge("driftd_ready", 0, 1), D, "critical"),
        Case(always(f"driftd_ready{{{D}}}", 0), {**_HANDED_OVER, **_OTHER_WORKS}, D, "critical"),
    ],
    "DriftdNobodyReady": [Case(_HANDED_OVER, {**_HANDED_OVER, **_OTHER_WORKS}, 'job="driftd"', "critical")],
    "DriftdLoopStuck": [Case(*_gauge("driftd_loop_age_seconds", 61, 59), D, "critical")],
    "DriftdNotCommitting": [
        Case(
            {**always(f"driftd_commit_age_seconds{{{D}}}", 121), **always(f"driftd_ready{{{D}}}", 1)},
            {**always(f"driftd_commit_age_seconds{{{D}}}", 119), **always(f"driftd_ready{{{D}}}", 1)},
            D, "critical",
        )
    ],
    "DriftdBehind": [
        Case(*_gauge("driftd_lag_records", 100_001, 99_999, _PARTITION), 'instance="a"')
    ],
    "DriftdNotPublishing": [
        Case(*_gauge("driftd_relay_failing", 1, 0), D, "critical"),
        Case(*_gauge("driftd_outbox_depth", 1_001, 999), D, "critical"),
    ],
    "DriftdDestinationFailing": [
        Case(
            *_gauge("driftd_destination_failing", 1, 0, f'{{{D},destination="pager"}}'),
            'instance="a",destination="pager"',
        )
    ],
    "DriftdMessagesGivenUp": [
        Case(
            growing(f'driftd_destination_given_up_total{{{D},destination="pager",reason="expired"}}', 1),
            growing(f'driftd_destination_given_up_total{{{D},destination="pager",reason="expired"}}', 0),
            'instance="a",destination="pager"',
        )
    ],
    "DriftdDeadLetters": [
        Case(
            {**growing(f'driftd_dead_letters_total{{{D},reason="empty"}}', share), **_READ},
            {**growing(f'driftd_dead_letters_total{{{D},reason="empty"}}', 9), **_READ},
            'instance="a"',
        )
        for share in (11,)
        for _READ in (growing(f"driftd_records_read_total{{{D}}}", 1_000),)
    ],
    "DriftdPartitionParked": [
        Case(
            *_gauge("driftd_partition_parked", 1, 0, _PARTITION), 'instance="a",topic="events",partition="0"',
            "critical",
        )
    ],
    "DriftdRecordsLost": [
        Case(
            growing(f"driftd_gap_records_total{{{D}}}", 1), growing(f"driftd_gap_records_total{{{D}}}", 0), D,
            "critical",
        )
    ],
    "DriftdFenced": [
        Case(growing(f"driftd_fenced_total{{{D}}}", 1), growing(f"driftd_fenced_total{{{D}}}", 0), D)
    ],
    "DriftdSampling": [Case(*_gauge("driftd_join_sampling_ratio", 0.5, 1), D, minutes=20)],
    "DriftdLatePredictions": [
        Case(
            {**growing(f"driftd_late_predictions_total{{{D}}}", 11), **_PREDICTIONS},
            {**growing(f"driftd_late_predictions_total{{{D}}}", 9), **_PREDICTIONS},
            D, minutes=20,
        )
        for _PREDICTIONS in (growing(f'driftd_events_total{{{D},type="prediction"}}', 1_000),)
    ],
    "DriftdPartitionLeftOut": [
        Case(
            *_gauge("driftd_partition_left_out", 1, 0, _PARTITION), 'instance="a",topic="events",partition="0"',
            "critical",
        )
    ],
    "DriftdLateAfterIdle": [
        Case(growing(f"driftd_late_after_idle_total{{{D}}}", 1), growing(f"driftd_late_after_idle_total{{{D}}}", 0), D)
    ],
    "ModelFallback": [
        Case(
            *_gauge("driftd_model_active_level", 0, 1, f'{{{D},model="heat",level="primary"}}'),
            f'{D},model="heat",level="primary"', "critical",
        )
    ],
    "ModelVersionFailed": [
        Case(_role("champion", 0), _role("champion", 1), f'{_VERSION},role="champion"', "critical"),
        Case(_role("champion", 0), _role("observed", 0), f'{_VERSION},role="champion"', "critical"),
    ],
    "ModelDrift": [
        Case(*_watched(always(f"driftd_version_drifted_features{{{_VERSION}}}", 2), "shadow"), _VERSION),
        Case(*_watched(always(f"driftd_version_drifted_features{{{_VERSION}}}", 1), "champion", "previous"), _VERSION),
    ],
    "ModelAgreementLow": [
        Case(
            {**always(agreement, 0.74), **_role("shadow")}, {**always(agreement, 0.76), **_role("shadow")},
            f'{_VERSION},metric="agreement"', minutes=40,
        )
        for agreement in (f'driftd_version_metric{{{_VERSION},metric="agreement"}}',)
    ],
    "ModelFallbackShare": [
        Case(
            {**always(share, 0.06), **_role("champion")}, {**always(share, 0.04), **_role("champion")},
            'instance="a",model="heat",version="v2"'
        )
        for share in (f'driftd_version_served_ratio{{{_VERSION},served_by="rules"}}',)
    ],
    "ModelAvailabilityLow": [
        Case(
            {**always(errors, 0.011), **_role("challenger")}, {**always(errors, 0.009), **_role("challenger")},
            f'{_VERSION},metric="error_rate"',
        )
        for errors in (f'driftd_version_metric{{{_VERSION},metric="error_rate"}}',)
    ],
}  # fmt: skip
