"""Merging of profiles: the profile of rows that were profiled in parts, without the rows.

Distributions are added up: exactly where the parts hold all of their values, and else within the bounds that the merged
reference states. Blocks stay those of their parts, one series after the other. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np

from detectors.blocks import MOST_BLOCKS, Blocks, FeatureBlocks
from detectors.dependence import Dependence
from detectors.discrete import category_count, frequent_values, is_discrete
from detectors.dispersion import Dispersion
from detectors.merged_dependence import PartOfFeature, merged_dispersion, merged_of_categories, merged_of_numbers
from detectors.quantiles import distance_between, mid_block_points
from detectors.reference import Baseline, CategoricalReference, NumericReference, Part, Profile, Reference
from detectors.reference_builder import CATEGORIES, DISTINCT, POINTS
from detectors.season import POINTS as SEASONAL_POINTS
from detectors.season import SeasonCounts, season_notices
from detectors.types import FloatArray, IntArray, NumberArray

_FINE: Final = 1 << 20  # units of weight in a row, where points stand for several rows
_RMSE: Final = "rmse"  # the square of it is a mean


class UnlikeError(ValueError):
    """Signal that profiles do not describe the same, and what differs."""


def merge(profiles: Sequence[Profile], parts: Sequence[Part], *, ordered: bool) -> Profile:
    """Merge profiles.

    Args:
        profiles: At least two, in the order of time.
        parts: Where they come from, for the record.
        ordered: Whether their rows are in the order of time, each after those before it.

    Raises:
        UnlikeError: They do not have the same features, kinds, answers and season, or one has no blocks.
    """
    _refuse_unlike(profiles, parts)
    keyed = [_by_key(p) for p in profiles]
    merged = {key: _merged_feature([its[key] for its in keyed]) for key in keyed[0]}
    features = tuple(f for (is_answer, _), f in merged.items() if not is_answer)
    answers = tuple(f for (is_answer, _), f in merged.items() if is_answer)
    first = [p.first_ms for p in profiles if p.first_ms is not None]
    last = [p.last_ms for p in profiles if p.last_ms is not None]
    whole = Profile(
        features=features,
        rows=sum(p.rows for p in profiles),
        ordered=ordered and all(p.ordered for p in profiles),
        first_ms=min(first, default=None),
        last_ms=max(last, default=None),
        baselines=_merged_baselines([p.baselines for p in profiles]),
        notices=_notices(profiles, (*features, *answers)),
        answers=answers,
        parts=tuple(parts),
    )
    return replace(whole, blocks=_merged_blocks(profiles, whole))


def _refuse_unlike(profiles: Sequence[Profile], parts: Sequence[Part]) -> None:
    first, file = _by_key(profiles[0]), parts[0].file
    for profile, part in zip(profiles, parts, strict=True):
        if not profile.blocks:
            hint = "was built by an earlier release, which kept no blocks of its rows: build it again"
            raise UnlikeError(f"{part.file} {hint}")
        its = _by_key(profile)
        for key in sorted(first.keys() ^ its.keys()):
            has, has_not = (file, part.file) if key in first else (part.file, file)
            raise UnlikeError(
                f"{has} has {key[1]!r} and {has_not} has not: profiles of the same features can be merged"
            )
        for key, f in first.items():
            if type(f) is not type(its[key]):
                kind = "numeric" if isinstance(f, NumericReference) else "categorical"
                hint = f"build them with `--feature {key[1]}={kind}`, or the other kind"
                raise UnlikeError(f"{key[1]!r} is {kind} in {file} and not in {part.file}: {hint}")
        if profile.season is not profiles[0].season:
            raise UnlikeError(f"{file} and {part.file} differ in their season: build them with the same `--season`")


def _merged_feature(parts: Sequence[Reference]) -> Reference:
    if isinstance(parts[0], NumericReference):
        return _merged_number(cast("Sequence[NumericReference]", parts))
    return _merged_category(cast("Sequence[CategoricalReference]", parts))


# -- numbers ------------------------------------------------------------------------------------------------------


def _merged_number(parts: Sequence[NumericReference]) -> NumericReference:
    rows = sum(r.rows for r in parts)
    exact = all(not r.ks_error for r in parts)
    weights = [r.weights if exact else r.weights * (r.rows * _FINE // max(int(r.weights.sum()), 1)) for r in parts]
    value, weight = np.concatenate([r.points for r in parts]), np.concatenate(weights).astype(np.int64)
    order = np.argsort(value, kind="stable")
    value, weight = value[order], weight[order]
    most = max((int(r.weights.sum()) for r in parts if r.ks_error), default=0)
    most = most or (POINTS if parts[0].seasonal is None else SEASONAL_POINTS)
    points, multiplicity = mid_block_points(value, weight, most)
    thinned = rows > most
    share = np.array([r.rows for r in parts]) / max(rows, 1)
    whole = NumericReference(
        name=parts[0].name,
        points=points,
        weights=multiplicity,
        rows=rows,
        missing=sum(r.missing for r in parts),
        ks_error=1 / (2 * most) + float(share @ [r.ks_error for r in parts]) if thinned else 0.0,
        w1_error=float(share @ [r.w1_error for r in parts]) + distance_between(value, weight, points, multiplicity)
        if thinned
        else 0.0,
        spread=_spread(parts),
    )
    places = [np.minimum(np.searchsorted(points, r.points), max(len(points) - 1, 0)) for r in parts]
    whole = replace(whole, seasonal=_merged_season(parts, places, len(points)))
    held = [np.bincount(at, r.weights, minlength=len(points)) for at, r in zip(places, parts, strict=True)]
    apart = _apart(whole, parts, held, _shares(multiplicity))
    found = merged_of_numbers(_parts(parts, apart), multiplicity)
    values = whole.value_dependence
    if is_discrete(whole):
        values = _merged_values(whole, parts, apart)
    return replace(
        whole,
        dispersion=found.largest(),
        missing_dispersion=_merged_missing(parts),
        dependence=found,
        value_dependence=values,
    )


def _merged_values(
    whole: NumericReference, parts: Sequence[NumericReference], apart: Sequence[FloatArray]
) -> Dependence:
    """Return the dependence of the frequent values of a discrete number, with that of all others."""
    group, groups = frequent_values(whole), category_count(whole)
    points = whole.points[group < groups - 1]
    rows_of, known = [], []
    for r, its in zip(parts, apart, strict=True):
        own, last = frequent_values(r), category_count(r) - 1
        at = np.minimum(np.searchsorted(r.points, points), max(len(r.points) - 1, 0))
        same = r.points[at] == points if len(r.points) else np.zeros(len(points), np.bool_)
        rows_of.append(np.append(np.where(same, own[at] if len(own) else last, last), last))
        known.append(
            PartOfFeature(r.rows, r.value_dependence, np.bincount(group, its, minlength=groups).astype(np.float64))
        )
    return merged_of_categories(known, rows_of, _shares(np.bincount(group, whole.weights, minlength=groups)))


def _spread(parts: Sequence[NumericReference]) -> float:
    """Return the standard deviation of the rows of all parts (Chan, Golub & LeVeque, 1983)."""
    some = [r for r in parts if r.rows]
    rows = np.array([r.rows for r in some], np.float64)
    means, sds = np.array([r.mean for r in some]), np.array([r.sd for r in some])
    unit = float(max(np.abs(means).max(initial=0.0), sds.max(initial=0.0))) or 1.0  # squares of 1e300 are not finite
    share = rows / max(rows.sum(), 1.0)
    means, sds = means / unit, sds / unit
    return float(np.sqrt(share @ (sds**2 + (means - share @ means) ** 2))) * unit if len(some) else 0.0


# -- categories ---------------------------------------------------------------------------------------------------


def _merged_category(parts: Sequence[CategoricalReference]) -> CategoricalReference:
    counts: Counter[str] = Counter()
    for c in parts:
        counts.update(dict(zip(c.categories, c.counts.tolist(), strict=True)))
    ranked = sorted((item for item in counts.items() if item[1]), key=lambda item: (-item[1], item[0]))
    top = dict(sorted(ranked[:CATEGORIES]))
    rows = sum(c.rows for c in parts)
    known = sorted({*top, *(text for c in parts for text in c.known)} - set(top))[: DISTINCT - len(top)]
    whole = CategoricalReference(
        name=parts[0].name,
        categories=tuple(top),
        counts=np.array(list(top.values()), np.int64),
        other=rows - sum(top.values()),
        known=frozenset({*top, *known}),
        complete=all(c.complete for c in parts) and len({text for c in parts for text in c.known}) <= DISTINCT,
        singletons=_singletons(parts, counts),
        rows=rows,
        missing=sum(c.missing for c in parts),
    )
    at = {text: i for i, text in enumerate(whole.categories)}
    other = len(at)
    places = [np.array([*(at.get(text, other) for text in c.categories), other]) for c in parts]
    whole = replace(whole, seasonal=_merged_season(parts, places, other + 1))
    held = [
        np.bincount(place, np.append(c.counts, c.other), minlength=other + 1)
        for place, c in zip(places, parts, strict=True)
    ]
    shares = _shares(np.append(whole.counts, whole.other))
    rows_of = []
    for c in parts:
        own = {text: i for i, text in enumerate(c.categories)}
        rows_of.append(np.array([*(own.get(text, len(own)) for text in whole.categories), len(own)]))
    found = merged_of_categories(_parts(parts, _apart(whole, parts, held, shares)), rows_of, shares)
    return replace(whole, dispersion=found.largest(), missing_dispersion=_merged_missing(parts), dependence=found)


def _singletons(parts: Sequence[CategoricalReference], counts: Mapping[str, int]) -> int:
    """Return how many categories were seen once in all parts, about.

    A part names its frequent categories with their counts, and the others without. Of those that it saw once, another
    part has seen some as well: at most as many as share their names, and where the number of single categories does
    not change with the number of rows, as in a long tail, the other parts' share of the rows.
    """
    once = sum(1 for text, n in counts.items() if n == 1 and sum(text in c.known for c in parts) == 1)
    rows = max(sum(c.rows for c in parts), 1)
    for i, c in enumerate(parts):
        unnamed = c.singletons - int((c.counts == 1).sum())
        rare = c.known - set(c.categories)
        elsewhere = sum(any(text in d.known for j, d in enumerate(parts) if j != i) for text in rare)
        once += unnamed - min(round(unnamed * (1 - c.rows / rows)), elsewhere)
    return once


# -- both ---------------------------------------------------------------------------------------------------------


def _parts(parts: Sequence[Reference], apart: Sequence[FloatArray]) -> list[PartOfFeature]:
    return [PartOfFeature(r.rows, r.dependence, its) for r, its in zip(parts, apart, strict=True)]


def _shares(counts: NumberArray) -> FloatArray:
    result: FloatArray = counts / max(float(counts.sum()), 1.0)
    return result


def _apart(
    whole: Reference, parts: Sequence[Reference], held: Sequence[NumberArray], shares: FloatArray
) -> list[FloatArray]:
    """Return the shares of the places in each part, minus those that the whole has in the same seasons."""
    found = []
    for r, counts in zip(parts, held, strict=True):
        expected = shares
        if whole.seasonal is not None and r.seasonal is not None:
            expected = _shares(r.seasonal.rows - r.seasonal.missing) @ whole.seasonal.shares
        found.append(_shares(counts) - expected if r.rows else np.zeros(len(shares)))
    return found


def _merged_season(parts: Sequence[Reference], places: Sequence[IntArray], count: int) -> SeasonCounts | None:
    """Add up the rows by season, whose places are others in the whole."""
    held = [r.seasonal for r in parts]
    if any(its is None for its in held):
        return None
    known = [its for its in held if its is not None]
    counts = sum(
        (_joined(its.counts, at, count) for its, at in zip(known, places, strict=True)),
        np.zeros((known[0].season.cells, count), np.int64),
    )
    kind = np.uint16 if not counts.size or counts.max() < 1 << 16 else np.uint32
    missing = np.sum([its.missing for its in known], axis=0)
    return SeasonCounts(known[0].season, counts.astype(kind), missing, sum(its.periods for its in known))


def _merged_missing(parts: Sequence[Reference]) -> Dispersion:
    rows = [r.rows + r.missing for r in parts]
    shares = [r.missing / max(n, 1) for r, n in zip(parts, rows, strict=True)]
    return merged_dispersion(rows, shares, [r.missing_dispersion for r in parts])


def _merged_baselines(parts: Sequence[Mapping[str, Baseline]]) -> dict[str, Baseline]:
    """Return the mean of each metric by its rows; of the root of a mean square the root of that mean."""
    found = {}
    for name in dict.fromkeys(name for its in parts for name in its):
        its = [part[name] for part in parts if name in part]
        rows = np.array([b.n for b in its], np.float64)
        share = rows / max(rows.sum(), 1.0)
        values = np.array([b.value for b in its])
        mean = float(np.sqrt(share @ values**2)) if name == _RMSE else float(share @ values)
        found[name] = Baseline(mean, int(rows.sum()), float(share**2 @ [b.variance for b in its]))
    return found


def _notices(profiles: Sequence[Profile], features: Sequence[Reference]) -> tuple[str, ...]:
    season = next((f.seasonal for f in features if f.seasonal is not None), None)
    begins = "" if season is None else f"season {season.season}: "
    kept = dict.fromkeys(n for p in profiles for n in p.notices if not begins or not n.startswith(begins))
    about = () if season is None else season_notices(season.season, season.rows, season.periods)
    return (*kept, *about)


# -- blocks -------------------------------------------------------------------------------------------------------


def _merged_blocks(profiles: Sequence[Profile], whole: Profile) -> tuple[Blocks, ...]:
    """Return the blocks of all parts, of one size and few enough, by the places of the merged features."""
    names = _named(profiles[0])
    found: list[Blocks] = []
    for profile in profiles:
        own, part = _named(profile), _by_key(profile)
        for blocks in profile.blocks:
            held = blocks.features()
            moved = {names[key]: _moved(held[own[key]], part[key], f) for key, f in _by_key(whole).items()}
            found.append(Blocks.of(blocks.size, blocks.rows, blocks.times, moved))
    size = max(blocks.size for blocks in found)
    while sum(-(-blocks.rows // size) for blocks in found) > max(MOST_BLOCKS, len(found)):
        size *= 2
    return tuple(_of_size(blocks, size) for blocks in found)


def _by_key(profile: Profile) -> dict[tuple[bool, str], Reference]:
    features: dict[tuple[bool, str], Reference] = {(False, f.name): f for f in profile.features}
    return features | {(True, f.name): f for f in profile.answers}


def _named(profile: Profile) -> dict[tuple[bool, str], str]:
    """Return what features and answers are called in the blocks, which have them in the order of the profile."""
    keys, names = list(_by_key(profile)), profile.blocks[0].names
    return dict(zip(keys, names[len(names) - len(keys) :], strict=True))


def _of_size(blocks: Blocks, size: int) -> Blocks:
    while blocks.size < size:
        blocks = blocks.coarser()
    return blocks


def _moved(held: FeatureBlocks, part: Reference, whole: Reference) -> FeatureBlocks:
    """Return the counts of a part with the cell of each place of the whole; a cell without any joins another one."""
    if isinstance(part, NumericReference) and isinstance(whole, NumericReference):
        at = np.minimum(np.searchsorted(part.points, whole.points), max(len(part.points) - 1, 0))
        cell = held.cell[at] if len(part.points) else np.zeros(len(whole.points), np.int64)
        used = np.unique(cell)
        joined = np.searchsorted(used, np.arange(held.counts.shape[1] - 1))
    else:
        assert isinstance(part, CategoricalReference)  # noqa: S101 - kinds were compared
        assert isinstance(whole, CategoricalReference)  # noqa: S101
        own = {text: i for i, text in enumerate(part.categories)}
        cell = held.cell[[*(own.get(text, len(own)) for text in whole.categories), len(own)]]
        used, rest = np.unique(cell), int(held.cell[-1])
        joined = np.searchsorted(used, [c if c in used else rest for c in range(held.counts.shape[1] - 1)])
    joined = np.append(np.minimum(joined, max(len(used) - 1, 0)), len(used)).astype(np.int64)
    return FeatureBlocks(np.searchsorted(used, cell), _joined(held.counts, joined, len(used) + 1))


def _joined(counts: NumberArray, at: IntArray, count: int) -> IntArray:
    """Return counts with their columns added up, given the new column of each."""
    onto = np.zeros((len(at), count))
    onto[np.arange(len(at)), at] = 1.0
    found: IntArray = (counts.astype(np.float64) @ onto).astype(np.int64)  # exact up to 2**53
    return found
