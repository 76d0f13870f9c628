"""Structs that records are decoded into, whatever their wire format.

What msgspec can check is checked by it, in C: types, lengths and bounds that come from the limits. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from monitor.events.columns import EventKind
from monitor.events.schema import ASSIGNED_BY, LARGEST_INTEGER, SERVED_BY, Whole, WholeId

DECODE_FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MemoryError)


@dataclass(frozen=True, slots=True)
class RecordTypes:
    """The structs of one configuration.

    Attributes:
        any: Their union, tagged by the field `type`.
        kinds: Struct to kind of event; every prediction is SERVED until `served` is looked at.
    """

    any: Any
    kinds: Mapping[type, EventKind]


def record_types(id_length: int) -> RecordTypes:
    """Make the structs for ids, names and labels of at most `id_length` characters."""
    ident = Annotated[str, msgspec.Meta(min_length=1, max_length=id_length)]
    text = Annotated[str, msgspec.Meta(max_length=id_length)]
    most = LARGEST_INTEGER
    amount = Annotated[int, msgspec.Meta(ge=0, le=most)] | Annotated[float, msgspec.Meta(ge=0, le=float(most))]
    probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
    time = str | Whole | float
    request_id = ident | WholeId
    label = text | Whole | float | bool
    metrics = dict[str, Whole | float | None] | None
    options: dict[str, Any] = {"tag_field": "type", "gc": False}
    batch = msgspec.defstruct("Batch", [("size", amount), ("ms", amount)], gc=False)
    prediction = msgspec.defstruct(
        "Prediction",
        [
            ("request_id", request_id), ("time", time), ("model", ident), ("version", ident),
            ("schema", Literal[1], 1), ("assigned", text | None, None), ("served", bool, True),
            ("served_by", Literal[SERVED_BY], "primary"), ("segment", text | None, ""),
            ("features", msgspec.Raw, msgspec.Raw(b"{}")), ("prediction", label | None, None),
            ("scores", dict[str, probability] | None, None), ("latency_ms", amount | None, None),
            ("error", text | None, None), ("metrics", metrics, None),
            ("batch", batch | None, None), ("assigned_by", Literal[ASSIGNED_BY] | None, None),
            ("synthetic", bool | None, None),
        ],
        tag="prediction", **options,
    )  # fmt: skip
    outcome = msgspec.defstruct(
        "Outcome",
        [
            ("request_id", request_id), ("time", time), ("model", ident), ("actual", label), ("schema", Literal[1], 1),
            ("metrics", metrics, None), ("synthetic", bool | None, None),
        ],
        tag="outcome", **options,
    )  # fmt: skip
    resources = msgspec.defstruct(
        "Resources",
        [
            ("model", ident), ("version", ident), ("time", time), ("schema", Literal[1], 1),
            ("memory_mb", amount | None, None), ("cpu_percent", amount | None, None),
            ("gpu_percent", amount | None, None),
        ],
        tag="resources", **options,
    )  # fmt: skip
    return RecordTypes(
        prediction | outcome | resources,
        {prediction: EventKind.SERVED, outcome: EventKind.OUTCOME, resources: EventKind.RESOURCES},
    )
