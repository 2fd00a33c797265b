import http.server
import threading

import numpy as np
import pytest
from PIL import Image
from servers import TOKEN, running

import semask
from semask.serving.client import Client, ServerError


@pytest.fixture
def asking(served):
    with Client(served.address) as client:
        yield client


def test_every_kind_of_image(asking, trained, photo, tmp_path):
    (tmp_path / "photo.png").write_bytes(photo)
    expected = semask.Predictor(semask.load(trained))(tmp_path / "photo.png")
    picture = Image.open(tmp_path / "photo.png")
    for image in (tmp_path / "photo.png", str(tmp_path / "photo.png"), photo, picture, np.array(picture)):
        found = asking.predict(image)
        assert np.array_equal(found.label, expected.label)
        assert found.classes == expected.classes
    assert found.mask().getpalette() == expected.mask().getpalette()
    assert asking.models()[0]["name"] == "mine"
    assert semask.Client is Client


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", "no such file"),
        (b"no image", "422.*not an image"),
        (b"", "400.*empty"),
        (3, "is a int"),
        (np.zeros((4, 4, 3)), "float64"),
    ],
    ids=range(5),
)
def test_images_that_are_none(asking, image, message):
    with pytest.raises(ValueError, match=message):
        asking.predict(image)


def test_errors_say_which_request_it_was(asking, photo):
    with pytest.raises(ServerError) as error:
        asking.predict(photo, model="other")
    assert (error.value.status, error.value.code) == (404, "unknown_model")
    assert error.value.request_id


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://a", "http://", "http://u@a", "http://a?b"])
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="address"):
        Client(address)


def test_nobody_there():
    with pytest.raises(ServerError, match="is the server running"):
        Client("http://127.0.0.1:9", timeout=2, retries=1).models()


class Busy(http.server.BaseHTTPRequestHandler):
    """Gives the answers of a list, and notes the requests."""

    answers, seen = [], []

    def do_GET(self):
        self.seen.append((self.path, dict(self.headers)))
        status, headers, body = self.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def busy(monkeypatch):
    pauses = []
    monkeypatch.setattr("semask.serving.client.time.sleep", pauses.append)
    monkeypatch.setattr(Busy, "answers", [])
    monkeypatch.setattr(Busy, "seen", [])
    server = http.server.HTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", pauses
    server.shutdown()
    server.server_close()


def test_it_waits_as_long_as_the_server_says(busy):
    address, pauses = busy
    Busy.answers[:] = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), (200, {}, b'{"models": []}')]
    assert Client(address, token=TOKEN).models() == []
    assert 7 <= pauses[0] <= 8.75
    assert 0.1 <= pauses[1] < 1
    assert [headers["Authorization"] for _, headers in Busy.seen] == [f"Bearer {TOKEN}"] * 3


def test_it_gives_up(busy):
    address, pauses = busy
    Busy.answers[:] = [(429, {"Retry-After": "1"}, b"")] * 3
    with pytest.raises(ServerError, match="429"):
        Client(address, retries=2).models()
    assert len(pauses) == 2
    Busy.answers[:] = [(429, {"Retry-After": "3600"}, b"")]
    with pytest.raises(ServerError, match="429"):
        Client(address, timeout=5).models()


def test_it_follows_no_redirect_with_the_token(busy):
    address, _ = busy
    Busy.answers[:] = [(302, {"Location": f"{address}/elsewhere"}, b"")]
    with pytest.raises(ServerError, match="302"):
        Client(address, token=TOKEN).models()
    assert len(Busy.seen) == 1


def test_several_models_and_a_token(small, photo):
    with running({"one": small, "two": small}, tokens=(TOKEN,)) as server:
        with pytest.raises(ServerError, match="401"):
            Client(server.address).predict(photo)
        client = Client(server.address, token=TOKEN)
        with pytest.raises(ServerError, match="one of one, two"):
            client.predict(photo)
        assert client.predict(photo, model="two").label.shape == (48, 64)
