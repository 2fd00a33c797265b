"""What an evaluation counts by object size is what a comparison reads."""

import pytest

import semask as package


def test_object_sizes_that_an_evaluation_counted(trained):
    sides = [package.evaluate(trained, details=True, inference={"flip": flip}, workers=0) for flip in (False, True)]
    found = package.compare(*sides)
    assert list(found.pairs[0].sizes) == [size["name"] for size in sides[0].report["details"]["sizes"]]
    for name, size in zip(found.pairs[0].sizes, sides[0].report["details"]["sizes"], strict=True):
        assert found.pairs[0].sizes[name].base == (None if size["miou"] is None else pytest.approx(size["miou"]))
