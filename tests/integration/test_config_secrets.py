"""A secret in a file of its own: what is rotated there is in the registry without a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gateway.supervisor.config_follower import ConfigFollower, reconcile
from shared.config import load
from shared.registry.store import RegistryStore
from shared.settings import build
from shared.tasks import cancel, spawn
from tests.fleet import eventually


async def test_a_rotated_secret_and_one_that_is_named_later_are_heard_of(redis_url: str, tmp_path: Path) -> None:
    store = RegistryStore(build(overrides={"redis_url": redis_url, "key_prefix": f"secrets{os.getpid()}:"}).registry)
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    (conf := tmp_path / "conf").mkdir()
    (one / "token").write_text("first\n")
    file = conf / "gateway.json"

    def write(path: Path) -> None:
        entry = {"url": "https://h/mcp", "headers": {"X": f"${{file:{path}}}"}}
        file.write_text(json.dumps({"mcpServers": {"up": entry}}))

    async def header() -> Any:
        (record,) = (await store.load_all()).values()
        return record.spec.connection.headers["X"]  # type: ignore[union-attr]

    async def has(value: str) -> bool:
        return bool(await header() == value)

    write(one / "token")
    loaded = load(file)
    await reconcile(store, loaded.upstreams)
    follower = ConfigFollower(file, store, running=loaded.settings, files=loaded.files)
    task = spawn(follower.run(), "follower")
    try:
        assert await header() == "first"

        async def rotated() -> bool:  # the watch may not stand yet when the first file is replaced
            new = one / "new"
            new.write_text("second\n")
            new.replace(one / "token")
            return await has("second")

        await eventually(rotated, 10.0, "a rotated secret")
        (two / "token").write_text("third")
        write(two / "token")
        await eventually(lambda: has("third"), 10.0, "another file")

        async def again() -> bool:
            (two / "token").write_text("fourth")
            return await has("fourth")

        await eventually(again, 10.0, "a file in a folder that was not watched before")
    finally:
        await cancel(task)
        await store.unregister("up")
        await store.close()
