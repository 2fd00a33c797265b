"""The ML backend of Label Studio: predictions are exact, and nothing is fetched from elsewhere."""

import io
import json
import posixpath
import re
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import TOKEN as SERVER_TOKEN
from servers import Running, picture, running, wait_until
from studios import PERSONAL, TOKEN, Handler, Studio, endless, origin_of, slowly, studio

from semask.data.annotations import Notes
from semask.data.classes import Classes
from semask.data.label_studio_regions import region
from semask.files.text import one_line
from semask.prediction.outputs.label_studio import config_of
from semask.serving.fetching import Origin, read_origin, target_of
from semask.serving.label_studio_tasks import read_config, read_request
from semask.serving.refusal import Refusal
from semask.settings.serving import Serving

ROOT = "/v1/models/mine/label-studio"
Backend = tuple[Running, Studio, httpx.Client]


@pytest.fixture(scope="module")
def backend(small) -> Iterator[Backend]:
    """A server of ours with a Label Studio."""
    with (
        studio() as found,
        running({"mine": small}, origin=origin_of(found), max_megabytes=4, upload_seconds=2.0) as server,
        server.client() as client,
    ):
        yield server, found, client


@pytest.fixture
def classes(backend) -> Classes:
    rows = backend[2].get("/v1/models/mine").json()["classes"]
    return Classes(tuple(row["name"] for row in rows), tuple(tuple(row["color"]) for row in rows))


def ask(client: httpx.Client, addresses: list, **more) -> list:
    """Answers for tasks."""
    body = {"tasks": [{"id": i, "data": {"image": x}} for i, x in enumerate(addresses)], "project": "1.1", **more}
    answer = client.post(f"{ROOT}/predict", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["results"]
    assert len(found) == len(addresses)
    for result in found:
        if "error" in result:
            assert result["error"]["message"] == one_line(result["error"]["message"])
            assert "result" not in result  # or Label Studio would take it for a prediction
    return found


def decoded(prediction: dict, classes: Classes, size: tuple[int, int]) -> np.ndarray:
    """The label map of a prediction; what is not painted is 77."""
    label = np.full(size, 77, np.uint8)
    for result in prediction["result"]:
        found = region(result, Notes("x"))
        assert found.size == size
        mask = found.shape.mask.decode(size)
        assert (label[mask] == 77).all()
        label[mask] = [*classes.names].index(found.label)
    return label


def test_predictions_are_those_of_predict(backend, classes):
    server, found, client = backend
    photos = {f"/data/upload/1/{seed}.png": picture((40 + seed, 56), seed=seed) for seed in range(3)}
    photos["/data/local-files/?d=a%20b/%C3%A4.png"] = picture((33, 47), seed=9)
    found.files = dict(photos)
    config = (
        config_of(classes).replace('"image"', '"photo"').replace('"$image"', '"$image"').replace('"label"', '"brush"')
    )
    addresses = [*list(photos)[:2], found.address + list(photos)[2], "/data/local-files/?d=a b/ä.png"]
    version = client.post(f"{ROOT}/setup", json={"project": "1", "schema": config}).json()["model_version"]
    results = ask(client, addresses, label_config=config, params={"login": None})
    for result, photo in zip(results, photos.values(), strict=True):
        answer = client.post("/v1/models/mine/predict?format=npy", content=photo, headers={"Content-Type": "image/png"})
        label = np.load(io.BytesIO(answer.content))
        assert np.array_equal(decoded(result, classes, label.shape), label)
        assert {x["from_name"] for x in result["result"]} == {"brush"}
        assert {x["to_name"] for x in result["result"]} == {"photo"}
        assert result["model_version"] == version
    assert version.startswith("mine ")
    assert client.get(f"{ROOT}/versions").json() == {"versions": [version]}
    wait_until(lambda: server.service.predicting.budget.held == 0)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/data/upload/a.png",
        "http://localhost:{port}/data/upload/a.png",
        "https://127.0.0.1:{port}/data/upload/a.png",
        "http://evil@127.0.0.1:{port}/data/upload/a.png",
        "http://127.0.0.1:{port}@evil.org/data/upload/a.png",
        "http://127.0.0.1:{port}.evil.org/data/upload/a.png",
        "http://127.0.0.1:99999/data/upload/a.png",
        "http://[::1/data/upload/a.png",
        "http:/data/upload/a.png",
        "//127.0.0.1:{port}/data/upload/a.png",
        "//evil.org/data/upload/a.png",
        "file:///etc/passwd",
        "file:///data/upload/a.png",
        "/etc/passwd",
        "etc/passwd",
        "data/upload/a.png",
        "/data",
        "/datax/upload/a.png",
        "/api/users",
        "http://127.0.0.1:{port}/api/users",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/%252e%252e/api/users",
        "/data/..%2fapi/users",
        "/data/..\\api/users",
        "/data/local-files/?d=../../etc/passwd",
        "/data/local-files/?d=a/%2e%2e/b.png",
        "/data/upload/a.png\r\nX: y",
        "\t/data/upload/a.png",
        "/data/upload/\0.png",
        "/data/upload/\ud800.png",
        "s3://bucket/a.png",
        "gs://bucket/a.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "/data/" + "a" * 5000,
        "C:\\data\\a.png",
    ],
)
def test_other_addresses_are_not_fetched(backend, photo, address):
    _, found, client = backend
    found.files = {"/data/upload/good.png": photo}
    found.asked.clear()
    address = address.replace("{port}", found.address.rpartition(":")[2])
    # httpx does not write half of a pair; JSON has it as an escape.
    body = json.dumps({"tasks": [{"data": {"image": x}} for x in ("/data/upload/good.png", address)]})
    answer = client.post(f"{ROOT}/predict", content=body, headers={"Content-Type": "application/json"})
    good, bad = answer.json()["results"]
    assert "result" in good
    assert bad["error"]["code"] == "foreign_address"
    assert "only images below" in bad["error"]["message"]
    assert found.asked == ["GET /data/upload/good.png"]


PIECES = (
    "/data/",
    "/",
    "..",
    ".",
    "%2e",
    "%2F",
    "%25",
    "\\",
    "?d=",
    "&",
    "#",
    "@",
    ":",
    "//",
    "a",
    "\u00e4",
    " ",
    "\n",
    "\0",
    "\u2024",
    "\uff0f",
)
ADDRESSES = st.one_of(
    st.text(),
    st.lists(st.sampled_from((*PIECES, "http://a.org:8080", "http:", "a.org", "evil.org"))).map("".join),
    st.lists(st.sampled_from(PIECES)).map(lambda pieces: "/data/" + "".join(pieces)),
)


@settings(max_examples=3000, deadline=None, derandomize=True, database=None)
@given(address=ADDRESSES)
def test_whatever_a_task_says_the_target_is_below_data(address):
    try:
        target = target_of(address, Origin("http", "a.org", 8080, "", TOKEN))
    except Refusal:
        return
    assert re.fullmatch(r"/data/[!-~]*", target)
    path = target.partition("?")[0]
    assert posixpath.normpath(unquote(unquote(path)) + "/x").startswith("/data/")
    assert urlsplit(address)[:2] in (("", ""), ("http", "a.org:8080"))


def redirect(handler: Handler, *, to: str) -> None:
    handler.answer(b"", status=302, Location=to)


def test_redirects_are_not_followed(backend, photo):
    _, found, client = backend
    with studio() as other:
        other.files = {"/data/a.png": photo}
        found.files = {
            "/data/away.png": partial(redirect, to=f"{other.address}/data/a.png"),
            "/data/here.png": partial(redirect, to="/data/a.png"),
            "/data/a.png": photo,
        }
        found.asked.clear()
        for result in ask(client, ["/data/away.png", "/data/here.png"]):
            assert "redirects are not followed" in result["error"]["message"]
        assert other.asked == []
    assert sorted(found.asked) == ["GET /data/away.png", "GET /data/here.png"]


def test_what_can_not_be_segmented(backend, photo):
    server, found, client = backend
    found.files = {
        "/data/good.png": photo,
        "/data/large.png": bytes(4_000_001),
        "/data/endless.png": endless,
        "/data/slow.png": slowly,
        "/data/text.png": b"no image at all",
        "/data/empty.png": b"",
        "/data/packed.png": lambda handler: handler.answer(photo, Content_Encoding="gzip"),
        "/data/broken.png": lambda handler: handler.wfile.write(b"HTTP/1.1 what\r\n\r\n"),
        "/data/short.png": lambda handler: handler.answer(photo[:20], Content_Length="1000"),
        "/data/error.png": lambda handler: handler.answer(b"", status=500),
    }
    begin = time.monotonic()
    addresses = [*found.files, "/data/none.png"]
    results = dict(zip(addresses, ask(client, addresses), strict=True))
    assert time.monotonic() - begin < 10
    assert "result" in results.pop("/data/good.png")
    codes = {address.removeprefix("/data/").partition(".")[0]: x["error"]["code"] for address, x in results.items()}
    assert codes == {
        "large": "body_too_large",
        "endless": "body_too_large",
        "slow": "not_fetched",
        "text": "unreadable_image",
        "empty": "not_fetched",
        "packed": "not_fetched",
        "broken": "not_fetched",
        "short": "not_fetched",
        "error": "not_fetched",
        "none": "not_fetched",
    }
    assert "answered 404" in results["/data/none.png"]["error"]["message"]
    wait_until(lambda: server.service.predicting.budget.held == 0)


def test_a_hundred_tasks(backend, photo):
    server, found, client = backend
    found.files = {f"/data/{i}.png": photo for i in range(0, 100, 2)}
    results = ask(client, [f"/data/{i}.png" for i in range(100)])
    assert ["result" in x for x in results] == [True, False] * 50
    wait_until(lambda: server.service.predicting.budget.held == 0)


def test_what_is_not_done_in_time(small, photo, monkeypatch):
    """It is said of these tasks; the others are answered, since Label Studio would take no late answer."""
    monkeypatch.setattr("semask.serving.label_studio.SECONDS", 3.0)
    with (
        studio() as found,
        running({"mine": small}, origin=origin_of(found), max_batch=1, upload_seconds=1.0) as server,
    ):
        found.files = {"/data/a.png": photo, "/data/slow.png": slowly}
        with server.client() as client:
            begin = time.monotonic()
            results = ask(client, ["/data/a.png", *["/data/slow.png"] * 20])
            assert time.monotonic() - begin < 8
            assert "result" in results[0]
            assert {x["error"]["code"] for x in results[1:-1]} == {"not_fetched", "deadline_exceeded"}
            assert "ask for fewer tasks" in results[-1]["error"]["message"]
            server.service.stopping = True
            (result,) = ask(client, ["/data/a.png"])
            assert "being stopped" in result["error"]["message"]
            assert client.get(f"{ROOT}/health").status_code == 503


def test_a_label_studio_that_does_not_wait(backend):
    server, found, client = backend
    found.files = {"/data/slow.png": slowly}
    found.asked.clear()
    with pytest.raises(httpx.ReadTimeout):
        client.post(f"{ROOT}/predict", json={"tasks": [{"data": {"image": "/data/slow.png"}}] * 100}, timeout=0.3)
    time.sleep(2.2)  # longer than a fetch may take
    assert len(found.asked) <= server.service.settings.max_batch  # the rest is not begun
    wait_until(lambda: server.service.predicting.budget.held == 0)


def test_a_queue_without_room_is_waited_for(small, photo):
    """More tasks at once than the queue has room for: each is answered all the same."""
    with studio() as found, running({"mine": small}, origin=origin_of(found), queue=1, max_batch=4) as server:
        found.files = {"/data/a.png": photo}
        with server.client() as client:
            assert all("result" in x for x in ask(client, ["/data/a.png"] * 8))


def test_tasks_that_are_none(backend, photo):
    _, found, client = backend
    found.files = {"/data/a.png": photo}
    tasks = [None, 1, "x", [], {}, {"data": None}, {"data": {}}, {"data": {"image": 5}}, {"data": {"image": ""}}]
    tasks += [{"data": {"image": "/data/a.png", "more": [{}] * 9}, "annotations": [{"result": []}]}]
    answer = client.post(f"{ROOT}/predict", json={"tasks": tasks}).json()["results"]
    assert ["result" in x for x in answer] == [False] * 9 + [True]
    assert {x["error"]["message"] for x in answer[:9]} == {"the task has no address of an image in data.image"}
    assert client.post(f"{ROOT}/predict", json={"tasks": []}).json() == {"results": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"tasks": {}}', "no list"),
        (b'{"tasks": "x"}', "no list"),
        (b'{"tasks": [' + b"0," * 10_000 + b"0]}", "at most 10,000"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested"),
    ],
    ids=lambda x: repr(x[:12]),
)
def test_requests_that_are_none(backend, body, message):
    for route in ("predict", "setup"):
        answer = backend[2].post(f"{ROOT}/{route}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
        assert message in answer.json()["error"]["message"]


def test_bodies_that_are_none(backend):
    client = backend[2]
    for route in ("predict", "setup"):
        post = partial(client.post, f"{ROOT}/{route}")
        assert post(content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
        assert post(content=b"", headers={"Content-Type": "application/json"}).status_code == 400
        large = post(content=bytes(4_000_001), headers={"Content-Type": "application/json"})
        assert large.status_code == 413
    assert client.get("/v1/models/other/label-studio/health").status_code == 404
    assert client.post("/v1/models/other/label-studio/predict", json={}).status_code == 404


def test_a_config_that_does_not_fit(backend, classes, photo):
    _, found, client = backend
    found.files = {"/data/a.png": photo}
    config = config_of(classes).replace(f'value="{classes.names[0]}"', 'value="other"')
    found.asked.clear()
    answer = client.post(f"{ROOT}/setup", json={"schema": config})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "labeling_config"
    message = f"'label' of the labeling config lacks classes of the model: {classes.names[0]}: add a Label for each"
    assert answer.json()["error"]["message"] == message
    (result,) = ask(client, ["/data/a.png"], label_config=config)
    assert result["error"]["message"] == message
    assert found.asked == []


NAMES = ("a", "b")
BRUSH = '<BrushLabels name="l" toName="i"><Label value="a"/><View><Label value="b"/></View></BrushLabels>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (5, "no text"),
        ("x" * 2**20 + "x", "no text"),
        ("", "no XML"),
        ("<View>", "no XML"),
        ("<View></V>", "no XML"),
        ("<View/>", "no BrushLabels"),
        (f"<View>{BRUSH}</View>", "no BrushLabels for an Image"),
        (f'<View>{BRUSH}<Image name="i" value="image"/></View>', "expected \\$image"),
        (f'<View>{BRUSH}<Image name="i" value="$"/></View>', "expected \\$image"),
        (f'<View>{BRUSH.replace("a", "c")}<Image name="i" value="$x"/></View>', "BrushLabels for an Image"),
        ("<V>" * 70 + "</V>" * 70, "64 levels"),
        ('<!DOCTYPE V SYSTEM "file:///etc/passwd"><V/>', "DOCTYPE"),
        ('<!DOCTYPE V [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><V>&b;</V>', "DOCTYPE"),
        ("<V>&a;</V>", "no XML"),
        ("\ud800", "no XML"),
    ],
    ids=range(15),
)
def test_configs_that_can_not_be(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_config(text, NAMES)
    assert str(caught.value) == one_line(caught.value)


def test_configs():
    config = f'<View><image NAME="i" value="$photo"/>{BRUSH}<BrushLabels name="m" toName="i"/></View>'
    assert read_config(config, NAMES) == {"key": "photo", "from_name": "l", "to_name": "i", "ignored": False}
    other = BRUSH.replace('"l"', '"k"').replace(
        "</View>", '<Label value="x" alias="c"/><Label value="__ignore__"/></View>'
    )
    both = read_config(f'<V>{BRUSH}{other}<Image name="i" value="$photo"/></V>', ("a", "b", "c"))
    assert both == {"key": "photo", "from_name": "k", "to_name": "i", "ignored": True}
    request = {"tasks": [{"data": {"photo": "/data/a"}}, {"data": {"image": "/data/a"}}], "label_config": config}
    found = read_request(json.dumps(request).encode(), NAMES)
    assert found["images"] == [{"image": "/data/a"}, {"fault": "the task has no address of an image in data.photo"}]


def test_a_personal_token(small, photo):
    """It is exchanged for one that is valid for a while, and again when that is too old."""
    with studio() as found, running({"mine": small}, origin=origin_of(found, PERSONAL)) as server:
        found.files = {"/data/a.png": photo}
        with server.client() as client:
            assert all("result" in x for x in ask(client, ["/data/a.png"]))
            assert found.asked == ["POST /api/token/refresh/", "GET /data/a.png"]
            found.valid = ["another"]
            assert all("result" in x for x in ask(client, ["/data/a.png"]))
            assert found.asked[2:] == ["GET /data/a.png", "POST /api/token/refresh/", "GET /data/a.png"]


def test_a_wrong_token(small, photo):
    for token in ("wrong-wrong-wrong", "wrong.wrong.wrong"):
        with studio() as found, running({"mine": small}, origin=origin_of(found, token)) as server:
            found.files = {"/data/a.png": photo}
            with server.client() as client:
                (result,) = ask(client, ["/data/a.png"])
            assert "token" in result["error"]["message"]
            assert token not in json.dumps(result)
            assert len(found.asked) == 1


def test_the_token_of_the_server(small, photo):
    with studio() as found, running({"mine": small}, tokens=(SERVER_TOKEN,), origin=origin_of(found)) as server:
        found.files = {"/data/a.png": photo}
        with server.client() as client:
            assert client.get(f"{ROOT}/health").json() == {"status": "UP"}
            assert client.post(f"{ROOT}/webhook", json={"action": "START_TRAINING"}).json() == {"status": "ignored"}
            wrong = [None, ("x", "y"), (SERVER_TOKEN, ""), ("", f"{SERVER_TOKEN}x")]
            for given in wrong:
                for route in ("setup", "predict"):
                    assert client.post(f"{ROOT}/{route}", json={"tasks": []}, auth=given).status_code == 401
                assert client.get(f"{ROOT}/versions", auth=given).status_code == 401
            for header in ("Basic", "Basic !!!", "Basic " + "A" * 9000, f"Basic {SERVER_TOKEN}"):
                answer = client.post(f"{ROOT}/setup", json={}, headers={"Authorization": header})
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            assert found.asked == []
            auth = ("anybody", SERVER_TOKEN)
            assert client.post(f"{ROOT}/setup", json={}, auth=auth).status_code == 200
            bearer = {"Authorization": f"Bearer {SERVER_TOKEN}"}
            answer = client.post(
                f"{ROOT}/predict", json={"tasks": [{"data": {"image": "/data/a.png"}}]}, headers=bearer
            )
            assert "result" in answer.json()["results"][0]
            # A password is taken here only: browsers keep passwords, and send them for any page.
            assert client.get("/v1/models", auth=auth).status_code == 401


def test_what_setup_sends_is_not_used(backend, photo):
    _, found, client = backend
    with studio() as other:
        body = {"project": "1.1", "schema": "", "hostname": other.address, "access_token": "x", "extra_params": None}
        assert client.post(f"{ROOT}/setup", json=body).status_code == 200
        found.files = {"/data/a.png": photo}
        more = {"hostname": other.address, "params": {"hostname": other.address, "login": "x", "password": "y"}}
        (result,) = ask(client, ["/data/a.png"], **more)
        assert "result" in result
        assert other.asked == []


def test_a_label_studio_that_is_gone(small):
    with studio() as found:
        pass
    with running({"mine": small}, origin=origin_of(found)) as server, server.client() as client:
        (result,) = ask(client, ["/data/a.png"])
        assert result["error"]["code"] == "not_fetched"


def test_without_a_label_studio_there_is_no_backend(served):
    with served.client() as client:
        for route in ("health", "versions"):
            assert client.get(f"{ROOT}/{route}").status_code == 404
        assert client.post(f"{ROOT}/predict", json={}).status_code == 404
        assert "label-studio" not in client.get("/openapi.json").text
    assert read_origin(Serving(), {}) is None


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8080",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a/?x",
        "http://a/#x",
        "http://a:x",
        "http://a:99999",
        "http://a/../b",
        "http://a b",
        "http://a\n",
        "http://\u00e4",
        "",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="label_studio is"):
        read_origin(Serving(label_studio=address), {"SEMASK_LABEL_STUDIO_TOKEN": TOKEN})


def test_settings(tmp_path):
    with pytest.raises(ValueError, match="SEMASK_LABEL_STUDIO_TOKEN"):
        read_origin(Serving(label_studio="http://a"), {})
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    given = Serving(label_studio="https://A.org/studio/", label_studio_token_file=str(file))
    origin = read_origin(given, {})
    assert origin == Origin("https", "a.org", 443, "/studio", TOKEN)
    assert origin.address == "https://a.org/studio"
    for address in ("/data/a", "/studio/data/a", "https://a.org/studio/data/a", "https://A.org:443/studio/data/a"):
        assert target_of(address, origin) == "/studio/data/a"
    with pytest.raises(Refusal):
        target_of("https://a.org/data/a", origin)
    with pytest.raises(ValueError, match="no such file"):
        read_origin(Serving(label_studio="http://a", label_studio_token_file="none"), {})
    six = read_origin(Serving(label_studio="http://[::1]:8080"), {"SEMASK_LABEL_STUDIO_TOKEN": TOKEN})
    assert six is not None
    assert six.address == "http://[::1]:8080"
