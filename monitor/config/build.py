"""Conversion of the validated configuration to the specifications of each part.

Shell only in that it reads secrets from files; otherwise pure.
"""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from fallback.types import WHOLE, BusinessRule, Condition, Route, ServingSpec, Tier
from monitor.config.rules import default_rules
from monitor.config.schema import Configuration
from monitor.config.sections.checks import (
    DEFAULT_MIN_EVENTS,
    DEFAULT_PANE,
    DEFAULT_SPAN,
    DriftSection,
    OutcomesSection,
    WindowSection,
)
from monitor.config.sections.daemon import LimitsSection
from monitor.config.sections.model import ModelSection
from monitor.config.sections.rules import RuleSection
from monitor.config.sections.stream import SecuritySection
from monitor.config.sections.webhooks import WebhookSection
from monitor.errors import ConfigError
from monitor.evaluation.extents import other_extents, window_rule
from monitor.files import read_small
from monitor.publishing.destinations.webhook import WebhookSpec, parse_keys
from monitor.spec import (
    Bound,
    CoreSpec,
    DriftSpec,
    Limits,
    ModelSpec,
    OutcomesSpec,
    ReferenceSpec,
    RuleSpec,
    WindowSpec,
    default_budget,
)
from monitor.store.subscriptions import MessageKind
from monitor.stream.kafka_spec import KafkaSecurity
from monitor.stream.types import TopicSpec

log = structlog.get_logger(__name__)

_LARGEST_SECRET: Final = 64 << 10  # bytes
_LARGEST_PEM: Final = 16 << 20
_MOST_OUTCOME_PANES: Final = 10_000  # of a version: they are kept until outcomes are final


def core(config: Configuration) -> CoreSpec:
    """Return the specification of the pipeline."""
    return CoreSpec(
        models=tuple(_model(name, section) for name, section in config.models.items()),
        allowed_lateness=config.stream.lateness,
        max_future=config.stream.max_future,
        limits=_limits(config.limits),
        max_past=config.stream.max_past,
        refuse_unknown_models=config.stream.unknown_models == "refuse",
    )


def topics(config: Configuration) -> list[TopicSpec]:
    """Return all topics of the configuration with their required properties."""
    stream = config.stream
    return [
        *(TopicSpec(name, partitions=4) for name in stream.events),
        TopicSpec(stream.alerts, compacted=True),
        TopicSpec(stream.decisions, compacted=True),
        TopicSpec(stream.dead_letters),
    ]


def store_url(config: Configuration) -> str:
    """Return the URL of the database, read from `store.url_file` if that is set.

    Raises:
        ConfigError: The file cannot be read.
    """
    store = config.store
    if store.url is not None:
        return store.url
    return _secret(store.url_file, "store.url_file") or ""


def security(config: Configuration) -> KafkaSecurity:
    """Return the security settings of the connection to Kafka, with secrets read from their files.

    Raises:
        ConfigError: Settings do not fit together, or a file cannot be read.
    """
    s: SecuritySection = config.stream.security
    return KafkaSecurity(
        tls=s.tls,
        ca_file=_pem(s.ca_file, "stream.security.ca_file"),
        cert_file=_pem(s.cert_file, "stream.security.cert_file"),
        key_file=_pem(s.key_file, "stream.security.key_file"),
        key_password=s.key_password or _secret(s.key_password_file, "stream.security.key_password_file"),
        mechanism=s.mechanism,
        username=s.username,
        password=s.password or _secret(s.password_file, "stream.security.password_file"),
        allow_insecure=s.allow_insecure,
    )


def webhooks(config: Configuration) -> tuple[WebhookSpec, ...]:
    """Return what each webhook is told, with secrets read from their files.

    Raises:
        ConfigError: A secret cannot be read, or is none.
    """
    return tuple(_webhook(f"webhooks[{i}]", section, config.limits.outbox) for i, section in enumerate(config.webhooks))


def _webhook(where: str, section: WebhookSection, limit: int) -> WebhookSpec:
    secret = section.secret or _secret(section.secret_file, f"{where}.secret_file") or ""
    try:
        keys = parse_keys(secret)
    except ValueError as error:
        raise ConfigError(f"{where}.secret_file", section.secret_file, str(error)) from None
    return WebhookSpec(
        name=section.name,
        url=section.url,
        keys=keys,
        kinds=frozenset(map(MessageKind, section.kinds)),
        timeout_s=section.timeout / 1000,
        max_age_ms=section.max_age,
        limit=limit,
    )


def _pem(path: str | None, where: str) -> Path | None:
    """Return the path of a file of certificates or keys; the library that reads it would say less."""
    if path is None:
        return None
    try:
        found = read_small(Path(path), _LARGEST_PEM)
    except OSError as error:
        raise ConfigError(where, path, f"cannot be read: {error.strerror}") from error
    if b"-----BEGIN " not in found:
        raise ConfigError(where, path, "is not PEM: a file with lines like -----BEGIN CERTIFICATE----- is needed")
    return Path(path)


def _secret(path: str | None, where: str) -> str | None:
    return None if path is None else secret_of(Path(path), where)


def secret_of(path: Path, where: str) -> str:
    """Return the content of a file with a secret, without blanks around it.

    Args:
        path: The file.
        where: Key or option that names the file, for errors.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    try:
        found = read_small(path, _LARGEST_SECRET).decode("utf-8").strip()
        open_to_all = path.stat().st_mode & stat.S_IROTH
    except OSError as error:
        raise ConfigError(where, str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(where, str(path), "is not UTF-8") from None  # the error has the bytes in it
    if not found:
        raise ConfigError(where, str(path), "is empty")
    if open_to_all:  # not refused: secrets mounted by container platforms are readable by everyone
        log.warning("config.secret_is_readable_by_everyone", field=where, path=str(path), fix="chmod o-r")
    return found


def _limits(section: LimitsSection) -> Limits:
    return Limits(
        features=section.features,
        event_bytes=section.event_bytes,
        id_length=section.id_length,
        versions=section.versions,
        segments=section.segments,
        labels=section.labels,
        pending=section.pending,
        seen=section.seen,
        ended=section.ended,
        learning=section.learning,
    )


def _model(name: str, section: ModelSection) -> ModelSpec:
    window = _window(section.window)
    drift = None if section.drift is None or section.reference is None else _drift(section.drift, window)
    reference = section.reference
    return ModelSpec(
        name=name,
        task=section.task,
        positive=section.positive,
        threshold=section.threshold,
        answers=section.answers,
        agreement_tolerance=section.agreement_tolerance,
        reference=ReferenceSpec(
            reference.path if reference else None,
            reference.learn if reference else 0,
            reference.points if reference else 2_048,
            reference.columns.given if reference else {},
            reference.season if reference else None,
            reference.rolling if reference else None,
        ),
        feature_kinds=section.features,
        window=window,
        drift=drift,
        outcomes=None if section.outcomes is None else _outcomes(name, section.outcomes, window),
        rules=_rules(section),
        recover_after=section.fallback.recover_after,
        no_data_after=section.no_data or 0,
        serving=_serving(section),
        user_metrics=tuple(section.metrics),
        own_rules=section.rules is not None,
        false_alarms=None if section.drift is None else section.drift.false_alarms,
    )


def _window(section: WindowSection) -> WindowSpec:
    if section.events is not None:
        return WindowSpec(events=section.events, every=section.every or section.events)
    span = section.span or DEFAULT_SPAN
    return WindowSpec(
        pane=section.pane or DEFAULT_PANE,
        span=span,
        longest=section.max_span or 10 * span,
        min_events=section.min_events or DEFAULT_MIN_EVENTS,
    )


def _drift(section: DriftSection, window: WindowSpec) -> DriftSpec:
    return DriftSpec(
        numeric=tuple(section.numeric),
        categorical=tuple(section.categorical),
        budget=section.false_alarms or default_budget(window),
        min_effect=section.min_effects,
        resolve_after=section.resolve_after,
        windows=tuple(section.windows),
    )


def _outcomes(model: str, section: OutcomesSection, window: WindowSpec) -> OutcomesSpec:
    return OutcomesSpec(
        prediction_ttl=section.within,
        outcome_ttl=section.early,
        min_coverage=section.min_coverage,
        pane=0 if window.counted else _outcome_pane(model, section, window),
        baseline_n=section.baseline_n,
        baseline_max=section.baseline_max,
        concept_drift=section.concept_drift,
        metrics=None if section.metrics is None else tuple(section.metrics),
    )


def _outcome_pane(model: str, section: OutcomesSection, window: WindowSpec) -> int:
    """Return the width of outcome panes in ms: by default, as narrow as the bound on their number allows."""
    if section.pane is not None:
        if section.within // section.pane > _MOST_OUTCOME_PANES:
            hint = f"{section.within // section.pane} panes until outcomes are final, at most {_MOST_OUTCOME_PANES}"
            raise ConfigError(f"models.{model}.outcomes.pane", section.pane, hint)
        return section.pane
    panes = window.span // window.pane
    least = math.ceil(section.within / window.pane / _MOST_OUTCOME_PANES)
    factor = next((f for f in range(1, panes + 1) if panes % f == 0 and f >= least), least)
    return factor * window.pane


def _rules(section: ModelSection) -> tuple[RuleSpec, ...]:
    if section.rules is None:
        listed = None if section.outcomes is None else section.outcomes.metrics
        return default_rules(section.task, outcomes=section.outcomes is not None, listed=listed)
    return tuple(map(_rule, section.rules))


def _rule(section: RuleSection) -> RuleSpec:
    key, limit = section.limit
    bound = Bound.BELOW if key in ("below", "drop") else Bound.ABOVE
    checks, dwell = section.dwell
    return RuleSpec(
        name=section.name,
        metric=section.metric,
        bound=bound,
        limit=-limit.value if key == "drop" else limit.value,
        reference=limit.reference,
        severity=section.severity,
        checks=checks,
        dwell=dwell,
        then=section.then,
        hard=section.hard,
        min_n=section.min_n,
    )


def _serving(section: ModelSection) -> ServingSpec:
    fallback = section.fallback
    rules = []
    for rule in fallback.rule_based:
        rules.append(
            BusinessRule(
                tuple(
                    Condition(c.feature, c.op, tuple(c.value) if isinstance(c.value, list) else c.value)
                    for c in rule.when
                ),
                rule.then,
            )
        )
    return ServingSpec(
        champion=section.champion,
        previous=section.previous,
        routes=tuple(Route(version, round(share * WHOLE)) for version, share in section.routes.items()),
        shadows=tuple(dict.fromkeys(section.shadows)),
        cohorts=section.cohorts,
        chain=tuple(map(Tier, fallback.chain)),
        ensemble=tuple(fallback.ensemble),
        rules=tuple(rules),
        default=fallback.default.value if fallback.default else None,
        has_default=fallback.default is not None,
    )


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Estimated memory in bytes.

    Attributes:
        pending: Predictions that wait for their outcome.
        seen: Remembered requests.
        windows: Windows and their panes.
        waiting: What waits for its turn.
        rolling: Rows that rolling references are made from.
    """

    pending: int
    seen: int
    windows: int
    waiting: int
    rolling: int = 0


def memory_need(config: Configuration, per_second: float, features: int = 20) -> MemoryNeed:
    """Estimate the memory that a configuration needs at most.

    Assumes 75 bytes a pending prediction, 20 a remembered request, 16 a histogram cell in a window, half of that in a
    pane, and 100 a pair that waits until its pane ends. Of what rolling references are made from: 130 a prediction and
    35 a feature of it, packed and once more while a reference is made, and 100 an answer of each configured version.

    Args:
        config: The configuration.
        per_second: Predictions per second of each model.
        features: Numeric features of each model.
    """
    spec = core(config)
    unanswered = pairs = rolling = 0.0
    windows = 0
    for model in spec.models:
        if model.outcomes is not None:
            unanswered += per_second * model.outcomes.prediction_ttl / 1000
            pairs += 0 if model.window.counted else per_second * (model.window.pane + spec.allowed_lateness) / 1000
        cells = features * (2 * model.reference.points + 1)
        extents = [window_rule(model.window), *(extent.rule for extent in other_extents(model))]
        windows += 2 * cells * 16 * len(extents) + max(extent.span for extent in extents) * cells * 8
        if model.reference.rolling is not None and model.drift is not None and not model.window.counted:
            held = min(per_second * model.reference.rolling / 1000, spec.limits.learning)
            fresh = per_second * (model.window.pane + spec.allowed_lateness) / 1000  # of which none is left out yet
            serving = model.serving
            versions = {serving.champion, *serving.shadows, *(route.version for route in serving.routes)}
            rolling += (held + fresh) * (130 + 35 * features + 100 * len(versions))
    pending = int(min(unanswered, spec.limits.pending))
    remembered = int((spec.limits.pending + spec.limits.seen) * 20)
    waiting = config.stream.buffer_bytes + int(pairs * 100)
    return MemoryNeed(pending * 75, remembered, windows, waiting, int(rolling))
