"""Which texts keep a code of their own does not depend on how the stream was read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.events.admission import SavedAdmission
from monitor.events.codes import OTHER, Codes, Entry, Labels, Variants

LIMIT = 3
PANE = 10
FOREVER = 1 << 61
TEXTS = "zyxwvutsrq"  # fewer than there can be provisional codes

seen = st.tuples(st.integers(0, 59), st.sampled_from(TEXTS))  # effective time, text
partitions = st.lists(st.lists(seen, max_size=15).map(sorted), min_size=1, max_size=4)
Seen = tuple[int, str]


def codes(limit: int = LIMIT, pane: int = PANE) -> Codes:
    return Codes("m", "label", limit, pane=pane)


def variants(limit: int = LIMIT, pane: int = PANE, configured: tuple[str, ...] = ("y",)) -> Variants:
    return Variants(["n", "m"], {"n": ["a"], "m": configured}, limit, [0, pane])


@dataclass
class Reader:
    """Reads partitions in any order, in batches, and goes on from what it has stored; `texts` are its events."""

    given: list[Callable[[str], int]] = field(default_factory=list)
    stored: list[Entry] = field(default_factory=list)
    events: list[int] = field(default_factory=list)  # codes
    it: Codes = field(default_factory=codes)

    def batch(self, events: list[Seen], now: int) -> None:
        given = [self.it[text] for _, text in events]
        self.it.place(np.array(given, np.int64), np.array([at for at, _ in events], np.int64))
        self.it.settle(now)
        self.events += given

    def restart(self) -> None:
        self.stored += self.it.drain_fresh()
        saved, self.it = self.it.admission(), codes()
        self.it.restore(self.stored)
        self.it.restore_admission(saved)

    def finish(self) -> Counter[str]:
        self.it.settle(FOREVER)
        return Counter(self.it.texts[code] for code in self.it.settled(np.array(self.events, np.int64)).tolist())


@dataclass
class VersionReader(Reader):
    """The same with versions; one is configured."""

    them: Variants = field(default_factory=variants)

    def batch(self, events: list[Seen], now: int) -> None:
        given = [int(self.them["m", text]) for _, text in events]
        self.them.place(np.array(given, np.uint16), np.array([at for at, _ in events], np.int64))
        self.them.settle("m", now)
        self.events += given

    def restart(self) -> None:
        self.stored += self.them.drain_fresh()
        saved, self.them = self.them.admission("m"), variants()
        self.them.restore(self.stored)
        self.them.restore_admission("m", saved)

    def finish(self) -> Counter[str]:
        self.them.settle("m", FOREVER)
        settled = self.them.settled("m", np.array(self.events, np.int64))
        return Counter(self.them.table[code].version or "" for code in settled.tolist())


def read(reader: Reader, logs: list[list[Seen]], dice: random.Random) -> Counter[str]:
    """Read all partitions in an order that the dice choose."""
    rest = [list(log) for log in logs]
    while any(rest):
        batch = []
        for _ in range(dice.randint(1, 6)):
            if any(rest):
                batch.append(dice.choice([log for log in rest if log]).pop(0))
        # Nothing earlier than the next event of any partition is still to come.
        reader.batch(batch, min((log[0][0] for log in rest if log), default=FOREVER))
        if dice.random() < 0.2:
            reader.restart()
    return reader.finish()


def by_hand(logs: list[list[Seen]], admitted: tuple[str, ...] = ()) -> Counter[str]:
    """What is right: the first texts by pane, and within a pane by the alphabet."""
    events = [event for log in logs for event in log]
    first: dict[str, int] = {}
    for at, text in events:
        first[text] = min(first.get(text, FOREVER), at // PANE)
    candidates = sorted((pane, text) for text, pane in first.items() if text not in admitted)
    own = {*admitted, *(text for _, text in candidates[: LIMIT - len(admitted)])}
    return Counter(text if text in own else OTHER for _, text in events)


@settings(max_examples=300)
@given(partitions, st.integers(0, 10**9))
def test_any_interleaving_cut_and_restart_admits_the_same_texts_with_the_same_counts(
    logs: list[list[Seen]], seed: int
) -> None:
    """Those of the earliest panes, in sorted order."""
    assert read(Reader(), logs, random.Random(seed)) == by_hand(logs)


@settings(max_examples=300)
@given(partitions, st.integers(0, 10**9))
def test_any_interleaving_cut_and_restart_admits_the_same_versions(logs: list[list[Seen]], seed: int) -> None:
    """A configured version has its place whenever it comes."""
    assert read(VersionReader(), logs, random.Random(seed)) == by_hand(logs, admitted=("y",))


@given(st.lists(st.text(max_size=3) | st.just(OTHER), max_size=60), st.integers(0, 59))
def test_codes_are_bounded_whatever_a_stream_invents(texts: list[str], at: int) -> None:
    """Four times the limit are provisional at most, and no more than the limit stay."""
    it = codes()
    given_codes = np.array([it[text] for text in texts], np.int64)
    assert len(it.texts) <= 4 * LIMIT + 1

    it.place(given_codes, np.full(len(texts), at))
    it.settle(FOREVER)

    assert len({text for text in it.texts.values() if text != OTHER}) <= LIMIT
    assert set(np.unique(it.settled(given_codes)).tolist()) <= {
        code for code, text in it.texts.items() if text != OTHER or code == it.get(OTHER)
    }


def test_a_text_waits_until_its_pane_has_ended() -> None:
    """And a text that turns up in an earlier pane, which has not ended, counts there."""
    it = codes(limit=1)
    late, early = it["a"], it["b"]
    it.place(np.array([late, early]), np.array([25, 19]))
    it.settle(19)
    waits = [it.waits]
    it.place(np.array([late]), np.array([11]))
    it.settle(20)
    waits.append(it.waits)

    assert (it.texts[late], it.texts[early]) == ("a", OTHER)
    assert waits == [True, False]
    assert it["c"] == it[OTHER]


def test_a_text_that_was_not_admitted_keeps_its_code_as_an_alias() -> None:
    """So that a repeat of its event is still the same event."""
    it = codes(limit=1)
    a, b = it["a"], it["b"]
    it.place(np.array([a, b]), np.array([0, 0]))
    it.settle(PANE)

    assert it["b"] == b != it[OTHER]
    assert it.settled(np.array([a, b, b])).tolist() == [a, it[OTHER], it[OTHER]]


def test_what_is_stored_stays_small_where_many_labels_wait_or_were_refused() -> None:
    """A commit writes all of it: a bit for each code at most."""
    many, dice = 20_000, random.Random(1)
    it = codes(limit=many // 2)
    given_codes = np.array([it[f"{dice.random()}"] for _ in range(many)])
    it.place(given_codes, np.array([dice.choice([3, 13]) for _ in range(many)]))
    waiting = it.admission()
    it.settle(FOREVER)

    assert len(str(waiting)) < 2 * (many // 6) + 500
    assert len(str(it.admission())) < many // 6 + 500
    assert sum(text == OTHER for text in it.texts.values()) == many // 2


def test_what_an_earlier_release_stored_is_read() -> None:
    """Codes one by one, with the pane of each."""
    it = codes(limit=2)
    it.restore([Entry("m", "label", code, text) for code, text in enumerate("abc")])
    it.restore_admission(SavedAdmission({"0": 20, "2": 10, "9": 10}))
    it.settle(FOREVER)
    full = codes(limit=1)
    full.restore([Entry("m", "label", code, text) for code, text in enumerate("abc")])
    full.restore_admission(SavedAdmission({"0": 20}, [2, 17]))

    assert [it.texts[code] for code in range(3)] == [OTHER, "b", "c"]
    assert full.settled(np.array([0, 1, 2])).tolist() == [0, 1, full[OTHER]]


def test_labels_are_settled_as_they_are_held() -> None:
    """As floating-point numbers, NaN where an event has none."""
    it = Labels("m", 1, binary=False, positive=None, pane=PANE)
    a, b = it.code("a"), it.code("b")
    it.codes.place(np.array([np.nan, b, a]), np.array([0, 0, 0]))
    it.codes.settle(PANE)

    settled = it.codes.settled_values(np.array([a, np.nan, b]))
    np.testing.assert_array_equal(settled, [a, np.nan, it.codes[OTHER]])
    assert [it.text(code) for code in (a, b)] == ["a", OTHER]
    assert (it.find("b"), it.find("c")) == (b, None)


@pytest.mark.parametrize("pane", [0, PANE])
def test_below_the_limit_settling_changes_nothing(pane: int) -> None:
    """The very same array comes back, so it costs nothing."""
    it = codes(pane=pane)
    given_codes = np.array([it[text] for text in "cab"])
    it.place(given_codes, np.zeros(3, np.int64))
    it.settle(FOREVER)

    assert it.settled(given_codes) is given_codes
    assert [it.texts[code] for code in given_codes.tolist()] == ["c", "a", "b"]


def test_where_windows_are_counted_the_first_texts_are_admitted_at_once() -> None:
    """As in 0.1.0: they keep the order of processing."""
    it = codes(pane=0)
    assert [it.texts[it[text]] for text in "dcbaz"] == ["d", "c", "b", OTHER, OTHER]


def test_all_codes_of_an_older_store_are_admitted() -> None:
    """It knows of no others."""
    it = codes()
    it.restore([Entry("m", "label", i, text) for i, text in enumerate("cab")])
    it.restore_admission(SavedAdmission())

    assert not it.waits
    assert it["d"] == it[OTHER]


def test_a_version_that_is_configured_anew_is_admitted_though_it_was_not() -> None:
    """What the operator names is measured by its name, under the code that it has."""
    v = variants(limit=2)
    a, b = v["m", "a"], v["m", "b"]
    v.place(np.array([a, b], np.uint16), np.array([0, 0]))
    assert v.settle("m", PANE) == [b]
    stored, saved = sorted(v.drain_fresh(), key=lambda e: e.code), v.admission("m")
    restarted = variants(limit=2, configured=("y", "b"))
    restarted.restore(stored)
    restarted.restore_admission("m", saved)

    assert restarted["m", "b"] == b
    assert not restarted.is_alias("m", b)
    assert restarted.settled("m", np.array([a, b])).tolist() == [a, b]


def test_versions_of_one_model_take_no_place_of_another() -> None:
    """Each has its own limit and its own panes; the other one's windows are counted."""
    v = variants(limit=1)
    at_once = v["n", "b"]

    assert v.table[at_once].version == OTHER
    assert v.settled("m", np.array([at_once])).tolist() == [at_once]
