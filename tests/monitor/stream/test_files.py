"""Streams in files: layout, merging, growing files, and what survives a crash of the sink."""

from __future__ import annotations

import itertools
import json
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import OffsetGone, StreamError, TopicsMissing
from monitor.stream.files import FileAdmin, FileSink, FileSource
from monitor.stream.lines import LINE_LIMIT, LineReader
from monitor.stream.types import Batch, Message, Partition, TopicSpec
from monitor.times import format_time

A0, A1, B0 = Partition("a", 0), Partition("a", 1), Partition("b", 0)


def at(second: int, **fields: object) -> bytes:
    """A line with a time."""
    return json.dumps({"time": format_time(1_000 * second), **fields}).encode()


def write(path: Path, *lines: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@contextmanager
def reading(directory: Path, *topics: str, start: Mapping[Partition, int] | None = None) -> Iterator[FileSource]:
    with closing(FileSource(directory, topics)) as source:
        source.assign(start if start is not None else dict.fromkeys(source.partitions(), 0))
        yield source


def records(batch: Batch) -> list[tuple[Partition, int, bytes | None]]:
    """(partition, offset, value) in the order of delivery."""
    partitions = [batch.partitions[i] for i in batch.source]
    return list(zip(partitions, batch.offset.tolist(), batch.values, strict=True))


def drain(source: FileSource, sizes: Sequence[int] = (1000,)) -> list[tuple[Partition, int, bytes | None]]:
    """All that is there now, polled with these numbers of records in turn."""
    found: list[tuple[Partition, int, bytes | None]] = []
    for size in itertools.cycle(sizes):
        batch = source.poll(size, 0)
        assert len(batch) <= size
        if not len(batch):
            return found
        found += records(batch)
    raise AssertionError


class TestLayout:
    def test_every_form_of_a_partition_is_found(self, tmp_path: Path) -> None:
        """The primary form, numbered files, a folder, other endings and a bare file."""
        for name in ("a.jsonl", "a-1.ndjson", "a-12.json", "a/3.jsonl", "b", "c-0.jsonl", "a-01.jsonl", "a.txt", "a-x"):
            write(tmp_path / name)

        source = FileSource(tmp_path, ["a", "b", "c"])

        assert source.partitions() == {A0, A1, Partition("a", 12), Partition("a", 3), B0, Partition("c", 0)}

    @pytest.mark.parametrize("second", ["a.ndjson", "a-0.jsonl", "a/0.json"])
    def test_two_files_for_one_partition_are_an_error_that_names_both(self, tmp_path: Path, second: str) -> None:
        """Which of them was meant nobody can know."""
        write(tmp_path / "a.jsonl")
        write(tmp_path / second)

        with pytest.raises(StreamError, match="partition 0 of a is in two files") as raised:
            FileSource(tmp_path, ["a"]).partitions()

        assert str(tmp_path / "a.jsonl") in str(raised.value)
        assert str(tmp_path / second) in str(raised.value)
        assert not raised.value.retryable

    def test_a_topic_that_ends_in_a_number_is_not_a_partition_of_another(self, tmp_path: Path) -> None:
        """`eu-1.jsonl` belongs to the topic `eu-1` where there is one."""
        write(tmp_path / "eu.jsonl")
        write(tmp_path / "eu-1.jsonl")

        assert FileSource(tmp_path, ["eu", "eu-1"]).partitions() == {Partition("eu", 0), Partition("eu-1", 0)}
        assert FileSource(tmp_path, ["eu"]).partitions() == {Partition("eu", 0), Partition("eu", 1)}

    def test_a_directory_that_is_not_there_has_no_topics(self, tmp_path: Path) -> None:
        """A first start looks like a Kafka without topics: the same error, the same command helps."""
        with pytest.raises(TopicsMissing) as raised:
            FileSource(tmp_path / "new", ["a", "b"]).partitions()

        assert raised.value.topics == ("a", "b")

    @pytest.mark.parametrize("topic", ["../a", "a/b", "", "..", "a b"])
    def test_a_topic_cannot_lead_out_of_the_directory(self, tmp_path: Path, topic: str) -> None:
        """Names come from a configuration; files are opened and truncated by them."""
        with pytest.raises(StreamError, match="cannot be a topic"):
            FileSink(tmp_path).send([Message(topic, b"", b"{}")])

    def test_created_topics_have_one_empty_file_for_each_partition(self, tmp_path: Path) -> None:
        """`driftd topics --create` makes what reading accepts."""
        FileAdmin(tmp_path / "new").create([TopicSpec("a", partitions=2), TopicSpec("b")])

        assert FileSource(tmp_path / "new", ["a", "b"]).partitions() == {A0, A1, B0}


class TestReading:
    def test_all_files_are_read_side_by_side(self, tmp_path: Path) -> None:
        """A file that ends leaves its share to the others."""
        write(tmp_path / "a.jsonl", *(at(second) for second in range(9)))
        write(tmp_path / "b.jsonl", at(1))

        with reading(tmp_path, "a", "b") as source:
            batch = source.poll(6, 0)
            assert batch.next_positions() == {A0: 5, B0: 1}

    def test_no_file_starves_where_there_are_more_files_than_records_are_asked_for(self, tmp_path: Path) -> None:
        for name in ("a.jsonl", "a-1.jsonl", "b.jsonl"):
            write(tmp_path / name, at(1), at(2))

        with reading(tmp_path, "a", "b") as source:
            for _ in range(3):
                source.poll(1, 0)
            assert source.positions() == {A0: 1, A1: 1, B0: 1}

    @given(
        st.lists(st.integers(0, 12), min_size=1, max_size=4),
        st.lists(st.integers(1, 7), min_size=1),
        st.integers(1, 80),
    )
    def test_every_line_is_delivered_once_in_the_order_of_its_file(
        self, lengths: list[int], sizes: list[int], block: int
    ) -> None:
        partitions = [Partition("t", number) for number in range(len(lengths))]
        with tempfile.TemporaryDirectory() as folder:
            for number, length in enumerate(lengths):
                write(Path(folder) / f"t-{number}.jsonl", *(at(second % 10) for second in range(length)))
            with closing(FileSource(Path(folder), ["t"], block)) as source:
                source.assign(dict.fromkeys(partitions, 0))
                found = drain(source, sizes)

        for partition, length in zip(partitions, lengths, strict=True):
            assert [offset for its, offset, _ in found if its == partition] == list(range(length))


class TestLines:
    def test_a_last_line_without_newline_is_not_yet_a_record(self, tmp_path: Path) -> None:
        """A producer may be in the middle of writing it."""
        path = tmp_path / "a.jsonl"
        append(path, b'{"n": 1}\n{"n":')

        with reading(tmp_path, "a") as source:
            assert drain(source) == [(A0, 0, b'{"n": 1}')]
            assert source.bounds([A0]) == {A0: (0, 1)}
            append(path, b" 2}\n")
            assert drain(source) == [(A0, 1, b'{"n": 2}')]

    def test_blank_lines_are_records_and_a_carriage_return_belongs_to_the_newline(self, tmp_path: Path) -> None:
        """Every line holds an offset, or offsets would not be line numbers."""
        append(tmp_path / "a.jsonl", b'{"n": 1}\r\n\n\r\n{"n": 2}\n')

        with reading(tmp_path, "a") as source:
            assert [value for _, _, value in drain(source)] == [b'{"n": 1}', b"", b"", b'{"n": 2}']

    @given(st.binary(max_size=60).map(lambda data: data.replace(b"\r", b"\n")), st.integers(1, 9))
    def test_lines_do_not_depend_on_blocks(self, data: bytes, block: int) -> None:
        """A newline may be the last byte of a block, or the first, or blocks away."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            expected = data.split(b"\n")[:-1]
            with closing(LineReader(A0, Path(file.name), block)) as reader:
                assert reader.count() == len(expected)
                for position in range(len(expected) + 1):
                    reader.seek(position)
                    found = list(iter(reader.read, []))
                    assert list(itertools.chain(*found)) == expected[position:]
                    assert reader.known_end == reader.count() == len(expected)

    def test_a_monstrous_line_is_cut_and_the_next_one_is_read(self, tmp_path: Path) -> None:
        """Memory is bounded whatever a producer writes; what is cut is refused by its size downstream."""
        path = tmp_path / "a.jsonl"
        with path.open("wb") as file:
            for _ in range(65):
                file.write(b"x" * (1 << 20))
            file.write(b"\nnext\n")

        with reading(tmp_path, "a") as source:
            (_, _, monster), (_, _, following) = drain(source)

        assert monster is not None
        assert len(monster) == LINE_LIMIT
        assert following == b"next"

    def test_a_long_line_is_no_record_until_it_ends(self, tmp_path: Path) -> None:
        """Also when it is longer than a block."""
        path = tmp_path / "a.jsonl"
        append(path, b"x" * (3 << 20))

        with reading(tmp_path, "a") as source:
            assert drain(source) == []
            append(path, b"y\n")
            ((_, _, value),) = drain(source)

        assert value == b"x" * (3 << 20) + b"y"


class TestGrowingFiles:
    def test_a_poll_without_data_waits_for_the_next_line(self, tmp_path: Path) -> None:
        """It returns when the line is there, not when the time is over."""
        write(tmp_path / "a.jsonl")
        with reading(tmp_path, "a") as source:
            writer = threading.Timer(0.1, append, [tmp_path / "a.jsonl", b"{}\n"])
            writer.start()
            started = time.monotonic()
            batch = source.poll(10, 30.0)
            writer.join()

        assert len(batch) == 1
        assert time.monotonic() - started < 10

    def test_an_end_is_known_once_it_was_seen(self, tmp_path: Path) -> None:
        """A partition that merely lags must not look idle."""
        write(tmp_path / "a.jsonl", *[b"{}"] * 3)
        with reading(tmp_path, "a") as source:
            assert source.ends() == {}

            source.poll(1, 0)
            assert source.positions() == {A0: 1}
            assert source.ends() == {A0: 3}

            drain(source)
            append(tmp_path / "a.jsonl", b"{}\n")
            assert source.bounds([A0]) == {A0: (0, 4)}
            assert source.ends() == {A0: 4}

    @pytest.mark.parametrize("how", ["shrunk", "replaced", "removed"])
    def test_a_file_that_is_another_one_now_is_told(self, tmp_path: Path, how: str) -> None:
        """Line 2 of another file is not the line after line 1 of this one."""
        path = tmp_path / "a.jsonl"
        write(path, b'{"n": 0}', b'{"n": 1}')
        with reading(tmp_path, "a") as source:
            drain(source)
            match how:
                case "shrunk":
                    path.write_bytes(b"{}\n")
                case "replaced":
                    write(tmp_path / "new", *[b'{"n": "new"}'] * 5)
                    (tmp_path / "new").replace(path)
                case "removed":
                    path.unlink()

            for _ in range(2):  # and it stays so until somebody decides
                with pytest.raises(OffsetGone) as raised:
                    source.poll(10, 0)
            assert raised.value.position == 2
            # Of another file nothing was read; of this one, all that it still has.
            assert raised.value.latest == {"shrunk": 1, "replaced": 0, "removed": 0}[how]

            source.seek(A0, 0)
            assert len(source.poll(10, 0)) == {"shrunk": 1, "replaced": 5, "removed": 0}[how]

    def test_a_file_that_is_replaced_before_anything_was_read_is_just_read(self, tmp_path: Path) -> None:
        """Nothing was counted from the old one."""
        path = tmp_path / "a.jsonl"
        write(path)
        with reading(tmp_path, "a") as source:
            assert drain(source) == []
            write(tmp_path / "new", b"{}")
            (tmp_path / "new").replace(path)
            assert len(source.poll(10, 0)) == 1

    def test_the_end_of_a_torn_line_is_seen_when_the_line_was_rewritten(self, tmp_path: Path) -> None:
        """A sink removes the torn line of its predecessor while somebody follows the file."""
        path = tmp_path / "a.jsonl"
        append(path, b"{}\n" + b"x" * 100)
        with reading(tmp_path, "a") as source:
            drain(source)
            with closing(FileSink(tmp_path)) as sink:
                sink.send([Message("a", b"", b'{"n": 1}'), Message("a", b"", b"y" * 200)])

            assert [value for _, _, value in drain(source)] == [b'{"n": 1}', b"y" * 200]


class TestSink:
    def test_a_torn_last_line_is_removed_before_anything_is_appended(self, tmp_path: Path) -> None:
        """A crash in the middle of a line must not spoil the next one too."""
        path = tmp_path / "a.jsonl"
        append(path, b'{"n": 1}\n{"n": 2')

        with closing(FileSink(tmp_path)) as sink:
            sink.send([Message("a", b"", b'{"n": 3}')])

        assert path.read_bytes() == b'{"n": 1}\n{"n": 3}\n'

    @pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 1])
    def test_a_torn_line_of_any_length_is_removed(self, tmp_path: Path, length: int) -> None:
        """Looking for the last newline goes back in blocks; also when there is none."""
        for kept in (b"", b"{}\n"):
            path = tmp_path / "a.jsonl"
            path.write_bytes(kept + b"x" * length)
            with closing(FileSink(tmp_path)) as sink:
                sink.send([Message("a", b"", b"1")])
            assert path.read_bytes() == kept + b"1\n"

    def test_messages_go_to_the_existing_form_of_partition_0(self, tmp_path: Path) -> None:
        """Else the topic would have two files for it."""
        write(tmp_path / "a.ndjson", b"0")

        with closing(FileSink(tmp_path)) as sink:
            sink.send([Message("a", b"", b"1")])

        assert (tmp_path / "a.ndjson").read_bytes() == b"0\n1\n"

    def test_a_value_with_a_newline_is_refused_before_anything_is_written(self, tmp_path: Path) -> None:
        """It would be two records."""
        with closing(FileSink(tmp_path)) as sink, pytest.raises(ValueError, match="newline"):
            sink.send([Message("a", b"", b"1"), Message("a", b"", b"2\n3")])

        assert not (tmp_path / "a.jsonl").exists()

    def test_a_file_that_was_moved_away_is_begun_anew(self, tmp_path: Path) -> None:
        """Log rotation by hand."""
        with closing(FileSink(tmp_path)) as sink:
            sink.send([Message("a", b"", b"1")])
            (tmp_path / "a.jsonl").rename(tmp_path / "old")
            sink.send([Message("a", b"", b"2")])

        assert (tmp_path / "a.jsonl").read_bytes() == b"2\n"

    def test_a_path_that_cannot_be_written_is_an_error_that_waiting_does_not_cure(self, tmp_path: Path) -> None:
        """The daemon should say so and stop."""
        (tmp_path / "file").touch()

        with closing(FileSink(tmp_path / "file")) as sink, pytest.raises(StreamError) as raised:
            sink.send([Message("a", b"", b"1")])

        assert not raised.value.retryable


def test_new_files_of_topics_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        FileAdmin(tmp_path).create([TopicSpec("made")])
        with closing(FileSink(tmp_path)) as sink:
            sink.send([Message("written", b"", b"{}")])
    finally:
        os.umask(before)

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        "made.jsonl": 0o600,
        "written.jsonl": 0o600,
    }
