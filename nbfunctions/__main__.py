"""The command line: ``nbfunctions serve | status | stop | projects | keys | jwt``.

Commands are doors: they read arguments, call one thing and print. What can't be done ends in one line on stderr and
exit status 1; wrong arguments end with status 2.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from nbfunctions import __version__
from nbfunctions.errors import Error, ProjectNotFound
from nbfunctions.settings import Settings, load, table

if TYPE_CHECKING:
    from nbfunctions.server.store.protocol import Store

__all__ = ["main"]

T = TypeVar("T")

SERVE_HELP = "Start a server and stay in the foreground until SIGTERM or Ctrl-C."
READY_HELP = "Write the ready line (endpoint, project, key, pid, data_dir) to this file as well, mode 0600."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.command(arguments)
    except Error as error:
        print(f"nbfunctions: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the settings table gives ``serve`` its options."""
    top = argparse.ArgumentParser(prog="nbfunctions", description="Functions from notebook cells: the service.")
    top.add_argument("--version", action="version", version=f"nbfunctions {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help=SERVE_HELP, description=SERVE_HELP)
    for name, hint, unit, help_ in table():
        choices = get_args(hint) if get_origin(hint) is not None else None
        serve.add_argument(
            f"--{name.replace('_', '-')}",
            choices=choices,
            metavar=None if choices else (unit or name).upper(),
            help=help_.replace("%", "%%"),
        )
    serve.add_argument("--ready-file", type=Path, help=READY_HELP)
    serve.set_defaults(command=_serve)

    status = commands.add_parser("status", help="Say whether this user's embedded server runs, and where.")
    status.add_argument("--json", action="store_true", help="Print one JSON object; the key is left out.")
    status.set_defaults(command=_status)
    stop = commands.add_parser("stop", help="Stop this user's embedded server; running executions may finish.")
    stop.set_defaults(command=_stop)

    projects = commands.add_parser("projects", help="Make and list projects.").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = _on_store(projects, "create", "Make a project.", _projects_create)
    create.add_argument("id", help="Id of the project: up to 36 of a-z A-Z 0-9 . _ -")
    create.add_argument("--name", default="", help="Name for people; the id when not given.")
    _on_store(projects, "list", "List projects.", _projects_list)

    keys = commands.add_parser("keys", help="Make, list and revoke API keys.").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = _on_store(keys, "create", "Make an API key and print its secret, this once.", _keys_create)
    create.add_argument("--project", default="default", help="Project the key belongs to.")
    create.add_argument("--name", default="", help="What the key is for.")
    create.add_argument("--scope", dest="scopes", nargs="+", required=True, action="extend", help="What it may do.")
    create.add_argument("--expires", type=int, default=0, metavar="SECONDS", help="Life of the key; 0 is for ever.")
    listing = _on_store(keys, "list", "List the keys of a project, without their secrets.", _keys_list)
    listing.add_argument("--project", default="default", help="Project whose keys are listed.")
    revoke = _on_store(keys, "revoke", "Revoke a key; counts from the next request on.", _keys_revoke)
    revoke.add_argument("id", help="Id of the key, as `keys list` shows it.")
    revoke.add_argument("--project", default="default", help="Project the key belongs to.")

    token = _on_store(commands, "jwt", "Print a token with which one can do what a user may.", _jwt)
    token.add_argument("--project", default="default", help="Project whose user it is.")
    token.add_argument("--user", required=True, metavar="ID", help="Id of the user; it needs not be made first.")
    token.add_argument(
        "--team", dest="teams", action="append", default=[], metavar="TEAM[/ROLE]", help="Team of the user, and role."
    )
    token.add_argument("--expires", type=int, default=900, metavar="SECONDS", help="Life of the token, a day at most.")
    return top


def _on_store(
    actions: Any, name: str, help_: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help_, description=help_)
    action.add_argument("--data-dir", metavar="DIR", help="Data directory; the same default as `serve`.")
    action.add_argument("--json", action="store_true", help="Print JSON.")
    action.set_defaults(command=command)
    return action


def _serve(arguments: argparse.Namespace) -> int:
    from nbfunctions.server.serve import serve

    given = {name: getattr(arguments, name) for name, *_ in table()}
    return serve(load(given), ready_file=arguments.ready_file)


def _status(arguments: argparse.Namespace) -> int:
    from nbfunctions.connection import find_embedded

    found = find_embedded()
    if arguments.json:
        shown = {} if found is None else {k: v for k, v in found.items() if k != "key"}
        print(json.dumps({"running": found is not None, **shown}))
    elif found is None:
        print("no embedded server is running; the first notebook command that needs one starts it")
    else:
        print(f"running at {found['endpoint']} (pid {found['pid']}), project {found['project']}")
        print(f"data in {found['data_dir']}")
    return 0 if found is not None else 1


def _stop(arguments: argparse.Namespace) -> int:
    from nbfunctions.connection import stop_embedded

    pid = stop_embedded()
    print("no embedded server was running" if pid is None else f"stopped the server (pid {pid})")
    return 0


def _projects_create(arguments: argparse.Namespace) -> int:
    from nbfunctions.server import administration

    project = _ask(arguments, lambda store: administration.create_project(store, arguments.id, arguments.name))
    return _print(arguments, [_project_row(project)])


def _projects_list(arguments: argparse.Namespace) -> int:
    return _print(
        arguments, [_project_row(project) for project in _ask(arguments, lambda store: store.list_projects())]
    )


def _keys_create(arguments: argparse.Namespace) -> int:
    from nbfunctions.server import administration

    key, secret = _ask(
        arguments,
        lambda store: administration.create_key(
            store, arguments.project, arguments.name, arguments.scopes, expires_in=arguments.expires
        ),
    )
    _print(arguments, [{**_key_row(key), "secret": secret}])
    if not arguments.json:
        print("keep the secret: it is stored hashed and can't be shown again", file=sys.stderr)
    return 0


def _keys_list(arguments: argparse.Namespace) -> int:
    return _print(
        arguments, [_key_row(key) for key in _ask(arguments, lambda store: store.list_keys(arguments.project))]
    )


def _keys_revoke(arguments: argparse.Namespace) -> int:
    async def revoke(store: Store) -> bool:
        await store.get_project(arguments.project)
        return await store.revoke_key(arguments.project, arguments.id)

    if _ask(arguments, revoke):
        print(f"revoked key {arguments.id}", file=sys.stderr)
        return 0
    raise Error(f"project {arguments.project!r} has no key {arguments.id!r}; `nbfunctions keys list` shows them")


def _jwt(arguments: argparse.Namespace) -> int:
    from nbfunctions.server import administration

    token, expires = _ask(
        arguments,
        lambda store: administration.create_jwt(
            store, arguments.project, arguments.user, arguments.teams, expires_in=arguments.expires
        ),
    )
    print(json.dumps({"jwt": token, "expires": _time(expires)}) if arguments.json else token)
    return 0


def _ask(arguments: argparse.Namespace, question: Callable[[Store], Awaitable[T]]) -> T:
    """Put one question to the store of the data directory, whether or not a server runs on it."""
    from nbfunctions.server.administration import open_store

    settings: Settings = load({"data_dir": arguments.data_dir})

    async def answer() -> T:
        async with open_store(settings) as store:
            try:
                return await question(store)
            except ProjectNotFound:
                raise Error(
                    f"there is no project {arguments.project!r}; `nbfunctions projects list` shows them"
                ) from None

    return asyncio.run(answer())


def _project_row(project: Any) -> dict[str, Any]:
    return {"id": project.id, "name": project.name, "created": _time(project.created_at)}


def _key_row(key: Any) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "project": key.project_id,
        "scopes": " ".join(key.scopes),
        "created": _time(key.created_at),
        "expires": _time(key.expires_at) if key.expires_at else "never",
    }


def _time(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _print(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> int:
    """Print rows as JSON or as a table whose columns line up."""
    if arguments.json:
        print(json.dumps(rows))
        return 0
    if rows:
        widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
        for row in [{name: name.upper() for name in rows[0]}, *rows]:
            print("  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
