"""``/functions``: settings and the active deployment (spec, section 1, routes 1 to 8)."""

from __future__ import annotations

from typing import Any

from nbfunctions.models import Function, FunctionList, RuntimeList, UsageFunctions, UsageRange, new_id
from nbfunctions.server.artifacts import Upload
from nbfunctions.server.permissions import Caller
from nbfunctions.server.server import Server
from nbfunctions.server.store.protocol import Page

__all__ = ["create", "delete", "get", "get_usage", "list_", "list_runtimes", "update", "update_deployment"]


async def create(server: Server, caller: Caller, function_id: str, **settings: Any) -> Function:
    """Make a function."""
    now = int(server.clock())
    id_ = new_id() if function_id == "unique()" else function_id
    function = Function(id=id_, created_at=now, updated_at=now, **settings)
    return await server.store.create_function(caller.project_id, function)


async def list_(server: Server, caller: Caller, **page: Any) -> FunctionList:
    """Return a page of functions, in the order in which they were made."""
    return await server.store.list_functions(caller.project_id, Page(**page))


async def list_runtimes(server: Server, caller: Caller) -> RuntimeList:
    """Return the runtimes of this host."""
    runtimes = tuple(server.executor.runtimes.values())
    return RuntimeList(total=len(runtimes), runtimes=runtimes)


async def get(server: Server, caller: Caller, function_id: str) -> Function:
    """Return a function."""
    return await server.store.get_function(caller.project_id, function_id)


async def get_usage(server: Server, caller: Caller, function_id: str, range: UsageRange) -> UsageFunctions:
    """Return how often a function was executed and failed, and how long that took, over a time."""
    await server.store.get_function(caller.project_id, function_id)
    return await server.usage.of(caller.project_id, function_id, range)


async def update(server: Server, caller: Caller, function_id: str, **settings: Any) -> Function:
    """Replace all settings: what was left out is at its default again."""
    now = server.clock()
    function = Function(id=function_id, updated_at=int(now), **settings)
    updated = await server.store.update_function(caller.project_id, function, now)
    server.schedules.wake()
    server.dispatch.wake()  # its concurrency may have grown
    return updated


async def update_deployment(server: Server, caller: Caller, function_id: str, deployment_id: str) -> Function:
    """Make a ready deployment the active one; the next execution runs it."""
    function = await server.store.activate_deployment(caller.project_id, function_id, deployment_id, server.clock())
    server.schedules.wake()
    return function


async def delete(server: Server, caller: Caller, function_id: str) -> None:
    """Delete a function with its deployments, builds, archives and executions."""
    async with server.artifacts.lock:
        unused = await server.store.delete_function(caller.project_id, function_id, server.clock())
        server.usage.drop(caller.project_id, function_id)
        await server.forget(unused)
    await server.artifacts.forget_uploads(Upload(caller.project_id, function_id))
