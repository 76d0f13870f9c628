"""What identifies an event, as 128 bits.

Pure. The seed belongs to the store and is drawn once, so that nobody who does not know it can choose ids
that crowd one region of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

U64 = NDArray[np.uint64]


def model_seed(seed: int, model: str) -> int:
    """The store's seed made the model's own: requests of two models may share an id."""
    return xxhash.xxh3_64_intdigest(model.encode(), seed)


def hash_ids(request_ids: Sequence[str], seeds: Iterable[int]) -> tuple[U64, U64]:
    """(low, high) halves of the hash of each id under the seed of its model; a low half is never 0."""
    digests = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, request_ids), seeds))
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    low = halves[:, 0].copy()
    low[low == 0] = 1  # 0 marks a free cell of the index
    return low, halves[:, 1].copy()


def shadow_keys(low: U64, variants: NDArray[np.integer]) -> U64:
    """Key of an answer that was not served: the request's own, told apart by the variant that gave it."""
    lanes = low ^ (variants.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1))
    lanes[lanes == 0] = 1
    return lanes
