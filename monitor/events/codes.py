"""Integer codes for texts that events repeat: versions, segments, labels.

In memory, on panes and in waiting predictions a label or version is its code. The texts are kept once, here, and in
the database from the commit on that first uses them. Every list is bounded, since a stream may invent any number of
texts: texts beyond the limit share the code of OTHER. New entries are taken for the database in a commit only. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NewType

import numpy as np
from numpy.typing import NDArray

from detectors.categorical import text_of
from fallback.types import VERSIONLESS_TIERS as _VERSIONLESS

VariantCode = NewType("VariantCode", int)  # a version of a model, or the model itself
LabelCode = NewType("LabelCode", int)  # a label of one model

OTHER: Final = "__other__"
VERSIONLESS_TIERS: Final = tuple(tier.value for tier in _VERSIONLESS)  # names that answer where no version did
UNKNOWN: Final = VariantCode(0)  # of a model that is not configured

NEGATIVE, POSITIVE = LabelCode(0), LabelCode(1)  # label codes of a binary task, whatever the labels are called
_POSITIVE_TEXTS = frozenset({"1", "true", "yes"})
_NEGATIVE_TEXTS = frozenset({"0", "false", "no"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the code table.

    Attributes:
        model: "" for codes that all models share.
        kind: `version`, `model`, `segment`, `label` or `metric`; codes are unique within (model, kind), those of
            versions and models in the whole table.
        code: The number.
        text: What it stands for.
    """

    model: str
    kind: str
    code: int
    text: str


class Codes(dict[str, int]):
    """Text → code. A new text gets the next free code until `limit` texts have one, then the code of OTHER.

    Args:
        model: Whose codes they are, "" for all models.
        kind: As in `Entry`.
        limit: Texts that get a code of their own.
        first: The first code.

    Attributes:
        texts: Code → text.
    """

    def __init__(self, model: str, kind: str, limit: int, first: int = 0) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}
        self._model, self._kind = model, kind
        self._limit, self._next = limit, first
        self._fresh: list[Entry] = []

    def __missing__(self, text: str) -> int:
        if len(self.texts) >= self._limit and text != OTHER:
            return self[OTHER]
        code = self._next
        self._set(text, code)
        self._fresh.append(Entry(self._model, self._kind, code, text))
        return code

    def _set(self, text: str, code: int) -> None:
        self[text] = code
        self.texts[code] = text
        self._next = max(self._next, code + 1)

    def drain_fresh(self) -> list[Entry]:
        """Return the entries made since the last call, for the commit that writes them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def restore(self, entries: Iterable[Entry]) -> None:
        """Restore entries from the database; none of them is fresh, even if construction made it already."""
        for entry in entries:
            self._set(entry.text, entry.code)
            self._fresh = [fresh for fresh in self._fresh if fresh.text != entry.text]


class Labels:
    """Codes of the labels of one classifier. In a binary task every spelling of yes is POSITIVE.

    Where the positive class is configured, every other text of a binary task is NEGATIVE, so that a
    probability below the threshold and the name of the other class are the same answer. Where it is not, 1,
    true and yes are POSITIVE, 0, false and no NEGATIVE, and other texts are classes of their own.

    Args:
        model: Name of the model.
        limit: Labels that get a code of their own.
        binary: The task is binary.
        positive: The configured positive class.

    Attributes:
        codes: Codes of labels that are neither POSITIVE nor NEGATIVE.
    """

    def __init__(self, model: str, limit: int, *, binary: bool, positive: str | None) -> None:
        self._binary = binary
        self._positive = None if positive is None else text_of(positive)
        self.codes = Codes(model, "label", limit, first=2 if binary else 0)
        self._limit = limit
        self._known: dict[str, LabelCode] = {}  # bounded, as the codes are

    def code(self, label: object) -> LabelCode:
        """Return the code of a label, given as a JSON scalar."""
        text = text_of(label)
        known = self._known.get(text)
        if known is None:
            known = self._code(text)
            if len(self._known) < self._limit and known != self.codes.get(OTHER):
                self._known[text] = known
        return known

    def _code(self, text: str) -> LabelCode:
        if self._binary:
            if self._positive is not None:
                return POSITIVE if text == self._positive else NEGATIVE
            if text.lower() in _POSITIVE_TEXTS:
                return POSITIVE
            if text.lower() in _NEGATIVE_TEXTS:
                return NEGATIVE
        return LabelCode(self.codes[text])

    def text(self, code: LabelCode) -> str:
        """Return the text that is shown for a code."""
        if self._binary and code in (NEGATIVE, POSITIVE):
            return (self._positive or "1") if code == POSITIVE else "0"
        return self.codes.texts.get(code, str(code))

    def is_positive(self, text: str) -> bool:
        """Return whether a key of `scores` names the positive class."""
        text = text_of(text)
        return text == self._positive if self._positive is not None else text.lower() in _POSITIVE_TEXTS


@dataclass(frozen=True, slots=True)
class Variant:
    """A version of a model, a tier that answers where no version did, or the model itself.

    Attributes:
        code: Its code.
        model: Index of the model in the configuration, -1 for a model that is not configured any more.
        version: None for the model itself, under whose code its outcomes wait.
    """

    code: VariantCode
    model: int
    version: str | None


class Variants(dict[tuple[str, str], VariantCode]):
    """(model, version) → code. Versions beyond the limit of a model share one code.

    Args:
        models: Names of the configured models; their index is their place here.
        configured: Versions by model that have a code from the start.
        limit: Versions of a model that get a code of their own.

    Attributes:
        table: Variant by code.
    """

    def __init__(self, models: Sequence[str], configured: Mapping[str, Iterable[str]], limit: int) -> None:
        super().__init__()
        self._models = {name: i for i, name in enumerate(models)}
        self._names = tuple(models)
        self._limit = limit
        self.table: list[Variant] = [Variant(UNKNOWN, -1, None)]
        self._count = dict.fromkeys(models, 0)
        self._fresh: list[Entry] = []
        self._model_code = [self._add(name, None) for name in models]
        for name in models:
            for version in configured[name]:
                self._add(name, version)

    def __missing__(self, key: tuple[str, str]) -> VariantCode:
        model, version = key
        if model not in self._models:
            return UNKNOWN
        if self._count[model] >= self._limit and version not in (*VERSIONLESS_TIERS, OTHER):
            return self[model, OTHER]
        return self._add(model, version)

    def _add(self, model: str, version: str | None) -> VariantCode:
        if version is not None and (model, version) in self:
            return self[model, version]
        variant = Variant(VariantCode(len(self.table)), self._models[model], version)
        self._set(variant)
        self._fresh.append(Entry(model, "version" if version is not None else "model", variant.code, version or ""))
        return variant.code

    def _set(self, variant: Variant) -> None:
        while len(self.table) <= variant.code:
            self.table.append(Variant(UNKNOWN, -1, None))
        self.table[variant.code] = variant
        name = self._names[variant.model]
        if variant.version is not None:
            self[name, variant.version] = variant.code
            if variant.version not in (*VERSIONLESS_TIERS, OTHER):
                self._count[name] += 1

    def model_of(self) -> NDArray[np.int64]:
        """Return the model index by variant code, -1 for UNKNOWN and for models that are not configured any more."""
        return np.array([v.model for v in self.table], np.int64)

    def of_model(self, model: int) -> VariantCode:
        """Return the code under which outcomes of a model wait."""
        return self._model_code[model]

    def drain_fresh(self) -> list[Entry]:
        """Return the entries made since the last call, for the commit that writes them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def restore(self, entries: Sequence[Entry]) -> None:
        """Replace the codes made by construction by those of the database, then add newly configured versions."""
        configured = [(self._names[v.model], v.version) for v in self.table[1:]]
        self.clear()
        self.table = [Variant(UNKNOWN, -1, None)]
        self._count = dict.fromkeys(self._models, 0)
        self._fresh = []
        for entry in entries:
            if entry.model in self._models:
                version = entry.text if entry.kind == "version" else None
                self._set(Variant(VariantCode(entry.code), self._models[entry.model], version))
                if version is None:
                    self._model_code[self._models[entry.model]] = VariantCode(entry.code)
            else:
                # Its predictions may still wait in the join; no model takes their outcomes.
                while len(self.table) <= entry.code:
                    self.table.append(Variant(UNKNOWN, -1, None))
        held = {v.model for v in self.table if v.model >= 0 and v.version is None}
        for name, version in configured:
            if version is not None:
                self._add(name, version)
            elif self._models[name] not in held:
                self._model_code[self._models[name]] = self._add(name, None)
