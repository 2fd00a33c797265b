import gc
import os
import socket
import threading
import time

import httpx
import pytest
from app_server import served

pytest.importorskip("gradio", reason="needs the extra: pip install 'semask[app]'")

from semask.app.gate import Rules, refused
from semask.app.page import SESSIONS
from semask.app.serving import LEAVING, Serving, find_password, listen
from semask.checkpoints.places import PHOTOS
from semask.files.hosts import is_loopback


@pytest.fixture(scope="module")
def app(street):
    with served(street, Serving(megabytes=1, minutes=1)) as found:
        yield found


@pytest.fixture
def client(app):
    with httpx.Client(base_url=app.address, follow_redirects=False) as found:
        yield found


def upload(client, name="a.jpg", content=b"photo"):
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def test_the_page_says_that_nothing_is_asked_of_others(client):
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy.replace("'", "")
    assert '"analytics_enabled":false' in answer.text.replace(" ", "")
    assert "@import" not in client.get("/theme.css").text
    assert "googleapis" not in answer.text + client.get("/theme.css").text


@pytest.mark.parametrize(
    "path",
    [
        "/docs", "/openapi.json", "/redoc", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/runs",
        "/monitoring", "/monitoring/summary", "/gradio_api/proxy=http://127.0.0.1:1/x", "/gradio_api/queue/status",
        "/gradio_api/startup-events", "/gradio_api/deep_link", "/gradio_api/dev/reload", "/gradio_api/vibe-code",
        "/gradio_api/file/etc/passwd", "/gradio_api/mcp/sse", "/nothing",
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/run/predict", "/gradio_api/call/result", "/gradio_api/process_recording", "/gradio_api/vibe-edit",
     "/gradio_api/component_server", "/gradio_api/stream/x", "/gradio_api/file=/etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_written_to(client, path):
    assert client.post(path, json={}).status_code == 404
    assert client.put(path, json={}).status_code == 404


def test_only_uploads_are_given(app, client):
    (path,) = upload(client).json()
    assert path.startswith(str(app.files))
    assert client.get(f"/gradio_api/file={path}").content == b"photo"
    wanted = [
        "/etc/passwd", str(PHOTOS[0]), os.getcwd() + "/pyproject.toml", f"{app.files}/../examples/street_1.jpg",
        f"{app.files}/%2e%2e/examples/street_1.jpg", "pyproject.toml", "../../etc/passwd", "http://127.0.0.1:1/x",
        "https://example.org/x.png", "file:///etc/passwd", f"{app.files}/../../../../etc/passwd", f"{app.files}%00/x",
    ]  # fmt: skip
    for name in wanted:
        answer = client.get(f"/gradio_api/file={name}")
        assert answer.status_code in (403, 404), name
        assert b"root:" not in answer.content
    (app.files / "link").symlink_to("/etc/passwd")
    assert client.get(f"/gradio_api/file={app.files}/link").status_code == 404


@pytest.mark.parametrize("name", ["../../../evil.jpg", "/etc/evil.jpg", "..", "a\\..\\..\\b.jpg", "x" * 300 + ".jpg"])
def test_an_upload_stays_in_its_folder(app, client, name):
    answer = upload(client, name)
    for path in answer.json() if answer.status_code == 200 else []:
        assert os.path.realpath(path).startswith(os.path.realpath(app.files))
    assert not list(app.files.parent.glob("*evil*"))


def test_large_uploads_are_refused(app, client):
    before = sum(len(files) for _, _, files in os.walk(app.files))
    answer = upload(client, content=b"0" * (2**20 + 2**15))
    assert answer.status_code == 413
    assert answer.json() == {"detail": "The file is larger than 1 MB."}
    assert upload(client, content=b"0" * (2**20 + 10)).status_code == 413  # within the gate, over Gradio's limit
    assert client.post("/gradio_api/queue/join", content=b"0" * 2**17).status_code == 413
    assert client.post("/gradio_api/queue/join", content=iter([b"{}"])).status_code == 411  # says no length
    assert sum(len(files) for _, _, files in os.walk(app.files)) == before


def test_other_pages_and_other_names_are_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403  # a name that was bent to this machine
    assert client.get("/", headers={"host": "localhost:1"}).status_code == 200
    answer = client.post("/gradio_api/upload", files={"files": b"x"}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
    assert client.post("/gradio_api/upload", files={"files": b"x"}, headers={"origin": "null"}).status_code == 403


def sent(client, value, session="test") -> str:
    """What the server says of a photo that is named by hand."""
    config = client.get("/config").json()
    (event,) = [x for x in config["dependencies"] if x["targets"][0][1] == "change"]
    body = {"data": [value], "fn_index": event["id"], "session_hash": session, "event_data": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        return next(line for line in stream.iter_lines() if "process_completed" in line)


META = {"_type": "gradio.FileData"}


@pytest.mark.parametrize("path", ["/etc/passwd", "https://example.org/x.png", str(PHOTOS[0]), "a.png", None, ["x"]])
def test_a_file_that_was_not_uploaded_is_not_segmented(app, client, path, monkeypatch):
    before = sorted(app.files.rglob("*"))
    for value in ({"path": path, "meta": META}, {"path": path}, [{"x": {"path": path, "meta": META}}]):
        assert "Only files that were uploaded" in sent(client, value)
    monkeypatch.setattr("semask.app.gate.names_other_files", lambda *_: False)  # what is behind the gate is shut too
    if path != "https://example.org/x.png":
        for value in ({"path": path, "meta": META}, {"path": path}):
            said = sent(client, value)
            assert "panes" not in said
            assert '"success":false' in said
    assert sorted(app.files.rglob("*")) == before


def test_an_upload_is_segmented(client):
    (path,) = upload(client, "street.jpg", PHOTOS[0].read_bytes()).json()
    said = sent(client, {"path": path, "meta": META})
    assert '"success":true' in said
    assert "street.jpg" in said
    assert path not in said  # folders of the server stay there


def test_old_uploads_are_deleted(street, monkeypatch):
    monkeypatch.setattr("semask.app.page.EVERY", 1)
    monkeypatch.setattr("semask.app.serving.SECONDS", 1)
    with served(street, Serving(minutes=1)) as found, httpx.Client(base_url=found.address) as client:
        (path,) = upload(client).json()
        assert os.path.exists(path)
        for _ in range(60):
            time.sleep(0.1)
            if not os.path.exists(path):
                break
        assert not os.path.exists(path)
    assert not found.files.parent.exists()


def test_a_password_is_asked_for(street):
    serving = Serving(user="ann", password="long enough")
    with served(street, serving) as found, httpx.Client(base_url=found.address) as client:
        assert '"auth_required":true' in client.get("/").text.replace(" ", "")
        assert "semask-head" not in client.get("/").text
        for path in ("/config", "/gradio_api/queue/data?session_hash=x", "/gradio_api/file=/etc/passwd"):
            assert client.get(path).status_code in (401, 404)
        assert upload(client).status_code == 401
        start = time.monotonic()
        assert client.post("/login", data={"username": "ann", "password": "wrong word"}).status_code == 400
        assert time.monotonic() - start > 0.9  # guessing is slow
        assert client.post("/login", data={"username": "bob", "password": "long enough"}).status_code == 400
        answer = client.post("/login", data={"username": "ann", "password": "long enough"})
        assert answer.status_code == 200
        assert client.get("/config").status_code == 200


def test_passwords(tmp_path, monkeypatch):
    (tmp_path / "word").write_text("long enough\n")
    (tmp_path / "empty").write_text("\n")
    assert find_password(str(tmp_path / "word")) == "long enough"
    with pytest.raises(ValueError, match="is empty"):
        find_password(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="no such file: give a file that holds the password"):
        find_password(str(tmp_path / "nothing"))
    assert find_password(None) is None
    monkeypatch.setenv("SEMASK_APP_PASSWORD", "of the system")
    assert find_password(None) == "of the system"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"host": "0.0.0.0"}, "lets other machines in, which needs a password"),
        ({"host": "example.org"}, "lets other machines in"),
        ({"password": "short"}, "5 characters: give at least 8"),
        ({"port": 0}, "port is 0"),
        ({"waiting": 0}, "waiting is 0: give 1 to 1,000"),
        ({"megapixels": 10**9}, "megapixels is 1000000000"),
        ({"user": " "}, "user is empty"),
    ],
)
def test_settings_that_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        Serving(**values)


def test_addresses_of_this_machine():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "localhost.example.org")))


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1, port {port}: .*in use.*give another --port"):
            listen("127.0.0.1", port)
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_websockets_and_other_hosts_are_for_nobody(tmp_path):
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"anything")]}
    assert refused(scope, Rules(tmp_path, 1, None)) is None
    assert refused(scope, Rules(tmp_path, 1, frozenset(("localhost",)))).status == 403
    assert refused(scope | {"method": "DELETE"}, Rules(tmp_path, 1, None)).status == 404


def test_the_queue_has_a_bound(street, monkeypatch):
    gone, begun = threading.Event(), threading.Event()

    def slow(*_):
        begun.set()
        gone.wait(30)
        return {"panes": [], "error": "late"}

    monkeypatch.setattr("semask.app.page.segment", slow)
    with served(street, Serving(waiting=2)) as found, httpx.Client(base_url=found.address) as client:
        (path,) = upload(client).json()
        (event,) = [x for x in client.get("/config").json()["dependencies"] if x["targets"][0][1] == "change"]

        def join(name: str) -> httpx.Response:
            body = {"data": [{"path": path, "meta": META}], "fn_index": event["id"], "session_hash": name}
            return client.post("/gradio_api/queue/join", json=body)

        assert join("first").status_code == 200
        assert begun.wait(10)
        answers = [join(f"later {i}") for i in range(4)]
        gone.set()
        assert [x.status_code for x in answers] == [200, 200, 503, 503]
        assert "Queue is full" in answers[-1].text


def test_results_are_not_kept(street, monkeypatch):
    monkeypatch.setattr("semask.app.page.segment", lambda *_: {"panes": [], "error": "x" * 10**6})
    with served(street, Serving()) as found, httpx.Client(base_url=found.address) as client:
        (path,) = upload(client).json()
        before = sessions()
        for number in range(SESSIONS + 4):
            assert '"success":true' in sent(client, {"path": path, "meta": META}, f"page {number}")
        assert sessions() - before <= SESSIONS


def sessions() -> int:
    gc.collect()
    return sum(type(x).__name__ == "SessionState" for x in gc.get_objects())


def test_a_server_with_an_open_page_stops_at_once(street, caplog):
    with served(street, Serving()) as found, httpx.Client(base_url=found.address) as client:
        stream = client.stream("GET", "/gradio_api/heartbeat/page")
        assert stream.__enter__().status_code == 200
        start = time.monotonic()
    assert time.monotonic() - start < LEAVING
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
