"""A configuration with a change somewhere: it is read, or refused at once with what is wrong, and no secret is told."""

from __future__ import annotations

import copy
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from monitor.printable import printable
from tests.e2e import odd
from tests.e2e.odd import Fault
from tests.in_process import Told, driftd

TRIES: Final = 40
CPU_S: Final = 5.0  # a bomb takes minutes; what is read takes a tenth of a second on an idle machine
HANGS_S: Final = 20
READ, BAD_INPUT, CONFIGURATION = 0, 65, 78
SECRET: Final = "hunter2-and-more"
WHOLE: Final[Mapping[str, Any]] = {
    "stream": {
        "url": "kafka://127.0.0.1:9", "events": ["predictions", "outcomes"], "lateness": "5s", "max_future": "10m",
        "security": {"tls": True, "mechanism": "PLAIN", "username": "me", "password": SECRET},
    },
    "store": {"url": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/driftd", "lease": "10s"},
    "http": {"port": 0, "host": "127.0.0.1"},
    "limits": {"features": 50, "pending": 20_000, "labels": 1_000},
    "models": {
        "price": {
            "task": "regression", "champion": "v1", "previous": "v0", "routes": {"v2": "5%"}, "shadows": ["v3"],
            "reference": {"learn": 2_000}, "features": {"zip": "categorical", "id": "ignore"},
            "window": {"span": "10m", "pane": "1m", "min_events": 100},
            "drift": {"false_alarms": "1 per 30d", "numeric": ["ks", "psi"], "categorical": ["chi_square"]},
            "outcomes": {"within": "1h", "concept_drift": "adwin", "baseline_n": 200},
            "metrics": {"cost": "lower"}, "no_data": "10m",
            "rules": [
                {"name": "cost", "metric": "cost", "above": 5, "hard": True, "min_n": 1, "then": "rollback"},
                {"name": "fails", "metric": "error_rate", "above": "1%", "min_n": 1, "for": "1m"},
            ],
            "fallback": {"recover_after": "1m", "default": {"value": 0}, "ensemble": ["v1", "v0"]},
        },
        "spam": {"task": "binary", "positive": "spam", "champion": "v1", "window": {"events": 500, "every": 100}},
    },
}  # fmt: skip
KEYS: Final = ("url", "rule", "Models", "stream ", "on", "0", "", "\0", "\ud800", "x" * 300, "a.b", "\x1b[2J", "=1+1")
# Texts that are harmless in JSON and not in YAML.
YAML: Final = (
    "&a [*a]", "*nobody", "!!python/object/apply:os.system ['true']", "!mine 1", "{a: 1, a: 2}", "<<", "1:30", "010",
    "1_000", "2024-01-01", ".nan", ".inf", "yes", "~", "[" * 4_000, "{a: " * 3_000, "9" * 5_000, "|\n  x", "${NOBODY}",
    "${HOME}", "${A${B}}", "${", "\t- x", "- - - x", "? x", "@x", "%x", "`x`",
)  # fmt: skip
BOMB: Final = "\n".join(
    ["b0: &b0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 10)}]" for i in range(1, 9)]
)
FORMS: Final = (
    b"", b"\0", b"x", b"[1]", b"\x80\x81\xff", b"\tstream: x", b"---\n---\n", BOMB.encode(), b"a: &a {b: *a}\n",
    b"x: " + b"[" * 5_000 + b"]" * 5_000, b"# " + b"x" * 500_000, b'x: "' + b"y" * 500_000 + b'"',
    b"".join(b"k%d: 1\n" % i for i in range(5_000)), b"stream: &s {events: *s}\nmodels: {}\n",
)  # fmt: skip
Path_ = tuple[str | int, ...]


def places(document: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Where values stand in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, item in items:
        yield (*at, key)
        yield from places(item, (*at, key))


def changed(chance: random.Random) -> tuple[bytes, Path_]:
    """The configuration with one value or key changed, and the keys that a message may name."""
    document = copy.deepcopy(dict(WHOLE))
    at = chance.choice(list(places(document)))
    holder: Any = document
    for key in at[:-1]:
        holder = holder[key]
    match chance.randrange(6):
        case 0:
            del holder[at[-1]]
        case 1 if isinstance(holder, dict):
            at = (*at, key := chance.choice(KEYS))
            holder[key] = holder.pop(at[-2])
        case 2 if isinstance(holder, dict):
            at = (*at, key := chance.choice(KEYS))
            holder[key] = odd.value(chance)
        case 3:
            holder[at[-1]] = odd.Verbatim(chance.choice(YAML))
        case 4:
            holder[at[-1]] = chance.choice(
                ["-5s", "0s", "99999999999999999999d", "5", "1e400%", "-1%", "101%", "0", -1]
            )
        case _:
            holder[at[-1]] = odd.value(chance)
    return odd.written(document).encode("utf-8", "surrogatepass"), at


def a_round(chance: random.Random, folder: Path) -> tuple[Counter[str], list[Fault]]:
    """Some configurations, each through check-config."""
    tried: Counter[str] = Counter()
    faults: list[Fault] = []
    for _ in range(TRIES):
        at: Path_ | None = None
        match chance.randrange(8):
            case 0:
                text = odd.damaged(chance, json.dumps(WHOLE).encode())
            case 1:
                text = chance.choice(FORMS)
            case _:
                text, at = changed(chance)
        path = folder / "driftd.yaml"
        path.write_bytes(text)
        began = time.process_time()
        with odd.caught(faults, text), within(HANGS_S):
            told = driftd("check-config", "-c", str(path))
            took = time.process_time() - began
            tried[f"exit {told.code}"] += 1
            assert took < CPU_S, f"took {took:.1f} s of CPU"
            _judge(told, at)
    return tried, faults


def _judge(told: Told, at: Path_ | None) -> None:
    shown = told.out + told.err
    assert told.code in (READ, BAD_INPUT, CONFIGURATION), f"exit {told.code}: {shown[-500:]}"
    assert "Traceback" not in shown, shown[-500:]
    assert SECRET not in shown, "a secret is told"
    assert not set(shown) & {"\x1b", "\0", "\x7f"}, f"control characters: {shown[:300]!r}"
    if told.code == READ:
        return
    lines = told.err.splitlines()
    assert lines, "no reason"
    assert lines[0].startswith("driftd: "), f"no reason: {shown[:300]!r}"
    assert len(told.err) < 20_000, f"{len(told.err)} characters of reasons"
    if at is not None and told.code == CONFIGURATION:  # a file is told by its own name
        names = [key for key in at if isinstance(key, str)]
        named = any(printable(name) in told.err or ascii(name) in told.err for name in names) or "line" in told.err
        assert named, f"a change at {'.'.join(map(str, at))} is told without it: {told.err[:300]!r}"


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Interrupt what hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
