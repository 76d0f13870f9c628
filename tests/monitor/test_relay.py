"""What the relay leaves out of a message that its topic does not take."""

from __future__ import annotations

import json
from typing import Any

from monitor.relay import cut
from monitor.store.outbox import Outgoing


def waiting(kind: str, document: dict[str, Any]) -> Outgoing:
    return Outgoing(7, kind, b"key", json.dumps(document).encode(), {"seq": "1"})


def test_a_dead_letter_goes_without_the_bytes_that_were_refused() -> None:
    shorter = cut(waiting("dead_letter", {"reason": "too_large", "offset": 3, "raw": "QUJD", "truncated": False}))

    assert shorter is not None
    assert (shorter.id, shorter.key, shorter.headers) == (7, b"key", {"seq": "1"})
    assert json.loads(shorter.value) == {"reason": "too_large", "offset": 3, "raw": "", "truncated": True}


def test_an_alert_names_its_features_without_their_distributions() -> None:
    shown = {"edges": [1], "counts": [2, 3]}
    shorter = cut(waiting("alert", {"seq": 1, "features": [{"name": "x", "reference": shown, "current": shown}]}))

    assert shorter is not None
    none: dict[str, list[int]] = {"edges": [], "counts": []}
    assert json.loads(shorter.value)["features"] == [{"name": "x", "reference": none, "current": none}]


def test_what_has_nothing_to_leave_out_is_not_cut() -> None:
    shorter = cut(waiting("dead_letter", {"raw": "QUJD", "truncated": False}))

    assert shorter is not None
    assert cut(shorter) is None
    assert cut(waiting("decision", {"model": "m"})) is None
    assert cut(waiting("alert", {"features": []})) is None
