"""Who serves: what rules, health, commands and the configuration make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fallback.types import BusinessRule, Condition, Decision, Health, Reason, Route, Serving, ServingSpec, Tier
from monitor.alerting.records import AlertRecord
from monitor.pipeline.commands import FEWEST_TO_LEARN, LONGEST_SILENCE, CommandName
from monitor.saved import from_plain, to_plain
from monitor.serving.controller import ServingController
from monitor.serving.proposals import Action, HealthOf, Proposal, Proposer
from monitor.serving.role import Role, role
from monitor.serving.state import ServingState
from monitor.spec import Consequence, CoreSpec, ModelSpec, Severity
from monitor.store.engine import connect
from tests.monitor.kit import (
    HOUR,
    MINUTE,
    SECOND,
    T0,
    WALL,
    Event,
    Run,
    StoredRun,
    Told,
    a_core,
    a_drift,
    a_model,
    a_profile,
    a_rule,
    believed,
    counted,
    ends_of,
    from_file,
    learned,
    prediction,
    records_of,
    timed,
)

SERVING = ServingSpec(
    champion="v1",
    previous="v0",
    routes=(Route("v2", 1_000),),
    shadows=("v3",),
    cohorts={"internal": "v2"},
    rules=(BusinessRule((Condition("load", "in", ("high", "higher")), Condition("age", ">", 3)), 1),),
    default=0,
    has_default=True,
)


def well(version: str) -> Health:
    return Health.HEALTHY


def breach(version: str, then: Consequence, cause: str | None = None, rank: int = 0) -> Proposal:
    """What a rule with this consequence proposes when it begins to fire on a version."""
    action = Action.ROLL_BACK if then is Consequence.ROLLBACK else Action.STEP_DOWN
    return Proposal(Proposer.RULES, action, version, cause, rank)


class Controller:
    """A model's controller with what it has put out since that was last taken."""

    def __init__(self, spec: ServingSpec = SERVING, state: ServingState | None = None) -> None:
        self.controller = ServingController("m", spec, "m/0")
        if state is not None:
            self.controller.restore(state)
        self._out: list[AlertRecord | Decision] = []

    def decide(self, *proposals: Proposal, now: int, health: HealthOf = well) -> str:
        effects = self.controller.decide(proposals, health, now)
        self._out += effects.published
        return effects.words

    def take(self) -> list[Any]:
        out, self._out = self._out, []
        return out

    @property
    def serving(self) -> Serving:
        return self.controller.serving

    @property
    def stored(self) -> ServingState:
        """Its state as the database gives it back."""
        return from_plain(json.loads(json.dumps(to_plain(self.controller.state))), ServingState)


def started(spec: ServingSpec = SERVING) -> Controller:
    """A controller after its first decision."""
    found = Controller(spec)
    found.decide(Proposal.start(), now=1)
    found.take()
    return found


def decided(out: list[Any]) -> list[tuple[str, str, str]]:
    """(reason, champion, level) of the decisions."""
    return [(d.reason.value, d.serving.champion, d.serving.active.value) for d in out if not isinstance(d, AlertRecord)]


def alerted(out: list[Any]) -> list[tuple[str, str, str]]:
    """(kind, version, status) of the alerts."""
    return [(a.subject.kind.value, a.subject.version, a.status.value) for a in out if isinstance(a, AlertRecord)]


# -- deciding --------------------------------------------------------------------------------------------


def test_a_model_has_a_first_decision_and_only_one() -> None:
    found = Controller()

    found.decide(Proposal.start(), now=5)
    found.decide(Proposal.start(), now=6)

    (decision,) = found.take()
    assert not isinstance(decision, AlertRecord)
    assert (decision.reason, decision.generation, decision.issued_at, decision.salt) == (Reason.INITIAL, 1, 5, "m/0")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1", Role.CHAMPION), ("v2", Role.CHALLENGER), ("v3", Role.SHADOW), ("v0", Role.PREVIOUS),
        ("v9", Role.OBSERVED), ("rules", Role.TIER), ("default", Role.TIER),
    ],
)  # fmt: skip
def test_every_version_has_a_role(version: str, expected: Role) -> None:
    assert role(started().serving, version) is expected


@pytest.mark.parametrize("then", [Consequence.ROLLBACK, Consequence.FALLBACK])
def test_a_challenger_that_fails_loses_its_share_to_the_champion(then: Consequence) -> None:
    found = started()

    found.decide(breach("v2", then, "the cause"), now=9)

    out = found.take()
    assert decided(out) == [("rule_breached", "v1", "primary")]
    assert alerted(out) == [("rollback", "v2", "firing")]
    assert out[0].cause == "the cause"
    assert found.serving.challengers == ()


def test_a_champion_that_fails_is_rolled_back_to_the_previous_version() -> None:
    found = started()

    found.decide(breach("v1", Consequence.ROLLBACK), now=9)

    out = found.take()
    assert decided(out) == [("rule_breached", "v0", "primary")]
    assert alerted(out) == [("rollback", "v1", "firing")]
    assert found.serving.previous is None
    assert found.serving.challengers == (Route("v2", 1_000),)


def test_a_champion_without_a_previous_version_steps_down_instead() -> None:
    found = started(replace(SERVING, previous=None))

    found.decide(breach("v1", Consequence.ROLLBACK), now=9)

    assert decided(found.take()) == [("fallback_engaged", "v1", "rules")]


def test_a_fallback_keeps_the_routes_and_moves_the_level() -> None:
    found = started()

    found.decide(breach("v1", Consequence.FALLBACK, "why"), now=9)

    out = found.take()
    assert decided(out) == [("fallback_engaged", "v1", "previous")]
    assert alerted(out) == [("fallback", "", "firing")]
    assert found.serving.challengers == (Route("v2", 1_000),)
    assert found.serving.failed == (Tier.PRIMARY,)


def test_a_fallback_passes_over_levels_that_are_known_to_fail() -> None:
    found = started()

    def health(version: str) -> Health:
        return Health.FAILED if version == "v0" else Health.HEALTHY

    found.decide(breach("v1", Consequence.FALLBACK), now=9, health=health)

    assert decided(found.take()) == [("fallback_engaged", "v1", "rules")]
    assert found.serving.failed == (Tier.PRIMARY, Tier.PREVIOUS)


def test_the_last_level_of_a_chain_answers_though_all_are_known_to_fail() -> None:
    found = started()

    found.decide(breach("v1", Consequence.FALLBACK), now=9, health=lambda version: Health.FAILED)

    assert decided(found.take()) == [("fallback_engaged", "v1", "default")]


def test_a_level_that_does_not_answer_cannot_step_down() -> None:
    found = started()
    found.decide(breach("v1", Consequence.FALLBACK), now=9)
    found.take()

    found.decide(breach("v1", Consequence.FALLBACK), now=10)
    found.decide(breach("v3", Consequence.FALLBACK), now=10)
    found.decide(breach("v9", Consequence.ROLLBACK), now=10)
    assert found.take() == []

    found.decide(breach("v0", Consequence.FALLBACK), now=11)
    assert decided(found.take()) == [("fallback_engaged", "v1", "rules")]


def test_it_goes_back_up_to_the_best_level_that_is_well_again() -> None:
    found = started()
    for version, now in (("v1", 9), ("v0", 10)):
        found.decide(breach(version, Consequence.FALLBACK), now=now)
    found.take()

    def primary_fails(version: str) -> Health:
        return Health.FAILED if version == "v1" else Health.HEALTHY

    found.decide(Proposal.recover(), now=11, health=lambda version: Health.DEGRADED)
    assert found.take() == []
    found.decide(Proposal.recover(), now=12, health=primary_fails)
    out = found.take()
    assert (decided(out), alerted(out)) == ([("recovered", "v1", "previous")], [("fallback", "", "firing")])
    found.decide(Proposal.recover(), now=13)
    out = found.take()
    assert (decided(out), alerted(out)) == ([("recovered", "v1", "primary")], [("fallback", "", "resolved")])
    found.decide(Proposal.recover(), now=14)
    assert found.take() == []


def test_an_operator_acknowledges_what_happened() -> None:
    found = started()
    found.decide(breach("v2", Consequence.ROLLBACK), now=8)
    found.decide(breach("v1", Consequence.FALLBACK), now=9)
    found.take()

    done = found.decide(Proposal.acknowledge(), now=10)

    assert done == "level primary (v1) answers again; rollback of v2 acknowledged"
    out = found.take()
    assert decided(out) == [("manual", "v1", "primary")]
    assert alerted(out) == [("fallback", "", "resolved"), ("rollback", "v2", "resolved")]
    assert found.decide(Proposal.acknowledge(), now=11) == "nothing to recover from"
    assert found.take() == []


def test_a_version_that_gets_traffic_again_is_not_rolled_back_any_more() -> None:
    found = started()
    found.decide(breach("v1", Consequence.ROLLBACK), now=8)
    found.take()

    assert found.decide(Proposal.make_champion("v1"), now=9) == "champion v0 → v1"

    assert alerted(found.take()) == [("rollback", "v1", "resolved")]
    assert found.decide(Proposal.make_champion("v1"), now=10) == "v1 is the champion already"
    assert found.take() == []


def test_a_configuration_that_changes_is_applied_and_what_does_not_is_left() -> None:
    """A rollback stays in force; the previous configuration is what the new one is compared with."""
    found = started()
    found.decide(breach("v2", Consequence.ROLLBACK), now=8)
    after = replace(SERVING, shadows=("v3", "v4"))
    restored = Controller(after, found.stored)
    assert restored.controller.state.configured == SERVING

    restored.decide(Proposal.start(), now=9)
    restored.decide(Proposal.configure(after), now=9)

    assert decided(restored.take()) == [("config", "v1", "primary")]
    assert restored.serving.shadows == ("v3", "v4")
    assert restored.serving.challengers == ()
    assert restored.controller.state.generation == 3
    assert restored.controller.state.configured == after


def test_a_configuration_that_did_not_change_decides_nothing() -> None:
    found = started()
    found.decide(breach("v1", Consequence.FALLBACK), now=9)
    restored = Controller(SERVING, found.stored)

    restored.decide(Proposal.configure(SERVING), now=10)

    assert restored.take() == []
    assert restored.serving == found.serving
    assert restored.controller.state.generation == found.controller.state.generation == 2


def test_a_configuration_is_not_applied_by_the_look_that_makes_the_first_decision() -> None:
    """One decision a look: it is proposed again."""
    found, after = Controller(), replace(SERVING, shadows=())

    found.decide(Proposal.configure(after), Proposal.start(), now=5)
    found.decide(Proposal.configure(after), now=5)

    assert [reason for reason, *_ in decided(found.take())] == ["initial", "config"]


def test_a_stored_state_comes_back_as_it_was() -> None:
    found = started()
    found.decide(breach("v1", Consequence.ROLLBACK), now=9)

    assert found.stored == found.controller.state


# -- on a stream -----------------------------------------------------------------------------------------

FAILS = a_rule("errors", "error_rate", above=0.1, hard=True, severity=Severity.CRITICAL)


def answers(
    count: int, failing: range = range(0), *, version: str = "v1", prefix: str = "r", start: int = 0, **more: Any
) -> Iterator[Event]:
    """An answer a second; those within `failing` fail."""
    for i in range(start, start + count):
        error = {"error": "Timeout"} if i in failing else {}
        yield prediction(f"{prefix}{i}", T0 + i * SECOND, None if error else 1.0, version=version, **error, **more)


def a_served_model(then: Consequence, **parts: Any) -> ModelSpec:
    parts = {"serving": SERVING, "window": counted(50, 50), **parts}
    return a_model(rules=(replace(FAILS, then=then),), **parts)


def told_of(model: ModelSpec, events: Iterator[Event], *, replay: bool = False) -> Told:
    records = records_of(events)
    run = Run(a_core(model), ends_of(records) if replay else None)
    run.feed(records)
    return run.finish()


def test_a_decision_names_the_alert_that_caused_it() -> None:
    told = told_of(a_served_model(Consequence.FALLBACK), answers(100, range(50, 100)))

    (rule,) = told.alerts("metric")
    _, decision = told.decisions()
    assert decision["cause"] == rule["event_id"]
    assert (decision["active_level"], decision["champion"], decision["generation"]) == ("previous", "v1", 2)
    assert [(r["version"], r["weight"]) for r in decision["routes"]] == [("v2", 1_000), ("v1", 9_000)]


def test_a_failed_version_is_shadowed_while_another_serves_and_recovers_on_what_its_shadow_answers_show() -> None:
    """Three calm windows end the alert; then it has to stay well for `recover_after`."""
    model = a_served_model(Consequence.FALLBACK, recover_after=100 * SECOND)
    events = [*answers(100, range(50, 100)), *answers(600, start=100, served=False)]

    told = told_of(model, iter(events), replay=True)

    initial, engaged, recovered = told.decisions()
    assert initial["shadows"] == ["v3"]
    assert engaged["shadows"] == ["v3", "v1"]
    assert (recovered["reason"], recovered["active_level"], recovered["shadows"]) == ("recovered", "primary", ["v3"])
    (end,) = (a for a in told.alerts("metric") if a["status"] == "resolved")
    # The third calm window ends at 250 s and begins the wait; the fifth is the first that ends 100 s later.
    assert end["issued_at"].endswith(moment(249))
    assert recovered["issued_at"].endswith(moment(349))


def moment(seconds: int) -> str:
    """How a time so long after T0 ends, which is at the full minute."""
    return f":{seconds % 60:02d}.000Z"


def test_without_answers_of_its_own_a_failed_version_does_not_recover() -> None:
    """Silence is no evidence."""
    model = a_served_model(Consequence.FALLBACK)
    events = [*answers(100, range(50, 100)), *answers(600, start=100, version="v0")]

    assert [d["reason"] for d in told_of(model, iter(events)).decisions()] == ["initial", "fallback_engaged"]


def test_live_a_version_has_to_stay_well_for_so_long_by_the_clock_on_the_wall() -> None:
    run = Run(a_core(a_served_model(Consequence.FALLBACK, recover_after=HOUR)))
    records = records_of([*answers(100, range(50, 100)), *answers(500, start=100)])
    run.feed(records[:400], wall=WALL)
    run.feed(records[400:500], wall=WALL + HOUR - 1)
    before = run.model.controller.serving.active

    run.feed(records[500:], wall=WALL + HOUR)

    assert [before, run.model.controller.serving.active] == [Tier.PREVIOUS, Tier.PRIMARY]


def test_a_relapse_begins_the_wait_anew() -> None:
    model = a_served_model(Consequence.FALLBACK, recover_after=100 * SECOND)
    failing = [i for start in (50, 260) for i in range(start, start + 50)]
    events = [{**e, "prediction": None, "error": "Timeout"} if i in failing else e for i, e in enumerate(answers(800))]

    decisions = told_of(model, iter(events), replay=True).decisions()

    assert [d["reason"] for d in decisions] == ["initial", "fallback_engaged", "recovered"]
    assert decisions[-1]["issued_at"].endswith(moment(599))


def test_a_rule_on_a_challenger_acts_on_the_challenger_alone() -> None:
    events = [
        e
        for pair in zip(answers(100, prefix="a"), answers(100, range(50, 100), version="v2"), strict=True)
        for e in pair
    ]

    told = told_of(a_served_model(Consequence.ROLLBACK), iter(events))

    decision = told.decisions()[-1]
    assert [(r["version"], r["weight"]) for r in decision["routes"]] == [("v1", 10_000)]
    assert [(a["version"], a["status"]) for a in told.alerts("rollback")] == [("v2", "firing")]
    assert told.status["models"]["m"]["versions"]["v2"]["role"] == "observed"
    assert told.status["models"]["m"]["versions"]["v2"]["health"] == "failed"


def test_health_follows_the_severity_of_what_fires() -> None:
    warns = a_rule("slow", "latency_p95_ms", above=5, hard=True)
    run = Run(a_core(a_model(window=counted(50, 50), rules=(warns, FAILS))))
    run.events(*answers(50))
    assert run.told().status["models"]["m"]["versions"]["v1"]["health"] == "healthy"
    run.events(*answers(50, start=50, latency_ms=9.0))
    assert run.told().status["models"]["m"]["versions"]["v1"]["health"] == "degraded"
    run.events(*answers(50, range(100, 150), start=100))
    assert run.told().status["models"]["m"]["versions"]["v1"]["health"] == "failed"


# -- configuration ---------------------------------------------------------------------------------------


def restarted(tmp_path: Path, before: ModelSpec, after: ModelSpec, events: int = 60) -> StoredRun:
    """A run that went on under another configuration, twice."""
    run = StoredRun(a_core(before), engine=connect(f"sqlite:///{tmp_path}/driftd.db"))
    records = records_of(answers(3 * events))
    run.feed(records[:events])
    run.commit()
    for i in (1, 2):
        run.restart(a_core(after))
        run.feed(records[i * events : (i + 1) * events])
        run.commit()
    return run


def test_a_champion_that_is_configured_anew_is_decided_once(tmp_path: Path) -> None:
    before = a_served_model(Consequence.NONE)
    run = restarted(tmp_path, before, replace(before, serving=replace(SERVING, champion="v7")))

    told = run.told()
    assert [(d["reason"], d["champion"]) for d in told.decisions()] == [("initial", "v1"), ("config", "v7")]
    # By the time of the stream, as in a replay, though the daemon was started at quite another one.
    assert [d["issued_at"] < "2023-11-15" for d in told.decisions()] == [True, True]


def test_an_alert_of_a_rule_that_is_gone_is_resolved(tmp_path: Path) -> None:
    before = a_model(window=counted(50, 50), rules=(a_rule("any", "predictions", above=1, hard=True),))
    run = restarted(tmp_path, before, replace(before, rules=()))

    assert [(a["status"], a["summary"]) for a in run.told().alerts()] == [
        ("firing", "any: predictions 50 is above 1"),
        ("resolved", "not configured any more"),
    ]


def test_a_rule_that_is_new_begins_anew_and_the_others_go_on(tmp_path: Path) -> None:
    any_ = a_rule("any", "predictions", above=1, hard=True, checks=3)
    before = a_model(window=counted(50, 50), rules=(any_,))
    run = restarted(tmp_path, before, replace(before, rules=(any_, replace(any_, name="new"))))

    assert [a["rule"] for a in run.told().alerts()] == ["any"]
    assert run.told().status["models"]["m"]["versions"]["v1"]["pending"] == ["new"]


# -- commands --------------------------------------------------------------------------------------------


def commanded(name: CommandName, core: CoreSpec | None = None, **arguments: Any) -> tuple[str, Told]:
    """What a command answers after some events, and what was told."""
    run = Run(core or a_core(a_model(serving=SERVING, drift=a_drift(), reference=learned(150))))
    run.events(*answers(120, features={"x": 1.0}))
    result = run.command(name, **arguments)
    return result, run.told()


NO_VERSION = "is no version of m; there are v0, v1, v2, v3"
NO_TIME = f"milliseconds are needed, at most {LONGEST_SILENCE}"


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        (CommandName.ROLLBACK, {}, f"refused: to: None {NO_VERSION}"),
        (CommandName.ROLLBACK, {"to": "v77"}, f"refused: to: 'v77' {NO_VERSION}"),
        (CommandName.ROLLBACK, {"to": "default"}, f"refused: to: 'default' {NO_VERSION}"),
        (CommandName.ROLLBACK, {"to": ["v1"]}, f"refused: to: ['v1'] {NO_VERSION}"),
        (CommandName.SILENCE, {}, f"refused: for_ms: None: {NO_TIME}"),
        (CommandName.SILENCE, {"for_ms": -5}, f"refused: for_ms: -5: {NO_TIME}"),
        (
            CommandName.SILENCE, {"for_ms": 10**15},
            f"refused: for_ms: {10**15}: {NO_TIME}",
        ),
        (CommandName.SILENCE, {"for_ms": 5, "version": 7}, "refused: version: 7 is no version"),
        (CommandName.RELEARN, {"events": "many"}, "refused: events: 'many': a number from 100 to 1000000 is needed"),
        (
            CommandName.RELEARN, {"events": FEWEST_TO_LEARN - 1},
            "refused: events: 99: a number from 100 to 1000000 is needed",
        ),
        (CommandName.REFERENCE, {}, "refused: the reference that came with the command cannot be read"),
        (CommandName.UNKNOWN, {}, "refused: this release does not know the command"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_answered_and_change_nothing(
    name: CommandName, arguments: dict[str, Any], says: str
) -> None:
    result, told = commanded(name, **arguments)

    assert result == says
    assert [d["reason"] for d in told.decisions()] == ["initial"]


def test_an_unknown_kind_of_alert_cannot_be_silenced() -> None:
    result, _ = commanded(CommandName.SILENCE, for_ms=5, kind="noise")

    assert result.startswith("refused: kind: 'noise': one of drift, concept_drift, metric")


def test_a_command_for_a_model_that_is_not_configured_is_answered() -> None:
    assert commanded(CommandName.RECOVER, model="who")[0] == "refused: who is not configured"


@pytest.mark.parametrize("name", [CommandName.RELEARN, CommandName.REFERENCE])
def test_where_drift_is_not_watched_there_is_no_reference_to_replace(name: CommandName) -> None:
    profile = a_profile([{"x": 1.0}] * 10) if name is CommandName.REFERENCE else None
    arguments = {} if profile is None else {"profile": profile}

    assert commanded(name, a_core(a_model()), **arguments)[0] == "refused: drift is not watched for m"


def test_a_manual_rollback_is_a_decision() -> None:
    result, told = commanded(CommandName.ROLLBACK, to="v0")

    assert result == "champion v1 → v0"
    assert [(d["reason"], d["champion"]) for d in told.decisions()] == [("initial", "v1"), ("manual_rollback", "v0")]


def test_a_version_that_was_only_seen_can_be_rolled_back_to() -> None:
    run = Run(a_core(a_model(serving=SERVING)))
    run.events(*answers(5, version="v9"))

    assert run.command(CommandName.ROLLBACK, to="v9") == "champion v1 → v9"


def test_a_new_reference_is_in_force_at_once_and_ends_what_the_old_one_said() -> None:
    model = a_model(window=counted(100, 50), drift=a_drift(events=100_000), reference=from_file())
    run = Run(a_core(model), profiles={"m": a_profile([{"x": float(i % 10)} for i in range(500)])})
    run.events(*(prediction(f"a{i}", T0 + i * SECOND, features={"x": 50.0 + i % 10}) for i in range(200)))
    assert [a["status"] for a in run.told().alerts("drift")] == ["firing"]

    profile = a_profile([{"x": 50.0 + i % 10} for i in range(500)])
    assert run.command(CommandName.REFERENCE, profile=profile) == "the new reference is in force"
    run.events(*(prediction(f"b{i}", T0 + i * SECOND, features={"x": 50.0 + i % 10}) for i in range(200, 400)))

    assert [(a["status"], a["summary"]) for a in run.told().alerts("drift")][1:] == [
        ("resolved", "the reference was replaced")
    ]


def test_a_reference_is_learned_anew_from_the_next_answers() -> None:
    result, _ = commanded(CommandName.RELEARN)
    assert result == "the reference is learned from the next 150 answers"

    model = a_model(window=timed(MINUTE, MINUTE), drift=a_drift(), reference=from_file())
    run = Run(a_core(model), profiles={"m": a_profile([{"x": 1.0}] * 50)})
    run.command(CommandName.RELEARN, events=100)
    found = []
    last = believed(*answers(1, start=120, features={"y": 1.0}))
    for events in (answers(120, features={"y": 1.0}), last):  # the second pane, in which there are 100, ends with it
        run.events(*events)
        profile = run.model.references.profile
        found.append(None if profile is None else [f.name for f in profile.features])

    assert found == [None, ["y"]]
