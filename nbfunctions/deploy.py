"""Deploys a package: settings, upload, build, activation. Magic, decorator and command line call this one function."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from nbfunctions.errors import (
    BuildFailed,
    DeploymentNotFound,
    Error,
    FunctionAlreadyExists,
    FunctionNotFound,
    SettingInvalid,
    StorageInvalidFileSize,
)
from nbfunctions.models import Deployment, Function

if TYPE_CHECKING:
    from nbfunctions.capture.package import Package
    from nbfunctions.client import Client
    from nbfunctions.options import Options

__all__ = ["Deployed", "Progress", "change_settings", "deploy"]

Progress = Callable[[str, str], None]
"""Is told the phase (``uploading``, ``building``, ``activating``) and a detail, which may be empty."""

POLL_FIRST: Final = 0.01
POLL_LAST: Final = 0.25
"""Seconds between two looks at a build: small at first, since most builds take a moment."""

SETTINGS: Final = ("name", "execute", "vars", "events", "schedule", "timeout", "memory", "concurrency")
"""What a PUT carries; it resets whatever is left out (spec, section 1.1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    """What became of a deployment."""

    function: Function
    deployment: Deployment
    unchanged: bool = False
    """Whether the same archive was active already, so that nothing was uploaded."""
    superseded: bool = False
    """Whether it was to become active, but a newer deployment came while it was built."""


def deploy(client: Client, package: Package, options: Options, progress: Progress) -> Deployed:
    """Make ``package`` the function's newest deployment and, unless told otherwise, its active one.

    What was said in ``options`` becomes the function's settings; what wasn't said stays. An unchanged package makes no
    new deployment. When the upload is refused, a function made for it is removed; then, and when the build fails,
    changed settings are put back, so that the code that stays active keeps its own.
    Raises :class:`~nbfunctions.errors.ApiError`, ``ConnectionFailed``, or ``BuildFailed`` with the log's last line.
    """
    progress("uploading", "")
    superseded = False
    before, function = _prepare_function(client, package, options)
    active = _active(client, function)
    if active is not None and active.digest == package.digest and active.entrypoint == package.entrypoint:
        return Deployed(function=function, deployment=active, unchanged=True)
    try:
        deployment = client.deployments.create(
            function.id,
            package.entrypoint,
            package.archive,
            activate=options.activate,
            on_progress=lambda done, size: progress("uploading", f"{done * 100 // max(size, 1)} %"),
        )
    except BaseException as error:
        _undo(client, before, function)
        if isinstance(error, StorageInvalidFileSize):
            raise _too_large(package, function, error) from None
        raise
    if options.wait:
        deployment = _wait_for_build(client, deployment, progress)
        if deployment.status == "failed":
            if before is not None:
                _undo(client, before, function)
            raise _build_failed(deployment, function)
        if options.activate:
            # The server activates it as it becomes ready, unless a newer upload is to be active: its word counts.
            progress("activating", "")
            function = client.functions.get(function.id)
            deployment = client.deployments.get(function.id, deployment.id)
            superseded = function.deployment != deployment.id
    return Deployed(function=function, deployment=deployment, superseded=superseded)


def change_settings(client: Client, function: Function, **changes: Any) -> Function:
    """Change settings of a function and leave the others as they are; asks the server only if something differs."""
    unknown = changes.keys() - set(SETTINGS)
    if unknown:
        raise SettingInvalid(f"{function.id}: there is no setting {min(unknown)!r}; settings are {', '.join(SETTINGS)}")
    now = {name: getattr(function, name) for name in SETTINGS}
    wanted = {**now, **changes}
    if _comparable(wanted) == _comparable(now):
        return function
    return client.functions.update(function.id, **wanted)


def _comparable(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def _prepare_function(client: Client, package: Package, options: Options) -> tuple[Function | None, Function]:
    """Return the function before, None when it is new, and after the settings were applied."""
    try:
        before = client.functions.get(options.id)
    except FunctionNotFound:
        try:
            return None, client.functions.create(
                options.id, options.name, runtime=options.runtime or package.runtime, **options.settings
            )
        except FunctionAlreadyExists:  # made by another kernel in between
            before = client.functions.get(options.id)
    if options.runtime and options.runtime != before.runtime:
        raise SettingInvalid(
            f"{options.id} runs on {before.runtime}, and a function keeps its runtime: delete it first "
            f"(%function_delete {options.id} --yes), or give the new one another --id"
        )
    changes = options.settings
    if "vars" in changes:
        changes["vars"] = {**before.vars, **changes["vars"]}
    return before, change_settings(client, before, **changes)


def _active(client: Client, function: Function) -> Deployment | None:
    if not function.deployment:
        return None
    try:
        return client.deployments.get(function.id, function.deployment)
    except DeploymentNotFound:
        return None


def _undo(client: Client, before: Function | None, after: Function) -> None:
    """Leave nothing half-made; the error that led here is the one to show, so another one is not raised over it."""
    try:
        if before is None:
            client.functions.delete(after.id)
        elif before != after:
            change_settings(client, after, **{name: getattr(before, name) for name in SETTINGS})
    except Error:
        return


def _wait_for_build(client: Client, deployment: Deployment, progress: Progress) -> Deployment:
    """Return the deployment once its build has ended, well or not."""
    pause = POLL_FIRST
    name = deployment.function_id
    try:
        while deployment.status not in ("ready", "failed"):
            progress("building", deployment.build_stdout.rstrip().rpartition("\n")[2])
            time.sleep(pause)
            pause = min(pause * 1.3, POLL_LAST)
            deployment = client.deployments.get(name, deployment.id)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"the build goes on; %deployments {name} shows it, %function {name} returns the function"
        ) from None
    return deployment


def _too_large(package: Package, function: Function, refusal: StorageInvalidFileSize) -> StorageInvalidFileSize:
    return StorageInvalidFileSize(
        f"{function.id}: {refusal}: the package has {len(package.archive):,} bytes, more than the server's setting "
        "archive_size_limit allows (30,000,000 bytes by default)"
    )


def _build_failed(deployment: Deployment, function: Function) -> BuildFailed:
    """Return the error whose message is one line and whose note is the whole log."""
    said = [line.strip() for line in deployment.build_stderr.splitlines() if line.strip()]
    stays = f"deployment {function.deployment} stays active" if function.deployment else "nothing is active"
    failed = BuildFailed(
        f"{function.id}: the build of deployment {deployment.id} failed: "
        f"{said[-1].removeprefix('cause: ') if said else 'it said nothing'} ({stays})"
    )
    if len(said) > 1:
        failed.add_note(deployment.build_stderr.strip())
    return failed
