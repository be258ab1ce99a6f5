"""A tour of the Functions service through the official Appwrite Python SDK that is on ``sys.path``.

Run as a program: ``python sdk_tour.py ENDPOINT PROJECT KEY RUNTIME ARCHIVE LARGE_ARCHIVE``. It uses only the SDK's own
methods and ends with status 0 when every answer is what the reference's own end-to-end tests assert (spec, section 13).
"""

import sys
import time

from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.services.functions import Functions


def refused(code: int, type_: str, call, *arguments, **named) -> None:
    try:
        answer = call(*arguments, **named)
    except AppwriteException as error:
        assert (error.code, error.type) == (code, type_), (error.code, error.type, error.message)
        assert error.response["code"] == code, error.response
    else:
        raise AssertionError(f"expected {code} {type_}, got {answer}")


def eventually(question, condition):
    deadline = time.monotonic() + 20
    while True:
        answer = question()
        if condition(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


def tour(functions: Functions, runtime: str, archive: object, dates: tuple[str, str]) -> None:
    created = functions.create(
        "unique()",
        "SDK tour",
        ["role:all"],
        runtime,
        vars={"GREETING": "Hello"},
        events=["users.*.create"],
        schedule="0 0 1 1 *",
        timeout=10,
    )
    function_id = created["$id"]
    assert created["name"] == "SDK tour", created
    assert created["deployment"] == "", created
    assert created["vars"] == {"GREETING": "Hello"}, created
    assert created["events"] == ["users.*.create"], created
    assert created["schedule"] == "0 0 1 1 *", created
    assert created["timeout"] == 10, created
    refused(409, "function_already_exists", functions.create, function_id, "Again", [], runtime)
    refused(400, "general_argument_invalid", functions.create, "x" * 40, "Bad", [], runtime)
    refused(400, "general_argument_invalid", functions.create, "other", "Bad", [], "cobol-85")
    other = functions.create("second-" + function_id[:8], "Second", [], runtime)

    assert functions.list(search=function_id)["total"] == 1
    assert functions.list(search="tour")["functions"][0]["$id"] == function_id
    assert [f["$id"] for f in functions.list(cursor=function_id, limit=1)["functions"]] == [other["$id"]]
    before = functions.list(cursor=other["$id"], cursor_direction="before", limit=1)["functions"]
    assert [f["$id"] for f in before] == [function_id], before
    refused(400, "general_cursor_not_found", functions.list, cursor="unknown")
    assert functions.get(function_id)["name"] == "SDK tour"
    refused(404, "function_not_found", functions.get, "unknown")
    updated = functions.update(function_id, "Renamed", ["role:all"], vars={"GREETING": "Hi"}, timeout=12)
    assert (updated["name"], updated["events"], updated["schedule"]) == ("Renamed", [], ""), updated
    runtimes = functions.list_runtimes()
    assert runtimes["total"] == len(runtimes["runtimes"]) > 0, runtimes
    wanted = {"$id", "name", "version", "base", "image", "logo", "supports"}
    assert all(wanted <= set(item) for item in runtimes["runtimes"]), runtimes

    refused(404, "deployment_not_found", functions.create_execution, function_id, "x", False)
    first = functions.create_deployment(function_id, "main.py", archive, True)
    assert first["entrypoint"] == "main.py", first
    assert all(isinstance(first[name], int) for name in dates if name in first), first
    ready = eventually(
        lambda: functions.list_deployments(function_id)["deployments"][0], lambda d: d["status"] in ("ready", "failed")
    )
    assert ready["status"] == "ready", ready
    eventually(lambda: functions.get(function_id), lambda f: f["deployment"] == first["$id"])
    second = functions.create_deployment(function_id, "main.py", archive, False)
    eventually(lambda: functions.get_deployment(function_id, second["$id"]), lambda d: d["status"] == "ready")
    refused(404, "deployment_not_found", functions.get_deployment, function_id, "unknown")
    assert functions.update_deployment(function_id, second["$id"])["deployment"] == second["$id"]
    listed = functions.list_deployments(function_id)
    assert [d["$id"] for d in listed["deployments"]] == [first["$id"], second["$id"]], listed
    refused(
        400, "build_in_progress", functions.retry_build, function_id, second["$id"], listed["deployments"][1]["buildId"]
    )

    done = functions.create_execution(function_id, "Ada êä", False)
    assert (done["status"], done["statusCode"], done["stderr"]) == ("completed", 200, ""), done
    assert "Hi, Ada êä" in done["response"].encode().decode("unicode_escape") or "Hi, Ada êä" in done["response"], done
    assert function_id in done["response"] and second["$id"] in done["response"], done
    waiting = functions.create_execution(function_id, "Bob")
    assert (waiting["status"], waiting["statusCode"], waiting["response"], waiting["time"]) == ("waiting", 0, "", 0), (
        waiting
    )
    later = eventually(
        lambda: functions.get_execution(function_id, waiting["$id"]), lambda e: e["status"] in ("completed", "failed")
    )
    assert later["status"] == "completed", later
    assert all(isinstance(later[name], int) for name in dates[:1]), later
    executions = functions.list_executions(function_id)
    assert [e["$id"] for e in executions["executions"]] == [waiting["$id"], done["$id"]], executions
    assert functions.list_executions(function_id, search=done["$id"])["total"] == 1
    refused(404, "execution_not_found", functions.get_execution, function_id, "unknown")

    functions.delete_deployment(function_id, first["$id"])
    refused(404, "deployment_not_found", functions.get_deployment, function_id, first["$id"])
    for name in (function_id, other["$id"]):
        functions.delete(name)
        refused(404, "function_not_found", functions.get, name)


def large(functions: Functions, runtime: str, archive: object) -> None:
    """Upload an archive of more than two chunks, looking on."""
    functions.create("large", "Large", [], runtime)
    seen = []
    sent = functions.create_deployment("large", "main.py", archive, True, on_progress=seen.append)
    assert [(one["chunksUploaded"], one["chunksTotal"]) for one in seen] == [(1, 3), (2, 3), (3, 3)], seen
    assert {one["$id"] for one in seen} == {sent["$id"]}, seen
    assert sent["size"] > 12 * 1024 * 1024, sent
    ready = eventually(
        lambda: functions.list_deployments("large")["deployments"], lambda d: d[0]["status"] in ("ready", "failed")
    )
    assert [(one["$id"], one["status"]) for one in ready] == [(sent["$id"], "ready")], ready
    assert functions.create_execution("large", "x", False)["status"] == "completed"
    functions.delete("large")


def _input_file(path: str) -> object:
    """Return a file as the SDKs from 0.10 on take it; those before take its path."""
    from appwrite.input_file import InputFile

    return InputFile.from_path(path)


def main() -> None:
    endpoint, project, key, runtime, archive, large_archive = sys.argv[1:]
    client = Client().set_endpoint(endpoint).set_project(project).set_key(key)
    old = client._global_headers["X-Appwrite-Response-Format"] == "0.14.0"
    tour(
        Functions(client),
        runtime,
        archive if old else _input_file(archive),
        ("dateCreated", "dateUpdated") if old else ("$createdAt", "$updatedAt"),
    )
    large(Functions(client), runtime, large_archive if old else _input_file(large_archive))
    wrong = Client().set_endpoint(endpoint).set_project(project).set_key("wrong")
    refused(401, "general_unauthorized_scope", Functions(wrong).list)
    lost = Client().set_endpoint(endpoint).set_project("unknown").set_key(key)
    refused(404, "project_not_found", Functions(lost).list)
    print("the tour is complete")


if __name__ == "__main__":
    main()
