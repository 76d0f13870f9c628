"""Integer codes for texts that events repeat: versions, segments, labels.

In memory, on panes and in waiting predictions a label or version is its code. The texts are kept once, here, and in
the database from the commit on that first uses them. Every list is bounded, since a stream may invent any number of
texts: texts beyond the limit share the code of OTHER (`admission`). New entries are taken for the database in a commit
only. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NewType, cast

import numpy as np
from numpy.typing import NDArray

from detectors.categorical import text_of
from detectors.types import FloatArray, IntArray
from fallback.types import VERSIONLESS_TIERS as _VERSIONLESS
from monitor.events.admission import Admission, SavedAdmission
from monitor.events.readings import NEGATIVE, POSITIVE, LabelCode, Readings, class_of, plain_label

VariantCode = NewType("VariantCode", int)  # a version of a model, or the model itself

OTHER: Final = "__other__"
VERSIONLESS_TIERS: Final = tuple(tier.value for tier in _VERSIONLESS)  # names that answer where no version did
SHARED: Final = -1.0  # in place of the code of OTHER: nobody knows whether two of them are equal
UNKNOWN: Final = VariantCode(0)  # of a model that is not configured

VARIANT_CODES: Final = 1 << 16  # versions of all models: their codes are 16 bits wide
CODES_OF_A_MODEL: Final = 8  # codes of a model beside its versions: itself, the tiers, OTHER
SEGMENT_CODES: Final = 1 << 16
_MANY_CODES: Final = 1 << 32


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
    """Text → code. `limit` texts have a code of their own, the others share that of OTHER.

    Args:
        model: Whose codes they are, "" for all models.
        kind: As in `Entry`.
        limit: Texts that get a code of their own.
        first: The first code.
        pane: Width of the panes by which texts are admitted, ms; 0: at once, in the order in which they come.
        codes: Codes that there can be.

    Attributes:
        texts: Code → text that is shown: OTHER for one that was not admitted.
    """

    def __init__(
        self, model: str, kind: str, limit: int, first: int = 0, pane: int = 0, codes: int = _MANY_CODES
    ) -> None:
        super().__init__()
        self.texts: dict[int, str] = {}
        self._model, self._kind = model, kind
        self._next = first
        self._limit = limit
        self._admission = Admission(limit, pane, codes)
        self._fresh: list[Entry] = []

    def __missing__(self, text: str) -> int:
        if text != OTHER and not self._admission.has_room(self._admitted):
            return self[OTHER]
        code = self._next
        self._set(text, code)
        self._fresh.append(Entry(self._model, self._kind, code, text))
        if text != OTHER:
            self._admission.begin(code)
        return code

    @property
    def _admitted(self) -> int:
        return len(self.texts) - (OTHER in self) - self._admission.held

    @property
    def waits(self) -> bool:
        """Whether any text waits for admission."""
        return bool(self._admission.pending)

    def admit(self, text: str) -> int:
        """Return the code of a text that is admitted at once."""
        code = self[text]
        self._admission.admit(code)
        return code

    def place(self, codes: NDArray[np.generic], times: IntArray) -> None:
        """Note at which effective times (ms) codes were seen, for those that wait for admission."""
        self._admission.place(codes, times)

    def settle(self, now: int) -> None:
        """Admit texts of all panes that end by stream time `now`, ms, until the limit is reached."""
        if self._admission.pending:
            for code in self._admission.settle(now, self._admitted, self.texts.__getitem__):
                self.texts[code] = OTHER

    def settled(self, codes: IntArray) -> IntArray:
        """Return codes with those of texts that were not admitted replaced by the code of OTHER."""
        return self._admission.settled(codes, self._other)

    def settled_values(self, values: FloatArray) -> FloatArray:
        """Return `settled` of codes that are held as floating-point numbers; NaN stays."""
        return self._admission.settled(values, self._other)

    def _other(self) -> int:
        return self[OTHER]

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

    def admission(self) -> SavedAdmission:
        """Return what is stored beside the entries."""
        return self._admission.state()

    def restore_admission(self, saved: SavedAdmission) -> None:
        """Go on with what `admission` returned, once the entries are restored."""
        self._admission.restore(saved, list(self.texts))
        for code in self._admission.aliases:
            if self._admitted < self._limit:  # it was raised
                self._admission.admit(code)
            else:
                self.texts[code] = OTHER


class Labels:
    """Codes of the labels of one classifier. In a binary task every spelling of yes is POSITIVE.

    Where the positive class is configured, every other text of a binary task is NEGATIVE, so that a
    probability below the threshold and the name of the other class are the same answer. Where it is not, 1,
    true, t, yes and y are POSITIVE, 0, false, f, no and n NEGATIVE; other texts are neither, which is told.

    Args:
        model: Name of the model.
        limit: Labels that get a code of their own.
        binary: The task is binary.
        positive: The configured positive class.
        pane: As of `Codes`.
        threshold: Probability from which an answer is POSITIVE.

    Attributes:
        binary, limit: As given.
        codes: Codes of labels that are neither POSITIVE nor NEGATIVE.
        readings: What the numbers 0 and 1 stand for as answers.
    """

    def __init__(
        self, model: str, limit: int, *, binary: bool, positive: str | None, pane: int = 0, threshold: float = 0.5
    ) -> None:
        self.binary = binary
        self._positive = None if positive is None else plain_label(text_of(positive))
        self.readings = Readings.of(self._positive, threshold)
        self.codes = Codes(model, "label", limit, first=2 if binary else 0, pane=pane)
        self.limit = limit
        self._known: dict[str, LabelCode] = {}  # bounded, as the codes are
        self._classes: dict[str, LabelCode | None] = {}  # of keys of `scores`, bounded likewise

    def code(self, label: object) -> LabelCode:
        """Return the code of a label, given as a JSON scalar."""
        text = text_of(label)
        known = self._known.get(text)
        if known is None:
            known = self._code(plain_label(text))
            if len(self._known) < self.limit and known != self.codes.get(OTHER):
                self._known[text] = known
        return known

    def find(self, label: object) -> LabelCode | None:
        """Return the code of a label without giving it one, None where it has none."""
        text = plain_label(text_of(label))
        found = self._meaning(text)
        return found if found is not None else cast("LabelCode | None", self.codes.get(text))

    def _code(self, text: str) -> LabelCode:
        found = self._meaning(text)
        return found if found is not None else LabelCode(self.codes[text])

    def _meaning(self, text: str) -> LabelCode | None:
        """POSITIVE or NEGATIVE where a label of a binary task means that."""
        return class_of(text, self._positive) if self.binary else None

    def compared(self, values: FloatArray) -> FloatArray:
        """Return label codes as they can be compared: SHARED for every label that has no code of its own."""
        values = self.codes.settled_values(values)
        shared = self.codes.get(OTHER)
        return values if shared is None else np.where(values == shared, SHARED, values)

    def text(self, code: LabelCode) -> str:
        """Return the text that is shown for a code."""
        if self.binary and code in (NEGATIVE, POSITIVE):
            positive = self._positive or "1"
            return positive if code == POSITIVE else "1" if positive == "0" else "0"
        return self.codes.texts.get(code, str(code))

    def class_of(self, text: str) -> LabelCode | None:
        """Return which class of a binary task a key of `scores` names; None for one that is neither."""
        if text in self._classes:
            return self._classes[text]
        found = class_of(plain_label(text_of(text)), self._positive)
        if len(self._classes) < self.limit:
            self._classes[text] = found
        return found


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
        panes: Width of the panes by which the versions of each model are admitted, ms; 0, or none given: at once.

    Attributes:
        table: Variant by code.
    """

    def __init__(
        self,
        models: Sequence[str],
        configured: Mapping[str, Iterable[str]],
        limit: int,
        panes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        # As many provisional codes as 16 bits leave.
        spare = VARIANT_CODES // max(len(models), 1) - CODES_OF_A_MODEL
        self._admissions = [Admission(limit, pane, spare) for pane in panes or [0] * len(models)]
        self._models = {name: i for i, name in enumerate(models)}
        self._names = tuple(models)
        self.table: list[Variant] = [Variant(UNKNOWN, -1, None)]
        self._count = dict.fromkeys(models, 0)
        self._fresh: list[Entry] = []
        self._model_code = [self._add(name, None) for name in models]
        self._configured = {name: tuple(configured[name]) for name in models}
        for name in models:
            for version in configured[name]:
                self._add(name, version)

    def __missing__(self, key: tuple[str, str]) -> VariantCode:
        model, version = key
        if model not in self._models:
            return UNKNOWN
        admission = self._admissions[self._models[model]]
        own = version not in (*VERSIONLESS_TIERS, OTHER)
        if own and not admission.has_room(self._count[model] - admission.held):
            return self[model, OTHER]
        code = self._add(model, version)
        if own:
            admission.begin(code)
        return code

    # -- admission ---------------------------------------------------------------------------------------

    def place(self, variants: NDArray[np.uint16], times: IntArray) -> None:
        """Note at which effective times (ms) variants were seen, for those that wait for admission."""
        for admission in self._admissions:
            admission.place(variants, times)

    def settle(self, model: str, now: int) -> list[int]:
        """Admit versions of all panes that end by stream time `now`, ms, until the limit is reached.

        Returns:
            Codes of versions that are aliases of OTHER from now on.
        """
        admission = self._admissions[self._models[model]]
        if not admission.pending:
            return []
        return admission.settle(now, self._count[model] - admission.held, lambda code: self.table[code].version or "")

    def settled(self, model: str, codes: IntArray) -> IntArray:
        """Return variants of a model with those of versions that were not admitted replaced by that of OTHER."""
        return self._admissions[self._models[model]].settled(codes, lambda: self[model, OTHER])

    def is_alias(self, model: str, code: int) -> bool:
        """Return whether a variant of a model is that of a version that was not admitted."""
        return self._admissions[self._models[model]].is_alias(code)

    def admission(self, model: str) -> SavedAdmission:
        """Return what is stored beside the entries."""
        return self._admissions[self._models[model]].state()

    def restore_admission(self, model: str, saved: SavedAdmission) -> None:
        """Go on with what `admission` returned, once the entries are restored. What is configured is admitted."""
        index = self._models[model]
        admission = self._admissions[index]
        admission.restore(saved, [v.code for v in self.table if v.model == index])
        for version in self._configured[model]:
            admission.admit(self[model, version])

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

    def shown(self, code: int) -> str:
        """Return "model version" of a code, for people."""
        variant = self.table[code]
        return f"{self._names[variant.model]} {variant.version}" if variant.version else str(code)

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
