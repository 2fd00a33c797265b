import threading

import httpx
import pytest
from app_server import served
from browser import fits, violations
from film_samples import write_film

pytest.importorskip("gradio", reason="needs the extra: pip install 'semask[app]'")

from semask.app.film_page import Films
from semask.app.filming import FilmLimits, Stopped, Turns, segment_film
from semask.app.segmenting import Limits, segment
from semask.app.serving import Serving
from semask.checkpoints.places import PHOTOS

LIMITS = FilmLimits(frames=100, pixels=10**6)


def turns(tell=lambda *_: None) -> Turns:
    return Turns(threading.Lock(), threading.Event(), tell)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "ride.mp4", 6)


def test_the_film_is_that_of_predict(semask, street, film, tmp_path):
    told = []
    (tmp_path / "files").mkdir()
    made = segment_film(street[0], film, tmp_path / "files", LIMITS, turns(lambda done, what: told.append(done)))
    semask("predict", film, "--out", tmp_path / "out", "--write", "overlay", "json")
    (path,) = (tmp_path / "files").rglob("*.mp4")
    assert made["path"] == str(path)
    assert path.read_bytes() == (tmp_path / "out" / "ride.mp4").read_bytes()
    assert made["frames"] == 6
    assert sum(share for _, share in made["classes"]) == pytest.approx(1)
    assert told[0] == (1, 6)
    assert (6, 6) in told


def test_what_is_refused_is_a_sentence_without_folders(street, film, tmp_path):
    (tmp_path / "news.mp4").write_bytes(b"no film")
    (tmp_path / "list.mp4").write_bytes(b"#EXTM3U\nhttp://127.0.0.1:1/x.ts\n")
    for path, limits, said in (
        (tmp_path / "news.mp4", LIMITS, "news.mp4: is no film"),
        (tmp_path / "list.mp4", LIMITS, "list.mp4: is no film"),
        (film, LIMITS._replace(frames=3), "ride.mp4: has more than 3 frames"),
        (film, LIMITS._replace(pixels=100), "ride.mp4: frames of 64 x 48 pixels, at most 100"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            segment_film(street[0], path, tmp_path, limits, turns())
        assert str(path.parent) not in str(error.value)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_film_can_be_stopped(street, film, tmp_path):
    reporter = turns(lambda done, what: reporter.stop.set())
    with pytest.raises(Stopped):
        segment_film(street[0], film, tmp_path, LIMITS, reporter)
    assert list(tmp_path.iterdir()) == []
    assert not reporter.turn.locked()


def test_a_photo_goes_ahead_of_a_long_film(street, tmp_path):
    long, told, begun = write_film(tmp_path / "long.mp4", 200), [], threading.Event()
    reporter = turns(lambda done, what: (told.append(done), begun.set()))
    work = threading.Thread(target=ended, args=(street[0], long, tmp_path, reporter))
    work.start()
    assert begun.wait(60)
    with reporter.turn:
        before = len(told)
        segment(street, PHOTOS[0], Limits(10**6))
        assert len(told) - before <= 1  # the film waits
    assert len(told) < 200
    reporter.stop.set()
    work.join(60)
    assert not work.is_alive()


def ended(*arguments) -> None:
    """Segment a film that is stopped."""
    model, film, folder, reporter = arguments
    with pytest.raises(Stopped):
        segment_film(model, film, folder, LIMITS._replace(frames=1000), reporter)


def test_sessions_stop_their_own_films(street, tmp_path):
    films = Films(street, LIMITS, tmp_path, threading.Lock(), lambda path: None)
    films.stops = {"ann": threading.Event(), "bob": threading.Event()}
    films.stop("ann")
    films.stop("nobody")
    assert films.stops["ann"].is_set()
    assert not films.stops["bob"].is_set()
    assert films.segment(None, None, "ann", None) == {"error": "Choose a film first."}


def test_a_film_is_stopped_while_it_waits_for_its_turn(street, film, tmp_path):
    films = Films(street, LIMITS, tmp_path, threading.Lock(), lambda path: None)
    films.ask("ann")
    films.stop("ann")
    assert films.segment(str(film), None, "ann", lambda *_, **__: None) == {"error": "The film was stopped."}
    films.ask("ann")
    assert films.segment(str(film), None, "ann", lambda *_, **__: None)["frames"] == 6
    assert not films.stops
    assert not films.running


def test_asking_again_does_not_lose_the_film_that_is_under_way(street, tmp_path):
    long, begun, said = write_film(tmp_path / "long.mp4", 200), threading.Event(), []
    films = Films(street, LIMITS._replace(frames=1000), tmp_path, threading.Lock(), lambda path: None)
    films.ask("ann")
    work = threading.Thread(
        target=lambda: said.append(films.segment(str(long), None, "ann", lambda *_, **__: begun.set()))
    )
    work.start()
    assert begun.wait(60)
    films.ask("ann")
    films.stop("ann")
    work.join(60)
    assert said == [{"error": "The film was stopped."}]


def test_a_film_in_the_browser(browser_page, street, film, tmp_path):
    long = write_film(tmp_path / "long.mp4", 400)
    with served(street, Serving()) as app:
        page = browser_page(app.address, "phone")
        page.get_by_role("tab", name="Film").click()
        page.wait_for_selector("#film input[type=file]", state="attached")
        assert violations(page) == []
        page.locator("#film input[type=file]").set_input_files(long)
        page.wait_for_selector("#film [aria-label='long.mp4']")
        page.get_by_role("button", name="Segment the film").click()
        page.get_by_text("frames -").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.wait_for_selector("#film-result .error:not([hidden])")
        assert page.locator("#film-result .error").inner_text() == "The film was stopped."
        page.get_by_label("Remove this file").or_(page.get_by_label("Clear")).first.click()
        page.locator("#film input[type=file]").set_input_files(film)
        page.wait_for_selector("#film [aria-label='ride.mp4']")
        page.get_by_role("button", name="Segment the film").click()
        page.wait_for_selector("#film-result video[src]")
        page.wait_for_function("document.querySelector('#film-result video').readyState >= 1")
        assert fits(page)
        assert violations(page) == []
        with page.expect_download() as waiting:
            page.get_by_role("link", name="Download the film").click()
        assert waiting.value.suggested_filename == "ride.mp4"
        address = page.locator("#film-result video").evaluate("video => video.src")
        assert httpx.get(address).status_code == 200
        assert not list(app.files.rglob("*.film"))
