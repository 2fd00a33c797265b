"""Requests that schemathesis makes of the OpenAPI description: each answer is one that is described, none is a 500."""

from collections import defaultdict

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from servers import picture, running, wait_until
from studios import origin_of, studio

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
EXPECTED = (503, 504)
"""Answers above 500 that a request may ask for: by a timeout of next to nothing."""


def attack(served, examples: int, only: str = "", predict: str = "/v1/models/{name}/predict") -> int:
    """Make requests for each address, or those with `only` in it; gives their number."""
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    statuses = defaultdict(set)
    schema = schemathesis.openapi.from_url(f"{served.address}/openapi.json")
    schema.config.generation.update(modes=modes)
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if only not in operation.path:
            continue
        for mode in modes:

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                nonlocal count
                count += 1
                if count % 4 and "name" in (case.path_parameters or {}):
                    case.path_parameters["name"] = "mine"
                answer = case.call()
                statuses[case.path].add(answer.status_code)
                assert answer.status_code != 500, answer.text
                checks = CHECKS if answer.status_code in EXPECTED else [not_a_server_error, *CHECKS]
                case.validate_response(answer, checks=checks)
                if answer.status_code >= 400 and case.path != "/readyz":
                    error = answer.json()["error"]
                    assert error["request_id"] == answer.headers["x-request-id"][0]
                    assert "Traceback" not in answer.text

            try:
                ask()
            except Unsatisfiable:  # some have nothing that could be wrong
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert {200, 422} <= statuses[predict], statuses
    return count


@pytest.fixture(scope="module", autouse=True)
def images():
    """Bodies are real images too."""
    from hypothesis import strategies as st

    bodies = st.one_of(
        st.sampled_from([picture((8, 8), format=format) for format in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")]),
        st.binary(max_size=200),
    )
    for media in (
        "image/jpeg",
        "image/png",
        "image/tiff",
        "image/webp",
        "image/bmp",
        "image/gif",
        "application/octet-stream",
    ):
        schemathesis.openapi.media_type(media, bodies)


def test_described_requests(served):
    assert attack(served, 20) > 60


@pytest.fixture(scope="module")
def backend(small):
    with studio() as found, running({"mine": small}, origin=origin_of(found)) as server:
        yield server
        assert found.asked == []  # no address that anybody makes up is one of its images


def test_described_requests_of_label_studio(backend):
    assert attack(backend, 20, "label-studio", "/v1/models/{name}/label-studio/predict") > 60


@pytest.mark.slow
def test_thousands_of_requests_of_label_studio(backend):
    assert attack(backend, 1000, "label-studio", "/v1/models/{name}/label-studio/predict") > 3000
    wait_until(lambda: backend.service.predicting.budget.held == 0)


@pytest.mark.slow
def test_thousands_of_requests(served):
    assert attack(served, 1000) > 3000
    wait_until(lambda: served.service.predicting.budget.held == 0)
