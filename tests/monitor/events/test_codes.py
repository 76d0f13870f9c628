"""Codes for texts: bounded, handed out once, the same after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.events.codes import OTHER, UNKNOWN, Codes, Entry, Labels, Variants
from monitor.events.readings import NEGATIVE, POSITIVE, LabelCode

LIMIT = 4
texts = st.lists(st.sampled_from([*"abcdefgh", "", OTHER]), max_size=30)
versions = st.lists(st.tuples(st.sampled_from(["m", "n"]), st.sampled_from([*"abcdefgh", "rules", OTHER])), max_size=30)


def variants(limit: int = LIMIT) -> Variants:
    return Variants(["m", "n"], {"m": ["a"], "n": ["a", "b"]}, limit)


# -- texts -----------------------------------------------------------------------------------------------


@given(texts)
def test_texts_have_codes_of_their_own_up_to_the_limit(given_texts: list[str]) -> None:
    """The first ones that come; what comes later shares the code of OTHER."""
    codes = Codes("m", "label", LIMIT)
    got = [codes[text] for text in given_texts]

    own = list(dict.fromkeys(text for text in given_texts if text != OTHER))
    for text, code in zip(given_texts, got, strict=True):
        assert codes.texts[code] in (text, OTHER)
    assert len(codes.texts) <= LIMIT + 1
    if len(own) <= LIMIT and OTHER not in given_texts:
        assert [codes.texts[code] for code in got] == given_texts


@given(texts, texts)
def test_codes_go_on_after_a_restart_as_if_there_had_been_none(before: list[str], after: list[str]) -> None:
    """Fresh entries are what the database has to be told; taken back, they are all that matters."""
    codes = Codes("m", "label", LIMIT, first=2)
    for text in before:
        codes[text]
    entries = codes.drain_fresh()
    restarted = Codes("m", "label", LIMIT, first=2)
    restarted.restore(entries)

    assert [restarted[text] for text in after] == [codes[text] for text in after]
    assert restarted.drain_fresh() == codes.drain_fresh()
    assert codes.drain_fresh() == []


def test_an_entry_says_whose_text_it_is() -> None:
    """A row of the code table."""
    codes = Codes("m", "label", LIMIT, first=2)
    codes["gas"]

    assert codes.drain_fresh() == [Entry("m", "label", 2, "gas")]


# -- labels ----------------------------------------------------------------------------------------------


def labels(*, binary: bool = True, positive: str | None = None) -> Labels:
    return Labels("m", LIMIT, binary=binary, positive=positive)


@pytest.mark.parametrize("yes", [1, 1.0, True, "1", "true", "True", "TRUE", "yes", "Yes"])
@pytest.mark.parametrize("no", [0, 0.0, False, "0", "false", "False", "no", "NO"])
def test_without_a_positive_class_yes_and_no_are_known_in_all_spellings(yes: object, no: object) -> None:
    """What is configured as default: 1, true or yes where there is one."""
    assert (labels().code(yes), labels().code(no)) == (POSITIVE, NEGATIVE)


@pytest.mark.parametrize("positive", ["spam", "ham!", "2"])
def test_with_a_positive_class_all_else_is_negative(positive: str) -> None:
    """Whatever the other class is called, and whether it comes as a name, a number or a boolean."""
    it = labels(positive=positive)

    assert it.code(positive) == POSITIVE
    assert {it.code(other) for other in ("ham", 0, 0.0, False, "yes", "maybe")} == {NEGATIVE}
    assert it.codes.drain_fresh() == []


def test_any_number_of_negative_labels_needs_no_memory() -> None:
    """A stream may invent any number of texts."""
    it = labels(positive="spam")
    for i in range(1_000):
        it.code(f"x{i}")

    assert len(it._known) <= LIMIT


def test_other_texts_of_a_binary_task_are_classes_of_their_own() -> None:
    """So that ham and spam can be told apart where nobody has said which of them is positive."""
    it = labels()

    assert len({it.code("ham"), it.code("spam"), POSITIVE, NEGATIVE}) == 4
    assert it.text(it.code("ham")) == "ham"


def test_labels_of_more_classes_are_compared_as_texts() -> None:
    """1, 1.0 and "1" are one class; true is another."""
    it = labels(binary=False)

    assert it.code(1) == it.code(1.0) == it.code("1")
    assert it.code(True) == it.code("true") == it.code("True") != it.code(1)
    assert it.code(1.5) == it.code("1.5")


def test_a_label_beyond_the_limit_is_shown_as_other() -> None:
    """And it stays so, though it comes again."""
    it = labels(binary=False)
    codes = [it.code(text) for text in "abcdefaf"]

    assert [it.text(code) for code in codes] == ["a", "b", "c", "d", OTHER, OTHER, "a", OTHER]


def test_the_codes_of_a_binary_task_are_shown_by_what_they_mean() -> None:
    """The positive class by its name; negative is 0; a code that nobody knows by itself."""
    assert [labels().text(code) for code in (POSITIVE, NEGATIVE, LabelCode(17))] == ["1", "0", "17"]
    assert labels(positive="spam").text(POSITIVE) == "spam"


@pytest.mark.parametrize(
    ("positive", "key", "meaning"),
    [
        (None, "1", POSITIVE), (None, "yes", POSITIVE), (None, "True", POSITIVE), (None, "0", NEGATIVE),
        (None, "spam", None), ("spam", "spam", POSITIVE), ("spam", "1", NEGATIVE), ("1", "1", POSITIVE),
        ("true", "True", POSITIVE), ("True", "true", POSITIVE),
    ],
)  # fmt: skip
def test_a_key_of_scores_names_a_class_as_a_label_does(
    positive: str | None, key: str, meaning: LabelCode | None
) -> None:
    """`1`, `"1"` and a class key `"1"` of `scores` agree."""
    it = labels(positive=positive)

    assert it.class_of(key) == meaning
    assert (it.code(key) if it.code(key) in (POSITIVE, NEGATIVE) else None) == meaning


# -- versions --------------------------------------------------------------------------------------------


def test_a_model_that_nobody_configured_has_no_versions() -> None:
    """All of them are UNKNOWN, and nothing is remembered of them."""
    v = variants()

    assert v["stranger", "v1"] == UNKNOWN
    assert len(v.table) == 6  # UNKNOWN, two models, three versions
    assert v.model_of().tolist() == [-1, 0, 1, 0, 1, 1]


def test_outcomes_wait_under_the_code_of_their_model() -> None:
    """It belongs to the model and is no version."""
    v = variants()

    assert [v.table[v.of_model(i)].version for i in (0, 1)] == [None, None]
    assert [v.table[v.of_model(i)].model for i in (0, 1)] == [0, 1]


@given(versions)
def test_each_model_has_versions_of_its_own_up_to_the_limit(seen: list[tuple[str, str]]) -> None:
    """The configured ones count; fallback levels and OTHER do not."""
    v = variants()
    own = {"m": ["a"], "n": ["a", "b"]}
    for model, version in seen:
        variant = v.table[v[model, version]]
        if version not in own[model] and version not in ("rules", OTHER) and len(own[model]) < LIMIT:
            own[model].append(version)
        known = version in own[model] or version == "rules"

        assert (variant.model, variant.version) == ("mn".index(model), version if known else OTHER)


@given(versions, versions)
def test_versions_go_on_after_a_restart_as_if_there_had_been_none(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    """Codes are the same, and so is what there is room for."""
    v = variants()
    for key in before:
        v[key]
    restarted = variants()
    restarted.restore(sorted(v.drain_fresh(), key=lambda e: e.code))

    assert restarted.table == v.table
    assert restarted.drain_fresh() == []
    assert [restarted[key] for key in after] == [v[key] for key in after]
    assert restarted.drain_fresh() == v.drain_fresh()


def test_a_version_that_was_configured_anew_gets_a_code_at_the_restart() -> None:
    """Beyond the limit too: what the operator names is measured by its name."""
    v = Variants(["m"], {"m": ["a"]}, 1)
    stored = v.drain_fresh()
    restarted = Variants(["m"], {"m": ["a", "b"]}, 1)
    restarted.restore(stored)

    assert restarted.table[restarted["m", "b"]].version == "b"
    assert [e.text for e in restarted.drain_fresh()] == ["b"]


def test_codes_of_a_model_that_is_gone_stay_taken() -> None:
    """Its waiting predictions may still be in the join; they have nobody to report to."""
    v = variants()
    stored = sorted(v.drain_fresh(), key=lambda e: e.code)
    restarted = Variants(["n", "o"], {"n": ["a", "b"], "o": ["a"]}, LIMIT)
    restarted.restore(stored)

    gone = [e.code for e in stored if e.model == "m"]
    assert restarted.model_of()[gone].tolist() == [-1, -1]
    assert restarted["n", "b"] == v["n", "b"]
    assert restarted["o", "a"] not in {e.code for e in stored}
    assert restarted.of_model(0) == v.of_model(1)
