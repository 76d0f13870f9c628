"""Answers and labels at an edge: neither is given to a neighbour, and quality says what it is over."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from monitor.spec import AnswerReading, LimitBasis, Limits, ModelSpec, Task, WindowSpec
from monitor.store import history
from monitor.store.engine import connect
from tests.monitor.kit import (
    MINUTE,
    SECOND,
    T0,
    Event,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_rule,
    counted,
    ends_of,
    learned,
    outcome,
    prediction,
    records_of,
    replay_of,
    some_outcomes,
    timed,
)

BY_COUNT, BY_TIME = counted(200, 200), timed(MINUTE, 2 * MINUTE)
WINDOWS = pytest.mark.parametrize("window", [BY_COUNT, BY_TIME], ids=["counted", "timed"])


def model_of(task: Task, window: WindowSpec = BY_COUNT, **parts: Any) -> ModelSpec:
    outcomes = some_outcomes(pane=0 if window.counted else MINUTE, baseline_n=100, concept_drift="adwin")
    return a_model(task=task, window=window, outcomes=outcomes, **parts)


def stream_of(answers: Sequence[tuple[Any, Any]], **more: Any) -> list[Event]:
    """Predictions with their outcomes, one a second; both at once."""
    events: list[Event] = []
    for i, (predicted, actual) in enumerate(answers):
        at = T0 + i * SECOND
        events += [prediction(f"r{i}", at, predicted, **more), outcome(f"r{i}", at + 1, actual)]
    return events


def replay(model: ModelSpec, answers: Sequence[tuple[Any, Any]], limits: Limits | None = None) -> Told:
    return replay_of(a_core(model, limits=limits or Limits()), stream_of(answers), sizes=[97])


def values(told: Told, metric: str) -> list[float]:
    return [value for *_, value, _ in told.values(metric)]


# -- 0 and 1 ---------------------------------------------------------------------------------------------

FOREST = (0.0, 0.0, 0.1, 0.2, 0.8, 0.9, 1.0, 1.0, 1.0)


def perfect(probabilities: Sequence[float], rows: int, seed: int = 1) -> list[tuple[float, str]]:
    """A model that is always right, of whatever is drawn."""
    dice = random.Random(seed)
    drawn = [dice.choice(probabilities) for _ in range(rows)]
    return [(p, "spam" if p >= 0.5 else "ham") for p in drawn]


@WINDOWS
def test_probabilities_of_exactly_0_and_1_are_probabilities_among_others(window: WindowSpec) -> None:
    told = replay(model_of(Task.BINARY, window, positive="spam"), perfect(FOREST, 1_000))

    for metric in ("accuracy", "precision", "recall", "f1", "roc_auc"):
        assert values(told, metric)
        assert set(values(told, metric)) == {1.0}, metric
    for metric in ("brier", "log_loss", "ece"):
        assert [n for *_, n in told.values(metric)] == [n for *_, n in told.values("accuracy")], metric
    scored = [n for *_, n in told.values("prediction_mean")]
    assert scored == [n for *_, n in told.values("sharpness")] == [n for *_, n in told.values("predictions")]


@WINDOWS
def test_metrics_are_those_of_all_answers(window: WindowSpec) -> None:
    """Against the definitions, over a model that is wrong at times, at the ends as well."""
    dice = random.Random(3)
    answers = [(dice.choice(FOREST), dice.choice(("yes", "no"))) for _ in range(200)]
    told = replay(
        model_of(Task.BINARY, counted(200, 200) if window.counted else timed(5 * MINUTE, 5 * MINUTE)), answers
    )
    if not window.counted:
        answers = [a for i, a in enumerate(answers) if (T0 + i * SECOND) // (5 * MINUTE) == T0 // (5 * MINUTE)]

    pairs = [(p, float(actual == "yes")) for p, actual in answers]
    losses = [-math.log(min(max(p if y else 1 - p, 1e-7), 1.0)) for p, y in pairs]
    wins = [(p > q) + (p == q) / 2 for p, y in pairs if y for q, z in pairs if not z]
    expected = {
        "brier": math.fsum((p - y) ** 2 for p, y in pairs) / len(pairs),
        "log_loss": math.fsum(losses) / len(pairs),
        "roc_auc": math.fsum(wins) / len(wins),
        "accuracy": sum((p >= 0.5) == y for p, y in pairs) / len(pairs),
        "prediction_mean": math.fsum(p for p, _ in pairs) / len(pairs),
    }
    assert {name: values(told, name)[0] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_the_first_200_answers_are_exactly_0_or_1() -> None:
    """A window of them alone reads labels; one that holds others reads all of its numbers as probabilities."""
    answers = perfect((0.0, 1.0), 200) + perfect(FOREST, 600)
    alone = replay(model_of(Task.BINARY, counted(200, 200), positive="spam"), answers)
    together = replay(model_of(Task.BINARY, counted(400, 400), positive="spam"), answers)

    assert set(values(alone, "accuracy")) == set(values(alone, "recall")) == {1.0}
    assert [n for *_, n in alone.values("brier")] == [200, 200, 200]
    assert [n for *_, n in together.values("brier")] == [400, 400]
    assert set(values(together, "recall")) == {1.0}


def test_numbers_of_labels_alone_are_labels() -> None:
    told = replay(model_of(Task.BINARY), [(i % 2, i % 2) for i in range(400)])

    assert set(values(told, "accuracy")) == {1.0}
    assert not told.values("brier")
    assert not told.values("prediction_mean")


@pytest.mark.parametrize(
    ("answers", "over"), [(AnswerReading.AUTO, []), (AnswerReading.LABEL, []), (AnswerReading.PROBABILITY, [200, 200])]
)
def test_the_configuration_may_say_what_they_are(answers: AnswerReading, over: list[int]) -> None:
    told = replay(model_of(Task.BINARY, answers=answers), [(i % 2, i % 2) for i in range(400)])

    assert set(values(told, "accuracy")) == {1.0}
    assert [n for *_, n in told.values("brier")] == over


def test_scores_in_a_window_make_its_numbers_probabilities() -> None:
    events = stream_of([(i % 2, i % 2) for i in range(200)])
    events[2] = {**events[2], "scores": {"1": 0.75, "0": 0.25}}
    run = Run(a_core(model_of(Task.BINARY)), ends_of(records_of(events)))
    run.feed(records_of(events))

    ((*_, value, n),) = run.finish().values("brier")
    assert (value, n) == (pytest.approx(0.25**2 / 200), 200)


def test_the_score_is_no_drift_where_it_is_at_an_end_as_often_as_before() -> None:
    """The reference has its answers of exactly 0 and 1 too: none of them is missing."""
    model = model_of(Task.BINARY, positive="spam", reference=learned(200), drift=a_drift())
    told = replay(model, perfect(FOREST, 2_000))

    assert told.alerts() == []
    assert set(values(told, "recall")) == {1.0}
    missing = [value for *_, value, _ in told.values("missing_rate", feature="score")]
    assert missing
    assert set(missing) == {0.0}


def test_scores_that_fall_to_the_ends_are_drift() -> None:
    model = model_of(Task.BINARY, positive="spam", reference=learned(200), drift=a_drift())
    told = replay(model, perfect((0.3, 0.4, 0.6, 0.7), 1_000) + perfect((0.0, 1.0), 400))

    assert "score" in [f["name"] for alert in told.alerts("drift") for f in alert["features"]]


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('store')}/driftd.db")
    yield engine
    engine.dispose()


def test_a_row_of_the_history_says_how_answers_were_read(engine: Engine) -> None:
    records = records_of(stream_of(perfect((0.0, 1.0), 200) + perfect(FOREST, 200)))
    run = StoredRun(a_core(model_of(Task.BINARY, positive="spam")), ends_of(records), engine=engine)
    run.feed(records)
    run.finish()

    rows = list(history.history(engine, "m", metric="accuracy"))
    assert [row.answers for row in rows] == ["label", "probability"]
    assert {row.answers for row in history.history(engine, "m", metric="predictions")} == {"label", "probability"}


@WINDOWS
@pytest.mark.parametrize("sizes", [[1], [7, 300], [1_000_000]])
def test_the_cut_into_batches_and_restarts_change_nothing(window: WindowSpec, sizes: list[int], engine: Engine) -> None:
    model = model_of(Task.BINARY, window, positive="spam", reference=learned(150), drift=a_drift())
    records = records_of(stream_of(perfect((0.0, 1.0), 150) + perfect(FOREST, 250)))
    plain = Run(a_core(model), ends_of(records))
    plain.feed(records, [50])
    run = StoredRun(a_core(model), ends_of(records), engine=engine)
    run.feed(records[:431], sizes)
    run.commit()
    run.restart()
    run.feed(records[431:], sizes)
    whole, cut = plain.finish(), run.finish()

    assert cut.published == whole.published
    assert cut.history == whole.history


# -- labels that are neither class -----------------------------------------------------------------------

SPELLINGS = [(1, True, 0, False), (1, "1", 0, "0"), (1, "1.0", 0, "0.0"), ("Yes", "y", "No", "n"), (0.9, 1.0, 0.1, 0.0),
             (0.9, "t", 0.1, "f"), (0.9, "Y", 0.1, "N"), (True, "true", False, "F")]  # fmt: skip


@pytest.mark.parametrize(("yes", "truly", "no", "not_so"), SPELLINGS)
def test_labels_are_equal_where_they_are_equal(yes: Any, truly: Any, no: Any, not_so: Any) -> None:
    told = replay(model_of(Task.BINARY), [((yes, truly), (no, not_so))[i % 2] for i in range(400)])

    assert set(values(told, "accuracy")) == set(values(told, "recall")) == {1.0}
    assert told.alerts() == []


@WINDOWS
def test_labels_that_are_neither_class_are_told_and_left_out(window: WindowSpec) -> None:
    told = replay(model_of(Task.BINARY, window), [((0.9, "spam"), (0.1, "ham"))[i % 2] for i in range(400)])

    *_, alert = told.alerts()
    assert (alert["kind"], alert["severity"]) == ("blind", "warning")
    assert alert["summary"].startswith("labels ham, spam are neither yes nor no: set positive:")
    assert values(told, "accuracy") == values(told, "recall") == values(told, "brier") == []
    assert set(values(told, "coverage")) == {1.0}


def test_some_labels_that_are_neither_class_are_not_counted() -> None:
    answers: list[tuple[Any, Any]] = [(0.9, "yes"), (0.1, "no"), (0.9, "?"), (0.1, "yes")]
    told = replay(model_of(Task.BINARY), answers * 50)

    assert told.values("accuracy") == [(T0, T0 + 199 * SECOND, pytest.approx(2 / 3), 150)]
    assert told.values("recall") == [(T0, T0 + 199 * SECOND, 0.5, 100)]


def test_with_the_class_configured_nothing_is_told() -> None:
    told = replay(model_of(Task.BINARY, positive="spam"), [((0.9, "spam"), (0.1, "ham"))[i % 2] for i in range(400)])

    assert set(values(told, "accuracy")) == {1.0}
    assert told.alerts() == []


# -- labels past the limit -------------------------------------------------------------------------------


def articles(rows: int, classes: int, *, wrong: bool) -> list[tuple[str, str]]:
    """What is shown and what is bought: another one, or the same."""
    dice = random.Random(12)
    shown = [dice.randrange(classes) for _ in range(rows)]
    return [(f"a{a}", f"a{(a + 1 + dice.randrange(classes - 2)) % classes if wrong else a}") for a in shown]


@WINDOWS
@pytest.mark.parametrize(("wrong", "accuracy"), [(True, 0.0), (False, 1.0)])
def test_labels_past_the_limit_are_not_known(window: WindowSpec, wrong: bool, accuracy: float) -> None:
    """An always-wrong model is always wrong, an always-right one always right, over fewer answers, which is told."""
    model = model_of(Task.MULTICLASS, window)
    told = replay(model, articles(1_000, 400, wrong=wrong), Limits(labels=50))

    assert set(values(told, "accuracy")) == {accuracy}
    assert all(n < 200 for *_, n in told.values("accuracy"))
    (alert,) = told.alerts("blind")
    assert "more than 50 labels" in alert["summary"]
    assert "limits.labels" in alert["summary"]


@WINDOWS
def test_shadows_with_labels_past_the_limit_do_not_agree_by_that(window: WindowSpec) -> None:
    """Two labels without a code of their own may be any."""
    serving = replace(a_model().serving, shadows=("v2",))
    events: list[Event] = []
    for i, (one, other) in enumerate(articles(1_000, 400, wrong=True)):
        at = T0 + i * SECOND
        events += [prediction(f"r{i}", at, one), prediction(f"r{i}", at, other, version="v2", served=False)]
    records = records_of(events)
    run = Run(a_core(model_of(Task.MULTICLASS, window, serving=serving), limits=Limits(labels=50)), ends_of(records))
    run.feed(records)

    found = run.finish().values("agreement", version="v2")
    assert {value for *_, value, _ in found} == {0.0}


def test_postal_codes_fit_by_default() -> None:
    told = replay(model_of(Task.MULTICLASS), [(f"{i:05}", f"{i:05}") for i in range(1_200)])

    assert [n for *_, n in told.values("accuracy")] == [200] * 6
    assert told.alerts() == []
    assert Limits().labels >= 42_000


def test_a_raised_limit_is_in_force_from_the_next_start(engine: Engine) -> None:
    """Also for labels that were seen before."""
    answers = articles(400, 100, wrong=False)
    records = records_of(stream_of(answers + articles(400, 100, wrong=False)))
    model = model_of(Task.MULTICLASS, BY_TIME)
    run = StoredRun(a_core(model, limits=Limits(labels=20)), engine=engine)
    run.feed(records[:800])
    run.commit()
    run.restart(a_core(model, limits=Limits(labels=200)))
    run.feed(records[800:])
    told = run.finish()

    assert [n for *_, n in told.values("accuracy")][-1] == 120


# -- rare things -----------------------------------------------------------------------------------------


def rare(rows: int, seed: int) -> list[tuple[float, int]]:
    """One positive in 500, of which a steady model finds about a half."""
    dice = random.Random(seed)
    found = []
    for _ in range(rows):
        true = dice.random() < 0.002
        found.append((dice.uniform(0.3, 0.9) if true else dice.uniform(0.01, 0.45), int(true)))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_n", [1, 30])
def test_a_steady_model_of_a_rare_class_is_calm(seed: int, min_n: int) -> None:
    """Two positives that were all right are no certainty, whatever `min_n` is."""
    points = LimitBasis.POINTS
    rules = tuple(
        a_rule(name, name, below=-0.1, of=points, min_n=min_n) for name in ("recall", "roc_auc", "f1", "precision")
    )
    model = a_model(task=Task.BINARY, window=counted(1_000, 500), outcomes=some_outcomes(baseline_n=1_000), rules=rules)
    told = replay(model, rare(6_000, seed))

    assert told.alerts() == []


def test_n_counts_the_rare_thing() -> None:
    answers = [(0.9, 1)] * 3 + [(0.9, 0)] * 5 + [(0.1, 1)] * 4 + [(0.1, 0)] * 188
    told = replay(model_of(Task.BINARY), answers)
    over = {name: told.values(name)[0][3] for name in ("recall", "precision", "f1", "roc_auc", "accuracy", "brier")}

    assert over == {"recall": 7, "precision": 8, "f1": 12, "roc_auc": 7, "accuracy": 200, "brier": 200}


def test_n_of_scores_counts_answers_with_one() -> None:
    """Half of the answers are labels: what is said of probabilities is said of the others."""
    answers: list[tuple[Any, Any]] = [(0.75, 1), ("yes", 1)] * 100
    told = replay(model_of(Task.BINARY), answers)

    assert {name: told.values(name)[0][3] for name in ("accuracy", "brier", "log_loss", "ece")} == {
        "accuracy": 200, "brier": 100, "log_loss": 100, "ece": 100,
    }  # fmt: skip


def test_n_of_a_relative_error_leaves_out_zeros() -> None:
    told = replay(model_of(Task.REGRESSION), [(11.0, 10.0), (1.0, 0.0)] * 100)

    assert [told.values(name)[0][2:] for name in ("mape", "mae")] == [(pytest.approx(0.1), 100), (1.0, 200)]
