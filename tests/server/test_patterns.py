"""Event patterns: which ones a function may listen to (spec, sections 9.1 to 9.3)."""

from __future__ import annotations

import pytest

from nbfunctions.server.patterns import TREE, is_event

RESOURCES = ("users", "collections", "databases", "buckets", "teams", "functions")


@pytest.mark.parametrize(
    "pattern",
    [
        "users.*",
        "users.torsten.update",
        "users.*.update.email",
        "users.*.update.prefs",
        "users.*.sessions.*.delete",
        "users.*.recovery.*.update",
        "users.*.sessions",
        "collections.chapters.documents.*.create",
        "collections.*.indexes.*.delete",
        "databases.main.create",
        "databases.main.collections.books",
        "databases.main.collections.books.update",
        "databases.*.collections.*.documents.*",
        "databases.*.collections.*.documents.*.create",
        "buckets.*.files.*.update",
        "teams.*.memberships.*.update.status",
        "functions.*",
        "functions.*.executions.*.create",
        "functions.f.deployments.d.update",
        "users.any text at all.create",
        "users.ä.create",
    ],
)
def test_a_pattern_of_the_tree_is_taken(pattern: str) -> None:
    assert is_event(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".",
        "users",
        "users.",
        ".create",
        "users..create",
        "users.0",
        "users.0.create",
        "unknown.*",
        "Users.*",
        "users.*.Create",
        "collections",
        "collections.*.unknown",
        "collections.*.documents.*.unknown",
        "collections.*.indexes.*.update",
        "users.*.sessions.*.update",
        "users.*.recovery.*.delete",
        "users.torsten.delete.email",
        "users.*.update.unknown",
        "users.*.update.email.more",
        "teams.*.memberships.*.update.unknown",
        "teams.*.memberships.*.update.status.more",
        "databases.*.documents.*.create",
        "databases.*.collections.*.documents.*.unknown",
        "functions.*.executions.*.create.more.and.more.still",
        "users.*.create ",
        "users.*.create\n",
        "users." + "x" * 300,
    ],
)
def test_a_pattern_of_nothing_is_refused(pattern: str) -> None:
    assert not is_event(pattern)


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize("action", ["create", "update", "delete"])
def test_every_resource_can_be_made_changed_and_deleted(resource: str, action: str) -> None:
    assert is_event(f"{resource}.*.{action}")
    assert is_event(f"{resource}.some-id.{action}")


def test_the_tree_holds_the_resources_of_both_generations() -> None:
    assert sorted(TREE) == sorted(RESOURCES)
