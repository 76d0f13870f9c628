"""Long-run variance of a series: how much means of its blocks vary, against means of independent values.

The ratio is 1 for independent values and 66 for an autoregression with ρ = .97. It is estimated for blocks of several
sizes by a sieve of autoregressions, and by blocks themselves where these show that it is smaller: the mean over whole
periods of a season varies less than any model of a few lags says. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import fft, special

from detectors.types import BoolArray, FloatArray

_LAGS: Final = 40  # of the autoregression that is fitted to the values
_BLOCK_LAGS: Final = 12  # of the one that is fitted to sums of values
_SUMS: Final = 20  # sums per block, by which slow movements are seen that a few lags of the values are not
_SHORTEST: Final = 8  # values in such a sum: below, the lags of the values see as far
_FREQUENCIES: Final = 1 << 13
_FEWEST_VALUES: Final = 40
_OVERLAP: Final = 4  # blocks start every quarter of their size
# Blocks are believed that they vary less than the sieve says where they would not at this probability by chance.
_BY_CHANCE: Final = 0.02
_OF_PAIRS: Final = 9.0  # three pairs where none is expected
_FREEDOM: Final = 1.3  # degrees of freedom in the variance of overlapping blocks, per block without overlap


@dataclass(frozen=True, slots=True)
class _Fit:
    """Autoregressions of several series, one per column.

    Attributes:
        variance: Variance of the values, shape (series,).
        correlations: Autocorrelations from lag 0, shape (lags + 1, series).
        coefficients: Of the chosen order, filled up with zeros, shape (lags, series).
        noise: Variance of the innovations, shape (series,).
        dependent: Whether there is any dependence at all, by the Bayesian information criterion; shape (series,).
    """

    variance: FloatArray
    correlations: FloatArray
    coefficients: FloatArray
    noise: FloatArray
    dependent: BoolArray


def long_run_ratios(series: FloatArray, sizes: tuple[int, ...], pairs: FloatArray | None = None) -> FloatArray:
    """Estimate the variance of block means, as a multiple of that under independence and at least 1.

    The autoregression of the values has up to 40 lags, chosen by AIC (Akaike, 1974), and none where BIC (Schwarz, 1978)
    sees no dependence. Sieves of this kind: Berk (1974).

    Args:
        series: Values in the order of time, shape (rows, series).
        sizes: Sizes of blocks, ascending.
        pairs: Of series that are 0 but for rare ones: how many pairs of these are expected at any lag, by chance; shape
            (series,). Where that is fewer than one, a single pair looks like dependence, so more is asked for.

    Returns:
        The ratios, shape (series, sizes).
    """
    rows, width = series.shape
    ratios = np.ones((width, len(sizes)))
    if rows < _FEWEST_VALUES or not sizes:
        return ratios
    centred = series - series.mean(axis=0)
    stricter = np.zeros(width) if pairs is None else _OF_PAIRS / pairs
    fit = _autoregression(centred, min(_LAGS, rows // 8), stricter, by_bic=False)
    found = np.flatnonzero(fit.dependent & (fit.variance > 0))
    if len(found):
        ratios[found] = _of_spectrum(fit.coefficients[:, found], fit.noise[found], sizes)
    sums = np.cumsum(np.concatenate([np.zeros((1, width)), centred]), axis=0)
    ratios = np.maximum(ratios, _slow_movements(sums, sizes, fit.variance))
    for i, size in enumerate(sizes):
        if (ratios[:, i] > 1).any():
            ratios[:, i] = np.minimum(ratios[:, i], _most_by_blocks(sums, size, fit.variance))
    result: FloatArray = np.maximum(ratios, 1.0)
    return result


def _autoregression(centred: FloatArray, lags: int, stricter: FloatArray | float = 0.0, *, by_bic: bool) -> _Fit:
    """Fit autoregressions by Levinson's recursion, to all columns at once; `stricter` is more penalty to see any."""
    rows, width = centred.shape
    length = fft.next_fast_len(rows + lags + 1, real=True)
    transform = fft.rfft(np.ascontiguousarray(centred.T), length)
    power = transform.real**2 + transform.imag**2
    products = fft.irfft(power, length)[:, : lags + 1].T / rows
    variance = np.maximum(products[0], 0.0)
    scale = np.where(variance > 0, variance, 1.0)
    g = products / scale
    g[0] = 1.0
    a = np.zeros((lags, width))
    chosen, chosen_noise = a.copy(), np.ones(width)
    noise = np.ones(width)
    best = np.zeros(width)
    dependent = np.zeros(width, np.bool_)
    for p in range(1, lags + 1):
        known = a[: p - 1]
        kappa = (g[p] - (known * g[p - 1 : 0 : -1]).sum(axis=0)) / noise
        kappa = np.clip(kappa, -0.999999, 0.999999)
        a[: p - 1] = known - kappa * known[::-1]
        a[p - 1] = kappa
        noise = noise * (1 - kappa**2)
        fitted = rows * np.log(noise)
        bic = fitted + p * np.log(rows)
        dependent |= bic + stricter < 0
        criterion = bic if by_bic else fitted + 2 * p
        better = criterion < best
        best = np.where(better, criterion, best)
        chosen[:, better] = a[:, better]
        chosen_noise = np.where(better, noise, chosen_noise)
    return _Fit(variance, g, chosen, chosen_noise, dependent)


def _of_spectrum(coefficients: FloatArray, noise: FloatArray, sizes: tuple[int, ...]) -> FloatArray:
    """Return the ratios that the autoregressions have, shape (series, sizes): their spectrum seen by Fejér's kernel."""
    filters = np.zeros((len(noise), len(coefficients) + 1))
    filters[:, 0] = 1.0
    filters[:, 1:] = -coefficients.T
    response = fft.rfft(filters, 2 * _FREQUENCIES)
    density = noise[:, None] / np.maximum(response.real**2 + response.imag**2, 1e-12)
    result: FloatArray = density @ _fejer(sizes)
    return result


@lru_cache(maxsize=64)
def _fejer(sizes: tuple[int, ...]) -> FloatArray:
    """Return the weights of the frequencies in the variance of a mean, shape (frequencies, sizes)."""
    angle = np.pi * np.arange(_FREQUENCIES + 1) / _FREQUENCIES
    weights = np.zeros((len(angle), len(sizes)))
    both = np.full(len(angle), 2.0)
    both[[0, -1]] = 1.0
    for i, size in enumerate(sizes):
        if size > _FREQUENCIES:
            weights[0, i] = 1.0  # so narrow that only the frequency 0 counts
            continue
        kernel = np.full(len(angle), float(size))
        kernel[1:] = (np.sin(size * angle[1:] / 2) / np.sin(angle[1:] / 2)) ** 2 / size
        weights[:, i] = both * kernel / (2 * _FREQUENCIES)
    return weights


def _slow_movements(sums: FloatArray, sizes: tuple[int, ...], variance: FloatArray) -> FloatArray:
    """Return the ratios of blocks of twenty sums, shape (series, sizes): of sizes that double, and between them.

    Args:
        sums: Running sums of the centred values, from 0; shape (rows + 1, series).
        sizes: Sizes of blocks, ascending.
        variance: Variance of the values, shape (series,).
    """
    found = np.zeros((sums.shape[1], len(sizes)))
    doubled = {sizes[0] << k for k in range((sizes[-1] // sizes[0]).bit_length())}
    known = [size for size in sizes if size in doubled and size >= _SHORTEST * _SUMS]
    if not known:
        return found
    steps = [size // _SUMS for size in known]
    ratios = np.array([_of_sums(np.diff(sums[::step], axis=0), variance * step) for step in steps])
    logs = np.log(np.array(sizes) / known[0])
    for j in range(sums.shape[1]):
        found[j] = np.interp(logs, np.log(np.array(known) / known[0]), ratios[:, j], left=0.0)
    return found


def _of_sums(sums: FloatArray, independent: FloatArray) -> FloatArray:
    """Return the ratios of blocks of twenty sums, shape (series,); 0 where the sums show no dependence.

    Args:
        sums: Consecutive sums of equally many values, shape (sums, series).
        independent: Their variance if values were independent, shape (series,).
    """
    if len(sums) < _FEWEST_VALUES:
        return np.zeros(sums.shape[1])
    fit = _autoregression(sums - sums.mean(axis=0), min(_BLOCK_LAGS, len(sums) // 4), by_bic=True)
    lags = len(fit.coefficients)
    # Correlations up to the order that was chosen are those of the sums, the others follow from it.
    order = (fit.coefficients != 0).sum(axis=0)
    known = np.zeros((_SUMS, sums.shape[1]))
    known[0] = 1.0
    for k in range(1, _SUMS):
        reach = min(lags, k)
        ahead = (fit.coefficients[:reach] * known[k - reach : k][::-1]).sum(axis=0)
        known[k] = np.where(k <= order, fit.correlations[min(k, lags)], ahead)
    weight = 1 - np.arange(1, _SUMS) / _SUMS
    grown = 1 + 2 * (weight[:, None] * known[1:]).sum(axis=0)
    usable = fit.dependent & (grown > 1) & (independent > 0)
    result: FloatArray = np.where(usable, fit.variance / np.where(independent > 0, independent, 1.0) * grown, 0.0)
    return result


def _most_by_blocks(sums: FloatArray, size: int, variance: FloatArray) -> FloatArray:
    """Return the largest ratios that agree with how much blocks of `size` vary, shape (series,).

    Args:
        sums: Running sums of the centred values, from 0; shape (rows + 1, series).
        size: Values per block.
        variance: Variance of the values, shape (series,).
    """
    rows = len(sums) - 1
    starts = np.arange(0, rows - size + 1, max(size // _OVERLAP, 1))
    freedom = _FREEDOM * rows / size - 1
    if freedom < 2 or rows < 3 * size:
        return np.full(sums.shape[1], np.inf)
    means = (sums[starts + size] - sums[starts]) / size
    # The last factor: a block is itself part of the rows that it is compared with.
    independent = variance / size * (1 - size / rows)
    ratio = (means**2).mean(axis=0) / np.where(independent > 0, independent, 1.0)
    result: FloatArray = ratio * freedom / special.chdtri(freedom, 1 - _BY_CHANCE)
    return result
