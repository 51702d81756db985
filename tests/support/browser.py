"""A real headless Chromium, spoken to by its DevTools protocol: no driver to install."""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

START_SECONDS = 30.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root may not have one, and the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--lang=en-GB",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Tab:
    """One page: what it was told, what it asked for, and what it complained of."""

    def __init__(self, browser: "Browser", session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.requested: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self._browser.call(method, self._session, **parameters)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        told = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, expression: str, seconds: float = 30.0) -> Any:
        """Wait until an expression is true, looked at by the page itself."""
        watched = (
            "new Promise(done => { const look = () => { let value = null;"
            f"try {{ value = ({expression}) }} catch {{}}"
            "value ? done(value) : setTimeout(look, 50) }; look() })"
        )
        try:
            async with asyncio.timeout(seconds):
                return await self.run(watched)
        except TimeoutError:
            raise AssertionError(f"never: {expression}\n{await self.text()}") from None

    async def until_open(self, url: str, seconds: float = START_SECONDS) -> None:
        """Open a page, whose server may not listen yet."""
        async with asyncio.timeout(seconds):
            while "errorText" in await self.call("Page.navigate", url=url):
                await asyncio.sleep(0.1)
        self.complaints.clear()

    async def text(self) -> str:
        return await self.run("document.body?.innerText ?? ''")

    async def screen(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        told = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(told["data"]))

    def hear(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent" if told["request"]["url"].startswith(("http", "ws")):
                self.requested.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(told["args"]))
            case "Log.entryAdded":
                self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")


class Browser:
    """Its one socket, shared by all tabs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    async def open(self, url: str) -> Tab:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log"):
            await tab.call(f"{domain}.enable")
        await tab.call("Page.navigate", url=url)
        return tab

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = len(self._asked) + 1
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        asked = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(asked | ({"sessionId": session} if session else {}))
        return await future

    async def listen(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                future = self._asked[told["id"]]
                if future.cancelled():
                    continue
                if "error" in told:
                    future.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    future.set_result(told["result"])
            elif tab := self._tabs.get(told.get("sessionId", "")):
                tab.hear(told["method"], told["params"])


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """Start a Chromium with a profile of its own in `folder`."""
    program = shutil.which("chromium")
    if program is None:
        told = "chromium is not installed"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    profile = folder / "chromium"
    process = await asyncio.create_subprocess_exec(
        program,
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port, path = await _address(profile / "DevToolsActivePort")
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
            finally:
                listening.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _address(file: Path) -> tuple[str, str]:
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(OSError, ValueError):
                port, path = (await asyncio.to_thread(file.read_text)).split()
                return port, path
            await asyncio.sleep(0.05)
