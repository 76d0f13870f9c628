"""Names of the statistics that the configuration may ask for, and the smallest effects that count by default.

Pure. `comparison` and `streaming` compute them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NUMERIC: Final = ("ks", "wasserstein", "psi")
CATEGORICAL: Final = ("chi_square", "jensen_shannon")
RATES: Final = ("missing_rate", "unseen_rate")  # always tested, of every feature
CONCEPT: Final = ("adwin",)  # change detectors on a stream of errors

MIN_EFFECT: Final[Mapping[str, float]] = MappingProxyType(
    {
        "ks": 0.1,  # largest gap between the distribution functions
        "wasserstein": 0.1,  # standard deviations of the reference
        "psi": 0.1,  # nats
        "chi_square": 0.1,  # Cramér's V at equal sizes
        "jensen_shannon": 0.1,  # distance, base 2, at most 1
        "missing_rate": 0.05,  # difference of shares, at most 1
        "unseen_rate": 0.01,  # share of the events, at most 1
    }
)

# Largest effect that there can be; others have no bound. A larger minimum effect is never reached.
MOST_EFFECT: Final[Mapping[str, float]] = MappingProxyType(
    {"ks": 1.0, "chi_square": 1.0, "jensen_shannon": 1.0, "missing_rate": 1.0, "unseen_rate": 1.0}
)


def can_alarm(statistic: str, min_effect: Mapping[str, float]) -> bool:
    """Tell whether a statistic can reach the smallest effect that counts."""
    return min_effect[statistic] <= MOST_EFFECT.get(statistic, math.inf)
