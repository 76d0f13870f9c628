"""What a format of records has to do: turn bytes into event records, or say why not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from monitor.events.refusals import FieldFault, Finding, Refused


@dataclass(slots=True)
class DecodedRecords:
    """Records of a batch that could be decoded, in order, and those that could not.

    Attributes:
        rows: Position in the batch of each record in `records`.
        records: Structs of `records.RecordTypes`.
        refused: By position in the batch.
        faults: Values that were left out of records, by position in the batch.
    """

    rows: list[int] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    refused: dict[int, Refused] = field(default_factory=dict)
    faults: dict[int, tuple[FieldFault, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mended:
    """A record without the values that cannot be used, and what these were."""

    record: Any
    faults: tuple[FieldFault, ...]


class RecordFormat(Protocol):
    """Decodes the records of one wire format. Another producer's format is another implementation."""

    def decode(self, values: Sequence[bytes | None]) -> DecodedRecords:
        """Decode the records of a batch. A record is either decoded or refused; nothing is raised."""
        ...

    def mend(self, raw: bytes | None) -> Mended | Finding:
        """Decode a record without its unusable values, or return why it is refused."""
        ...

    def model_of(self, raw: bytes | None) -> str | None:
        """Return the name of the model of a record that was refused; None where it has none."""
        ...
