"""gunicorn's process for one front end: aiohttp's, but ``accepting`` accepts the connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.worker import GunicornUVLoopWebWorker

if TYPE_CHECKING:  # gunicorn reads this module before it loads what front ends run
    from gateway.listener.server import McpRunner


class FrontEndWorker(GunicornUVLoopWebWorker):
    """Gives its sockets to the runner, in place of letting the event loop serve them."""

    sockets: Any  # gunicorn has no types
    wsgi: Any

    async def _run(self) -> None:
        sockets, self.sockets = self.sockets, []
        create = self.wsgi

        async def create_with_sockets() -> McpRunner:
            runner: McpRunner = await create()
            runner.listen(sockets)
            return runner

        self.wsgi = create_with_sockets
        await super()._run()
