"""What became of one request: for `driftd inspect`. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from monitor.aggregation.outcome_columns import DROPPED_PANE
from monitor.events.schema import SERVED_BY
from monitor.join.arrays import Keys, VariantCode
from monitor.join.ended import HAS_ANSWER, HAS_OUTCOME, EndedRequests, Ending
from monitor.join.ids import hash_ids, model_seed, shadow_keys
from monitor.join.request_state import RequestPhase, RequestState, WaitingEvent
from monitor.join.results import exact_scores
from monitor.pipeline.model import ModelMonitor
from monitor.pipeline.pipeline import Pipeline
from monitor.times import format_time

_ORPHANED: Final = "orphaned"  # remembered by nobody but the details of what has ended
_MEANING: Final = {
    RequestPhase.UNKNOWN: "never read, read too long ago to be remembered, or not among those that are sampled",
    RequestPhase.WAITING: "answered, and waiting for its outcome",
    RequestPhase.EARLY: "its outcome came first and waits for the answer",
    RequestPhase.BESIDE: "only answers that were not served are known",
    RequestPhase.JOINED: "answered, and met its outcome",
    RequestPhase.LATE: "answered; its outcome came too late",
    RequestPhase.CLOSED: "answered; no outcome came in time, or none can score it",
    _ORPHANED: "its outcome came, and no answer that it is in time for",
}
_STATE: Final = {
    Ending.JOINED: RequestPhase.JOINED,
    Ending.EXPIRED: RequestPhase.CLOSED,
    Ending.LATE: RequestPhase.LATE,
    Ending.ORPHANED: _ORPHANED,
    Ending.OVERDUE: RequestPhase.LATE,
}
_OVER: Final = (RequestPhase.JOINED, RequestPhase.LATE, RequestPhase.CLOSED)


def keys_of(pipeline: Pipeline, model: ModelMonitor, seed: int, request_id: str) -> Keys:
    """Return the keys under which answers to a request can be: the served one's, and one for each version.

    Args:
        pipeline: A restored pipeline.
        model: The model, one of the pipeline's.
        seed: Hash seed of the store.
        request_id: Id of the request.
    """
    low, _ = hash_ids([request_id], [model_seed(seed, model.spec.name)])
    variants = np.array(_variants(pipeline, model), np.uint16)
    return np.concatenate([low, shadow_keys(np.repeat(low, len(variants)), variants)])


def look_up(
    pipeline: Pipeline, model: ModelMonitor, seed: int, request_id: str, ended: EndedRequests | None = None
) -> dict[str, Any]:
    """Describe a request of a model, as of the commit that the pipeline was restored from.

    Args:
        pipeline: A restored pipeline.
        model: The model, one of the pipeline's.
        seed: Hash seed of the store.
        request_id: Id of the request.
        ended: What is stored of it under `keys_of`, in the order of commits.

    Returns:
        The document that `driftd inspect` shows.
    """
    low, high = hash_ids([request_id], [model_seed(seed, model.spec.name)])
    variants = _variants(pipeline, model)
    known = pipeline.join.table.look_up(low, high, map(VariantCode, variants))
    details = _Details(pipeline, model, int(low[0]), EndedRequests.none() if ended is None else ended)
    state: str = known.phase
    if state is RequestPhase.UNKNOWN and details.state is not None:
        state = details.state  # forgotten as a duplicate, or never more than an outcome
    answers = _answers(pipeline, model, known, details)
    outcome = _outcome(model, known.outcome) or details.outcome
    waits = state in (RequestPhase.WAITING, RequestPhase.BESIDE)
    kept = bool(details) or state not in _OVER
    return {
        "model": model.spec.name,
        "request_id": request_id,
        "state": str(state),
        "meaning": _MEANING[state],
        "answers": answers,
        "outcome": None if waits and not _was_joined(answers) else outcome,
        "details": None if kept else _not_kept(pipeline.join.ended_kept),
        "stream_time": format_time(pipeline.watermark.now) if pipeline.watermark.now >= 0 else None,
    }


def _variants(pipeline: Pipeline, model: ModelMonitor) -> list[int]:
    index = next(i for i, m in enumerate(pipeline.models) if m is model)
    found: list[int] = np.flatnonzero(pipeline.variants.model_of() == index).tolist()
    return found


def _was_joined(answers: list[dict[str, Any]]) -> bool:
    return any(answer["state"] == RequestPhase.JOINED for answer in answers)


def _not_kept(limit: int) -> str:
    if not limit:
        return "version, prediction, actual and times are not kept: limits.ended is 0"
    return (
        "version, prediction, actual and times are not kept any more: they are for the latest "
        f"{limit} requests that ended (limits.ended), and as long as store.retention"
    )


def _answers(pipeline: Pipeline, model: ModelMonitor, known: RequestState, details: _Details) -> list[dict[str, Any]]:
    """Describe the served answer, then the others."""
    answers = [_waiting(pipeline, model, known.answer, served=True)] if known.answer else []
    if not known.answer and details.served is not None:
        answers.append(details.answer(details.served, served=True))
    told = set()
    for shadow in known.shadows:
        told.add(shadow.variant)
        row = details.beside.get(shadow.variant)
        if shadow.waiting:
            answers.append(_waiting(pipeline, model, shadow.waiting, served=False))
        elif row is not None:
            answers.append(details.answer(row, served=False))
        else:
            version = pipeline.variants.table[shadow.variant].version
            answers.append({"version": version, "served": False, "state": shadow.phase.value})
    forgotten = [row for variant, row in details.beside.items() if variant not in told]
    return answers + [details.answer(row, served=False) for row in forgotten]


def _waiting(pipeline: Pipeline, model: ModelMonitor, answer: WaitingEvent, *, served: bool) -> dict[str, Any]:
    outcomes = model.spec.outcomes
    return {
        "version": pipeline.variants.table[answer.variant].version,
        "served": served,
        "state": RequestPhase.WAITING.value,
        "time": format_time(answer.time),
        "prediction": model.shown(answer.value),
        "expires_at": None if outcomes is None else format_time(answer.time + outcomes.prediction_ttl),
    }


def _outcome(model: ModelMonitor, waiting: WaitingEvent | None) -> dict[str, Any] | None:
    return None if waiting is None else {"actual": model.shown(waiting.value), "time": format_time(waiting.time)}


class _Details:
    """What is stored of the answers to a request that have ended, and of its outcome."""

    def __init__(self, pipeline: Pipeline, model: ModelMonitor, low: int, ended: EndedRequests) -> None:
        self._pipeline, self._model, self._ended = pipeline, model, ended
        self.served: int | None = None  # rows: the latest one of each
        self.beside: dict[int, int] = {}  # by variant
        self._with_outcome: int | None = None
        self._last: int | None = None
        for row, key in enumerate(ended.key.tolist()):
            if ended.ending[row] in HAS_ANSWER and key == low:
                self.served = row
            elif ended.ending[row] in HAS_ANSWER:
                self.beside[int(ended.variant[row])] = row
            if ended.ending[row] in HAS_OUTCOME:
                self._with_outcome = row
            self._last = row if key == low else self._last

    def __len__(self) -> int:
        return len(self._ended)

    @property
    def state(self) -> str | None:
        """How the request has ended; None where nothing is known but of answers that were not served."""
        return None if self._last is None else _STATE[Ending(int(self._ended.ending[self._last]))]

    @property
    def outcome(self) -> dict[str, Any] | None:
        """The outcome that came, in time or not."""
        row, its = self._with_outcome, self._ended
        if row is None:
            return None
        return {"actual": self._model.shown(float(its.actual[row])), "time": format_time(int(its.outcome_time[row]))}

    def answer(self, row: int, *, served: bool) -> dict[str, Any]:
        """Describe an answer."""
        its = self._ended
        score = float(exact_scores(its.score[row : row + 1])[0])
        return {
            "version": self._pipeline.variants.table[int(its.variant[row])].version,
            "served": served,
            "state": str(_STATE[Ending(int(its.ending[row]))]),
            "time": format_time(int(its.time[row])),
            "prediction": self._model.shown(float(its.predicted[row])),
            "score": None if np.isnan(score) else score,
            "served_by": SERVED_BY[int(its.served_by[row])],
            "window": self._pane(int(its.pane[row])) if its.ending[row] == Ending.JOINED else None,
        }

    def _pane(self, pane: int) -> dict[str, Any]:
        """Describe the part of a window that a joined answer counts in."""
        if pane == DROPPED_PANE:
            return {"counted": False}
        spec = self._model.spec
        if spec.window.counted or spec.outcomes is None:
            return {"counted": True, "pane": pane}
        width = spec.outcomes.pane
        return {"counted": True, "start": format_time(pane * width), "end": format_time((pane + 1) * width)}
