"""``gateway import`` and ``gateway install`` with a real gateway, in a home of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.test_up import run, running, write
from tests.fleet import stdio_connection
from tests.servers.scripted import Exchange, Scripted, said


async def test_what_a_client_has_is_registered_and_called_and_the_client_is_led_to_the_gateway(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir(parents=True)
    async with Scripted("web", "modern") as web:
        local = {key: value for key, value in stdio_connection("local").items() if key != "type"}
        entries = {"local": local, "web": {"url": web.connection["url"]}, "half": {"args": []}}
        file.write_text(json.dumps({"mcpServers": entries}))
        async with running("--config", write(tmp_path / "gateway.json", {})) as (_, url):

            async def ran(*words: str) -> tuple[int, str]:
                return await run(*words, "--url", url, HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"))

            code, text = await ran("import", "cursor", "--dry-run")
            assert code == 0 and "would register local" in text and "would register web" in text
            assert json.loads((await run("servers", "--json", "--url", url))[1]) == []
            code, text = await ran("import", "cursor")
            assert code == 0 and f"registered local (local, stdio) from {file}" in text and "left out: " in text, text
            assert "half" in text and "registered half" not in text
            code, text = await ran("import", "cursor")
            assert code == 0 and "local: it is registered already; --replace replaces it" in text
            assert "nothing to register" in text
            code, text = await ran("import", "cursor", "--replace")
            assert code == 0 and "registered web" in text
            assert {one["id"] for one in json.loads((await run("servers", "--json", "--url", url))[1])} == {
                "local",
                "web",
            }

            before = file.read_text()
            code, text = await ran("install", "cursor", "--dry-run")
            assert code == 0 and f'"url": "{url}/mcp"' in text and file.read_text() == before
            code, text = await ran("install", "cursor")
            assert code == 0 and f"gateway ({url}/mcp) is in {file}, which was {file}.bak" in text
            assert json.loads(file.read_text())["mcpServers"] == {**entries, "gateway": {"url": f"{url}/mcp"}}
            assert Path(f"{file}.bak").read_text() == before
            code, text = await ran("install", "cursor")
            assert code == 0 and "has it already" in text
            code, text = await ran("install", "cursor", "--server", "web")
            assert code == 2 and "replace it with --replace" in text
            code, text = await ran("import", "cursor", "--replace")
            assert code == 0 and "left out: gateway: that is this gateway" in text


async def test_a_client_that_is_not_here_is_said(tmp_path: Path) -> None:
    code, text = await run("import", "windsurf", HOME=str(tmp_path))
    assert code == 1 and ".codeium/windsurf/mcp_config.json" in text and "--file" in text


async def test_a_server_of_the_registry_is_added_from_a_file_and_from_an_address(tmp_path: Path) -> None:
    async with Scripted("web", "modern") as web:
        file = tmp_path / "server.json"
        keys: list[str] = []

        async def called(exchange: Exchange) -> dict[str, Any]:
            keys.append(exchange.request.headers["X-Key"])
            return said("web")

        web.on["tools/call"] = called
        headers = [{"name": "X-Key", "isRequired": True, "isSecret": True}]
        remote = {"type": "streamable-http", "url": web.connection["url"], "headers": headers}
        file.write_text(json.dumps({"name": "io.example/web", "remotes": [remote]}))
        async with running("--config", write(tmp_path / "gateway.json", {})) as (_, url):
            code, text = await run("add", str(file), "--url", url)
            assert code == 2 and "X-Key is needed; give it with --value X-Key=…" in text
            code, text = await run("add", str(file), "--value", "X-Key=hush", "--dry-run", "--url", url)
            assert code == 0 and f"would register web: {web.connection['url']}" in text and "hush" not in text
            code, text = await run("add", str(file), "--value", "X-Key=hush", "--url", url)
            assert code == 0 and "registered web (web, http)" in text
            code, text = await run("call", "web", "--url", url)
            assert code == 0 and text.strip() == "web"
            assert keys == ["hush"]
        code, text = await run("add", f"{web.connection['url']}/nothing", "--url", url)
        assert code == 2 and "answers HTTP" in text
