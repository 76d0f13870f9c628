"""Types of the join's arrays and numbers, named by what they hold. Pure definitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

Slot = NewType("Slot", int)  # where an open entry lies in the columns of `Slots`
Pane = NewType("Pane", int)  # number of an outcome pane
VariantCode = NewType("VariantCode", int)  # code of a model version

RowIndices: TypeAlias = NDArray[np.int64]  # rows of a batch
SlotIndices: TypeAlias = NDArray[np.int64]
CellIndices: TypeAlias = NDArray[np.int64]  # cells of the key index
CellValues: TypeAlias = NDArray[np.int32]  # a slot, EMPTY, or how the key was closed
ClosedTags: TypeAlias = NDArray[np.int64]  # 17 bits about a closed key
Keys: TypeAlias = NDArray[np.uint64]  # 64 bits of a hash, never 0
PaneNumbers: TypeAlias = NDArray[np.int64]
VariantCodes: TypeAlias = NDArray[np.uint16]
ShadowMasks: TypeAlias = NDArray[np.uint64]  # bit v % 64: variant v gave an answer that was not served
Milliseconds: TypeAlias = NDArray[np.int64]  # times and durations
Values: TypeAlias = NDArray[np.float64]  # predictions and actual values: numbers or label codes
Mask: TypeAlias = NDArray[np.bool_]
Positions: TypeAlias = NDArray[np.int64]  # positions in another array of this list
Columns: TypeAlias = Mapping[str, NDArray[Any]]
