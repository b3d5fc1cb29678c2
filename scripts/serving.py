"""A real server for scripts that try it as its operator and its clients would: made, started, asked, ended.

Owns its folder and its process. Invariants: whatever happens to the script, the process ends and the folder goes; nothing of the
caller's environment reaches the server; a reply counts only if all of it came.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from bench_servers import BINARY, ROOT, _die_with_parent, end_by_signal, stop  # noqa: F401 (given on to scripts)

# What is waited for comes within this, on however slow a machine; only what never comes reaches it.
PATIENCE_SECONDS = 120
SERVER_USER = 1001


class Failed(Exception):
    """What was to hold does not; says what."""


class Lost(Exception):
    """The connection ended before the whole reply: nobody knows whether the request was carried out."""


def comes(is_so, what):
    """Waits until it is so."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise Failed(f"this never came: {what}")
        time.sleep(0.02)


def must(holds, what):
    if not holds:
        raise Failed(what)


def run(binary, *words, expect=0):
    """Runs a command of a binary: what it printed on both streams; without an exit code to expect, that code too."""
    done = subprocess.run([binary, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={}, text=True, check=False, timeout=PATIENCE_SECONDS * 5)
    must(expect is None or done.returncode == expect, f"quantonium {' '.join(words)}: {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout if expect is not None else (done.returncode, done.stdout)


def listening(address):
    """A socket that a service manager would hold."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(address)
    held.listen(1024)
    return held


def encoded(octets):
    return base64.b64encode(octets).decode("ascii")


def drawn(seed, length):
    """Octets that are found again from a text."""
    return hashlib.shake_256(seed.encode()).digest(length)


@contextlib.contextmanager
def folder(parent=None):
    """A folder that the server's user can pass through, gone at the end."""
    work = tempfile.mkdtemp(prefix="quantonium-", dir=parent)
    os.chmod(work, 0o711)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def steady_port():
    """A port that the kernel gives to nobody who has not asked for it: it stays free from one start to the next."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    begin = 10_000 + os.getpid() * 16 % (first - 10_000)
    for step in range(first - 10_000):
        port = 10_000 + (begin - 10_000 + step) % (first - 10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in steady_port.given:
                steady_port.given.add(port)
                return port
    raise Failed("no port is free")


steady_port.given = set()


class Reply:
    """A whole reply."""

    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body
        self.request_id = fields.get("X-Request-Id", "")

    def json(self):
        return json.loads(self.body)

    def code(self):
        """The name of the reason of a refusal."""
        try:
            told = json.loads(self.body)
            return told.get("code", "") if isinstance(told, dict) else ""
        except ValueError:
            return ""

    def __str__(self):
        return f"{self.status} {self.body[:300]!r}"


class Client:
    """One connection at a time, kept open, as long as it lasts."""

    def __init__(self, address, key="", tls=False, source="127.0.0.1", timeout=60):
        self.address, self.key, self.tls, self.source, self.timeout = address, key, tls, source, timeout
        self.connection, self.peer = None, None

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def connect(self):
        host, port = self.address
        more = {"timeout": self.timeout, "source_address": (self.source, 0)}
        if self.tls:
            # Which certificate it is, is for the caller to judge.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.connection = http.client.HTTPSConnection(host, port, context=context, **more)
        else:
            self.connection = http.client.HTTPConnection(host, port, **more)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = hashlib.sha256(self.connection.sock.getpeercert(True)).hexdigest() if self.tls else None

    def call(self, method, path, body=None, fields=None, credential="X-API-Key"):
        """Asks; a dict is sent as JSON. `Lost` if there is no whole reply."""
        fields = dict(fields or {})
        if self.key:
            fields.setdefault(credential, self.key)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            fields.setdefault("Content-Type", "application/json")
        try:
            if self.connection is None:
                self.connect()
            self.connection.request(method, path, body, fields, encode_chunked=not isinstance(body, (str, bytes, type(None))))
            got = self.connection.getresponse()
            reply = Reply(got.status, got.headers, got.read())
            if got.will_close:
                self.close()
            return reply
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"{method} {path}: {error!r}") from error

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body=None, **more):
        return self.call("POST", path, {} if body is None else body, **more)

    def done(self, method, path, body=None, status=(200, 201)):
        """Asks, and takes no refusal: the members of the reply."""
        reply = self.call(method, path, body)
        must(reply.status in status, f"{method} {path}: {reply}")
        return reply.json()


class Server:
    """A store of its own, and the real server over it, which may be ended and started again."""

    def __init__(self, work, binary=BINARY, flags=(), tls=False, held=False, before=()):
        """`held`: the sockets are those of this script, as a service manager's are. `before`: what the command stands behind."""
        self.work, self.binary, self.flags, self.before = work, os.path.abspath(binary), list(flags), list(before)
        self.data, self.master, self.admin_file = f"{work}/data", f"{work}/master.key", f"{work}/admin.key"
        self.cert, self.cert_key = f"{work}/tls/cert.pem", f"{work}/tls/key.pem"
        self.process, self.pid, self.starts = None, None, 0
        self.address = ("127.0.0.1", steady_port())
        self.tls_address = ("127.0.0.1", steady_port()) if tls else None
        self.held = [listening(self.address)] if held else []
        if held and tls:
            self.held.append(listening(self.tls_address))
        self.log = f"{work}/log"

    def command(self, *words, expect=0):
        """Runs a command of the binary."""
        return run(self.binary, *words, expect=expect)

    def of_store(self, *words, **more):
        """The same with the data directory and its master key."""
        return self.command(*words, "--data-dir", self.data, "--master-key-file", self.master, **more)

    def make(self):
        self.of_store("init", "--generate-master-key", "--admin-key-file", self.admin_file)
        if self.tls_address:
            self.certify()

    def certify(self, tell=lambda fingerprint: None):
        """Makes a certificate, tells its fingerprint, puts it in the place of the one before; returns that."""
        place = os.path.dirname(self.cert)
        os.makedirs(place, mode=0o755, exist_ok=True)
        with folder(self.work) as made:
            self.command("tls", "self-signed", "--out-dir", made, "--name", "localhost")
            with open(f"{made}/cert.pem", encoding="ascii") as file:
                first = re.search(r"-----BEGIN.*?-----END CERTIFICATE-----", file.read(), re.S)[0]
            fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()
            tell(fingerprint)
            for name in ("cert.pem", "key.pem"):
                # The server's user reads them again.
                if os.geteuid() == 0:
                    os.chown(f"{made}/{name}", SERVER_USER, SERVER_USER)
                os.replace(f"{made}/{name}", f"{place}/{name}")
        return fingerprint

    def admin(self):
        with open(self.admin_file, encoding="ascii") as file:
            return file.read().strip()

    def client(self, key=None, tls=False, **more):
        return Client(self.tls_address if tls else self.address, self.admin() if key is None else key, tls, **more)

    def _words(self):
        words = [self.binary, "serve", "--data-dir", self.data, "--master-key-file", self.master, *self.flags]
        if self.tls_address:
            words += ["--tls-cert", self.cert, "--tls-key", self.cert_key]
        if self.held:
            return words
        words += ["--listen", "http://{}:{}".format(*self.address)]
        return words + (["--listen", "https://{}:{}".format(*self.tls_address)] if self.tls_address else [])

    def start(self, *more, before=None):
        """Starts it, and waits until it listens."""
        before = self.before if before is None else list(before)
        words, given, environment = [*before, *self._words(), *more], (), {"PATH": os.environ["PATH"]}
        if self.held:
            # Numbers from 3 on, and the id of the process, as sd_listen_fds(3) has them.
            script = "".join(f"exec {3 + at}<&{held.fileno()}; " for at, held in enumerate(self.held) if held.fileno() != 3 + at)
            names = "http:https" if self.tls_address else "http"
            script += f'LISTEN_PID=$$ LISTEN_FDS={len(self.held)} LISTEN_FDNAMES={names} exec "$@"'
            words, given = ["bash", "-c", script, "serve", *words], [held.fileno() for held in self.held]
        self.starts += 1
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment,
                                            text=True, preexec_fn=_die_with_parent, pass_fds=given)
        said = next((line for line in self.process.stdout if line.startswith("listening on ")), None)
        if said is None:
            raise Failed(f"the server ended with {self.process.wait()}: {self.told()[-2000:]}")
        # Nobody may be kept waiting for a reader.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.pid = self.process.pid if not before else self._served()

    def _served(self):
        """The process that serves, where another one was started."""
        found = self.process.pid
        while os.readlink(f"/proc/{found}/exe") != self.binary:
            with open(f"/proc/{found}/task/{found}/children", encoding="ascii") as file:
                found = int(file.read().split()[0])
        return found

    def told(self):
        """Its log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def send(self, number):
        os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM):
        """Ends it, and says how it ended."""
        self.send(number)
        return self.process.wait(PATIENCE_SECONDS)

    def end(self):
        """Whatever it does."""
        if self.process and self.process.poll() is None:
            if self.pid != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            stop(self.process)
        for held in self.held:
            held.close()

    def assert_sound(self):
        """The store of the stopped server, and the audit log, are whole."""
        self.of_store("store", "verify")
        return self.of_store("audit", "verify").strip().splitlines()

    def audit_lines(self):
        """Every line of the audit log, from all files."""
        import gzip
        folder_ = f"{self.data}/audit"
        for name in sorted(os.listdir(folder_)):
            opened = gzip.open if name.endswith(".gz") else open
            if ".jsonl" not in name:
                continue
            with opened(f"{folder_}/{name}", "rt", encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)


@contextlib.contextmanager
def serving(**more):
    """A server in a folder of its own, made and not started."""
    with folder() as work:
        server = Server(work, **more)
        try:
            server.make()
            yield server
        finally:
            server.end()
