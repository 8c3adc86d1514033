"""A headless Chromium that tests drive through the DevTools protocol, over a pipe: no port, no other library."""

import base64
import contextlib
import itertools
import json
import os
import select
import subprocess
import tempfile
import time

_PATIENCE = 60  # seconds for one answer: the machine may be busy with something else
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)


@contextlib.contextmanager
def chromium(command):
    """A browser with a fresh profile; ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        (read, to_browser), (from_browser, write) = os.pipe(), os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to 4.
        script = f'exec "$0" "$@" 3<&{read} 4>&{write}'
        process = subprocess.Popen(
            ["bash", "-c", script, command, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        browser = Browser(to_browser, from_browser)
        try:
            yield browser
        finally:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                browser.call("Browser.close")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(to_browser)
            os.close(from_browser)


class Browser:
    """Commands and events of the DevTools protocol: JSON, each ended by a zero byte."""

    def __init__(self, to_browser, from_browser):
        self._to, self._from = to_browser, from_browser
        self._numbers, self._rest, self.listeners = itertools.count(1), b"", []

    def call(self, method, session=None, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda received: received.get("id") == number, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait(self, wanted, what):
        """The first message that is `wanted`; all others go to the listeners."""
        end = time.monotonic() + _PATIENCE
        while True:
            while b"\0" not in self._rest:
                if not select.select([self._from], [], [], max(0, end - time.monotonic()))[0]:
                    raise TimeoutError(f"the browser gave no answer to {what}")
                received = os.read(self._from, 1 << 20)
                if not received:
                    raise EOFError(f"the browser ended before it answered {what}")
                self._rest += received
            line, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(line)
            for listener in self.listeners:
                listener(message)
            if wanted(message):
                return message

    def page(self, path, width=1200, height=900, phone=False, scripts=True):
        """A page of a file, loaded. phone: touch, two pixels a point. scripts: whether the page's own may run."""
        return Page(self, path, width, height, phone, scripts)


class Page:
    """A tab. `complaints`: what the console and the log got; `requests`: what it asked for."""

    def __init__(self, browser, path, width, height, phone, scripts):
        self._browser, self.complaints, self.requests = browser, [], []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.listeners.append(self._listen)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # as if it were the tab in front
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=path.resolve().as_uri())
        browser.wait(lambda m: m.get("sessionId") == self._session and m.get("method") == "Page.loadEventFired", "load")

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def _listen(self, message):
        if message.get("sessionId") != self._session:
            return
        method, parameters = message.get("method"), message.get("params")
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(parameters))

    def evaluate(self, expression):
        """The value of JavaScript, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def centre(self, selector):
        """Middle of an element in the window, scrolled into view if it is not."""
        return self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )

    def mouse(self, x, y, kind="mouseMoved"):
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="none" if kind == "mouseMoved" else "left",
            clickCount=1,
        )

    def hover(self, selector):
        self.mouse(*self.centre(selector))

    def click(self, selector):
        x, y = self.centre(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(x, y, kind)

    def tap(self, selector):
        x, y = self.centre(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, name):
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code[name]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **({"text": "\r"} if name == "Enter" else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def print_media(self):
        self.call("Emulation.setEmulatedMedia", media="print")

    def pdf(self):
        """The page as printed, the bytes of a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def screenshot(self, path, whole=True):
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))
