"""driftd's own format: one JSON object per record, as documented in `docs/events.md`.

The normal case is one pass of a decoder that checks types and bounds in C; records that it refuses are examined
one by one. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import contains
from typing import Any

import msgspec

from monitor.events.formats.examiner import bad_text, examine
from monitor.events.formats.types import DecodedRecords
from monitor.events.records import DECODE_FAULTS, RecordTypes
from monitor.events.refusals import Finding, Refusal, Refused
from monitor.events.schema import ModelSchema
from monitor.spec import Limits


class DriftdFormat:
    """Keeps `RecordFormat`.

    Args:
        limits: Sizes and lengths that are allowed.
        types: Structs to decode into.
        schema_of: From the name of a model to its schema, None for a model that is not configured.
    """

    def __init__(self, limits: Limits, types: RecordTypes, schema_of: Callable[[object], ModelSchema | None]) -> None:
        self._limits = limits
        self._schema_of = schema_of
        self._decode = msgspec.json.Decoder(types.any).decode

    def decode(self, values: Sequence[bytes | None]) -> DecodedRecords:
        """Decode the records of a batch; features stay undecoded JSON."""
        decode, most = self._decode, self._limits.event_bytes
        if all(values) and max(map(len, values), default=0) <= most:  # type: ignore[arg-type]  # none is None
            try:
                records = list(map(decode, values))  # type: ignore[arg-type]  # none is None
            except DECODE_FAULTS:
                pass
            else:
                return _without_bad_text(values, DecodedRecords(list(range(len(values))), records))
        found = DecodedRecords()
        for row, raw in enumerate(values):
            try:
                if not raw or len(raw) > most:
                    raise msgspec.DecodeError
                found.records.append(decode(raw))
            except DECODE_FAULTS as fault:
                found.refused[row] = Refused(row, *(self.explain(raw) or (Refusal.NOT_JSON, str(fault))))
            else:
                found.rows.append(row)
        return _without_bad_text(values, found)

    def explain(self, raw: bytes | None) -> Finding | None:
        """Return the first rule that a record breaks, None if it breaks none."""
        return examine(raw, self._limits, self._schema_of)


def _without_bad_text(values: Sequence[bytes | None], found: DecodedRecords) -> DecodedRecords:
    """Refuse two things that the decoder accepts: a NUL, and bytes that are not UTF-8 in what it skips."""
    rows = found.rows
    taken: Any = values if len(rows) == len(values) else [values[row] for row in rows]
    if all(map(bytes.isascii, taken)) and not any(map(contains, taken, repeat(b"\\u0000"))):
        return found
    for i in reversed(range(len(rows))):
        row, raw = rows[i], values[rows[i]] or b""
        if b"\\u0000" in raw or not _is_utf8(raw):
            finding = bad_text(raw)
            if finding is not None:
                found.refused[row] = Refused(row, *finding)
                del rows[i], found.records[i]
    return found


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
