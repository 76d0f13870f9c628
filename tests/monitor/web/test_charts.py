"""Pictures of features: they show what was counted, say it in words too, and hold nothing but numbers and names."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from detectors.evidence import Evidence
from detectors.findings import Family
from monitor.evaluation.feature_courses import RECENT, Course, FeatureCourse
from monitor.web.charts import bin_names, feature_row, histogram, sparkline

NUMBERS = Evidence((1.0, 2.5), (50, 30, 20), (10, 10, 80))
CITIES = Evidence(("Bern", "Rome", "other", "unseen"), (6, 3, 1, 0), (0, 0, 1, 3))


def label(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.findtext("title") == root.get("aria-label")
    return root.get("aria-label") or ""


def heights(svg: str, kind: str) -> list[float]:
    return [
        float(bar.get("height") or 0) for bar in ElementTree.fromstring(svg).iter("rect") if bar.get("class") == kind
    ]


def test_a_histogram_says_the_shares_by_bin() -> None:
    told = label(histogram("amount", NUMBERS))

    assert told == "amount, share expected and seen: up to 1 50%, 10%; 1 to 2.5 30%, 10%; above 2.5 20%, 80%"


def test_a_histogram_of_categories_names_them() -> None:
    told = label(histogram("city", CITIES))

    assert told == "city, share expected and seen: Bern 60%, 0%; Rome 30%, 0%; other 10%, 25%; unseen 0%, 75%"


def test_bars_are_as_high_as_the_shares() -> None:
    svg = histogram("amount", NUMBERS)
    expected, seen = heights(svg, "expected"), heights(svg, "seen")

    assert max(expected + seen) == seen[2]
    assert [round(h / seen[2], 1) for h in (*expected, *seen)] == [0.6, 0.4, 0.2, 0.1, 0.1, 1.0]


def test_a_reference_of_a_single_value_has_one_bin() -> None:
    assert bin_names((), 1) == ["all"]
    assert bin_names((3.0,), 2) == ["up to 3", "above 3"]


def test_a_sparkline_has_the_limit_as_a_line_and_a_gap_where_nothing_was_judged() -> None:
    svg = sparkline("amount", Course("ks", 0.3, 0.1, [50, 100, None, 300, 200]))
    root = ElementTree.fromstring(svg)
    (limit,) = root.iter("line")
    lines = [len((line.get("points") or "").split()) for line in root.iter("polyline")]

    assert lines == [2, 2]
    at = {
        round(float(p.split(",")[1]), 1) for line in root.iter("polyline") for p in (line.get("points") or "").split()
    }
    assert float(limit.get("y1") or 0) in at  # a ratio of 1 lies on it
    assert label(svg).endswith("latest 5 windows in units of its limit: 0.5, 1, not judged, 3, 2")


def test_the_words_tell_how_much_against_which_limit() -> None:
    its = FeatureCourse(Course("ks", 0.3, 0.1, [300]), Course("missing_rate", 0.4, 0.05, [800]), NUMBERS)

    assert "ks 0.3 (limit 0.1)" in feature_row("v1", "amount", its)
    assert "missing_rate 0.4 (limit 0.05)" in feature_row("v1", "amount", its, Family.DATA_QUALITY)


def test_what_was_not_judged_is_not_told_as_it_is_now() -> None:
    its = FeatureCourse(Course("ks", 0.3, 0.1, [300, None]))

    assert "not judged in the latest window; before: ks 0.3 (limit 0.1)" in feature_row("v1", "amount", its)


@given(
    st.text(min_size=1),
    st.lists(st.text(), min_size=1, max_size=12),
    st.lists(st.none() | st.integers(0, 1_000_000), max_size=RECENT),
)
def test_any_names_and_numbers_make_a_picture_that_is_only_a_picture(
    name: str, categories: list[str], recent: list[int | None]
) -> None:
    counts = tuple(range(len(categories)))
    its = FeatureCourse(Course("ks", 0.1, 0.1, recent), None, Evidence(tuple(categories), counts, counts[::-1]))
    page = feature_row(name, name, its)

    root = ElementTree.fromstring(page)
    known = {"div", "p", "b", "small", "svg", "title", "rect", "line", "polyline", "circle"}
    assert {element.tag for element in root.iter()} <= known
    numbers = re.findall(r"(?:x|y|width|height|cx|cy|points)='([^']*)'", page)
    assert all(re.fullmatch(r"[-0-9., ]+", number) for number in numbers)
