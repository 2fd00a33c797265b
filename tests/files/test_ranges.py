"""Parts of files, from a folder and over a network that fails in every way that networks do."""

import hashlib

import pytest

from semask.files.ranges import Part, Request, open_ranges

CONTENT = bytes(range(256)) * 400


def part(start: int, end: int) -> Part:
    return Part(start, end, hashlib.sha256(CONTENT[start:end]).hexdigest())


def test_parts_of_a_file_in_a_folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    ranges = open_ranges(tmp_path)
    assert ranges.read(Request.of("a.tar", part(300, 900))) == CONTENT[300:900]
    both = Request.of("a.tar", part(300, 900), part(1000, 1001))
    assert [x.of(both, ranges.read(both)) for x in both.parts] == [CONTENT[300:900], CONTENT[1000:1001]]
    assert ranges.read(Request("a.tar", 0, 2**20, shorter=True)) == CONTENT
    wrong = [
        Request("a.tar", 0, 2**20),
        Request("b.tar", 0, 1),
        Request.of("a.tar", part(0, 10)._replace(sha256="0" * 64)),
    ]
    said = [str(answer) for answer in ranges.read_all(wrong)]
    assert "got 102,400 of 1,048,576 bytes" in said[0]
    assert "no such file" in said[1]
    assert "the SHA-256 digest is not that of the index" in said[2]
    with pytest.raises(ValueError, match="no such file"):
        ranges.read(wrong[1])
