# SPDX-License-Identifier: LGPL-2.1-or-later
"""A headless Chromium that a test drives by the DevTools protocol over a pipe: NUL-terminated JSON, no further library."""
import base64
import json
import os
import select
import shutil
import subprocess
import time


def program():
    """Path of Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page. Its profile lies in the folder."""

    def __init__(self, folder, url, size=(960, 900), wait=120):
        self.deadline, self.number, self.session, self.data = time.monotonic() + wait, 0, None, b""
        to_child, self.out = os.pipe()
        self.into, from_child = os.pipe()
        command = [program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
                   "--no-first-run", "--disable-background-networking", "--disable-component-update",
                   "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", f"--window-size={size[0]},{size[1]}",
                   f"--user-data-dir={folder}/profile", "about:blank"]
        # The protocol is at descriptors 3 and 4.
        words = ["bash", "-c", 'exec "$@" 3<&"$TO" 4>&"$FROM"', "bash", *command]
        self.child = subprocess.Popen(words, pass_fds=(to_child, from_child), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8",
                                           "TO": str(to_child), "FROM": str(from_child)})
        os.close(to_child)
        os.close(from_child)
        target = self.call("Target.createTarget", url=url)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(self, method, **params):
        """One command and its result; events in between are left out."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def receive(self):
        while b"\0" not in self.data:
            ready, _, _ = select.select([self.into], [], [], max(10, self.deadline - time.monotonic()))
            more = os.read(self.into, 1 << 20) if ready else b""
            if not more:
                raise AssertionError("Chromium has ended" if ready else "Chromium does not answer")
            self.data += more
        line, _, self.data = self.data.partition(b"\0")
        return json.loads(line)

    def value(self, expression):
        """Of JavaScript in the page; what it throws is a failure."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Until it is true."""
        while not self.value(expression):
            if time.monotonic() > self.deadline:
                raise AssertionError(f"never true: {expression}; the page has: {self.value('document.body.innerText')}")
            time.sleep(0.2)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        self.child.kill()
        self.child.wait()
        os.close(self.out)
        os.close(self.into)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
