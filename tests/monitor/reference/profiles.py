"""Tables in every format, and a look into the profiles that they become."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from detectors.reference import CategoricalReference, NumericReference, Profile
from monitor.reference.build import load
from monitor.reference.table_roles import TableSpec

Rows = Sequence[dict[str, Any]]
PLAIN = TableSpec()
FORMS = ["t.csv", "t.csv.gz", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.ndjson", "t.parquet"]
SOME: Rows = [
    {
        "time": f"2026-11-21T09:{i // 60:02d}:{i % 60:02d}Z",
        "load": None if i % 17 == 0 else i * 0.37 % 5,
        "count": i % 7,
        "fuel": None if i % 13 == 0 else ("gas", "oil", "größe")[i % 3],
        "prediction": i * 0.37 % 5 + 0.1,
        "actual": None if i % 11 == 0 else i * 0.37 % 5,
    }
    for i in range(500)
]


def write(path: Path, rows: Rows) -> Path:
    """A table in the form that the name asks for; a gap is None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    if "json" in path.name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        comma = "\t" if ".tsv" in path.name else ","
        lines = [names, *(["" if row.get(name) is None else str(row[name]) for name in names] for row in rows)]
        text = "".join(comma.join(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def profile_of(tmp_path: Path, rows: Rows, spec: TableSpec = PLAIN, name: str = "t.jsonl") -> Profile:
    return load(write(tmp_path / name, rows), spec)


def numeric(profile: Profile, name: str) -> NumericReference:
    feature = profile.feature(name) or profile.answer(name)
    assert isinstance(feature, NumericReference)
    return feature


def categorical(profile: Profile, name: str) -> CategoricalReference:
    feature = profile.feature(name) or profile.answer(name)
    assert isinstance(feature, CategoricalReference)
    return feature


def counts(feature: CategoricalReference) -> dict[str, int]:
    return dict(zip(feature.categories, feature.counts.tolist(), strict=True))
