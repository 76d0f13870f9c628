"""Features as producers name and write them: what has changed is told as what it is, and what has not is calm."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cases.kit import COUNTED, UNLABELLED, Replay, answer, replay

Row = Mapping[str, Any]
LEARNING: Final[dict[str, Any]] = {
    "task": "regression", "champion": "v1", "reference": {"learn": 1_000}, **COUNTED, **UNLABELLED,
}  # fmt: skip
COMPARED: Final[dict[str, Any]] = {**LEARNING, "reference": "reference.csv"}
ROWS: Final = 2_500
CHANGE: Final = 1_500  # a window after what was learned


def learned(folder: Path, rows: Sequence[Row]) -> Replay:
    """A replay of rows whose first thousand are the reference."""
    return replay(folder, {"m": LEARNING}, [answer(i, 1.0, row) for i, row in enumerate(rows)])


def compared(folder: Path, table: str, rows: Sequence[Row], **model: Any) -> Replay:
    """A replay of rows against a table of CSV."""
    (folder / "reference.csv").write_text(table)
    model = {**COMPARED, "reference": str(folder / "reference.csv"), **model}
    return replay(folder, {"m": model}, [answer(i, 1.0, row) for i, row in enumerate(rows)])


# -- names -------------------------------------------------------------------------------------------------

ODD: Final = (
    "time",
    "actual",
    "version",
    "model",
    "",
    "a b",
    "a.b",
    "größe",
    'q"uote',
    "new\nline",
    "features.x",
    "=1+1",
)


def shifted(names: Sequence[str]) -> list[Row]:
    """All features are five standard deviations higher from the change on."""
    chance = random.Random(4)
    return [{name: chance.gauss(0 if i < CHANGE else 5, 1) for name in names} for i in range(ROWS)]


def test_features_may_have_any_name(tmp_path: Path) -> None:
    replayed = learned(tmp_path, shifted(ODD))

    assert replayed.features("drift") == set(ODD)


def test_a_feature_may_be_called_as_an_answer(tmp_path: Path) -> None:
    """It is told by a name of its own, beside the answer."""
    replayed = learned(tmp_path, shifted(["score", "prediction", "other"]))

    assert replayed.features("drift") == {"features.score", "features.prediction", "other"}


def test_names_that_differ_in_case_or_begin_alike_are_different_features(tmp_path: Path) -> None:
    chance = random.Random(5)
    names = ("temp", "Temp", "TEMP", "temp ", "temp1", "temp10")
    rows = [{name: chance.gauss(5 if name == "Temp" and i > CHANGE else 0, 1) for name in names} for i in range(ROWS)]

    replayed = learned(tmp_path, rows)

    assert replayed.features("drift") == {"Temp"}


# -- types and absence -------------------------------------------------------------------------------------


def test_what_a_producer_renamed_and_retyped_is_told_each_as_what_it_is(tmp_path: Path) -> None:
    chance = random.Random(5)
    rows: list[Row] = []
    for i in range(ROWS):
        temperature, wind, humidity = chance.gauss(0, 1), chance.gauss(7, 1), chance.gauss(0, 1)
        calm = {"ok": chance.gauss(0, 1)}
        if i < CHANGE:
            rows.append(calm | {"temp": temperature, "fuel": chance.choice("ab"), "wind": wind, "humidity": humidity})
        else:
            rows.append(calm | {"temperature": temperature, "wind": f"{wind:.2f}", "humidity": humidity > 0, "new": 1})

    replayed = learned(tmp_path, rows)

    assert replayed.features("data_quality") == {"temp", "fuel", "wind", "humidity"}
    told = replayed.summaries("data_quality").splitlines()[0]
    assert "type changed, text or true/false where the reference has numbers: humidity, wind" in told
    assert "missing: fuel, temp" in told
    assert "in the events and not in the reference: temperature, new" in told


RETYPED: Final[Mapping[str, tuple[Callable[[float], Any], Callable[[float], Any], str]]] = {
    "numbers to quoted numbers": (lambda x: x, str, "type changed"),
    "numbers to lists": (lambda x: x, lambda x: [x], ""),
    "numbers to objects": (lambda x: x, lambda x: {"value": x}, ""),
    "numbers to nothing": (lambda x: x, lambda _: None, ""),
    "texts to lists": (lambda x: "ab"[x > 0], lambda x: ["ab"[x > 0]], ""),
    "truth to words": (lambda x: x > 0, lambda x: ("NO", "YES")[x > 0], ""),
    "texts to other numbers": (lambda x: "ab"[x > 0], lambda x: int(x > 0), ""),
    "numbers to NaN as text": (lambda x: x, lambda _: "NaN", "type changed"),
}


@pytest.mark.parametrize("change", RETYPED)
def test_a_change_of_type_is_told(tmp_path: Path, change: str) -> None:
    """As one where it is one; a category that the reference never had is an unseen one."""
    before, after, told = RETYPED[change]
    chance = random.Random(7)
    values = [chance.gauss(0, 1) for _ in range(ROWS)]

    replayed = learned(tmp_path, [{"x": (before if i < CHANGE else after)(x)} for i, x in enumerate(values)])

    assert replayed.features("data_quality") == {"x"}
    assert told in replayed.summaries("data_quality")


SAME: Final[Mapping[str, tuple[Callable[[int], Any], Callable[[int], Any]]]] = {
    "truth as a quoted word": (lambda x: x > 2, lambda x: ("false", "true")[x > 2]),
    "truth as a shouted word": (lambda x: x > 2, lambda x: ("FALSE", "TRUE")[x > 2]),
    "texts of whole numbers as numbers": (str, lambda x: x),
    "texts of whole numbers as floats": (str, float),
    "integers as floats": (lambda x: x, float),
}


@pytest.mark.parametrize("change", SAME)
def test_another_spelling_of_the_same_values_is_calm(tmp_path: Path, change: str) -> None:
    before, after = SAME[change]
    chance = random.Random(8)
    values = [chance.randrange(6) for _ in range(ROWS)]

    replayed = learned(tmp_path, [{"x": (before if i < CHANGE else after)(x)} for i, x in enumerate(values)])

    assert replayed.alerts() == []


# -- a reference that does not fit -------------------------------------------------------------------------

DIFFERENT: Final = [
    {"temp": random.Random(i).gauss(5, 1), "wind": random.Random(-i).gauss(5, 1), "fuel": "c"} for i in range(1_000)
]


def of_table(header: str, separator: str = ",") -> str:
    """Three features around nought and of two categories."""
    chance = random.Random(9)
    rows = ([f"{chance.gauss(0, 1):.3f}", f"{chance.gauss(0, 1):.3f}", chance.choice("ab")] for _ in range(400))
    return "\n".join([header, *(separator.join(row) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    ("header", "separator"), [("temp,wind,fuel", ","), ("temp;wind;fuel", ";"), ("temp , wind, fuel", ", ")]
)
def test_a_table_of_any_form_is_compared_with_the_stream(tmp_path: Path, header: str, separator: str) -> None:
    replayed = compared(tmp_path, of_table(header, separator), DIFFERENT)

    assert replayed.features("drift") == {"temp", "wind", "fuel"}


@pytest.mark.parametrize(
    ("header", "never"),
    [
        ("Temp,Wind,Fuel", {"Temp", "Wind", "Fuel"}),
        ("temp_c,wind_ms,fuel_type", {"temp_c", "wind_ms", "fuel_type"}),
        ("x_temp,x_wind,x_fuel", {"x_temp", "x_wind", "x_fuel"}),
    ],
)
def test_a_table_and_a_stream_without_a_common_name_are_told(tmp_path: Path, header: str, never: set[str]) -> None:
    """Which features never came, and what came instead."""
    replayed = compared(tmp_path, of_table(header), DIFFERENT)

    assert replayed.features("blind") == never
    assert set(replayed.summaries("blind").split("in the events: ")[1].split(": ")[0].split(", ")) == {
        "fuel",
        "temp",
        "wind",
    }


def test_one_name_that_differs_is_told_and_the_others_are_compared(tmp_path: Path) -> None:
    replayed = compared(tmp_path, of_table("temp,Wind,fuel"), DIFFERENT)

    assert replayed.features("blind") == {"Wind"}
    assert replayed.features("drift") == {"temp", "fuel"}


def test_a_table_without_a_header_ends_the_start(tmp_path: Path) -> None:
    replayed = compared(tmp_path, of_table("0.1,0.2,a"), DIFFERENT)

    assert replayed.told.code == 65
    assert "has no header: its first row holds 0.1" in replayed.told.err


# -- values that are nearly equal --------------------------------------------------------------------------

STEPS: Final[Mapping[str, Callable[[random.Random], float]]] = {
    "tenths": lambda chance: chance.randrange(1, 10) / 10,
    "halves": lambda chance: chance.choice([0.5, 1.5]),
    "sums": lambda chance: chance.choice([0.1 + 0.2, 0.3, 0.7 + 0.1, 0.8]),
    "smooth": lambda chance: chance.gauss(0, 1),
    "large": lambda chance: float(chance.randrange(10) * 1_000_003),
    "small": lambda chance: chance.randrange(1, 10) * 1e-7,
    "negative": lambda chance: -chance.randrange(1, 10) / 7,
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_precision_of_a_table_is_no_drift(tmp_path: Path, precision: str) -> None:
    """Applications send the same numbers as JSON writes them."""
    chance = random.Random(19)

    def some(count: int) -> list[dict[str, float]]:
        return [{name: draw(chance) for name, draw in STEPS.items()} for _ in range(count)]

    table = {name: np.array([row[name] for row in some(2_000)], precision) for name in STEPS}
    pq.write_table(pa.table(table), tmp_path / "training.parquet")
    model = {**LEARNING, "reference": str(tmp_path / "training.parquet")}

    replayed = replay(tmp_path, {"m": model}, [answer(i, 1.0, row) for i, row in enumerate(some(1_000))])

    assert replayed.alerts() == []


def test_rounding_in_the_table_hides_no_drift(tmp_path: Path) -> None:
    """A step further is a difference, in single precision too."""
    chance = random.Random(20)
    table = {"rating": np.array([chance.randrange(1, 10) / 10 for _ in range(2_000)], "float32")}
    pq.write_table(pa.table(table), tmp_path / "training.parquet")
    model = {**LEARNING, "reference": str(tmp_path / "training.parquet")}
    rows = [{"rating": chance.randrange(3, 12) / 10} for _ in range(1_000)]

    replayed = replay(tmp_path, {"m": model}, [answer(i, 1.0, row) for i, row in enumerate(rows)])

    assert replayed.features("drift") == {"rating"}


# -- categories --------------------------------------------------------------------------------------------


def many_categories(count: int, chance: random.Random, codes: int = 3_000) -> list[dict[str, Any]]:
    """Postal codes, words by Zipf's law, text that is mostly unique, and hours."""
    words = chance.choices(range(20_000), [1 / (rank + 1) for rank in range(20_000)], k=count)
    return [
        {
            "zip": f"z{chance.randrange(codes)}",
            "word": f"w{words[i]}",
            "note": f"n{chance.randrange(2_500)}" if chance.random() < 0.3 else f"u{i}",
            "hour": f"{chance.randrange(24):02d}",
        }
        for i in range(count)
    ]


def test_many_categories_do_not_drift_by_themselves(tmp_path: Path) -> None:
    rows = many_categories(5_000, random.Random(13))

    assert learned(tmp_path, rows).alerts() == []


def test_a_drift_among_many_categories_is_found(tmp_path: Path) -> None:
    """A fifth of the postal codes becomes one of them, and hours move to the night."""
    chance = random.Random(14)
    rows = many_categories(4_000, chance, codes=40)
    for row in rows[2_000:]:
        if chance.random() < 0.2:
            row["zip"] = rows[0]["zip"]
        row["hour"] = f"{chance.choice([22, 23, 0, 1, 2, chance.randrange(24)]):02d}"

    replayed = learned(tmp_path, rows)

    assert replayed.features("drift") == {"zip", "hour"}


def test_spellings_of_categories_are_equal_and_what_is_not_one_is_told(tmp_path: Path) -> None:
    """Only the town has changed: what was empty is now a text. A feature that nothing was learned of is no drift."""
    chance = random.Random(21)

    def drawn() -> tuple[int, str, bool, str | None, str | None]:
        return (
            chance.randrange(1, 13), chance.choice(["007", "012"]), chance.random() < 0.5,
            chance.choice(["a", "b", None]), chance.choice(["a", "b", None]),
        )  # fmt: skip

    lines = ["month,code,flag,city,town"]
    for month, code, flag, city, town in (drawn() for _ in range(1_000)):
        lines.append(f"{float(month)},{code},{str(flag).upper()},{city or ''},{town or ''}")
    rows = []
    for i in range(1_500):
        month, code, flag, city, town = drawn()
        row = {"month": chance.choice([month, str(month), float(month)]), "code": code, "flag": flag, "city": city}
        row["town"] = town or chance.choice(["nan", "None"])
        rows.append(row | ({"extra": [1, 2]} if i > 1_000 else {}))
    kinds = {"month": "categorical", "code": "categorical"}

    replayed = compared(tmp_path, "\n".join(lines) + "\n", rows, features=kinds)

    assert replayed.features("drift") == replayed.features("data_quality") == {"town"}
    assert replayed.kinds() == {"drift", "data_quality"}
