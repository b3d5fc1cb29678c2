"""The parts of scripts/bench-http that a shell cannot do: bodies, idle connections, start-up times.

    bench-http.py port                                   prints a free loopback port
    bench-http.py bodies DIR                             writes the request bodies
    bench-http.py idle URL PATH FIRST COUNT [BODY]       opens FIRST, then COUNT connections, in step with stdin
    bench-http.py start BINARY DIR TIMES                 times exec to the first 200
"""

import base64
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ANSWER_BYTES = 1 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        print(probe.getsockname()[1])


def write_bodies(folder):
    for size in (256, 1024, 16384, 65536):
        plain = os.urandom(size)
        with open(f"{folder}/raw-{size}", "wb") as file:
            file.write(plain)
        with open(f"{folder}/json-{size}", "w", encoding="ascii") as file:
            file.write('{"key":"bench","plaintext":"' + base64.b64encode(plain).decode() + '"}')


def place(url):
    host, port = url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    return host, int(port)


def exchange(connection, path, body):
    """One request on a kept-alive connection; returns the status once the whole answer is there."""
    method = "GET" if body is None else "POST"
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-API-Key: {os.environ.get('BENCH_KEY', '')}"]
    if body is not None:
        head += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    connection.sendall("\r\n".join(head + ["", ""]).encode() + (body or b""))
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = connection.recv(65536)
        if not more:
            raise SystemExit(f"closed without an answer: {answer!r}")
        answer += more
    head, rest = answer.split(b"\r\n\r\n", 1)
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"content-length"]) - len(rest)
    while left > 0:
        left -= len(connection.recv(min(left, ANSWER_BYTES)))
    return int(head.split(b" ", 2)[1])


def hold_idle(url, path, first, count, body_file=None):
    body = open(body_file, "rb").read() if body_file else None
    held = []
    for goal in (first, count):
        while len(held) < goal:
            connection = socket.create_connection(place(url), timeout=10)
            status = exchange(connection, path, body)
            if status != 200:
                raise SystemExit(f"status {status} for {path}")
            held.append(connection)
        print("open", flush=True)
        sys.stdin.readline()


def time_starts(binary, folder, times):
    taken = []
    for _ in range(times):
        shutil.rmtree(folder, ignore_errors=True)
        command = [binary, "serve", "--dev", "--data-dir", folder, "--listen", "127.0.0.1:0", "--workers", "1"]
        begin = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = next(line for line in server.stdout if line.startswith("listening on "))
            with socket.create_connection(place(url.removeprefix("listening on ").strip()), timeout=10) as connection:
                status = exchange(connection, "/api/health", None)
            taken.append((time.perf_counter() - begin) * 1e3)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
        if status != 200:
            raise SystemExit(f"status {status} for /api/health")
    shutil.rmtree(folder, ignore_errors=True)
    print(
        f"start: exec to first 200 on a new data directory: least {min(taken):.1f} ms, "
        f"median {statistics.median(taken):.1f} ms, most {max(taken):.1f} ms of {times}"
    )


def main():
    match sys.argv[1:]:
        case ["port"]:
            free_port()
        case ["bodies", folder]:
            write_bodies(folder)
        case ["idle", url, path, first, count, *body]:
            hold_idle(url, path, int(first), int(count), *body)
        case ["start", binary, folder, times]:
            time_starts(binary, folder, int(times))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
