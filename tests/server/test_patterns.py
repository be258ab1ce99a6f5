"""Event patterns: which ones a function may listen to, and which ones an event fits (spec, sections 9.1 to 9.4)."""

from __future__ import annotations

import pytest

from nbfunctions.server.patterns import TREE, expand, is_event, names

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


# -- expansion ----------------------------------------------------------------------------------------------

EXPANSIONS = {
    "functions.F.executions.E.create": [
        "functions.F.executions.E.create",
        "functions.*.executions.*.create",
        "functions.F.executions.*.create",
        "functions.*.executions.E.create",
        "functions.F.executions.E",
        "functions.*.executions.*",
        "functions.F.executions.*",
        "functions.*.executions.E",
        "functions.F",
        "functions.*",
    ],
    "functions.F.create": ["functions.F.create", "functions.*.create", "functions.F", "functions.*"],
    "users.U.update.email": [
        "users.U.update",
        "users.*.update",
        "users.U.update.email",
        "users.*.update.email",
        "users.U",
        "users.*",
    ],
    "teams.T.memberships.M.update.status": [
        "teams.T.memberships.M.update.status",
        "teams.*.memberships.*.update.status",
        "teams.T.memberships.*.update.status",
        "teams.*.memberships.M.update.status",
        "teams.T.memberships.M.update",
        "teams.*.memberships.*.update",
        "teams.T.memberships.*.update",
        "teams.*.memberships.M.update",
        "teams.T.memberships.M",
        "teams.*.memberships.*",
        "teams.T.memberships.*",
        "teams.*.memberships.M",
        "teams.T",
        "teams.*",
    ],
    "databases.D.collections.C.documents.X.create": [
        "databases.D.collections.C.documents.X.create",
        "databases.*.collections.*.documents.*.create",
        "databases.D.collections.*.documents.X.create",
        "databases.*.collections.*.documents.X.create",
        "databases.*.collections.C.documents.X.create",
        "databases.D.collections.C.documents.*.create",
        "databases.*.collections.C.documents.*.create",
        "databases.D.collections.*.documents.*.create",
        "databases.D.collections.C.documents.X",
        "databases.*.collections.*.documents.*",
        "databases.D.collections.*.documents.X",
        "databases.*.collections.*.documents.X",
        "databases.*.collections.C.documents.X",
        "databases.D.collections.C.documents.*",
        "databases.*.collections.C.documents.*",
        "databases.D.collections.*.documents.*",
        "databases.D.collections.C",
        "databases.*.collections.*",
        "databases.D.collections.*",
        "databases.*.collections.C",
        "databases.D",
        "databases.*",
    ],
    "databases.D.collections.C.update": [
        "databases.D.collections.C.update",
        "databases.*.collections.*.update",
        "databases.D.collections.*.update",
        "databases.*.collections.C.update",
        "databases.D.collections.C",
        "databases.*.collections.*",
        "databases.D.collections.*",
        "databases.*.collections.C",
        "databases.D",
        "databases.*",
    ],
    "functions.F.executions.E": [
        "functions.F.executions.E",
        "functions.*.executions.*",
        "functions.F.executions.*",
        "functions.*.executions.E",
        "functions.F",
        "functions.*",
    ],
    "collections.C": ["collections.C", "collections.*"],
}


@pytest.mark.parametrize("event", EXPANSIONS)
def test_an_event_fits_these_patterns_in_this_order(event: str) -> None:
    assert list(expand(event)) == EXPANSIONS[event]


@pytest.mark.parametrize("event", EXPANSIONS)
def test_what_an_event_fits_can_be_listened_to(event: str) -> None:
    assert all(is_event(name) for name in expand(event))


def test_ids_may_hold_dots_and_names_of_resources() -> None:
    found = names((("functions", "my.executions.func"), ("executions", "e.1")), "create")
    assert found[:4] == (
        "functions.my.executions.func.executions.e.1.create",
        "functions.*.executions.*.create",
        "functions.my.executions.func.executions.*.create",
        "functions.*.executions.e.1.create",
    )
    assert found[4:8] == tuple(name.removesuffix(".create") for name in found[:4])
    assert found[8:] == ("functions.my.executions.func", "functions.*")


@pytest.mark.parametrize("event", ["", "functions", "planets.P.create", "functions.F.explode", "functions.my.func"])
def test_what_is_no_event_fits_nothing(event: str) -> None:
    with pytest.raises(ValueError, match="is no event"):
        expand(event)
