"""Films through `semask predict` and `predict_images`: label maps, overlay, numbers, and what is refused."""

import csv
import gc
import json
import re
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from film_samples import av, drawing, images_of, times_of, turned, write_film
from PIL import Image

import semask as package
from semask.checkpoints.sources import load
from semask.data.films import Film
from semask.data.images import read_mask
from semask.prediction.films.overlay import Overlay
from semask.prediction.films.smoothing import STILL, Flicker, Past
from semask.prediction.predictor import Predictor
from semask.settings.film import FilmSettings


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "clip.mp4", 12, sound="aac")


@pytest.fixture(scope="module")
def expected(trained, clip):
    """The predictor's own label map of each frame."""
    predictor = Predictor(load(trained))
    with Film(clip) as film:
        return [predictor(frame.image, probabilities=True) for frame in film.frames()]


def labels_in(folder):
    return [read_mask(file) for file in sorted(folder.glob("*.png"))]


def streams(path):
    with av.open(str(path)) as container:
        return {stream.type: stream.codec_context.name for stream in container.streams}


def test_label_maps_overlay_and_sound(semask, trained, clip, expected, tmp_path):
    printed = semask("predict", trained, clip, "--out", tmp_path)
    assert re.search(r"clip\.mp4: 12 frames, flicker \d+\.\d\d % of the pixels that stand still", printed.err)
    assert f"1 film segmented, the results are in {tmp_path}" in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "clip.mp4"]
    assert all(np.array_equal(a, b.label) for a, b in zip(labels_in(tmp_path / "clip"), expected, strict=True))
    with Image.open(tmp_path / "clip" / "0000003.png") as mask:
        assert mask.mode == "P"
    with open(tmp_path / "clip" / "frames.csv", encoding="utf-8", newline="") as file:
        rows = [(int(row["frame"]), float(row["seconds"])) for row in csv.DictReader(file)]
    assert np.allclose(rows, [(i, i / 10) for i in range(12)])
    assert streams(tmp_path / "clip.mp4") == {"video": "h264", "audio": "aac"}
    assert times_of(tmp_path / "clip.mp4") == times_of(clip)
    palette = np.array(expected[0].classes.palette)
    for drawn, image, prediction in zip(images_of(tmp_path / "clip.mp4"), images_of(clip), expected, strict=True):
        blend = 0.45 * image + 0.55 * palette[prediction.label]
        assert drawn.shape == (48, 244, 3)
        assert np.abs(drawn[:, :64] - blend).mean() < 14  # the codec loses some


def test_the_sound_stays_as_it_is(trained, clip, tmp_path):
    package.predict(trained, clip, out=tmp_path)

    def packets(path):
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            return [
                (float(x.pts * x.time_base), bytes(x)) for x in container.demux(stream) if x.size and x.pts is not None
            ]

    assert packets(tmp_path / "clip.mp4") == packets(clip)


def test_what_is_asked_for(trained, clip, tmp_path):
    film = {"every": 3, "start": 0.35, "end": 1.1, "legend": False, "sound": False, "opacity": 0.0}
    summary = tmp_path / "all.csv"
    (result,) = package.predict(
        trained, clip, out=tmp_path / "out", write=["mask", "overlay", "json", "confidence"], film=film, summary=summary
    )
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"clip", "clip.mp4", "clip.json", "clip_confidence"}
    names = ["0000004.png", "0000007.png", "0000010.png"]
    assert [path.name for path in sorted((out / "clip_confidence").glob("*.png"))] == names
    assert [path.name for path in sorted((out / "clip").glob("*.png"))] == names
    assert result.film.frames == 3
    assert result.mask == out / "clip"
    assert streams(out / "clip.mp4") == {"video": "h264"}
    assert np.allclose(times_of(out / "clip.mp4"), [0, 0.3, 0.6])
    for drawn, index in zip(images_of(out / "clip.mp4"), (4, 7, 10), strict=True):
        assert np.abs(drawn.astype(int) - drawing(index)).mean() < 8
    report = json.loads((out / "clip.json").read_text())
    assert report["settings"]["every"] == report["frames"] == 3
    assert sum(x["pixels"] for x in report["classes"]) == 3 * 48 * 64 == sum(result.areas.pixels)
    counts = np.bincount(np.stack(labels_in(out / "clip")).ravel(), minlength=len(report["classes"]))
    assert [x["pixels"] for x in report["classes"]] == counts.tolist()
    assert report["flicker"]["share"] == result.film.flicker
    assert len(summary.read_text().splitlines()) == 1 + 11


def test_times_that_are_irregular_and_a_film_of_odd_size_that_is_turned(trained, tmp_path):
    times = [0, 1, 5, 6, 7, 20, 21]
    path = write_film(tmp_path / "a.mp4", 7, times=times, time_base=Fraction(1, 30))
    package.predict(trained, path, out=tmp_path / "out", write=["overlay"])
    assert np.allclose(times_of(tmp_path / "out" / "a.mp4"), [x / 30 for x in times])
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.mp4"}
    path = turned(path, tmp_path / "b.mp4")
    package.predict(trained, path, out=tmp_path / "out", film={"legend": False})
    assert images_of(tmp_path / "out" / "b.mp4")[0].shape == (64, 48, 3)
    assert labels_in(tmp_path / "out" / "b")[0].shape == (64, 48)


@pytest.mark.parametrize("shape", [(47, 63), (48, 63), (47, 64), (10, 20)])
@pytest.mark.parametrize("legend", [True, False])
def test_overlays_have_even_sides(expected, shape, legend):
    draw = Overlay(expected[0].classes, np.full(256, 1 / 256), FilmSettings(legend=legend, opacity=0))
    image = drawing(0, shape[1], shape[0])
    drawn = draw(image, np.zeros(shape, np.uint8))
    assert np.array_equal(drawn[: shape[0], : shape[1]], image)
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0
    assert legend or (drawn.shape[0] - shape[0], drawn.shape[1] - shape[1]) == (shape[0] % 2, shape[1] % 2)


@pytest.mark.parametrize("limit", [255, 8])
def test_smoothing_is_the_formula(trained, clip, expected, tmp_path, limit):
    film = {"smoothing": 0.6, "smoothing_change": limit}
    (result,) = package.predict(trained, clip, out=tmp_path, write=["mask", "confidence"], film=film)
    with Film(clip) as source:
        images = [frame.image.astype(int) for frame in source.frames()]
    labels, sure = labels_in(tmp_path / "clip"), labels_in(tmp_path / "clip_confidence")
    past = None
    for index, prediction in enumerate(expected):
        p = prediction.probabilities.astype(np.float64)
        if past is not None:
            share = np.where(np.abs(images[index] - images[index - 1]).max(-1) <= limit, 0.6, 0)
            p = (1 - share) * p + share * past
        past = p
        highest = np.sort(p, axis=0)
        decided = highest[-1] - highest[-2] > 1e-3  # float16 of the single frames, in another grouping
        assert (labels[index] == p.argmax(0))[decided].all()
        assert decided.mean() > 0.8
        assert np.abs(sure[index] / 255 - p.max(0)).max() < 0.01
    plain = package.predict(trained, clip, out=tmp_path / "plain", write=["mask"])[0].film.flicker
    assert result.film.flicker < plain


def test_flicker_counts_changes_where_the_image_stands_still():
    flicker = Flicker()
    image, label = np.full((2, 3, 3), 100, np.uint8), np.zeros((2, 3), np.uint8)
    flicker.add(image, label)
    assert flicker.share is None
    moved, other = image.copy(), label.copy()
    moved[0, 0, 1] += STILL + 1  # a change that may be real
    moved[0, 1, 1] -= STILL
    other[0] = 1
    flicker.add(moved, other)
    assert (flicker.still, flicker.changed) == (5, 2)
    flicker.add(moved, other)
    assert flicker.share == 2 / 11


def test_a_past_that_was_kept_goes_on():
    rng = np.random.default_rng(0)
    frames = [(rng.random((3, 4, 5)).astype(np.float16), rng.integers(0, 256, (4, 5, 3), np.uint8)) for _ in range(6)]
    whole, first = Past(0.5, 60), Past(0.5, 60)
    results = [whole.add(*frame) for frame in frames]
    for frame in frames[:3]:
        first.add(*frame)
    rest = Past(0.5, 60, {name: x.copy() for name, x in first.arrays().items()})
    for frame, (label, sure) in zip(frames[3:], results[3:], strict=True):
        found = rest.add(*frame)
        assert np.array_equal(found[0], label)
        assert np.array_equal(found[1], sure)


def test_sound_that_does_not_fit_is_left_out_and_said(semask, trained, tmp_path):
    path = write_film(tmp_path / "a.mkv", 4, sound="pcm_s16le")
    printed = semask("predict", trained, path, "--out", tmp_path / "out")
    assert "its sound (pcm_s16le) is left out" in printed.err
    assert streams(tmp_path / "out" / "a.mp4") == {"video": "h264"}


def test_a_damaged_film_is_one_line_and_leaves_what_was_there(semask, trained, clip, tmp_path):
    out = tmp_path / "out"
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    semask("predict", trained, path, "--out", out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    path.write_bytes(clip.read_bytes()[:700])
    photo = tmp_path / "photo.png"
    Image.fromarray(drawing(0)).save(photo)
    printed = semask("predict", trained, path, photo, "--out", out, code=2)
    assert "1 of 2 images could not be segmented:" in printed.err
    (line,) = (line for line in printed.err.splitlines() if "the film can't be opened" in line)
    assert str(path) in line
    assert (out / "photo.png").is_file()
    assert all(file.read_bytes() == content for file, content in before.items())
    assert not list(out.glob(".*"))


def test_damage_in_the_middle_is_said(semask, trained, clip, tmp_path):
    content = bytearray(clip.read_bytes())
    start = content.index(b"mdat") + 4
    at = start + 1500
    content[at : at + 300] = bytes(300)
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    printed = semask("predict", trained, path, "--out", tmp_path / "out", "--write", "json")
    assert re.search(r"warning: .*a\.mp4: (damaged, |has \d+ of the 12 frames)", printed.err)
    assert json.loads((tmp_path / "out" / "a.json").read_text())["said"]


def test_films_in_folders(semask, trained, clip, tmp_path):
    films, both = tmp_path / "films", tmp_path / "both"
    for folder in (films / "deep", both):
        folder.mkdir(parents=True)
        (folder / "clip.mp4").write_bytes(clip.read_bytes())
        (folder / "program.ts").write_text("export const x = 1\n")
    Image.fromarray(drawing(0)).save(both / "photo.png")
    semask("predict", trained, films, "--out", tmp_path / "a", "--every", "6")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"clip", "clip.mp4"}
    printed = semask("predict", trained, both, "--out", tmp_path / "b")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"photo.png", "photo_overlay.jpg"}
    assert "clip.mp4: left out, a folder of images stands for these only: name the film" in printed.err
    printed = semask("predict", trained, both, both / "*.mp4", "--out", tmp_path / "c", "--every", "6")
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"photo.png", "photo_overlay.jpg", "clip", "clip.mp4"}
    assert "left out" not in printed.err
    assert "2 images and films segmented" in printed.err


def test_a_damaged_film_in_a_folder_is_said_and_a_program_is_not(semask, trained, clip, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "program.ts").write_text("export const x = 1\n")
    printed = semask("predict", trained, folder, "--out", tmp_path / "out", "--every", "6", code=2).err
    assert "1 of 2 films could not be segmented:" in printed
    assert "empty.mp4: is no film" in printed
    assert "program.ts" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--priors"], "priors is of images, not of films: write mask, overlay, confidence, json, or leave out"),
        (["--write", "coco"], "coco is of images, not of films"),
        (["--tile=64", "--overlap=8"], "--tile is of images, not of films"),
        (["--nodata=0"], "--nodata is of images, not of films"),
        (["--start=2", "--end=1"], "end is 1, not after start, 2: give a later second"),
        (["--smoothing=1"], "--smoothing is 1.0: give a number from 0 to 0.99"),
        (["--every=0"], "--every is 0: give a whole number from 1 to 100,000"),
    ],
)
def test_refused(semask, trained, clip, tmp_path, arguments, message):
    pytest.importorskip("rasterio")
    pytest.importorskip("pycocotools")
    assert message in semask.refused("predict", trained, clip, "--out", tmp_path, *arguments)
    assert not list(tmp_path.iterdir())


def test_settings_of_films_without_a_film(semask, trained, scenes, tmp_path):
    message = semask.refused("predict", trained, scenes / "images" / "val", "--out", tmp_path, "--every", "5")
    assert message == "--every is of films, and there is none: leave it out, or give a film"


def test_nothing_else_is_replaced(semask, trained, clip, tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "0000000.png").write_bytes(b"mine")
    message = semask.refused("predict", trained, clip, "--out", tmp_path)
    assert "is there already, and not a folder of label maps: choose another --out" in message
    assert (tmp_path / "clip" / "0000000.png").read_bytes() == b"mine"
    message = semask.refused("predict", trained, clip, "--out", clip.parent)
    assert "an output in" in message
    assert "would take the place of this image" in message


def test_a_film_goes_to_files(trained, clip):
    with pytest.raises(ValueError, match="what comes of a film is written to files: give a folder as out"):
        package.predict(trained, clip)


def test_limits(trained, clip, tmp_path):
    (result,) = package.predict(trained, clip, out=tmp_path, film={"max_frames": 11})
    assert result.failure == f"{clip}: has more than 11 frames, the limit (max_frames): cut it shorter"
    (result,) = package.predict(trained, clip, out=tmp_path, film={"max_frames": 11, "end": 1.05})
    assert result.failure is None
    (result,) = package.predict(trained, clip, out=tmp_path, film={"start": 9})
    assert result.failure == f"{clip}: has no frame after second 9: set start lower"


def test_memory_does_not_grow_with_the_film(trained, tmp_path):
    peaks = []
    for count in (8, 32):
        path = write_film(tmp_path / f"{count}.mp4", [drawing(i, 256, 192) for i in range(count)])
        package.predict(trained, path, out=tmp_path / "out")  # what is loaded once
        gc.collect()
        tracemalloc.start()
        package.predict(trained, path, out=tmp_path / "out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(peaks)
    assert peaks[1] < peaks[0] + 3 * 192 * 256 * 3  # three frames more than for a quarter of the film
