"""Proposals of serving decisions, and the reducer that chooses one of them.

Rules, operators and the configuration propose; nobody but the reducer decides, once per look. A look is one check
of one version's window, one judging of landed outcomes of one version, or one command of an operator. Each
proposal is worked out against the serving state before the look. Of those that would change something the first
by `Precedence` is chosen, within one precedence the one with the lowest rank; the others lapse. So the order in
which they are given does not matter. A rule proposes once, when it begins to fire; recovery is proposed in every look.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from fallback import decisions
from fallback.chain import answering, below, tiers
from fallback.types import Decision, Health, Reason, Serving, ServingSpec, Tier
from monitor.alerting.records import AlertRecord
from monitor.serving.role import Role, role
from monitor.serving.state import ServingState

HealthOf = Callable[[str], Health]  # of a version, or of a tier at which no version answers


class Proposer(StrEnum):
    """Who proposes."""

    CONFIGURATION = "configuration"
    OPERATOR = "operator"
    RULES = "rules"


_BY: Final = {Proposer.CONFIGURATION: "config", Proposer.OPERATOR: "operator", Proposer.RULES: "rules"}
NOBODY: Final = frozenset({*_BY.values(), "rollout"})  # what decisions name where no person made them


class Action(StrEnum):
    """What is proposed."""

    START = "start"  # the first decision of a model
    CONFIGURE = "configure"  # apply what changed in the configuration
    MAKE_CHAMPION = "make_champion"
    ACKNOWLEDGE = "acknowledge"  # go back to the primary tier, end the alerts about rollbacks
    ROLL_BACK = "roll_back"  # a version fails: roll it back, or step down where that is not possible
    STEP_DOWN = "step_down"  # a version fails: roll a challenger back, else step down where it answers
    RECOVER = "recover"  # go back up to the best failed tier whose version is healthy


class Precedence(IntEnum):
    """Order in which changes are preferred, the first one best.

    Configuration and operators come before rules: they know what rules do not. A challenger that is rolled back
    costs least. A champion that is rolled back leaves a failing version for good, where stepping down leaves it
    only until it recovers. To recover may wait for the next look.
    """

    START = 0
    CONFIGURE = 1
    MAKE_CHAMPION = 2
    ACKNOWLEDGE = 3
    ROLL_BACK_CHALLENGER = 4
    ROLL_BACK_CHAMPION = 5
    STEP_DOWN = 6
    RECOVER = 7


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal. A look has at most one of a configuration.

    Attributes:
        proposer: Who proposes.
        action: What is proposed.
        version: The version that fails, or that is to become champion.
        cause: Event id of the alert behind it.
        rank: Preference among proposals of one precedence, the lowest first: a rule's place in the configuration.
        configuration: The configuration to apply.
        person: Name of the operator.
    """

    proposer: Proposer
    action: Action
    version: str = ""
    cause: str | None = None
    rank: int = 0
    configuration: ServingSpec | None = None
    person: str = ""

    @property
    def by(self) -> str:
        """Who proposes, as a decision tells it."""
        return self.person or _BY[self.proposer]

    @staticmethod
    def start() -> Proposal:
        """Propose the first decision."""
        return Proposal(Proposer.CONFIGURATION, Action.START)

    @staticmethod
    def configure(configuration: ServingSpec) -> Proposal:
        """Propose to apply what changed since a configuration was last applied."""
        return Proposal(Proposer.CONFIGURATION, Action.CONFIGURE, configuration=configuration)

    @staticmethod
    def make_champion(version: str, person: str = "") -> Proposal:
        """Propose, as an operator, to make a version the champion."""
        return Proposal(Proposer.OPERATOR, Action.MAKE_CHAMPION, version, person=person)

    @staticmethod
    def acknowledge(person: str = "") -> Proposal:
        """Propose, as an operator, to go back to the primary tier and to end the alerts about rollbacks."""
        return Proposal(Proposer.OPERATOR, Action.ACKNOWLEDGE, person=person)

    @staticmethod
    def recover() -> Proposal:
        """Propose to go back up to the best failed tier whose version is healthy."""
        return Proposal(Proposer.RULES, Action.RECOVER)


@dataclass(frozen=True, slots=True)
class ServingEffects:
    """Everything that followed from the proposals of one look.

    Attributes:
        decision: The decision, if one was made.
        records: Alert records without numbers, in order; they follow the decision.
        words: What was done, for an operator; empty where none proposed.
    """

    decision: Decision | None = None
    records: tuple[AlertRecord, ...] = ()
    words: str = ""

    @property
    def published(self) -> tuple[AlertRecord | Decision, ...]:
        """What is to be published, in order."""
        return self.records if self.decision is None else (self.decision, *self.records)


@dataclass(frozen=True, slots=True)
class Change:
    """A proposal, worked out against a serving state. `serving` is None where only alerts change."""

    proposal: Proposal
    precedence: Precedence
    reason: Reason
    serving: Serving | None


def choose(proposals: Iterable[Proposal], state: ServingState, health: HealthOf) -> Change | None:
    """Choose the change of one look; None where no proposal would change anything.

    Args:
        proposals: In any order.
        state: The state before the look.
        health: Health of versions after the look.

    Raises:
        ValueError: The shares of a proposed configuration are impossible.
    """
    changes = [change for p in proposals if (change := _worked_out(p, state, health)) is not None]
    return min(changes, key=_order, default=None)


def _order(change: Change) -> tuple[int, int, str, str, str, str]:
    proposal = change.proposal
    # Beyond precedence and rank any total order will do.
    return (
        change.precedence, proposal.rank, proposal.version, proposal.cause or "", proposal.action, proposal.by
    )  # fmt: skip


def _worked_out(proposal: Proposal, state: ServingState, health: HealthOf) -> Change | None:
    serving = state.serving
    match proposal.action:
        case Action.START:
            return None if state.generation else Change(proposal, Precedence.START, Reason.INITIAL, serving)
        case Action.CONFIGURE if proposal.configuration is not None:
            after = decisions.reconfigured(serving, state.configured, proposal.configuration)
            return _change(proposal, Precedence.CONFIGURE, Reason.CONFIG, after)
        case Action.MAKE_CHAMPION:
            after = decisions.make_champion(serving, proposal.version)
            return _change(proposal, Precedence.MAKE_CHAMPION, Reason.MANUAL_ROLLBACK, after)
        case Action.ACKNOWLEDGE:
            after = decisions.recover(serving, Tier.PRIMARY)
            if after is None and all(alert.starts_at is None for alert in state.rolled_back.values()):
                return None
            return Change(proposal, Precedence.ACKNOWLEDGE, Reason.MANUAL, after)
        case Action.ROLL_BACK | Action.STEP_DOWN:
            return _rolled_back(proposal, serving) or _stepped_down(proposal, serving, health)
        case Action.RECOVER:
            return _change(proposal, Precedence.RECOVER, Reason.RECOVERED, _recovered(serving, health))
        case _:
            return None


def _change(proposal: Proposal, precedence: Precedence, reason: Reason, after: Serving | None) -> Change | None:
    return None if after is None else Change(proposal, precedence, reason, after)


def _rolled_back(proposal: Proposal, serving: Serving) -> Change | None:
    """Roll back a challenger, or a champion that the proposal wants rolled back and whose successor did not fail."""
    its_role = role(serving, proposal.version)
    precedence = Precedence.ROLL_BACK_CHALLENGER
    if its_role is Role.CHAMPION and proposal.action is Action.ROLL_BACK and Tier.PREVIOUS not in serving.failed:
        precedence = Precedence.ROLL_BACK_CHAMPION
    elif its_role is not Role.CHALLENGER:
        return None
    after = decisions.roll_back(serving, proposal.version)
    return _change(proposal, precedence, Reason.RULE_BREACHED, after)


def _stepped_down(proposal: Proposal, serving: Serving, health: HealthOf) -> Change | None:
    """Step down to the next tier that is not known to fail itself; to the last one if all are."""
    if proposal.version != answering(serving, serving.active):
        return None
    s = serving
    while (after := decisions.step_down(s, s.active)) is not None:
        s = after
        fails = health(answering(s, s.active)) is Health.FAILED
        if not fails or not below(s, s.active):
            break
    return None if s is serving else Change(proposal, Precedence.STEP_DOWN, Reason.FALLBACK_ENGAGED, s)


def _recovered(serving: Serving, health: HealthOf) -> Serving | None:
    for tier in tiers(serving):
        if tier is serving.active:
            return None
        if tier in serving.failed and health(answering(serving, tier)) is Health.HEALTHY:
            return decisions.recover(serving, tier)
    return None
