"""Hash what identifies an event to 128 bits.

Pure. The seed belongs to the store and is drawn once, so that nobody who does not know it can choose ids
that crowd one region of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from monitor.join.arrays import Keys

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: multiples differ in their upper bits


def model_seed(seed: int, model: str) -> int:
    """Derive a model's hash seed from the store's, because requests of two models may share an id."""
    return xxhash.xxh3_64_intdigest(model.encode(), seed)


def hash_ids(request_ids: Sequence[str], seeds: Iterable[int]) -> tuple[Keys, Keys]:
    """Hash each id under the seed of its model.

    Args:
        request_ids: The ids.
        seeds: A seed (`model_seed`) for each id.

    Returns:
        The low and the high halves of the hashes, two uint64 arrays; a low half is never 0.
    """
    digests = b"".join(map(xxhash.xxh3_128_digest, map(str.encode, request_ids), seeds))
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    low = halves[:, 0].copy()
    low[low == 0] = 1  # 0 marks a free cell of the index
    return low, halves[:, 1].copy()


def shadow_keys(low: Keys, variants: NDArray[np.integer]) -> Keys:
    """Derive the keys of answers that were not served from their requests' keys and their variants.

    Args:
        low: Key of each answer's request.
        variants: Variant code of each answer.

    Returns:
        A key for each answer, never 0. The same call on these keys gives the requests' keys again.
    """
    keys = low ^ (variants.astype(np.uint64) * _GOLDEN | np.uint64(1))
    keys[keys == 0] = 1
    return keys
