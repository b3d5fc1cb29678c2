"""Sends the same seeded requests to an OpenBao and to a server, and compares the replies field by field.

    python differential.py URL TOKEN_FILE [SEED [STEPS]]

Values that are random are compared by their form. What may differ stands in ALLOWED, with why; every entry must be met,
so that none stays that is not needed. Prints `compared: N` at the end.
"""

import base64
import random
import re
import sys

from openbao import Server, openbao

# Name, and why it may be so.
ALLOWED = {
    "warnings": "OpenBao warns of members that it does not know; this server passes them over",
    "malformed item": "OpenBao answers 500 to a batch with a malformed item; this server answers the item, with 400",
    "context on a plain key": "OpenBao passes it over; this server refuses what does not bind",
    "key exists with other options": "OpenBao answers 200 and changes nothing; this server says that it is another key",
    "size of an HMAC key": "OpenBao needs key_size and answers 500 without; this server takes 32",
    "associated data of a rewrap": "OpenBao passes it over, and cannot rewrap what is bound to it; this server can",
    "unknown algorithm": "both refuse, OpenBao takes SHA-3 and SHA-224 too",
}


def b64(data):
    return base64.b64encode(data).decode()


def shape(value, name=""):
    """The value with everything that is random or secret replaced by its form."""
    if name in ("ciphertext", "hmac") and isinstance(value, str):
        version, _, rest = value.rpartition(":")
        return f"{version}:{len(rest)}"
    if name == "request_id":
        return bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value))
    if name in ("error", "errors"):
        return bool(value)
    if name == "random_bytes":
        return len(value)
    if name == "keys" and isinstance(value, dict):
        return {version: isinstance(time, int) for version, time in value.items()}
    if isinstance(value, dict):
        return {name: shape(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return value


class Run:
    def __init__(self, theirs, ours, seed):
        self.servers = (theirs, ours)
        self.random = random.Random(seed)
        self.kept = []  # key name, ciphertext there, ciphertext here
        self.macs = []
        self.compared = 0
        self.met = set()

    def both(self, method, path, body=None, bodies=None, allow=(), forget=()):
        """Asks both, compares, and gives both replies."""
        bodies = bodies or (body, body)
        replies = [server.ask(method, "transit/" + path, sent) for server, sent in zip(self.servers, bodies)]
        (there, theirs), (here, ours) = replies
        self.compared += 1
        for name in allow:
            if (there, shape(theirs)) != (here, shape(ours)):
                assert here < 500, (method, path, bodies, replies)
                self.met.add(name)
                return None
        theirs, ours = shape(theirs), shape(ours)
        if theirs and theirs.get("warnings"):
            self.met.add("warnings")
            theirs["warnings"] = None
        for name in forget:
            for reply in (theirs, ours):
                if reply and reply.get("data"):
                    reply["data"].pop(name, None)
        assert (there, theirs) == (here, ours), f"{method} {path} {bodies}\nOpenBao: {there} {theirs}\nhere:    {here} {ours}"
        return [reply for _, reply in replies]

    def plaintext(self):
        return b64(self.random.randbytes(self.random.choice((0, 1, 2, 3, 31, 64, 1000))))

    def step(self):
        pick = self.random.random()
        name = self.random.choice(("chacha", "xchacha", "derived", "convergent"))
        bound = {"context": b64(b"tenant")} if name in ("derived", "convergent") else {}
        if self.random.random() < 0.3:
            bound["associated_data"] = b64(b"data")
        if pick < 0.25:
            text = self.plaintext()
            replies = self.both("POST", f"encrypt/{name}", {"plaintext": text, **bound})
            sealed = [reply["data"]["ciphertext"] for reply in replies]
            self.kept.append((name, bound, sealed, text))
        elif pick < 0.45 and self.kept:
            name, bound, sealed, _ = self.random.choice(self.kept)
            path = "decrypt" if "associated_data" in bound else self.random.choice(("decrypt", "rewrap"))
            self.both("POST", f"{path}/{name}", bodies=[{"ciphertext": one, **bound} for one in sealed])
        elif pick < 0.55:
            items = [{"plaintext": self.plaintext(), "reference": str(at), **bound} for at in range(self.random.randrange(1, 5))]
            body = {"batch_input": items}
            if self.random.random() < 0.5:
                items.append({"plaintext": "!!", **bound})
                if self.random.random() < 0.5:
                    body["partial_failure_response_code"] = 207
            self.both("POST", f"encrypt/{name}", body)
        elif pick < 0.65:
            algorithm = self.random.choice(("", "/sha2-256", "/sha2-384", "/sha2-512"))
            text = self.plaintext()
            mac = [reply["data"]["hmac"] for reply in self.both("POST", f"hmac/{name}{algorithm}", {"input": text})]
            self.both("POST", f"verify/{name}{algorithm}", bodies=[{"input": text, "hmac": one} for one in mac])
            self.both("POST", f"verify/{name}{algorithm}", bodies=[{"input": text + "YQ==" if not text.endswith("=") else "YQ==", "hmac": one} for one in mac])
        elif pick < 0.7:
            kind = self.random.choice(("plaintext", "wrapped"))
            bits = self.random.choice((128, 256, 512, 100))
            self.both("POST", f"datakey/{kind}/{name}", {"bits": bits, **bound}, forget=("plaintext",))
        elif pick < 0.75:
            self.both("POST", f"random/{self.random.choice((1, 32, 1000, 0))}", {})
        elif pick < 0.8:
            algorithm = self.random.choice(("sha2-256", "sha2-384", "sha2-512"))
            self.both("POST", f"hash/{algorithm}", {"input": self.plaintext(), "format": self.random.choice(("hex", "base64"))})
        elif pick < 0.85:
            self.both("POST", f"keys/{name}/rotate", {})
        elif pick < 0.9:
            self.both("GET", f"keys/{name}")
            self.both("LIST", "keys")
        else:
            self.refusals(name)

    def refusals(self, name):
        method, path, body = self.random.choice(
            (
                ("GET", "keys/none", None),
                ("POST", "encrypt/none", {"plaintext": ""}),
                ("POST", "decrypt/none", {"ciphertext": "vault:v1:AAAA"}),
                ("POST", "keys/none/rotate", {}),
                ("POST", f"encrypt/{name}", {}),
                ("POST", f"decrypt/{name}", {}),
                ("POST", f"decrypt/{name}", {"ciphertext": "rubbish"}),
                ("POST", f"encrypt/{name}", {"plaintext": "!!"}),
                ("POST", f"encrypt/{name}", {"plaintext": "", "key_version": 999, "context": b64(b"c")} if name in ("derived", "convergent") else {"plaintext": "", "key_version": 999}),
                ("POST", f"encrypt/{name}", {"batch_input": []}),
                ("POST", f"verify/{name}", {"input": ""}),
                ("POST", f"verify/{name}", {"input": "", "hmac": "junk"}),
                ("POST", f"hmac/{name}", {}),
                ("POST", f"sign/{name}", {"input": ""}),
                ("POST", f"keys/{name}/config", {"min_decryption_version": 999}),
                ("POST", f"keys/{name}/config", {"auto_rotate_period": "1m"}),
                ("POST", f"keys/{name}/trim", {"min_available_version": 1}),
                ("POST", f"keys/{name}/trim", {}),
                ("DELETE", f"keys/{name}", None),
                ("DELETE", "keys/none", None),
                ("POST", "keys/other", {"type": "nonsense"}),
                ("GET", f"export/encryption-key/{name}", None),
                ("GET", "export/encryption-key/none", None),
                ("POST", "random", {"format": "x"}),
                ("POST", "hash", {}),
                ("GET", f"encrypt/{name}", None),
                ("GET", "nothing", None),
            )
        )
        self.both(method, path, body)

    def life(self):
        """Bounds, trimming and the end of a key."""
        self.both("POST", "keys/life", {"type": "chacha20-poly1305"})
        for body in ({}, {"min_decryption_version": 0}, {"deletion_allowed": False, "auto_rotate_period": "24h"}):
            self.both("POST", "keys/life/config", body)
        for _ in range(3):
            self.both("POST", "keys/life/rotate", {})
        self.both("POST", "keys/life/config", {"min_decryption_version": 2})
        self.both("POST", "keys/life/config", {"min_encryption_version": 1})
        self.both("POST", "keys/life/config", {"min_encryption_version": 3})
        for oldest in (3, 2, 1):
            self.both("POST", "keys/life/trim", {"min_available_version": oldest})
        self.both("POST", "keys/life/config", {"deletion_allowed": True})
        self.both("DELETE", "keys/life/soft-delete")
        self.both("GET", "keys/life")
        self.both("POST", "encrypt/life", {"plaintext": ""})
        self.both("POST", "keys/life/soft-delete-restore")
        self.both("DELETE", "keys/life")
        self.both("GET", "keys/life")

    def differences(self):
        """What is not the same on purpose."""
        self.both("POST", "encrypt/chacha", {"batch_input": [{}]}, allow=("malformed item",))
        self.both("POST", "encrypt/chacha", {"plaintext": "", "context": b64(b"c")}, allow=("context on a plain key",))
        self.both("POST", "keys/chacha", {"type": "xchacha20-poly1305"}, allow=("key exists with other options",))
        self.both("POST", "keys/mac", {"type": "hmac"}, allow=("size of an HMAC key",))
        bound = {"plaintext": "", "associated_data": b64(b"a")}
        sealed = [reply["data"]["ciphertext"] for reply in self.both("POST", "encrypt/chacha", bound)]
        bodies = [{"ciphertext": one, "associated_data": b64(b"a")} for one in sealed]
        self.both("POST", "rewrap/chacha", bodies=bodies, allow=("associated data of a rewrap",))
        self.both("POST", "hash/sha3-256", {"input": ""}, allow=("unknown algorithm",))


def main():
    ours = Server(sys.argv[1], open(sys.argv[2], encoding="ascii").read().strip())
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 400
    with openbao() as theirs:
        theirs.data("POST", "transit/config/keys", {"disable_upsert": True})
        run = Run(theirs, ours, seed)
        run.both("LIST", "keys")
        run.both("POST", "keys/chacha", {"type": "chacha20-poly1305"})
        run.both("POST", "keys/xchacha", {"type": "xchacha20-poly1305"})
        run.both("POST", "keys/derived", {"type": "chacha20-poly1305", "derived": "true"})
        run.both("POST", "keys/convergent", {"type": "xchacha20-poly1305", "derived": True, "convergent_encryption": True})
        run.both("POST", "keys/chacha/rotate", {"unknown": 1})
        for number in range(steps):
            try:
                run.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, step {number}: {error}") from None
        run.life()
        run.differences()
        assert run.met == set(ALLOWED), f"allowed and not met: {set(ALLOWED) - run.met}"
        print(f"compared: {run.compared}")


main()
