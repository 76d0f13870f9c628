"""What of a version cannot be judged, as the looks at its window and at its outcomes find it.

Pure. A look tells what it could judge. What is not judged now may be later, so most of it is told only where it lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from monitor.aggregation.metrics import METRICS
from monitor.alerting.blind import BlindAlerts, Blindness, Cause, Patience, Waiting, listed
from monitor.alerting.records import AlertRecord
from monitor.evaluation.drift_checks import CheckedFeatures
from monitor.evaluation.evaluator import Look, SeenOutcomes
from monitor.evaluation.rules import SKIPPED, RuleVerdict
from monitor.evaluation.version_state import RuleInstance, VersionState
from monitor.reference.active import ReferenceSet
from monitor.reference.progress import ReferenceStatus, progress_of
from monitor.spec import FeatureKind, ModelSpec, WindowSpec
from monitor.times import duration_words

_WEEK: Final = 7 * 86_400_000  # ms: what is judged now and then may follow the days of the week
WINDOWS: Final = 10  # windows without a judgement that are too many, where windows are counted
_LEAST: Final = 10.0  # values that a feature would have had: none comes by chance once in 20 000 times
_PANES: Final = 20_000  # of a window at its longest, as far as the configuration allows
_UNLABELLED: Final = 1_000  # predictions: of 1 % with an outcome, none comes by chance once in 20 000 times
_OUTCOMES: Final = "outcomes"
_RULE: Final = "rule "
_TEST: Final = "test "


class BlindVersions:
    """Follows what of each version waits to be judged. `alerts` are those of the model."""

    def __init__(self, spec: ModelSpec, references: ReferenceSet, alerts: BlindAlerts) -> None:
        self._spec, self._references, self.alerts = spec, references, alerts
        window = spec.window
        first, again = window.longest, longer(window.longest)
        if window.counted:
            first, again = WINDOWS * window.events, WINDOWS * WINDOWS * window.events
        self._patience = Patience(first, again)
        self._learning = (WINDOWS - 1) * first  # learning may take longer than anything else

    def on_check(self, state: VersionState, look: Look) -> list[AlertRecord]:
        """Take in that the window of a version was checked."""
        if not state.window.events:
            return []
        records = self._window(state) + self._reference(state)
        if look.checked is not None:
            records += self._features(state, look.checked) + self._tests(state, look.checked)
        return records + self._rules(state, of_outcomes=False)

    def on_outcomes(self, state: VersionState, look: Look, now: int) -> list[AlertRecord]:
        """Take in that outcomes of a version were judged, at `now` ms."""
        window = self._spec.window
        records: list[AlertRecord] = []
        if not look.quality:
            return records
        for seen in look.quality:
            at = self._place(state) if window.counted else now
            if seen.joined:
                self._patience.judged(state.version, _OUTCOMES, at)
                records += self.alerts.tell(state.version, Cause.OUTCOMES, None, now)
                continue
            full = seen.final and seen.expected >= max(window.min_events, 1)
            if full and self._lacks_outcomes(state.version, seen, at):
                records += self.alerts.tell(state.version, Cause.OUTCOMES, self._unjoined(seen.expected), now)
        return records + (self._rules(state, of_outcomes=True) if look.quality[-1].joined else [])

    def _lacks_outcomes(self, version: str, seen: SeenOutcomes, at: int) -> bool:
        """Tell whether outcomes are missing for too long, and of too many predictions for few to have one."""
        overdue = self._patience.overdue(version, _OUTCOMES, at, at)
        count = self._patience.count(version, _OUTCOMES, seen.first, seen.last, seen.expected)
        return overdue and (count >= _UNLABELLED or self._patience.is_lasting(version, _OUTCOMES, at))

    def _place(self, state: VersionState) -> int:
        """Return where the window of a version is, in the unit of patience."""
        if not self._spec.window.counted:
            return state.window.end
        return (state.window.first_pane + len(state.window)) * self._spec.window.every

    def _began(self, state: VersionState) -> int:
        """Return where the latest pane of a version began, in the unit of patience; of counted ones the window."""
        window = self._spec.window
        return self._place(state) - (window.events if window.counted else window.pane)

    def _window(self, state: VersionState) -> list[AlertRecord]:
        window, now, events = self._spec.window, state.window.end, state.window.events
        if window.counted or not (self._spec.drift or self._spec.rules):
            return []
        if events >= window.min_events:
            self._patience.judged(state.version, "window", now)
            return self.alerts.tell(state.version, Cause.WINDOW, None, now)
        if not self._patience.overdue(state.version, "window", self._began(state), now):
            return []
        return self.alerts.tell(state.version, Cause.WINDOW, Blindness(
            f"the window of {state.version} cannot be judged: it holds {events} predictions within "
            f"{duration_words(window.longest)} (window.max_span) and needs {window.min_events}: "
            f"{_longer(window, events)}"
        ), now)  # fmt: skip

    def _reference(self, state: VersionState) -> list[AlertRecord]:
        """Tell where windows hold enough, but what they would be compared with is still being learned."""
        known, now, enough = progress_of(self._references), state.window.end, self._spec.window.min_events
        if known.state is not ReferenceStatus.LEARNING:
            self._patience.forget(state.version, ["reference"])
            return self.alerts.tell(state.version, Cause.REFERENCE, None, now)
        if state.window.events < enough:
            return []
        began = self._began(state) + self._learning
        if not self._patience.overdue(state.version, "reference", began, self._place(state)):
            return []
        return self.alerts.tell(state.version, Cause.REFERENCE, Blindness(
            f"no drift of {state.version} can be judged, because the reference is still being learned: it has "
            f"{known.rows} of the {known.wanted} predictions it needs: set reference.learn to {max(known.rows, 1)} or "
            "less, or give a table of the training data"
        ), now)  # fmt: skip

    def _features(self, state: VersionState, checked: CheckedFeatures) -> list[AlertRecord]:
        now = state.window.end
        held = {name for s in self.alerts.firing if (s.version, s.cause) == (state.version, Cause.FEATURES)
                for name in s.names}  # fmt: skip
        names = sorted(name for name, n in checked.unseen.items() if n >= _LEAST or name in held)
        if not names:
            return [] if checked.unseen else self.alerts.tell(state.version, Cause.FEATURES, None, now)
        if held == set(names):
            return []
        told = [f"{len(names)} of {checked.compared} features of the reference never came: {listed(names)}"]
        mistyped = [name for name in names if name in checked.mistyped]
        if mistyped:
            told.append(f"{listed(mistyped)}: another type, text or true/false where the reference has numbers")
        instead = self._references.instead(names, now)
        if instead:
            told.append(f"not in the reference, but in the events: {listed(instead)}")
        fix = "name and type both alike, or set `features: {NAME: ignore}`"
        return self.alerts.tell(
            state.version, Cause.FEATURES, Blindness(f"{'; '.join(told)}: {fix}", tuple(names)), now
        )  # fmt: skip

    def _tests(self, state: VersionState, checked: CheckedFeatures) -> list[AlertRecord]:
        at, began, now = self._place(state), self._began(state), state.window.end
        waiting = self._patience.waiting.get(state.version, {})
        for key in [key for key in waiting if key.startswith(_TEST) and key[len(_TEST) :] not in checked.blind]:
            self._patience.judged(state.version, key, at)
        names = [n for n in checked.blind if self._patience.overdue(state.version, _TEST + n, began, at)]
        held = [s for s in self.alerts.firing if (s.version, s.cause) == (state.version, Cause.TESTS)]
        if not names:
            return [] if held and checked.blind else self.alerts.tell(state.version, Cause.TESTS, None, now)
        return self.alerts.tell(state.version, Cause.TESTS, Blindness(
            f"no difference of {listed(names)} could be significant: with {state.window.events} predictions the window "
            "is too small for drift.false_alarms: set a larger window, or allow more false alarms", tuple(names),
        ), now)  # fmt: skip

    def _rules(self, state: VersionState, *, of_outcomes: bool) -> list[AlertRecord]:
        """Tell of rules of the user's own that are never judged, though the window holds enough."""
        window, now = self._spec.window, state.window.end
        if not self._spec.own_rules or state.window.events < window.min_events:
            return []
        at, began, overdue = self._place(state), self._began(state), []
        held = {n for s in self.alerts.firing if (s.version, s.cause) == (state.version, Cause.RULES)
                for n in s.names}  # fmt: skip
        for rule in state.rules:
            if _of_outcomes(rule) is not of_outcomes:
                continue
            name, key = rule.rule.name, _RULE + rule.rule.name
            if rule.verdict not in SKIPPED:
                self._patience.judged(state.version, key, at)
            elif rule.verdict is RuleVerdict.NO_BASELINE and name not in held and self._warms_up(state, of_outcomes):
                self._patience.forget(state.version, [key])
            elif self._patience.overdue(state.version, key, began + self._delay(rule), at):
                overdue.append(rule)
        return self._tell_rules(state, overdue, held, of_outcomes=of_outcomes, now=now)

    def _delay(self, rule: RuleInstance) -> int:
        """Return how much later than answers the metric of a rule may come, in the unit of patience."""
        outcomes = self._spec.outcomes
        if self._spec.window.counted or outcomes is None or rule.rule.metric in METRICS:
            return 0
        return outcomes.prediction_ttl  # one of the user's own may come with outcomes

    def _warms_up(self, state: VersionState, of_outcomes: bool) -> bool:
        """Tell whether a version has not sent enough yet for a baseline of its own."""
        if not of_outcomes or state.outcomes is None or self._spec.outcomes is None:
            return not state.baseline.complete
        return state.outcomes.baseline_pairs < self._spec.outcomes.baseline_n

    def _tell_rules(
        self, state: VersionState, overdue: list[RuleInstance], held: set[str], *, of_outcomes: bool, now: int
    ) -> list[AlertRecord]:
        others = {r.rule.name for r in state.rules if _of_outcomes(r) is not of_outcomes} & held
        names = sorted({r.rule.name for r in overdue} | others)
        if not names:
            return self.alerts.tell(state.version, Cause.RULES, None, now)
        rules = [rule for rule in state.rules if rule.rule.name in names]
        words = [f"{r.rule.name} ({r.rule.metric}: {self._unjudged(state, r)})" for r in rules]
        unfounded = any(r.verdict is RuleVerdict.NO_BASELINE for r in rules)
        absolute = "set limits without a baseline, " if unfounded else ""
        return self.alerts.tell(state.version, Cause.RULES, Blindness(
            f"rules that cannot be judged: {listed(words)}: send what their metrics are made of, lower min_n, "
            f"{absolute}or take them out", tuple(names),
        ), now)  # fmt: skip

    def _unjudged(self, state: VersionState, rule: RuleInstance) -> str:
        """Say why a rule is not judged."""
        if rule.verdict is RuleVerdict.NO_DATA:
            known = self._patience.waiting.get(state.version, {}).get(_RULE + rule.rule.name)
            return "not there any more" if known is not None and known.ever else "never there"
        return "no baseline yet" if rule.verdict is RuleVerdict.NO_BASELINE else f"fewer than min_n {rule.rule.min_n}"

    def _unjoined(self, expected: int) -> Blindness:
        outcomes = self._spec.outcomes
        within = "" if outcomes is None else duration_words(outcomes.prediction_ttl)
        return Blindness(
            f"no outcome meets its prediction: none of {expected} predictions has one within {within} "
            "(outcomes.within): send outcomes in time and with the request_id of their prediction, or set "
            "`outcomes: null`"
        )

    # -- what is stored ----------------------------------------------------------------------------------

    def keep(self, versions: Iterable[str]) -> None:
        """Forget what waits of other versions."""
        kept = set(versions)
        for version in self._patience.waiting.keys() - kept:
            del self._patience.waiting[version]

    def forget_tests(self) -> None:
        """Forget what waits to be compared: with another reference it begins anew."""
        self._forget(lambda key: key.startswith(_TEST))

    def forget_unconfigured(self) -> None:
        """Forget what waits of features that are ignored and of rules that are gone."""
        rules = {_RULE + rule.name for rule in self._spec.rules}
        ignored = {_TEST + name for name in ignored_features(self._spec)}
        self._forget(lambda key: key in ignored or (key.startswith(_RULE) and key not in rules))

    def _forget(self, is_void: Callable[[str], bool]) -> None:
        for version, waiting in self._patience.waiting.items():
            self._patience.forget(version, [key for key in waiting if is_void(key)])

    def saved(self) -> dict[str, dict[str, Waiting]]:
        """Return what waits, by version."""
        return {version: dict(waiting) for version, waiting in sorted(self._patience.waiting.items())}

    def restore(self, saved: Mapping[str, Mapping[str, Waiting]]) -> None:
        """Go on with what `saved` returned."""
        self._patience.waiting = {version: dict(waiting) for version, waiting in saved.items()}


def longer(limit: int) -> int:
    """Return the limit, ms, of what came before, where `limit` is that of what never came."""
    return max(WINDOWS * limit, _WEEK)


def ignored_features(spec: ModelSpec) -> set[str]:
    """Return the features that are not watched, though events may have them."""
    return {name for name, kind in spec.feature_kinds.items() if kind is FeatureKind.IGNORE}


def _longer(window: WindowSpec, events: int) -> str:
    """Say which window would hold enough, where so many events come within the longest one."""
    # So many events have one interval less between them: what is advised has to hold enough.
    least = math.ceil(window.min_events * window.longest / max(events - 1, 0.5))
    needed = duration_words(least)
    fewer = f", or window.min_events to {events}" if events >= _LEAST else ""
    if least <= _PANES * window.pane * 0.98:  # words round up
        return f"set window.max_span to {needed}{fewer}"
    return f"set window.span to {needed} and window.pane to 1{needed.lstrip('0123456789')}{fewer}"


def _of_outcomes(rule: RuleInstance) -> bool | None:
    """Tell whether a rule is judged with outcomes or with answers; None where neither is sure to have its metric."""
    info = METRICS.get(rule.rule.metric)
    if info is None:
        return False  # a metric of the user's own is judged wherever it comes
    return None if rule.rule.metric == "agreement" else info.needs_outcomes
