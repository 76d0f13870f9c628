"""What a configuration leaves out, in words: no error, but an operator should know. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from detectors.registry import MIN_EFFECT, MOST_EFFECT, NUMERIC, RATES, can_alarm
from monitor.aggregation.metrics import METRICS
from monitor.evaluation.extents import left_out
from monitor.evaluation.foundation import FEWEST_WINDOWS, on_stretches, without_promise
from monitor.reference.rolling_rows import Stretches
from monitor.spec import Consequence, ModelSpec, RuleSpec

_KIND: Final = {True: "numeric", False: "categorical"}  # by whether a detector is of numbers


def notes_of(spec: ModelSpec) -> list[str]:
    """Return what the rules of a model cannot do, and what to change. Without rules there is nothing to say."""
    return list(_on_rules(spec)) if spec.own_rules and spec.rules else []


def notes_on_nothing(spec: ModelSpec) -> list[str]:
    """Return that nothing of a model is watched, and what would be."""
    why = without_promise(spec)
    if why is None or spec.rules or (spec.outcomes is not None and spec.outcomes.concept_drift is not None):
        return []
    return [f"{why}: give it a `reference` (and no `drift: null`), or `rules`"]


def notes_on_windows(spec: ModelSpec) -> list[str]:
    """Return the multiples of the window that are not checked, why, and what to change."""
    return [f"drift.windows: {out.multiple:g} is left out: {out.why}" for out in left_out(spec)]


def notes_on_effects(spec: ModelSpec) -> list[str]:
    """Return the minimum effects that are never reached, so that they switch alarms off, and what to change."""
    drift, found = spec.drift, []
    for name in () if drift is None else (*drift.numeric, *drift.categorical, *RATES):
        if drift is not None and not can_alarm(name, drift.min_effect):
            off = "" if name in RATES else f", or leave {name} out of drift.{_KIND[name in NUMERIC]}"
            found.append(
                f"drift.min_effect.{name}: {drift.min_effect[name]:g} is never reached, so {name} raises no alarm: "
                f"it is at most {MOST_EFFECT[name]:g}; set a smaller one, such as {MIN_EFFECT[name]:g}{off}"
            )
    return found


def notes_on_rolling(spec: ModelSpec, per_second: float, most: int) -> list[str]:
    """Return that too much comes for what a rolling reference learns of dependence to be more than assumed.

    Args:
        spec: The model.
        per_second: Predictions per second of the model.
        most: The configured `limits.learning`.
    """
    rolling = spec.reference.rolling
    if rolling is None or spec.drift is None or spec.window.counted:
        return []
    stretches = Stretches.of(spec)
    level = stretches.level_of(per_second * rolling / 1000, most)
    return [
        f"reference.rolling: at {per_second:g} predictions a second the promise of false alarms is only assumed: {why}"
        for why in on_stretches(spec, stretches.length(level), most)
    ]


def notes_on_learning(spec: ModelSpec) -> list[str]:
    """Return that a reference will be too short for the promise of the budget to be more than assumed, and a remedy."""
    learn, events = spec.reference.learn, spec.window.events or spec.window.min_events
    if spec.drift is None or spec.reference.path is not None or not 0 < learn < FEWEST_WINDOWS * events:
        return []
    return [
        f"reference.learn: {learn} predictions are {learn / events:.3g} windows of {events}: with fewer than "
        f"{FEWEST_WINDOWS} their dependence is hardly known, and the promise of false alarms is only assumed: "
        f"raise it to {FEWEST_WINDOWS * events} or more"
    ]


def _on_rules(spec: ModelSpec) -> Iterator[str]:
    instead = "own `rules` replace the default ones"
    if not any(map(_about_errors, spec.rules)):
        yield (
            f"no rule is about errors, so errors roll nothing back ({instead}): add one on error_rate or on quality "
            "with `then: rollback`"
        )
    elif all(rule.then is Consequence.NONE for rule in spec.rules):
        yield f"no rule has a consequence, so nothing is rolled back ({instead}): add `then: rollback` to one"
    if spec.window.counted:
        for rule in spec.rules:
            if rule.min_n > spec.window.events:
                yield (
                    f"rule {rule.name} is never judged: min_n {rule.min_n} is more than window.events "
                    f"{spec.window.events}"
                )


def _about_errors(rule: RuleSpec) -> bool:
    info = METRICS.get(rule.metric)
    return rule.metric == "error_rate" or (info is not None and info.of_quality)
