"""Reading a configuration: what is wrong is told with its place, its value and what would do, all of it at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.aggregation.metrics import USER_METRICS
from monitor.config.load import parse, read
from monitor.errors import ConfigError, ConfigErrors
from tests.monitor.config.texts import configured, model_with, problems_of, text_with

SECRET = "hunter2-hunter2"


# -- the file --------------------------------------------------------------------------------------------


def test_a_file_is_read(tmp_path: Path) -> None:
    """With a byte order mark too, which some editors write."""
    path = tmp_path / "driftd.yaml"
    path.write_text("\ufeff" + text_with(), encoding="utf-8")

    assert list(read(path, {}).models) == ["m"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "a mapping with stream, store and models is needed"),
        (b"# nothing but a comment\n", "a mapping with stream, store and models is needed"),
        (b"[]", "a mapping with stream, store and models is needed"),
        (b"stream", "a mapping with stream, store and models is needed"),
        (b"17", "a mapping with stream, store and models is needed"),
        (b"a: [1", "is not YAML: line 1, column 6: expected ',' or ']'"),
        (b"a:\n\t- b", "is not YAML: line 2, column 1: found character '\\t'"),
        (b"a: 1\n---\nb: 1\n", "is not YAML: line 2, column 1:"),
        (b"a: !!python/object/apply:os.system [ls]", "is not YAML: line 1, column 4: could not determine"),
        (b"a: &a [*a]", "is not YAML: line 1, column 4: found unconstructable recursive node"),
        (b"a: \"\x01\"", "is not YAML: "),
        (b"[" * 2_000, "is not YAML: "),
        (b"\xff\xfea: 1", "is not UTF-8: byte 0"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_at_all(tmp_path: Path, content: bytes, why: str) -> None:
    """The file is named, and the place in it."""
    path = tmp_path / "driftd.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as raised:
        read(path, {})

    assert str(raised.value).startswith(f"{path}: {why}")


@pytest.mark.parametrize(("name", "why"), [("missing.yaml", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / name

    with pytest.raises(ConfigError) as raised:
        read(path, {})

    assert str(raised.value) == f"{path}: cannot be read: {why}"


def test_a_key_that_stands_twice_is_refused() -> None:
    """The first one would be lost in silence. At any depth; the line is told."""
    for text, line, key in (
        (text_with(rest="store: {}"), 6, "store"),
        (text_with(model="window: {span: 15m, span: 30m}"), 5, "span"),
        (text_with(model="routes: {v2: 5%, v2: 6%}"), 5, "v2"),
    ):
        with pytest.raises(ConfigError) as raised:
            parse(text, {})
        assert str(raised.value) == f"line {line}: {key!r}: this key stands twice"


def test_anchors_and_merges_are_yaml() -> None:
    """Two models that differ in their champion; what a merge brings may be overridden."""
    text = text_with(rest="  n: {<<: *m, champion: v2}").replace("  m: {", "  m: &m {")

    models = parse(text, {}).models

    assert [(name, model.task.value, model.champion) for name, model in models.items()] == [
        ("m", "regression", "v1"), ("n", "regression", "v2"),
    ]  # fmt: skip


# -- webhooks --------------------------------------------------------------------------------------------


GOOD = "secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        ("name: a, url: 'https://h/x'", "webhooks[0].secret: give either secret or secret_file"),
        (f"name: a, url: 'https://h', {GOOD}, secret_file: x", "webhooks[0].secret: give either secret or secret_file"),
        (f"name: stream, url: 'https://h', {GOOD}", "webhooks[0].name: 'stream': is the name of the stream itself"),
        (f"name: a, {GOOD}", "webhooks[0].url: is needed"),
        (f"name: a, url: 'ftp://h/x', {GOOD}", "webhooks[0].url: a URL like https://host/path is needed"),
        (f"name: a, url: 'https://', {GOOD}", "webhooks[0].url: a URL like https://host/path is needed"),
        (f"name: a, url: 'https://h:x/', {GOOD}", "webhooks[0].url: a URL like https://host/path is needed"),
        (f"name: a, url: 'https://h/ü', {GOOD}", "webhooks[0].url: a URL like https://host/path is needed"),
        (f"name: a, url: 'https://h/#x', {GOOD}", "webhooks[0].url: nothing after a # is ever sent; leave it out"),
        (
            f"name: a, url: 'https://me:hunter2@h/', {GOOD}",
            "webhooks[0].url: no user and password here: requests are signed with the secret",
        ),
        (
            "name: a, url: 'https://h', secret: hunter2",
            "webhooks[0].secret: whsec_ and 24 to 64 bytes in base64 are needed",
        ),
        (
            f"name: a, url: 'https://h', {GOOD}, kinds: [alerts]",
            "webhooks[0].kinds[0]: 'alerts': one of alert, decision is needed; did you mean alert?",
        ),
        (f"name: a, url: 'https://h', {GOOD}, kinds: []", "webhooks[0].kinds: at least one is needed"),
        (f"name: a, url: 'https://h', {GOOD}, timout: 1s", "webhooks[0].timout: unknown key; did you mean timeout?"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_told_without_its_secrets(hook: str, problem: str) -> None:
    assert problems_of(text_with(rest=f"webhooks: [{{{hook}}}]")) == [problem]


def test_two_webhooks_have_two_names() -> None:
    hook = f"{{name: a, url: 'https://h', {GOOD}}}"

    assert problems_of(text_with(rest=f"webhooks: [{hook}, {hook}]")) == [
        "webhooks[1].name: 'a': another webhook has this name"
    ]


# -- unknown keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (text_with(rest="modles: {}"), "modles: unknown key; did you mean models?"),
        (text_with(stream="latenes: 5s"), "stream.latenes: unknown key; did you mean lateness?"),
        (text_with(stream="security: {pasword: x}"), "stream.security.pasword: unknown key; did you mean password?"),
        (text_with(store="Retention: 5d"), "store.Retention: unknown key; did you mean retention?"),
        (text_with(rest="http: {prot: 1}"), "http.prot: unknown key; did you mean port?"),
        (text_with(rest="limits: {version: 1}"), "limits.version: unknown key; did you mean versions?"),
        (text_with(model="window: {min_event: 9}"), "models.m.window.min_event: unknown key; did you mean min_events"),
        (text_with(model="reference: {lern: 1}"), "models.m.reference.lern: unknown key; did you mean learn?"),
        (text_with(model="drift: {numerics: [ks]}"), "models.m.drift.numerics: unknown key; did you mean numeric?"),
        (text_with(model="outcomes: {withn: 7d}"), "models.m.outcomes.withn: unknown key; did you mean within?"),
        (text_with(model="fallback: {chian: []}"), "models.m.fallback.chian: unknown key; did you mean chain?"),
        (text_with(model="fallback: {default: {valu: 0}}"), "models.m.fallback.default.valu: unknown key; did you"),
        (
            text_with(model="rules: [{name: a, metric: mae, above: 1}, {name: b, metric: mae, abvoe: 3}]"),
            "models.m.rules[1].abvoe: unknown key; did you mean above?",
        ),
        (
            text_with(model='fallback: {rule_based: [{when: [{featur: a, op: "<", value: 1}], then: 1}]}'),
            "models.m.fallback.rule_based[0].when[0].featur: unknown key; did you mean feature?",
        ),
        (text_with(rest="zzz: {}"), "zzz: unknown key; known keys: stream, store, http, limits, models"),
        (
            text_with(model="rules: [{name: a, metric: mae, above: 1, dwell: 3 checks}]"),
            "models.m.rules[0].dwell: unknown key; known keys: name, metric, above, below, drop, rise, severity, for, "
            "then, hard, min_n",
        ),
        (text_with(rest="on: 1"), "True: YAML reads this as true or false: put it in quotes"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_name(text: str, problem: str) -> None:
    """A typo must not switch something off in silence."""
    assert any(found.startswith(problem) for found in problems_of(text))


# -- values ----------------------------------------------------------------------------------------------

LIMIT = "a limit is a number, a share like 1%, or `105% of baseline`"
QUOTES = "YAML reads this as a number: put it in quotes"
DURATION = "a duration has a number and a unit: 500ms, 10s, 15m, 6h, 7d"
SHARE = "a share lies between 0% and 100%, and is written like 5% or 0.05"
RULE = "rules: [{{name: a, metric: {}, {}}}]"


@pytest.mark.parametrize(
    ("parts", "problems"),
    [
        # texts that YAML takes for something else
        ({"model": "previous: 1.10"}, [f"models.m.previous: 1.1: {QUOTES}"]),
        ({"model": "previous: 2"}, [f"models.m.previous: 2: {QUOTES}"]),
        ({"model": "previous: 1_0"}, [f"models.m.previous: 10: {QUOTES}"]),
        ({"model": "previous: 2026-11-21"}, ["models.m.previous: YAML reads this as a date: put it in quotes"]),
        ({"model": "previous: no"}, ["models.m.previous: False: YAML reads this as true or false: put it in quotes"]),
        ({"model": "previous: [v0]"}, ["models.m.previous: a text is needed"]),
        ({"model": "routes: {1.10: 5%}"}, [f"models.m.routes.1.1: {QUOTES}"]),
        ({"model": "shadows: [v2, 1.20]"}, [f"models.m.shadows[1]: 1.2: {QUOTES}"]),
        ({"model": "cohorts: {internal: 5}"}, [f"models.m.cohorts.internal: 5: {QUOTES}"]),
        ({"model": "features: {no: ignore}"}, [
            "models.m.features.False: YAML reads this as true or false: put it in quotes"]),
        ({"rest": "  5: {task: binary, champion: v1}"}, [f"models.5: {QUOTES}"]),
        ({"model": "positive: yes", "task": "binary"}, [
            "models.m.positive: True: YAML reads this as true or false: put it in quotes"]),
        # kinds
        ({"rest": "http: {port: yes}"}, ["http.port: True: a whole number is needed"]),
        ({"rest": "http: {port: 94.64}"}, ["http.port: 94.64: a whole number is needed"]),
        ({"rest": "http: {port: 99999}"}, ["http.port: 99999: at most 65535"]),
        ({"rest": "http: []"}, ["http: a mapping is needed"]),
        ({"rest": "limits: {versions: 0}"}, ["limits.versions: 0: at least 1"]),
        ({"stream": "events: ml.predictions"}, ["stream.events: 'ml.predictions': a list is needed, such as [a, b]"]),
        ({"stream": "events: []"}, ["stream.events: at least one is needed"]),
        ({"stream": "alerts: a b"}, ["stream.alerts: 'a b': letters, digits, . _ and - only, at most 249"]),
        ({"stream": "events: [a/b]"}, ["stream.events[0]: 'a/b': letters, digits, . _ and - only, at most 249"]),
        ({"stream": "security: {tls: 17}"}, ["stream.security.tls: 17: true or false is needed"]),
        ({"stream": "security: {tls: maybe}"}, ["stream.security.tls: 'maybe': true or false is needed"]),
        ({"model": 'previous: ""'}, ["models.m.previous: '': cannot be empty"]),
        ({"model": f"previous: {'x' * 257}"}, [f"models.m.previous: '{'x' * 257}': at most 256 characters"]),
        ({"model": 'previous: "v\\a"'}, ["models.m.previous: 'v\\x07': no control characters"]),
        ({"task": "classifier"}, ["models.m.task: 'classifier': one of regression, binary, multiclass is needed"]),
        ({"task": "Binary"}, [
            "models.m.task: 'Binary': one of regression, binary, multiclass is needed; did you mean binary?"]),
        ({"stream": "start: oldest"}, ["stream.start: 'oldest': one of earliest, latest is needed"]),
        ({"model": "metrics: {cost: up}"}, ["models.m.metrics.cost: 'up': one of higher, lower is needed"]),
        ({"model": "rules: {}"}, ["models.m.rules: a list is needed, such as [a, b]"]),
        ({"model": "reference: 10000"}, ["models.m.reference: 10000: a path, or {learn: 10000}, is needed"]),
        ({"model": "drift: {min_effect: {ks: .nan}}"}, [
            "models.m.drift.min_effect.ks: nan: a finite number is needed"]),
        ({"model": "drift: {min_effect: {ks: -0.1}}"}, [
            "models.m.drift.min_effect.ks: -0.1: at least 0; with 0 whatever is significant counts"]),
        ({"model": "drift: {min_effect: {kss: 1}}"}, [
            "models.m.drift.min_effect.kss: unknown detector; did you mean ks?"]),
        ({"model": "drift: {windows: [1, 2, 0, 2]}"}, [
            "models.m.drift.windows[2]: 0.0: a multiple of the window lies above 0 and is at most 100",
            "models.m.drift.windows[3]: 2.0: is listed twice: leave one out"]),
        ({"model": "drift: {windows: [0.5]}"}, [
            "models.m.drift.windows: [0.5]: must contain 1, the configured window: add it"]),
        ({"model": "drift: {numeric: [kss]}"}, [
            "models.m.drift.numeric[0]: 'kss': one of ks, wasserstein, psi is needed; did you mean ks?"]),
        # units
        ({"stream": "lateness: 5"}, [f"stream.lateness: 5: {DURATION}"]),
        ({"store": "retention: forever"}, [f"store.retention: 'forever': {DURATION}"]),
        ({"stream": "heartbeat: 0s"}, ["stream.heartbeat: '0s': a duration is at least a millisecond"]),
        ({"model": "routes: {v2: 5}"}, [f"models.m.routes.v2: 5: {SHARE}"]),
        ({"model": "routes: {v2: -5%}"}, [f"models.m.routes.v2: '-5%': {SHARE}"]),
        ({"model": "threshold: 50"}, [f"models.m.threshold: 50: {SHARE}"]),
        ({"model": "drift: {false_alarms: 1 a month}"}, [
            "models.m.drift.false_alarms: '1 a month': a false-alarm budget is written like `1 per 30d` or "
            "`1 per 100000 events`"]),
        ({"model": RULE.format("mae", "above: a lot")}, [f"models.m.rules[0].above: 'a lot': {LIMIT}"]),
        ({"model": RULE.format("mae", "above: .inf")}, [f"models.m.rules[0].above: inf: {LIMIT}"]),
        ({"model": RULE.format("mae", "above: 105%")}, [
            "models.m.rules[0].above: '105%': no share is above 100%; relative to the baseline it is "
            "`105% of baseline`"]),
        ({"model": RULE.format("mae", "above: 1, for: 3")}, [
            "models.m.rules[0].for: 3: how long is written like `3 checks` or 30m"]),
        ({"model": RULE.format("mae", "rise: -1")}, [
            "models.m.rules[0].rise: -1: a drop or rise is written like `3 points`, 3% or a number in the metric's own "
            "unit, not below zero"]),
        # rules
        ({"model": RULE.format("mae", "hard: true")}, [
            "models.m.rules[0]: a rule has one of above, below, drop and rise; this one has none"]),
        ({"model": RULE.format("mae", "above: 1, rise: 1")}, [
            "models.m.rules[0]: a rule has one of above, below, drop and rise; this one has above and rise"]),
        ({"model": RULE.format("maee", "above: 1")}, [
            "models.m.rules[0].metric: 'maee': unknown metric; did you mean mae?"]),
        ({"model": RULE.format("coost", "above: 1") + ", metrics: {cost: lower}"}, [
            "models.m.rules[0].metric: 'coost': unknown metric; did you mean cost?"]),
        ({"model": RULE.format("accuracy", "below: 90%")}, [
            "models.m.rules[0].metric: 'accuracy': a regression has none; one of mae, mape, mse, r2, rmse is needed"]),
        ({"model": RULE.format("recall", "below: 90%"), "task": "multiclass"}, [
            "models.m.rules[0].metric: 'recall': a multiclass has none; one of accuracy, ece, f1_macro is needed"]),
        ({"model": RULE.format("mae", "above: 1") + ", outcomes: null"}, [
            "models.m.rules[0].metric: 'mae': needs outcomes, which are off"]),
        ({"model": RULE.format("mae", "above: 1") + ", outcomes: {metrics: [rmse]}"}, [
            "models.m.rules[0].metric: 'mae': not listed in outcomes.metrics"]),
        ({"model": RULE.format("cpu_percent", "above: 90%")}, [
            "models.m.rules[0].above: cpu_percent is no share: a number in its own unit is needed, or "
            "`105% of baseline`"]),
        ({"model": RULE.format("latency_p95_ms", "rise: 3 points")}, [
            "models.m.rules[0].rise: latency_p95_ms is no share: a number in its own unit is needed, or "
            "`105% of baseline`"]),
        ({"model": "rules: [{name: a, metric: mae, above: 1}, {name: a, metric: mae, above: 2}]"}, [
            "models.m.rules[1].name: 'a': another rule has this name"]),
        ({"model": RULE.format("mae", "above: 1, then: alert")}, [
            "models.m.rules[0].then: 'alert': one of none, fallback, rollback is needed"]),
        # windows
        ({"model": "window: {events: 100, span: 15m, pane: 30s}"}, [
            "models.m.window.span: a counted window (events) has none",
            "models.m.window.pane: a counted window (events) has none"]),
        ({"model": "window: {every: 100}"}, [
            "models.m.window.every: 100: needs events: it belongs to a counted window"]),
        ({"model": "window: {events: 100, every: 30}"}, [
            "models.m.window.events: 100: must be a multiple of every (30)"]),
        ({"model": "window: {events: 10000, every: 2}"}, [
            "models.m.window.every: 2: at most 2000 checks fit into a window: at least 5"]),
        ({"model": "window: {span: 10m, pane: 7m}"}, [
            "models.m.window.span: '10m': span (10m) must be a multiple of pane (7m)"]),
        ({"model": "window: {pane: 7s}"}, ["models.m.window.pane: '7s': span (15m) must be a multiple of pane (7s)"]),
        ({"model": "window: {pane: 500ms}"}, ["models.m.window.pane: '500ms': at least 1s"]),
        ({"model": "window: {span: 7d, pane: 30s}"}, [
            "models.m.window.pane: '30s': at most 2000 panes fit into a window: raise pane"]),
        ({"model": "window: {span: 1h, max_span: 30m}"}, [
            "models.m.window.max_span: '30m': lies between span (1h) and 20000 panes"]),
        # what belongs together
        ({"model": "reference: {path: a.csv, learn: 1000}"}, ["models.m.reference.path: give either path or learn"]),
        ({"model": "reference: {}"}, ["models.m.reference.path: give either path or learn"]),
        ({"model": "reference: {learn: 10}"}, ["models.m.reference.learn: 10: at least 100 predictions are needed"]),
        ({"model": "reference: {rolling: 30d}"}, ["models.m.reference.path: give either path or learn"]),
        ({"model": "reference: {learn: 1000, rolling: 30d}, window: {events: 500}"}, [
            "models.m.reference.rolling: '30d': counted windows know no time: give the window a `span` instead of "
            "`events`, or leave rolling out"]),
        ({"model": "reference: {learn: 1000, rolling: 2d}, window: {span: 1h}"}, [
            "models.m.reference.rolling: '2d': at least 50h, ten times the longest window (5h): raise it, or leave "
            "long ones out of drift.windows"]),
        ({"model": "reference: {learn: 1000, rolling: 10d, season: hour_of_week}"}, [
            "models.m.reference.rolling: '10d': at least 353h, 2.1 periods of hour_of_week: raise it, or choose a "
            "shorter season"]),
        ({"model": "reference: {learn: 1000, columns: {time: t}}"}, [
            "models.m.reference.columns: are those of a table, under `path`"]),
        ({"model": "reference: {path: a.csv, columns: {actual: y, prediction: y}}"}, [
            "models.m.reference.columns.actual: 'y': is the column of `prediction` already"]),
        ({"model": "reference: {path: a.csv, columns: {score: p}}"}, [
            "models.m.reference.columns.score: 'p': a regression has no scores"]),
        ({"store": "url_file: x"}, ["store.url: give either url or url_file"]),
        ({"store": "commit_every: 5s"}, [
            "store.lease: '10s': at least three times commit_every is needed, or a live daemon looks dead"]),
        ({"stream": "alerts: ml.outcomes, decisions: a, dead_letters: a"}, [
            "stream.alerts: 'ml.outcomes': events, alerts, decisions and dead_letters must be different topics",
            "stream.dead_letters: 'a': events, alerts, decisions and dead_letters must be different topics"]),
        ({"stream": "events: [a, a]"}, ["stream.events: a topic stands twice"]),
        ({"stream": "security: {password: x, password_file: y}"}, [
            "stream.security.password_file: give either password or password_file"]),
        ({"model": "routes: {v1: 5%}"}, [
            "models.m.routes.v1: the champion has what the challengers leave; list challengers only"]),
        ({"model": "routes: {v2: 60%, v3: 60%}"}, ["models.m.routes: the shares sum to 120.00%, at most 100%"]),
        ({"model": "routes: {v2: 0.001%}"}, ["models.m.routes.v2: 1e-05: shares are counted in steps of 0.01%"]),
        ({"model": "previous: v1"}, ["models.m.previous: 'v1': is the champion itself"]),
        ({"model": "shadows: [v1]"}, ["models.m.shadows: 'v1': is the champion: it answers anyway"]),
        ({"model": "shadows: [rules], previous: __other__"}, [
            "models.m.previous: '__other__': is the name of a fallback level and cannot be a version",
            "models.m.shadows[0]: 'rules': is the name of a fallback level and cannot be a version"]),
        ({"model": "positive: spam"}, ["models.m.positive: only a binary task has a positive class"]),
        ({"model": "metrics: {mae: lower, a b: lower}"}, [
            "models.m.metrics.mae: is the name of a built-in metric",
            "models.m.metrics.a b: a name of letters, digits, _ and ., at most 64, is needed"]),
        ({"model": "outcomes: {metrics: [acuracy]}", "task": "binary"}, [
            "models.m.outcomes.metrics[0]: 'acuracy': no metric of a binary; did you mean accuracy?"]),
        ({"model": "outcomes: {pane: 45s}"}, [
            "models.m.outcomes.pane: '45s': must be a multiple of window.pane (30s)"]),
        ({"model": "outcomes: {pane: 1m}, window: {events: 100}"}, [
            "models.m.outcomes.pane: '1m': a counted window keeps quality by its own panes"]),
        ({"model": "rollout: {}"}, [
            "models.m.rollout: staged rollouts are not part of this release; use routes, and rules that roll back"]),
        ({"model": "fallback: {chain: [rules, rules]}"}, ["models.m.fallback.chain: a level stands twice"]),
        ({"model": "fallback: {chain: [prev]}"}, [
            "models.m.fallback.chain[0]: 'prev': one of previous, rules, ensemble, default is needed"]),
        ({"model": "fallback: {default: {value: .nan}}"}, [
            "models.m.fallback.default.value: nan: a finite number is needed"]),
        ({"model": "fallback: {default: {value: [1]}}"}, [
            "models.m.fallback.default.value: a number, a text, true, false or null is needed"]),
        ({"model": "fallback: {default: {value: 2026-11-21}}"}, [
            "models.m.fallback.default.value: YAML reads this as a date: put it in quotes"]),
        ({"model": 'fallback: {rule_based: [{when: {feature: a, op: "=", value: 1}, then: 1}]}'}, [
            "models.m.fallback.rule_based[0].when[0].op: '=': one of <, <=, >, >=, ==, !=, in is needed"]),
        ({"model": "fallback: {rule_based: [{when: {feature: a, op: in, value: 1}, then: 1}]}"}, [
            "models.m.fallback.rule_based[0].when[0].value: `in` needs a list, and only `in`"]),
        ({"model": "fallback: {rule_based: [{when: [], then: 1}]}"}, [
            "models.m.fallback.rule_based[0].when: at least one is needed"]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_path_what_it_is_and_what_would_do(
    parts: dict[str, str], problems: list[str]
) -> None:
    assert problems_of(text_with(**parts)) == problems


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """From top to bottom of the schema; an error message per line."""
    text = """
        stream: {ur: x, lateness: 5}
        store: {url: "sqlite:///x.db", retention: 5}
        htp: {}
        models:
          m: {task: x, champion: 1.5, window: {span: 7m, pane: 2m}, routes: {v2: 200%}}
          n: {task: binary, champion: v1, rules: [{name: a, metric: mae, above: 1}, {name: a, metric: b, drop: 1}]}
    """
    assert [problem.split(": ")[0] for problem in problems_of(text)] == [
        "stream.url", "stream.lateness", "stream.ur", "store.retention", "models.m.task", "models.m.champion",
        "models.m.routes.v2", "models.m.window.span", "models.n.rules[0].metric", "models.n.rules[1].name",
        "models.n.rules[1].metric", "htp",
    ]  # fmt: skip


def test_what_is_needed_is_told() -> None:
    """By its path."""
    assert problems_of("models: {m: {}}") == [
        "stream: is needed", "store: is needed", "models.m.task: is needed", "models.m.champion: is needed",
    ]  # fmt: skip
    assert problems_of("{stream: {url: a}, store: {url: b}, models: {}}") == ["models: at least one is needed"]
    assert problems_of("{stream: {url: a}, store: {url: b}, models: }") == ["models: a mapping is needed"]


def test_more_metrics_of_ones_own_than_there_is_room_for() -> None:
    """Those beyond would never be measured."""
    names = ", ".join(f"m{i}: lower" for i in range(USER_METRICS + 1))

    assert problems_of(text_with(model=f"metrics: {{{names}}}")) == ["models.m.metrics: 17 of them, at most 16"]


def test_more_versions_of_all_models_than_there_are_codes_for() -> None:
    """Their codes are 16 bits wide."""
    models = "\n".join(f"  m{i}: {{task: binary, champion: v1}}" for i in range(99))

    assert problems_of(text_with(rest=models + "\nlimits: {versions: 1000}")) == [
        "limits.versions: 1000: with 100 models at most 646 versions of each"
    ]
    parse(text_with(rest=models + "\nlimits: {versions: 646}"), {})


def test_shares_that_sum_to_the_whole_are_fine() -> None:
    """Counted in hundredths of a percent, so that no rounding of floats gets in the way."""
    routes = ", ".join(f"c{i}: 0.1" for i in range(10))

    assert sum(model_with(f"routes: {{{routes}}}").routes.values()) == pytest.approx(1)
    assert problems_of(text_with(model="routes: {a: 33.335%, b: 33.335%, c: 33.335%}")) == [
        "models.m.routes: the shares sum to 100.02%, at most 100%"
    ]


def test_the_positive_class_may_be_a_number() -> None:
    """Labels are compared as texts: 1 and "1" are the same."""
    assert [model_with(f"positive: {p}", "binary").positive for p in ("1", "1.0", '"1"', "spam", '"yes"')] == [
        "1", "1", "1", "spam", "yes",
    ]  # fmt: skip


def test_a_single_condition_needs_no_list() -> None:
    """`when: {…}` and `when: [{…}]` are the same."""
    alone, listed = (
        model_with(f'fallback: {{rule_based: [{{when: {when}, then: 0.95}}]}}').fallback
        for when in ('{feature: load, op: ">", value: 0.9}', '[{feature: load, op: ">", value: 0.9}]')
    )  # fmt: skip

    assert alone == listed


# -- the environment -------------------------------------------------------------------------------------


def test_variables_of_the_environment_are_filled_in() -> None:
    """Several in one text, in lists too; numbers, durations and booleans may come from there."""
    text = text_with(stream='group: "${A}-${B}", lateness: "${L}", events: ["${A}"], security: {tls: "${T}"}') + (
        'http: {port: "${PORT}"}'
    )
    config = parse(text, {"A": "x", "B": "y", "L": "9s", "PORT": "1234", "T": "true"})

    assert (config.stream.group, config.stream.events, config.stream.lateness) == ("x-y", ["x"], 9_000)
    assert (config.http.port, config.stream.security.tls) == (1234, True)
    assert type(config.stream.group) is str


def test_all_missing_variables_are_told() -> None:
    """With the place where each is needed."""
    text = text_with(stream='group: "${A}-${B}", events: [a, "${C}"]')

    assert problems_of(text, B="b") == [
        "stream.group: '${A}': the environment has no variable A",
        "stream.events[1]: '${C}': the environment has no variable C",
    ]


def test_what_is_no_variable_stays_as_it_is() -> None:
    """A dollar alone, braces alone."""
    assert configured(stream='group: "$A {B} ${} ${1}"').stream.group == "$A {B} ${} ${1}"


@pytest.mark.parametrize(
    "parts",
    [
        {"stream": "lateness: '${S}'"}, {"rest": "http: {port: '${S}'}"}, {"model": "routes: {v2: '${S}'}"},
        {"task": "'${S}'"}, {"stream": "alerts: '${S}/'"}, {"model": "drift: {false_alarms: '${S}'}"},
        {"model": "rules: [{name: a, metric: mae, above: '${S}'}]"}, {"stream": "start: '${S}'"},
        {"model": "previous: ['${S}']"}, {"stream": "security: {tls: '${S}'}"}, {"model": "rules: '${S}'"},
        {"model": "rules: [{name: a, metric: '${S}', above: 1}]"}, {"model": "metrics: {a: '${S}'}"},
        {"model": "champion: '${S}', previous: '${S}'"}, {"model": "fallback: {chain: ['${S}']}"},
    ],
)  # fmt: skip
def test_no_value_of_the_environment_is_ever_in_an_error(parts: dict[str, str]) -> None:
    """It may be a secret. What was written in the file is shown instead."""
    text = text_with(**parts).replace("champion: v1, champion", "champion")

    with pytest.raises(ConfigErrors) as raised:
        parse(text, {"S": SECRET})

    assert SECRET not in "".join([str(raised.value), repr(raised.value), *map(repr, raised.value.problems)])
    assert all(SECRET not in str(problem.got) for problem in raised.value.problems)


@pytest.mark.parametrize("value", [f"[{SECRET}]", f"{{a: {SECRET}}}", "123456789"])
def test_no_secret_is_ever_in_an_error(value: str) -> None:
    """Also where it stands in the file itself, and is not even a text."""
    stream = f"security: {{password: {value}, key_password: {value}}}"
    for text in (text_with(stream=stream), text_with().replace('"sqlite:///driftd.db"', value)):
        problems = problems_of(text)

        assert problems
        assert not any(SECRET in p or "123456789" in p for p in problems)


def test_no_secret_is_in_the_text_of_a_configuration() -> None:
    """Configurations get into logs and tracebacks."""
    text = text_with(stream=f"security: {{password: {SECRET}, key_password: {SECRET}}}").replace(
        "sqlite:///driftd.db", f"postgresql+psycopg://user:{SECRET}@host/db"
    )
    config = parse(text, {})

    assert SECRET in (config.store.url or "")
    for shown in (repr(config), str(config), f"{config}", repr(config.stream), repr(config.store)):
        assert SECRET not in shown


@given(st.text(max_size=200) | st.text("{}[]:,-&*!|>'\"%@#? \nabc<", max_size=60))
def test_whatever_is_written_only_configuration_errors_are_raised(text: str) -> None:
    """An operator's typo must never look like a bug of ours."""
    for content in (text, text_with(rest=text), text_with(model=text), f"models: {text}"):
        try:
            parse(content, {})
        except ConfigError as error:
            assert str(error)  # noqa: PT017 (nothing need be raised)


# -- hostile files ---------------------------------------------------------------------------------------

_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_BOMB, "more than 200000 values, those behind aliases counted"),
        ("x: " + "[" * 5_000 + "]" * 5_000, "nested more than 50 levels deep"),
        ("x: " + "{a: " * 3_000 + "1" + "}" * 3_000, "nested more than 50 levels deep"),
        (
            "limits: {pending: " + "9" * 5_000 + "}",
            "line 1, column 19: a number or date that cannot be read: has too many digits",
        ),
        ("day: 2026-02-31", "line 1, column 6: a number or date that cannot be read: day is out of range for month"),
        ("http: {port: 0x" + "f" * 6_000 + "}", "line 1, column 14: a number .* has too many digits"),
        ("http:\n  port: 1" + ":59" * 3_000, "line 2, column 9: a number .* has too many digits"),
        ("http: {port: 1" + ":59" * 3_000 + ".5}", "line 1, column 14: a number .* has too many digits"),
        ("http: {port: 0x1" + "0" * 16 + "}", r"line 1, column 14: a number .* is not less than 2\^64"),
        ('http: {port: !!int ""}', "line 1, column 14: the value does not fit its tag int"),
        ("http: {port: !!float maybe}", "line 1, column 14: a number .* could not convert string"),
        ("x: !!bool maybe", "line 1, column 4: the value does not fit its tag bool"),
        ("x: !!timestamp soon", "line 1, column 4: the value does not fit its tag timestamp"),
        ("- " * 3_000 + "x", "line 1: nested more than 50 levels deep"),
        ("# " + "x" * 5_000_000, "is larger than 4096 KiB"),
    ],
)
def test_a_file_that_would_take_all_memory_or_time_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "driftd.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=why):
        read(path, {})


def test_a_pipe_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "driftd.yaml")

    with pytest.raises(ConfigError, match="is a pipe, socket or device"):
        read(tmp_path / "driftd.yaml", {})
