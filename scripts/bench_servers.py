"""The servers that the benches measure, this one and its peers, and what is read of a running one.

Each is started by a context manager and ended by its process id, whatever happens; `OTHERS` names those that are compared, in the
order of the tables, each with what it does:

- constant: it reads the request and answers a constant; such a server does none of the work.
- same work: it checks an API key, reads the JSON, decodes, seals and encodes, as an author would write it over that framework;
  without audit, limits, permissions or sandbox, all of which are on in this server.

A peer that cannot be had raises `Missing`, with the reason; a table names it and gives no figure. nginx, HAProxy and wrk are
programs of the system. The peers written in Rust (benches/peers/http) are built below target/peers-http, and Flask's packages
are installed below target/flask by their hashes. Nothing else is installed.
"""

import contextlib
import ctypes
import functools
import http.client
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = f"{ROOT}/target/x86_64-unknown-linux-musl"
BINARY = f"{TARGET}/release/quantonium"
PEERS = f"{ROOT}/benches/peers/http"
START_SECONDS = 60
PR_SET_PDEATHSIG = 1
KEPT_ALIVE = "1000000000"
# A key of the same form as ours, for peers.
PEER_KEY = "qk_0123abcd.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


class Missing(Exception):
    """A peer cannot be had here; says why."""


def end_by_signal():
    """Lets `finally` do its work when the script is told to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _die_with_parent():
    # A bench that is killed must not leave its servers.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def pinned(core, command):
    """The command, kept on this core where there is a second one."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "-c", str(core), *command]
    return command


@functools.cache
def descriptors():
    """How many files a process may have open: as many as it may have at most, for what is started too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if most == resource.RLIM_INFINITY else most
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(most, 65_536)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One that runs: where it listens, and the key that it takes."""

    def __init__(self, name, process, address, key=PEER_KEY, scheme="http"):
        self.name, self.process, self.address, self.key, self.scheme = name, process, address, key, scheme

    def pids(self):
        """Its processes: the one that was started and what came of it."""
        found, open_ = [], [self.process.pid]
        while open_:
            pid = open_.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                    open_ += map(int, file.read().split())
        return found

    def cpu_seconds(self):
        """Processor time of all threads, user and system, to the nanosecond where the kernel counts so."""
        return sum(map(cpu_seconds, self.pids()))

    def memory_kib(self, field):
        """`VmRSS` or `RssAnon` of all its processes together; pages that processes share count in each."""
        return sum(memory_kib(pid, field) for pid in self.pids())


def cpu_seconds(pid):
    spent = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                spent += int(file.read().split()[0])
        return spent / 1e9
    except FileNotFoundError:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def stop(process):
    """Ends what was started, by its id."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_for(process, address, what):
    """Until something accepts at `address`."""
    host, port = address.rsplit(":", 1)
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        time.sleep(0.001)
    raise Missing(f"{what} did not start")


def spawn(command, core, log, **more):
    return subprocess.Popen(
        pinned(core, command), stdin=subprocess.DEVNULL, stderr=log, preexec_fn=_die_with_parent, **more
    )


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="quantonium-bench-") as work:
        # The server may run under another user than the one that started it.
        os.chmod(work, 0o711)
        yield work


def ask(server, method, path, body=None):
    """One request on a connection of its own: its status and its body."""
    host, port = server.address.rsplit(":", 1)
    if server.scheme == "https":
        # Its certificate is one that was made a moment ago.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, body, {"X-API-Key": server.key, "Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


@contextlib.contextmanager
def quantonium(binary=BINARY, core=0, workers=1, options=(), tls=None, data=None, key="bench"):
    """The real server, with audit, authentication and lock-down as in production; with the certificate in folder `tls` over TLS."""
    with folder() as work, open(f"{work}/log", "w+b") as log:
        scheme = "https" if tls else "http"
        command = [binary, "serve", "--dev", "--data-dir", data or f"{work}/data", "--workers", str(workers),
                   "--listen", f"{scheme}://127.0.0.1:0" if tls else "127.0.0.1:0",
                   "--max-connections-per-address", "0", "--max-requests-per-connection", KEPT_ALIVE, *options]
        if tls:
            command += ["--tls-cert", f"{tls}/cert.pem", "--tls-key", f"{tls}/key.pem", "--max-handshakes-per-address", "0"]
        process = spawn(command, core, log, stdout=subprocess.PIPE, text=True)
        try:
            address = next((line.split("//")[1].strip() for line in process.stdout
                            if line.startswith(f"listening on {scheme}://")), None)
            if address is None:
                log.seek(0)
                sys.exit("the server did not start:\n" + log.read().decode(errors="replace"))
            with open(f"{data or work + '/data'}/admin.key", encoding="ascii") as file:
                server = Server("Quantonium", process, address, file.read().strip(), scheme)
            if key:
                status, said = ask(server, "POST", "/api/keys", '{"name":"%s"}' % key)
                if status not in (200, 201, 409):
                    sys.exit(f"the key was not made: {status} {said!r}")
            yield server
        finally:
            stop(process)


NGINX = """daemon off; master_process off; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections {most}; }}
http {{ access_log off; keepalive_requests {kept}; keepalive_timeout 1h; client_max_body_size 0;
client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
server {{ listen {address}{tls}; location / {{ return 200 "ok"; }} }} }}"""

NGINX_TLS = """ ssl; ssl_certificate {tls}/cert.pem; ssl_certificate_key {tls}/key.pem;
ssl_protocols TLSv1.3; ssl_ecdh_curve X25519"""


@contextlib.contextmanager
def nginx(core=0, tls=None):
    """nginx as one process that answers `return 200`, without files of the system."""
    if not shutil.which("nginx"):
        raise Missing("nginx is not installed")
    with folder() as work:
        address = f"127.0.0.1:{free_port()}"
        secure = NGINX_TLS.format(tls=tls) if tls else ""
        with open(f"{work}/conf", "w", encoding="ascii") as file:
            file.write(NGINX.format(work=work, address=address, kept=KEPT_ALIVE, tls=secure, most=descriptors() - 100))
        with open(f"{work}/log", "wb") as log:
            process = spawn(["nginx", "-p", work, "-e", f"{work}/error.log", "-c", f"{work}/conf"], core, log)
        try:
            wait_for(process, address, "nginx")
            yield Server("nginx", process, address, scheme="https" if tls else "http")
        finally:
            stop(process)


# A constant reply leaves before a long body has come unless the body is waited for, for which there must be room.
HAPROXY = """global
    nbthread 1
    maxconn {most}
    tune.bufsize 131072
defaults
    mode http
    timeout client 1h
    timeout server 1h
    timeout connect 5s
    timeout http-keep-alive 1h
frontend bench
    bind {address}{tls}
    http-request wait-for-body time 10s if {{ req.hdr(content-length) -m found }}
    http-request return status 200 content-type text/plain string ok
"""


@contextlib.contextmanager
def haproxy(core=0, tls=None):
    """HAProxy on one thread that answers a constant."""
    if not shutil.which("haproxy"):
        raise Missing("haproxy is not installed")
    with folder() as work:
        address = f"127.0.0.1:{free_port()}"
        secure = ""
        if tls:
            with open(f"{work}/pair.pem", "w", encoding="ascii") as pair:
                for name in ("cert", "key"):
                    with open(f"{tls}/{name}.pem", encoding="ascii") as file:
                        pair.write(file.read())
            secure = f" ssl crt {work}/pair.pem ssl-min-ver TLSv1.3 curves X25519"
        with open(f"{work}/conf", "w", encoding="ascii") as file:
            file.write(HAPROXY.format(address=address, tls=secure, most=(descriptors() - 200) // 2))
        with open(f"{work}/log", "wb") as log:
            process = spawn(["haproxy", "-db", "-f", f"{work}/conf"], core, log)
        try:
            wait_for(process, address, "haproxy")
            yield Server("HAProxy", process, address, scheme="https" if tls else "http")
        finally:
            stop(process)


@functools.cache
def built():
    """The folder of the peers in Rust, built if need be."""
    out = f"{ROOT}/target/peers-http"
    done = subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--release", "--target-dir", out],
        cwd=PEERS, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    if done.returncode != 0:
        raise Missing("the peers in Rust cannot be built: " + (done.stderr.strip().splitlines() or ["?"])[-1])
    # Built for the host, so below the folder of its name.
    for name in sorted(os.listdir(out)):
        if os.access(f"{out}/{name}/release/rate", os.X_OK):
            return f"{out}/{name}/release"
    raise Missing("the peers in Rust were built, but are not there")


@contextlib.contextmanager
def rust_peer(name, title, core=0):
    program = f"{built()}/{name}"
    address = f"127.0.0.1:{free_port()}"
    process = spawn([program, address], core, subprocess.DEVNULL, env={**os.environ, "BENCH_KEY": PEER_KEY})
    try:
        wait_for(process, address, title)
        yield Server(title, process, address)
    finally:
        stop(process)


@functools.cache
def flask_tools():
    """A folder with Flask and gunicorn, installed by their hashes if need be."""
    tools, requirements = f"{ROOT}/target/flask", f"{ROOT}/benches/peers/flask/requirements.txt"
    with open(requirements, encoding="ascii") as file:
        wanted = file.read()
    with contextlib.suppress(OSError), open(f"{tools}/installed.txt", encoding="ascii") as file:
        if file.read() == wanted:
            return tools
    shutil.rmtree(tools, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", tools],
        [f"{tools}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:",
         "--require-hashes", "--requirement", requirements],
    ):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing("Flask cannot be installed: " + (done.stderr.strip().splitlines() or ["?"])[-1])
    with open(f"{tools}/installed.txt", "w", encoding="ascii") as file:
        file.write(wanted)
    return tools


def flask_command(address, work):
    return [f"{flask_tools()}/bin/gunicorn", "--bind", address, "--workers", "1", "--worker-class", "gthread", "--threads", "4",
            "--keep-alive", "3600", "--worker-tmp-dir", work, "--log-level", "error",
            "--chdir", f"{ROOT}/benches/peers/flask", "application"]


@contextlib.contextmanager
def flask(core=0):
    """Flask under gunicorn: one process with four threads, which keeps connections alive."""
    with folder() as work:
        address = f"127.0.0.1:{free_port()}"
        command = flask_command(address, work)
        with open(f"{work}/log", "wb") as log:
            environment = {**os.environ, "BENCH_KEY": PEER_KEY, "PYTHONDONTWRITEBYTECODE": "1"}
            process = spawn(command, core, log, env=environment)
        try:
            wait_for(process, address, "gunicorn")
            server = Server("Flask, gunicorn", process, address)
            # It listens before its worker is there.
            ask(server, "GET", "/api/health")
            yield server
        finally:
            stop(process)


CONSTANT, SAME_WORK = "constant", "same work"

# Name on the command line, title, what it does, how it is started.
OTHERS = {
    "floor": ("epoll floor", CONSTANT, functools.partial(rust_peer, "floor", "epoll floor")),
    "nginx": ("nginx", CONSTANT, nginx),
    "haproxy": ("HAProxy", CONSTANT, haproxy),
    "axum": ("axum", SAME_WORK, functools.partial(rust_peer, "axum", "axum")),
    "actix": ("actix-web", SAME_WORK, functools.partial(rust_peer, "actix", "actix-web")),
    "flask": ("Flask, gunicorn", SAME_WORK, flask),
}


def start_others(stack, names, say=print):
    """Starts the named peers on `stack`: by title, and the reasons of those that are missing."""
    running, missing = {}, {}
    for name in names:
        title, _, start = OTHERS[name]
        try:
            running[title] = stack.enter_context(start())
        except Missing as reason:
            missing[title] = str(reason)
            say(f"skipped: {title}: {reason}")
    return running, missing


def peer_names(text):
    """The names of `--peers`."""
    names = [name for name in text.split(",") if name and name != "none"] if text != "all" else list(OTHERS)
    for name in names:
        if name not in OTHERS:
            sys.exit(f"no such peer: {name}; there are {', '.join(OTHERS)}")
    return names


def version_of(command):
    """What a program says of its version, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return None
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else None


def locked_versions():
    """The versions of the peers that are built and installed here, as their lists say."""
    found = {}
    for title, file, pattern in (
        ("axum", f"{PEERS}/Cargo.toml", r'(?m)^axum = .*?"=([\d.]+)"'),
        ("actix-web", f"{PEERS}/Cargo.toml", r'(?m)^actix-web = .*?"=([\d.]+)"'),
        ("Flask", f"{ROOT}/benches/peers/flask/requirements.txt", r"(?m)^flask==([\d.]+)"),
        ("gunicorn", f"{ROOT}/benches/peers/flask/requirements.txt", r"(?m)^gunicorn==([\d.]+)"),
        ("OpenBao", f"{ROOT}/tests/vault/requirements.txt", r"(?m)^openbao[\w-]*==([\d.]+)"),
    ):
        with open(file, encoding="utf-8") as text:
            version = re.search(pattern, text.read())
        if version:
            found[title] = version[1]
    return found
