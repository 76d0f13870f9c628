"""Who serves a model: what rules and commands make of it, as numbered decisions.

Pure. The moves themselves are in `fallback`; here they get their reasons, their alerts and their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from fallback import decisions
from fallback.chain import answering, below, tiers
from fallback.types import (
    BusinessRule,
    Condition,
    Decision,
    Health,
    Reason,
    Route,
    Serving,
    ServingSpec,
    Tier,
)
from monitor.alerting.episodes import AlertPublisher, SimpleEpisode
from monitor.alerting.records import AlertKind, Subject
from monitor.events.codes import VERSIONLESS_TIERS
from monitor.spec import Consequence, Severity


class Role(StrEnum):
    """What a version is to its model now."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    SHADOW = "shadow"
    PREVIOUS = "previous"
    OBSERVED = "observed"
    TIER = "level"


class ServingController:
    """The serving state of one model and the decisions made of it."""

    def __init__(self, model: str, spec: ServingSpec, salt: str, records: AlertPublisher) -> None:
        self._model = model
        self._spec = spec
        self._alerts = records
        self._salt = salt
        self.serving = decisions.initial(spec)
        self.generation = 0
        self.issued_at = 0
        self.reason = Reason.INITIAL
        self._rolled_back: dict[str, SimpleEpisode] = {}
        self._fallback = SimpleEpisode(Subject(model, "", AlertKind.FALLBACK))

    @staticmethod
    def of(model: str, state: Mapping[str, Any]) -> ServingController:
        """From a stored state, to read it only."""
        controller = ServingController(model, _spec(state["configured"]), "", AlertPublisher())
        controller.restore(state)
        return controller

    # -- reading -----------------------------------------------------------------------------------------

    def role(self, version: str) -> Role:
        """What a version is now."""
        s = self.serving
        if version in VERSIONLESS_TIERS:
            return Role.TIER
        if version == s.champion:
            return Role.CHAMPION
        if any(route.version == version for route in s.challengers):
            return Role.CHALLENGER
        if version in s.shadows:
            return Role.SHADOW
        return Role.PREVIOUS if version == s.previous else Role.OBSERVED

    def versions(self) -> set[str]:
        """All versions that the serving state names."""
        s = self.serving
        named = {s.champion, *(r.version for r in s.challengers), *s.shadows, *s.ensemble, *s.cohorts.values()}
        return named | ({s.previous} if s.previous is not None else set())

    # -- moving ------------------------------------------------------------------------------------------

    def begin(self, now: int) -> None:
        """The first decision of a model; nothing where there was one."""
        if self.generation == 0:
            self._decide(self.serving, Reason.INITIAL, None, now)

    def configure(self, before: ServingSpec, now: int) -> None:
        """Apply what changed in the configuration since `before`, once."""
        changed = decisions.reconfigured(self.serving, before, self._spec)
        if changed is not None:
            self._decide(changed, Reason.CONFIG, None, now)

    def breached(
        self, version: str, then: Consequence, cause: str | None, now: int, health: Callable[[str], Health]
    ) -> None:
        """A rule with a consequence began to fire on a version."""
        role = self.role(version)
        back = role is Role.CHAMPION and then is Consequence.ROLLBACK and Tier.PREVIOUS not in self.serving.failed
        if (role is Role.CHALLENGER or back) and self._roll_back(version, cause, now):
            return
        if version == answering(self.serving, self.serving.active):
            self._step_down(cause, now, health)

    def _roll_back(self, version: str, cause: str | None, now: int) -> bool:
        after = decisions.roll_back(self.serving, version)
        if after is None:
            return False
        champion = after.champion
        self._decide(after, Reason.RULE_BREACHED, cause, now)
        episode = self._rolled_back.setdefault(
            version, SimpleEpisode(Subject(self._model, version, AlertKind.ROLLBACK))
        )
        summary = f"{version} was rolled back, {champion} has its traffic"
        self._alerts.emit(episode.fire(Severity.CRITICAL, summary, now, now))
        return True

    def _step_down(self, cause: str | None, now: int, health: Callable[[str], Health]) -> None:
        """To the next level that is not known to fail itself; to the last one if all are."""
        s = self.serving
        while (after := decisions.step_down(s, s.active)) is not None:
            s = after
            fails = health(answering(s, s.active)) is Health.FAILED
            if not fails or not below(s, s.active):
                break
        if s is self.serving:
            return
        left = answering(self.serving, self.serving.active)
        self._decide(s, Reason.FALLBACK_ENGAGED, cause, now)
        summary = f"{left} failed, level {s.active.value} ({answering(s, s.active)}) answers"
        self._alerts.emit(self._fallback.fire(Severity.CRITICAL, summary, now, now))

    def recovered(self, health: Callable[[str], Health], now: int) -> None:
        """Go back up to the best failed level whose version is healthy again."""
        for tier in tiers(self.serving):
            if tier is self.serving.active:
                return
            if tier in self.serving.failed and health(answering(self.serving, tier)) is Health.HEALTHY:
                self._recover(tier, Reason.RECOVERED, now)
                return

    def _recover(self, tier: Tier, reason: Reason, now: int) -> bool:
        after = decisions.recover(self.serving, tier)
        if after is None:
            return False
        self._decide(after, reason, None, now)
        if tier is not Tier.PRIMARY:
            where = f"level {tier.value} ({answering(after, tier)}) answers again"
            self._alerts.emit(self._fallback.fire(Severity.WARNING, where, now, now))
        return True

    def roll_back_to(self, version: str, now: int) -> str:
        """An operator's rollback. -> what was done, in words."""
        before = self.serving.champion
        after = decisions.make_champion(self.serving, version)
        if after is None:
            return f"{version} is the champion already"
        self._decide(after, Reason.MANUAL_ROLLBACK, None, now)
        return f"champion {before} → {version}"

    def acknowledge(self, now: int) -> str:
        """An operator's `recover`: back to the primary level, rollbacks acknowledged. -> what was done."""
        done = []
        if self._recover(Tier.PRIMARY, Reason.MANUAL, now):
            done.append(f"level primary ({self.serving.champion}) answers again")
        for version, episode in self._rolled_back.items():
            if episode.firing:
                self._alerts.emit(episode.resolve("acknowledged by an operator", now))
                done.append(f"rollback of {version} acknowledged")
        return "; ".join(done) or "nothing to recover from"

    def _decide(self, serving: Serving, reason: Reason, cause: str | None, now: int) -> None:
        self.serving, self.reason, self.issued_at = serving, reason, now
        self.generation += 1
        self._alerts.decided(Decision(self._model, self.generation, now, reason, cause, serving, self._salt))
        if serving.active is Tier.PRIMARY:
            self._alerts.emit(self._fallback.resolve(f"{serving.champion} answers at the primary level", now))
        serving_again = {serving.champion, *(route.version for route in serving.challengers)}
        for version in serving_again & self._rolled_back.keys():
            self._alerts.emit(self._rolled_back[version].resolve(f"{version} has traffic again", now))

    # -- keeping -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """To be stored."""
        return {
            "generation": self.generation,
            "issued_at": self.issued_at,
            "reason": self.reason.value,
            "serving": asdict(self.serving),
            "rolled_back": {version: e.state() for version, e in self._rolled_back.items()},
            "fallback": self._fallback.state(),
            "configured": asdict(self._spec),
        }

    def restore(self, state: Mapping[str, Any]) -> ServingSpec:
        """The inverse of `state`. -> the configuration that was in force when it was stored."""
        self.generation = state["generation"]
        self.issued_at = state["issued_at"]
        self.reason = Reason(state["reason"])
        self.serving = Serving(
            **_serving(state["serving"]),
            active=Tier(state["serving"]["active"]),
            failed=tuple(map(Tier, state["serving"]["failed"])),
        )
        for version, saved in state["rolled_back"].items():
            episode = SimpleEpisode(Subject(self._model, version, AlertKind.ROLLBACK))
            episode.restore(saved)
            self._rolled_back[version] = episode
        self._fallback.restore(state["fallback"])
        return _spec(state["configured"])

    @property
    def firing(self) -> Iterable[SimpleEpisode]:
        """Episodes that go on."""
        return [e for e in (*self._rolled_back.values(), self._fallback) if e.firing]


def _serving(saved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "champion": saved["champion"],
        "previous": saved["previous"],
        "challengers": _routes(saved["challengers"]),
        "shadows": tuple(saved["shadows"]),
        "cohorts": dict(saved["cohorts"]),
        "chain": tuple(map(Tier, saved["chain"])),
        "ensemble": tuple(saved["ensemble"]),
        "rules": _rules(saved["rules"]),
        "default": saved["default"],
        "has_default": saved["has_default"],
    }


def _spec(saved: Mapping[str, Any]) -> ServingSpec:
    return ServingSpec(
        champion=saved["champion"],
        previous=saved["previous"],
        routes=_routes(saved["routes"]),
        shadows=tuple(saved["shadows"]),
        cohorts=dict(saved["cohorts"]),
        chain=tuple(map(Tier, saved["chain"])),
        ensemble=tuple(saved["ensemble"]),
        rules=_rules(saved["rules"]),
        default=saved["default"],
        has_default=saved["has_default"],
    )


def _routes(saved: Iterable[Mapping[str, Any]]) -> tuple[Route, ...]:
    return tuple(Route(**route) for route in saved)


def _rules(saved: Iterable[Mapping[str, Any]]) -> tuple[BusinessRule, ...]:
    rules = []
    for rule in saved:
        conditions = []
        for c in rule["when"]:
            value = tuple(c["value"]) if isinstance(c["value"], list) else c["value"]
            conditions.append(Condition(c["feature"], c["op"], value))
        rules.append(BusinessRule(tuple(conditions), rule["then"]))
    return tuple(rules)
