"""Every setting of a recipe has a type and a range, whoever gives it: Python, the line or a file."""

import dataclasses
import json
import math
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semask import Augmentation
from semask.decoders.catalog import find, hints_of, names
from semask.encoders.options import TIMM, TRANSFORMERS
from semask.files.schema import Length, Range, admits, expected, field_hints, from_plain, require
from semask.settings.sections import SECTIONS
from semask.settings.training import Training

GROUPS = SECTIONS
LEAST: dict[str, dict[str, Any]] = {"data": {"root": "x"}}
"""Settings without a default."""
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, 1, -1, 0.5, 1e-9, 2**63, math.nan, math.inf, -math.inf]),
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=20),
    st.lists(NUMBERS, max_size=4),
    st.lists(st.one_of(st.none(), NUMBERS), min_size=2, max_size=4),
    st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3),
)
FIELDS = [(group, name) for group, kind in GROUPS.items() for name in field_hints(kind)]


def numbers_of(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [number for part in value for number in numbers_of(part)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@pytest.mark.parametrize(("group", "name"), FIELDS, ids=lambda x: x)
@settings(max_examples=60, deadline=None)
@given(value=ANYTHING)
def test_a_setting_is_in_its_range_or_one_line_says_what_is(group, name, value):
    """No NaN, no infinity, nothing of another type gets through, and what does can be written and read again."""
    kind, said, made = GROUPS[group], None, None
    try:
        made = kind(**{**LEAST.get(group, {}), name: value})
    except ValueError as error:
        said = str(error)
    if made is None:
        assert said.isprintable()
        assert name in said or "std" in said
        assert len(said) < 600
        return
    assert admits(getattr(made, name), field_hints(kind)[name])
    assert all(math.isfinite(number) for number in numbers_of(getattr(made, name)))
    again = json.loads(json.dumps(dataclasses.asdict(made), allow_nan=False))
    assert kind(**from_plain(kind, again, group)) == kind(**from_plain(kind, dataclasses.asdict(made), group))


def unbounded(hint: Any) -> bool:
    """Whether an annotation admits a number that is out of all bounds, at any depth."""
    wild = [10**400, -(10**400), math.nan, math.inf, 10**18]
    wild += [[x] for x in wild] + [[x, x] for x in wild] + ["x" * 10**6, ["x" * 10**6], [1] * 10**6]
    return any(admits(value, hint) for value in wild)


SAMPLES = {("data", "nodata")}
"""Settings that may be any sample of an image, such as the least number of 32 bits, -3.4e38."""


@pytest.mark.parametrize(("group", "name"), FIELDS, ids=lambda x: x)
def test_every_setting_has_bounds(group, name):
    hint = field_hints(GROUPS[group])[name]
    if (group, name) in SAMPLES:
        assert not any(admits(value, hint) for value in (10**400, -(10**400), math.nan, math.inf, "x" * 10**6))
    else:
        assert not unbounded(hint)
    assert expected(field_hints(GROUPS[group])[name])


@pytest.mark.parametrize("table", [TIMM, TRANSFORMERS], ids=["timm", "transformers"])
def test_every_option_of_a_library_has_bounds(table):
    for name, hint in table.items():
        assert not unbounded(hint), name
        assert not admits("http://127.0.0.1/x", hint), name
        assert not admits("../folder", hint), name


def test_every_option_of_a_decoder_has_bounds():
    shared = {
        "in_channels",
        "strides",
        "num_classes",
        "channels",
        "dropout",
        "queries",
        "layers",
        "pixel_decoder",
        "name",
    }
    for decoder in names():
        for name, hint in hints_of(find(decoder)).items():
            if name not in shared:
                assert not unbounded(hint), f"{decoder}: {name}"
                assert admits(True, bool) if hint is bool else hint is not Any, f"{decoder}: {name}"


def test_defaults_are_admitted():
    for group, kind in GROUPS.items():
        kind(**LEAST.get(group, {}))


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        (0, Annotated[int, Range(1, 255)], "x is 0: give a whole number from 1 to 255"),
        (True, Annotated[int, Range(0, 255)], "x is True: give a whole number from 0 to 255"),
        (1.0, Annotated[int, Range(0, 255)], "x is 1.0: give a whole number from 0 to 255"),
        (0, Annotated[float, Range(0, 1, above=True)], "x is 0: give a number above 0 and up to 1"),
        (1, Annotated[float, Range(0, 1, below=True)], "x is 1: give a number from 0 below 1"),
        (math.nan, Annotated[float, Range(0, 1)], "x is nan: give a number from 0 to 1"),
        ("z", Literal["a", "b"], "x is 'z': give one of a, b"),
        (None, bool, "x is None: give true or false"),
        ([1], tuple[bool, bool], "x is [1]: give [true or false, true or false]"),
        ((), Annotated[tuple[bool, ...], Length(1, 2)], "x is (): give a list of true or false (1 to 2 of them)"),
        ({1: 2}, dict[str, Any] | None, "x is {1: 2}: give an object with names and values or null"),
        ("a\0", str, "x is 'a\\x00': give a text"),
        (10**5000, bool, "x is a number of 5,001 digits: give true or false"),
    ],
    ids=lambda x: "" if isinstance(x, int) else None,
)
def test_messages(value, hint, said):
    with pytest.raises(ValueError, match=r"^x is ") as caught:
        require(value, hint, "x")
    assert str(caught.value) == said


def test_what_a_file_says_is_a_table_of_known_names():
    with pytest.raises(ValueError, match=r"training has no setting 'stepps': its own are steps, "):
        from_plain(Training, {"stepps": 3}, "training")
    with pytest.raises(ValueError, match=r"training is \[\]: give an object with settings"):
        from_plain(Training, [], "training")
    assert from_plain(Augmentation, {"crop": [3, 4]}, "augmentation") == {"crop": (3, 4)}
