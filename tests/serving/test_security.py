import logging

import pytest
from servers import TOKEN, running

from semask.serving.models import named
from semask.serving.refusal import Refusal
from semask.serving.security import Guard, check_origins, read_tokens
from semask.settings.serving import Serving


@pytest.fixture(scope="module")
def protected(small):
    with running({"mine": small}, tokens=(TOKEN, "a-second-token-of-another"), origins=("https://a.org",)) as server:
        yield server


def test_a_token_is_asked_for(protected, photo):
    headers = {"Content-Type": "image/png"}
    with protected.client() as client:
        for address in ("/v1/models", "/v1/models/mine", "/metrics"):
            answer = client.get(address)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "unauthorized"
            assert answer.headers["www-authenticate"] == "Bearer"
        wrong = ("", TOKEN, "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer " + "a" * 9000)
        for given in wrong:
            answer = client.post(
                "/v1/models/mine/predict?tile=no", content=photo, headers=headers | {"Authorization": given}
            )
            assert answer.status_code == 401
        for token in (TOKEN, "a-second-token-of-another"):
            given = headers | {"Authorization": f"Bearer {token}"}
            assert client.post("/v1/models/mine/predict", content=photo, headers=given).status_code == 200
        for address in ("/healthz", "/readyz", "/openapi.json", "/"):
            assert client.get(address).status_code == 200


def test_the_token_is_in_no_log(protected, caplog):
    with caplog.at_level(logging.DEBUG), protected.client() as client:
        client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in caplog.text


def test_web_pages_of_others(protected, served):
    asked = {"Origin": "https://a.org", "Access-Control-Request-Method": "POST"}
    with protected.client() as client:
        assert client.options("/v1/models", headers=asked).headers["access-control-allow-origin"] == "https://a.org"
        other = client.options("/v1/models", headers=asked | {"Origin": "https://b.org"})
        assert "access-control-allow-origin" not in other.headers
    with served.client() as client:
        assert "access-control-allow-origin" not in client.options("/v1/models", headers=asked).headers
        assert "access-control-allow-origin" not in client.get("/v1/models", headers=asked).headers


def test_a_name_of_a_web_page_for_this_machine(served, protected):
    with served.client() as client:
        for host in ("evil.org", "127.0.0.1.evil.org", "", "[::1", "a@evil.org"):
            answer = client.get("/healthz", headers={"Host": host})
            assert answer.status_code in (400, 421), host
        for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
            assert client.get("/healthz", headers={"Host": host}).status_code == 200
    with protected.client() as client:
        assert client.get("/healthz", headers={"Host": "example.org"}).status_code == 200


def test_every_answer_has_its_headers(served):
    with served.client() as client:
        for address in ("/", "/nothing", "/v1/models", "/openapi.json"):
            headers = client.get(address).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "server" not in headers
            assert headers["x-request-id"]


def test_the_page_needs_nothing_from_elsewhere(served):
    with served.client() as client:
        page = client.get("/").text
    assert "<script" not in page
    assert page.count("http") == page.count("http://localhost:8000")
    for address in ("/v1/models/{name}/predict", "/v1/models/{name}/reload", "/healthz", "/metrics", "openapi.json"):
        assert address in page


def test_beyond_this_machine_a_token_is_needed(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.0.5", "example.org"):
        with pytest.raises(ValueError, match="SEMASK_TOKEN"):
            read_tokens(Serving(host=host), {})
        assert read_tokens(Serving(host=host), {"SEMASK_TOKEN": TOKEN}) == (TOKEN,)
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert read_tokens(Serving(host=host), {}) == ()
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\na-second-token-of-another\n")
    settings = Serving(token_file=str(file))
    assert read_tokens(settings, {}) == (TOKEN, "a-second-token-of-another")
    file.write_text("")
    with pytest.raises(ValueError, match="has 0 tokens"):
        read_tokens(settings, {})
    with pytest.raises(ValueError, match="no such file"):
        read_tokens(Serving(token_file=str(tmp_path / "none")), {})


@pytest.mark.parametrize("token", ["short", "x" * 600, "sixteen-letters-\u00e4", "'quoted-quoted-quoted'"])
def test_tokens_that_can_not_be(token):
    with pytest.raises(ValueError, match="token"):
        read_tokens(Serving(), {"SEMASK_TOKEN": token})


@pytest.mark.parametrize(
    "origin", ["*", "example.org", "https://", "https://a/b", "https://*.a", "file:///x", "https://u@a", "https://a:x"]
)
def test_origins_that_are_none(origin):
    with pytest.raises(ValueError, match="origins"):
        check_origins([origin])


def test_without_a_token_nothing_is_changed(served):
    with served.client() as client:
        assert client.post("/v1/models/mine/reload").status_code == 403
    with pytest.raises(Refusal):
        Guard(Serving(), ()).require_owner()
    Guard(Serving(), (TOKEN,)).require_owner()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a=x", "a=y"], "two models are called a"),
        (["a b=x"], "needs a name"),
        (["../x/..=y"], "needs a name"),
        ([""], "needs a name"),
        (["x="], "which model"),
        ([f"{'a' * 65}=x"], "at most 64"),
    ],
)
def test_names_of_models(words, message):
    with pytest.raises(ValueError, match=message):
        named(words)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"deadline": 500.0}, "max_deadline"),
        ({"overlap": 600}, "half of tile"),
        ({"max_megabytes": 2000}, "memory_megabytes"),
        ({"port": 70_000}, "serving.port"),
        ({"queue": 0}, "serving.queue"),
        ({"deadline": float("nan")}, "serving.deadline"),
    ],
)
def test_settings_that_can_not_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Serving(**settings)
