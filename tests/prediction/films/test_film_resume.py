"""A film that is stopped anywhere, also by a kill, goes on, and gives the bytes that a run without a stop gives."""

import multiprocessing
import random
import sys
import time

import pytest
from film_samples import content_of, run_film, times_of, write_film

from semask.prediction.claims import claim
from semask.prediction.films import predict, segmenting
from semask.settings.film import FilmSettings

FRAMES = 20
PLAIN, SMOOTH = FilmSettings(), FilmSettings(smoothing=0.7, smoothing_change=40)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "clip.mp4", FRAMES, sound="aac")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(segmenting, "KEEP_EVERY", 4)


def whole(clip, folder, settings):
    """What a run without a stop writes."""
    run_film(clip, folder / "clip", settings)
    return content_of(folder)


@pytest.mark.parametrize(
    "settings", [PLAIN, SMOOTH, FilmSettings(every=2, start=0.25)], ids=["plain", "smooth", "some"]
)
@pytest.mark.parametrize("stop", [0, 1, 5, 7])
def test_stopped_and_started_again(clip, tmp_path, settings, stop):
    expected = whole(clip, tmp_path / "whole", settings)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_film(clip, out / "clip", settings, stop)
    assert [path.name for path in out.iterdir()] == [".clip.film"]
    frames = sum(name.startswith("clip/") and name.endswith(".png") for name in expected)
    predictor = run_film(clip, out / "clip", settings)
    assert predictor.seen == frames - (stop // 4 * 4 if settings is SMOOTH else stop // 3 * 3)
    assert content_of(out) == expected


@pytest.mark.parametrize("other", [FilmSettings(every=2), FilmSettings(opacity=0.1), SMOOTH])
def test_other_settings_begin_anew(clip, tmp_path, other):
    expected = whole(clip, tmp_path / "whole", other)
    with pytest.raises(KeyboardInterrupt):
        run_film(clip, tmp_path / "out" / "clip", PLAIN, 9)
    run_film(clip, tmp_path / "out" / "clip", other)
    assert content_of(tmp_path / "out") == expected


def test_a_film_that_was_changed_begins_anew(clip, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        run_film(path, tmp_path / "out" / "clip", PLAIN, 9)
    write_film(path, 7)
    assert run_film(path, tmp_path / "out" / "clip", PLAIN).seen == 7


@pytest.mark.parametrize("step", ["encode", "move"])
def test_stopped_after_the_last_frame(clip, tmp_path, monkeypatch, step):
    expected = whole(clip, tmp_path / "whole", PLAIN)
    run_film(clip, tmp_path / "out" / "clip", FilmSettings(every=5))  # an earlier result

    def stopped(*_, **__):
        raise KeyboardInterrupt

    name = {"encode": "semask.prediction.films.overlay._Writer._encode", "move": "semask.prediction.films.predict.move"}
    with monkeypatch.context() as patch:
        patch.setattr(name[step], stopped)
        with pytest.raises(KeyboardInterrupt):
            run_film(clip, tmp_path / "out" / "clip", PLAIN)
    assert len(list((tmp_path / "out" / "clip").glob("*.png"))) == FRAMES // 5
    assert run_film(clip, tmp_path / "out" / "clip", PLAIN).seen == FRAMES % 3  # the last group was not a full one
    assert content_of(tmp_path / "out") == expected


def test_stopped_between_the_moves_of_two_folders(clip, tmp_path, monkeypatch):
    expected = whole(clip, tmp_path / "whole", SMOOTH)
    real, moved = predict.move, []

    def once(folder, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        real(folder, target)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "move", once)
        with pytest.raises(KeyboardInterrupt):
            run_film(clip, tmp_path / "out" / "clip", SMOOTH)
    assert moved
    run_film(clip, tmp_path / "out" / "clip", SMOOTH)
    assert content_of(tmp_path / "out") == expected


def test_two_runs_of_one_film(clip, tmp_path):
    lock = claim(tmp_path / ".clip.film")
    with pytest.raises(ValueError, match="another run is writing this result"):
        run_film(clip, tmp_path / "clip", PLAIN)
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("settings", [PLAIN, SMOOTH], ids=["plain", "smooth"])
def test_killed_at_any_moment(clip, tmp_path, settings):
    """Whatever has its final name is whole, and the run that is left alone ends as if nothing had been."""
    expected = whole(clip, tmp_path / "whole", settings)
    context = multiprocessing.get_context("fork")  # the process has no torch to do, and starts at once
    out = tmp_path / "out"

    def start():
        process = context.Process(target=run_film, args=(clip, out / "clip", settings))
        process.start()
        return process

    process, begun = start(), time.monotonic()
    process.join(60)
    length = time.monotonic() - begun
    assert process.exitcode == 0
    chance, killed = random.Random(0), 0
    for _ in range(8):
        process = start()
        process.join(chance.uniform(0, length))
        process.kill()
        process.join()
        killed += process.exitcode != 0
        if (out / "clip.mp4").exists():
            assert times_of(out / "clip.mp4") == times_of(clip)
        if (out / "clip").exists():
            assert len(list((out / "clip").iterdir())) == FRAMES + 1
    process = start()
    process.join(60)
    assert killed
    assert content_of(out) == expected
