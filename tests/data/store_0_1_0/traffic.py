"""The traffic behind the database of 0.1.0: four models over 65 minutes, with everything that can go wrong.

The same seed gives the same records. They are in three parts: `FIRST` and `SECOND` were read by 0.1.0 before it was
killed, `REST` is what a newer release goes on with. What happens when, in minutes:

    2    a burst of `animal`, more than may wait: requests are sampled from then on
    9    the canary v3 of `heat` fails and is rolled back
    13   `load` of `heat` drifts for four minutes
    20   operators give orders; a file of events is cut
    22   `heat` is silent for two minutes
    26   errors of `heat` rise, until 52
    30   `fuel` of `heat` has a new value, until 48; the champion of `animal` fails, and its chain takes over
    33   memory and cost of `heat` rise, until 52
    36   `words` of `spam` are missing, until 47; its answers are worse, until 50
    38   `heat` is silent for four minutes
    40   the cut
    50   the second level of `animal` fails as well
    54   most of `spam` is answered by its previous version
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

T0: Final = 1_709_251_200_000  # 2024-03-01T00:00:00Z: of the past, whatever the clock on the wall says
SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
BURST_ENDS: Final = 3 * MINUTE
FIRST_ENDS: Final = 20 * MINUTE
CUT: Final = 40 * MINUTE
END: Final = 65 * MINUTE

TO_PREDICTIONS: Final = ("ml.predictions.jsonl", "ml.predictions-1.jsonl")
TO_OUTCOMES: Final = "ml.outcomes.jsonl"
TO_RESOURCES: Final = "ml.resources.jsonl"
FILES: Final = (*TO_PREDICTIONS, TO_OUTCOMES, TO_RESOURCES)

_CITIES: Final = ("eu", "us", "asia", "mars")  # one more than there is room for
_ANIMALS: Final = ("cat", "dog", "owl", "käfer", "ant", "bee", "emu", "fox")  # two more than there is room for
_COMMON: Final = (40, 30, 20, 5, 2, 1, 1, 1)


class Line(NamedTuple):
    """A record, when it is written after T0 in ms, and the file that it is written to."""

    at: int
    file: str
    value: bytes


Event = dict[str, Any]


def lines() -> list[Line]:
    """All records in the order in which they are written."""
    made = _Traffic(random.Random(20240301))
    found = [Line(at, file, _encoded(event)) for at, file, event in made.events()]
    found += [Line(at, file, value) for at, file, value in _rubbish()]
    return sorted((line for line in found if 0 <= line.at < END), key=lambda line: line.at)


def looked_up(lines: Sequence[Line]) -> list[str]:
    """Requests of which some wait at the cut, for one thing or another, some are late by then, and some never read."""
    asked, told = dict[str, int](), dict[str, int]()
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line.value)
            if isinstance(event, dict) and event.get("model") in ("heat", "spam", "animal"):
                times = told if event["type"] == "outcome" else asked
                times.setdefault(event.get("request_id", ""), line.at)
    late = [r for r in asked if r in told and told[r] > asked[r] + 14 * MINUTE and CUT > told[r] > CUT - 9 * MINUTE]
    waits = [r for r in asked if CUT > asked[r] > CUT - MINUTE and told.get(r, END) > CUT]
    newest = [r for r in asked if asked[r] > END - MINUTE and told.get(r, END) >= END]
    met = [r for r in asked if CUT > told.get(r, 0) > CUT - 20 * SECOND and told[r] > asked[r]]
    early = [f"w{i}" for i in range(4)]
    return [*late[:6], *waits[:4], *newest[:3], *met[:3], *early, "h12", "nobody"]


def reference_table() -> str:
    """What `spam` was trained on, as CSV."""
    chance = random.Random(1)
    rows = ["words,sender,prediction,actual,time"]
    for i in range(400):
        actual = chance.random() < 0.4
        score = _score(chance, likely=actual if chance.random() < 0.9 else not actual)
        words = "" if chance.random() < 0.02 else str(_words(chance))
        sender = chance.choice(("friend", "shop", "list"))
        rows.append(f"{words},{sender},{score},{'spam' if actual else 'ham'},{_text_of(i * 3 * SECOND - 40 * MINUTE)}")
    return "\n".join(rows) + "\n"


def _encoded(event: Event) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def _text_of(at: int) -> str:
    return datetime.fromtimestamp((T0 + at) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _words(chance: random.Random) -> int:
    return round(chance.lognormvariate(4, 0.6))


def _score(chance: random.Random, *, likely: bool) -> float:
    return round(min(max(chance.gauss(0.75 if likely else 0.25, 0.15), 0.0), 1.0), 2)


def _within(at: int, start: float, stop: float) -> bool:
    return start * MINUTE <= at < stop * MINUTE


class _Traffic:
    """Requests of one application after the other."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._numbers = {"heat": 0, "spam": 0, "animal": 0, "quiet": 0}

    def events(self) -> Iterator[tuple[int, str, Event]]:
        for at in range(0, END, SECOND):
            model = self._chance.choices(("heat", "spam", "animal", "quiet"), (34, 36, 26, 4))[0]
            if model != "heat" or not (_within(at, 22, 24) or _within(at, 38, 42)):
                yield from self._request(model, at + self._chance.randrange(SECOND))
            if at % (5 * SECOND) == 0:
                yield from self._resources(at)
        for i in range(820):
            yield from self._request("animal", 2 * MINUTE + i * 60 + self._chance.randrange(50))
        for i in range(8):
            yield from self._across(f"w{i}")

    def _across(self, request: str) -> Iterator[tuple[int, str, Event]]:
        """An outcome with metrics before the cut, its prediction after it."""
        event: Event = {"request_id": request, "model": "spam"}
        outcome = {"type": "outcome", **event, "time": T0 + CUT - 9 * SECOND, "actual": "spam"}
        yield CUT - 9 * SECOND, TO_OUTCOMES, {**outcome, "metrics": {"saved": 7}}
        answer = {"type": "prediction", **event, "time": T0 + CUT + SECOND, "version": "m2", "prediction": 0.625}
        yield CUT + SECOND, TO_PREDICTIONS[0], answer

    def _resources(self, at: int) -> Iterator[tuple[int, str, Event]]:
        model, version = (("heat", "v2"), ("spam", "m2"), ("heat", "v3"), ("animal", "a2"))[at // (5 * SECOND) % 4]
        memory = self._chance.randrange(500, 520) + (150 if model == "heat" and _within(at, 33, 52) else 0)
        event: Event = {"type": "resources", "model": model, "version": version, "time": T0 + at, "memory_mb": memory}
        if at % (15 * SECOND) == 0:
            event |= {"cpu_percent": self._chance.randrange(20, 60), "gpu_percent": None}
        yield at, TO_RESOURCES, event

    # -- requests ----------------------------------------------------------------------------------------

    def _request(self, model: str, at: int) -> Iterator[tuple[int, str, Event]]:
        chance = self._chance
        self._numbers[model] += 1
        number = self._numbers[model]
        request = f"{model[0]}{number}"
        actual, answers = getattr(self, f"_{model}")(at)
        # Little of the traffic comes late, so that most panes are whole.
        arrives = at + (chance.randrange(30, 50) * SECOND if chance.random() < 0.015 else chance.randrange(2_000))
        file = TO_PREDICTIONS[number % 2]
        for i, answer in enumerate(answers):
            time: int | str = T0 + at if number % 5 else _text_of(at)
            event = {"type": "prediction", "request_id": request, "time": time, "model": model, **answer}
            yield arrives + i, file, event
            if chance.random() < 0.015:
                yield arrives + chance.randrange(100, 90_000), file, event  # again
        if chance.random() < 0.004:
            version = f"x{chance.randrange(5)}"  # more of them than there is room for
            yield arrives, file, {**event, "request_id": f"{request}n", "version": version, "served": True}
        yield from self._outcome(model, request, at, actual)

    def _outcome(self, model: str, request: str, at: int, actual: Any) -> Iterator[tuple[int, str, Event]]:
        chance, kind = self._chance, self._chance.random()
        outcome: Event = {"type": "outcome", "request_id": request, "model": model, "actual": actual}
        if model == "heat" and chance.random() < 0.4:
            outcome["metrics"] = {"revenue": chance.randrange(8, 24) / 8}
        if model == "spam" and chance.random() < 0.2:
            outcome["metrics"] = {"saved": chance.randrange(4)}
        slow = {"heat": 120, "spam": 200, "animal": 260, "quiet": 60}[model]
        comes = at + round(chance.triangular(2, 2.5 * slow, slow / 2)) * SECOND
        if kind < 0.06:
            return
        if kind < 0.11:
            comes = at - chance.randrange(1, 20) * SECOND  # early
        elif kind < 0.13:
            comes = at + 15 * MINUTE  # late
        yield comes, TO_OUTCOMES, {**outcome, "time": T0 + comes}
        if kind > 0.98:
            other = {**outcome, "actual": _other(actual)}
            yield comes + 9 * SECOND, TO_OUTCOMES, {**other, "time": T0 + comes + 9 * SECOND}
        elif kind > 0.96:
            yield comes + SECOND, TO_OUTCOMES, {**outcome, "time": T0 + comes + SECOND}  # again
        elif kind > 0.95:
            yield comes, TO_OUTCOMES, {**outcome, "time": T0 + comes, "request_id": f"{request}?"}  # of nobody

    def _latency(self, at: int, *, slow: bool = False) -> float:
        return round(self._chance.expovariate(1 / (45 if slow else 15)) + 3, 1)

    # -- the models --------------------------------------------------------------------------------------

    def _heat(self, at: int) -> tuple[float, list[Event]]:
        chance = self._chance
        load = round(chance.gauss(17 if _within(at, 13, 17) else 10, 2), 2)
        fuels = ("gas", "oil", *["hydrogen"] * 3) if _within(at, 30, 48) else ("gas", "oil")
        features: Event = {"load": load, "fuel": chance.choice(fuels), "age": chance.randrange(50), "on": load > 9}
        if chance.random() < 0.03:
            features["age"] = chance.choice((None, "old"))
        if chance.random() < 0.1:
            features["note"] = "checked"
        worse, dear = _within(at, 26, 52), _within(at, 33, 52)
        actual = round(3 * load + chance.gauss(0, 1), 2)
        canary = chance.random() < 0.25 and at < 11 * MINUTE
        served: Event = {"version": "v3" if canary else "v2", "key": f"u{chance.randrange(90)}"}
        served |= {"features": features, "latency_ms": self._latency(at, slow=_within(at, 20, 23))}
        served["metrics"] = {"cost": chance.randrange(1, 9) / 8 + (0.75 if dear else 0), "tokens": 5}
        if chance.random() < (0.7 if canary and at > 9 * MINUTE else 0.01):
            served["error"] = "Timeout"
        else:
            served["prediction"] = round(3 * load + chance.gauss(7 if worse else 0, 2.5 if worse else 1), 2)
        if chance.random() < 0.5:
            served["segment"] = chance.choices(_CITIES, (5, 3, 1, 1))[0]
        if chance.random() < 0.05:
            served["assigned"] = "v9"
        if chance.random() < 0.2:
            served["batch"] = {"size": 4, "ms": chance.randrange(100)}
        answers = [served]
        if chance.random() < 0.4:
            disagrees = 9 if _within(at, 29, 46) else 0
            shadow = {"version": "v4", "served": False, "features": features, "latency_ms": self._latency(at)}
            answers.insert(chance.randrange(2), {**shadow, "prediction": round(3 * load + disagrees, 1)})
        return actual, answers

    def _spam(self, at: int) -> tuple[str, list[Event]]:
        chance = self._chance
        actual = chance.random() < 0.4
        right = chance.random() < (0.6 if _within(at, 36, 50) else 0.9)
        score = _score(chance, likely=actual == right)
        words = None if chance.random() < (0.4 if _within(at, 36, 47) else 0.02) else _words(chance)
        answer: Event = {"version": "m2", "latency_ms": self._latency(at)}
        answer["features"] = {"words": words, "sender": chance.choice(("friend", "shop", "list"))}
        if chance.random() < 0.5:
            answer |= {
                "prediction": "spam" if score >= 0.5 else "ham",
                "scores": {"spam": score, "ham": round(1 - score, 2)},
            }
        else:
            answer["prediction"] = score
        if at > 54 * MINUTE and chance.random() < 0.7:
            answer |= {"version": "m1", "served_by": "previous"}
        answers = [answer]
        if chance.random() < 0.2:
            answers.append({**answer, "version": "m3", "served": False, "latency_ms": 9.5})
        return "spam" if actual else "ham", answers

    def _animal(self, at: int) -> tuple[str, list[Event]]:
        chance = self._chance
        actual = chance.choices(_ANIMALS, _COMMON)[0]
        legs = {"owl": 2, "emu": 2, "käfer": 6, "ant": 6, "bee": 6}.get(actual, 4)
        features: Event = {"legs": legs, "size": round(chance.lognormvariate(_ANIMALS.index(actual) / 4, 0.5), 2)}
        features["tame"] = actual in ("cat", "dog")
        guess = actual if chance.random() < 0.8 else chance.choice(_ANIMALS[:4])
        sure = chance.randrange(50, 95) / 100
        first: Event = {"version": "a2", "features": features, "latency_ms": self._latency(at)}
        first["segment"] = chance.choice(("zoo", "home"))
        answer: Event = {"prediction": guess}
        if chance.random() < 0.5:
            answer["scores"] = {guess: sure, "moth": round(1 - sure, 2)}
        failed: Event = {"error": "OutOfMemory"}
        answers = []
        if _within(at, 30, 37):
            bad = chance.random() < 0.6
            if at < 33 * MINUTE:
                answers.append({**first, **(failed if bad else answer)})
            else:
                answers.append({**first, "served": False, **(failed if bad else answer)})
        if at >= 37 * MINUTE:
            answers.append({**first, "served": False, **answer})
        if at >= 33 * MINUTE:
            bad = _within(at, 50, 55) and chance.random() < 0.7
            second = {**first, "version": "a1", "served_by": "previous", **(failed if bad else answer)}
            if at >= 54 * MINUTE:
                answers.append({**second, "served": False})
                second = {**first, "version": "rules", "served_by": "rules", "prediction": "cat"}
            answers.append(second)
        if at < 30 * MINUTE:
            answers.append({**first, **answer})
        if at > 28 * MINUTE and chance.random() < 0.25:
            answers.append({**first, "version": "a3", "served": False, "prediction": chance.choice(_ANIMALS[:3])})
        return actual, answers

    def _quiet(self, at: int) -> tuple[int, list[Event]]:
        chance = self._chance
        answer = {"version": "q2" if at < FIRST_ENDS else "q1", "latency_ms": self._latency(at)}
        return 1, [{**answer, "prediction": chance.randrange(100), "features": {"x": chance.random() < 0.5}}]


def _other(actual: Any) -> Any:
    if isinstance(actual, str):
        return "ham" if actual != "ham" else "spam"
    return actual + 1


# -- what has to be refused ------------------------------------------------------------------------------

_OK: Final = '{"type":"prediction","request_id":"r","time":1709251200000,"model":"heat","version":"v2","prediction":1}'
_UNUSABLE: Final[tuple[bytes, ...]] = (
    b"",
    b"{",
    b"[1, 2]",
    b"\xff\xfe",
    b'{"type":"news","request_id":"x"}',
    _OK.replace('"prediction":1', '"prediction":NaN').encode(),
    _OK.replace('"prediction":1', '"prediction":9007199254740993').encode(),
    _OK.replace('"prediction":1', '"prediction":"many"').encode(),
    _OK.replace(',"version":"v2"', "").encode(),
    _OK.replace('"r"', '"' + "r" * 65 + '"').encode(),
    _OK.replace('"r"', '"a\\ud800"').encode(),
    _OK.replace("heat", "cold").encode(),
    _OK.replace("1709251200000", '"yesterday"').encode(),
    _OK.replace("1709251200000", '"2124-03-01T00:00:00Z"').encode(),
    _OK.replace("}", ',"schema":2}').encode(),
    _OK.replace("}", ',"features":{' + ",".join(f'"f{i}":{i}' for i in range(9)) + "}}").encode(),
    _OK.replace("}", ',"note":"' + "n" * 1_000 + '"}').encode(),
    b"[" * 900 + b"]" * 90,
)


def _rubbish() -> Iterator[Line]:
    """Each kind once before the cut and once after it; the last lines before the cut are more than a minute bears."""
    for i, value in enumerate(_UNUSABLE):
        for minute in (4 + i, 41 + i):
            yield Line(minute * MINUTE + 500, FILES[i % 3], value)
    for i in range(110):
        yield Line(CUT - 1, TO_RESOURCES, b"%d" % i)
