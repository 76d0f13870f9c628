"""Times of events: what is read, what is refused, and that reading many at once changes neither."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.times import UNREADABLE, format_time, parse_time, parse_times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
END_MS = 253_402_300_800_000

moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))  # noqa: DTZ001 (zone below)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))
fixed_forms = st.integers(0, END_MS - 1).map(format_time)

# Texts of exactly the length of the fixed form that are wrong in all the ways that digits can be.
almost_fixed = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}.{:03d}{}".format,
    st.integers(0, 9999),
    st.integers(0, 99),
    st.integers(0, 40),
    st.sampled_from("TTTt x"),
    st.integers(0, 30),
    st.integers(0, 70),
    st.integers(0, 70),
    st.integers(0, 999),
    st.sampled_from("ZZZz|"),
)


def one_by_one(values: list[str | int | float | None]) -> list[int]:
    def one(value: str | int | float | None) -> int:
        try:
            return UNREADABLE if value is None else parse_time(value)
        except ValueError:
            return UNREADABLE

    return [one(value) for value in values]


@given(moments, offsets)
def test_a_time_with_any_offset_is_what_datetime_says(moment: datetime, zone: timezone) -> None:
    """The milliseconds are those of the standard library, cut off below."""
    when = moment.replace(tzinfo=zone)
    expected = (when - EPOCH) // MILLISECOND

    if 0 <= expected < END_MS:
        assert parse_time(when.isoformat()) == expected
    else:
        with pytest.raises(ValueError, match="between the years 1970 and 9999"):
            parse_time(when.isoformat())


@given(st.lists(fixed_forms, max_size=50))
def test_the_fixed_form_is_read_the_same_in_a_batch(texts: list[str]) -> None:
    """The fast path equals the slow path on what it is made for."""
    times = parse_times(texts)

    assert times.dtype == "int64"
    assert times.tolist() == [parse_time(text) for text in texts]


@given(st.lists(fixed_forms | almost_fixed, max_size=50))
def test_a_batch_refuses_exactly_what_a_single_value_refuses(texts: list[str]) -> None:
    """February 30, 24:00 and the thirteenth month are refused on both paths, the values beside them are read."""
    assert parse_times(texts).tolist() == one_by_one([*texts])


@given(
    st.lists(
        fixed_forms | almost_fixed | st.text(max_size=30) | st.integers() | st.floats() | st.none(),
        max_size=20,
    )
)
def test_a_batch_of_anything_is_read_value_by_value(values: list[str | int | float | None]) -> None:
    """Whatever a producer sends, nothing is raised and nothing leaks from one value into the next."""
    assert parse_times(values).tolist() == one_by_one(values)


def test_a_batch_is_not_fooled_by_values_that_add_up() -> None:
    """Two values whose lengths add up to two fixed forms are not two fixed forms."""
    good = "2026-11-21T09:30:00.123Z"

    assert parse_times([good[:-1], "Z" + good]).tolist() == [UNREADABLE, UNREADABLE]
    assert parse_times([f"{good}|{good}", ""]).tolist() == [UNREADABLE, UNREADABLE]
    assert parse_times([f"{good}|", good[1:]]).tolist() == [UNREADABLE, UNREADABLE]


@given(st.integers(0, END_MS - 1))
def test_what_is_printed_is_read_back(ms: int) -> None:
    """Printing and reading a time are inverse to each other."""
    assert parse_time(format_time(ms)) == ms
    assert len(format_time(ms)) == len("2026-11-21T09:30:00.123Z")


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T09:30:00.123Z", 1_795_253_400_123),
        ("2026-11-21t09:30:00.123z", 1_795_253_400_123),
        ("2026-11-21 09:30:00.123Z", 1_795_253_400_123),
        ("2026-11-21T15:15:00.1+05:45", 1_795_253_400_100),
        ("2026-11-21T09:30:00.999999999-00:00", 1_795_253_400_999),
        ("2024-02-29T00:00:00.000Z", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", END_MS - 1),
        (1_795_253_400_123, 1_795_253_400_123),
        (1_795_253_400_123.9, 1_795_253_400_123),
        (0, 0),
        (END_MS - 1, END_MS - 1),
    ],
)
def test_accepted_forms(value: str | float, ms: int) -> None:
    """Each accepted form, and that fractions of a millisecond are cut off."""
    assert parse_time(value) == ms
    assert parse_times([value]).tolist() == [ms]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2026-11-21T09:30:00.123", "no time zone"),
        ("2026-11-21", "not a time like"),
        ("2026-11-21T24:00:00.000Z", "not a time like"),
        ("2026-11-21T09:30:60.000Z", "not a time like"),
        ("2026-11-21T09:30:00,123Z", "not a time like"),
        ("2026-11-21T09:30:00.Z", "not a time like"),
        ("2026-11-21T09:30:00.1234567890Z", "not a time like"),
        ("2026-11-21T09:30:00+24:00", "not a time like"),
        ("2026-11-21T09:30:00.123Z\n", "not a time like"),
        ("٢٠٢٦-11-21T09:30:00.123Z", "not a time like"),
        ("2026-W47-6T09:30:00.000Z", "not a time like"),
        ("1795253400123", "not a time like"),
        ("", "not a time like"),
        ("x" * 1000, "x…' is not a time like"),
        ("2026-02-30T00:00:00.000Z", "day"),
        ("2025-02-29T00:00:00.000Z", "day"),
        ("2026-13-01T00:00:00.000Z", "month"),
        ("2026-00-01T00:00:00.000Z", "month"),
        ("0000-01-01T00:00:00.000Z", "year"),
        ("1969-12-31T23:59:59.999Z", "between the years"),
        ("1970-01-01T00:30:00.000+01:00", "between the years"),
        ("9999-12-31T23:59:59.999-00:01", "between the years"),
        (-1, "between the years"),
        (-0.5, "between the years"),
        (END_MS, "between the years"),
        (10**400, "between the years"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (True, "neither text nor a number"),
    ],
)
def test_refused_forms_say_why(value: str | float, message: str) -> None:
    """A refusal becomes the `detail` of a dead letter, so it must help."""
    with pytest.raises(ValueError, match=message):
        parse_time(value)
    assert parse_times([value]).tolist() == [UNREADABLE]


def test_an_empty_batch_has_no_times() -> None:
    """A poll without records asks for nothing."""
    assert parse_times([]).tolist() == []


@pytest.mark.parametrize("ms", [-1, END_MS])
def test_a_time_that_could_not_be_read_back_is_not_printed(ms: int) -> None:
    """A year of five digits would be no RFC 3339."""
    with pytest.raises(ValueError, match="between the years"):
        format_time(ms)
