"""``/functions/{functionId}/executions`` (spec, section 1, routes 13 to 15; section 7)."""

from __future__ import annotations

import hashlib
from typing import Any

from nbfunctions.errors import (
    BuildNotFound,
    BuildNotReady,
    DeploymentNotFound,
    FunctionRuntimeUnsupported,
    GeneralArgumentInvalid,
)
from nbfunctions.models import Execution, ExecutionList, new_id
from nbfunctions.server.permissions import Caller, demand_delete, demand_execute, demand_read
from nbfunctions.server.server import Server
from nbfunctions.server.store.protocol import Acceptance, Idempotency, Page

__all__ = ["cancel", "create", "delete", "get", "list_"]


async def create(
    server: Server, caller: Caller, function_id: str, data: str, asynchronous: bool, idempotency_key: str
) -> Execution:
    """Accept an execution and return it waiting, or run it and return it finished.

    Checks in the contract's order, the permission last (spec, section 3.3). The same request with the same
    ``Idempotency-Key`` is executed once within a day.
    """
    active = await server.store.get_active(caller.project_id, function_id)
    function, deployment = active.function, active.deployment
    if function.runtime not in server.executor.runtimes:
        raise FunctionRuntimeUnsupported(f'Runtime "{function.runtime}" is not supported')
    if deployment is None:
        raise DeploymentNotFound("Deployment not found. Create a deployment before trying to execute a function")
    if active.build_status is None:
        raise BuildNotFound
    if active.build_status != "ready":
        raise BuildNotReady
    demand_execute(caller, function.execute)
    now = server.clock()
    accepted = Acceptance(
        project_id=caller.project_id,
        execution=Execution(
            id=new_id(),
            created_at=int(now),
            updated_at=int(now),
            read=(f"user:{caller.user_id}",) if caller.user_id else (),
            function_id=function_id,
            deployment_id=deployment.id,
        ),
        created=now,
        data=data,
        user_id=caller.user_id,
        synchronous=not asynchronous,
    )
    idempotency = _idempotency(caller, idempotency_key, data, asynchronous) if idempotency_key else None
    if asynchronous:
        return await server.store.create_execution(accepted, idempotency=idempotency)
    return await server.dispatch.run_now(accepted, function, deployment, active.output, idempotency)


def _idempotency(caller: Caller, key: str, data: str, asynchronous: bool) -> Idempotency:
    """Return what makes this request one that came before; raises ``GeneralArgumentInvalid`` for a guest's."""
    who = caller.key_id or caller.user_id
    if not who:  # all guests are one to us: one would get what another asked for
        raise GeneralArgumentInvalid("Invalid Idempotency-Key: A guest can't have one. Send an API key or a token.")
    asked = f"{'asynchronous' if asynchronous else 'synchronous'} {data}"
    kind = "key" if caller.is_key else "user"
    return Idempotency(f"{kind}:{who}", key, hashlib.sha256(asked.encode()).hexdigest())


async def list_(server: Server, caller: Caller, function_id: str, **page: Any) -> ExecutionList:
    """Return a page of a function's executions that the caller may see, newest first."""
    await server.store.get_function(caller.project_id, function_id)
    return await server.store.list_executions(caller.project_id, function_id, Page(**page), caller.reader)


async def get(server: Server, caller: Caller, function_id: str, execution_id: str) -> Execution:
    """Return an execution that the caller may see."""
    await server.store.get_function(caller.project_id, function_id)
    execution = await server.store.get_execution(caller.project_id, function_id, execution_id)
    demand_read(caller, execution.read)
    return execution


async def cancel(server: Server, caller: Caller, function_id: str, execution_id: str) -> Execution:
    """End an execution that waits or runs, and return it failed."""
    await get(server, caller, function_id, execution_id)
    by = f"user {caller.user_id}" if caller.user_id else "an API key"
    return await server.store.cancel_execution(
        caller.project_id, function_id, execution_id, f"Cancelled by {by}.", server.clock()
    )


async def delete(server: Server, caller: Caller, function_id: str, execution_id: str) -> None:
    """Delete the record of an execution that has ended."""
    await get(server, caller, function_id, execution_id)
    demand_delete(caller)
    await server.store.delete_execution(caller.project_id, function_id, execution_id)
