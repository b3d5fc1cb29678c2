"""The load of scripts/soak: clients of every kind, and the ledger of what a server has acknowledged to them.

Owns the ledger. Invariants: what a client was told is written down before it asks for more; a refusal counts only if it was
announced: a 503 whose code the fault of the moment explains. Whatever else comes is kept as wrong, and fails the run.
"""

import base64
import contextlib
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
from datetime import UTC, datetime
from urllib.parse import quote

from serving import ROOT, Client, Lost, drawn, encoded

# 503s that a healthy server may give at any time: a request or a sync took longer than a second.
ALWAYS = {"commit_pending", "changes_unavailable"}
# From where strangers come, who have limits of their own.
STRANGER = "127.0.0.2"
# Ciphertexts that a client keeps at hand; all of them are in the ledger.
HAND = 200
SETTLED_SECONDS = 3


class Windows:
    """Which refusals are announced, and when: a fault opens a window for codes, and closes it."""

    def __init__(self):
        self.lock, self.open, self.past = threading.Lock(), {}, []

    @contextlib.contextmanager
    def announced(self, *codes):
        begin = time.monotonic()
        with self.lock:
            for code in codes:
                self.open[code] = begin
        try:
            yield
        finally:
            with self.lock:
                for code in codes:
                    del self.open[code]
                    # A worker finds out with its next turn that it may go on.
                    self.past.append((code, begin, time.monotonic() + SETTLED_SECONDS))

    def explains(self, code, begin, end):
        """Whether a refusal of a request from `begin` to `end` was announced; without a code, by anything."""
        if code in ALWAYS:
            return True
        with self.lock:
            times = [(name, since, end) for name, since in self.open.items()] + self.past
        return any(code in ("", name) and since <= end and begin <= until for name, since, until in times)


class Ledger:
    """What was acknowledged, in files, a line of JSON each."""

    KINDS = ("success", "sealed", "signed", "key", "api_key", "wrong", "told")

    def __init__(self, place):
        os.makedirs(f"{place}/streams", exist_ok=True)
        self.place, self.lock, self.counts = place, threading.Lock(), {}
        self.files = {kind: open(f"{place}/{kind}", "a", encoding="utf-8") for kind in self.KINDS}  # noqa: SIM115
        self.windows = Windows()

    def write(self, kind, **what):
        with self.lock:
            self.files[kind].write(json.dumps(what) + "\n")
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def wrong(self, what):
        print(f"soak: WRONG: {what}", flush=True)
        self.write("wrong", what=what)

    def flush(self):
        with self.lock:
            for file in self.files.values():
                file.flush()

    def keep_samples(self, samples):
        """What the process took, for whoever looks into a run that failed."""
        with open(f"{self.place}/samples", "w", encoding="utf-8") as file:
            file.writelines(" ".join(map(str, sample)) + "\n" for sample in samples)

    def read(self, kind):
        self.flush()
        with open(f"{self.place}/{kind}", encoding="utf-8") as file:
            return [json.loads(line) for line in file]


class Refused(Exception):
    """An announced refusal."""


class Worker(threading.Thread):
    """A client that goes on until it is told to end; `step` is what it does again and again."""

    pause_seconds = 0.02
    tls = False
    credential = "X-API-Key"

    def __init__(self, name, server, ledger, seed):
        super().__init__(name=name, daemon=True)
        self.server, self.ledger, self.random = server, ledger, random.Random(f"{seed}-{name}")
        self.client = server.client(tls=self.tls)
        self.ending, self.number = threading.Event(), 0

    def run(self):
        while not self.ending.is_set():
            try:
                self.step()
            except Refused:
                self.ending.wait(0.1)
            except Lost:
                # The server was ended, or is being started: a client tries again.
                self.ledger.count("lost")
                self.ending.wait(0.1)
            except Exception as error:  # noqa: BLE001 (a client that dies in silence would show nothing)
                self.ledger.wrong(f"{self.name}: {error!r}")
                self.ending.wait(1)
            self.ending.wait(self.random.random() * 2 * self.pause_seconds)
        self.client.close()

    def ask(self, method, path, body=None, status=200, client=None, fields=None):
        """Asks until the end of the reply, judges it, and keeps its request id; a reply of another status is wrong."""
        client, begin = client or self.client, time.monotonic()
        reply = client.call(method, path, body, fields, self.credential)
        if reply.status == 503 and self.ledger.windows.explains(reply.code(), begin, time.monotonic()):
            self.ledger.count(f"announced 503: {reply.code() or 'by the face of Vault'}")
            raise Refused(reply.code())
        wanted = status if isinstance(status, tuple) else (status,)
        if reply.status not in wanted:
            self.ledger.wrong(f"{self.name}: {method} {path}: {reply}")
            raise Refused(f"{reply.status}")
        if reply.status < 300:
            self.ledger.write("success", id=reply.request_id)
        self.ledger.count(f"{reply.status // 100}xx")
        return reply

    def hold(self, holds, what):
        if not holds:
            self.ledger.wrong(f"{self.name}: {what}")


class Mixed(Worker):
    """Uses keys of its own: every operation there is, and rotates them."""

    TYPES = ({"type": "xchacha20-poly1305"}, {"type": "chacha20-poly1305"}, {"type": "xchacha20-poly1305", "derived": True})

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.keys, self.hand = [], []

    def step(self):
        if len(self.keys) < len(self.TYPES):
            options = self.TYPES[len(self.keys)]
            name = f"{self.name}-{len(self.keys)}"
            # 200: it was made, and the reply was lost.
            self.ask("POST", "/api/keys", {"name": name, **options}, (200, 201))
            self.keys.append((name, "Y29udGV4dA==" if options.get("derived") else None))
            return
        acts = ((self.seal, 30), (self.open, 25), (self.batch, 8), (self.raw, 8), (self.rewrap, 6), (self.sign, 10),
                (self.data_key, 4), (self.hash, 4), (self.sample, 4), (self.rotate, 0.3))
        self.random.choices([act for act, _ in acts], [weight for _, weight in acts])[0]()

    def drawn(self):
        self.number += 1
        size = self.random.choice((16, 64, 256, 1024, 1024, 4096, 70_000))
        return f"{self.name}-{self.number}-{self.random.random()}", size

    def keep(self, **what):
        """A ciphertext that was given out: it has to open for good."""
        self.ledger.write("sealed", **what)
        self.hand.append(what)
        if len(self.hand) > HAND:
            self.hand.pop(self.random.randrange(HAND))

    def seal(self):
        key, context = self.random.choice(self.keys)
        seed, size = self.drawn()
        made = {"key": key, "context": context, "aad": encoded(seed.encode()) if self.random.random() < 0.5 else None, "seed": seed, "size": size}
        told = self.ask("POST", "/api/encrypt", {"key": key, "plaintext": encoded(drawn(seed, size)), **given(made)}).json()
        self.keep(**made, ciphertext=told["ciphertext"])

    def open(self):
        if not self.hand:
            return
        kept = self.random.choice(self.hand)
        told = self.ask("POST", "/api/decrypt", {"key": kept["key"], "ciphertext": kept["ciphertext"], **given(kept)})
        self.hold(told.json()["plaintext"] == encoded(drawn(kept["seed"], kept["size"])), f"another plaintext for {kept['seed']}")

    def batch(self):
        key, context = self.random.choice(self.keys)
        many = [self.drawn() for _ in range(10)]
        items = [{"plaintext": encoded(drawn(seed, min(size, 1024))), **bound(context)} for seed, size in many]
        told = self.ask("POST", "/api/encrypt", {"key": key, "batch": items}).json()["results"]
        for (seed, size), result in zip(many, told, strict=True):
            self.keep(key=key, context=context, aad=None, seed=seed, size=min(size, 1024), ciphertext=result["ciphertext"])

    def raw(self):
        key, _ = self.keys[0]
        seed, size = self.drawn()
        octets = {"Content-Type": "application/octet-stream"}
        sealed = self.ask("POST", f"/api/encrypt?key={key}", drawn(seed, size), fields=octets).body
        opened = self.ask("POST", f"/api/decrypt?key={key}", sealed, fields=octets).body
        self.hold(opened == drawn(seed, size), f"another plaintext for {seed}, raw")

    def rewrap(self):
        if not self.hand:
            return
        kept = self.random.choice(self.hand)
        told = self.ask("POST", "/api/rewrap", {"key": kept["key"], "ciphertext": kept["ciphertext"], **given(kept)})
        self.keep(**{**kept, "ciphertext": told.json()["ciphertext"]})

    def sign(self):
        key, _ = self.random.choice(self.keys)
        seed, size = self.drawn()
        signature = self.ask("POST", "/api/sign", {"key": key, "input": encoded(drawn(seed, size))}).json()["signature"]
        self.ledger.write("signed", key=key, seed=seed, size=size, signature=signature)
        told = self.ask("POST", "/api/verify", {"key": key, "input": encoded(drawn(seed, size)), "signature": signature})
        self.hold(told.json()["valid"] is True, f"a signature is wrong: {seed}")
        told = self.ask("POST", "/api/verify", {"key": key, "input": encoded(drawn(seed + "!", size)), "signature": signature})
        self.hold(told.json()["valid"] is False, f"a signature of something else is right: {seed}")

    def data_key(self):
        key, context = self.random.choice(self.keys)
        told = self.ask("POST", "/api/datakey", {"key": key, **bound(context)}).json()
        opened = self.ask("POST", "/api/decrypt", {"key": key, "ciphertext": told["ciphertext"], **bound(context)}).json()
        self.hold(opened["plaintext"] == told["plaintext"], f"another data key of {key}")

    def hash(self):
        import hashlib
        seed, size = self.drawn()
        told = self.ask("POST", "/api/hash", {"input": encoded(drawn(seed, size)), "format": "base64"}).json()
        self.hold(told["sum"] == encoded(hashlib.sha256(drawn(seed, size)).digest()), f"another hash for {seed}")

    def sample(self):
        octets = self.ask("POST", "/api/entropy/sample?bytes=64", b"").body
        self.hold(len(octets) == 64 and len(set(octets)) > 8, "random bytes that are none")

    def rotate(self):
        key, _ = self.random.choice(self.keys)
        self.ask("POST", f"/api/keys/{key}/rotate", {})


class MixedTls(Mixed):
    """The same through TLS; a certificate that nobody put there is wrong."""

    tls = True
    known = set()

    def step(self):
        super().step()
        if self.client.peer is not None:
            self.hold(self.client.peer in self.known, "a certificate that nobody put there")
        if self.random.random() < 0.02:
            self.client.close()


class Vault(Worker):
    """A client of Vault's transit engine."""

    credential = "X-Vault-Token"

    def step(self):
        self.number += 1
        key, seed = f"{self.name}-0", f"{self.name}-{self.number}-{self.random.random()}"
        if self.number == 1:
            self.ask("POST", f"/v1/transit/keys/{key}", {}, (200, 204))
        ciphertext = self.ask("POST", f"/v1/transit/encrypt/{key}", {"plaintext": encoded(drawn(seed, 300))}).json()["data"]["ciphertext"]
        self.ledger.write("sealed", key=key, vault=True, context=None, aad=None, seed=seed, size=300, ciphertext=ciphertext)
        told = self.ask("POST", f"/v1/transit/decrypt/{key}", {"ciphertext": ciphertext}).json()["data"]["plaintext"]
        self.hold(told == encoded(drawn(seed, 300)), f"another plaintext for {seed}, by the face of Vault")
        mac = self.ask("POST", f"/v1/transit/hmac/{key}", {"input": encoded(seed.encode())}).json()["data"]["hmac"]
        told = self.ask("POST", f"/v1/transit/verify/{key}", {"input": encoded(seed.encode()), "hmac": mac}).json()["data"]["valid"]
        self.hold(told is True, f"an HMAC is wrong: {seed}")
        if self.number % 200 == 0:
            self.ask("POST", f"/v1/transit/keys/{key}/rotate", {}, (200, 204))


class Streams(Worker):
    """Seals streams of several chunks, keeps some of them, and opens them."""

    pause_seconds = 0.5

    def step(self):
        self.number += 1
        key, seed, size = f"{self.name}-0", f"{self.name}-{self.number}-{self.random.random()}", self.random.randrange(1, 260_000)
        if self.number == 1:
            self.ask("POST", "/api/keys", {"name": key}, (200, 201))
        plain, octets = drawn(seed, size), {"Content-Type": "application/octet-stream"}
        if self.random.random() < 0.5:
            pieces = (plain[at : at + 50_000] for at in range(0, size, 50_000))
            sealed = self.ask("POST", f"/api/stream/encrypt?key={key}", pieces, fields={**octets, "Transfer-Encoding": "chunked"}).body
        else:
            sealed = self.ask("POST", f"/api/stream/encrypt?key={key}", plain, fields=octets).body
        with open(f"{self.ledger.place}/streams/{self.number}", "wb") as file:
            file.write(sealed)
        self.ledger.write("sealed", key=key, stream=self.number, context=None, aad=None, seed=seed, size=size)
        opened = self.ask("POST", f"/api/stream/decrypt?key={key}", sealed, fields=octets).body
        self.hold(opened == plain, f"another plaintext for the stream {seed}")


def bound(context):
    return {"context": context} if context else {}


def form(view):
    """A key as it was told, without what goes on counting."""
    versions = [{name: value for name, value in version.items() if name not in ("uses", "last_used_at", "seals_reserved")}
                for version in view.get("versions", [])]
    return {**view, "versions": versions}


def is_over(view):
    """Whether a deleted key may be gone for good by now."""
    return "purge_at" in view and datetime.fromisoformat(view["purge_at"]) <= datetime.now(UTC)


class Changes(Worker):
    """Changes keys and API keys, one change at a time; after one whose fate is unknown it looks, and that stays so."""

    pause_seconds = 0.1
    KEYS = 20

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.views, self.doubt = {}, None

    def step(self):
        if self.doubt:
            return self.settle()
        if self.random.random() < 0.3:
            return self.api_key()
        name = f"{self.name}-{self.random.randrange(self.KEYS)}"
        view = self.views.get(name)
        if view is None:
            change = ("POST", "/api/keys", {"name": name, "deletion_allowed": True})
        elif "deleted_at" in view:
            change = ("POST", f"/api/keys/{name}/undelete", {})
        elif len(view["versions"]) > 12:
            change = ("PATCH", f"/api/keys/{name}", {"keep_versions": 10})
        else:
            states = [{"version": 1, "state": self.random.choice(("disabled", "enabled"))}]
            change = self.random.choice((("POST", f"/api/keys/{name}/rotate", {}), ("PATCH", f"/api/keys/{name}", {"versions": states}),
                                         ("DELETE", f"/api/keys/{name}", None)))
            if states[0]["version"] not in [version["version"] for version in view["versions"] if version["state"] != "destroyed"]:
                change = ("POST", f"/api/keys/{name}/rotate", {})
        self.doubt = (name, view)
        reply = self.ask(*change, (200, 201, 404) if change[1].endswith("/undelete") else (200, 201))
        self.doubt = None
        if reply.status == 404:
            self.hold(is_over(view), f"{name} is gone before its time: {view}")
            self.views[name] = None
        else:
            self.now(name, form(reply.json()))
        return None

    def now(self, name, view):
        self.views[name] = view
        self.ledger.write("key", name=name, view=view)

    def settle(self):
        """What a change came to that nobody answered: all of it or nothing."""
        name, before = self.doubt
        reply = self.ask("GET", f"/api/keys/{name}", status=(200, 404))
        if reply.status == 404:
            self.hold(before is None or is_over(before), f"{name} is gone: {before}")
            self.views[name] = None
        else:
            found = form(reply.json())
            if before and is_over(before) and found["created_at"] != before["created_at"]:
                before = None
            count = found["latest_version"] - (before or {}).get("latest_version", 0)
            self.hold(count in (0, 1), f"{name} has {count} more versions than before an unanswered change")
            if before and count == 0 and found != before:
                differ = {member for member in {*found, *before} if found.get(member) != before.get(member)}
                self.hold(differ <= {"versions", "deleted_at", "purge_at", "keep_versions"}, f"{name} differs in {differ}")
            self.now(name, found)
        self.ledger.count("unanswered changes")
        self.doubt = None

    def api_key(self):
        """The life of an API key: made, used, rotated with and without an overlap, revoked, refused."""
        self.number += 1
        made = self.ask("POST", "/api/auth/keys", {"name": f"{self.name}-{self.number}", "scopes": ["hash"]}, 201).json()
        with contextlib.closing(self.server.client(made["api_key"])) as used:
            self.who(used, 200)
            rotated = self.ask("POST", f"/api/auth/keys/{made['id']}/rotate", {"overlap_seconds": self.random.choice((0, 3600))}).json()
            self.who(used, 200 if rotated.get("overlap_until") else 401)
            used.key = rotated["api_key"]
            self.who(used, 200)
            if self.random.random() < 0.8:
                self.ask("POST", f"/api/auth/keys/{made['id']}/revoke", {})
                self.ledger.write("api_key", text=used.key, works=False)
                self.who(used, 401)
                if self.random.random() < 0.9:
                    self.ask("DELETE", f"/api/auth/keys/{made['id']}")
            else:
                self.ledger.write("api_key", text=used.key, works=True)

    def who(self, client, status):
        self.ask("GET", "/api/auth/profile", status=status, client=client)


class Watch(Worker):
    """Reads health, metrics and the audit log, as a machine room does."""

    pause_seconds = 0.5

    def step(self):
        self.ask("GET", "/api/audit?limit=50")
        metrics = self.ask("GET", "/api/metrics").body.decode()
        found = re.search(r"(?m)^quantonium_entropy_failing (\d+)", metrics)
        self.hold(found is None or found[1] == "0", "random bytes are failing")
        report = self.ask("GET", "/api/integrity").json()
        findings = json.dumps(report).count('"status": "failing"')
        self.hold(findings == 0, f"the process found something in itself: {report}")


class Follow(Worker):
    """Reads audit lines as they come."""

    def step(self):
        client = Client(self.server.address, self.server.admin(), timeout=5)
        try:
            client.connect()
            client.connection.request("GET", "/api/audit/stream", headers={"X-API-Key": client.key})
            reply = client.connection.getresponse()
            while not self.ending.is_set() and (line := reply.readline()):
                if line.startswith(b"data:"):
                    self.ledger.count("audit lines followed")
        except (OSError, ValueError) as error:
            raise Lost(repr(error)) from error
        except Exception as error:
            raise Lost(repr(error)) from error
        finally:
            client.close()


# -- Strangers: what they send is hostile, and they come from an address of their own. --

def corpus():
    """The requests of tests/corpus/requests.txt: name, status or nothing, bytes."""
    escapes = re.compile(r"\\(?:\((\d+)\*(.*?)\\\)|x([0-9a-fA-F]{2})|(.))", re.S)
    plain = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}

    def octets(text):
        found, at = b"", 0
        for escape in escapes.finditer(text):
            found += text[at : escape.start()].encode()
            count, repeated, digits, letter = escape.groups()
            found += octets(repeated) * int(count) if count else bytes.fromhex(digits) if digits else plain[letter]
            at = escape.end()
        return found + text[at:].encode()

    with open(f"{ROOT}/tests/corpus/requests.txt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(" | ", 2) for line in file if line.strip() and not line.startswith("#")]
    return [(name.strip(), None if status.strip() == "ok" else int(status), octets(text)) for name, status, text in lines]


def stranger(address, tls=False):
    made = socket.create_connection(address, timeout=30, source_address=(STRANGER, 0))
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(made)
    return made


class Malformed(Worker):
    """Sends the corpus of malformed requests: each gets its own 4xx, 501 or 505, or is told that it asks too often."""

    pause_seconds = 0.05

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.cases = corpus()

    def step(self):
        name, status, octets = self.random.choice(self.cases)
        try:
            with stranger(self.server.address) as sent:
                sent.sendall(octets)
                if status is None:
                    return
                head = b""
                # To the end of its body, where a refusal names its code.
                while b"\r\n" not in head or (b" 503 " in head[:13] and b"}" not in head):
                    piece = sent.recv(4096)
                    if not piece:
                        break
                    head += piece
        except OSError as error:
            raise Lost(repr(error)) from error
        found = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        # Nothing at all: the server was ended just then.
        self.ledger.count("malformed requests, answered" if found else "malformed requests, not answered")
        if found and int(found[1]) != status:
            # The route is judged with the head: what is wrong with its body is then not looked at.
            # Strangers have a share of memory and of places, and slow ones beside them hold much of it.
            code = re.search(rb'"code":"(overloaded|too_many_connections|audit_unavailable)"', head)
            allowed = found[1] in (b"404", b"429") or (found[1] == b"503" and code)
            self.hold(allowed, f"{name}: {head[:600]!r} instead of {status}")
            self.ledger.count(f"strangers who were told {found[1].decode()}{' ' + code[1].decode() if code else ''}")


class Slow(Worker):
    """Holds connections: heads and bodies that drip, replies that are not read, handshakes that stop; and breaks them off."""

    pause_seconds = 0.2
    HELD = 24

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held, self.key = [], None

    def step(self):
        if self.key is None:
            scopes = ["hash", "audit.read", "encrypt:streams-*"]
            made = self.ask("POST", "/api/auth/keys", {"name": "slow", "scopes": scopes}, 201).json()
            self.key = made["api_key"]
        for one in self.held[:]:
            try:
                if self.random.random() < 0.3:
                    one.sendall(b"x")
            except OSError:
                self.held.remove(one)
                one.close()
        if len(self.held) >= self.HELD:
            gone = self.held.pop(self.random.randrange(self.HELD))
            if self.random.random() < 0.5:
                # A reset in the middle of it.
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
        key = self.key
        kinds = (
            b"POST /api/hash HTTP/1.1\r\nHost: a\r\nX-Slow: ",
            f"POST /api/hash HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 100000\r\n\r\n".encode(),
            f"POST /api/stream/encrypt?key=streams-0 HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 900000\r\n\r\n".encode() + b"x" * 70_000,
            f"GET /api/audit?limit=1000 HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode() * 20,
            b"\x16\x03\x01\x00\xff\x01",
        )
        try:
            kind = self.random.randrange(len(kinds))
            one = socket.create_connection(self.server.tls_address if kind == 4 else self.server.address, timeout=5, source_address=(STRANGER, 0))
            self.held.append(one)
            one.sendall(kinds[kind])
        except OSError as error:
            raise Lost(repr(error)) from error
        finally:
            self.ledger.count("slow connections")

    def run(self):
        super().run()
        for one in self.held:
            one.close()


def everybody(server, ledger, seed):
    """Every client of the load, not started."""
    kinds = (("mixed-a", Mixed), ("mixed-b", Mixed), ("mixed-c", MixedTls), ("vault", Vault), ("streams", Streams), ("changes-a", Changes),
             ("changes-b", Changes), ("watch", Watch), ("follow", Follow), ("malformed", Malformed), ("slow", Slow))
    return [kind(name, server, ledger, seed) for name, kind in kinds]


def given(sealed):
    """What has to be given beside a ciphertext of the ledger."""
    return {member: sealed[name] for name, member in (("context", "context"), ("aad", "associated_data")) if sealed[name]}


def opened_again(client, sealed, place):
    """Whether a stream of the ledger, or what came by the face of Vault, opens to what was sealed."""
    key, plain = quote(sealed["key"]), drawn(sealed["seed"], sealed["size"])
    if "stream" in sealed:
        with open(f"{place}/streams/{sealed['stream']}", "rb") as file:
            reply = client.call("POST", f"/api/stream/decrypt?key={key}", file.read(), {"Content-Type": "application/octet-stream"})
        return reply.status == 200 and reply.body == plain
    reply = client.call("POST", f"/v1/transit/decrypt/{key}", {"ciphertext": sealed["ciphertext"]}, credential="X-Vault-Token")
    return reply.status == 200 and base64.b64decode(reply.json()["data"]["plaintext"]) == plain
