"""Names of features beside the names of a model's own answers. Pure.

Alerts, the history, the status document and the configuration name what is compared in one flat space, where
`prediction` and `score` are the answers of the model. A feature may have any name; of one that has such a name it is
written with `features.` before it, and so is one that is called like that already. No two names are shown alike.
"""

from __future__ import annotations

import re
from typing import Final

from detectors.reference import ANSWERS, Profile

_PREFIX: Final = "features."
_TAKEN: Final = re.compile(rf"(?:{re.escape(_PREFIX)})*(?:{'|'.join(ANSWERS)})")


def shown_name(feature: str) -> str:
    """Return how a feature is called beside the model's answers: `features.score` for one called `score`."""
    return _PREFIX + feature if _TAKEN.fullmatch(feature) else feature


def feature_of(shown: str) -> str | None:
    """Return the name that a feature has in events, by how it is shown; None for the name of an answer."""
    if shown in ANSWERS:
        return None
    return shown.removeprefix(_PREFIX) if _TAKEN.fullmatch(shown) else shown


def shown_names(profile: Profile) -> list[str]:
    """Return how all that a profile describes is called: its features, then the model's answers."""
    return [*(shown_name(f.name) for f in profile.features), *(f.name for f in profile.answers)]
