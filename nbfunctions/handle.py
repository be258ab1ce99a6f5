"""The handle that magics and ``@function`` return: call it, map it, look at it, change it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from nbfunctions import calls
from nbfunctions.deploy import Deployed, Progress, change_settings, deploy
from nbfunctions.display import ProgressLine, card_html, card_text, one_line, without_insides
from nbfunctions.errors import BuildNotReady, DeploymentNotFound, Error, FunctionNotFound, PackageError, SettingInvalid
from nbfunctions.models import Execution, Function
from nbfunctions.options import Options, identifier, options_from

if TYPE_CHECKING:
    import pandas as pd

    from nbfunctions.capture.package import Package
    from nbfunctions.client import Client

__all__ = ["FunctionHandle", "function", "get", "naming", "publish", "publish_callable"]

COLD_START: Final = 60.0
"""Seconds added to a function's limit: waiting for an instance and starting it count on top (spec, section 7.4)."""

P = ParamSpec("P")
T = TypeVar("T")


def _plainly(method: Callable[Concatenate[FunctionHandle, P], T]) -> Callable[Concatenate[FunctionHandle, P], T]:
    """Let IPython show the caller's own lines of what a method raises, and name a function that isn't there."""

    @functools.wraps(method)
    def call(self: FunctionHandle, /, *args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            with naming(self.id):
                return method(self, *args, **kwargs)
        except Error as error:
            raise without_insides(error) from None
        except KeyboardInterrupt as interrupt:
            raise one_line(interrupt) from None

    return call


class FunctionHandle:
    """A function of the service, as an object of the notebook.

    ``handle(...)`` executes it there and returns its value; ``handle.local(...)`` runs the captured code here.
    """

    def __init__(
        self,
        client: Client,
        function: Function,
        *,
        package: Package | None = None,
        deployed: Deployed | None = None,
        variables: Mapping[str, str] | None = None,
        variable: str | None = None,
    ) -> None:
        self.client = client
        self.function = function
        """Its settings, as last seen."""
        self.package = package
        """What was captured; None for a function that wasn't deployed from this notebook."""
        self.deployed = deployed
        self.variable = variable or identifier(function.id)
        """What the notebook calls it, for the commands that its card suggests."""
        self._deleted = False
        self._variables = dict(variables or {})
        if package is not None and package.shape == "plain" and package.signature is not None:
            self.__signature__ = package.signature

    @property
    def id(self) -> str:
        """The function's id."""
        return self.function.id

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.name

    @_plainly
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Execute it and return its value: text, JSON value, bytes or DataFrame.

        A plain function takes its own parameters; the other shapes take the data as one argument, or keywords as a JSON
        object. Raises ``TypeError`` when the arguments don't fit, and
        :class:`~nbfunctions.errors.FunctionFailed`, which has the execution, when it fails.
        """
        __tracebackhide__ = True
        try:
            data = calls.data_of_arguments(self.id, self._signature, args, kwargs)
        except TypeError as error:
            raise without_insides(error) from None
        return calls.value_of(self.id, self._execute(data))

    def local(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the captured code here, in a fresh namespace; what it raises is raised."""
        __tracebackhide__ = True
        from nbfunctions.local import call_locally

        if self.package is None:
            raise PackageError(f"{self.id} was not deployed from this notebook, so its code is not here")
        variables = {name: str(value) for name, value in self.function.vars.items()} | self._variables
        return call_locally(self.package, variables, args, kwargs)

    @_plainly
    def execute(self, data: Any = "", wait: bool = True) -> Execution:
        """Execute it and return the record, failed or not; a ``data`` that isn't text is sent as JSON.

        With ``wait=False`` it returns at once with an execution that is ``waiting``.
        """
        __tracebackhide__ = True
        try:
            text = calls.data_of(data)
        except TypeError as error:
            raise without_insides(error) from None
        return self._execute(text) if wait else calls.send(self.client, self.id, text, asynchronous=True)

    @_plainly
    def map(self, items: pd.DataFrame | Iterable[Any], concurrency: int = 8, retries: int = 0) -> pd.DataFrame:
        """Execute once for each row or item, ``concurrency`` at a time, and return a DataFrame in the same order.

        A DataFrame's columns are matched to parameters, others are left out; an item is a mapping of parameters, a
        tuple of arguments, or one argument. Columns of the result are those of
        :func:`nbfunctions.mapping.map_rows`: failed rows keep their error. ``retries`` is how often a failed row is
        tried again.
        """
        from nbfunctions.mapping import map_rows

        # Calls may queue behind each other for an instance: each may take as long as the longest of them.
        try:
            return map_rows(
                self.id,
                lambda data: calls.send(self.client, self.id, data),
                self._signature,
                items,
                concurrency=concurrency,
                retries=retries,
            )
        except TypeError as error:  # rows that don't fit the parameters
            raise without_insides(error) from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"executions that have begun go on, no others begin; %executions {self.id} shows them"
            ) from None

    @_plainly
    def deployments(self, limit: int = 25) -> pd.DataFrame:
        """Return its deployments, newest first; columns in :func:`nbfunctions.frames.deployments`."""
        from nbfunctions import frames

        return frames.deployments(self.client, self.id, limit=limit)

    @_plainly
    def executions(self, /, limit: int = 25, **filters: Any) -> pd.DataFrame:
        """Return its executions, newest first; columns and filters in :func:`nbfunctions.frames.executions`."""
        from nbfunctions import frames

        return frames.executions(self.client, self.id, limit=limit, **filters)

    @_plainly
    def settings(self, /, **changes: Any) -> FunctionHandle:
        """Change ``name``, ``execute``, ``vars``, ``events``, ``schedule``, ``timeout``, ``memory`` or ``concurrency``.

        What isn't named stays; ``vars`` replaces all variables. Without changes it only reads the settings again.
        """
        self.refresh()
        self.function = change_settings(self.client, self.function, **changes)
        return self

    @_plainly
    def rollback(self, deployment: str | None = None) -> FunctionHandle:
        """Activate ``deployment``, or the newest ready one that is older than the active one."""
        self.refresh()
        wanted = deployment or self._previous()
        try:
            self.function = self.client.functions.update_deployment(self.id, wanted)
        except DeploymentNotFound:
            raise DeploymentNotFound(
                f"{self.id} has no deployment {wanted!r}; %deployments {self.id} lists them"
            ) from None
        except BuildNotReady:
            raise BuildNotReady(
                f"deployment {wanted} of {self.id} is not ready; %deployments {self.id} shows how its build stands"
            ) from None
        self.deployed = Deployed(function=self.function, deployment=self.client.deployments.get(self.id, wanted))
        if self.package is not None and self.deployed.deployment.digest != self.package.digest:
            self.package = None
            self.__dict__.pop("__signature__", None)
        return self

    @_plainly
    def delete(self) -> None:
        """Delete it with its deployments and executions."""
        self.client.functions.delete(self.id)
        self._deleted = True

    @_plainly
    def refresh(self) -> FunctionHandle:
        """Read its settings and its active deployment again."""
        self.function = self.client.functions.get(self.id)
        if self.deployed is not None and self.function.deployment != self.deployed.deployment.id:
            self.deployed = None
        elif self.deployed is not None:
            active = self.client.deployments.get(self.id, self.deployed.deployment.id)
            self.deployed = Deployed(function=self.function, deployment=active)
        return self

    @property
    def _signature(self) -> inspect.Signature | None:
        return self.package.signature if self.package is not None and self.package.shape == "plain" else None

    def _execute(self, data: str) -> Execution:
        limit = self.function.timeout + COLD_START
        try:
            return calls.send(self.client, self.id, data, timeout=limit)
        except DeploymentNotFound:
            raise DeploymentNotFound(
                f"{self.id} has no active deployment yet; %deployments {self.id} shows how its builds stand"
            ) from None

    def _previous(self) -> str:
        page = self.client.deployments.list(self.id, limit=100, order_type="DESC").deployments
        ids = [deployment.id for deployment in page]
        later = page[ids.index(self.function.deployment) + 1 :] if self.function.deployment in ids else page
        found = next((deployment.id for deployment in later if deployment.status == "ready"), None)
        if found is None:
            raise SettingInvalid(
                f"{self.id} has no earlier deployment that is ready; %deployments {self.id} lists them"
            )
        return found

    def __repr__(self) -> str:
        if self._deleted:
            return f"{self.name}: deleted"
        return card_text(self.function, self.deployed, self.package.receipt if self.package else None, self.variable)

    def _repr_html_(self) -> str | None:
        if self._deleted:
            return None
        return card_html(self.function, self.deployed, self.package.receipt if self.package else None, self.variable)


@contextlib.contextmanager
def naming(function_id: str) -> Iterator[None]:
    """Let the error of a function that isn't there say which one was asked for."""
    try:
        yield
    except FunctionNotFound:
        raise FunctionNotFound(f"there is no function {function_id!r}; %functions lists those there are") from None


def get(client: Client, function_id: str, variable: str | None = None) -> FunctionHandle:
    """Return the handle of a function that exists; raises ``FunctionNotFound`` saying which was asked for."""
    with naming(function_id):
        return FunctionHandle(client, client.functions.get(function_id), variable=variable)


def publish(package: Package, options: Options, progress: Progress, variable: str | None = None) -> FunctionHandle:
    """Deploy a package on the server that is meant and return the handle of its function."""
    from nbfunctions.connection import connect

    client = connect(options.profile)
    deployed = deploy(client, package, options, progress)
    return FunctionHandle(
        client, deployed.function, package=package, deployed=deployed, variables=options.vars, variable=variable
    )


def function(
    name: str | Callable[..., Any] | None = None,
    *,
    id: str | None = None,
    runtime: str | None = None,
    entrypoint: str | None = None,
    execute: str | Sequence[str] | None = None,
    event: str | Sequence[str] | None = None,
    schedule: str | None = None,
    timeout: int | None = None,
    var: Mapping[str, str] | Sequence[str] | None = None,
    var_from: str | Sequence[str] | None = None,
    requirements: str | None = None,
    memory: int | None = None,
    concurrency: int | None = None,
    no_activate: bool = False,
    no_wait: bool = False,
    dry_run: bool = False,
    local: bool = False,
    out: str | None = None,
    profile: str | None = None,
) -> Any:
    """Deploy the function below: ``@function("hello", timeout=10)``, the twin of ``%%function`` with the same options.

    The function's own source and the imports of its cell are packed. Returns its :class:`FunctionHandle`; with
    ``dry_run`` the receipt. ``local`` and ``out`` are the magic's: a decorated name is the handle, and
    ``handle.local(...)`` runs it here.
    """
    given = {
        key: value for key, value in locals().items() if key != "name" and value is not None and value is not False
    }

    def decorate(target: Callable[..., Any]) -> Any:
        __tracebackhide__ = True
        title = name if isinstance(name, str) else target.__name__
        try:
            with ProgressLine(title, alone=False) as progress:
                made = publish_callable(target, options_from(title, given), progress, target.__name__)
                progress.finish(made)
        except Error as error:
            raise without_insides(error) from None
        except KeyboardInterrupt as interrupt:
            raise one_line(interrupt) from None
        return made

    return decorate(name) if callable(name) else decorate


def publish_callable(target: Callable[..., Any], options: Options, progress: Progress, variable: str) -> Any:
    """Deploy a function that exists in the notebook; return its handle, or with ``dry_run`` the receipt."""
    from nbfunctions.capture.callables import package_callable

    progress("packaging", "")
    package = package_callable(target, options)
    return package.receipt if options.dry_run else publish(package, options, progress, variable)
