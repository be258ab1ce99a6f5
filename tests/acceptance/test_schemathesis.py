"""Thousands of requests that Schemathesis makes of our OpenAPI document: none breaks the server or its word."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import requests
import schemathesis

from nbfunctions.archive import pack
from tests.routing import all_routes
from tests.server.asking import PYTHON, activate, client, create, eventually, execute, given, upload
from tests.server.listening import token
from tests.serving import Serving, clean_environment, serving

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "takes_what_it_says",
)
ENDLESS: Final = "functionsStreamExecutions"
"""The operation whose answer has no end."""
LEAST: Final = 2_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("generated") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def ids(server: Serving) -> dict[str, list[str]]:
    """What there is to ask for."""
    with client(server) as api:
        create(api, "kept", execute=["role:all"])
        active = activate(api, pack({"main.py": PYTHON}), "kept")
        broken = given(upload(api, b"no archive", "kept"), 201)
        at = f"/functions/kept/deployments/{broken['$id']}"
        failed = eventually(lambda: given(api.get(at)), lambda one: one["status"] == "failed")
        for number in range(9):
            create(api, f"spare{number}")
        return {
            "functionId": ["kept"],
            "deploymentId": [active["$id"]],
            "executionId": [execute(api, "Ada", "kept")["$id"]],
            "buildId": [failed["buildId"]],
            "functionsRetryBuild.deploymentId": [failed["$id"]],
            "userId": ["jane"],
            "functionsDelete": [f"spare{number}" for number in range(9)],
            "functionsDeleteDeployment": [given(upload(api, b"no archive", "kept"), 201)["$id"] for _ in range(9)],
            "functionsDeleteExecution": [execute(api, "Ada", "kept")["$id"] for _ in range(9)],
        }


class Asked:
    """What was asked in one run, and how it was answered."""

    def __init__(self, report: Path) -> None:
        self.statuses: collections.Counter[tuple[str, int]] = collections.Counter()
        """By method and path, and the status of the answer."""
        for line in report.read_text().splitlines():
            for scenario in (event for name, event in json.loads(line).items() if name == "ScenarioFinished"):
                recorder = scenario["recorder"]
                for id_, interaction in recorder.get("interactions", {}).items():
                    case = recorder["cases"][id_]["value"]
                    self.statuses[f"{case['method']} {case['path']}", interaction["response"]["status_code"]] += 1

    @property
    def count(self) -> int:
        return self.statuses.total()


def asked(server: Serving, headers: dict[str, str], ids: dict[str, list[str]], folder: Path, *options: str) -> Asked:
    """Let Schemathesis ask as one caller; whatever it complains about fails the test."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.endpoint}/openapi.json"]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    report = folder / "report.ndjson"
    environment = {**clean_environment(folder), "SCHEMATHESIS_HOOKS": "tests.acceptance.generated"}
    done = subprocess.run(
        [
            *command,
            *("--checks", ",".join(CHECKS), "--exclude-operation-id", ENDLESS, "--continue-on-failure"),
            *("--seed", "20", "--request-timeout", "20", "--no-color", "--no-shrink", "--suppress-health-check", "all"),
            *("--report", "ndjson", "--report-ndjson-path", str(report), "--warnings", "off", *options),
        ],
        cwd=folder,
        env={**environment, "GENERATED_IDS": json.dumps(ids)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return Asked(report)


@pytest.mark.parametrize("caller", ["user", "guest"])
def test_whatever_others_ask_is_answered_as_the_document_says(
    server: Serving, ids: dict[str, list[str]], tmp_path: Path, caller: str
) -> None:
    headers = {"X-Appwrite-Project": server.project}
    if caller == "user":
        with client(server) as api:
            headers["X-Appwrite-JWT"] = token(api, "jane")
    found = asked(server, headers, ids, tmp_path, "--max-examples", "8", "--phases", "examples,fuzzing")
    assert found.count >= 150
    assert {201, 401, 404} <= {status for _, status in found.statuses}
    assert max(status for _, status in found.statuses) < 500


@pytest.mark.timeout(300)
def test_whatever_a_key_asks_is_answered_as_the_document_says(
    server: Serving, ids: dict[str, list[str]], tmp_path: Path
) -> None:
    found = asked(server, server.headers, ids, tmp_path, "--max-examples", "60")
    assert found.count >= LEAST
    assert max(status for _, status in found.statuses) < 500
    # They come as far as what a route is there for. What is to be cancelled has ended by then; the document itself,
    # which is asked for first, is in no report.
    ended = "POST /functions/{functionId}/executions/{executionId}/cancel"
    routes = {f"{one.method} {one.path}" for one in all_routes()} - {
        "GET /functions/executions/stream",
        "GET /openapi.json",
    }
    assert routes <= {operation for operation, _ in found.statuses}
    assert routes - {ended} <= {operation for operation, status in found.statuses if status < 300}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_stream_is_opened_or_refused_as_the_document_says(
    server: Serving, mode: schemathesis.GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"{server.endpoint}/openapi.json")
    operation = schema.find_operation_by_id(ENDLESS)
    statuses: collections.Counter[int] = collections.Counter()

    @hypothesis.settings(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        sent = case.as_transport_kwargs(headers=server.headers)
        with requests.request(**sent, stream=True, timeout=20) as answer:
            statuses[answer.status_code] += 1
            (kind,) = operation.definition.raw["responses"][str(answer.status_code)]["content"]
            assert answer.headers["Content-Type"].partition(";")[0] == kind
            if answer.status_code == 200:
                assert next(answer.iter_lines()) == b"retry: 1000"

    ask()
    assert statuses.total() >= 20
    assert statuses.keys() <= {200, 400, 401, 403, 404}
