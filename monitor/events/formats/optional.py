"""Values that a record of driftd's own format may lack: what cannot be used of them is left out and told.

A value is unusable if it has the wrong type, is out of range, or is a text that cannot be stored or compared. Slow, as
`formats.examiner`, by which it is called. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from monitor.events.formats.json_text import (
    BrokenRule,
    check_text,
    check_values,
    is_number,
    kind_of,
    show,
    within,
)
from monitor.events.readings import ROUNDING
from monitor.events.refusals import FieldFault, Refusal
from monitor.events.schema import LARGEST_INTEGER, ModelSchema
from monitor.spec import Limits

_AMOUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "prediction": ("latency_ms",),
    "outcome": (),
    "resources": ("memory_mb", "cpu_percent", "gpu_percent"),
}
Check = Callable[[Any, str], Any]  # of a value and its path; returns what is used of it


class OptionalFields:
    """Takes the optional fields of one event apart.

    Args:
        event: The parsed record.
        limits: Sizes and lengths that are allowed.
        schema: Of its model.

    Attributes:
        faults: What was left out.
    """

    def __init__(self, event: Mapping[str, Any], limits: Limits, schema: ModelSchema) -> None:
        self._event, self._limits, self._schema = event, limits, schema
        self.faults: list[FieldFault] = []

    def of(self, kind: str) -> dict[str, Any]:
        """Return the usable optional fields of an event of this type.

        Raises:
            BrokenRule: there are too many features.
        """
        found = {name: self._one(name, _amount) for name in _AMOUNTS[kind]}
        if kind != "resources":
            found["metrics"] = self._each("metrics", _metric)
        if kind == "prediction":
            found["segment"] = self._one("segment", self._segment)
            scores = self._each("scores", _score)
            found["scores"] = scores and {name: score for name, score in scores.items() if score is not None}
            found["batch"] = self._batch()
            found["features"] = self._features()
        return found

    def _one(self, name: str, check: Check) -> Any:
        """Return a field, None where it is absent or unusable."""
        return self._usable(self._event.get(name), name, check)

    def _usable(self, value: Any, path: str, check: Check) -> Any:
        try:
            check_values(value, path, 1)
            return None if value is None else check(value, path)
        except BrokenRule as stop:
            self.faults.append(FieldFault(path, stop.finding[0]))
            return None

    def _each(self, field: str, check: Check, ignored: Collection[str] = ()) -> dict[str, Any] | None:
        """Return the entries of an object, null for what cannot be used or is ignored; None where it is no object."""
        value = self._event.get(field)
        if not isinstance(value, dict):
            return self._one(field, _no_object)  # type: ignore[no-any-return]  # always None
        return {
            name: None if name in ignored else self._usable(inner, within(field, name), check)
            for name, inner in value.items()
            if self._is_name(field, name)
        }

    def _is_name(self, field: str, name: str) -> bool:
        try:
            check_text(name, field)
        except BrokenRule as stop:
            self.faults.append(FieldFault(field, stop.finding[0]))  # the name itself cannot be shown
            return False
        return True

    def _segment(self, value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise BrokenRule(Refusal.WRONG_TYPE, f"{path}: {show(value)}: text is needed")
        if len(value) > self._limits.id_length:
            raise BrokenRule(Refusal.ID_TOO_LONG, f"{path}: {len(value)} characters")
        return value

    def _batch(self) -> dict[str, Any] | None:
        """Return size and duration of a batch, None unless both are usable."""
        batch = self._event.get("batch")
        if not isinstance(batch, dict):
            return self._one("batch", _no_object)  # type: ignore[no-any-return]  # always None
        found = {}
        for name in ("size", "ms"):
            if batch.get(name) is None:
                self.faults.append(FieldFault(f"batch.{name}", Refusal.MISSING_FIELD))
            else:
                found[name] = self._usable(batch[name], f"batch.{name}", _amount)
        return found if len(found) == 2 and None not in found.values() else None

    def _features(self) -> dict[str, Any] | None:
        features = self._event.get("features")
        if isinstance(features, dict) and len(features) > self._limits.features:
            detail = f"features: {len(features)} of them, at most {self._limits.features}"
            raise BrokenRule(Refusal.TOO_MANY_FEATURES, detail)
        return self._each("features", _scalar, self._schema.ignored)


def _no_object(value: Any, path: str) -> None:
    raise BrokenRule(Refusal.WRONG_TYPE, f"{path}: {show(value)}: an object is needed, not {kind_of(value)}")


def _scalar(value: Any, path: str) -> Any:
    if isinstance(value, dict | list):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{path}: {show(value)}: a number, text, boolean or null is needed")
    return value


def _metric(value: Any, path: str) -> Any:
    if not is_number(value):
        raise BrokenRule(Refusal.WRONG_TYPE, f"{path}: {show(value)}: a number is needed")
    return value


def _amount(value: Any, path: str) -> Any:
    if _metric(value, path) < 0:
        raise BrokenRule(Refusal.BAD_VALUE, f"{path}: {value}: cannot be negative")
    if value > LARGEST_INTEGER:
        raise BrokenRule(Refusal.BAD_VALUE, f"{path}: {value}: cannot be above 2^53")
    return value


def _score(value: Any, path: str) -> Any:
    clamped = min(max(_metric(value, path), 0), 1)
    if abs(value - clamped) > ROUNDING:
        raise BrokenRule(Refusal.BAD_VALUE, f"{path}: {value}: a probability lies between 0 and 1")
    return clamped
