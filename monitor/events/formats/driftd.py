"""driftd's own format: one JSON object per record, as documented in `docs/events.md`.

The normal case is one pass of a decoder that checks types and bounds in C; records that it does not take are examined
one by one, and decoded without the values that cannot be used. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat
from operator import contains
from typing import Any

import msgspec

from monitor.events.formats.examiner import SchemaOf, mend, model_of
from monitor.events.formats.json_text import BrokenRule
from monitor.events.formats.types import DecodedRecords, Mended
from monitor.events.records import DECODE_FAULTS, RecordTypes
from monitor.events.refusals import Finding, Refusal, Refused
from monitor.spec import Limits


class DriftdFormat:
    """Keeps `RecordFormat`.

    Args:
        limits: Sizes and lengths that are allowed.
        types: Structs to decode into.
        schema_of: From the name of a model to its schema, None for a model that is not configured.
    """

    def __init__(self, limits: Limits, types: RecordTypes, schema_of: SchemaOf) -> None:
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
                return self._without_bad_text(values, DecodedRecords(list(range(len(values))), records))
        found = DecodedRecords()
        for row, raw in enumerate(values):
            try:
                if not raw or len(raw) > most:
                    raise msgspec.DecodeError
                record = decode(raw)
            except DECODE_FAULTS:
                self._take_mended(found, row, raw)
            else:
                found.rows.append(row)
                found.records.append(record)
        return self._without_bad_text(values, found)

    def mend(self, raw: bytes | None) -> Mended | Finding:
        """Decode a record without its unusable values, or return why it is refused."""
        try:
            event, faults = mend(raw, self._limits, self._schema_of)
            return Mended(self._decode(json.dumps(event).encode()), faults)
        except BrokenRule as stop:
            return stop.finding
        except DECODE_FAULTS as fault:
            return Refusal.BAD_VALUE, f"a value is out of range: {fault}"

    def model_of(self, raw: bytes | None) -> str | None:
        """Return the name of the model of a record that was refused; None where it has none."""
        return model_of(raw, self._limits)

    def _take_mended(self, found: DecodedRecords, row: int, raw: bytes | None) -> None:
        match self.mend(raw):
            case Mended(record, faults):
                found.rows.append(row)
                found.records.append(record)
                found.faults[row] = faults
            case (reason, detail):
                found.refused[row] = Refused(row, reason, detail)

    def _without_bad_text(self, values: Sequence[bytes | None], found: DecodedRecords) -> DecodedRecords:
        """Mend or refuse two things that the decoder accepts: a NUL, and bytes that are not UTF-8 in what it skips."""
        rows = found.rows
        taken: Any = values if len(rows) == len(values) else [values[row] for row in rows]
        if all(map(bytes.isascii, taken)) and not any(map(contains, taken, repeat(b"\\u0000"))):
            return found
        checked = DecodedRecords(refused=found.refused, faults=found.faults)
        for row, record in zip(rows, found.records, strict=True):
            raw = values[row] or b""
            if row not in found.faults and (b"\\u0000" in raw or not _is_utf8(raw)):
                self._take_mended(checked, row, raw)
            else:
                checked.rows.append(row)
                checked.records.append(record)
        return checked


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
