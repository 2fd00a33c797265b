import http.server
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from servers import TOKEN, picture, running

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
        (np.zeros((4, 4, 5), np.uint8), "4, 4, 5"),
        (np.zeros((0, 4), np.uint8), "0, 4"),
        (np.zeros(4, np.uint8), "shape"),
        (Image.new("F", (4, 4)), "convert it to RGB"),
    ],
    ids=range(9),
)
def test_images_that_are_none(asking, image, message):
    with pytest.raises(ValueError, match=message):
        asking.predict(image)


def test_errors_say_which_request_it_was(asking, photo):
    with pytest.raises(ServerError) as error:
        asking.predict(photo, model="other")
    assert (error.value.status, error.value.code) == (404, "unknown_model")
    assert error.value.request_id


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000", "ftp://a", "http://", "http://u@a", "http://a?b", "http://a#b", "http://a:99999",
        "http://a b", "http://[::1", "http://\u00e4", "http://a\r\nX: y", "http://@a",
    ],
    ids=range(12),
)  # fmt: skip
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="address"):
        Client(address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": ""}, "token is empty"),
        ({"token": "secret\u00e4"}, "beyond ASCII"),
        ({"token": "secret\r\nX: y"}, "has spaces"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"retries": -1}, "retries"),
    ],
    ids=range(7),
)
def test_options_that_can_not_be(options, message):
    with pytest.raises(ValueError, match=message) as error:
        Client(**options)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("options", [{"timeout": 20, "retries": 1}, {"timeout": 0.5, "retries": 50}], ids=str)
def test_nobody_there(options):
    """Whether attempts or time are over, the error says why there was no answer."""
    with pytest.raises(ServerError, match=r"refused.*is the server running"):
        Client("http://127.0.0.1:9", **options).models()


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

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

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


def test_several_threads(served):
    images = [picture((8 + number, 16), seed=number) for number in range(16)]
    with Client(served.address) as client, ThreadPoolExecutor(8) as pool:
        found = [x.label for x in pool.map(client.predict, images)]
        assert [label.shape for label in found] == [(8 + number, 16) for number in range(16)]
        assert all(np.array_equal(x, client.predict(image).label) for x, image in zip(found, images, strict=True))
        kept = list(client.connections.idle)
        assert 1 <= len(kept) <= 8
    assert not client.connections.idle
    assert all(connection.sock is None for connection in kept)


def test_ipv6(small, photo):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    with running({"mine": small}, host="::1") as server:
        address = server.address.replace("//::1:", "//[::1]:")
        assert Client(address).predict(photo).label.shape == (48, 64)
    assert Client("http://[::1]").connections.port == 80


def npy(label) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, label)
    return buffer.getvalue()


def lying(shape) -> bytes:
    """A file whose header says more than there is."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


MODEL = b'{"version": "1", "classes": [{"name": "road", "color": [1, 2, 3]}, {"name": "sky", "color": [4, 5, 6]}]}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        npy(np.zeros((4, 4))),
        npy(np.zeros((4, 4, 1), np.uint8)),
        npy(np.full((4, 4), 2, np.uint8)),
        npy(np.zeros((4, 4), np.uint8)) + b"0",
        lying((4, 4)),
        lying((10**9, 10**9)),
        lying((-1, -1)),
        npy(np.zeros((4, 4), np.uint8)).replace(b"|u1", b"|O8"),
    ],
    ids=range(10),
)
def test_label_maps_that_are_none(busy, photo, body):
    address, _ = busy
    Busy.answers[:] = [(200, {"X-Model-Version": "1"}, body), (200, {}, MODEL)]
    with pytest.raises(ServerError, match=r"label map.*|semask serve"):
        Client(address, model="m").predict(photo)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[" * 100_000,
        b"{}",
        b"[]",
        b'{"version": "1", "classes": 3}',
        b'{"version": "1", "classes": [{"name": "road", "color": [1, 2]}]}',
        b'{"version": "1", "classes": [{"name": "a\\u001b[2J", "color": [1, 2, 3]}]}',
        b"\xff\xfe",
    ],
    ids=range(8),
)
def test_descriptions_that_are_none(busy, photo, body):
    address, _ = busy
    Busy.answers[:] = [(200, {"X-Model-Version": "1"}, npy(np.zeros((4, 4), np.uint8))), (200, {}, body)]
    with pytest.raises(ServerError, match="is it semask serve") as error:
        Client(address, model="m").predict(photo)
    assert "\x1b" not in str(error.value)
    Busy.answers[:] = [(200, {}, body)]
    with pytest.raises(ServerError, match="is it semask serve"):
        Client(address).models()


def test_a_model_that_is_replaced_while_it_is_asked(busy, photo):
    """Labels of one version never get the names of another."""
    address, _ = busy
    label, other = npy(np.zeros((4, 4), np.uint8)), MODEL.replace(b'"1"', b'"2"').replace(b"road", b"tree")
    Busy.answers[:] = [
        (200, {"X-Model-Version": "1"}, label),
        (200, {}, other),
        (200, {"X-Model-Version": "2"}, label),
        (200, {}, other),
    ]
    assert Client(address, model="m").predict(photo).classes.names == ("tree", "sky")
    Busy.answers[:] = [(200, {"X-Model-Version": "1"}, label), (200, {}, other)] * 3
    with pytest.raises(ServerError, match="replaced"):
        Client(address, model="m").predict(photo)


def scripted(*parts, pause: float = 0.0, times: int = 1) -> str:
    """A server that gives each connection the same bytes, slowly, whatever it asks; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        for _ in range(times):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                try:
                    for part in parts:
                        connection.sendall(part)
                        time.sleep(pause)
                except OSError:
                    pass
        listening.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"], ids=range(2)
)
def test_answers_that_come_byte_by_byte(head):
    """The time limit is for all of the answer, not for each piece."""
    begin = time.monotonic()
    with pytest.raises(ServerError, match="timed out"):
        Client(scripted(head, *[b"a"] * 200, pause=0.05), timeout=1, retries=0).models()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "head",
    [b"\r\n", b"Content-Length: 99999999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n"],
    ids=["without", "length", "chunked"],
)
def test_answers_that_are_too_large(monkeypatch, head):
    monkeypatch.setattr("semask.serving.client.MOST_TEXT", 100_000)
    monkeypatch.setattr("semask.serving.connections.PIECE", 10_000)
    with pytest.raises(ServerError, match="more than 100000 bytes"):
        Client(scripted(b"HTTP/1.1 200 OK\r\n" + head, *[bytes(1000)] * 400), retries=0).models()


def test_answers_that_are_cut_off():
    address = scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}")
    with pytest.raises(ServerError, match="no answer"):
        Client(address, retries=0).models()


def test_a_connection_that_the_server_has_closed_meanwhile():
    """It is no failed attempt."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"models": []}'
    client = Client(scripted(answer, times=3), retries=0)
    for _ in range(3):
        assert client.models() == []
        time.sleep(0.1)


def test_redirects_are_named(busy):
    address, _ = busy
    Busy.answers[:] = [(301, {"Location": "https://elsewhere.org/"}, b"")]
    with pytest.raises(ServerError, match=r"redirects are not followed.*elsewhere"):
        Client(address).models()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_certificates(busy, tmp_path, monkeypatch):
    """An unknown one is refused at once; one's own is named in the environment."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, pauses = f"https://127.0.0.1:{server.server_port}", busy[1]
    with pytest.raises(ServerError, match="SSL_CERT_FILE"):
        Client(address).models()
    with pytest.raises(ServerError, match="http://"):
        Client(busy[0].replace("http", "https")).models()
    assert not pauses
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    Busy.answers[:] = [(200, {}, b'{"models": []}')]
    assert Client(address).models() == []
    server.shutdown()
    server.server_close()
