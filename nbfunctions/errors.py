"""Every error of nbfunctions, in one tree.

::

    Error
    ├── ApiError                 the service refused; ``type`` and ``code`` travel on the wire (spec, section 3)
    │   ├── General…  Project…  User…  Function…  Deployment…  Build…  Execution…  Storage…
    ├── PackageError             a cell, folder or archive can't become a function; nothing was uploaded
    │   ├── CellSyntaxError  EntrypointNotFound  UndefinedNames  RequirementsInvalid
    │   └── ArchiveInvalid
    ├── ConnectionFailed         no server could be found, started or reached
    ├── SettingInvalid           a setting, profile or command-line value can't be used
    ├── DataDirectoryBusy        another server owns the data directory
    ├── SandboxUnavailable       this host can't isolate functions as asked
    ├── BuildFailed              dependencies or code of a deployment can't be prepared
    └── FunctionFailed           user code called from the notebook ended without a result

An ``ApiError``'s docstring is its message and its class name is its wire ``type``
(``FunctionNotFound`` is ``function_not_found``). The server raises the same class that the client raises
when it reads the answer.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

__all__ = [
    "ApiError",
    "ArchiveInvalid",
    "BuildFailed",
    "BuildInProgress",
    "BuildNotFound",
    "BuildNotReady",
    "CellSyntaxError",
    "ConnectionFailed",
    "DataDirectoryBusy",
    "DeploymentNotFound",
    "EntrypointNotFound",
    "Error",
    "ExecutionAlreadyExists",
    "ExecutionEnded",
    "ExecutionInProgress",
    "ExecutionNotFound",
    "FunctionAlreadyExists",
    "FunctionFailed",
    "FunctionNotFound",
    "FunctionRuntimeUnsupported",
    "GeneralArgumentInvalid",
    "GeneralCursorNotFound",
    "GeneralRateLimitExceeded",
    "GeneralRouteNotFound",
    "GeneralServerError",
    "GeneralServiceDisabled",
    "GeneralUnauthorizedScope",
    "GeneralUnknown",
    "GeneralUnknownOrigin",
    "PackageError",
    "ProjectAlreadyExists",
    "ProjectKeyExpired",
    "ProjectNotFound",
    "RequirementsInvalid",
    "SandboxUnavailable",
    "SettingInvalid",
    "StorageFileEmpty",
    "StorageFileTypeUnsupported",
    "StorageInvalidContentRange",
    "StorageInvalidFile",
    "StorageInvalidFileSize",
    "UndefinedNames",
    "UserJwtInvalid",
    "UserUnauthorized",
]


class Error(Exception):
    """Anything nbfunctions raises on purpose; ``str(error)`` is one line for a person."""


class ApiError(Error):
    """Server Error"""

    types: ClassVar[dict[str, type[ApiError]]] = {}
    """Every wire ``type`` and the class that carries it."""
    code: ClassVar[int] = 500
    """HTTP status of the answer."""
    type: ClassVar[str] = "general_unknown"
    """Machine-readable name of the error on the wire."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        ApiError.types[cls.type] = cls

    def __init__(self, message: str | None = None) -> None:
        self.message = message if message is not None else (type(self).__doc__ or "").strip()
        super().__init__(self.message)

    @staticmethod
    def from_answer(code: int, type_: str, message: str) -> ApiError:
        """Return the error a client raises for an answer (spec, section 3.1); unknown types keep their code."""
        known = ApiError.types.get(type_)
        if known is not None:
            return known(message)
        error = ApiError(message)
        error.code = code  # type: ignore[misc]
        error.type = type_  # type: ignore[misc]
        return error


class GeneralUnknown(ApiError):
    """Server Error"""

    code = 500


class GeneralServerError(ApiError):
    """Server Error"""

    code = 500


class GeneralRouteNotFound(ApiError):
    """Not Found"""

    code = 404


class GeneralArgumentInvalid(ApiError):
    """Invalid argument"""

    code = 400


class GeneralCursorNotFound(ApiError):
    """The cursor was not found"""

    code = 400


class GeneralUnauthorizedScope(ApiError):
    """Missing scope"""

    code = 401


class GeneralUnknownOrigin(ApiError):
    """Unsupported platform"""

    code = 403


class GeneralServiceDisabled(ApiError):
    """Service is disabled"""

    code = 503


class GeneralRateLimitExceeded(ApiError):
    """Too many requests"""

    code = 429


class ProjectNotFound(ApiError):
    """Project not found"""

    code = 404


class ProjectAlreadyExists(ApiError):
    """Project with the requested ID already exists"""

    code = 409


class ProjectKeyExpired(ApiError):
    """Project key expired"""

    code = 401


class UserJwtInvalid(ApiError):
    """Failed to verify JWT."""

    code = 401


class UserUnauthorized(ApiError):
    """The current user is not authorized to perform the requested action"""

    code = 401


class FunctionNotFound(ApiError):
    """Function not found"""

    code = 404


class FunctionAlreadyExists(ApiError):
    """Function with the requested ID already exists"""

    code = 409


class FunctionRuntimeUnsupported(ApiError):
    """Runtime is not supported"""

    code = 400


class DeploymentNotFound(ApiError):
    """Deployment not found"""

    code = 404


class BuildNotFound(ApiError):
    """Build not found"""

    code = 404


class BuildNotReady(ApiError):
    """Build not ready"""

    code = 400


class BuildInProgress(ApiError):
    """Build not failed"""

    code = 400


class ExecutionNotFound(ApiError):
    """Execution not found"""

    code = 404


class ExecutionAlreadyExists(ApiError):
    """An execution with this Idempotency-Key was asked for with other parameters"""

    code = 409


class ExecutionInProgress(ApiError):
    """Can't delete an ongoing execution: cancel it, or wait for its end"""

    code = 400


class ExecutionEnded(ApiError):
    """The execution has ended already"""

    code = 400


class StorageFileEmpty(ApiError):
    """No file sent"""

    code = 400


class StorageFileTypeUnsupported(ApiError):
    """File type not allowed"""

    code = 400


class StorageInvalidContentRange(ApiError):
    """Invalid content-range header"""

    code = 400


class StorageInvalidFileSize(ApiError):
    """File size not allowed"""

    code = 400


class StorageInvalidFile(ApiError):
    """Invalid file"""

    code = 403


class PackageError(Error):
    """A cell, folder or archive can't become a function; nothing was uploaded."""


class CellSyntaxError(PackageError):
    """The cell isn't valid Python; the message names the cell's line."""


class EntrypointNotFound(PackageError):
    """The code has no function to call, or several; the message lists what was found."""


class UndefinedNames(PackageError):
    """The cell uses names that nothing in it defines."""


class RequirementsInvalid(PackageError):
    """``requirements.txt`` holds a line that can't be installed, or an import has no installed distribution."""


class ArchiveInvalid(PackageError):
    """An archive isn't a gzip-compressed tar, or breaks a limit or a safety rule."""


class ConnectionFailed(Error):
    """No server could be found, started or reached."""


class SettingInvalid(Error):
    """A setting, profile or command-line value can't be used."""


class DataDirectoryBusy(Error):
    """Another server owns the data directory."""


class SandboxUnavailable(Error):
    """This host can't isolate functions as asked."""


class BuildFailed(Error):
    """Dependencies or code of a deployment can't be prepared; ``str(error)`` goes to the build's stderr."""


class FunctionFailed(Error):
    """A function called like a Python function ended without a result; ``execution`` has the record."""

    def __init__(self, message: str, execution: object = None) -> None:
        super().__init__(message)
        self.execution = execution
