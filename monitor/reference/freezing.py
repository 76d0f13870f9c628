"""Making the profile of learned rows, here or in another process: all that it needs is in one request.

Pure: `freeze` is a function of the bytes of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from detectors.reference import Profile
from detectors.season import Season
from monitor.events.readings import Readings
from monitor.reference.learning import answer_profile, feature_profile
from monitor.reference.pane_rows import RAW, SCORE, TIME, VALUE, Rows, packed_rows, unpacked_rows
from monitor.spec import FeatureKind


class FeatureRecipe(msgspec.Struct, frozen=True, tag="features"):
    """How the profile of features is made; the fields are arguments of `feature_profile`."""

    kinds: Mapping[str, FeatureKind]
    points: int
    names: int
    season: Season | None = None

    def freeze(self, rows: Rows) -> Profile:
        """Make the profile of rows in order."""
        return feature_profile(rows[RAW].tolist(), rows[TIME], self.kinds, self.points, self.names, self.season)


class AnswerRecipe(msgspec.Struct, frozen=True, tag="answers"):
    """How the profile of a version's answers is made; the fields are arguments of `answer_profile`."""

    labels: Mapping[int, str] | None
    points: int
    readings: Readings
    season: Season | None = None

    def freeze(self, rows: Rows) -> Profile:
        """Make the profile of rows in order."""
        values, scores, times = rows[VALUE], rows[SCORE], rows[TIME]
        return answer_profile(values, scores, self.labels, self.points, self.readings, self.season, times)


class _Request(msgspec.Struct, frozen=True):
    recipe: FeatureRecipe | AnswerRecipe
    rows: bytes


_decode: Final = msgspec.msgpack.Decoder(_Request).decode


def request(recipe: FeatureRecipe | AnswerRecipe, rows: Rows) -> bytes:
    """Encode what `freeze` needs."""
    return msgspec.msgpack.encode(_Request(recipe, packed_rows(rows)))


def freeze(blob: bytes) -> Profile:
    """Do what a `request` asks for."""
    asked = _decode(blob)
    return asked.recipe.freeze(unpacked_rows(asked.rows))
