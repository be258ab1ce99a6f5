"""What every store does, asked through its protocol."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from nbfunctions.errors import (
    ApiError,
    BuildInProgress,
    BuildNotFound,
    BuildNotReady,
    DeploymentNotFound,
    ExecutionAlreadyExists,
    ExecutionEnded,
    ExecutionInProgress,
    ExecutionNotFound,
    FunctionAlreadyExists,
    FunctionNotFound,
    GeneralCursorNotFound,
    ProjectAlreadyExists,
    ProjectNotFound,
)
from nbfunctions.executor.executor import Outcome
from nbfunctions.models import OUTPUT_LIMIT, Deployment, Execution, Function, Key, Project
from nbfunctions.server.store.protocol import DueSchedule, ExecutionChange, Idempotency, Page, Store, UsageCount
from tests.server.store.conftest import (
    NOW,
    PROJECT,
    OpenStore,
    accepted,
    claim_build,
    execution,
    make_deployment,
    make_function,
    make_ready,
)

replace = msgspec.structs.replace

DONE: Final = Outcome(
    status="completed",
    status_code=201,
    response='{"ok":true}\n',
    response_type="json",
    stdout="printed",
    stderr="warned",
    time=0.0123,
    queued=0.5,
    cold=True,
)


def ids(items: tuple[Any, ...]) -> str:
    return "".join(item.id for item in items)


async def accept(store: Store, made: Execution, project_id: str = PROJECT, **given: Any) -> Execution:
    return await store.create_execution(accepted(made, project_id, **given))


async def start(store: Store, made: Execution, owner: str = "owner", lease_until: float = NOW + 30) -> Execution:
    return await store.create_execution(accepted(made, synchronous=True), owner=owner, lease_until=lease_until)


# -- projects and keys ----------------------------------------------------------------------------------


async def test_a_project_is_found_again_and_its_id_is_taken(store: Store) -> None:
    made = Project(id="other", name="Other", created_at=7)
    assert await store.create_project(made) == made
    assert await store.get_project("other") == made
    assert [project.id for project in await store.list_projects()] == [PROJECT, "other"]
    with pytest.raises(ProjectAlreadyExists):
        await store.create_project(Project(id="other", name="Again"))
    assert (await store.get_project("other")).name == "Other"
    with pytest.raises(ProjectNotFound):
        await store.get_project("OTHER")


async def test_each_project_has_its_own_secret_for_tokens(store: Store, open_store: OpenStore) -> None:
    await store.create_project(Project(id="other"))
    secrets = [await store.get_token_secret(project_id) for project_id in (PROJECT, "other")]
    assert len(set(secrets)) == 2
    assert min(map(len, secrets)) >= 32
    again = await open_store()
    assert [await again.get_token_secret(project_id) for project_id in (PROJECT, "other")] == secrets
    with pytest.raises(ProjectNotFound):
        await store.get_token_secret("nowhere")


async def test_a_key_is_found_by_its_secret_in_its_project_until_it_is_revoked(store: Store) -> None:
    await store.create_project(Project(id="other"))
    made = Key(id="k", project_id=PROJECT, name="CI", scopes=("functions.read", "health.read"), expires_at=5)
    assert await store.create_key(made, "hash") == made
    assert await store.find_key(PROJECT, "hash") == made
    assert await store.find_key(PROJECT, "hash2") is None
    assert await store.find_key("other", "hash") is None
    assert await store.revoke_key("other", "k") is False
    assert await store.revoke_key(PROJECT, "k") is True
    assert await store.revoke_key(PROJECT, "k") is False
    assert await store.find_key(PROJECT, "hash") is None


async def test_keys_are_listed_oldest_first_and_need_a_project(store: Store) -> None:
    for name in "zyx":
        await store.create_key(Key(id=name, project_id=PROJECT), f"hash {name}")
    assert ids(tuple(await store.list_keys(PROJECT))) == "zyx"
    with pytest.raises(ProjectNotFound):
        await store.list_keys("nowhere")
    with pytest.raises(ProjectNotFound):
        await store.create_key(Key(id="k", project_id="nowhere"), "hash")


# -- functions ------------------------------------------------------------------------------------------

EVERYTHING: Final = Function(
    id="all",
    created_at=1,
    updated_at=2,
    execute=("role:all", 'user:"quoted"'),
    name="Ünïcode 🚀",
    runtime="python-3.11",
    vars={"TEXT": "ä\x00\n", "NUMBER": 3, "HALF": 0.5, "LIST": [1, None, {"deep": True}]},
    events=("users.*.create",),
    schedule="*/5 * * * *",
    timeout=900,
    memory=1024,
    concurrency=3,
)


async def test_a_function_comes_back_as_it_was_given(store: Store) -> None:
    assert await store.create_function(PROJECT, EVERYTHING) == EVERYTHING
    assert await store.get_function(PROJECT, "all") == EVERYTHING
    await store.create_function(PROJECT, Function(id="bare"))
    assert await store.get_function(PROJECT, "bare") == Function(id="bare")


async def test_a_function_id_is_taken_once_in_a_project(store: Store) -> None:
    await make_function(store)
    with pytest.raises(FunctionAlreadyExists):
        await make_function(store, name="Again")
    assert (await store.get_function(PROJECT, "hello")).name == "Hello"
    with pytest.raises(ProjectNotFound):
        await make_function(store, project_id="nowhere")
    with pytest.raises(FunctionNotFound):
        await store.get_function(PROJECT, "HELLO")


async def test_update_replaces_the_settings_and_nothing_else(store: Store) -> None:
    before = await make_ready(store, execute=("role:all",), vars={"A": "1"}, memory=64)
    update = replace(EVERYTHING, id="hello", runtime="node-18.0", deployment="x", schedule="", schedule_previous=9)
    updated = await store.update_function(PROJECT, update, NOW + 5)
    assert updated == replace(
        EVERYTHING,
        id="hello",
        created_at=before.created_at,
        updated_at=int(NOW + 5),
        runtime="python-3.11",
        deployment="first",
        schedule="",
    )
    assert await store.get_function(PROJECT, "hello") == updated
    with pytest.raises(FunctionNotFound):
        await store.update_function(PROJECT, replace(update, id="nowhere"), NOW)


async def test_update_makes_the_new_name_searchable(store: Store) -> None:
    function = await make_function(store, name="Old")
    await store.update_function(PROJECT, replace(function, name="New"), NOW)
    for search, found in {"old": "", "new": "hello", "python": "hello"}.items():
        assert ids((await store.list_functions(PROJECT, Page(search=search))).functions) == found


@pytest.mark.parametrize(
    ("schedule", "active", "expected"),
    [
        ("*/5 * * * *", True, datetime(2023, 11, 14, 22, 15, tzinfo=UTC).timestamp()),
        ("*/5 * * * *", False, 0),
        ("", True, 0),
        ("0", True, 0),
    ],
)
async def test_update_sets_the_next_time_when_schedule_and_active_deployment_are_there(
    store: Store, schedule: str, active: bool, expected: float
) -> None:
    await (make_ready(store) if active else make_function(store))
    updated = await store.update_function(PROJECT, Function(id="hello", schedule=schedule), NOW)
    assert updated.schedule_next == expected
    assert await store.next_schedule() == expected


async def test_what_is_active_comes_with_its_build_but_not_its_log(store: Store) -> None:
    function = await make_function(store)
    active = await store.get_active(PROJECT, "hello")
    assert (active.function, active.deployment, active.build_status, active.output) == (function, None, None, "")
    await make_deployment(store, activate=True)
    assert (await store.get_active(PROJECT, "hello")).deployment is None
    claim = await claim_build(store)
    await store.append_build_log(claim.build_id, "owner", "long log", "")
    await store.finish_build(claim.build_id, "owner", "ready", stderr="", output="/built", now=NOW + 2.5)
    active = await store.get_active(PROJECT, "hello")
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert active.function == await store.get_function(PROJECT, "hello")
    assert active.deployment == replace(shown, build_stdout="")
    assert (active.build_status, active.output) == ("ready", "/built")
    with pytest.raises(FunctionNotFound):
        await store.get_active(PROJECT, "nowhere")


async def test_activation_checks_function_deployment_build_and_its_end_in_this_order(store: Store) -> None:
    async def refused(function_id: str, deployment_id: str) -> type[ApiError]:
        with pytest.raises(ApiError) as error:
            await store.activate_deployment(PROJECT, function_id, deployment_id, NOW)
        return error.type

    assert await refused("hello", "first") is FunctionNotFound
    await make_function(store)
    await make_function(store, "other")
    assert await refused("hello", "first") is DeploymentNotFound
    await make_deployment(store)
    assert await refused("other", "first") is DeploymentNotFound
    assert await refused("hello", "first") is BuildNotFound
    claim = await claim_build(store)
    assert await refused("hello", "first") is BuildNotReady
    await store.finish_build(claim.build_id, "owner", "failed", stderr="", output="", now=NOW)
    assert await refused("hello", "first") is BuildNotReady
    assert (await store.get_function(PROJECT, "hello")).deployment == ""


async def test_activation_switches_at_once_and_counts_the_schedule_anew(store: Store) -> None:
    await make_ready(store, schedule="0 * * * *")
    await make_deployment(store, "second")
    claim = await claim_build(store)
    await store.finish_build(claim.build_id, "owner", "ready", stderr="", output="/other", now=NOW)
    assert (await store.get_active(PROJECT, "hello")).output == "/built"
    later = NOW + 7200
    function = await store.activate_deployment(PROJECT, "hello", "second", later)
    assert function == await store.get_function(PROJECT, "hello")
    assert (function.deployment, function.updated_at) == ("second", int(later))
    assert function.schedule_next == datetime(2023, 11, 15, 1, tzinfo=UTC).timestamp()
    assert (await store.get_active(PROJECT, "hello")).output == "/other"


async def test_a_deleted_function_takes_everything_along(store: Store) -> None:
    await make_ready(store)
    await make_deployment(store, "waits", digest="another")
    running = await start(store, execution())
    waiting = await accept(store, execution())
    assert sorted(await store.delete_function(PROJECT, "hello", NOW)) == ["another", "digest"]
    with pytest.raises(FunctionNotFound):
        await store.get_function(PROJECT, "hello")
    with pytest.raises(FunctionNotFound):
        await store.delete_function(PROJECT, "hello", NOW)
    with pytest.raises(FunctionNotFound):
        await accept(store, execution())
    assert await store.claim_build("owner", NOW + 30, NOW) is None
    assert await store.claim_executions("owner", 9, 999, NOW + 30, NOW) == []
    assert await store.finish_execution(running.id, "owner", DONE, NOW) is None
    await make_function(store)
    for deployment_id in ("first", "waits"):
        with pytest.raises(DeploymentNotFound):
            await store.get_deployment(PROJECT, "hello", deployment_id)
    for made in (running, waiting):
        with pytest.raises(ExecutionNotFound):
            await store.get_execution(PROJECT, "hello", made.id)
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 0
    assert (await store.list_deployments(PROJECT, "hello", Page())).total == 0


async def test_a_function_with_many_executions_is_gone_at_once(store: Store) -> None:
    await make_ready(store)
    await make_ready(store, "neighbour", "its")
    await asyncio.gather(*(start(store, execution()) for _ in range(1200)))
    await accept(store, execution())
    running = await start(store, execution())
    neighbour = await accept(store, execution("neighbour", "its"))
    await store.delete_function(PROJECT, "hello", NOW)
    finishing = store.finish_execution(running.id, "owner", DONE, NOW)
    claims, finished = await asyncio.gather(store.claim_executions("other", 1, 999, NOW + 30, NOW), finishing)
    assert [claim.accepted.execution.id for claim in claims] == [neighbour.id]
    assert finished is None
    await make_function(store)
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 0
    assert await store.finish_execution(neighbour.id, "other", DONE, NOW) is not None


async def test_digests_are_given_back_when_the_last_deployment_of_any_project_is_gone(store: Store) -> None:
    await store.create_project(Project(id="other"))
    await make_function(store)
    await make_function(store, project_id="other")
    await make_deployment(store, "a", digest="shared")
    await make_deployment(store, "b", digest="shared")
    await make_deployment(store, "c", digest="own")
    await make_deployment(store, "upload", digest="")
    await make_deployment(store, "a", project_id="other", digest="shared")
    assert await store.delete_deployment(PROJECT, "hello", "a", NOW) == []
    assert await store.delete_deployment(PROJECT, "hello", "upload", NOW) == []
    assert await store.delete_function(PROJECT, "hello", NOW) == ["own"]
    assert await store.delete_deployment("other", "hello", "a", NOW) == ["shared"]


# -- deployments and builds -----------------------------------------------------------------------------


async def test_a_deployment_waits_for_its_build_and_comes_back_as_it_was_given(store: Store) -> None:
    await make_function(store)
    made = await make_deployment(store, activate=True)
    assert made == Deployment(
        id="first",
        created_at=int(NOW),
        updated_at=int(NOW),
        function_id="hello",
        entrypoint="main.py",
        size=412,
        activate=True,
        digest="digest",
        status="processing",
    )
    assert await store.get_deployment(PROJECT, "hello", "first") == made
    with pytest.raises(FunctionNotFound):
        await make_deployment(store, function_id="nowhere")


async def test_a_deployment_is_found_only_under_its_own_function(store: Store) -> None:
    await make_function(store)
    await make_function(store, "other")
    await make_deployment(store)
    for function_id in ("other", "nowhere"):
        with pytest.raises(DeploymentNotFound):
            await store.get_deployment(PROJECT, function_id, "first")
        with pytest.raises(DeploymentNotFound):
            await store.delete_deployment(PROJECT, function_id, "first", NOW)


async def test_two_first_chunks_of_one_upload_make_one_deployment(store: Store) -> None:
    await make_function(store)
    made = await make_deployment(store, digest="")
    assert await make_deployment(store, digest="", created_at=int(NOW) + 9) == made
    assert (await store.list_deployments(PROJECT, "hello", Page())).total == 1


async def test_activate_clears_the_flag_of_the_others_once_the_upload_is_complete(store: Store) -> None:
    async def flags() -> dict[str, bool]:
        listed = await store.list_deployments(PROJECT, "hello", Page())
        return {one.id: one.activate for one in listed.deployments}

    await make_function(store)
    await make_function(store, "other")
    await make_deployment(store, "other", "other", activate=True)
    await make_deployment(store, "a", activate=True)
    await make_deployment(store, "b", activate=False)
    assert await flags() == {"a": True, "b": False}
    await make_deployment(store, "c", digest="", activate=True)
    assert await flags() == {"a": True, "b": False, "c": True}
    await store.complete_deployment(PROJECT, "hello", "c", digest="d", size=1, now=NOW)
    assert await flags() == {"a": False, "b": False, "c": True}
    await make_deployment(store, "d", activate=True)
    assert await flags() == {"a": False, "b": False, "c": False, "d": True}
    assert (await store.get_deployment(PROJECT, "other", "other")).activate


async def test_an_upload_is_built_once_it_is_complete_and_completes_once(store: Store) -> None:
    await make_function(store)
    with pytest.raises(FunctionNotFound):
        await store.complete_deployment(PROJECT, "nowhere", "first", digest="d", size=1, now=NOW)
    with pytest.raises(DeploymentNotFound):
        await store.complete_deployment(PROJECT, "hello", "first", digest="d", size=1, now=NOW)
    await make_deployment(store, digest="")
    assert await store.claim_build("owner", NOW + 30, NOW) is None
    complete = await store.complete_deployment(PROJECT, "hello", "first", digest="d", size=7, now=NOW + 1)
    assert (complete.digest, complete.size, complete.updated_at) == ("d", 7, int(NOW + 1))
    claimed = await claim_build(store)
    assert await store.complete_deployment(PROJECT, "hello", "first", digest="e", size=8, now=NOW + 2) == replace(
        claimed.deployment, updated_at=int(NOW)
    )
    assert await store.claim_build("owner", NOW + 30, NOW) is None


async def begin(store: Store, deployment_id: str, function_id: str = "hello", project_id: str = PROJECT) -> Deployment:
    """Begin an upload of three chunks."""
    deployment = Deployment(
        id=deployment_id,
        created_at=int(NOW),
        updated_at=int(NOW),
        function_id=function_id,
        entrypoint="main.py",
        size=300,
        activate=True,
        chunks_total=3,
        chunks_uploaded=0,
    )
    return await store.begin_upload(project_id, deployment)


async def test_an_upload_says_how_many_of_its_chunks_have_come(store: Store) -> None:
    await make_function(store)
    begun = await begin(store, "first")
    assert (begun.status, begun.digest, begun.chunks_total, begun.chunks_uploaded) == ("processing", "", 3, 0)
    noted = await store.note_chunks(PROJECT, "hello", "first", uploaded=2, total=4, now=NOW + 1)
    assert noted == replace(begun, chunks_uploaded=2, chunks_total=4, updated_at=int(NOW + 1))
    assert await begin(store, "first") == noted  # it goes on
    assert await store.get_deployment(PROJECT, "hello", "first") == noted
    assert (await store.list_deployments(PROJECT, "hello", Page())).deployments == (noted,)
    complete = await store.complete_deployment(PROJECT, "hello", "first", digest="d", size=300, now=NOW + 2)
    assert (complete.chunks_uploaded, complete.chunks_total) == (4, 4)
    assert await begin(store, "first") == complete
    with pytest.raises(DeploymentNotFound):
        await store.note_chunks(PROJECT, "hello", "nothing", uploaded=1, total=1, now=NOW)


async def test_an_upload_has_an_id_that_no_other_function_of_its_project_has(store: Store) -> None:
    await store.create_project(Project(id="other"))
    await make_function(store)
    await make_function(store, "second")
    await make_function(store, project_id="other")
    await begin(store, "begun")
    await make_deployment(store, "complete")
    for deployment_id in ("begun", "complete"):
        with pytest.raises(DeploymentNotFound):
            await begin(store, deployment_id, "second")
        assert (await begin(store, deployment_id, project_id="other")).chunks_uploaded == 0
    assert (await store.list_deployments(PROJECT, "second", Page())).total == 0
    with pytest.raises(FunctionNotFound):
        await begin(store, "more", "nowhere")


async def test_first_chunks_that_come_at_once_begin_one_upload(store: Store) -> None:
    await make_function(store)
    begun = await asyncio.gather(*(begin(store, "first") for _ in range(10)))
    assert begun == [await store.get_deployment(PROJECT, "hello", "first")] * 10
    assert (await store.list_deployments(PROJECT, "hello", Page())).total == 1


async def test_uploads_that_were_given_up_are_deleted(store: Store) -> None:
    await make_function(store)
    await make_deployment(store, "old", digest="", created_at=int(NOW) - 10)
    await make_deployment(store, "young", digest="")
    await make_deployment(store, "complete", created_at=int(NOW) - 10)
    assert await store.expire_uploads(NOW - 5) == [(PROJECT, "hello", "old")]
    assert await store.expire_uploads(NOW - 5) == []
    left = (await store.list_deployments(PROJECT, "hello", Page())).deployments
    assert [one.id for one in left] == ["young", "complete"]


async def test_a_deleted_deployment_is_active_no_longer_and_its_executions_stay(store: Store) -> None:
    await make_ready(store)
    made = await accept(store, execution())
    assert await store.delete_deployment(PROJECT, "hello", "first", NOW) == ["digest"]
    assert (await store.get_function(PROJECT, "hello")).deployment == ""
    active = await store.get_active(PROJECT, "hello")
    assert (active.deployment, active.build_status, active.output) == (None, None, "")
    assert await store.get_execution(PROJECT, "hello", made.id) == made
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert (claim.deployment, claim.output) == (None, "")
    with pytest.raises(DeploymentNotFound):
        await store.delete_deployment(PROJECT, "hello", "first", NOW)


async def test_deleting_another_deployment_leaves_the_active_one(store: Store) -> None:
    await make_ready(store)
    await make_deployment(store, "second")
    await store.delete_deployment(PROJECT, "hello", "second", NOW)
    assert (await store.get_function(PROJECT, "hello")).deployment == "first"
    assert await store.claim_build("owner", NOW + 30, NOW) is None


async def test_builds_are_claimed_oldest_first_and_once(store: Store) -> None:
    function = await make_function(store)
    for name in "zyx":
        await make_deployment(store, name)
    first = await claim_build(store, now=NOW + 1)
    assert (first.project_id, first.function, first.deployment.id) == (PROJECT, function, "z")
    assert first.deployment == await store.get_deployment(PROJECT, "hello", "z")
    assert (first.deployment.status, first.deployment.build_id) == ("building", first.build_id)
    assert first.deployment.updated_at == int(NOW + 1)
    assert first.build_id
    assert [(await claim_build(store)).deployment.id for _ in range(2)] == ["y", "x"]
    assert await store.claim_build("owner", NOW + 30, NOW) is None


async def test_a_build_is_shown_wherever_its_deployment_is(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store)
    assert await store.append_build_log(claim.build_id, "owner", "one ", "warned ")
    assert await store.append_build_log(claim.build_id, "owner", "two", "")
    assert await store.finish_build(claim.build_id, "owner", "ready", stderr="again", output="", now=NOW + 2.5)
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert (shown.status, shown.build_id, shown.build_time) == ("ready", claim.build_id, 2.5)
    assert (shown.build_stdout, shown.build_stderr) == ("one two", "warned again")
    assert shown.updated_at == int(NOW + 2.5)
    assert (await store.list_deployments(PROJECT, "hello", Page())).deployments == (shown,)
    await store.activate_deployment(PROJECT, "hello", "first", NOW)
    active = (await store.get_active(PROJECT, "hello")).deployment
    assert active == replace(shown, build_stdout="", build_stderr="")


@pytest.mark.parametrize(("status", "expected"), [("ready", "Build Successful!"), ("failed", "")])
async def test_a_build_that_said_nothing_says_that_it_was_successful(store: Store, status: Any, expected: str) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store)
    await store.finish_build(claim.build_id, "owner", status, stderr="", output="", now=NOW)
    assert (await store.get_deployment(PROJECT, "hello", "first")).build_stdout == expected


async def test_a_build_log_is_cut_between_two_characters(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store)
    await store.append_build_log(claim.build_id, "owner", "é" * (OUTPUT_LIMIT // 2 - 1), "x" * (OUTPUT_LIMIT - 1))
    await store.append_build_log(claim.build_id, "owner", "x🚀", "é")
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert shown.build_stdout == "é" * (OUTPUT_LIMIT // 2 - 1) + "x"
    assert shown.build_stderr == "x" * (OUTPUT_LIMIT - 1)
    await store.finish_build(claim.build_id, "owner", "failed", stderr="zz", output="", now=NOW)
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert len(shown.build_stderr.encode()) == OUTPUT_LIMIT


async def test_only_the_owner_of_a_running_build_may_change_it(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    build_id = (await claim_build(store)).build_id
    for wrong_build, wrong_owner in ((build_id, "other"), ("nowhere", "owner"), (build_id, "")):
        assert not await store.append_build_log(wrong_build, wrong_owner, "x", "")
        assert not await store.finish_build(wrong_build, wrong_owner, "ready", stderr="x", output="", now=NOW)
    assert (await store.get_deployment(PROJECT, "hello", "first")).status == "building"
    assert await store.finish_build(build_id, "owner", "failed", stderr="broken", output="", now=NOW)
    assert not await store.append_build_log(build_id, "owner", "x", "")
    assert not await store.finish_build(build_id, "owner", "ready", stderr="x", output="", now=NOW)
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert (shown.status, shown.build_stdout, shown.build_stderr) == ("failed", "", "broken")


async def test_a_ready_build_becomes_active_if_its_deployment_says_so(store: Store) -> None:
    function = await make_ready(store, schedule="*/5 * * * *")
    assert function.deployment == "first"
    assert function.schedule_next == datetime(2023, 11, 14, 22, 15, tzinfo=UTC).timestamp()
    outcomes: list[tuple[str, bool, Any]] = [("a", False, "ready"), ("b", True, "failed"), ("c", True, "ready")]
    for name, activate, status in outcomes:
        await make_deployment(store, name, activate=activate)
        claim = await claim_build(store)
        await store.finish_build(claim.build_id, "owner", status, stderr="", output="", now=NOW + 3600)
        expected = "c" if name == "c" else "first"
        assert (await store.get_function(PROJECT, "hello")).deployment == expected
    function = await store.get_function(PROJECT, "hello")
    assert function.updated_at == int(NOW + 3600)
    assert function.schedule_next == datetime(2023, 11, 14, 23, 15, tzinfo=UTC).timestamp()


async def test_an_older_build_that_ends_last_does_not_become_active(store: Store) -> None:
    await make_function(store)
    await make_deployment(store, "older", activate=True)
    older = await claim_build(store)
    await make_deployment(store, "newer", activate=True)
    newer = await claim_build(store)
    for claim in (newer, older):
        assert await store.finish_build(claim.build_id, "owner", "ready", stderr="", output="", now=NOW)
    assert (await store.get_function(PROJECT, "hello")).deployment == "newer"


async def test_retry_checks_in_the_order_of_the_contract(store: Store) -> None:
    async def refused(function_id: str, deployment_id: str, build_id: str) -> type[ApiError]:
        with pytest.raises(ApiError) as error:
            await store.retry_build(PROJECT, function_id, deployment_id, build_id, NOW)
        return error.type

    assert await refused("hello", "first", "b") is FunctionNotFound
    await make_function(store)
    assert await refused("hello", "first", "b") is DeploymentNotFound
    await make_deployment(store)
    assert await refused("hello", "first", "b") is BuildNotFound
    claim = await claim_build(store)
    await make_deployment(store, "second")
    assert await refused("hello", "first", "b") is BuildNotFound
    assert await refused("hello", "second", claim.build_id) is BuildNotFound
    assert await refused("hello", "first", claim.build_id) is BuildInProgress
    await store.finish_build(claim.build_id, "owner", "ready", stderr="", output="", now=NOW)
    assert await refused("hello", "first", claim.build_id) is BuildInProgress


async def test_a_failed_build_is_retried_under_its_id_with_an_empty_log(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store)
    await store.append_build_log(claim.build_id, "owner", "said", "")
    await store.finish_build(claim.build_id, "owner", "failed", stderr="broken", output="x", now=NOW + 1)
    await store.retry_build(PROJECT, "hello", "first", claim.build_id, NOW + 9)
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert (shown.status, shown.build_id, shown.build_time) == ("processing", claim.build_id, 0)
    assert (shown.build_stdout, shown.build_stderr, shown.updated_at) == ("", "", int(NOW + 9))
    again = await claim_build(store, "other", now=NOW + 10)
    assert (again.build_id, again.deployment.status) == (claim.build_id, "building")
    assert await store.finish_build(claim.build_id, "other", "ready", stderr="", output="", now=NOW + 12)
    assert (await store.get_deployment(PROJECT, "hello", "first")).build_time == 2


# -- executions -----------------------------------------------------------------------------------------


async def test_an_accepted_execution_waits(store: Store) -> None:
    await make_ready(store)
    given = execution(read=("user:u1",), trigger="event")
    made = await accept(store, given)
    assert made == given
    assert made.status == "waiting"
    assert await store.get_execution(PROJECT, "hello", made.id) == made


async def test_a_synchronous_execution_is_claimed_as_it_is_accepted(store: Store) -> None:
    await make_ready(store)
    given = execution(read=("user:u1",))
    made = await start(store, given)
    assert made == replace(given, status="processing")
    assert await store.get_execution(PROJECT, "hello", made.id) == made
    assert await store.claim_executions("other", 9, 999, NOW + 60, NOW) == []


@pytest.mark.parametrize("owner", [None, "owner"])
async def test_an_execution_of_no_function_is_not_accepted(store: Store, owner: str | None) -> None:
    with pytest.raises(FunctionNotFound):
        await store.create_execution(accepted(execution("nowhere")), owner=owner)
    await make_function(store, "nowhere")
    assert (await store.list_executions(PROJECT, "nowhere", Page())).total == 0


async def test_an_execution_is_found_only_under_its_own_function(store: Store) -> None:
    await make_ready(store)
    await make_function(store, "other")
    made = await accept(store, execution())
    for function_id, execution_id in (("other", made.id), ("nowhere", made.id), ("hello", "nowhere")):
        with pytest.raises(ExecutionNotFound):
            await store.get_execution(PROJECT, function_id, execution_id)


async def test_an_execution_has_one_result(store: Store) -> None:
    await make_ready(store)
    made = await start(store, execution(read=("user:u1",)))
    finished = await store.finish_execution(made.id, "owner", DONE, NOW + 4)
    assert finished == replace(
        made,
        updated_at=int(NOW + 4),
        status="completed",
        status_code=201,
        response='{"ok":true}\n',
        response_type="json",
        stdout="printed",
        stderr="warned",
        time=0.0123,
        queued=0.5,
        cold=True,
    )
    assert await store.get_execution(PROJECT, "hello", made.id) == finished
    failed = Outcome(status="failed", status_code=500, layer="limit")
    assert await store.finish_execution(made.id, "owner", failed, NOW + 5) is None
    assert await store.get_execution(PROJECT, "hello", made.id) == finished


async def test_a_short_execution_is_accepted_and_finished_at_once(store: Store) -> None:
    await make_ready(store)
    given = execution(read=("user:u1",))
    asked = accepted(given, created=NOW - 10, data="input", user_id="u1", synchronous=True)
    recorded = await store.record_execution(asked, DONE, ended=NOW + 0.5)
    assert recorded == replace(
        given,
        updated_at=int(NOW + 0.5),
        status="completed",
        status_code=201,
        response='{"ok":true}\n',
        response_type="json",
        stdout="printed",
        stderr="warned",
        time=0.0123,
        queued=0.5,
        cold=True,
    )
    assert await store.get_execution(PROJECT, "hello", given.id) == recorded
    assert (await store.list_executions(PROJECT, "hello", Page(), "user:u1")).executions == (recorded,)
    assert await store.claim_executions("owner", 9, 999, NOW + 30, NOW) == []
    assert await store.expire_leases(math.inf) == 0
    assert await store.finish_execution(given.id, "", DONE, NOW) is None
    assert await store.delete_executions(NOW - 5) == 1


async def test_a_short_execution_of_a_function_that_was_deleted_is_not_recorded(store: Store) -> None:
    with pytest.raises(FunctionNotFound):
        await store.record_execution(accepted(execution()), DONE, ended=NOW)
    await make_function(store)
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 0


async def test_a_long_answer_is_kept_whole(store: Store) -> None:
    await make_ready(store)
    outcome = replace(DONE, response="é" * (OUTPUT_LIMIT // 2), stdout="x" * OUTPUT_LIMIT)
    recorded = await store.record_execution(accepted(execution()), outcome, ended=NOW)
    made = await start(store, execution())
    finished = await store.finish_execution(made.id, "owner", outcome, NOW)
    assert finished is not None
    for one in (recorded, finished):
        assert (one.response, one.stdout) == (outcome.response, outcome.stdout)
        assert await store.get_execution(PROJECT, "hello", one.id) == one


async def test_only_the_owner_may_finish_an_execution(store: Store) -> None:
    await make_ready(store)
    running, waiting = await start(store, execution()), await accept(store, execution())
    for execution_id, owner in ((running.id, "other"), (waiting.id, "owner"), (waiting.id, ""), ("nowhere", "owner")):
        assert await store.finish_execution(execution_id, owner, DONE, NOW) is None
    for made in (running, waiting):
        assert await store.get_execution(PROJECT, "hello", made.id) == made


async def test_a_claim_has_all_that_it_takes_to_run(store: Store) -> None:
    function = await make_ready(store, vars={"A": "b"})
    given = execution(read=("user:u1",), trigger="event")
    await accept(
        store, given, data="input", user_id="u1", event="users.u1.create", event_data='{"a":1}', created=NOW + 0.125
    )
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW + 3)
    assert claim.accepted.execution == replace(given, status="processing", updated_at=int(NOW + 3))
    assert claim.accepted.execution == await store.get_execution(PROJECT, "hello", given.id)
    assert (claim.accepted.project_id, claim.accepted.data, claim.accepted.user_id) == (PROJECT, "input", "u1")
    assert (claim.accepted.event, claim.accepted.event_data, claim.accepted.created) == (
        "users.u1.create",
        '{"a":1}',
        NOW + 0.125,
    )
    assert claim.function == function
    assert claim.deployment == (await store.get_active(PROJECT, "hello")).deployment
    assert claim.output == "/built"
    assert await store.finish_execution(given.id, "owner", DONE, NOW + 5) is not None


async def test_a_claim_runs_the_deployment_that_was_active_when_it_was_accepted(store: Store) -> None:
    await make_ready(store)
    await accept(store, execution())
    await make_deployment(store, "second", activate=True)
    build = await claim_build(store)
    await store.finish_build(build.build_id, "owner", "ready", stderr="", output="/second", now=NOW)
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert claim.function.deployment == "second"
    assert claim.deployment is not None
    assert (claim.deployment.id, claim.output) == ("first", "/built")


async def test_claims_are_oldest_first_and_no_more_than_asked_for(store: Store) -> None:
    await make_ready(store)
    for name in "edcba":
        await accept(store, execution(id=name))
    claims = [await store.claim_executions("owner", limit, 999, NOW + 30, NOW) for limit in (2, 0, 9, 9)]
    assert ["".join(claim.accepted.execution.id for claim in taken) for taken in claims] == ["ed", "", "cba", ""]


async def test_no_more_of_a_function_are_claimed_than_may_run_at_once(store: Store) -> None:
    await make_ready(store, "one", "a", concurrency=1)
    await make_ready(store, "default", "b")
    await start(store, execution("default", "b", id="running"), "somebody")
    for name in ("one", "default"):
        for number in range(5):
            await accept(store, execution(name, {"one": "a", "default": "b"}[name], id=f"{name}{number}"))
    claims = await store.claim_executions("owner", 9, 3, NOW + 30, NOW)
    assert [claim.accepted.execution.id for claim in claims] == ["one0", "default0", "default1"]
    assert await store.claim_executions("owner", 9, 3, NOW + 30, NOW) == []
    await store.finish_execution("one0", "owner", DONE, NOW)
    (claim,) = await store.claim_executions("owner", 9, 3, NOW + 30, NOW)
    assert claim.accepted.execution.id == "one1"


async def test_an_execution_that_was_given_back_waits_again(store: Store) -> None:
    await make_ready(store)
    await accept(store, execution(id="a"))
    await store.claim_executions("owner", 9, 9, NOW + 30, NOW)
    assert not await store.release_execution("a", "other", NOW)
    assert await store.release_execution("a", "owner", NOW + 1)
    shown = await store.get_execution(PROJECT, "hello", "a")
    assert (shown.status, shown.updated_at) == ("waiting", int(NOW + 1))
    (claim,) = await store.claim_executions("other", 9, 9, NOW + 30, NOW)
    assert claim.accepted.execution.id == "a"


async def test_no_two_owners_get_the_same_execution(store: Store, open_store: OpenStore) -> None:
    await make_ready(store)
    made = await asyncio.gather(*(accept(store, execution()) for _ in range(300)))
    stores = {"a": store, "b": store, "c": await open_store()}
    taken = []
    for _ in range(10):
        claims = await asyncio.gather(
            *(at.claim_executions(owner, 10, 999, NOW + 30, NOW) for owner, at in stores.items())
        )
        assert [len(claimed) for claimed in claims] == [10, 10, 10]
        taken += [claim.accepted.execution.id for claim in itertools.chain(*claims)]
    assert sorted(taken) == sorted(one.id for one in made)
    assert await store.claim_executions("a", 10, 999, NOW + 30, NOW) == []


async def test_no_two_owners_get_the_same_build(store: Store, open_store: OpenStore) -> None:
    await make_function(store)
    for number in range(20):
        await make_deployment(store, f"d{number}")
    stores = {"a": store, "b": await open_store()}
    taken = []
    for _ in range(10):
        claims = await asyncio.gather(*(claim_build(at, owner) for owner, at in stores.items()))
        taken += [claim.deployment.id for claim in claims]
    assert sorted(taken) == sorted(f"d{number}" for number in range(20))
    assert await store.claim_build("a", NOW + 30, NOW) is None


async def test_an_execution_whose_lease_ran_out_ends_as_failed(store: Store) -> None:
    await make_ready(store)
    made = await start(store, execution(), lease_until=NOW + 30)
    waiting = await accept(store, execution())
    finished = await start(store, execution())
    finished_record = await store.finish_execution(finished.id, "owner", DONE, NOW)
    assert await store.expire_leases(NOW + 30) == 0
    assert await store.expire_leases(NOW + 31) == 1
    assert await store.expire_leases(NOW + 31) == 0
    ended = await store.get_execution(PROJECT, "hello", made.id)
    assert (ended.status, ended.status_code, ended.layer) == ("failed", 500, "platform")
    assert "stopped" in ended.stderr
    assert (ended.time, ended.updated_at) == (31, int(NOW + 31))
    assert await store.finish_execution(made.id, "owner", DONE, NOW + 32) is None
    assert await store.get_execution(PROJECT, "hello", waiting.id) == waiting
    assert await store.get_execution(PROJECT, "hello", finished.id) == finished_record


async def test_a_build_whose_lease_ran_out_is_taken_up_again(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store, lease_until=NOW + 30)
    await store.append_build_log(claim.build_id, "owner", "half", "done")
    assert await store.expire_leases(NOW + 30) == 0
    assert await store.expire_leases(NOW + 31) == 1
    shown = await store.get_deployment(PROJECT, "hello", "first")
    assert (shown.status, shown.build_id) == ("processing", claim.build_id)
    assert (shown.build_stdout, shown.build_stderr) == ("", "")
    assert not await store.append_build_log(claim.build_id, "owner", "late", "")
    assert (await claim_build(store, "other")).build_id == claim.build_id


async def test_a_build_whose_lease_ran_out_can_be_claimed_before_anybody_noticed(store: Store) -> None:
    await make_function(store)
    await make_deployment(store)
    claim = await claim_build(store, lease_until=NOW + 30)
    await store.append_build_log(claim.build_id, "owner", "half", "done")
    assert await store.claim_build("other", NOW + 60, NOW + 30) is None
    again = await claim_build(store, "other", NOW + 61, NOW + 31)
    assert again.build_id == claim.build_id
    assert (await store.get_deployment(PROJECT, "hello", "first")).build_stdout == ""
    assert not await store.finish_build(claim.build_id, "owner", "ready", stderr="", output="", now=NOW + 32)
    assert await store.finish_build(claim.build_id, "other", "ready", stderr="", output="", now=NOW + 32)


async def test_every_lease_ends_at_the_end_of_time(store: Store) -> None:
    await make_ready(store)
    await make_deployment(store, "second")
    await claim_build(store)
    made = await start(store, execution(), lease_until=NOW + 30)
    assert await store.expire_leases(math.inf) == 2
    ended = await store.get_execution(PROJECT, "hello", made.id)
    assert (ended.status, ended.time, ended.updated_at) == ("failed", 30, int(NOW + 30))
    assert (await store.get_deployment(PROJECT, "hello", "second")).status == "processing"


async def test_an_owner_that_lives_keeps_what_it_works_on(store: Store) -> None:
    await make_ready(store)
    await make_deployment(store, "second")
    await claim_build(store, "alive")
    await start(store, execution(), "alive")
    await start(store, execution(), "dead")
    await store.renew_leases("alive", NOW + 90)
    assert await store.expire_leases(NOW + 60) == 1
    assert await store.expire_leases(NOW + 91) == 2


async def test_old_executions_are_deleted_once_they_are_finished(store: Store) -> None:
    await make_ready(store)
    old, young = ([execution() for _ in range(300)] for _ in range(2))
    for made, when in ((old, NOW - 10), (young, NOW)):
        await asyncio.gather(
            *(store.create_execution(accepted(one, created=when), owner="owner", lease_until=NOW) for one in made)
        )
    await asyncio.gather(*(store.finish_execution(one.id, "owner", DONE, NOW) for one in (*old[1:], *young)))
    waiting = await accept(store, execution(), created=NOW - 10)
    assert await store.delete_executions(NOW - 5) == 299
    assert await store.delete_executions(NOW - 5) == 0
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 302
    for kept in (old[0], young[0], waiting):
        await store.get_execution(PROJECT, "hello", kept.id)


# -- idempotency ----------------------------------------------------------------------------------------

ASKED: Final = Idempotency("user:u1", "key", "digest")
DAY: Final = 86_400


async def ask(store: Store, idempotency: Idempotency = ASKED, created: float = NOW, **fields: Any) -> Execution:
    """Ask for an execution that was perhaps asked for before."""
    return await store.create_execution(accepted(execution(**fields), created=created), idempotency=idempotency)


async def test_the_same_request_makes_one_execution_and_returns_it_as_it_is_now(store: Store) -> None:
    await make_ready(store)
    first = await ask(store)
    assert await ask(store) == first
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert await ask(store) == claim.accepted.execution
    finished = await store.finish_execution(first.id, "owner", DONE, NOW)
    assert await ask(store, created=NOW + DAY) == finished
    assert (await store.list_executions(PROJECT, "hello", Page())).executions == (finished,)


async def test_a_request_with_an_owner_returns_the_first_one_to_whoever_asks_again(store: Store) -> None:
    await make_ready(store)

    async def start_once(owner: str) -> Execution:
        asked = accepted(execution(), synchronous=True)
        return await store.create_execution(asked, owner=owner, lease_until=NOW + 30, idempotency=ASKED)

    first = await start_once("owner")
    assert first.status == "processing"
    assert await start_once("other") == first
    assert await store.finish_execution(first.id, "other", DONE, NOW) is None
    finished = await store.finish_execution(first.id, "owner", DONE, NOW)
    assert await start_once("other") == finished


async def test_the_same_key_for_something_else_is_refused(store: Store) -> None:
    await make_ready(store)
    first = await ask(store)
    with pytest.raises(ExecutionAlreadyExists):
        await ask(store, replace(ASKED, digest="another"))
    assert (await store.list_executions(PROJECT, "hello", Page())).executions == (first,)


async def test_a_key_is_the_callers_and_the_functions_own(store: Store) -> None:
    await make_ready(store)
    await make_ready(store, "other", "second")
    made = [
        await ask(store),
        await ask(store, replace(ASKED, caller="user:u2")),
        await ask(store, replace(ASKED, key="KEY")),
        await ask(store, function_id="other", deployment_id="second"),
    ]
    assert len({one.id for one in made}) == 4


async def test_a_key_counts_for_a_day(store: Store) -> None:
    await make_ready(store)
    first = await ask(store)
    assert (await ask(store, created=NOW + DAY)).id == first.id
    second = await ask(store, replace(ASKED, digest="another"), created=NOW + DAY + 1)
    assert second.id != first.id
    # The second one counts from its own time on.
    assert (await ask(store, replace(ASKED, digest="another"), created=NOW + 2 * DAY)).id == second.id


async def test_keys_that_count_no_more_are_deleted_and_the_others_are_not(store: Store) -> None:
    await make_ready(store)
    first = await ask(store)
    await store.delete_idempotency_keys(NOW + DAY)
    assert (await ask(store)).id == first.id
    await store.delete_idempotency_keys(NOW + DAY + 1)
    assert (await ask(store)).id != first.id


async def test_a_key_is_free_again_when_its_execution_or_its_function_is_gone(store: Store) -> None:
    await make_ready(store)
    first = await ask(store)
    await store.cancel_execution(PROJECT, "hello", first.id, "enough", NOW)
    assert (await ask(store)).id == first.id
    await store.delete_execution(PROJECT, "hello", first.id)
    second = await ask(store, replace(ASKED, digest="another"))
    assert second.id != first.id
    await store.delete_function(PROJECT, "hello", NOW)
    with pytest.raises(FunctionNotFound):
        await ask(store)
    await make_ready(store)
    assert (await ask(store)).id not in (first.id, second.id)


async def test_a_request_that_comes_many_times_at_once_makes_one_execution(store: Store, open_store: OpenStore) -> None:
    await make_ready(store)
    stores = [store, await open_store()]
    for round_ in range(10):
        asked = replace(ASKED, key=f"key {round_}")
        made = await asyncio.gather(*(ask(one, asked) for one in stores for _ in range(5)))
        assert len({one.id for one in made}) == 1
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 10


# -- cancelling and deleting ------------------------------------------------------------------------------


async def test_an_execution_that_waits_is_cancelled_and_never_claimed(store: Store) -> None:
    await make_ready(store)
    made = await accept(store, execution(read=("user:u1",)))
    cancelled = await store.cancel_execution(PROJECT, "hello", made.id, "Cancelled by Ada.", NOW + 3.5)
    assert cancelled == replace(
        made,
        updated_at=int(NOW + 3.5),
        status="failed",
        status_code=500,
        layer="cancelled",
        stderr="Cancelled by Ada.",
        time=3.5,
    )
    assert await store.get_execution(PROJECT, "hello", made.id) == cancelled
    assert await store.claim_executions("owner", 9, 999, NOW + 30, NOW) == []
    assert await store.count_waiting() == 0


async def test_an_execution_that_runs_is_cancelled_and_no_longer_its_owners(store: Store) -> None:
    await make_ready(store)
    made = await start(store, execution())
    cancelled = await store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW)
    assert (cancelled.status, cancelled.layer, cancelled.stderr) == ("failed", "cancelled", "enough")
    assert await store.finish_execution(made.id, "owner", DONE, NOW) is None
    assert not await store.release_execution(made.id, "owner", NOW)
    assert await store.expire_leases(math.inf) == 0
    assert await store.get_execution(PROJECT, "hello", made.id) == cancelled


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_an_execution_that_has_ended_can_be_deleted_and_not_cancelled(store: Store, status: str) -> None:
    await make_ready(store)
    made = await start(store, execution())
    if status == "cancelled":
        ended = await store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW)
    else:
        outcome = replace(DONE, status=status)
        found = await store.finish_execution(made.id, "owner", outcome, NOW)
        assert found is not None
        ended = found
    with pytest.raises(ExecutionEnded):
        await store.cancel_execution(PROJECT, "hello", made.id, "again", NOW)
    assert await store.get_execution(PROJECT, "hello", made.id) == ended
    await store.delete_execution(PROJECT, "hello", made.id)
    with pytest.raises(ExecutionNotFound):
        await store.get_execution(PROJECT, "hello", made.id)
    with pytest.raises(ExecutionNotFound):
        await store.delete_execution(PROJECT, "hello", made.id)


async def test_an_execution_that_waits_or_runs_is_not_deleted(store: Store) -> None:
    await make_ready(store)
    for made in (await accept(store, execution()), await start(store, execution())):
        with pytest.raises(ExecutionInProgress):
            await store.delete_execution(PROJECT, "hello", made.id)
        assert await store.get_execution(PROJECT, "hello", made.id) == made


async def test_only_what_is_there_can_be_cancelled_or_deleted(store: Store) -> None:
    await store.create_project(Project(id="elsewhere"))
    await make_ready(store)
    await make_function(store, "other")
    await make_function(store, project_id="elsewhere")
    made = await accept(store, execution())
    places: list[tuple[str, str, str, type[ApiError]]] = [
        (PROJECT, "hello", "nothing", ExecutionNotFound),
        (PROJECT, "other", made.id, ExecutionNotFound),
        (PROJECT, "nowhere", made.id, FunctionNotFound),
        ("elsewhere", "hello", made.id, ExecutionNotFound),
    ]
    for project_id, function_id, execution_id, error in places:
        with pytest.raises(error):
            await store.cancel_execution(project_id, function_id, execution_id, "enough", NOW)
        with pytest.raises(error):
            await store.delete_execution(project_id, function_id, execution_id)
    assert await store.get_execution(PROJECT, "hello", made.id) == made


async def test_of_many_ends_at_once_one_counts(store: Store) -> None:
    await make_ready(store)
    for _ in range(20):
        made = await start(store, execution())
        finished, cancelled, again = await asyncio.gather(
            store.finish_execution(made.id, "owner", DONE, NOW),
            store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW),
            store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW),
            return_exceptions=True,
        )
        ends = [one for one in (finished, cancelled, again) if isinstance(one, Execution)]
        assert ends == [await store.get_execution(PROJECT, "hello", made.id)]


# -- what is told ---------------------------------------------------------------------------------------


class Told:
    """The changes that a store has told since they were last taken."""

    def __init__(self, store: Store) -> None:
        self._changes: list[ExecutionChange] = []
        store.listen(self._changes.append)

    def changes(self) -> list[ExecutionChange]:
        found = self._changes.copy()
        self._changes.clear()
        return found

    def take(self) -> list[tuple[str, str, str]]:
        """Return what was done, the status since then, and the contract's event for it."""
        return [(change.action, change.execution.status, change.event) for change in self.changes()]


async def test_an_asynchronous_executions_changes_are_told_in_order(store: Store) -> None:
    await make_ready(store)
    told = Told(store)
    made = await accept(store, execution())
    assert told.take() == [("create", "waiting", "create")]
    await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    await store.release_execution(made.id, "owner", NOW)
    await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert told.take() == [
        ("update", "processing", ""),
        ("update", "waiting", ""),
        ("update", "processing", ""),
    ]
    await store.finish_execution(made.id, "owner", DONE, NOW)
    await store.delete_execution(PROJECT, "hello", made.id)
    assert told.take() == [("update", "completed", "update"), ("delete", "completed", "")]


async def test_a_synchronous_execution_has_one_event_at_its_end(store: Store) -> None:
    await make_ready(store)
    told = Told(store)
    made = await start(store, execution())
    assert told.take() == [("create", "processing", "")]
    await store.finish_execution(made.id, "owner", DONE, NOW)
    assert told.take() == [("update", "completed", "create")]
    await store.record_execution(accepted(execution(), synchronous=True), DONE, ended=NOW)
    assert told.take() == [("create", "completed", "create")]


async def test_executions_that_end_otherwise_are_told_as_well(store: Store) -> None:
    await make_ready(store)
    waiting, running, expired = (
        await accept(store, execution()),
        await start(store, execution()),
        await start(store, execution(), lease_until=NOW - 1),
    )
    told = Told(store)
    await store.cancel_execution(PROJECT, "hello", waiting.id, "enough", NOW)
    await store.cancel_execution(PROJECT, "hello", running.id, "enough", NOW)
    assert told.take() == [("update", "failed", "update"), ("update", "failed", "create")]
    await store.expire_leases(NOW)
    (change,) = told.changes()
    assert (change.project_id, change.action, change.event) == (PROJECT, "update", "create")
    assert change.execution == await store.get_execution(PROJECT, "hello", expired.id)


async def test_scheduled_and_triggered_executions_have_an_event_at_their_end_only(store: Store) -> None:
    due = await scheduled(store)
    await make_ready(store, "ear", "second", events=("users.*.create",))
    told = Told(store)
    tick = due.function.schedule_next
    await store.fire_schedule(due, accepted(execution(trigger="schedule")), tick + 300, tick)
    await store.emit_event(PROJECT, "users.u1.create", {}, "", NOW)
    assert told.take() == [("create", "waiting", "")] * 2
    for claim in await store.claim_executions("owner", 9, 999, NOW + 30, NOW):
        told.take()
        await store.finish_execution(claim.accepted.execution.id, "owner", DONE, NOW)
        assert told.take() == [("update", "completed", "update")]


async def test_a_change_is_told_with_the_record_as_it_is_stored(store: Store, open_store: OpenStore) -> None:
    other = await open_store()
    await make_ready(store)
    seen: list[ExecutionChange] = []
    store.listen(seen.append)
    made = await accept(store, execution(read=("user:u1",)))
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: store.claim_executions("owner", 9, 999, NOW + 30, NOW + 1),
        lambda: store.release_execution(made.id, "owner", NOW + 2),
        lambda: store.claim_executions("owner", 9, 999, NOW + 30, NOW + 3),
        lambda: store.finish_execution(made.id, "owner", DONE, NOW + 4),
    ]
    for step in steps:
        await step()
        assert seen[-1].execution == await other.get_execution(PROJECT, "hello", made.id)
    assert len(seen) == 5


async def test_a_change_that_is_refused_is_not_told(store: Store) -> None:
    await make_ready(store)
    made = await start(store, execution())
    await store.finish_execution(made.id, "owner", DONE, NOW)
    first = await ask(store)
    told = Told(store)
    assert await ask(store) == first
    assert await store.finish_execution(made.id, "owner", DONE, NOW) is None
    assert not await store.release_execution(made.id, "owner", NOW)
    for change in (
        ask(store, replace(ASKED, digest="another")),
        store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW),
        store.delete_execution(PROJECT, "hello", first.id),
        accept(store, execution("nowhere")),
        store.record_execution(accepted(execution("nowhere")), DONE, ended=NOW),
    ):
        with pytest.raises(ApiError):
            await change
    assert told.take() == []


async def test_everybody_is_told_every_executions_changes_in_their_order(store: Store) -> None:
    await make_ready(store)
    heard: list[list[ExecutionChange]] = [[], []]
    for one in heard:
        store.listen(one.append)

    async def live(way: int) -> None:
        made = await (start(store, execution()) if way else accept(store, execution()))
        if not way:
            while made.status == "waiting":
                await store.claim_executions("owner", 50, 999, NOW + 30, NOW)
                made = await store.get_execution(PROJECT, "hello", made.id)
        await asyncio.gather(
            store.finish_execution(made.id, "owner", DONE, NOW),
            store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW),
            return_exceptions=True,
        )
        await store.delete_execution(PROJECT, "hello", made.id)

    await asyncio.gather(*(live(number % 2) for number in range(60)))
    assert heard[0] == heard[1]
    lives: dict[str, list[str]] = {}
    for change in heard[0]:
        lives.setdefault(change.execution.id, []).append(change.execution.status)
    assert len(lives) == 60
    for statuses in lives.values():
        *begun, ended, deleted = statuses
        assert begun in (["processing"], ["waiting", "processing"])
        assert ended == deleted
        assert ended in ("completed", "failed")


# -- events (spec, section 9) -----------------------------------------------------------------------------


async def listening(store: Store, function_id: str, *events: str, **fields: Any) -> Function:
    """Make a function that listens and has code to run."""
    return await make_ready(store, function_id, f"{function_id}-d", events=events, **fields)


async def triggered(store: Store) -> list[tuple[str, str, Any]]:
    """Claim what waits; return functions, events and their data."""
    claims = await store.claim_executions("taker", 999, 999, NOW + 30, NOW)
    return [
        (claim.function.id, claim.accepted.event, msgspec.json.decode(claim.accepted.event_data))
        for claim in claims
        if claim.accepted.execution.trigger == "event"
    ]


def shown(record: Any) -> Any:
    """Return a record as the API shows it."""
    return msgspec.json.decode(msgspec.json.encode(record))


async def test_an_event_triggers_whoever_listens_to_one_of_its_names(store: Store) -> None:
    await listening(store, "all", "users.*")
    await listening(store, "ada", "users.ada.create")
    await listening(store, "creations", "users.*.create")
    await listening(store, "others", "users.grace.create", "users.*.update", "users.*.sessions.*.create", "teams.*")
    await make_ready(store, "deaf", "deaf-d")
    payload = {"name": "Ada", "deep": [1, {"a": None}], "ünïcode": "🚀"}
    assert await store.emit_event(PROJECT, "users.ada.create", payload, "", NOW) == 3
    assert sorted(await triggered(store)) == [
        (name, "users.ada.create", payload) for name in ("ada", "all", "creations")
    ]
    assert await store.emit_event(PROJECT, "users.ada.sessions.s1.create", {}, "", NOW) == 2
    assert sorted(await triggered(store)) == [(name, "users.ada.sessions.s1.create", {}) for name in ("all", "others")]
    assert await store.emit_event(PROJECT, "buckets.b.create", {}, "", NOW) == 0


async def test_a_triggered_execution_says_what_caused_it(store: Store) -> None:
    function = await listening(store, "ear", "users.*.create")
    assert await store.emit_event(PROJECT, "users.ada.create", {"a": 1}, "u1", NOW + 7.5) == 1
    (made,) = (await store.list_executions(PROJECT, "ear", Page(), "user:u1")).executions
    assert made == Execution(
        id=made.id,
        created_at=int(NOW + 7.5),
        updated_at=int(NOW + 7.5),
        read=("user:u1",),
        function_id="ear",
        trigger="event",
        deployment_id=function.deployment,
    )
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    expected = accepted(claim.accepted.execution, created=NOW + 7.5, user_id="u1", event="users.ada.create", depth=1)
    assert replace(claim.accepted, event_data="") == expected
    assert claim.accepted.event_data == '{"a":1}'
    await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW)
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert (claim.accepted.execution.read, claim.accepted.user_id) == ((), "")


async def test_a_function_is_triggered_once_however_many_of_its_patterns_fit(store: Store) -> None:
    await listening(store, "ear", "users.*", "users.ada", "users.*.create", "users.*.create", "users.ada.create")
    assert await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW) == 1
    assert len(await triggered(store)) == 1


async def test_functions_are_triggered_in_the_order_of_their_names(store: Store) -> None:
    for function_id, name in (("w", "b"), ("x", "c"), ("y", "a"), ("z", "B"), ("v", "b")):
        await listening(store, function_id, "users.*", name=name)
    await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW)
    assert [function_id for function_id, *_ in await triggered(store)] == ["z", "y", "w", "v", "x"]


async def test_a_function_without_code_to_run_is_passed_over(store: Store) -> None:
    await make_function(store, "bare", events=("users.*",))
    await make_function(store, "building", events=("users.*",))
    await make_deployment(store, "b1", "building", activate=True)
    build = await claim_build(store)
    await listening(store, "undeployed", "users.*")
    await store.delete_deployment(PROJECT, "undeployed", "undeployed-d", NOW)
    await listening(store, "ready", "users.*")
    assert await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW) == 1
    assert [function_id for function_id, *_ in await triggered(store)] == ["ready"]
    await store.finish_build(build.build_id, "owner", "ready", stderr="", output="", now=NOW)
    assert await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW) == 2


async def test_what_a_function_listens_to_follows_its_settings(store: Store) -> None:
    function = await listening(store, "ear", "users.*", "teams.*")

    async def heard() -> list[int]:
        return [await store.emit_event(PROJECT, event, {}, "", NOW) for event in ("users.u.create", "teams.t.create")]

    assert await heard() == [1, 1]
    await store.update_function(PROJECT, replace(function, events=("teams.*",)), NOW)
    assert await heard() == [0, 1]
    await store.update_function(PROJECT, replace(function, events=()), NOW)
    assert await heard() == [0, 0]
    await store.update_function(PROJECT, replace(function, events=("users.*",)), NOW)
    assert await heard() == [1, 0]
    await store.delete_function(PROJECT, "ear", NOW)
    assert await heard() == [0, 0]
    await make_ready(store, "ear", "again")
    assert await heard() == [0, 0]


async def test_events_stay_in_their_project(store: Store) -> None:
    await store.create_project(Project(id="other"))
    await listening(store, "ear", "users.*", "functions.*")
    await listening(store, "ear", "users.*", "functions.*", project_id="other")
    await triggered(store)
    assert await store.emit_event("other", "users.ada.create", {}, "", NOW) == 1
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert claim.accepted.project_id == "other"
    await make_function(store, project_id="other")
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert (claim.accepted.project_id, claim.accepted.event) == ("other", "functions.hello.create")
    with pytest.raises(ProjectNotFound):
        await store.emit_event("nowhere", "users.ada.create", {}, "", NOW)


async def test_each_change_of_a_function_and_its_deployments_causes_its_event(store: Store) -> None:
    await listening(store, "ear", "functions.*")
    await triggered(store)

    async def caused() -> list[tuple[str, Any]]:
        return [(event, data) for _, event, data in await triggered(store)]

    function = await make_function(store)
    assert await caused() == [("functions.hello.create", shown(function))]
    updated = await store.update_function(PROJECT, replace(function, name="New"), NOW + 1)
    assert await caused() == [("functions.hello.update", shown(updated))]

    sent = await make_deployment(store)
    first = "functions.hello.deployments.first"
    assert await caused() == [(f"{first}.create", shown(sent))]
    build = await claim_build(store)
    assert await caused() == [(f"{first}.update", shown(build.deployment))]
    assert build.deployment.status == "building"
    await store.append_build_log(build.build_id, "owner", "said", "")
    await store.finish_build(build.build_id, "owner", "failed", stderr="", output="", now=NOW)
    assert await caused() == []
    await store.retry_build(PROJECT, "hello", "first", build.build_id, NOW)
    assert await caused() == [(f"{first}.update", [])]
    build = await claim_build(store)
    assert await caused() == [(f"{first}.update", shown(build.deployment))]
    await store.finish_build(build.build_id, "owner", "ready", stderr="", output="", now=NOW)
    assert await caused() == []
    activated = await store.activate_deployment(PROJECT, "hello", "first", NOW)
    assert await caused() == [(f"{first}.update", shown(activated))]

    begun = replace(sent, id="second", digest="", chunks_total=2, chunks_uploaded=0)
    await store.begin_upload(PROJECT, begun)
    await store.note_chunks(PROJECT, "hello", "second", uploaded=1, total=2, now=NOW)
    assert await caused() == []
    complete = await store.complete_deployment(PROJECT, "hello", "second", digest="d", size=1, now=NOW)
    assert await caused() == [("functions.hello.deployments.second.create", shown(complete))]

    await store.delete_deployment(PROJECT, "hello", "first", NOW)
    assert await caused() == [(f"{first}.delete", [])]
    await store.delete_function(PROJECT, "hello", NOW)
    assert await caused() == [("functions.hello.delete", [])]


async def test_each_change_of_an_execution_causes_its_event(store: Store) -> None:
    await make_ready(store)
    await listening(store, "ear", "functions.hello.executions.*")

    async def caused(execution_id: str) -> list[tuple[str, Any]]:
        found = await triggered(store)
        prefix = f"functions.hello.executions.{execution_id}."
        assert all(function_id == "ear" and event.startswith(prefix) for function_id, event, _ in found)
        return [(event.removeprefix(prefix), data) for _, event, data in found]

    made = await accept(store, execution())
    assert await caused(made.id) == [("create", shown(made))]  # and claimed it
    finished = await store.finish_execution(made.id, "taker", DONE, NOW + 1)
    assert await caused(made.id) == [("update", shown(finished))]
    await store.delete_execution(PROJECT, "hello", made.id)
    assert await caused(made.id) == []

    made = await start(store, execution())
    assert await caused(made.id) == []
    finished = await store.finish_execution(made.id, "owner", DONE, NOW + 1)
    assert await caused(made.id) == [("create", shown(finished))]
    recorded = await store.record_execution(accepted(execution(), synchronous=True), DONE, ended=NOW)
    assert await caused(recorded.id) == [("create", shown(recorded))]

    made = await accept(store, execution())
    await triggered(store)
    cancelled = await store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW)
    assert await caused(made.id) == [("update", shown(cancelled))]
    made = await start(store, execution())
    cancelled = await store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW)
    assert await caused(made.id) == [("create", shown(cancelled))]
    made = await start(store, execution(), lease_until=NOW - 5)
    assert await store.expire_leases(NOW) == 1
    expired = await store.get_execution(PROJECT, "hello", made.id)
    assert await caused(made.id) == [("create", shown(expired))]


async def test_a_scheduled_execution_causes_an_event_at_its_end_only(store: Store) -> None:
    due = await scheduled(store)
    await listening(store, "ear", "functions.hello.executions.*")
    made = execution(trigger="schedule")
    await store.fire_schedule(due, accepted(made), due.function.schedule_next + 300, NOW)
    assert await triggered(store) == []  # and claimed it
    finished = await store.finish_execution(made.id, "taker", DONE, NOW + 1)
    assert await triggered(store) == [("ear", f"functions.hello.executions.{made.id}.update", shown(finished))]


async def test_a_change_that_is_refused_causes_nothing(store: Store) -> None:
    await make_ready(store)
    await make_function(store, "bare")
    made = await start(store, execution())
    await store.finish_execution(made.id, "owner", DONE, NOW)
    first = await ask(store)
    await listening(store, "ear", "functions.*")
    await triggered(store)
    before = (await store.list_executions(PROJECT, "ear", Page())).total
    build_id = (await store.get_deployment(PROJECT, "hello", "first")).build_id
    for change in (
        make_function(store),
        store.update_function(PROJECT, Function(id="nowhere"), NOW),
        store.delete_function(PROJECT, "nowhere", NOW),
        make_deployment(store, function_id="nowhere"),
        store.complete_deployment(PROJECT, "bare", "first", digest="d", size=1, now=NOW),
        store.activate_deployment(PROJECT, "bare", "first", NOW),
        store.retry_build(PROJECT, "hello", "first", build_id, NOW),
        store.delete_deployment(PROJECT, "bare", "first", NOW),
        store.cancel_execution(PROJECT, "hello", made.id, "enough", NOW),
        ask(store, replace(ASKED, digest="another")),
        accept(store, execution("nowhere")),
        store.record_execution(accepted(execution("nowhere")), DONE, ended=NOW),
    ):
        with pytest.raises(ApiError):
            await change
    # Nor does what changes nothing.
    await ask(store)
    assert await store.finish_execution(first.id, "other", DONE, NOW) is None
    await store.complete_deployment(PROJECT, "hello", "first", digest="d", size=1, now=NOW)
    await make_deployment(store)
    assert await store.claim_build("owner", NOW + 30, NOW) is None
    assert await triggered(store) == []
    assert (await store.list_executions(PROJECT, "ear", Page())).total == before


async def test_who_caused_an_event_is_carried_on(store: Store) -> None:
    await make_ready(store)
    await listening(store, "ear", "functions.hello.executions.*")
    await listening(store, "next", "functions.ear.executions.*")
    asked = accepted(execution(read=("user:u1",)), user_id="u1", synchronous=True)
    await store.record_execution(asked, DONE, ended=NOW)
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert (claim.function.id, claim.accepted.user_id, claim.accepted.depth) == ("ear", "u1", 1)
    await store.finish_execution(claim.accepted.execution.id, "owner", DONE, NOW)
    (claim,) = await store.claim_executions("owner", 9, 999, NOW + 30, NOW)
    assert (claim.function.id, claim.accepted.user_id, claim.accepted.depth) == ("next", "u1", 2)
    assert claim.accepted.execution.read == ("user:u1",)


async def test_a_chain_of_events_is_cut_with_a_row_that_says_why(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await listening(store, "loop", "users.*", "functions.loop.executions.*")
    told = Told(store)
    await store.emit_event(PROJECT, "users.ada.create", {}, "u1", NOW)
    ran = 0
    while claims := await store.claim_executions("owner", 9, 999, NOW + 30, NOW):
        (claim,) = claims
        assert claim.accepted.depth == ran + 1
        assert caplog.records == []
        await store.finish_execution(claim.accepted.execution.id, "owner", DONE, NOW)
        ran += 1
    assert ran == 3
    cut, *before = (await store.list_executions(PROJECT, "loop", Page())).executions
    assert [one.status for one in before] == ["completed"] * 3
    assert (cut.status, cut.status_code, cut.layer, cut.trigger) == ("failed", 500, "platform", "event")
    assert (cut.read, cut.time, cut.response) == (("user:u1",), 0, "")
    last = f"functions.loop.executions.{before[0].id}.update"
    for said in (last, "3 executions", "event_depth"):
        assert said in cut.stderr
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for said in ("loop", PROJECT, cut.stderr):
        assert said in record.getMessage()
    last_told = told.changes()[-1]
    assert (last_told.action, last_told.execution, last_told.event) == ("create", cut, "")
    # What begins anew is counted anew.
    assert await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW) == 1
    assert len(await triggered(store)) == 1


async def test_two_functions_that_trigger_each_other_are_cut_alike(store: Store) -> None:
    await listening(store, "ping", "users.*", "functions.pong.executions.*")
    await listening(store, "pong", "functions.ping.executions.*")
    await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW)
    ran = []
    while claims := await store.claim_executions("owner", 9, 999, NOW + 30, NOW):
        (claim,) = claims
        ran.append(claim.function.id)
        await store.finish_execution(claim.accepted.execution.id, "owner", DONE, NOW)
    assert ran == ["ping", "pong", "ping"]
    cut = (await store.list_executions(PROJECT, "pong", Page())).executions[0]
    assert (cut.status, cut.layer) == ("failed", "platform")


async def test_a_chain_ends_however_its_executions_end(store: Store) -> None:
    await listening(store, "loop", "users.*", "functions.loop.executions.*")
    await store.emit_event(PROJECT, "users.ada.create", {}, "", NOW)
    for number in range(9):
        (newest, *_) = (await store.list_executions(PROJECT, "loop", Page())).executions
        if newest.layer == "platform" and "event_depth" in newest.stderr:
            break
        if number % 2:
            await store.cancel_execution(PROJECT, "loop", newest.id, "enough", NOW)
        else:
            await store.claim_executions("dead", 9, 999, NOW - 1, NOW)
            assert await store.expire_leases(NOW) == 1
    assert number == 3
    assert await store.claim_executions("owner", 9, 999, NOW + 30, NOW) == []


LARGEST: Final = 65_535
"""Bytes of an event's data."""


async def test_an_event_that_carries_too_much_is_recorded_as_a_failure(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await listening(store, "ear", "users.*")
    room = LARGEST - len('{"a":""}')
    for payload in ({"a": "x" * room}, {"a": "é" * (room // 2)}):
        assert await store.emit_event(PROJECT, "users.ada.create", payload, "", NOW) == 1
        assert await triggered(store) == [("ear", "users.ada.create", payload)]
    for later, payload in ((0, {"a": "x" * (room + 1)}), (60, {"a": "é" * (room // 2 + 1)})):
        caplog.clear()
        for passed in (0, 59):  # a function is warned of once a minute
            assert await store.emit_event(PROJECT, "users.ada.create", payload, "u1", NOW + later + passed) == 1
        assert await triggered(store) == []
        made = (await store.list_executions(PROJECT, "ear", Page())).executions[0]
        assert (made.status, made.status_code, made.layer, made.trigger) == ("failed", 400, "platform", "event")
        assert made.read == ("user:u1",)
        assert made.stderr.startswith("Invalid vars: Value must be a valid object.")
        assert "users.ada.create" in made.stderr
        assert len(caplog.records) == 1


async def test_a_function_with_too_many_variables_is_changed_all_the_same(store: Store) -> None:
    await listening(store, "ear", "functions.*.update")
    function = await make_function(store)
    big = await store.update_function(PROJECT, replace(function, vars={"A": "x" * LARGEST}), NOW)
    assert await store.get_function(PROJECT, "hello") == big
    made = (await store.list_executions(PROJECT, "ear", Page())).executions[0]
    assert (made.status, made.status_code) == ("failed", 400)


async def test_many_events_at_once_trigger_all_that_listen(store: Store) -> None:
    for number in range(5):
        await listening(store, f"ear{number}", "functions.hello.executions.*.create")
    await make_ready(store)
    made = await asyncio.gather(
        *(store.record_execution(accepted(execution(), synchronous=True), DONE, ended=NOW) for _ in range(20)),
        *(accept(store, execution()) for _ in range(20)),
    )
    found = await triggered(store)
    expected = {f"functions.hello.executions.{one.id}.create" for one in made}
    for number in range(5):
        assert {event for function_id, event, _ in found if function_id == f"ear{number}"} == expected
    assert len(found) == 200


# -- usage ----------------------------------------------------------------------------------------------


async def test_usage_is_added_up_and_listed_from_a_time_on(store: Store) -> None:
    await make_function(store)
    await make_function(store, "other")
    assert await store.get_usage(PROJECT, "hello", 0) == []
    early, late = (UsageCount(PROJECT, "hello", start, 2, 1, 0.25) for start in (1800, 3600))
    await store.add_usage([late, early, UsageCount(PROJECT, "other", 1800, 9, 9, 9.0)])
    assert await store.get_usage(PROJECT, "hello", 0) == [early, late]
    await store.add_usage([UsageCount(PROJECT, "hello", 1800, 3, 0, 0.5)])
    assert await store.get_usage(PROJECT, "hello", 0) == [UsageCount(PROJECT, "hello", 1800, 5, 1, 0.75), late]
    assert await store.get_usage(PROJECT, "hello", 1801) == [late]
    assert await store.get_usage(PROJECT, "hello", 3600) == [late]
    await store.add_usage([])
    await store.delete_usage(3600)
    assert await store.get_usage(PROJECT, "hello", 0) == [late]
    with pytest.raises(FunctionNotFound):
        await store.get_usage(PROJECT, "nowhere", 0)


async def test_usage_of_a_function_that_is_gone_is_dropped(store: Store) -> None:
    await store.create_project(Project(id="other"))
    await make_function(store)
    await make_function(store, project_id="other")
    count = UsageCount(PROJECT, "hello", 1800, 1, 0, 0.5)
    await store.add_usage([count, replace(count, project_id="other"), replace(count, function_id="nowhere")])
    await store.delete_function(PROJECT, "hello", NOW)
    await store.add_usage([count])
    await make_function(store)
    assert await store.get_usage(PROJECT, "hello", 0) == []
    assert await store.get_usage("other", "hello", 0) == [replace(count, project_id="other")]


async def test_what_waits_is_counted(store: Store) -> None:
    await make_ready(store)
    assert await store.count_waiting() == 0
    for _ in range(3):
        await accept(store, execution())
    await start(store, execution())
    assert await store.count_waiting() == 3
    await store.claim_executions("owner", 1, 999, NOW + 30, NOW)
    assert await store.count_waiting() == 2
    await make_ready(store, "other", "second")
    await asyncio.gather(*(accept(store, execution("other", "second")) for _ in range(600)))
    assert await store.count_waiting() == 602
    await store.delete_function(PROJECT, "other", NOW)
    assert await store.count_waiting() == 2


# -- lists ----------------------------------------------------------------------------------------------

PAGES: Final[list[tuple[dict[str, Any], str]]] = [
    ({}, "abcdefg"),
    ({"limit": 3}, "abc"),
    ({"limit": 3, "offset": 2}, "cde"),
    ({"limit": 3, "offset": 6}, "g"),
    ({"offset": 50}, ""),
    ({"limit": 0}, ""),
    ({"cursor": "c"}, "defg"),
    ({"cursor": "g"}, ""),
    ({"cursor": "c", "limit": 2}, "de"),
    ({"cursor": "c", "limit": 2, "offset": 1}, "ef"),
    ({"cursor": "c", "direction": "before"}, "ab"),
    ({"cursor": "a", "direction": "before"}, ""),
    ({"cursor": "e", "direction": "before", "limit": 2}, "cd"),
    ({"cursor": "e", "direction": "before", "limit": 2, "offset": 1}, "bc"),
    ({"direction": "before", "limit": 2}, "fg"),
]
BACKWARDS: Final[list[tuple[dict[str, Any], str]]] = [
    ({}, "gfedcba"),
    ({"limit": 3, "offset": 2}, "edc"),
    ({"cursor": "c"}, "ba"),
    ({"cursor": "f", "limit": 2, "offset": 1}, "dc"),
    ({"cursor": "c", "direction": "before"}, "gfed"),
    ({"cursor": "c", "direction": "before", "limit": 2}, "ed"),
    ({"cursor": "c", "direction": "before", "limit": 2, "offset": 1}, "fe"),
    ({"limit": 0}, ""),
]
ORDERED: Final = [(page, "ASC", found) for page, found in PAGES] + [(page, "DESC", found) for page, found in BACKWARDS]


async def test_functions_are_listed_in_order_of_creation(store: Store) -> None:
    for name in "abcdefg":
        await make_function(store, name, name=f"{'zyxwvut'['abcdefg'.index(name)]}")
    for page, order, expected in ORDERED:
        found = await store.list_functions(PROJECT, Page(**page, order=order))  # type: ignore[arg-type]
        assert (ids(found.functions), found.total) == (expected, 7), (page, order)
    assert (await store.list_functions(PROJECT, Page())).functions[2] == await store.get_function(PROJECT, "c")


async def test_deployments_are_listed_in_order_of_creation(store: Store) -> None:
    await make_function(store)
    await make_function(store, "other")
    for name in "abcdefg":
        await make_deployment(store, name)
        await make_deployment(store, name.upper(), "other")
    for page, order, expected in ORDERED:
        found = await store.list_deployments(PROJECT, "hello", Page(**page, order=order))  # type: ignore[arg-type]
        assert (ids(found.deployments), found.total) == (expected, 7), (page, order)


async def test_executions_are_listed_newest_first_whatever_order_is_asked_for(store: Store) -> None:
    await make_ready(store)
    await make_function(store, "other")
    for name in "abcdefg":
        await accept(store, execution(id=name))
        await accept(store, execution("other", id=name.upper()))
    for page, expected in BACKWARDS:
        found = await store.list_executions(PROJECT, "hello", Page(**page))
        assert (ids(found.executions), found.total) == (expected, 7), page
    assert ids((await store.list_executions(PROJECT, "hello", Page(order="ASC"))).executions) == "gfedcba"


async def test_an_unknown_cursor_is_refused_in_the_words_of_the_contract(store: Store) -> None:
    await make_ready(store)
    await make_function(store, "other")
    await make_deployment(store, "elsewhere", "other")
    elsewhere = await accept(store, execution("other"))

    async def refused(answer: Any) -> str:
        with pytest.raises(GeneralCursorNotFound) as error:
            await answer
        return str(error.value)

    text = "Function 'x' for the 'cursor' value not found."
    assert await refused(store.list_functions(PROJECT, Page(cursor="x"))) == text
    for cursor in ("x", "elsewhere"):
        text = f"Tag '{cursor}' for the 'cursor' value not found."
        assert await refused(store.list_deployments(PROJECT, "hello", Page(cursor=cursor))) == text
    for cursor in ("x", elsewhere.id):
        text = f"Execution '{cursor}' for the 'cursor' value not found."
        assert await refused(store.list_executions(PROJECT, "hello", Page(cursor=cursor))) == text
    assert (await store.list_functions(PROJECT, Page())).total == 2


async def test_a_function_that_is_not_there_has_empty_lists(store: Store) -> None:
    assert (await store.list_deployments(PROJECT, "nowhere", Page())).total == 0
    assert (await store.list_executions(PROJECT, "nowhere", Page(search="nowhere"))).total == 0
    assert (await store.list_functions("nowhere", Page())).total == 0


async def test_a_total_counts_up_to_5000(store: Store) -> None:
    await make_ready(store)
    made = [execution() for _ in range(5003)]
    await asyncio.gather(*(start(store, one) for one in made))
    listed = await store.list_executions(PROJECT, "hello", Page(limit=1, offset=5000))
    assert (listed.total, len(listed.executions)) == (5000, 1)
    found = await store.list_executions(PROJECT, "hello", Page(search=made[0].id[:1], limit=0))
    assert (found.total, found.executions) == (5000, ())


async def test_a_reader_sees_the_executions_that_name_it(store: Store) -> None:
    await make_ready(store)
    readers = {"a": ("user:u1",), "b": (), "c": ("user:u2",), "d": ("user:u1",), "e": ("user:u",)}
    for name, read in readers.items():
        await accept(store, execution(id=name, read=read))

    async def seen(reader: str | None, **page: Any) -> tuple[str, int]:
        found = await store.list_executions(PROJECT, "hello", Page(**page), reader)
        return ids(found.executions), found.total

    assert await seen(None) == ("edcba", 5)
    assert await seen("user:") == ("", 0)
    assert await seen("user:u2") == ("c", 1)
    assert await seen("user:u1") == ("da", 2)
    assert await seen("user:u1", limit=1) == ("d", 2)
    assert await seen("user:u1", cursor="d") == ("a", 2)
    assert await seen("user:u1", search="a") == ("a", 1)
    assert await seen("user:u1", search="hello") == ("da", 2)
    with pytest.raises(GeneralCursorNotFound):
        await seen("user:u1", cursor="c")
    with pytest.raises(GeneralCursorNotFound):
        await seen("user:", cursor="b")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", "abc"),
        ("hello", "ab"),
        ("HELLO", "ab"),
        ("hel", "ab"),
        ("hel zzz", ""),
        ("zzz hel", "ab"),
        ("ello", ""),
        ("hello node", "abc"),
        ("nowhere else", ""),
        ("+world -node", "ac"),
        ("@wor*", "a"),
        ("grüße", "b"),
        ("GRÜSSE", "b"),
        ("under_score", "c"),
        ("under", "c"),
        ("score", ""),
        ("100%", "b"),
        ("%", ""),
        ("+-@*", ""),
        ("   ", ""),
        ('"', ""),
        ("php-8", "c"),
    ],
)
async def test_functions_are_found_by_words_of_id_name_and_runtime(store: Store, search: str, found: str) -> None:
    for letter, name, runtime in (
        ("a", "hello world", "python"),
        ("b", "Hello Grüße 100%", "python"),
        ("c", "under_score", "node-php-8.0"),
    ):
        await make_function(store, letter, name=name, runtime=runtime)
    listed = await store.list_functions(PROJECT, Page(search=search))
    assert (ids(listed.functions), listed.total) == (found, len(found))


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("main", ["one", "x-y.z"]),
        ("handler", ["two"]),
        ("src/handler.py", ["one", "two", "x-y.z"]),
        ("on", ["one"]),
        ("y", ["x-y.z"]),
        ("x-y.z", ["x-y.z"]),
        ("nothing", []),
    ],
)
async def test_deployments_are_found_by_words_of_id_and_entrypoint(store: Store, search: str, found: list[str]) -> None:
    await make_function(store)
    for name, entrypoint in (("one", "main.py"), ("two", "src/handler.py"), ("x-y.z", "main.py:hello")):
        deployment = Deployment(id=name, function_id="hello", entrypoint=entrypoint, digest="d")
        await store.create_deployment(PROJECT, deployment)
    listed = await store.list_deployments(PROJECT, "hello", Page(search=search))
    assert ([one.id for one in listed.deployments], listed.total) == (found, len(found))


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("6287aa01c2d4e0a1b2c3", [1]),
        ("6287AA01C2D4E0A1B2C3", [1]),
        ("6287aa", [3, 2, 1]),
        ("6287aa01", [1]),
        ("6287aa01 zzz", []),
        ("6287aa01c2d4e0a1b2c3 6287aa02c2d4e0a1b2c3", [2, 1]),
        ("c2d4e0a1b2c3", []),
        ("my", [3, 2, 1]),
        ("my zzz", [3, 2, 1]),
        ("fun", [3, 2, 1]),
        ("fun zzz", []),
        ("func.v_2", [3, 2, 1]),
        ("MY-FUNC", [3, 2, 1]),
        ("%", []),
        ("_", []),
    ],
)
async def test_executions_are_found_by_words_of_both_ids(store: Store, search: str, found: list[int]) -> None:
    await make_ready(store, "my-func.v_2")
    for number in (1, 2, 3):
        await accept(store, execution("my-func.v_2", id=f"6287aa0{number}c2d4e0a1b2c3"))
    listed = await store.list_executions(PROJECT, "my-func.v_2", Page(search=search))
    assert ([int(one.id[7]) for one in listed.executions], listed.total) == (found, len(found))


async def test_a_search_is_paged_like_a_list(store: Store) -> None:
    await make_ready(store, "fn")
    for name in "abcdefg":
        await accept(store, execution("fn", id=f"word{name}"))
        await accept(store, execution("fn", id=f"other{name}"))
    for page, expected in BACKWARDS:
        shown = {**page, "cursor": f"word{page['cursor']}"} if "cursor" in page else page
        found = await store.list_executions(PROJECT, "fn", Page(search="word", **shown))
        assert (ids(found.executions).replace("word", ""), found.total) == (expected, 7), page


# -- schedules ------------------------------------------------------------------------------------------


async def scheduled(store: Store, function_id: str = "hello") -> DueSchedule:
    """Make a function that is due at 22:15:00 and return it as due."""
    await make_ready(store, function_id, schedule="*/5 * * * *")
    tick = (await store.get_function(PROJECT, function_id)).schedule_next
    (due,) = [one for one in await store.due_schedules(tick, 9) if one.function.id == function_id]
    return due


async def test_functions_are_due_from_their_time_on_the_earliest_first(store: Store) -> None:
    assert await store.next_schedule() == 0
    for name, schedule in (("hourly", "0 * * * *"), ("often", "*/5 * * * *"), ("never", "")):
        await make_ready(store, name, schedule=schedule)
    often, hourly = (datetime(2023, 11, 14, *time, tzinfo=UTC).timestamp() for time in ((22, 15), (23, 0)))
    assert await store.next_schedule() == often
    assert await store.due_schedules(often - 0.5, 9) == []
    (due,) = await store.due_schedules(often, 9)
    assert due == DueSchedule(project_id=PROJECT, function=await store.get_function(PROJECT, "often"))
    assert [one.function.id for one in await store.due_schedules(hourly, 9)] == ["often", "hourly"]
    assert [one.function.id for one in await store.due_schedules(hourly, 1)] == ["often"]


async def test_a_tick_is_recorded_with_its_execution(store: Store) -> None:
    due = await scheduled(store)
    tick, now = due.function.schedule_next, due.function.schedule_next + 1.5
    made = execution(trigger="schedule")
    assert await store.fire_schedule(due, accepted(made, created=now), tick + 300, now)
    function = await store.get_function(PROJECT, "hello")
    assert (function.schedule_previous, function.schedule_next) == (int(now), tick + 300)
    assert function.updated_at == int(now)
    (claim,) = await store.claim_executions("owner", 9, 999, now + 30, now)
    assert claim.accepted.execution == replace(made, status="processing", updated_at=int(now))
    assert (claim.accepted.data, claim.accepted.user_id, claim.accepted.event, claim.accepted.created) == (
        "",
        "",
        "",
        now,
    )
    assert not await store.fire_schedule(due, accepted(execution()), tick + 300, now)
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 1


async def test_a_tick_can_be_recorded_without_an_execution(store: Store) -> None:
    due = await scheduled(store)
    assert await store.fire_schedule(due, None, 0, NOW)
    assert await store.next_schedule() == 0
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 0


async def test_a_tick_that_is_stale_is_dropped(store: Store) -> None:
    due = await scheduled(store)
    changed = await store.update_function(PROJECT, replace(due.function, schedule="0 * * * *"), NOW)
    assert not await store.fire_schedule(due, accepted(execution()), 0, NOW)
    assert await store.get_function(PROJECT, "hello") == changed
    await store.delete_function(PROJECT, "hello", NOW)
    assert not await store.fire_schedule(due, accepted(execution()), 0, NOW)


async def test_a_tick_is_fired_once_by_any_number_of_stores(store: Store, open_store: OpenStore) -> None:
    due = await scheduled(store)
    stores = [store, await open_store(), await open_store()]
    for round_ in range(10):
        tick = due.function.schedule_next + round_ * 300
        this = replace(due, function=replace(due.function, schedule_next=tick))
        fired = await asyncio.gather(
            *(one.fire_schedule(this, accepted(execution()), tick + 300, NOW) for one in stores for _ in range(3))
        )
        assert sum(fired) == 1
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 10


# -- together -------------------------------------------------------------------------------------------


async def test_projects_never_see_each_other(store: Store) -> None:
    await store.create_project(Project(id="other"))
    mine = await make_ready(store, name="Mine")
    theirs = await make_ready(store, project_id="other", name="Theirs", output="/theirs")
    ours = await accept(store, execution())
    assert await store.get_function(PROJECT, "hello") == mine
    assert await store.get_function("other", "hello") == theirs
    assert (await store.get_active("other", "hello")).output == "/theirs"
    with pytest.raises(ExecutionNotFound):
        await store.get_execution("other", "hello", ours.id)
    assert (await store.list_executions("other", "hello", Page())).total == 0
    assert (await store.list_executions("other", "hello", Page(search=ours.id))).total == 0
    with pytest.raises(GeneralCursorNotFound):
        await store.list_executions("other", "hello", Page(cursor=ours.id))
    assert (await store.list_functions("other", Page(search="mine"))).total == 0
    assert (await store.list_functions("other", Page())).functions == (theirs,)
    await make_deployment(store, "second", project_id="other")
    with pytest.raises(DeploymentNotFound):
        await store.get_deployment(PROJECT, "hello", "second")
    with pytest.raises(DeploymentNotFound):
        await store.delete_deployment(PROJECT, "hello", "second", NOW)
    with pytest.raises(DeploymentNotFound):
        await store.activate_deployment(PROJECT, "hello", "second", NOW)
    assert (await store.list_deployments(PROJECT, "hello", Page())).total == 1
    await store.update_function("other", replace(theirs, name="Changed"), NOW)
    await store.delete_function("other", "hello", NOW)
    assert await store.get_function(PROJECT, "hello") == mine
    assert await store.get_execution(PROJECT, "hello", ours.id) == ours


async def test_what_was_written_is_read_by_everybody_at_once(store: Store, open_store: OpenStore) -> None:
    other = await open_store()
    await make_ready(store)
    for _ in range(50):
        made = await start(store, execution())
        assert await store.get_execution(PROJECT, "hello", made.id) == made
        assert await other.get_execution(PROJECT, "hello", made.id) == made
    assert (await other.list_executions(PROJECT, "hello", Page(limit=0))).total == 50


async def test_two_hundred_callers_at_once_get_their_own_answers(store: Store) -> None:
    await make_ready(store)

    async def call(number: int) -> None:
        made = await start(store, execution(), f"owner {number % 7}")
        outcome = replace(DONE, response=str(number))
        finished = await store.finish_execution(made.id, f"owner {number % 7}", outcome, NOW)
        assert finished is not None
        assert (finished.id, finished.response) == (made.id, str(number))
        assert await store.get_execution(PROJECT, "hello", made.id) == finished
        with pytest.raises(FunctionAlreadyExists):
            await make_function(store)
        await store.list_executions(PROJECT, "hello", Page(limit=1))

    await asyncio.gather(*map(call, range(200)))
    assert (await store.list_executions(PROJECT, "hello", Page())).total == 200


async def test_a_caller_that_gives_up_disturbs_nobody(store: Store) -> None:
    await make_ready(store)
    made = [execution() for _ in range(100)]
    calls = [asyncio.create_task(accept(store, one)) for one in made]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    for one in made[1::2]:
        await store.get_execution(PROJECT, "hello", one.id)
    assert await accept(store, execution())


async def test_everything_is_there_after_opening_again(store: Store, open_store: OpenStore) -> None:
    function = await make_ready(store, vars={"A": "b"})
    made = await accept(store, execution())
    deployment = await store.get_deployment(PROJECT, "hello", "first")
    await store.close()
    again = await open_store()
    assert await again.get_function(PROJECT, "hello") == function
    assert await again.get_deployment(PROJECT, "hello", "first") == deployment
    assert await again.get_execution(PROJECT, "hello", made.id) == made
    await make_function(again, "newer")
    assert ids((await again.list_functions(PROJECT, Page())).functions) == "hellonewer"


async def test_closing_commits_what_was_asked_for(store: Store, open_store: OpenStore) -> None:
    await make_ready(store)
    calls = [asyncio.create_task(accept(store, execution())) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert len(await asyncio.gather(*calls)) == 50
    assert (await (await open_store()).list_executions(PROJECT, "hello", Page())).total == 50
