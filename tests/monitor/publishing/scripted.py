"""A destination that does as the test says, an outbox to fill, and clocks that stand still until they are moved."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from monitor.publishing.backoff import Clocks
from monitor.publishing.destinations.base import Delivered, DeliveryPolicy, DeliveryResult, OutboxMessage
from monitor.publishing.loop import DeliveryLoop
from monitor.store import tables as t
from monitor.store.subscriptions import MessageKind
from monitor.store.writer import Claim, StoreWriter

T0 = 1_800_000_000_000
DAY = 86_400_000
MAX_AGE_S = 600.0
ONE_BY_ONE = DeliveryPolicy(1, (1.0, 5.0, 60.0), max_age_ms=round(MAX_AGE_S * 1000), limit=50)
IN_ORDER = DeliveryPolicy(3, (0.2, 0.5, 1.0), essential=True)


class Time:
    """Both clocks, moved together."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def move(self, seconds: float) -> None:
        self.passed_s += seconds

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: T0 + round(self.passed_s * 1000), lambda: 100 + self.passed_s, lambda: 0.0)


class Scripted:
    """Takes everything, but for what `results` say of the next deliveries, and messages that `refuse` knows."""

    kinds = frozenset(MessageKind)

    def __init__(self, policy: DeliveryPolicy = ONE_BY_ONE, name: str = "pager") -> None:
        self.name, self.policy = name, policy
        self.tried: list[list[int]] = []
        self.taken: list[int] = []
        self.results: deque[DeliveryResult | Exception] = deque()
        self.refuse: dict[bytes, DeliveryResult] = {}

    def deliver(self, messages: Sequence[OutboxMessage], now: int) -> DeliveryResult:
        self.tried.append([m.id for m in messages])
        result = self.refuse.get(messages[0].key) or (self.results.popleft() if self.results else Delivered())
        if isinstance(result, Exception):
            raise result
        done = len(messages) if isinstance(result, Delivered) else result.done
        self.taken += [m.id for m in messages[:done]]
        return result

    def close(self) -> None:
        pass


@dataclass
class Bench:
    """A loop over a scripted destination, in a store that is ours."""

    engine: Engine
    destination: Scripted
    time: Time = field(default_factory=Time)
    reports: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.epoch = claimed(self.engine)
        self.loop = DeliveryLoop(
            self.engine, self.destination, lambda name, trouble: self.reports.append(trouble), clocks=self.time.clocks
        )

    def waiting(self, *keys: str, created_at: int = T0) -> list[int]:
        """Messages of these keys wait. -> their ids."""
        return [insert(self.engine, key, self.destination.name, created_at) for key in keys]

    def step(self, after_s: float = 0.0) -> float:
        """A step after some time. -> when the next one is due."""
        self.time.move(after_s)
        return self.loop.step(self.epoch)

    def run(self, seconds: float) -> None:
        """Steps as a thread would do them, for some time; at most ten minutes, or the test gets slow."""
        until = self.time.passed_s + seconds
        while (left := until - self.time.passed_s) > 0:
            self.time.move(min(max(self.step(), 0.001), left))
        self.step()

    def left(self) -> list[int]:
        """Ids of the rows that are still there."""
        with self.engine.connect() as c:
            mine = t.outbox.c.destination == self.destination.name
            return list(c.execute(sa.select(t.outbox.c.id).where(mine).order_by(t.outbox.c.id)).scalars())


def claimed(engine: Engine, owner: str = "owner") -> int:
    """Own the store. -> the epoch."""
    claim = StoreWriter(engine, owner, DAY).claim(0.0, lambda owner: True)
    assert isinstance(claim, Claim)
    return claim.epoch


def insert(engine: Engine, key: str, destination: str, created_at: int = T0) -> int:
    """A decision waits for a destination. -> its id."""
    row = {
        "kind": "decision", "key": key.encode(), "value": json.dumps({"model": key}).encode(), "headers": "{}",
        "destination": destination, "created_at": created_at,
    }  # fmt: skip
    with engine.begin() as c:
        return int(c.execute(sa.insert(t.outbox).values(row).returning(t.outbox.c.id)).scalar_one())
