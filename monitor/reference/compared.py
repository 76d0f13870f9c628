"""What windows are compared with: comparisons of features and of answers, made of profiles. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from detectors.comparison import Comparison
from detectors.reference import CategoricalReference, NumericReference, Profile, Reference
from monitor.names import shown_name
from monitor.reference.feature_reader import FeatureReader
from monitor.reference.subjects import FEATURES
from monitor.spec import FeatureKind, ModelSpec, Task


@dataclass(frozen=True, slots=True)
class Compared:
    """A profile, and how something is compared with it.

    Attributes:
        profile: The profile.
        comparison: None where there is nothing to compare, or drift is not watched.
        reader: Reads features; None for answers.
    """

    profile: Profile
    comparison: Comparison | None
    reader: FeatureReader | None = None

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are counted against it."""
        return () if self.comparison is None else self.comparison.all_vectors


def compared_features(spec: ModelSpec, profile: Profile) -> Compared:
    """Compare features of a model with those of a profile."""
    reader = FeatureReader(profile, spec.feature_kinds)
    if spec.drift is None or not reader.reads:
        return Compared(profile, None, reader)
    return Compared(profile, _comparison(spec, FEATURES, reader.numeric, reader.categorical), reader)


def compared_answers(spec: ModelSpec, profile: Profile) -> Compared:
    """Compare predictions and scores of a version with those of a profile."""
    if spec.drift is None:
        return Compared(profile, None)
    compared = [f for f in profile.answers if spec.feature_kinds.get(f.name) is not FeatureKind.IGNORE]
    numeric = [f for f in compared if isinstance(f, NumericReference)]
    categorical = [f for f in compared if isinstance(f, CategoricalReference)]
    if spec.task is not Task.REGRESSION:
        numeric = [f for f in numeric if f.name != "prediction"]
    return Compared(profile, _comparison(spec, "answers", numeric, categorical))


def names_in(comparison: Comparison) -> list[str]:
    """Return how what is compared is called, in the order of the comparison: numbers first."""
    of_features = comparison.prefix.partition(":")[0] == FEATURES
    return [shown_name(name) if of_features else name for name in comparison.names]


def _comparison(
    spec: ModelSpec, prefix: str, numeric: Sequence[NumericReference], categorical: Sequence[CategoricalReference]
) -> Comparison:
    drift = spec.drift
    if drift is None:
        raise ValueError("nothing is compared where drift is not watched")
    # Panes outlive references: the name of what they count says against which reference it was counted.
    name = f"{prefix}:{_digest(numeric, categorical)}"
    return Comparison(name, numeric, categorical, (*drift.numeric, *drift.categorical), drift.min_effect)


def _digest(numeric: Sequence[NumericReference], categorical: Sequence[CategoricalReference]) -> str:
    """What tells these references from any others."""
    found = hashlib.sha256()
    for r in numeric:
        found.update(json.dumps(r.name).encode() + r.points.tobytes() + r.weights.tobytes() + _by_season(r))
    for c in categorical:
        found.update(json.dumps([c.name, c.categories, c.other]).encode() + c.counts.tobytes() + _by_season(c))
    return found.hexdigest()[:12]


def _by_season(r: Reference) -> bytes:
    held = r.seasonal
    return b"" if held is None else held.season.encode() + held.counts.tobytes() + held.missing.tobytes()
