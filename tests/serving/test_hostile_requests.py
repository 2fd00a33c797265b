"""Uploads of somebody who means harm: the answer is an error in the one form, and the next request works."""

import gzip
import io
import socket
import struct
import time
import zlib

import pytest
from PIL import Image
from servers import picture, running, wait_until


def refused(answer, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "/" not in error["message"].replace("image/jpeg", "").replace("application/octet-stream", "")
    assert "Traceback" not in answer.text
    assert "\n" not in error["message"]
    return error["message"]


def png_header(width: int, height: int) -> bytes:
    """A PNG that says that it is large, and has next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 100_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (8000, 7000)])
def test_decompression_bombs(post, photo, size):
    message = refused(post(png_header(*size)), 413, "too_many_pixels")
    assert "50,000,000" in message
    assert post(photo).status_code == 200


def test_a_bomb_that_is_small_in_pixels(post):
    """A text chunk of a PNG that unpacks to gigabytes."""
    body = bytearray(picture((8, 8)))
    data = b"Comment\0\0" + zlib.compress(bytes(80_000_000))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    body[33:33] = chunk
    assert post(bytes(body)).status_code in (200, 413, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        b"no image at all",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.4\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        gzip.compress(bytes(1_000_000), mtime=0),
        b"GIF89a" + bytes(20),
        b"II*\0" + bytes(200),
        b"\xff\xd8\xff" + bytes(200),
        b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50),
        b"<VRTDataset rasterXSize='9' rasterYSize='9'/>",
        b"http://localhost/image.png",
    ],
    ids=lambda body: repr(body[:8]),
)
def test_what_is_no_image(post, body):
    refused(post(body, headers={"Content-Type": "image/jpeg"}), 422, "unreadable_image")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_truncated_images(post, format):
    whole = picture((40, 56), format=format)
    for part in (0.05, 0.4, 0.9):
        answer = post(whole[: int(part * len(whole))])
        assert answer.status_code in (200, 422), answer.text  # BMP and GIF may lack some rows
        if answer.status_code == 422:
            refused(answer, 422, "unreadable_image")


def test_samples_of_32_bits(post):
    buffer = io.BytesIO()
    Image.new("F", (8, 8)).save(buffer, "TIFF")
    assert "32 bits" in refused(post(buffer.getvalue()), 422, "unreadable_image")


def test_bodies_that_are_none(post, photo):
    refused(post(b""), 400, "empty_body")
    for media in ("", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        refused(post(photo, headers={"Content-Type": media}), 415, "unsupported_media_type")
    refused(post(gzip.compress(photo), headers={"Content-Encoding": "gzip"}), 415, "unsupported_media_type")


def test_bodies_that_are_too_large(post, photo):
    refused(post(bytes(33_000_000)), 413, "body_too_large")
    refused(post(iter([bytes(1_000_000)] * 40)), 413, "body_too_large")  # in chunks, without a length
    assert post(photo).status_code == 200


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "mine%00", "mine%0d%0aX: y", "m\u00efne", "a" * 3000, "%", "%ff"]
)
def test_names_with_tricks(client, name):
    for address in (f"/v1/models/{name}", f"/v1/models/{name}/predict"):
        answer = client.request("GET" if address.endswith(name) else "POST", address)
        assert answer.status_code in (404, 405, 415, 422), answer.text
        assert set(answer.json()["error"]) == {"code", "message", "request_id"}
        assert "\r" not in answer.text
        assert "x: y" not in str(answer.headers).lower()


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ({"format": "exe"}, {}),
        ({"tile": "many"}, {}),
        ({"tile": "-5"}, {}),
        ({"tile": "9" * 400}, {}),
        ({"timeout": "nan"}, {}),
        ({"timeout": "inf"}, {}),
        ({"timeout": "0"}, {}),
        ({"timeout": "1e9"}, {}),
        ({}, {"X-Request-Timeout": "soon"}),
        ({}, {"X-Request-Timeout": "-1"}),
        ({}, {"X-Request-Timeout": "0"}),
    ],
    ids=str,
)
def test_wrong_parameters(post, photo, query, headers):
    said = refused(post(photo, headers=headers, **query), 422, "invalid")
    assert not headers or "pattern" not in said


def test_addresses_lead_nowhere_else(client):
    """A redirect would name the host and scheme that a proxy replaced."""
    for address in ("/v1/models/", "/v1/models/mine/", "//v1/models"):
        assert client.get(address).status_code == 404


def test_request_ids(post, photo):
    assert post(photo, headers={"X-Request-ID": "my-id_1.2"}).headers["x-request-id"] == "my-id_1.2"
    for wrong in ("a b", "x" * 65, "<script>", '"'):
        assert post(photo, headers={"X-Request-ID": wrong}).headers["x-request-id"] != wrong


def connect(server) -> socket.socket:
    host, port = server.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_huge_headers(served, post, photo):
    with connect(served) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000)
        assert connection.recv(200).startswith(b"HTTP/1.1 400")
    assert post(photo, headers={"X": "a" * 20_000}).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"POST /v1/models/mine/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/models/mine/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=range(5),
)
def test_what_is_no_http(served, text):
    with connect(served) as connection:
        connection.sendall(text)
        assert connection.recv(200)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 405")


def test_slow_clients(small, photo, monkeypatch):
    monkeypatch.setattr("semask.serving.server.HEAD_SECONDS", 0.5)
    with running({"mine": small}, upload_seconds=0.5, connections=8) as server:
        head = b"POST /v1/models/mine/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        with connect(server) as body, connect(server) as headers, connect(server) as nothing:
            body.sendall(head + b"Content-Length: 1000\r\n\r\nabc")
            headers.sendall(head[:40])
            assert body.recv(200).startswith(b"HTTP/1.1 408")
            headers.settimeout(10)
            assert headers.recv(200) == b""
            assert nothing.recv(200) == b""
        crowd = [connect(server) for _ in range(20)]
        time.sleep(0.2)
        assert crowd[-1].recv(200).startswith(b"HTTP/1.1 503")
        assert len(server.server.server_state.connections) <= 8
        for connection in crowd:
            connection.close()
        with server.client() as client:
            headers = {"Content-Type": "image/png"}
            assert client.post("/v1/models/mine/predict", content=photo, headers=headers).status_code == 200


def test_a_client_that_does_not_take_its_answer(small, photo):
    """What it has asked for is held within the memory of all, and not for longer than it takes to send an image."""
    with running({"mine": small}, upload_seconds=2.0, memory_megabytes=40) as server:
        buffer, budget = io.BytesIO(), server.service.predicting.budget
        Image.new("RGB", (4000, 2500)).save(buffer, "JPEG")
        body = buffer.getvalue()
        head = b"POST /v1/models/mine/predict?format=npy HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        with socket.socket() as slow, server.client() as client:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = server.address.removeprefix("http://").split(":")
            slow.connect((host, int(port)))
            slow.settimeout(60)
            slow.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert slow.recv(12) == b"HTTP/1.1 200"
            assert budget.held >= 30_000_000
            headers = {"Content-Type": "image/jpeg"}
            assert client.post("/v1/models/mine/predict", content=body, headers=headers).status_code == 429
            wait_until(lambda: budget.held == 0)
            wait_until(lambda: len(server.server.server_state.connections) == 1)
            assert client.post("/v1/models/mine/predict", content=body, headers=headers).status_code == 200


def test_a_client_that_goes_away(served, photo, post):
    for _ in range(5):
        with connect(served) as connection:
            head = b"POST /v1/models/mine/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            connection.sendall(head + f"Content-Length: {len(photo)}\r\n\r\n".encode() + photo)
    assert post(photo).status_code == 200
    wait_until(lambda: served.service.predicting.budget.held == 0)
