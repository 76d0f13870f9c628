"""From the file to what each part is told: defaults, units, secrets, paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fallback.types import WHOLE, BusinessRule, Condition, Route, Tier
from monitor.config import build
from monitor.config.load import parse
from monitor.config.schema import Configuration
from monitor.config.sections.base import Section
from monitor.config.sections.checks import ReferenceSection
from monitor.config.sections.daemon import StoreSection
from monitor.config.sections.stream import StreamSection
from monitor.errors import ConfigError
from monitor.publishing.destinations.webhook import WebhookSpec
from monitor.spec import (
    Bound,
    BudgetSpec,
    Consequence,
    DriftSpec,
    FeatureKind,
    LimitBasis,
    Limits,
    ModelSpec,
    OutcomesSpec,
    ReferenceSpec,
    RuleSpec,
    Severity,
    Task,
    WindowSpec,
)
from monitor.store import engine
from monitor.store.subscriptions import MessageKind
from monitor.stream.connect import connect
from monitor.stream.types import TopicSpec
from tests.monitor.config.texts import configured, text_with
from tests.servers.receiver import KEY
from tests.servers.receiver import SECRET as WEBHOOK_SECRET

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
SECRET = "hunter2-hunter2"


def model(part: str = "", task: str = "regression") -> ModelSpec:
    (spec,) = build.core(configured(model=part, task=task)).models
    return spec


# -- what nobody wrote -----------------------------------------------------------------------------------


def test_the_smallest_configuration_has_the_documented_defaults() -> None:
    """Those of the architecture."""
    config = configured()
    core = build.core(config)
    spec = model()

    assert (core.allowed_lateness, core.max_future) == (5 * SECOND, 10 * MINUTE)
    assert core.limits == Limits()
    assert spec.window == WindowSpec(pane=30 * SECOND, span=15 * MINUTE, longest=150 * MINUTE, min_events=1_000)
    assert spec.reference == ReferenceSpec(None, 0, 2_048)
    assert spec.outcomes == OutcomesSpec(7 * DAY, HOUR, 0.8, 90 * SECOND, 1_000, None, None)
    assert (spec.positive, spec.threshold, spec.agreement_tolerance) == (None, 0.5, 0.1)
    assert (spec.recover_after, spec.no_data_after) == (10 * MINUTE, 0)
    assert spec.serving.chain == (Tier.PREVIOUS, Tier.RULES, Tier.ENSEMBLE, Tier.DEFAULT)
    assert (config.http.host, config.http.port) == ("127.0.0.1", 9464)
    assert (config.store.retention, config.store.lease, config.store.commit_every) == (90 * DAY, 10 * SECOND, SECOND)
    assert (config.stream.start, config.stream.idle_after) == ("earliest", 10 * SECOND)


def test_a_budget_that_is_stated_without_a_reference_is_that_of_rules() -> None:
    assert model("drift: {false_alarms: 2 per 7d}").budget == BudgetSpec(2, period=7 * DAY)
    assert model("reference: r.csv, drift: {false_alarms: 2 per 7d}").budget == BudgetSpec(2, period=7 * DAY)
    assert model("drift: null").budget == BudgetSpec(1, period=30 * DAY)
    assert model("drift: null, window: {events: 1000}").budget == BudgetSpec(1, events=1_000_000)


def test_without_a_reference_drift_is_not_watched() -> None:
    """There would be nothing to compare with."""
    assert model().drift is None
    assert model("reference: r.csv").drift is not None
    assert model("reference: r.csv, drift: null").drift is None


def test_the_default_budget_is_one_alarm_in_thirty_days_or_in_a_million_events() -> None:
    """A counted window has no time to speak of."""
    timed, counted = (model(f"reference: r.csv, window: {window}").drift for window in ("{}", "{events: 1000}"))

    assert timed is not None
    assert timed.budget == BudgetSpec(1, period=30 * DAY)
    assert counted is not None
    assert counted.budget == BudgetSpec(1, events=1_000_000)


# -- sections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "spec"),
    [
        ("{span: 1h}", WindowSpec(pane=30 * SECOND, span=HOUR, longest=10 * HOUR, min_events=1_000)),
        ("{span: 1h, pane: 1m, max_span: 2h}", WindowSpec(pane=MINUTE, span=HOUR, longest=2 * HOUR, min_events=1_000)),
        ("{min_events: 50}", WindowSpec(pane=30_000, span=15 * MINUTE, longest=150 * MINUTE, min_events=50)),
        ("{events: 5000}", WindowSpec(events=5_000, every=5_000)),
        ("{events: 1000, every: 100}", WindowSpec(events=1_000, every=100)),
    ],
)
def test_windows_by_time_and_counted(window: str, spec: WindowSpec) -> None:
    assert model(f"window: {window}").window == spec
    assert spec.counted == (spec.events > 0)


def test_columns_of_a_table_are_those_that_are_given() -> None:
    """Null says that there is none; what is not given is left to the table."""
    given = model("reference: {path: r.csv, columns: {prediction: y_hat, score: null}}", task="multiclass").reference

    assert given.columns == {"prediction": "y_hat", "score": None}
    assert model("reference: r.csv").reference.columns == {}


def test_drift_as_configured() -> None:
    """Effects that are not named keep their defaults."""
    drift = model(
        "reference: {learn: 5000, points: 512}, drift: {numeric: [psi], categorical: [], "
        "false_alarms: 2 per 7d, min_effect: {psi: 0.25}, resolve_after: 5}"
    ).drift

    assert isinstance(drift, DriftSpec)
    assert (drift.numeric, drift.categorical, drift.resolve_after) == (("psi",), (), 5)
    assert drift.windows == (0.2, 0.5, 1.0, 2.0, 5.0)
    assert drift.budget == BudgetSpec(2, period=7 * DAY)
    assert (drift.min_effect["psi"], drift.min_effect["ks"], drift.min_effect["unseen_rate"]) == (0.25, 0.1, 0.01)


def test_one_minimum_effect_may_hold_for_every_detector() -> None:
    """0 leaves the decision to significance."""
    drift = model("reference: r.csv, drift: {min_effect: 0}").drift

    assert drift is not None
    assert set(drift.min_effect.values()) == {0.0}
    assert "ks" in drift.min_effect


def test_outcomes_as_configured() -> None:
    """A pane that is given is taken as it is."""
    spec = model("outcomes: {within: 3d, early: 2h, min_coverage: 60%, pane: 1m, metrics: [mae], baseline_n: 50}")

    assert spec.outcomes == OutcomesSpec(3 * DAY, 2 * HOUR, 0.6, MINUTE, 50, None, ("mae",))
    assert model("outcomes: null").outcomes is None


@pytest.mark.parametrize(
    ("window", "within", "pane"),
    [
        ("{}", "1h", 30 * SECOND),  # as wide as a pane of answers, while there are not too many
        ("{}", "30d", 5 * MINUTE),  # the least that divides the span and keeps 10 000 panes
        ("{span: 7m, pane: 1m}", "30d", 7 * MINUTE),
        ("{span: 1m, pane: 30s}", "365d", 106 * 30 * SECOND),  # wider than the span, where even that is too little
        ("{events: 1000}", "30d", 0),  # counted windows keep quality by their own panes
    ],
)
def test_panes_of_outcomes_are_as_narrow_as_their_number_allows(window: str, within: str, pane: int) -> None:
    """Outcomes come late, and their panes live as long."""
    outcomes = model(f"window: {window}, outcomes: {{within: {within}}}").outcomes

    assert outcomes is not None
    assert outcomes.pane == pane
    assert not pane or outcomes.prediction_ttl / pane <= 10_000


def test_too_many_panes_of_outcomes_are_refused() -> None:
    """A pane that was given is not silently widened."""
    with pytest.raises(ConfigError, match=r"^models\.m\.outcomes\.pane: .*86400 panes .*at most 10000"):
        model("outcomes: {within: 30d, pane: 30s}")


@pytest.mark.parametrize(
    ("rule", "spec"),
    [
        ("metric: latency_p95_ms, above: 750", ("latency_p95_ms", Bound.ABOVE, 750.0, LimitBasis.NOTHING)),
        ("metric: error_rate, above: 1%", ("error_rate", Bound.ABOVE, 0.01, LimitBasis.NOTHING)),
        ("metric: mae, above: 105% of baseline", ("mae", Bound.ABOVE, 1.05, LimitBasis.SHARE)),
        ("metric: r2, below: 0", ("r2", Bound.BELOW, 0.0, LimitBasis.NOTHING)),
        ("metric: r2, drop: 3 points", ("r2", Bound.BELOW, -0.03, LimitBasis.POINTS)),
        ("metric: mae, rise: 0.5", ("mae", Bound.ABOVE, 0.5, LimitBasis.POINTS)),
        ("metric: mae, above: 0", ("mae", Bound.ABOVE, 0.0, LimitBasis.NOTHING)),
    ],
)
def test_the_limits_of_rules(rule: str, spec: tuple[object, ...]) -> None:
    """A drop is below the baseline, a rise above it; zero is a limit like any other."""
    (found,) = model(f"rules: [{{name: a, {rule}}}]").rules

    assert (found.metric, found.bound, found.limit, found.reference) == spec


def test_a_rule_with_everything() -> None:
    """And one with nothing but a limit."""
    rules = model(
        "rules: [{name: a, metric: mae, above: 1, severity: critical, for: 3 checks, then: rollback, hard: true, "
        "min_n: 5}, {name: b, metric: mae, above: 1, for: 30m}, {name: c, metric: mae, above: 1}]"
    ).rules

    plain = RuleSpec(
        "c", "mae", Bound.ABOVE, 1.0, LimitBasis.NOTHING, Severity.WARNING, 1, 0, Consequence.NONE, hard=False, min_n=30
    )
    assert rules == (
        replace(plain, name="a", severity=Severity.CRITICAL, checks=3, then=Consequence.ROLLBACK, hard=True, min_n=5),
        replace(plain, name="b", dwell=30 * MINUTE),
        plain,
    )


def test_who_serves_as_configured() -> None:
    """Shares in hundredths of a percent; a shadow that is named twice is one."""
    spec = model(
        "previous: v0, routes: {v2: 5%, v3: 0.25}, shadows: [v4, v4], cohorts: {internal: v2}, "
        "features: {zip: categorical}, metrics: {cost: lower}, no_data: 5m, "
        "fallback: {chain: [rules, default], recover_after: 1m, ensemble: [v0, v2], default: {value: null}, "
        'rule_based: [{when: [{feature: load, op: ">", value: 0.9}, {feature: kind, op: in, value: [gas, 7]}], '
        "then: 1}]}"
    )
    serving = spec.serving

    assert (serving.champion, serving.previous, serving.shadows) == ("v1", "v0", ("v4",))
    assert serving.routes == (Route("v2", 500), Route("v3", 2_500))
    assert serving.cohorts == {"internal": "v2"}
    assert (serving.chain, serving.ensemble) == ((Tier.RULES, Tier.DEFAULT), ("v0", "v2"))
    assert serving.rules == (BusinessRule((Condition("load", ">", 0.9), Condition("kind", "in", ("gas", 7))), 1),)
    assert (serving.default, serving.has_default) == (None, True)
    assert spec.feature_kinds == {"zip": FeatureKind.CATEGORICAL}
    assert (spec.no_data_after, spec.recover_after) == (5 * MINUTE, MINUTE)
    assert not model().serving.has_default
    assert sum(route.weight for route in serving.routes) < WHOLE


def test_limits_and_topics() -> None:
    """Each limit reaches the core; the output topics are the ones that are compacted."""
    limits = "features: 7, event_bytes: 2048, id_length: 32, versions: 3, segments: 5, labels: 9"
    config = configured(
        rest=f"limits: {{{limits}, pending: 2000, seen: 3000}}",
        stream="events: [a, b], alerts: x, decisions: y, dead_letters: z",
    )

    assert build.core(config).limits == Limits(7, 2_048, 32, 3, 5, 9, 16, 2_000, 3_000)
    assert build.topics(config) == [
        TopicSpec("a", partitions=4), TopicSpec("b", partitions=4), TopicSpec("x", compacted=True),
        TopicSpec("y", compacted=True), TopicSpec("z"),
    ]  # fmt: skip


def test_the_task_and_its_labels() -> None:
    """What a binary prediction is compared with."""
    spec = model("positive: spam, threshold: 80%", task="binary")

    assert (spec.task, spec.positive, spec.threshold) == (Task.BINARY, "spam", 0.8)


# -- secrets ---------------------------------------------------------------------------------------------


def with_files(**files: Path) -> Configuration:
    security = ", ".join(f"{name}: {path}" for name, path in files.items() if name != "url_file")
    text = text_with(stream=f"security: {{tls: true, mechanism: PLAIN, username: u, {security}}}" if security else "")
    if "url_file" in files:
        text = text.replace('url: "sqlite:///driftd.db"', f"url_file: {files['url_file']}")
    return parse(text, {})


@pytest.mark.parametrize(("mode", "told"), [(0o600, []), (0o640, []), (0o644, ["store.url_file"])])
def test_a_secret_that_everyone_can_read_is_told_of(tmp_path: Path, mode: int, told: list[str]) -> None:
    """And used: container platforms mount secrets like that."""
    path = tmp_path / "url"
    path.write_text(SECRET)
    path.chmod(mode)
    with capture_logs() as logs:
        assert build.store_url(with_files(url_file=path)) == SECRET

    assert [line["field"] for line in logs] == told
    assert SECRET not in str(logs)


def test_secrets_are_read_from_their_files(tmp_path: Path) -> None:
    """The end of the line that an editor adds is no part of them."""
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n", encoding="utf-8")
    security = build.security(with_files(password_file=path, key_password_file=path))

    assert (security.password, security.key_password) == (SECRET, SECRET)
    assert SECRET not in repr(security)
    assert build.store_url(with_files(url_file=path)) == SECRET


READS: list[tuple[str, str, Callable[[Configuration], object]]] = [
    ("password_file", "stream.security.password_file", build.security),
    ("key_password_file", "stream.security.key_password_file", build.security),
    ("url_file", "store.url_file", build.store_url),
]


@pytest.mark.parametrize(("key", "where", "read"), READS)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (SECRET.encode() + b"\xff", "is not UTF-8"),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_read_is_told_by_its_place(
    tmp_path: Path, key: str, where: str, read: Callable[[Configuration], object], content: bytes | None, why: str
) -> None:
    """And by its file, never by its content."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    files = {"password_file": path, key: path} if key == "key_password_file" else {key: path}
    with pytest.raises(ConfigError) as raised:
        read(with_files(**files))

    assert str(raised.value).endswith(f"{str(path)!r}: {why}")
    assert str(raised.value).startswith("stream.security." if where.startswith("stream") else where)
    assert SECRET not in repr(raised.value)
    assert raised.value.__cause__ is None or SECRET not in repr(raised.value.__cause__)


def webhooks_with(*parts: str) -> str:
    hooks = ", ".join(f"{{name: pager{i}, url: 'https://host/token', {part}}}" for i, part in enumerate(parts))
    return text_with(rest=f"webhooks: [{hooks}]")


def test_a_webhook_as_configured() -> None:
    text = webhooks_with(f"secret: {WEBHOOK_SECRET} {WEBHOOK_SECRET}, kinds: [decision], timeout: 2s, max_age: 1h")
    (webhook,) = build.webhooks(parse(text, {}))

    assert webhook == WebhookSpec(
        "pager0", "https://host/token", (KEY, KEY), frozenset({MessageKind.DECISION}), 2.0, 3_600_000, 50_000
    )
    assert "token" not in repr(webhook)


def test_a_webhook_takes_alerts_and_keeps_them_for_a_day_by_default() -> None:
    (webhook,) = build.webhooks(parse(webhooks_with(f"secret: {WEBHOOK_SECRET}"), {}))

    assert (webhook.kinds, webhook.timeout_s, webhook.max_age_ms) == (frozenset({MessageKind.ALERT}), 15.0, 86_400_000)


def test_the_secret_of_a_webhook_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{WEBHOOK_SECRET}\n")
    config = parse(webhooks_with(f"secret_file: {path}"), {})

    assert build.webhooks(config)[0].keys == (KEY,)
    path.write_text(SECRET)
    with pytest.raises(ConfigError) as raised:
        build.webhooks(config)
    assert str(raised.value) == (
        f"webhooks[0].secret_file: {str(path)!r}: whsec_ and 24 to 64 bytes in base64 are needed"
    )
    path.unlink()
    with pytest.raises(ConfigError, match=r"^webhooks\[0\]\.secret_file: '.*': cannot be read: No such file"):
        build.webhooks(config)


def test_a_password_in_the_file_itself_is_taken_as_it_is(tmp_path: Path) -> None:
    """It may have come from the environment."""
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    stream = f"security: {{tls: true, mechanism: SCRAM-SHA-512, username: u, password: {SECRET}, ca_file: {ca}}}"
    security = build.security(configured(stream=stream))

    assert (security.mechanism, security.username, security.password) == ("SCRAM-SHA-512", "u", SECRET)
    assert security.ca_file == ca


# -- paths -----------------------------------------------------------------------------------------------


def test_relative_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the stream, the store, references and secrets alike, wherever the configuration itself lies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stream").mkdir()
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    config = with_files(password_file=Path("secret"))

    with engine.connect(build.store_url(config)).connect():
        pass
    source = connect(config.stream.url, config.stream.events).source()
    source.close()

    assert (tmp_path / "driftd.db").is_file()
    assert build.security(config).password == SECRET
    assert model("reference: references/r.csv").reference.path == "references/r.csv"


@pytest.mark.parametrize(
    ("section", "key"), [(StreamSection, "url"), (StoreSection, "url"), (ReferenceSection, "path")]
)
def test_that_paths_are_relative_to_the_working_directory_is_said_where_they_are_described(
    section: type[Section], key: str
) -> None:
    assert "relative to the working directory" in (section.model_fields[key].description or "")


# -- memory ----------------------------------------------------------------------------------------------


def test_the_need_of_memory_grows_with_what_waits_and_with_the_windows() -> None:
    """But waiting answers are bounded by the limit."""
    little = build.memory_need(configured(model="outcomes: {within: 1h}"), per_second=10)
    long_wait = build.memory_need(configured(model="outcomes: {within: 7d}"), per_second=10)
    none = build.memory_need(configured(model="outcomes: null"), per_second=10)
    wide = build.memory_need(configured(model="window: {span: 1h}"), per_second=10)

    assert none.pending == 0 < little.pending < long_wait.pending
    assert build.memory_need(configured(), 1e9).pending == build.memory_need(configured(), 1e12).pending
    assert wide.windows > little.windows
    assert none.waiting == 64 << 20 < little.waiting  # of which no pairs wait, and some


def test_the_need_of_memory_has_what_rolling_references_are_made_from() -> None:
    """Each version has a reference of its answers; what comes beyond the limit is not kept."""
    rolling = "reference: {learn: 1000, rolling: 30d}"
    seldom, often, most = (build.memory_need(configured(model=rolling), rate).rolling for rate in (0.01, 0.02, 10))
    beside = build.memory_need(configured(model=f"{rolling}, shadows: [w]"), 0.01).rolling

    assert 0 < seldom < often < most < 300 << 20
    assert often / seldom == pytest.approx(2)
    assert beside > seldom
    assert build.memory_need(configured(model="reference: {learn: 1000}"), 10).rolling == 0


# -- files that are none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name", "why"),
    [
        ("ca_file", "", "Is a directory"),
        ("ca_file", "missing.pem", "No such file or directory"),
        ("ca_file", "pipe", "is a pipe, socket or device, a regular file is needed"),
        ("ca_file", "text", "is not PEM"),
        ("cert_file", "text", "is not PEM"),
        ("key_file", "text", "is not PEM"),
        ("password_file", "pipe", "is a pipe, socket or device, a regular file is needed"),
        ("password_file", "large", "is larger than 64 KiB"),
    ],
)
def test_what_is_no_file_of_certificates_or_secrets_is_named(tmp_path: Path, key: str, name: str, why: str) -> None:
    """At once: a pipe would hold up the start for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no certificate")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    options = "mechanism: PLAIN, username: u, " if key == "password_file" else ""

    with pytest.raises(ConfigError) as raised:
        build.security(configured(stream=f"security: {{tls: true, {options}{key}: {tmp_path / name}}}"))

    assert raised.value.path == f"stream.security.{key}"
    assert why in raised.value.hint
