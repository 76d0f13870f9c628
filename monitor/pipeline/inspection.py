"""What became of one request: for `driftd inspect`. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from monitor.join.arrays import VariantCode
from monitor.join.ids import hash_ids, model_seed
from monitor.join.request_state import RequestPhase, WaitingEvent
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.pipeline import Pipeline
from monitor.times import format_time

_MEANING: Final = {
    RequestPhase.UNKNOWN: "never read, read too long ago to be remembered, or not among those that are sampled",
    RequestPhase.WAITING: "answered, and waiting for its outcome",
    RequestPhase.EARLY: "its outcome came first and waits for the answer",
    RequestPhase.BESIDE: "only answers that were not served are known",
    RequestPhase.JOINED: "answered, and met its outcome",
    RequestPhase.LATE: "answered; its outcome came too late",
    RequestPhase.CLOSED: "answered; no outcome came in time, or none can score it",
}


def look_up(pipeline: Pipeline, model: ModelMonitor, seed: int, request_id: str) -> dict[str, Any]:
    """Describe a request of a model, as of the commit that the pipeline was restored from.

    Args:
        pipeline: A restored pipeline.
        model: The model, one of the pipeline's.
        seed: Hash seed of the store.
        request_id: Id of the request.

    Returns:
        The document that `driftd inspect` shows.
    """
    low, high = hash_ids([request_id], [model_seed(seed, model.spec.name)])
    index = next(i for i, m in enumerate(pipeline.models) if m is model)
    variants = np.flatnonzero(pipeline.variants.model_of() == index).tolist()
    known = pipeline.join.table.look_up(low, high, map(VariantCode, variants))
    answers = [_answer(pipeline, model, known.answer, served=True)] if known.answer else []
    for shadow in known.shadows:
        if shadow.waiting:
            answers.append(_answer(pipeline, model, shadow.waiting, served=False))
        else:
            version = pipeline.variants.table[shadow.variant].version
            answers.append({"version": version, "served": False, "state": shadow.phase.value})
    waiting = known.outcome
    return {
        "model": model.spec.name,
        "request_id": request_id,
        "state": known.phase.value,
        "meaning": _MEANING[known.phase],
        "answers": answers,
        "outcome": waiting and {"actual": model.shown(waiting.value), "time": format_time(waiting.time)},
        "stream_time": format_time(pipeline.watermark.now) if pipeline.watermark.now >= 0 else None,
    }


def _answer(pipeline: Pipeline, model: ModelMonitor, answer: WaitingEvent, *, served: bool) -> dict[str, Any]:
    outcomes = model.spec.outcomes
    return {
        "version": pipeline.variants.table[answer.variant].version,
        "served": served,
        "state": RequestPhase.WAITING.value,
        "time": format_time(answer.time),
        "prediction": model.shown(answer.value),
        "expires_at": None if outcomes is None else format_time(answer.time + outcomes.prediction_ttl),
    }
