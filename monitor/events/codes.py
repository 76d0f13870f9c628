"""Texts that events repeat, as small numbers: variants, segments, labels.

What is a label or a version in memory, on a pane or in a waiting prediction is a code; the texts are kept
once, here, and in the database in the commit that first uses them. Every list is bounded, since a stream
may invent any number of texts: what is beyond the bound shares the code of OTHER. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.categorical import text_of

OTHER: Final = "__other__"
VERSIONLESS_TIERS: Final = ("rules", "ensemble", "default")  # names that answer where no version did
UNKNOWN: Final = 0  # the variant of a model that nobody configured

NEGATIVE, POSITIVE = 0, 1  # label codes of a binary task, whatever the labels are called
_POSITIVE_TEXTS = frozenset({"1", "true", "yes"})
_NEGATIVE_TEXTS = frozenset({"0", "false", "no"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the code table. `model` is "" for what all models share."""

    model: str
    kind: str
    code: int
    text: str


class Codes(dict[str, int]):
    """Text → code, the next free one for a new text until `limit` texts have one."""

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

    def take_fresh(self) -> list[Entry]:
        """Entries made since this was last called."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take entries of the database back: they are not fresh, also where construction made them already."""
        for entry in entries:
            self._set(entry.text, entry.code)
            self._fresh = [fresh for fresh in self._fresh if fresh.text != entry.text]


class Labels:
    """Label of a classification → code. In a binary task all ways to say yes are POSITIVE.

    Where the positive class is configured, every other text of a binary task is NEGATIVE, so that a
    probability below the threshold and the name of the other class are the same answer. Where it is not, 1,
    true and yes are POSITIVE, 0, false and no NEGATIVE, and other texts are classes of their own.
    """

    def __init__(self, model: str, limit: int, *, binary: bool, positive: str | None) -> None:
        self._binary = binary
        self._positive = None if positive is None else text_of(positive)
        self.codes = Codes(model, "label", limit, first=2 if binary else 0)
        self._limit = limit
        self._known: dict[str, int] = {}  # bounded, as the codes are

    def code(self, label: object) -> int:
        """The code of a JSON scalar."""
        text = text_of(label)
        known = self._known.get(text)
        if known is None:
            known = self._code(text)
            if len(self._known) < self._limit and known != self.codes.get(OTHER):
                self._known[text] = known
        return known

    def _code(self, text: str) -> int:
        if self._binary:
            if self._positive is not None:
                return POSITIVE if text == self._positive else NEGATIVE
            if text.lower() in _POSITIVE_TEXTS:
                return POSITIVE
            if text.lower() in _NEGATIVE_TEXTS:
                return NEGATIVE
        return self.codes[text]

    def text(self, code: int) -> str:
        """What to show for a code."""
        if self._binary and code in (NEGATIVE, POSITIVE):
            return (self._positive or "1") if code == POSITIVE else "0"
        return self.codes.texts.get(code, str(code))

    def is_positive(self, text: str) -> bool:
        """Whether a key of `scores` names the positive class."""
        text = text_of(text)
        return text == self._positive if self._positive is not None else text.lower() in _POSITIVE_TEXTS


@dataclass(frozen=True, slots=True)
class Variant:
    """A version of a model, or one of the levels that answer where no version did."""

    code: int
    model: int
    version: str | None  # None stands for the model itself: its outcomes wait under this code


class Variants(dict[tuple[str, str], int]):
    """(model, version) → code. Versions beyond the limit of a model share one code."""

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

    def __missing__(self, key: tuple[str, str]) -> int:
        model, version = key
        if model not in self._models:
            return UNKNOWN
        if self._count[model] >= self._limit and version not in (*VERSIONLESS_TIERS, OTHER):
            return self[model, OTHER]
        return self._add(model, version)

    def _add(self, model: str, version: str | None) -> int:
        if version is not None and (model, version) in self:
            return self[model, version]
        variant = Variant(len(self.table), self._models[model], version)
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
        """Model index by variant code, -1 for UNKNOWN and for variants of models that are gone."""
        return np.array([v.model for v in self.table], np.int64)

    def of_model(self, model: int) -> int:
        """The code under which outcomes of a model wait."""
        return self._model_code[model]

    def take_fresh(self) -> list[Entry]:
        """Entries made since this was last called."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def restore(self, entries: Sequence[Entry]) -> None:
        """Replace what construction made by the codes of the database, then add what is configured anew."""
        configured = [(self._names[v.model], v.version) for v in self.table[1:]]
        self.clear()
        self.table = [Variant(UNKNOWN, -1, None)]
        self._count = dict.fromkeys(self._models, 0)
        self._fresh = []
        for entry in entries:
            if entry.model in self._models:
                version = entry.text if entry.kind == "version" else None
                self._set(Variant(entry.code, self._models[entry.model], version))
                if version is None:
                    self._model_code[self._models[entry.model]] = entry.code
            else:
                # Its waiting predictions may still be in the join; they have nobody to report to.
                while len(self.table) <= entry.code:
                    self.table.append(Variant(UNKNOWN, -1, None))
        held = {v.model for v in self.table if v.model >= 0 and v.version is None}
        for name, version in configured:
            if version is not None:
                self._add(name, version)
            elif self._models[name] not in held:
                self._model_code[self._models[name]] = self._add(name, None)
