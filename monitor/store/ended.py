"""Requests that have ended, for `driftd inspect`: rows of columns, one or more a commit, of which the latest are kept.

Shell. The keys of a row are a column of their own and not compressed: hashes cannot be, and a look-up reads nothing
else of rows that do not have the request. Small rows are merged, so that a quiet stream does not leave a row a commit.
"""

from __future__ import annotations

import zlib
from dataclasses import fields
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
import zstandard
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from detectors.saved import DamagedError, pack, unpack
from monitor.join.ended import EndedRequests
from monitor.store import tables as t
from monitor.store.rows import read_rows

MAGIC: Final = b"DRIFTEND"
_KEYS: Final = np.dtype("<u8")
_MOST: Final = 1 << 16  # requests of a row
_SMALL: Final = 1 << 12  # rows of fewer requests are merged
_EVERY: Final = 64  # commits after which they are
_OFFSETS: Final = ("time", "outcome_time")  # stored as 32-bit offsets where they fit
_compress = zstandard.ZstdCompressor(level=1).compress
_decompress = zstandard.ZstdDecompressor().decompress


class EndedWriter:
    """Writes the requests that end, within the transaction of their commit."""

    def __init__(self, shard: int, limit: int, kept_ms: int) -> None:
        """Keep about the latest `limit` requests of a shard, 0: none, and none for longer than `kept_ms`."""
        self._shard, self._limit, self._kept = shard, limit, kept_ms
        self._unpruned = limit + 1  # requests written since rows were last counted; the first commit counts them

    def write(self, c: Connection, seq: int, clock: int, ended: EndedRequests) -> None:
        """Write the requests of a commit, and drop the oldest ones beyond the limit.

        Args:
            c: The transaction.
            seq: Number of the commit.
            clock: Stream time, ms; -1 where not known.
            ended: The requests.
        """
        if len(ended) > self._limit:
            ended = ended.take(slice(len(ended) - self._limit, None))
        starts = range(0, len(ended), _MOST)
        rows = [self._row(seq, i, clock, ended.take(slice(at, at + _MOST))) for i, at in enumerate(starts)]
        if rows:
            c.execute(sa.insert(t.ended), rows)
        if seq % _EVERY == 0:
            self._merge(c)
        self._unpruned += len(ended)
        if self._unpruned > self._limit // 16:
            self._prune(c)
            self._unpruned = 0

    def forget(self) -> None:
        """Count rows again with the next commit, because this one was not written."""
        self._unpruned = self._limit + 1

    def forget_old(self, c: Connection, stream_time: int) -> None:
        """Delete requests that ended longer ago than they are kept; `stream_time` is that of the commit, ms."""
        before = stream_time - self._kept
        c.execute(sa.delete(t.ended).where(t.ended.c.shard == self._shard, t.ended.c.clock < before))

    def _row(self, seq: int, part: int, clock: int, ended: EndedRequests) -> dict[str, Any]:
        keys = ended.key.astype(_KEYS, copy=False).tobytes()
        return {
            "shard": self._shard, "seq": seq, "part": part, "rows": len(ended), "clock": clock, "requests": keys,
            "body": encode(ended, keys),
        }  # fmt: skip

    def _prune(self, c: Connection) -> None:
        """Delete the oldest rows, as long as the others hold the limit or more."""
        e, held = t.ended.c, 0
        wanted = sa.select(e.seq, e.part, e.rows).where(e.shard == self._shard).order_by(e.seq.desc(), e.part.desc())
        for seq, part, rows in c.execute(wanted).all():
            if held >= self._limit:
                older = sa.or_(e.seq < seq, sa.and_(e.seq == seq, e.part <= part))
                c.execute(sa.delete(t.ended).where(e.shard == self._shard, older))
                return
            held += rows

    def _merge(self, c: Connection) -> None:
        """Put the requests of small rows into one, under the number and the time of the latest of them."""
        e = t.ended
        mine = (e.c.shard == self._shard, e.c.rows < _SMALL)
        wanted = sa.select(e).where(*mine).order_by(e.c.seq, e.c.part)
        found = list(read_rows(c, wanted, e, lambda row: (row.seq, row.clock, decode(row.requests, row.body))))
        if len(found) < 2:
            return
        merged = EndedRequests.concatenated([ended for *_, ended in found])
        c.execute(sa.delete(e).where(*mine))
        # A commit of many has other parts under the same number, all of them full but the last.
        seq, clock = found[-1][0], max(clock for _, clock, _ in found)
        taken = c.execute(sa.select(sa.func.max(e.c.part)).where(e.c.shard == self._shard, e.c.seq == seq)).scalar()
        first = 0 if taken is None else taken + 1
        parts = enumerate(range(0, len(merged), _MOST), start=first)
        c.execute(sa.insert(e), [self._row(seq, i, clock, merged.take(slice(at, at + _MOST))) for i, at in parts])


def encode(ended: EndedRequests, keys: bytes) -> bytes:
    """Encode all columns but the keys, whose bytes are only checked; times are offsets where these fit."""
    header: dict[str, Any] = {"schema": 1, "keys": zlib.crc32(keys)}
    arrays: dict[str, NDArray[Any]] = {c.name: getattr(ended, c.name) for c in fields(ended) if c.name != "key"}
    for name in _OFFSETS:
        times = arrays[name]
        first = int(times.min()) if len(times) else 0
        if len(times) and int(times.max()) - first < 1 << 32:
            header[name], arrays[name] = first, (times - first).astype(np.uint32)
    return _compress(pack(MAGIC, header, arrays))


def decode(keys: bytes, body: bytes) -> EndedRequests:
    """Decode a row. Raises `DamagedError`."""
    header, arrays = unpack(MAGIC, _decompress(bytes(body)))
    if zlib.crc32(bytes(keys)) != header["keys"]:
        raise DamagedError("the checksum of the keys does not match")
    for name in _OFFSETS:
        if name in header:
            arrays[name] = arrays[name].astype(np.int64) + header[name]
    return EndedRequests(key=np.frombuffer(bytes(keys), _KEYS), **arrays)


def places_of(keys: bytes, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where in a row the wanted keys are."""
    return np.flatnonzero(np.isin(np.frombuffer(bytes(keys), _KEYS), wanted))
