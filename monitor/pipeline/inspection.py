"""What became of one request: for `driftd inspect`.

Pure. Everything that is known of a request is under keys made of its id, so nothing is searched.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from monitor.join.ids import hash_ids, model_seed, shadow_keys
from monitor.join.index import EMPTY, closed_tag_of
from monitor.join.slots import ANSWER, OUTCOME
from monitor.join.table import NO_OUTCOME
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.pipeline import Pipeline
from monitor.times import format_time

_MEANING: Final = {
    "unknown": "never read, read too long ago to be remembered, or not among those that are sampled",
    "waiting": "answered, and waiting for its outcome",
    "early": "its outcome came first and waits for the answer",
    "beside": "only answers that were not served are known",
    "joined": "answered, and met its outcome",
    "late": "answered; its outcome came too late",
    "closed": "answered; no outcome came in time, or none can score it",
}


def look_up(pipeline: Pipeline, model: ModelMonitor, seed: int, request_id: str) -> dict[str, Any]:
    """The state of a request of a model, as of the commit that the pipeline was restored from."""
    low, high = hash_ids([request_id], [model_seed(seed, model.spec.name)])
    value = int(pipeline.join.table.index.look_up(low)[0])
    answers = []
    outcome = None
    column = pipeline.join.table.slots.column
    if value >= 0 and int(column["hi"][value]) == int(high[0]):
        bits = int(column["state"][value])
        state = "waiting" if bits & ANSWER else "early" if bits & OUTCOME else "beside"
        if bits & ANSWER:
            answers.append(_answer(pipeline, model, value, served=True))
        elif bits & OUTCOME:
            outcome = {"actual": model.shown(float(column["value"][value])), "time": _time(column["time"][value])}
    elif value >= 0 or value == EMPTY:
        state = "unknown"
    else:
        state = _ended(value)
    answers += _beside(pipeline, model, low)
    return {
        "model": model.spec.name,
        "request_id": request_id,
        "state": state,
        "meaning": _MEANING[state],
        "answers": answers,
        "outcome": outcome,
        "stream_time": _time(pipeline.watermark.now) if pipeline.watermark.now >= 0 else None,
    }


def _beside(pipeline: Pipeline, model: ModelMonitor, low: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Answers that were not served: shadows, and attempts that failed."""
    owner = pipeline.variants.model_of()
    index = next(i for i, m in enumerate(pipeline.models) if m is model)
    found = []
    for variant in np.flatnonzero(owner == index).tolist():
        key = shadow_keys(low, np.array([variant]))
        value = int(pipeline.join.table.index.look_up(key)[0])
        if value >= 0:
            found.append(_answer(pipeline, model, value, served=False))
        elif value != EMPTY:
            version = pipeline.variants.table[variant].version
            found.append({"version": version, "served": False, "state": _ended(value)})
    return found


def _ended(value: int) -> str:
    """How what is closed in the index has ended."""
    note = int(closed_tag_of(np.array([value], np.int32))[0])
    if note > NO_OUTCOME:
        return "late"
    return "closed" if note == NO_OUTCOME else "joined"


def _answer(pipeline: Pipeline, model: ModelMonitor, slot: int, *, served: bool) -> dict[str, Any]:
    column = pipeline.join.table.slots.column
    at = int(column["time"][slot])
    outcomes = model.spec.outcomes
    return {
        "version": pipeline.variants.table[int(column["variant"][slot])].version,
        "served": served,
        "state": "waiting",
        "time": _time(at),
        "prediction": model.shown(float(column["value"][slot])),
        "expires_at": None if outcomes is None else _time(at + outcomes.within),
    }


def _time(ms: int) -> str:
    return format_time(int(ms))
