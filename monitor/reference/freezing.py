"""Making the profile of learned rows, here or in another process: all that it needs is in one request.

With a profile come the laws of its windows, if these are told. Pure: `freeze` is a function of the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from detectors.laws import with_laws
from detectors.reference import MAGIC, Profile
from detectors.season import Season
from monitor.events.readings import Readings
from monitor.reference.law_windows import LawWindows
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


class _Request(msgspec.Struct, frozen=True, tag="rows"):
    recipe: FeatureRecipe | AnswerRecipe
    rows: bytes


class _LawsRequest(msgspec.Struct, frozen=True, tag="laws"):
    of: bytes  # a profile, or a request for one
    windows: LawWindows


_decode: Final[Callable[[bytes], _Request | _LawsRequest]] = msgspec.msgpack.Decoder(_Request | _LawsRequest).decode


def request(recipe: FeatureRecipe | AnswerRecipe, rows: Rows) -> bytes:
    """Encode what `freeze` needs."""
    return msgspec.msgpack.encode(_Request(recipe, packed_rows(rows)))


def laws_request(of: Profile | bytes, windows: LawWindows) -> bytes:
    """Encode that laws of windows are to be made, of a profile or of what another request asks for."""
    return msgspec.msgpack.encode(_LawsRequest(of if isinstance(of, bytes) else of.to_bytes(), windows))


def freeze(blob: bytes) -> Profile:
    """Do what a request asks for."""
    asked = _decode(blob)
    if isinstance(asked, _LawsRequest):
        profile = Profile.from_bytes(asked.of) if asked.of.startswith(MAGIC) else freeze(asked.of)
        return with_laws(profile, asked.windows.sizes(profile))
    return asked.recipe.freeze(unpacked_rows(asked.rows))
