"""What the router tells is what the daemon understands: events go in, decisions come out, and the circle closes."""

from __future__ import annotations

from typing import Any

import pytest

from fallback.router import Features, Model, Request, Router
from fallback.types import ServingSpec, Tier
from monitor.spec import Consequence, OutcomesSpec, Severity
from monitor.stream.types import Batch
from tests.fallback.servings import A_RULE
from tests.monitor.kit import SECOND, T0, Run, Told, a_core, a_model, a_rule, counted, prediction, some_outcomes

SERVING = ServingSpec(
    "v1", "v0", shadows=("v2",), chain=(Tier.PREVIOUS, Tier.RULES, Tier.DEFAULT), rules=(A_RULE,), default=0.0,
    has_default=True,
)  # fmt: skip
RULE = a_rule("errors", "error_rate", above=0.2, severity=Severity.CRITICAL, then=Consequence.FALLBACK, hard=True)


class Application:
    """Asks a router, sends its events to a daemon, and follows what that decides."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.tiers: list[Tier] = []
        self.run = Run(a_core(a_model(window=counted(20, 20), rules=(RULE,), serving=SERVING)))
        self.run.process(Batch.empty(), T0)
        self.run.commit()
        self.router = Router("m", self.told.decisions()[0], {v: self.model(v) for v in ("v0", "v1", "v2")})

    @property
    def told(self) -> Told:
        """By the daemon, so far."""
        return self.run.told()

    def model(self, version: str) -> Model:
        def answer(features: Features) -> float:
            if version in self.broken:
                raise ConnectionError
            return 0.5

        return answer

    def ask(self, count: int) -> None:
        """So many requests, one a second."""
        for _ in range(count):
            number = len(self.tiers)
            at = T0 + number * SECOND
            request = Request(f"r{number}", at, {"load": number % 10 / 10}, key=f"user {number % 7}", segment="eu")
            served = self.router.answer(request)
            self.tiers.append(served.served_by)
            self.run.events(*served.events)
            for decision in self.told.decisions():
                self.router.follow(decision)


def test_events_of_the_router_are_accepted_as_they_are() -> None:
    """Served answers, failed attempts and shadows, of versions and of tiers: no dead letter, no repeat."""
    application = Application()
    for broken in (set[str](), {"v1"}, {"v0", "v1", "v2"}):
        application.broken = broken
        application.ask(5)
    status: dict[str, Any] = application.told.status

    assert application.told.dead_letters == []
    assert status["join"]["duplicates"] == 0
    assert {v: found["predictions"] for v, found in status["models"]["m"]["versions"].items()} == {
        "v1": 15, "v2": 15, "v0": 10, "default": 5
    }  # fmt: skip


@pytest.mark.parametrize("outcomes", [None, some_outcomes()])
@pytest.mark.parametrize("together", [True, False])
def test_a_served_answer_counts_after_a_failed_attempt(outcomes: OutcomesSpec | None, together: bool) -> None:
    """The same request, another version: no repeat, whether outcomes are expected or not."""
    run = Run(a_core(a_model(window=counted(20, 20), outcomes=outcomes)))
    failed = prediction("r", T0, None, version="v1", served=False, error="ConnectionError")
    served = prediction("r", T0, 0.5, version="v0", served_by="previous")
    for events in [(failed, served, served)] if together else [(failed,), (served,), (served,)]:
        run.events(*events)
    found = run.told().status

    assert found["join"]["duplicates"] == 1
    assert {v: s["predictions"] for v, s in found["models"]["m"]["versions"].items()} == {"v0": 1, "v1": 1}


def test_a_champion_that_fails_is_left_and_comes_back() -> None:
    """Its failures are told, the daemon steps down; as a shadow it shows that it is well, and answers again."""
    application = Application()
    application.ask(60)
    application.broken = {"v1"}
    application.ask(60)
    application.broken = set()
    application.ask(100)

    assert [d["reason"] for d in application.told.decisions()] == ["initial", "fallback_engaged", "recovered"]
    assert application.tiers[:60] == [Tier.PRIMARY] * 60
    assert application.tiers[60:120] == [Tier.PREVIOUS] * 60
    assert application.tiers[-1] is Tier.PRIMARY
