"""An OpenBao in development mode, for as long as it is wanted; and requests to it and to others."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse

BAO = os.path.join(os.path.dirname(sys.executable), "bao")


class Server:
    """What is asked over one connection."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)

    def ask(self, method, path, body=None, raw=None):
        """The status and the JSON of the reply, if it has any."""
        sent = raw if raw is not None else (None if body is None else json.dumps(body))
        self.connection.request(method, "/v1/" + path, sent, {"X-Vault-Token": self.token})
        reply = self.connection.getresponse()
        text = reply.read()
        return reply.status, json.loads(text) if text else None

    def data(self, method, path, body=None):
        """`data` of a reply that must be good."""
        status, reply = self.ask(method, path, body)
        assert status in (200, 204), f"{method} {path}: {status} {reply}"
        return reply and reply["data"]


def started(home):
    """One that serves, and its address. Whose address was taken by another meanwhile ends: then one more is tried."""
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % probe.getsockname()[1]
        words = [BAO, "server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-dev-listen-address=" + address]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"HOME": home, "PATH": os.environ["PATH"]}
        )
        # One that says nothing is ended, and so does not hold up the test.
        watch = threading.Timer(120, process.kill)
        watch.start()
        said = b""
        for line in process.stdout:
            said += line
            if b"server started!" in line:
                watch.cancel()
                # What it says from now on is of no interest, but must not hold it up.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return process, address
        watch.cancel()
        process.wait()
    raise RuntimeError(said.decode(errors="replace"))


@contextlib.contextmanager
def openbao():
    """Starts one with the transit engine, and ends it."""
    with tempfile.TemporaryDirectory() as home:
        process, address = started(home)
        try:
            server = Server("http://" + address, "root")
            server.data("POST", "sys/mounts/transit", {"type": "transit"})
            server.process = process
            yield server
        finally:
            process.terminate()
            process.wait()
