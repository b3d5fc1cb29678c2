"""The words, tables and plots of docs/BENCHMARKS.md, made of what scripts/bench-report measured.

Owns the list of promises: each with the section that shows it and how its figure is read. What was not measured is named, and never
filled in.
"""

OURS = "Quantonium"
LOADS = {
    "health": "health", "health-16-pipelined": "health, 16 pipelined", "encrypt-json-256": "encrypt 256 B",
    "encrypt-json-1k": "encrypt 1 KiB", "encrypt-json-16k": "encrypt 16 KiB", "encrypt-json-64k": "encrypt 64 KiB",
    "encrypt-raw-1k": "encrypt 1 KiB, raw", "encrypt-raw-16k": "encrypt 16 KiB, raw", "encrypt-96-bit-256": "encrypt 256 B, 96-bit nonces",
}
CONSTANT = ("epoll floor", "nginx", "HAProxy")
NOTHING = "–"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number(value):
    if value is None or value != value:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def find(held, step, **wanted):
    """The row of a step, or nothing."""
    rows = held.get(step, {}).get("rows", ())
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def value(row, key):
    return None if row is None or row.get("errors") else row.get(key)


def ratio(held, load, server):
    """This server's processor time relative to a peer's; nothing if requests of either failed."""
    own = find(held, "http", load=load, server=OURS)
    return None if own is None or own["errors"] else value(find(held, "http", load=load, server=server), "ratio")


def seal(held, size, peer="quantonium"):
    row = find(held, "seal", bytes=size)
    return row["ratios"].get(peer) if row else None


def memory(held, server, tls, key):
    return value(find(held, "memory", server=server, tls=tls), key)


def kib(figure):
    return None if figure is None else figure / 1024


def promises(held):
    """Section, what is promised, the bound, whether it is a most, and what was measured."""
    start = lambda title: value(find(held, "start", server=title), "median_ms")
    calls = lambda load: value(find(held, "syscalls", load=load), "calls")
    vault = lambda load: value(find(held, "vault", load=load, server=OURS), "ratio")
    tls = lambda load: value(find(held, "tls", load=load, server="nginx"), "ratio")
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        flags = set(file.read().split())
    vectors = (1.4, 1.1, 1.05) if "avx512ifma" in flags else (1.1, 0.6, 0.55) if "avx2" in flags else (0.85, 0.34, 0.32)
    short = (4.0, 2.0) if "avx2" in flags else (3.8, 1.7)
    for size, least in zip((16, 256, 1024, 16384, 1048576), short + vectors):
        yield "seal", f"seal of {size:,} bytes, speed relative to OpenSSL", least, False, seal(held, size)
    for load, most in (("encrypt-json-256", 1.6), ("encrypt-json-16k", 4.0), ("health", 0.85), ("health-16-pipelined", 0.15)):
        yield "requests", f"{LOADS[load]}, processor time relative to nginx", most, True, ratio(held, load, "nginx")
    for load, most in (("encrypt-json-256", 0.70), ("encrypt-json-1k", 0.70), ("encrypt-json-16k", 0.55), ("encrypt-json-64k", 0.55)):
        yield "requests", f"{LOADS[load]}, processor time relative to axum doing the same work", most, True, ratio(held, load, "axum")
    yield "system-calls", "system calls for an encrypt of 256 B at 64 connections", 2.1, True, calls("encrypt-json-256")
    yield "tls", "full handshake, X25519, processor time relative to nginx", 0.55, True, tls("full handshake, x25519")
    for load, most in (("encrypt 256 B", 0.10), ("encrypt 16384 B", 0.10), ("encrypt 100 x 256 B", 0.20)):
        yield "vault", f"{load}, processor time relative to OpenBao", most, True, vault(load)
    yield "memory", "resident memory after the start, MiB", 2, True, kib(memory(held, OURS, False, "rss_kib"))
    yield "memory", "the same with TLS, MiB", 4, True, kib(memory(held, OURS, True, "rss_kib"))
    yield "memory", "bytes for each idle connection", 256, True, memory(held, OURS, False, "get_bytes")
    yield "memory", "KiB for each idle TLS connection", 9, True, kib(memory(held, OURS, True, "get_bytes"))
    yield "start", "exec to the first reply, ms", 15, True, start("Quantonium, new data directory")
    yield "start", "the same over TLS, ms", 50, True, start("Quantonium over TLS")
    fleet = find(held, "fleet", load="encrypt-json-256", server="of a fleet")
    yield "fleet", "encrypt 256 B by a server of a fleet, processor time relative to a single one", 1.05, True, value(fleet, "ratio")
    calm = held.get("fleet", {}).get("course", {}).get("calm", {})
    yield "fleet", "a change until another server shows it, 99th percentile, ms", 1000, True, calm.get("seen", {}).get("p99_ms")
    size = held["machine"].get("binary_bytes")
    yield "size", "stripped binary with TLS, MiB", 7.3, True, size / 1024**2 if size else None


def plots(held, draw):
    """Name and text of each plot that there are figures for."""
    made = {}
    rows = [row for row in held.get("http", {}).get("rows", ()) if not row["errors"]]
    groups = []
    for load in ("health", "encrypt-json-256", "encrypt-json-1k", "encrypt-json-16k", "encrypt-json-64k"):
        own = find(held, "http", load=load, server=OURS)
        if own and own["cpu_us"] and not own["errors"]:
            groups.append((LOADS[load], [(row["server"], row["cpu_us"] / own["cpu_us"]) for row in rows if row["load"] == load]))
    if groups:
        made["requests"] = draw.bars("Processor time of one request, Quantonium = 1", groups, logarithmic=True)
    groups = []
    for load, rate in dict.fromkeys((row["load"], row["rate"]) for row in held.get("latency", {}).get("rows", ())):
        chosen = [row for row in held["latency"]["rows"] if (row["load"], row["rate"]) == (load, rate) and not row["errors"]]
        groups += [(f"{LOADS[load]}, {rate:,} requests each second, {title}", [(row["server"], row[key]) for row in chosen])
                   for key, title in (("p50_us", "median"), ("p99_us", "99th percentile")) if chosen]
    if groups:
        made["latency"] = draw.bars("Microseconds to the reply at a fixed rate", groups, logarithmic=True)
    rows = held.get("memory", {}).get("rows", ())
    title = lambda row: row["server"] + (", TLS" if row["tls"] else "")
    if rows:
        groups = [("resident memory at start, MiB", [(title(row), row["rss_kib"] / 1024) for row in rows])]
        groups += [(f"bytes for each idle connection after a {name}", [(title(row), max(row[key], 1)) for row in rows])
                   for key, name in (("get_bytes", "GET"), ("post_bytes", "POST of 16 KiB"))]
        made["memory"] = draw.bars("Memory", groups, logarithmic=True)
    rows = held.get("start", {}).get("rows", ())
    if rows:
        made["start"] = draw.bars("Exec to the first reply, milliseconds", [("median", [(row["server"], row["median_ms"]) for row in rows])])
    rows = held.get("tls", {}).get("rows", ())
    if rows:
        loads = dict.fromkeys(row["load"] for row in rows)
        groups = [(load, [(row["server"], row["cpu_us"]) for row in rows if row["load"] == load]) for load in loads]
        made["tls"] = draw.bars("Processor time over TLS, microseconds", groups, logarithmic=True)
    rows = held.get("seal", {}).get("rows", ())
    if rows:
        names = list(rows[0]["ratios"])
        made["seal"] = draw.lines("Speed of sealing relative to OpenSSL (above 1 is faster)", "bytes",
                                  [(name, [(row["bytes"], row["ratios"][name]) for row in rows]) for name in names])
    rows = [row for row in held.get("connections", {}).get("rows", ()) if not row["errors"]]
    if len(rows) > 1:
        points = [(row["connections"], row["cpu_us"]) for row in rows]
        made["connections"] = draw.lines("Processor time of an encrypt of 256 B by busy connections, microseconds", "connections", [(OURS, points)])
    points = lookups(held)
    if points:
        made["lookups"] = draw.lines("Time to find a key, nanoseconds", "keys", points)
    found = held.get("fleet", {}).get("course", {})
    if found.get("changes"):
        series = [(title, [(row[0], row[place]) for row in found["changes"]])
                  for title, place in (("the reply", 1), ("another server shows it", 2))]
        marks = [(found["killed_at"], "leader killed")] if found["killed_at"] else []
        made["fleet"] = draw.course("Milliseconds from a change's request to its reply, and from there until", "seconds", series, marks)
    return made


def lookups(held):
    suites = held.get("floors", {}).get("suites", {})
    series = []
    for title, suite, first, last in (("key of the ring", "keyring", "keyring/", "/lookup"), ("API key, with its check", "auth", "auth/api key among/", ""),
                                      ("address", "limiter", "limiter/address among/", "")):
        found = [(name.removeprefix(first).removesuffix(last), row["nanos"]) for name, row in suites.get(suite, {}).items()
                 if name.startswith(first) and name.endswith(last)]
        points = sorted((int(count), nanos) for count, nanos in found if count.isdigit())
        if points:
            series.append((title, points))
    return series


def head(held):
    at = held["machine"]
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench-report`, which measures all of it anew: change `scripts/bench_report_text.py`, not this page. Times move from machine to",
        "machine: what counts is the ratio of two servers whose rounds alternated on one core, the least of all rounds. This server runs",
        "with authentication, audit log, limits and lock-down as in production; no peer has an audit log or a sandbox.",
        "",
        table(("measured", ""), [
            ("date", at["date"]),
            ("sources", f"commit {at['commit']}, portable build"),
            ("processor", f"{at['cores']} cores of {at['processor']}; " + (", ".join(at["flags"]) or "none of the extensions that are used")),
            ("memory, system", f"{at['memory_gib']} GiB; {at['system']}, Linux {at['kernel']}"),
            ("peers", ", ".join(f"{name} {version}" for name, version in at["versions"].items())),
            ("load before the first bench", f"{at['load']:.2f}" + ("" if at["load"] < 0.5 else
             ": **the machine did other work too**; the figures, and above all those of the time to the reply, are to be taken again on one that does not")),
            ("took", f"{at['minutes']:.0f} minutes, what had to be built included"),
        ]),
    ]
    return "\n".join(lines)


def promised(held):
    rows = []
    for section, what, bound, most, figure in promises(held):
        if figure is None or figure != figure:
            verdict = "not measured"
        elif (figure <= bound) == most or figure == bound:
            verdict = "kept"
        else:
            verdict = "**missed**"
        rows.append((f"[{what}](#{section})", f"at {'most' if most else 'least'} {bound:g}", number(figure), verdict))
    return "## Promises\n\nWhat [SPECIFICATION.md](SPECIFICATION.md) promises, beside what was measured.\n\n" + table(("promise", "figure", "measured", ""), rows)


def section(title, about, plot, made, *tables):
    image = [f"![{title}](benchmarks/{plot}.svg)"] if plot in made else []
    return "\n\n".join([f"## {title}", about, *image, *(one for one in tables if one)])


def command(words):
    return f"Command: `{words}`."


def requests(held, made):
    step = held.get("http", {})
    rows, servers = step.get("rows", ()), list(dict.fromkeys(row["server"] for row in step.get("rows", ())))
    body = []
    for load, title in LOADS.items():
        own = find(held, "http", load=load, server=OURS)
        if not own:
            continue
        said = "some requests failed" if own["errors"] else f"{number(own['cpu_us'])} µs"
        body.append((title, said, number(own["rate"]), *(number(ratio(held, load, server)) for server in servers[1:])))
    about = ("Processor time that one request costs the server, by 64 connections that are kept alive: this server's, and what it is relative to each peer's "
             "(below 1: this server takes less). The epoll floor, nginx and HAProxy read the request and answer a constant. axum, actix-web and Flask check an API "
             "key, read the JSON, decode, seal and encode, those in Rust with this server's own cipher and base64, so that the difference is the server. "
             + command("scripts/bench-http --peers all"))
    times = table(("load", *servers), [
        (title, *(number(value(find(held, "http", load=load, server=server), "cpu_us")) for server in servers))
        for load, title in LOADS.items() if find(held, "http", load=load, server=OURS)]) if rows else ""
    ratios = table(("load", "this server", "requests/s", *(f"to {server}" for server in servers[1:])), body) if body else ""
    return section("Requests", about, "requests", made, ratios, "The times themselves, in microseconds:" if rows else "", times)


def latency(held, made):
    rows = [(LOADS[row["load"]], f"{row['rate']:,}", row["server"], *(number(row[key]) if not row["errors"] else NOTHING for key in ("p50_us", "p99_us", "p999_us")),
             str(row["errors"])) for row in held.get("latency", {}).get("rows", ())]
    about = ("Microseconds from the moment at which a request was due to the end of its reply, 64 connections, at a fixed rate: what a server that stops for a while owes is "
             "counted. The 99th percentile and beyond say as much of the machine as of the server. " + command("scripts/bench-http --peers all --latency"))
    return section("Time to the reply", about, "latency", made, table(("load", "requests/s", "server", "p50", "p99", "p99.9", "errors"), rows) if rows else "")


def system_calls(held, made):
    rows = [(LOADS[row["load"]], number(row["calls"]), "; ".join(f"`{name}` {count:.3f}" for name, count in row["each"].items()) or NOTHING, row["by"])
            for row in held.get("syscalls", {}).get("rows", ())]
    about = "System calls of the server for each request, at 64 busy connections. " + command("scripts/bench-http --syscalls")
    return section("System calls", about, "", made, table(("load", "calls", "of them", "counted by"), rows) if rows else "")


def memories(held, made):
    rows = [(row["server"] + (", TLS" if row["tls"] else ""), number(row["rss_kib"] / 1024), number(row["anon_kib"] / 1024), number(row["get_bytes"]), number(row["post_bytes"]))
            for row in held.get("memory", {}).get("rows", ())]
    about = ("Resident memory at start, and by how much what is not of files grows for each connection that stays open and idle after its request. What the kernel keeps "
             "for a connection is not in it. " + command("scripts/bench-memory --peers all"))
    return section("Memory", about, "memory", made, table(("server", "RSS, MiB", "of it not of files", "bytes/connection after a GET", "after a POST of 16 KiB"), rows) if rows else "")


def starts(held, made):
    rows = [(row["server"], number(row["least_ms"]), number(row["median_ms"]), number(row["most_ms"])) for row in held.get("start", {}).get("rows", ())]
    about = ("Milliseconds from exec to the first reply; of this server the self-test, the store and the lock-down included, none of which a peer has. "
             + command("scripts/bench-start --peers all"))
    return section("Start", about, "start", made, table(("server", "least", "median", "most"), rows) if rows else "")


def tls(held, made):
    rows = held.get("tls", {}).get("rows", ())
    servers = list(dict.fromkeys(row["server"] for row in rows))
    body = []
    for load in dict.fromkeys(row["load"] for row in rows):
        own = find(held, "tls", load=load, server=OURS)
        body.append((load, number(own["cpu_us"]), *(number(find(held, "tls", load=load, server=server)["ratio"]) for server in servers[1:])))
    about = ("Processor time of the server in microseconds, TLS 1.3, one certificate on P-256 for all. `hybrid` is X25519 with ML-KEM-768, which OpenSSL 3.0 has not: it is "
             "compared with what the peer takes for X25519 alone. " + command("make bench-tls ARGS='--peers all'"))
    return section("TLS", about, "tls", made, table(("load", "this server", *(f"relative to {server}" for server in servers[1:])), body) if body else "")


def vault(held, made):
    rows = held.get("vault", {}).get("rows", ())
    body = []
    for load in dict.fromkeys(row["load"] for row in rows):
        own, other = (find(held, "vault", load=load, server=server) for server in (OURS, "OpenBao"))
        if own and other:
            body.append((load, number(own["ratio"]), *(f"{number(own[key])} / {number(other[key])}" for key in ("cpu_us", "p50_us", "p99_us"))))
    about = ("The load of a client of Vault's: one connection, one request after the other. Processor time relative to OpenBao's, and microseconds of both. OpenBao runs in memory "
             "and without an audit device. " + command("scripts/bench-vault"))
    sizes = [(row["server"], number(row["start_mib"]), number(row["after_mib"]), number(row["binary_mb"])) for row in held.get("vault", {}).get("memory", ())]
    return section("Vault", about, "", made, table(("load", "relative to OpenBao", "CPU, both", "p50, both", "p99, both"), body) if body else "",
                   table(("server", "RSS at start, MiB", "after the load", "binary, MB"), sizes) if sizes else "")


def seals(held, made):
    step = held.get("seal", {})
    rows = step.get("rows", ())
    names = list(rows[0]["ratios"]) if rows else []
    about = (f"ChaCha20-Poly1305 in place with 16 bytes of associated data: speed relative to {step.get('yardstick', 'OpenSSL')} through EVP with one context (above 1: faster). `chacha20` is the same "
             "as `quantonium` with that crate's cipher in place of our own, `avx2` and `portable` with another MAC as well; `crate` is `chacha20poly1305` with the same flags. " + command("make bench-peers"))
    return section("Seal", about, "seal", made, table(("bytes", *names), [(f"{row['bytes']:,}", *(number(row["ratios"][name]) for name in names)) for row in rows]) if rows else "")


def scale(held, made):
    rows = [(f"{row['connections']:,}", number(row["cpu_us"]), number(row["rate"]), str(row["errors"])) for row in held.get("connections", {}).get("rows", ())]
    found = [(title, f"{count:,}", number(nanos)) for title, points in lookups(held) for count, nanos in points]
    about = ("What an `encrypt` of 256 B costs from one busy connection up, one worker (beyond some thousand the start of the connections is a good part of the time), and what it takes "
             "to find a key among few and among many, in an order that caches do not foresee. "
             + command("scripts/bench-http --peers none --only encrypt-json-256 --connections N") + " " + command("scripts/bench-compare --only keyring,auth,limiter"))
    images = ["![Connections](benchmarks/connections.svg)"] if "connections" in made else []
    images += ["![Lookups](benchmarks/lookups.svg)"] if "lookups" in made else []
    return "\n\n".join(["## Scale", about, *images, table(("connections", "CPU µs", "requests/s", "errors"), rows) if rows else "",
                        table(("what is found", "among", "ns"), found) if found else ""]).strip()


def fleet(held, made):
    step = held.get("fleet", {})
    rows = []
    for load in dict.fromkeys(row["load"] for row in step.get("rows", ())):
        single, other = (find(held, "fleet", load=load, server=server) for server in ("single", "of a fleet"))
        rows.append((LOADS[load], number(value(single, "cpu_us")), number(value(other, "cpu_us")), number(value(other, "ratio"))))
    found = step.get("course", {})
    calm = found.get("calm", {})
    times = [(title, f"{calm['count']:,}", *(number(calm[key][figure]) for figure in ("p50_ms", "p99_ms", "most_ms")))
             for key, title in (("commit", "a change, to its reply"), ("seen", "from there until another server shows it")) if key in calm]
    about = ("Three servers and three members of etcd with their disk, all on this machine. Processor time of one request to a server with a journal and to one of the fleet, in turn, the time of "
             "the process that speaks to etcd included; then the time that changes take, one after the other, as a client sees it. " + command("scripts/bench-fleet"))
    lag, words = found.get("lag"), []
    if step.get("load", 0) >= 0.5:
        words.append(f"**The machine did other work too** (load {step['load']:.0f} before the first round): ratios are less certain, and the times of changes longer, than on one that does not.")
    if lag:
        words.append(f"`quantonium_store_lag_seconds` of the other server: half of {lag['count']:,} below {number(lag['p50_ms'])} ms, 99 of 100 below {number(lag['p99_ms'])} ms.")
    if found.get("gap_ms"):
        words.append(f"When etcd's leader was killed, the longest change took {number(found['gap_ms'])} ms, and {found['failed']} were refused.")
    return section("Fleet", about, "fleet", made, table(("load", "single, CPU µs", "of a fleet, CPU µs", "ratio"), rows) if rows else "",
                   table(("milliseconds", "changes", "p50", "p99", "most"), times) if times else "", " ".join(words))


def size(held):
    binary = held["machine"].get("binary_bytes")
    return f"## Size\n\nThe stripped static binary with TLS has {number(binary)} bytes." if binary else "## Size\n\nNot measured."


MISSING = (
    "Throughput from one core to all: the client needs a core of its own, which a machine with two does not leave. The script measures one worker on one core.",
    "The size of the image: `make image` says it. It is the binary and at most 64 KiB.",
    "Streams of 1 GiB: `scripts/stream-memory` measures their memory, nothing their speed beside a peer.",
    "Start and idle memory of OpenBao in the manner of the others: it has to be unsealed first. Its memory at start is in [Vault](#vault).",
    "More than 100,000 keys of the ring, and more than the 10,000 API keys that there may be.",
)


def missing(held):
    reasons = [f"{title}: {reason}." for step in held.values() if isinstance(step, dict) for title, reason in step.get("missing", {}).items()]
    reasons += [f"The step `{name}` of this run: {reason}." for name, reason in held["machine"].get("failed", {}).items()]
    return "## What is missing\n\n" + "\n".join(f"- {line}" for line in [*dict.fromkeys(reasons), *MISSING])


def document(held, made):
    parts = [head(held), promised(held)]
    parts += [write(held, made) for write in (requests, latency, system_calls, memories, starts, tls, vault, seals, scale, fleet)]
    return "\n\n".join([*parts, size(held), missing(held)]) + "\n"
