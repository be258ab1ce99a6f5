"""What a server removes by itself because it is too old; the clock is the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbfunctions.models import Function
from nbfunctions.server.administration import create_key, create_project
from nbfunctions.server.store.protocol import UsageCount
from tests.server.asking import given, packed
from tests.server.inside import START, Clock, Place, running
from tests.serving import RUNTIME

DAY = 86_400
CODE = packed("sends")


async def send(place: Place, start: int, end: int, headers: dict[str, str]) -> dict[str, Any]:
    """Send a piece of an upload that its client calls ``mine``."""
    range_ = {"Content-Range": f"bytes {start}-{end - 1}/{len(CODE)}", "X-Appwrite-ID": "mine"}
    fields, files = {"entrypoint": "main.py"}, {"code": ("c.gz", CODE[start:end])}
    answer = await place.api.post("/functions/f/deployments", data=fields, files=files, headers={**headers, **range_})
    return dict(given(answer, 201))


def parts(data_dir: Path) -> list[str]:
    return sorted(folder.name for folder in (data_dir / "artifacts" / "uploads").iterdir())


async def test_uploads_that_were_given_up_are_removed_and_no_others_of_their_name(tmp_path: Path) -> None:
    clock = Clock()
    async with running(tmp_path, clock) as place:
        store = place.server.store
        await create_project(store, "other")
        for project_id in ("default", "other"):
            await store.create_function(project_id, Function(id="f", runtime=RUNTIME))
        _, secret = await create_key(store, "other", "CI", ["functions.write"])
        other = {"X-Appwrite-Project": "other", "X-Appwrite-Key": secret}
        await send(place, 0, 100, {})
        clock.now += DAY
        await send(place, 0, 100, other)
        assert parts(tmp_path) == ["default:f:mine", "other:f:mine"]
    clock.now += 1
    async with running(tmp_path, clock) as place:
        await place.eventually(lambda: place.get("/functions/f/deployments"), lambda found: found["total"] == 0)
        done = await send(place, 100, len(CODE), other)
        assert done["digest"]
        assert parts(tmp_path) == []


async def test_executions_keys_and_counts_are_kept_for_their_time(tmp_path: Path) -> None:
    clock = Clock()
    body, once = {"data": "200 x", "async": False}, {"Idempotency-Key": "once"}
    async with running(tmp_path, clock) as place:
        await place.deploy("sends")
        made = given(await place.api.post("/functions/f/executions", json=body, headers=once), 201)
        await place.server.store.add_usage([UsageCount("default", "f", int(START) - 100 * DAY, 1, 0, 0.0)])
    clock.now += DAY
    async with running(tmp_path, clock) as place:
        await place.eventually(lambda: place.server.store.get_usage("default", "f", 0), lambda found: len(found) == 1)
        again = given(await place.api.post("/functions/f/executions", json=body, headers=once), 201)
        assert again == made
    clock.now = START + 14 * DAY + 1
    async with running(tmp_path, clock) as place:
        await place.eventually(lambda: place.get("/functions/f/executions"), lambda found: found["total"] == 0)
        again = given(await place.api.post("/functions/f/executions", json=body, headers=once), 201)
        assert again["$id"] != made["$id"]
