"""uvicorn, as this server uses it: signals left alone, an end that waits for nobody."""

from __future__ import annotations

import contextlib
from typing import Any

import uvicorn

from nbfunctions.server.http_connection import HttpConnection
from nbfunctions.server.websocket_connection import MESSAGE_LIMIT, WebSocketConnection

__all__ = ["HttpServer"]


class HttpServer(uvicorn.Server):
    """Answers HTTP for an ASGI application until :meth:`refuse` is called."""

    def __init__(self, app: Any, *, stop_timeout: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=HttpConnection,
                ws=WebSocketConnection,
                ws_max_size=MESSAGE_LIMIT,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(stop_timeout),
            )
        )

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals alone; whoever runs this calls :meth:`refuse`."""
        return contextlib.nullcontext()

    def refuse(self) -> None:
        """Take no more connections and requests, at once; ``serve`` returns when those that have come are answered."""
        for server in self.servers:
            server.close()
        connections: list[Any] = list(self.server_state.connections)
        for connection in connections:
            connection.shutdown()
            connection.patience.hurry()
        self.should_exit = True
