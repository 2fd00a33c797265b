"""Files of a folder, listed once."""

import pytest

from semask.data.listing import Listing


def test_what_is_listed(tmp_path):
    for name in ("b/x.JPG", "a/y.png", "a/.hidden.png", "__MACOSX/a/y.png", "a/@eaDir/y.png", "Thumbs.db", "ab/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = Listing(tmp_path)
    assert [str(name) for name in listing.names] == ["a/y.png", "ab/z.png", "b/x.JPG"]
    assert listing.folders == {"a", "ab", "b"}
    assert [path.name for path in listing.images()] == ["y.png", "z.png", "x.JPG"]
    assert [path.name for path in listing.masks("a")] == ["y.png"]  # not those of "ab"
    assert [path.name for path in listing.having(".jpg", folder="b")] == ["x.JPG"]


def test_links_that_go_round(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    listing = Listing(tmp_path)
    assert [str(name) for name in listing.names] == ["a/x.png"]
    assert listing.linked_again


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot be opened"):
        Listing(tmp_path / "none")
