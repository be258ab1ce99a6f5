"""Every caller, every ``execute``, every action: what is allowed is said here once more, in other words (section 4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from nbfunctions.errors import ApiError, ExecutionNotFound, GeneralUnauthorizedScope, UserUnauthorized
from nbfunctions.models import SCOPES
from nbfunctions.server import permissions
from nbfunctions.server.permissions import Caller

CALLERS = {
    "key": permissions.application("p", "here", SCOPES),
    "narrow-key": permissions.application("p", "here", ["functions.read"]),
    "guest": permissions.guest("p"),
    "jane": permissions.member("p", "jane"),
    "joe": permissions.member("p", "joe", email="joe@example.org"),
    "jane-in-t": permissions.member("p", "jane", ["t"]),
    "jane-owner": permissions.member("p", "jane", ["t/owner"]),
    "jane-in-both": permissions.member("p", "jane", ["u/a", "t", "u/b", "t/owner", "t"]),
}
EXECUTES = {
    "nobody": [],
    "all": ["role:all"],
    "guests": ["role:guest"],
    "members": ["role:member"],
    "jane": ["user:jane"],
    "joe": ["user:joe"],
    "t": ["team:t"],
    "owners of t": ["team:t/owner"],
    "others of t": ["team:t/other"],
    "never granted": ["member:jane"],
    "jane or guests": ["user:jane", "role:guest"],
    "joe or u": ["user:joe", "team:u"],
}
JANE = {"jane", "jane-in-t", "jane-owner", "jane-in-both"}
OPEN_TO: dict[str, set[str]] = {
    "nobody": set(),
    "all": {"guest", "joe", *JANE},
    "guests": {"guest"},
    "members": {"joe", *JANE},
    "jane": JANE,
    "joe": {"joe"},
    "t": {"jane-in-t", "jane-owner", "jane-in-both"},
    "owners of t": {"jane-owner", "jane-in-both"},
    "others of t": set(),
    "never granted": set(),
    "jane or guests": {"guest", *JANE},
    "joe or u": {"joe", "jane-in-both"},
}
"""Who executes without a key, read off section 4.4."""
OWNERS = {"nobody's": [], "jane's": ["user:jane"], "joe's": ["user:joe"], "ours": ["user:joe", "user:jane"]}
"""``$read`` of executions."""
SEEN_BY: dict[str, set[str]] = {"nobody's": set(), "jane's": JANE, "joe's": {"joe"}, "ours": {"joe", *JANE}}


def outcome(action: Callable[[], object]) -> type[ApiError] | None:
    try:
        action()
    except ApiError as error:
        return type(error)
    return None


@pytest.mark.parametrize(("who", "execute"), list(itertools.product(CALLERS, EXECUTES)))
def test_who_executes_what(who: str, execute: str) -> None:
    caller = CALLERS[who]
    scope = outcome(lambda: permissions.demand(caller, "execution.write"))
    assert scope is (GeneralUnauthorizedScope if who == "narrow-key" else None)
    found = outcome(lambda: permissions.demand_execute(caller, EXECUTES[execute]))
    assert found is (None if "key" in who or who in OPEN_TO[execute] else UserUnauthorized)


@pytest.mark.parametrize(("who", "owner"), list(itertools.product(CALLERS, OWNERS)))
def test_who_sees_cancels_and_deletes_which_execution(who: str, owner: str) -> None:
    caller, read = CALLERS[who], OWNERS[owner]
    sees = who in {"key", "narrow-key", *SEEN_BY[owner]}
    assert permissions.may_read(caller, read) is sees
    assert outcome(lambda: permissions.demand_read(caller, read)) is (None if sees else ExecutionNotFound)
    # What the store lists is what can be read one by one.
    listed = caller.reader is None or (len(read) == 1 and read[0] == caller.reader)
    assert owner == "ours" or listed is sees
    assert outcome(lambda: permissions.demand_delete(caller)) is (None if "key" in who else UserUnauthorized)


@pytest.mark.parametrize(("who", "scope"), list(itertools.product(CALLERS, [*SCOPES, "", "unheard.of"])))
def test_who_holds_which_scope(who: str, scope: str) -> None:
    held = {
        "key": [*SCOPES, ""],
        "narrow-key": ["functions.read", "health.read", ""],
        "guest": ["execution.write", ""],
    }.get(who, ["execution.read", "execution.write", ""])
    found = outcome(lambda: permissions.demand(CALLERS[who], scope))
    assert found is (None if scope in held else GeneralUnauthorizedScope)


@pytest.mark.parametrize(
    ("who", "roles"),
    [
        ("guest", ["role:all", "role:guest"]),
        ("jane", ["role:all", "role:member", "user:jane"]),
        ("jane-in-t", ["role:all", "role:member", "user:jane", "team:t"]),
        ("jane-owner", ["role:all", "role:member", "user:jane", "team:t", "team:t/owner"]),
        (
            "jane-in-both",
            ["role:all", "role:member", "user:jane", "team:u", "team:u/a", "team:u/b", "team:t", "team:t/owner"],
        ),
    ],
)
def test_roles_stand_in_the_contracts_order(who: str, roles: list[str]) -> None:
    assert list(CALLERS[who].roles) == roles


def test_messages_name_who_asked() -> None:
    def said(caller: Caller) -> str:
        with pytest.raises(GeneralUnauthorizedScope) as raised:
            permissions.demand(caller, "users.write")
        return str(raised.value)

    assert said(CALLERS["guest"]) == "User (role: guest) missing scope (users.write)"
    assert said(CALLERS["jane"]) == "User (role: member) missing scope (users.write)"
    assert said(CALLERS["joe"]) == "joe@example.org (role: member) missing scope (users.write)"
    assert said(CALLERS["narrow-key"]) == "app.p@service.here (role: application) missing scope (users.write)"


def test_nobodys_user_is_not_a_guest() -> None:
    assert not permissions.may_read(CALLERS["guest"], ["user:", ""])


def test_only_users_end() -> None:
    assert permissions.member("p", "jane", expires_at=7.5).expires_at == 7.5
    assert [caller.expires_at for caller in (permissions.guest("p"), CALLERS["key"], CALLERS["jane"])] == [0, 0, 0]


def test_refusals_list_both_sides() -> None:
    with pytest.raises(UserUnauthorized) as raised:
        permissions.demand_execute(CALLERS["jane-in-t"], ["user:joe", "team:ü"])
    assert str(raised.value) == (
        'Missing "execute" permission for role "team:ü". Only this scopes '
        '"["role:all","role:member","user:jane","team:t"]" are given and only this are allowed '
        '"["user:joe","team:ü"]".'
    )
    with pytest.raises(UserUnauthorized) as raised:
        permissions.demand_execute(CALLERS["jane-in-t"], [])
    assert str(raised.value) == "No permissions provided for action 'execute'"
