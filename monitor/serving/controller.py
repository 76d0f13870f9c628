"""The serving of one model: numbers decisions, and fires and resolves the alerts that go with them.

Pure. Transitions are in `fallback.decisions`, and the choice among proposals in `proposals`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fallback.chain import answering
from fallback.types import Decision, Serving, ServingSpec, Tier
from monitor.alerting.episodes import EpisodeState, SimpleEpisode
from monitor.alerting.records import AlertKind, AlertRecord, Subject
from monitor.serving.proposals import Action, Change, HealthOf, Precedence, Proposal, ServingEffects, choose
from monitor.serving.state import ServingState
from monitor.spec import Severity


class ServingController:
    """The serving state of one model, and the only place where it changes."""

    def __init__(self, model: str, spec: ServingSpec, salt: str) -> None:
        self._model, self._salt = model, salt
        self.state = ServingState.of(spec)

    @property
    def serving(self) -> Serving:
        """The current serving state."""
        return self.state.serving

    def restore(self, state: ServingState) -> None:
        """Go on with a stored state."""
        self.state = state

    def decide(self, proposals: Collection[Proposal], health: HealthOf, now: int) -> ServingEffects:
        """Make at most one decision of the proposals of one look.

        Args:
            proposals: In any order; `proposals` documents which one is chosen.
            health: Health of versions after the look.
            now: Stream time, ms.

        Returns:
            The decision, its alerts, and what to answer an operator.

        Raises:
            ValueError: The shares of a proposed configuration are impossible.
        """
        before = self.serving
        change = choose(proposals, self.state, health)
        for proposal in proposals:
            # What comes before it, the first decision, leaves the configuration to be applied.
            if proposal.configuration is not None and (change is None or change.precedence >= Precedence.CONFIGURE):
                self.state.configured = proposal.configuration
        if change is None:
            return ServingEffects(words=_nothing_done(proposals))
        decision, resolved = None, []
        if change.serving is not None:
            decision = self._decision(change, change.serving, now)
            resolved = self._resolve_ended(now)
        records, words = self._alerts(change, before, now)
        return ServingEffects(decision, tuple(r for r in (*resolved, *records) if r is not None), words)

    def _decision(self, change: Change, serving: Serving, now: int) -> Decision:
        state = self.state
        state.serving, state.reason, state.issued_at = serving, change.reason, now
        state.by, state.cause = change.proposal.by, change.proposal.cause
        state.generation += 1
        return Decision(
            self._model, state.generation, now, change.reason, state.cause, serving, self._salt, state.by
        )  # fmt: skip

    def _resolve_ended(self, now: int) -> list[AlertRecord | None]:
        """Resolve the fallback once the primary tier answers, and rollbacks of versions that have traffic again."""
        serving, records = self.serving, []
        if serving.active is Tier.PRIMARY:
            records.append(self._fallback.resolve(f"{serving.champion} answers at the primary level", now))
        for version in (serving.champion, *(route.version for route in serving.challengers)):
            records.append(self._rollback(version).resolve(f"{version} has traffic again", now))
        return records

    def _alerts(self, change: Change, before: Serving, now: int) -> tuple[Sequence[AlertRecord | None], str]:
        """Return the alerts of a change, and what to answer an operator."""
        version, serving = change.proposal.version, self.serving
        match change.proposal.action, change.precedence:
            case Action.MAKE_CHAMPION, _:
                return (), f"champion {before.champion} → {version}"
            case Action.ACKNOWLEDGE, _:
                return self._acknowledged(change, now)
            case _, Precedence.ROLL_BACK_CHALLENGER | Precedence.ROLL_BACK_CHAMPION:
                summary = f"{version} was rolled back, {serving.champion} has its traffic"
                alert = self._rollback(version, known=True)
                return (alert.fire(Severity.CRITICAL, summary, now, now),), ""
            case _, Precedence.STEP_DOWN:
                tier, left = serving.active, answering(before, before.active)
                summary = f"{left} failed, level {tier.value} ({answering(serving, tier)}) answers"
                return (self._fallback.fire(Severity.CRITICAL, summary, now, now),), ""
            case _, Precedence.RECOVER if serving.active is not Tier.PRIMARY:
                tier = serving.active
                summary = f"level {tier.value} ({answering(serving, tier)}) answers again"
                return (self._fallback.fire(Severity.WARNING, summary, now, now),), ""
            case _:
                return (), ""

    def _acknowledged(self, change: Change, now: int) -> tuple[Sequence[AlertRecord | None], str]:
        done = [] if change.serving is None else [f"level primary ({change.serving.champion}) answers again"]
        records = []
        for version in self.state.rolled_back:
            record = self._rollback(version).resolve("acknowledged by an operator", now)
            if record is not None:
                records.append(record)
                done.append(f"rollback of {version} acknowledged")
        return records, "; ".join(done)

    @property
    def _fallback(self) -> SimpleEpisode:
        return SimpleEpisode(Subject(self._model, "", AlertKind.FALLBACK), self.state.fallback)

    def _rollback(self, version: str, *, known: bool = False) -> SimpleEpisode:
        """Return the alert about the rollback of a version; with `known` it is stored from now on."""
        alerts, new = self.state.rolled_back, EpisodeState()
        alert = alerts.setdefault(version, new) if known else alerts.get(version, new)
        return SimpleEpisode(Subject(self._model, version, AlertKind.ROLLBACK), alert)


def _nothing_done(proposals: Collection[Proposal]) -> str:
    """Return what to answer an operator whose proposal changes nothing."""
    for proposal in proposals:
        match proposal.action:
            case Action.MAKE_CHAMPION:
                return f"{proposal.version} is the champion already"
            case Action.ACKNOWLEDGE:
                return "nothing to recover from"
    return ""
