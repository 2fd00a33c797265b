"""Films are read frame by frame, upright, with their times; what is no film, or too large, is refused with one line."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from film_samples import av, drawing, times_of, turned, write_film, write_tone

from semask.data.film_files import film_format, is_film
from semask.data.films import Film, Unplayable


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "clip.mp4", 12, sound="aac")


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("a.mp4", "libx264", "mov"),
        ("a.mov", "libx264", "mov"),
        ("a.mkv", "libx264", "matroska"),
        ("a.webm", "libvpx-vp9", "matroska"),
        ("a.avi", "mpeg4", "avi"),
        ("a.ts", "libx264", "mpegts"),
        ("a.flv", "libx264", "flv"),
        ("a.wmv", "wmv2", "asf"),
    ],
)
def test_formats_are_known_by_their_first_bytes(tmp_path, name, codec, format):
    path = write_film(tmp_path / name, 6, codec=codec)
    assert film_format(path) == format
    with Film(path) as film:
        frames = list(film.frames())
    assert [frame.index for frame in frames] == list(range(6))
    seconds = [float(frame.time * film.time_base) for frame in frames]
    assert np.allclose(seconds, np.array(times_of(path)) - float(film.start), atol=2e-3)
    assert np.abs(frames[3].image.astype(int) - drawing(3)).mean() < 12  # the codecs lose some


def test_times_of_frames_that_come_irregularly(tmp_path):
    times = [0, 1, 5, 6, 7, 20, 21]
    path = write_film(tmp_path / "a.mp4", 7, times=times, time_base=Fraction(1, 30))
    with Film(path) as film:
        assert [frame.time * film.time_base for frame in film.frames()] == [Fraction(x, 30) for x in times]


def test_a_film_that_is_held_upright_is_read_upright(clip, tmp_path):
    with Film(clip) as film, Film(turned(clip, tmp_path / "a.mp4")) as other:
        for frame, upright in zip(film.frames(), other.frames(), strict=True):
            assert np.array_equal(upright.image, np.rot90(frame.image, -1))


@pytest.mark.parametrize(
    ("head", "film"),
    [
        (b"\0\0\0\x20ftypisom", "mov"),
        (b"\0\0\0\x20ftypavif", None),
        (b"\0\0\0\x20ftypheic", None),
        (b"RIFF....WEBP", None),
        (b"#EXTM3U\n", None),
        (b"ffconcat version 1.0\n", None),
        (b"export const x = 1\n" * 20, None),
        (b"", None),
    ],
)
def test_what_is_a_film(tmp_path, head, film):
    path = tmp_path / "file"
    path.write_bytes(head + bytes(300) if film else head)
    assert film_format(path) == film
    assert is_film(path) == (film is not None)
    assert is_film(path.with_suffix(".mp4"))  # and opening it says what is wrong
    assert not is_film(path.with_suffix(".jpg"))


def test_nothing_but_the_film_is_opened(clip, tmp_path, monkeypatch):
    """Playlists and manifests, whatever they are called, and films that are partly elsewhere."""
    shutil.copy(clip, tmp_path / "other.mp4")
    texts = {
        "concat.mp4": "ffconcat version 1.0\nfile other.mp4\n",
        "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n",
        "dash.mp4": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>other.mp4</BaseURL></MPD>',
        "picture%d.mp4": "",
        "sdp.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(Unplayable, match="is no film, or of a format that is not read"):
            Film(tmp_path / name)
        for format in ("mov", "matroska", "avi", "mpegts", "mpeg", "asf", "flv"):  # even if its first bytes lied
            monkeypatch.setattr("semask.data.films.film_format", lambda path, format=format: format)
            with pytest.raises(Unplayable), Film(tmp_path / name) as film:
                list(film.frames())
        monkeypatch.undo()


def with_reference(clip: Path, path: Path, target: bytes) -> Path:
    """Change the data reference of an MP4 from "in this file" to another file."""
    content = bytearray(clip.read_bytes())
    at = content.index(b"url \0\0\0\1") - 4
    box = b"url \0\0\0\0" + target + b"\0"
    grown = len(box) + 4 - 12
    content[at : at + 12] = (len(box) + 4).to_bytes(4, "big") + box
    for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):  # the boxes around it are longer now
        start = content.rindex(name, 0, at + 12) - 4
        size = int.from_bytes(content[start : start + 4], "big")
        content[start : start + 4] = (size + grown).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_frames_in_another_file_are_not_fetched(clip, tmp_path, monkeypatch):
    asked = []

    def refused(url, flags, options):
        asked.append(url)
        raise ValueError(url)

    monkeypatch.setattr("semask.data.films._refused", refused)
    other = shutil.copy(clip, tmp_path / "other.mp4")
    path = with_reference(clip, tmp_path / "a.mp4", f"file://{other}".encode())
    content = bytearray(path.read_bytes())
    first = content.index(b"mdat") + 4
    content[first : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - first)  # it has no frames itself
    path.write_bytes(content)
    with pytest.raises(Unplayable, match="no frame can be decoded"), Film(path) as film:
        list(film.frames())
    assert not asked


@pytest.mark.parametrize("end", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_a_film_that_is_cut_off(tmp_path, name, end):
    path = write_film(tmp_path / name, 12, codec="mpeg4" if name == "a.avi" else "libx264")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * end)])
    if name == "a.mp4":  # its table of frames is at its end
        with pytest.raises(Unplayable, match=r"the film can't be opened|has no pictures"):
            Film(path)
        return
    try:
        with Film(path) as film:
            assert 0 < len(list(film.frames())) <= 12
    except Unplayable:
        assert end < 0.9


def test_damage_in_the_middle_is_counted(clip, tmp_path):
    rng = np.random.default_rng(0)
    said = 0
    for _ in range(30):
        content = bytearray(clip.read_bytes())
        start, end = content.index(b"mdat") + 4, content.index(b"moov")
        for at in rng.integers(start, end, 12):
            content[at] ^= int(rng.integers(1, 256))
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        try:
            with Film(path) as film:
                count = len(list(film.frames()))
                said += film.faults.errors + film.faults.damaged > 0
                assert count == film.faults.frames
        except Unplayable:
            said += 1
    assert said > 20


def test_random_bytes_after_a_right_beginning(clip, tmp_path):
    rng = np.random.default_rng(1)
    for head in (
        clip.read_bytes()[:64],
        b"\x1a\x45\xdf\xa3",
        b"\0\0\1\xba",
        b"FLV\1\5\0\0\0\x09",
        b"RIFF\0\1\0\0AVI LIST",
    ):
        for _ in range(5):
            path = tmp_path / "a.mp4"
            path.write_bytes(head + rng.bytes(2000))
            with pytest.raises(Unplayable), Film(path) as film:
                list(film.frames())


def test_frames_are_no_larger_than_images_may_be(clip, monkeypatch):
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "3071")
    with pytest.raises(Unplayable, match="its frames are 64 x 48, more than 3,071 pixels"):
        Film(clip)


def test_a_film_whose_size_changes(tmp_path):
    first, second = (write_film(tmp_path / f"{size}.ts", [drawing(i, size) for i in range(6)]) for size in (64, 80))
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(Unplayable, match="frame 6 is 80 x 48, those before 64 x 48"), Film(path) as film:
        list(film.frames())


def test_sound_alone_and_unknown_codecs(tmp_path, clip, monkeypatch):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        write_tone(container, container.add_stream("aac", rate=48_000), 0.2)
    with pytest.raises(Unplayable, match="has no pictures: is it a film, and complete"):
        Film(tmp_path / "a.mp4")
    monkeypatch.setattr("semask.data.films.CODECS", ("vp9",))
    with pytest.raises(Unplayable, match="its pictures are stored as h264, which is not read"):
        Film(clip)


def test_only_files_are_opened(tmp_path):
    with pytest.raises(ValueError, match="no such file: give the path of a film"):
        Film(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="is a folder"):
        Film(tmp_path)
