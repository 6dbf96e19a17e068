"""A page in a real browser: Debian's chromium without a screen, told what to do by chromedriver (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

TOOLS = ("chromium", "chromedriver")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
#: Seconds after which what a test waits for has failed to come.
PATIENCE = 60.0

#: No window, and nothing but the page itself: no name resolves, so that all that it needs must be in it.
FLAGS = (
    "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1600,1200", "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


class Browser:
    """See the module.

    Parameters
    ----------
    profile
        An empty folder for what the browser keeps.
    """

    def __init__(self, profile: Path) -> None:
        self._log = profile / "chromedriver.log"
        with open(self._log, "wb") as log:
            self._driver = subprocess.Popen(
                ["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._base = f"http://127.0.0.1:{self._port()}"
        self._session = ""
        try:
            self._session = self._start(profile)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, address: str) -> None:
        """Load a page."""
        self._ask("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """What the body of a JavaScript function returns in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: object) -> Any:
        """Run it until what it returns is true."""
        end = time.monotonic() + PATIENCE
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"did not come: {script} {arguments}\n{self.text()}"
            time.sleep(0.1)
        return found

    def click(self, xpath: str) -> None:
        """Click, as a mouse would, on the first element that an XPath finds; wait for it first."""
        self.wait("return document.evaluate(arguments[0], document, null, 9, null).singleNodeValue !== null", xpath)
        found = self._ask("POST", "/element", {"using": "xpath", "value": xpath})
        self._ask("POST", f"/element/{next(iter(found.values()))}/click", {})

    def text(self) -> str:
        """The words that a reader sees."""
        return str(self.run("return document.body.innerText"))

    def errors(self) -> list[str]:
        """Errors in the console since the last question: exceptions of scripts, and what could not be loaded."""
        lines = self._ask("POST", "/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> Path:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))
        return path

    def close(self) -> None:
        """End the browser, then its driver."""
        try:
            if self._session:
                self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait()

    def _start(self, profile: Path) -> str:
        try:
            return self._new_session(profile, ())
        except RuntimeError:  # no user namespaces here, or root: chromium has no sandbox then
            return self._new_session(profile, ("--no-sandbox",))

    def _new_session(self, profile: Path, more: tuple[str, ...]) -> str:
        options = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, *more, f"--user-data-dir={profile / 'profile'}"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        return str(self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"])

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        where = f"{self._base}/session" + (f"/{self._session}" if self._session else "") + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(where, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=2 * PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message']}") from None

    def _port(self) -> int:
        """The port that the driver chose and printed."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.search(rb"started successfully on port (\d+)", self._log.read_bytes())
            if found:
                return int(found[1])
            assert self._driver.poll() is None, "chromedriver ended at once"
            time.sleep(0.05)
        raise AssertionError("chromedriver named no port")
