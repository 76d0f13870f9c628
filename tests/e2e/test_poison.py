"""What no serving application should send, through a live daemon: each is counted or refused, and it goes on."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e import workload
from tests.e2e.daemon import Daemon
from tests.e2e.place import Place

MIB = 1 << 20
RAW_LIMIT = 64 << 10  # of the bytes that a dead letter carries


@dataclass(frozen=True, slots=True)
class Poison:
    """A record, and why it is refused; None where it counts."""

    name: str
    value: bytes | None
    reason: str | None


def an_answer(number: int, **fields: Any) -> dict[str, Any]:
    event = {"type": "prediction", "request_id": f"p{number}", "time": workload.T0 + number, "model": "prices"}
    return event | {"version": "v2", "prediction": 1.5, "features": {"size": 1.0, "city": "aa"}} | fields


def text(number: int, **fields: Any) -> bytes:
    return json.dumps(an_answer(number, **fields)).encode()


def bare(number: int, replaced: str, by: str) -> bytes:
    """An answer with a part of its JSON replaced by something that a JSON library would not write."""
    whole = json.dumps(an_answer(number))
    assert replaced in whole
    return whole.replace(replaced, by).encode()


CORPUS = (
    Poison("nan", bare(1, "1.5", "NaN"), "not_finite"),
    Poison("infinity", bare(2, "1.5", "Infinity"), "not_finite"),
    Poison("minus infinity", bare(3, "1.5", "-Infinity"), "not_finite"),
    Poison("beyond floats", bare(4, "1.5", "1e999"), "not_finite"),
    Poison("nan in a feature", bare(5, "1.0", "NaN"), "not_finite"),
    Poison("5000 digits", bare(6, "1.5", "9" * 5_000), "integer_too_large"),
    Poison("2^64", bare(7, "1.5", str(1 << 64)), "integer_too_large"),
    Poison("half a surrogate", bare(8, '"v2"', '"v2\\ud800"'), "bad_text"),
    Poison("a zero character", bare(10, '"v2"', '"v\\u00002"'), "bad_text"),
    Poison("a zero byte", bare(11, '"v2"', '"v\x002"'), "not_json"),
    Poison("not UTF-8", text(12).replace(b"v2", b"v\xff2"), "bad_text"),
    Poison("UTF-16", json.dumps(an_answer(13)).encode("utf-16"), "not_json"),
    Poison("100 000 brackets", b"[" * 100_000, "too_deep"),
    Poison("nested in what is ignored", bare(15, '"v2"', f'"v2","note":{"[" * 5_000}{"]" * 5_000}'), "too_deep"),
    Poison("ten megabytes", bare(16, '"aa"', '"' + "a" * (10 * MIB) + '"'), "too_large"),
    Poison("nothing", b"", "empty"),
    Poison("a tombstone", None, "empty"),
    Poison("blanks", b"   ", "empty"),
    Poison("null", b"null", "not_an_object"),
    Poison("a number", b"17", "not_an_object"),
    Poison("a list of events", b"[" + text(22) + b"]", "not_an_object"),
    Poison("two events", text(23) + text(24), "not_json"),
    Poison("half an event", text(25)[:40], "not_json"),
    Poison("a year of five digits", text(26, time="12026-01-01T00:00:00Z"), "bad_time"),
    Poison("the year 3000", text(27, time="3000-01-01T00:00:00Z"), "time_in_future"),
    Poison("a time that is text", text(28, time="yesterday"), "bad_time"),
    Poison("a time of nanoseconds", text(29, time=workload.T0 * 1_000_000), "integer_too_large"),
    Poison("an unknown model", text(30, model="nobody"), "unknown_model"),
    Poison("an id that is too long", text(31, request_id="x" * 300), "id_too_long"),
    Poison("an id that is a fraction", text(39, request_id=1.5), "wrong_type"),
    Poison("no id", text(33, request_id=None), "missing_field"),
    Poison("600 features", text(34, features={f"f{i}": i for i in range(600)}), "too_many_features"),
    Poison("a prediction in words", text(36, prediction="high"), "wrong_type"),
    Poison("a newer schema", text(37, schema=2), "newer_schema"),
    Poison("another type", text(38, type="rumour"), "unknown_type"),
    # These are odd and count all the same.
    Poison("a latency below zero", text(39, latency_ms=-1), None),
    Poison("features in a list", text(35, features=[1, 2]), None),
    Poison("an id that is a number", text(32, request_id=17), None),
    Poison("half a surrogate in a feature", bare(9, '"aa"', '"\\udfff"'), None),
    Poison("an unknown version", text(50, version="v2.0-<script>alert(1)</script>"), None),
    Poison("a version of quotes", text(51, version='"} 1\n# HELP x'.replace("\n", " ")), None),
    Poison("unknown fields", text(52, colour="red", nested={"a": [1, {"b": None}]}), None),
    Poison("a name that stands twice", bare(53, '"prediction": 1.5', '"prediction": 1.0, "prediction": 1.5'), None),
    Poison("an emoji", text(54, segment="🦊"), None),
    Poison("an error alone", text(55, prediction=None, error="Timeout"), None),
    Poison("no features", text(56, features={}), None),
    Poison("a large number", text(57, prediction=1e300), None),
    Poison("a small number", text(58, prediction=5e-324), None),
)  # fmt: skip
REFUSED = [p for p in CORPUS if p.reason is not None]


@pytest.fixture(params=["files", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue("file_place" if request.param == "files" else "kafka_place")
    found.configure(workload.models())
    return found


def test_the_daemon_swallows_the_whole_corpus(place: Place) -> None:
    """Every record is a dead letter with its reason and its own bytes, or is counted; and everything still answers."""
    topic = place.events[0]
    healthy = [text(number) for number in range(1_000, 1_300)]
    with place.daemon() as daemon:
        place.append(topic, [p.value for p in CORPUS])
        place.append(topic, healthy)
        daemon.until_read(len(CORPUS) + len(healthy)).until_published()

        answers(daemon, place)
        counted = daemon.status()["models"]["prices"]["versions"]
        assert sum(v["predictions"] for v in counted.values()) == len(CORPUS) - len(REFUSED) + len(healthy)
        assert daemon.stop() == 0

    letters = {letter["offset"]: letter for letter in place.dead_letters()}
    assert {CORPUS[at].name: letter["reason"] for at, letter in letters.items()} == {p.name: p.reason for p in REFUSED}
    for at, letter in letters.items():
        raw = CORPUS[at].value or b""
        assert letter["topic"] == topic
        assert letter["detail"]
        assert len(letter["detail"]) < 1_000
        assert base64.b64decode(letter["raw"]) == raw[:RAW_LIMIT]
        assert letter["truncated"] == (len(raw) > RAW_LIMIT)


def answers(daemon: Daemon, place: Place) -> None:
    """Metrics parse, pages and commands answer, and nothing on the page is taken for a tag."""
    metrics = daemon.metrics()
    assert sum(v for name, v in metrics.items() if name.startswith("driftd_dead_letters_total")) == len(REFUSED)
    page = daemon.get("/")
    assert page.code == 200
    assert "<script>" not in page.text
    assert "v2.0-&lt;script&gt;" in page.text
    assert daemon.is_ready
    assert place.driftd("status", "--json").json()["events"]["dead_letters"] == len(REFUSED)
    assert place.driftd("status").code == 0
    assert place.driftd("history", "prices", "--json").code == 0
    assert place.driftd("inspect", "p54", "--json").json()["models"]
    assert "unknown" in place.driftd("inspect", "\U0001f98a").out


def test_a_feature_that_changes_its_type_is_counted_and_the_daemon_goes_on(place: Place) -> None:
    """Numbers become texts and back; what cannot be compared is counted as such, in the answers too."""
    lines = [text(n, features={"size": n / 8, "city": "aa"}) for n in range(200)]
    lines += [text(n, features={"size": f"size {n}", "city": n}) for n in range(200, 400)]
    lines += [text(n, features={"size": True, "city": {"name": "aa"}}) for n in range(400, 600)]
    lines += [text(n, features={"size": n / 8, "city": "aa"}) for n in range(600, 800)]
    with place.daemon() as daemon:
        place.append(place.events[0], lines)
        daemon.until_read(800).until_published()

        assert daemon.metric('driftd_feature_type_mismatches_total{model="prices"}') > 0
        answered = daemon.status()
        assert daemon.is_ready
        assert daemon.stop() == 0

    assert not place.dead_letters()
    assert answered["unusable"] == {"prices": {"features.city": {"wrong_type": 200}}}  # an object is no value
    assert answered["models"]["prices"]["versions"]["v2"]["predictions"] == 800


def test_a_flood_of_versions_is_measured_together(place: Place) -> None:
    """So that neither memory nor `/metrics` grows with what strangers write."""
    with place.daemon() as daemon:
        place.append(place.events[0], [text(n, version=f"v{n}") for n in range(2_000)])
        daemon.until_read(2_000).until_published()

        counted = daemon.status()["models"]["prices"]["versions"]
        assert len(counted) <= 2 + 5 * 20  # until their pane ends, four times as many as `limits.versions` have a name
        assert sum(v["predictions"] for v in counted.values()) == 2_000
        assert counted["__other__"]["predictions"] > 1_900
        assert len(daemon.metrics()) < 6_000
        assert daemon.stop() == 0


def test_a_partition_full_of_rubbish_waits_and_the_others_are_read(place: Place) -> None:
    """Rather than filling the topic of dead letters."""
    place.configure(workload.models(), stream={"dead_letters_per_minute": 500, "hold": "2s"})
    with place.daemon() as daemon:
        place.append(place.events[0], [b"{"] * 20_000)
        parked = f'driftd_partition_parked{{partition="0",topic="{place.events[0]}"}}'
        daemon.until(lambda: daemon.metric(parked) == 1, "the partition waits")
        place.append(place.events[-1], [text(n) for n in range(100)])
        daemon.until(lambda: daemon.status()["events"]["predictions"] == 100, "the other one is read")

        daemon.until_published()
        assert len(place.dead_letters()) < 10_000
        assert {a["kind"] for a in place.alerts()} == {"daemon"}  # it waits, and it is left out
        assert daemon.stop() == 0
