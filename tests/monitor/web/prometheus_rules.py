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
    return {series: f"{value}+0x120"}


def growing(series: str, by: float) -> Series:
    return {series: f"0+{by}x120"}


def _gauge(name: str, bad: float, good: float, labels: str = f"{{{D}}}") -> tuple[Series, Series]:
    return always(name + labels, bad), always(name + labels, good)


def _role(role: str, health: int = 2) -> Series:
    return always(f'driftd_version_health{{{_VERSION},role="{role}"}}', health)


def _has_role(role: str) -> Series:
    """Of a version that is not judged, so that its health is unknown."""
    return always(f'driftd_version_role{{{_VERSION},role="{role}"}}', 1)


def _watched(series: Series, role: str, elsewhere: str = "observed") -> tuple[Series, Series]:
    """It fires for a version with this role, and not for one that is out of service."""
    return {**series, **_has_role(role)}, {**series, **_has_role(elsewhere)}


def _of_traffic(bad: Series, good: Series, role: str, labels: str, minutes: int) -> list[Case]:
    """It fires at what the latest window says, and not for ever after the last event."""
    known = _has_role(role)
    return [
        Case({**bad, **known, **_TRAFFIC}, {**good, **known, **_TRAFFIC}, labels, minutes=minutes),
        Case({**bad, **known, **_TRAFFIC}, {**bad, **known, **_NO_TRAFFIC}, labels, minutes=minutes),
    ]


_TRAFFIC: Final = growing(f"driftd_version_predictions_total{{{_VERSION}}}", 10)
_NO_TRAFFIC: Final = always(f"driftd_version_predictions_total{{{_VERSION}}}", 1_000)


def _daemon(instance: str, store: str, *, ready: int, standby: int) -> Series:
    on = f'job="driftd",instance="{instance}"'
    return {
        **always(f"driftd_ready{{{on}}}", ready),
        **always(f"driftd_standby{{{on}}}", standby),
        **always(f'driftd_store_info{{{on},store="{store}"}}', 1),
    }


def _metric(name: str) -> str:
    return f'driftd_version_metric{{{_VERSION},metric="{name}"}}'


_BY_RULES: Final = f'driftd_version_served_ratio{{{_VERSION},served_by="rules"}}'
_PRIMARY: Final = f'driftd_model_active_level{{{D},model="heat",level="primary"}}'
_HANDED_OVER: Final = {**always(f"driftd_ready{{{D}}}", 0), **always(f"driftd_standby{{{D}}}", 1)}
_OTHER_WORKS: Final = always('driftd_ready{job="driftd",instance="b"}', 1)

CASES: Final[Mapping[str, Sequence[Case]]] = {
    "DriftdDown": [Case(*_gauge("up", 0, 1), D, "critical")],
    "DriftdNotReady": [
        Case(*_gauge("driftd_ready", 0, 1), D, "critical"),
        Case(always(f"driftd_ready{{{D}}}", 0), {**_HANDED_OVER, **_OTHER_WORKS}, D, "critical"),
    ],
    "DriftdNobodyReady": [
        Case(
            _daemon("b", "one", ready=0, standby=1),
            {**_daemon("a", "one", ready=1, standby=0), **_daemon("b", "one", ready=0, standby=1)},
            'job="driftd",store="one"', "critical",
        ),
        Case(  # the owner of another store is not one of this store; a daemon that is not ready and alone is told once
            {**_daemon("b", "one", ready=0, standby=1), **_daemon("c", "two", ready=1, standby=0)},
            _daemon("a", "one", ready=0, standby=0),
            'job="driftd",store="one"', "critical",
        ),
    ],
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
        Case(
            {**_role("champion", 0), **always(_PRIMARY, 1)}, {**_role("champion", 0), **always(_PRIMARY, 0)},
            f'{_VERSION},role="champion"', "critical",
        ),
    ],
    "ModelCriticalAlert": [
        Case(
            *_gauge("driftd_alerts_firing", 1, 0, f'{{{D},kind="labels",severity="critical"}}'),
            'instance="a",kind="labels"', "critical",
        ),
        Case(
            always(f'driftd_alerts_firing{{{D},kind="drift",severity="critical"}}', 1),
            always(f'driftd_alerts_firing{{{D},kind="drift",severity="warning"}}', 1),
            'instance="a",kind="drift"', "critical",
        ),
    ],
    "ModelNoData": [
        Case(*_gauge("driftd_alerts_firing", 1, 0, f'{{{D},kind="no_data",severity="warning"}}'), 'instance="a"')
    ],
    "ModelBlind": [
        Case(
            always(f'driftd_blind{{{_VERSION},cause="window"}}', 1),
            {f'driftd_blind{{{_VERSION},cause="window"}}': "1+0x9"},
            'instance="a",model="heat",version="v2",cause="window"', minutes=20,
        )
    ],
    "ModelDrift": [
        Case(*_watched(always(f"driftd_version_drifted_features{{{_VERSION}}}", 2), "shadow"), _VERSION),
        Case(*_watched(always(f"driftd_version_drifted_features{{{_VERSION}}}", 1), "champion", "previous"), _VERSION),
    ],
    "ModelAgreementLow": _of_traffic(
        always(_metric("agreement"), 0.74), always(_metric("agreement"), 0.76), "shadow",
        f'{_VERSION},metric="agreement"', 100,
    ),
    "ModelFallbackShare": _of_traffic(
        always(_BY_RULES, 0.06), always(_BY_RULES, 0.04), "champion", 'instance="a",model="heat",version="v2"', 80,
    ),
    "ModelAvailabilityLow": _of_traffic(
        always(_metric("error_rate"), 0.011), always(_metric("error_rate"), 0.009), "challenger",
        f'{_VERSION},metric="error_rate"', 80,
    ),
}  # fmt: skip
