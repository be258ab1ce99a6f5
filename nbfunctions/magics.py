"""The magics: doors that parse a line, call one thing and return what it made.

A failure is one line and ends the cell, so that Run All stops; nothing is asked, nothing is printed by ``%load_ext``.
"""

from __future__ import annotations

import difflib
import functools
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbfunctions.commandline import expand, split_execute
from nbfunctions.errors import Error, SettingInvalid
from nbfunctions.options import SETTINGS, TABLE, Option, Options, options_from

if TYPE_CHECKING:
    from nbfunctions.capture.package import Origin
    from nbfunctions.client import Client
    from nbfunctions.handle import FunctionHandle

__all__ = ["NbfunctionsMagics", "load", "magic_names", "unload"]

F = TypeVar("F", bound=Callable[..., Any])

Words = Callable[[str], tuple[list[str], tuple[str, ...]]]
"""Splits a line into words for the parser and what is handed on beside them."""


def _whole(text: str) -> int:
    """Read the value of an option that is a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"expected a whole number, found {text!r}") from None


def _argument(*flags: str, **options: Any) -> Any:
    return argument(*flags, **options)  # type: ignore[no-untyped-call]


def _option(option: Option) -> Any:
    flags = ["-o", option.flag] if option.name == "out" else [option.flag]
    help_ = option.help.replace("%", "%%")
    if not option.metavar:
        return _argument(*flags, action="store_true", help=help_)
    extra: dict[str, Any] = (
        {"action": "append"} if option.repeat else {"type": _whole if option.type is int else option.type}
    )
    return _argument(*flags, metavar=option.metavar, help=help_, **extra)


def _words(line: str) -> tuple[list[str], tuple[str, ...]]:
    try:
        return shlex.split(line), ()
    except ValueError as error:
        raise UsageError(f"{line.strip()!r}: {str(error).lower()}") from None


def _words_and_data(line: str) -> tuple[list[str], tuple[str, ...]]:
    words, data = split_execute(line)
    return words, (data,)


NAME = _argument("name", help="Name of the function.")
LIMIT = _argument("--limit", metavar="N", type=_whole, default=25, help="At most so many rows; 25 if not given.")
ALL = _argument("--all", action="store_true", help="All rows.")
PROFILE = _argument("--profile", metavar="PROFILE", help="Server: a profile of nbfunctions.toml.")
OPTIONS = [_option(option) for option in TABLE]


def door(
    kind: Literal["line", "cell"], name: str, *arguments: Any, usual: Sequence[str] = (), words: Words = _words
) -> Callable[[F], F]:
    """Make a magic from a method that takes parsed arguments.

    ``--help`` shows the help; a line without its needed argument is answered with the ``usual`` next commands; an error
    of ours becomes one line. IPython's own expansion of ``{}`` and ``$`` is off: lines may hold JSON.
    """
    shown = ("%%" if kind == "cell" else "%") + name

    def decorate(method: F) -> F:
        @functools.wraps(method)
        def magic(self: Any, line: str, *cell: str) -> Any:
            try:
                split, rest = words(line)
                if "--help" in split or "-h" in split:
                    print(parser.format_help().removeprefix("::\n\n"))
                    return None
                if usual and not split:
                    raise UsageError(f"{shown} needs a name; try " + "   ".join(usual))
                return method(self, _parse(parser, shown, split), *rest, *cell)
            except (Error, KeyboardInterrupt) as error:
                from nbfunctions.display import one_line

                raise one_line(error) from None

        made: Any = magic
        for one in reversed(arguments):
            made = one(made)
        # The formatter of the help puts one % in front itself.
        made = magic_arguments(shown[1:])(made)  # type: ignore[no-untyped-call]
        parser: Any = made.parser
        parser.allow_abbrev = False
        made = (cell_magic if kind == "cell" else line_magic)(name)(made)
        return no_var_expand(made)  # type: ignore[no-any-return]

    return decorate


def _parse(parser: ArgumentParser, shown: str, words: Sequence[str]) -> Namespace:
    """Return the arguments; raises ``UsageError`` saying which magic, what was wrong and what would be right."""
    try:
        arguments, unknown = parser.parse_known_args(words)
    except UsageError as error:
        raise UsageError(f"{shown}: {str(error).removeprefix('argument ')}; {shown}? explains its arguments") from None
    if not unknown:
        return arguments
    flag = unknown[0].partition("=")[0]
    if not flag.startswith("-"):
        raise UsageError(f"{shown}: one word too many: {flag!r}; {shown}? explains its arguments")
    flags = [known for action in parser._actions for known in action.option_strings if known.startswith("--")]
    close = difflib.get_close_matches(flag, flags, 1)
    hint = f"did you mean {close[0]}?" if close else f"{shown}? lists those there are"
    raise UsageError(f"{shown}: there is no option {flag!r}; {hint}")


@magics_class
class NbfunctionsMagics(Magics):
    """Every magic of nbfunctions."""

    shell: Any

    @door(
        "cell",
        "function",
        _argument("name", help="Name of the function; its handle is bound to it in the notebook."),
        *OPTIONS,
        usual=("%%function hello", "%%function hello --timeout 10 --var GREETING=Hello", "%%function?"),
    )
    def function_cell(self, arguments: Any, cell: str) -> Any:
        """Deploy this cell as a function: package, upload, build, activate; then bind its handle."""
        from nbfunctions.capture.package import package_cell
        from nbfunctions.display import ProgressLine
        from nbfunctions.handle import publish

        options = _options(arguments)
        variable = options.variable
        with ProgressLine(options.name) as progress:
            progress("packaging")
            package = package_cell(cell, options, origin=self._origin(), namespace=self.shell.user_ns)
            if options.dry_run:
                return package.receipt
            handle = publish(package, options, progress, variable)
        # The packed source counts its lines as the cell does, %%function being the first.
        ran = not options.local or self.shell.run_cell(package.source).success
        self.shell.user_ns[variable] = handle
        if not ran:
            raise UsageError(f"{options.name} is deployed, but running its cell here failed, as shown above")
        return handle

    @door(
        "line",
        "function",
        NAME,
        _argument("source", nargs="?", metavar="CALLABLE", help="A function of this notebook to deploy."),
        *OPTIONS,
        usual=("%function hello --timeout 30", "%function hello my_python_function", "%functions"),
    )
    def function_line(self, arguments: Any) -> Any:
        """Deploy a function of this notebook, or change the settings of one that is deployed, or show it."""
        options = _options(arguments)
        variable = options.variable
        made = self._deploy_callable(arguments, options) or self._change(arguments, options)
        if not options.dry_run:
            self.shell.user_ns[variable] = made
        return made

    @door(
        "line",
        "execute",
        NAME,
        _argument("data", nargs="?", help="Its data, to the end of the line; {var} is the notebook's variable."),
        _argument(
            "--async", dest="asynchronous", action="store_true", help="Return at once, with a waiting execution."
        ),
        _argument("--from-var", metavar="VAR", help="Take the data from a variable; what isn't text is sent as JSON."),
        _argument("--timeout", metavar="SECONDS", type=_whole, help="Longest time to wait for the answer."),
        PROFILE,
        usual=("%execute hello", "%execute hello DATA", "%functions"),
        words=_words_and_data,
    )
    def execute(self, arguments: Any, data: str) -> Any:
        """Execute a function and return its execution: status, response, json(), stderr, time."""
        from nbfunctions.calls import send
        from nbfunctions.handle import naming

        text = self._data(arguments.from_var, data)
        limit = arguments.timeout
        if limit is not None and limit < 1:
            raise UsageError(f"%execute: --timeout: expected a whole number above 0, found {limit}")
        function_id = self._id(arguments.name)
        with naming(function_id):
            return send(_client(arguments), function_id, text, asynchronous=arguments.asynchronous, timeout=limit)

    @door("line", "functions", _argument("search", nargs="?", default="", help="Words to find."), LIMIT, ALL, PROFILE)
    def functions(self, arguments: Any) -> Any:
        """Return the functions of the project as a DataFrame."""
        from nbfunctions import frames

        limit = _limit(arguments)
        return frames.functions(_client(arguments), arguments.search, limit=limit)

    @door(
        "line",
        "deployments",
        NAME,
        LIMIT,
        ALL,
        PROFILE,
        usual=("%deployments hello", "%deployments hello --all", "%functions"),
    )
    def deployments(self, arguments: Any) -> Any:
        """Return a function's deployments, newest first, as a DataFrame."""
        from nbfunctions import frames
        from nbfunctions.handle import naming

        limit, function_id = _limit(arguments), self._id(arguments.name)
        with naming(function_id):
            return frames.deployments(_client(arguments), function_id, limit=limit)

    @door(
        "line",
        "executions",
        _argument("name", nargs="?", help="Name of the function; all functions when not given."),
        _argument("--status", metavar="STATUS", help="Only waiting, processing, completed or failed ones."),
        _argument("--trigger", metavar="TRIGGER", help="Only those of http, schedule or event."),
        _argument(
            "--since", metavar="SPAN", help="Only those of the last 7d, 12h, 30m, or since a time with its zone."
        ),
        LIMIT,
        ALL,
        PROFILE,
    )
    def executions(self, arguments: Any) -> Any:
        """Return executions, newest first, as a DataFrame."""
        from nbfunctions import frames
        from nbfunctions.handle import naming

        filters = {"status": arguments.status, "trigger": arguments.trigger, "since": arguments.since}
        limit = _limit(arguments)
        frames.check_filters(**filters)  # before a server is looked for
        function_id = self._id(arguments.name) if arguments.name else None
        with naming(function_id or ""):
            return frames.executions(_client(arguments), function_id, limit=limit, **filters)

    @door("line", "runtimes", PROFILE)
    def runtimes(self, arguments: Any) -> Any:
        """Return the runtimes of the server as a DataFrame."""
        from nbfunctions import frames

        return frames.runtimes(_client(arguments))

    @door(
        "line",
        "function_rollback",
        NAME,
        _argument(
            "deployment", nargs="?", help="Deployment to activate; if not given, the ready one before the active."
        ),
        PROFILE,
        usual=("%function_rollback hello", "%function_rollback hello DEPLOYMENT", "%deployments hello"),
    )
    def function_rollback(self, arguments: Any) -> FunctionHandle:
        """Activate an earlier deployment and return the function's handle."""
        return self._handle(arguments.name, arguments.profile).rollback(arguments.deployment)

    @door(
        "line",
        "function_delete",
        NAME,
        _argument("--yes", action="store_true", help="Really delete it, with its deployments and executions."),
        PROFILE,
        usual=("%function_delete hello --yes", "%functions", "%deployments hello"),
    )
    def function_delete(self, arguments: Any) -> None:
        """Delete a function with its deployments and executions."""
        handle = self._handle(arguments.name, arguments.profile)
        if not arguments.yes:
            raise UsageError(
                f"this deletes {handle.id} with its deployments and executions: %function_delete {handle.id} --yes"
            )
        handle.delete()
        print(f"{handle.id} is deleted, with its deployments and executions")

    @door(
        "line",
        "functions_connect",
        _argument("profile", nargs="?", help="A profile of nbfunctions.toml."),
        _argument("--endpoint", metavar="URL", help="Address of the API, as https://example.org/v1."),
        _argument("--project", metavar="ID", help="Project; default if not given."),
        _argument("--key", metavar="KEY", help="API key; better in NBFUNCTIONS_KEY or in the profile's key_env."),
    )
    def functions_connect(self, arguments: Any) -> Any:
        """Choose the server for this notebook and say which it is; without arguments the usual one."""
        from nbfunctions.connection import choose

        return choose(arguments.profile, endpoint=arguments.endpoint, project=arguments.project, key=arguments.key)

    # -- rooms behind the doors --------------------------------------------------------------------------

    def _origin(self) -> Origin:
        from nbfunctions.notebook import origin_of_cell

        return origin_of_cell(self.shell)

    def _id(self, name: str) -> str:
        """Return the function's id: that of the handle which ``name`` is bound to, else ``name``."""
        from nbfunctions.handle import FunctionHandle

        bound = self.shell.user_ns.get(name)
        return bound.id if isinstance(bound, FunctionHandle) else name

    def _handle(self, name: str, profile: str | None, variable: str | None = None) -> FunctionHandle:
        """Return the notebook's own handle where it knows the function, since that has the captured code."""
        from nbfunctions.connection import connect
        from nbfunctions.handle import FunctionHandle, get

        bound = self.shell.user_ns.get(name)
        if isinstance(bound, FunctionHandle) and bound.client is connect(profile):
            return bound.refresh()
        return get(connect(profile), self._id(name), variable)

    def _deploy_callable(self, arguments: Any, options: Options) -> Any:
        from nbfunctions.display import ProgressLine
        from nbfunctions.handle import FunctionHandle, publish_callable

        wanted = arguments.source or options.name
        target = self.shell.user_ns.get(wanted)
        if callable(target) and not isinstance(target, FunctionHandle):
            with ProgressLine(options.name, alone=False) as progress:
                made = publish_callable(target, options, progress, options.variable)
                progress.finish(f"{options.name}: {'nothing was uploaded' if options.dry_run else 'deployed'}")
            return made
        if isinstance(target, FunctionHandle) and arguments.source:
            raise SettingInvalid(
                f"{wanted!r} is the handle of the function {target.id} by now: "
                f"run the cell that defines it again, then %function {options.name} {wanted}"
            )
        if arguments.source:
            raise SettingInvalid(
                f"{wanted!r} is no function of this notebook; folders, files and notebooks can't be deployed yet: "
                "put the code into a cell with %%function"
            )
        return None

    def _change(self, arguments: Any, options: Options) -> FunctionHandle:
        said = {option.name for option in TABLE if _is_said(getattr(arguments, option.name))}
        other = sorted(said - SETTINGS - {"id", "out", "profile"})
        if other:
            raise SettingInvalid(
                f"--{other[0].replace('_', '-')} belongs to a deployment: use %%function {options.name}, or name a "
                "function of this notebook"
            )
        handle = self._handle(options.id, options.profile, options.variable)
        changes = options.settings
        if "vars" in changes:
            changes["vars"] = {**handle.function.vars, **changes["vars"]}
        return handle.settings(**changes) if changes else handle

    def _data(self, variable: str | None, data: str) -> str:
        from nbfunctions.calls import data_of

        if variable is None:
            try:
                return data_of(expand(data, self.shell.user_ns))
            except TypeError as error:
                raise UsageError(f"%execute: {error}") from None
        if data:
            raise UsageError("%execute: give the data either on the line or with --from-var, not both")
        if variable not in self.shell.user_ns:
            raise UsageError(f"%execute --from-var {variable}: the notebook has no such variable")
        try:
            return data_of(self.shell.user_ns[variable])
        except TypeError as error:
            raise UsageError(f"%execute --from-var {variable}: {error}") from None


def _options(arguments: Any) -> Options:
    given = {option.name: getattr(arguments, option.name) for option in TABLE}
    return options_from(arguments.name, {name: value for name, value in given.items() if _is_said(value)})


def _is_said(value: Any) -> bool:
    return value is not None and value is not False


def _client(arguments: Any) -> Client:
    from nbfunctions.connection import connect

    return connect(arguments.profile)


def _limit(arguments: Any) -> int | None:
    """Return how many rows are wanted; checked here, before a server is looked for."""
    from nbfunctions.frames import check_limit

    limit: int | None = None if arguments.all else arguments.limit
    check_limit(limit)
    return limit


def magic_names() -> Sequence[str]:
    """Return the names of all magics, in order."""
    names = {**NbfunctionsMagics.magics["cell"], **NbfunctionsMagics.magics["line"]}
    return sorted(names)


def _parsers() -> dict[str, ArgumentParser]:
    """Return each magic's parser; where a cell and a line magic share a name, the line's."""
    methods = {**NbfunctionsMagics.magics["cell"], **NbfunctionsMagics.magics["line"]}
    return {name: getattr(NbfunctionsMagics, method).parser for name, method in methods.items()}


_loaded: dict[int, Callable[..., Any]] = {}

EXECUTION = ("nbfunctions.models", "Execution")


def load(shell: Any) -> None:
    """Register the magics, their completion and how an execution is shown; doing it again changes nothing."""
    from nbfunctions.completion import matcher

    shell.register_magics(NbfunctionsMagics)
    formatters = shell.display_formatter.formatters
    formatters["text/plain"].for_type_by_name(*EXECUTION, _pretty_execution)
    formatters["text/html"].for_type_by_name(*EXECUTION, _html_execution)
    if id(shell) not in _loaded and getattr(shell, "Completer", None) is not None:
        _loaded[id(shell)] = matcher(shell, _parsers())
        shell.Completer.custom_matchers.append(_loaded[id(shell)])


def unload(shell: Any) -> None:
    """Take back what :func:`load` registered."""
    for kind in ("line", "cell"):
        for name in NbfunctionsMagics.magics[kind]:
            shell.magics_manager.magics[kind].pop(name, None)
    for kind in ("text/plain", "text/html"):
        shell.display_formatter.formatters[kind].pop(".".join(EXECUTION), None)
    added = _loaded.pop(id(shell), None)
    if added is not None and added in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(added)


def _pretty_execution(execution: Any, printer: Any, cycle: bool) -> None:
    from nbfunctions.display import execution_text

    printer.text(execution_text(execution))


def _html_execution(execution: Any) -> str:
    from nbfunctions.display import execution_html

    return execution_html(execution)
