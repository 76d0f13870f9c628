"""What a format of records has to do: turn bytes into event records, or say why not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from monitor.events.refusals import Finding, Refused


@dataclass(slots=True)
class DecodedRecords:
    """Records of a batch that could be decoded, in order, and those that could not.

    Attributes:
        rows: Position in the batch of each record in `records`.
        records: Structs of `records.RecordTypes`.
        refused: By position in the batch.
    """

    rows: list[int] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)


class RecordFormat(Protocol):
    """Decodes the records of one wire format. Another producer's format is another implementation."""

    def decode(self, values: Sequence[bytes | None]) -> DecodedRecords:
        """Decode the records of a batch. A record is either decoded or refused; nothing is raised."""
        ...

    def explain(self, raw: bytes | None) -> Finding | None:
        """Return why a decoded record turned out to be unusable, None where no rule of the format says so."""
        ...
