"""Quantonium's server and a program of its own read one another.

    python interop.py http://127.0.0.1:8080 DATA_DIRECTORY/admin.key

Makes exportable keys of every type, takes their material out, and then seals here what the server opens and opens
here what the server sealed: everything that docs/FORMATS.md describes for messages. Each combination that agreed is
one line `covered: ...` on standard output; the first that does not ends the program with an error. What a server
must refuse is tried as well, so that agreement is not indifference.
"""

import base64
import http.client
import itertools
import json
import os
import sys
from urllib.parse import quote, urlencode, urlsplit

import quantonium_formats as formats

AEAD_TYPES = ("xchacha20-poly1305", "chacha20-poly1305")
CONTEXT = b"tenant 7"
AAD = b"order 47 \xff\x00"
PLAINTEXT = bytes(range(256)) + "grün".encode()
STREAM_LENGTHS = (0, 1, 65_535, 65_536, 65_537, 131_072, 400_001)
KEYSTREAM_LENGTHS = (1, 63, 64, 1_000, 4_096)


def b64(data):
    return base64.b64encode(data).decode()


def unb64(text):
    return base64.b64decode(text, validate=True)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def covered(*words):
    print("covered:", *words, flush=True)


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


class Server:
    """One connection to the server, with the admin key."""

    def __init__(self, url, key):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self.key = key

    def exchange(self, method, target, body, content_type):
        headers = {"X-API-Key": self.key}
        if content_type:
            headers["Content-Type"] = content_type
        self.connection.request(method, target, body=body, headers=headers)
        reply = self.connection.getresponse()
        return reply.status, reply.read()

    def json(self, method, target, body, wanted=(200,)):
        """Sends and reads JSON."""
        data = json.dumps(body).encode() if body is not None else None
        status, reply = self.exchange(method, target, data, "application/json" if data else None)
        expect(status in wanted, f"{method} {target}: {status} {reply[:300]!r}")
        return json.loads(reply) if reply else {}

    def post(self, target, body, wanted=(200,)):
        return self.json("POST", target, body, wanted)

    def raw(self, target, query, body, content_type="application/octet-stream"):
        """Sends and reads octets; the reply must be good."""
        status, reply = self.exchange("POST", f"{target}?{urlencode(query)}", body, content_type)
        expect(status == 200, f"POST {target}: {status} {reply[:300]!r}")
        return reply

    def refuses(self, target, query, body, statuses=(400,)):
        """Whether a raw request is refused; an answer that ends before its declared end is a refusal too."""
        try:
            status, _ = self.exchange("POST", f"{target}?{urlencode(query)}", body, "application/octet-stream")
        except (http.client.IncompleteRead, ConnectionError):
            self.connection.close()
            return True
        if status != 200:
            expect(status in statuses, f"POST {target}: {status}")
        return status != 200


class Key:
    """A key of the server, with what its export says; made by the server, or from `material`."""

    def __init__(self, server, name, key_type, derived=False, material=None):
        self.server, self.name, self.type, self.derived = server, name, key_type, derived
        options = {"type": key_type, "exportable": True}
        if derived:
            options["derived"] = True
        if material is None:
            server.post("/api/keys", {"name": name, **options}, wanted=(201,))
        else:
            target = f"/api/keys/{quote(name)}/import"
            server.post(target, {"material": b64(material), **options}, wanted=(201,))
        self.export()

    def export(self):
        exported = self.server.post(f"/api/keys/{quote(self.name)}/export", {})
        expect(exported["name"] == self.name and exported["type"] == self.type, f"export: {exported.keys()}")
        versions = {int(number): keys for number, keys in exported["versions"].items()}
        take = lambda name: {number: unb64(keys[name]) for number, keys in versions.items() if name in keys}
        self.enc, self.mac, self.sub = take("encryption_key"), take("hmac_key"), take("sub_key")
        self.versions = sorted(versions)

    def rotate(self):
        self.server.post(f"/api/keys/{quote(self.name)}/rotate", {})
        self.export()

    @property
    def kind(self):
        return "derived" if self.derived else "plain"

    @property
    def context(self):
        return CONTEXT if self.derived else None

    def members(self, aad=None, **others):
        """A JSON body for this key."""
        body = {"key": self.name, **others}
        if aad is not None:
            body["associated_data"] = b64(aad)
        if self.derived:
            body["context"] = b64(CONTEXT)
        return body

    def query(self, aad=None, **others):
        """The query of a raw request for this key."""
        query = {"key": self.name, **others}
        if aad is not None:
            query["associated_data"] = b64url(aad)
        if self.derived:
            query["context"] = b64url(CONTEXT)
        return query

    def opens(self, ciphertext, aad):
        return formats.decrypt(self.type, self.enc, ciphertext, aad or b"", self.context)

    def seals(self, version, plaintext, aad, binary=False):
        nonce = os.urandom(formats.NONCE_BYTES[self.type])
        enc = self.enc[version]
        return formats.encrypt(self.type, enc, version, nonce, plaintext, aad or b"", self.context, binary)


def text(server, key, aad, name):
    """The text form, in JSON and as a raw body."""
    body = key.members(aad, plaintext=b64(PLAINTEXT))
    reply = server.post("/api/encrypt", body)
    expect(reply["key_version"] == key.versions[-1], "the latest version encrypts")
    expect(key.opens(reply["ciphertext"].encode(), aad) == PLAINTEXT, "text from the server")
    raw = server.raw("/api/encrypt", key.query(aad), PLAINTEXT, "text/plain")
    expect(raw.endswith(b"\n") and key.opens(raw[:-1], aad) == PLAINTEXT, "raw text from the server")
    old = server.post("/api/encrypt", {**body, "key_version": key.versions[0]})
    expect(formats.split(old["ciphertext"].encode())[0] == key.versions[0], "a named version")
    expect(key.opens(old["ciphertext"].encode(), aad) == PLAINTEXT, "text of a named version")
    covered("text", key.type, key.kind, name, "from the server")

    for version in key.versions:
        made = key.seals(version, PLAINTEXT, aad)
        for spelling in (made, made.replace(b"quantonium:", b"vault:")):
            reply = server.post("/api/decrypt", key.members(aad, ciphertext=spelling.decode()))
            expect(unb64(reply["plaintext"]) == PLAINTEXT, "text to the server")
            expect(reply["key_version"] == version, "the version that it was sealed with")
        expect(server.raw("/api/decrypt", key.query(aad), made, "text/plain") == PLAINTEXT, "raw text")
        server.post("/api/decrypt", key.members((aad or b"") + b"x", ciphertext=made.decode()), wanted=(400,))
    covered("text", key.type, key.kind, name, "to the server")


def binary(server, key, aad, name):
    """The binary form, in raw bodies."""
    for plaintext in (b"", PLAINTEXT, bytes(100_000)):
        made = server.raw("/api/encrypt", key.query(aad), plaintext)
        expect(made.startswith(formats.BINARY_MAGIC), "octets in, octets out")
        expect(key.opens(made, aad) == plaintext, "octets from the server")
    covered("binary", key.type, key.kind, name, "from the server")

    for version, plaintext in itertools.product(key.versions, (b"", PLAINTEXT, bytes(100_000))):
        made = key.seals(version, plaintext, aad, binary=True)
        expect(server.raw("/api/decrypt", key.query(aad), made) == plaintext, "octets to the server")
        expect(server.refuses("/api/decrypt", key.query(aad), made[:-1] + bytes([made[-1] ^ 1])), "a changed tag")
    covered("binary", key.type, key.kind, name, "to the server")


def hexadecimal(server, key, aad, name):
    """JSON whose binary members are hexadecimal."""
    body = {"key": key.name, "format": "hex"}
    if aad is not None:
        body["associated_data"] = aad.hex()
    if key.derived:
        body["context"] = CONTEXT.hex()
    made = server.post("/api/encrypt", {**body, "plaintext": PLAINTEXT.hex()})["ciphertext"]
    expect(key.opens(made.encode(), aad) == PLAINTEXT, "hexadecimal from the server")
    made = key.seals(key.versions[-1], PLAINTEXT, aad).decode()
    reply = server.post("/api/decrypt", {**body, "ciphertext": made})
    expect(bytes.fromhex(reply["plaintext"]) == PLAINTEXT, "hexadecimal to the server")
    covered("hex", key.type, key.kind, name)


def data_key(server, key, aad, name):
    """Data keys of every length, with and without the plain one."""
    seen = set()
    for bits in (128, 256, 512):
        reply = server.post("/api/datakey", key.members(aad, bits=bits))
        opened = key.opens(reply["ciphertext"].encode(), aad)
        expect(opened == unb64(reply["plaintext"]) and len(opened) * 8 == bits, "a data key")
        wrapped = server.post("/api/datakey", key.members(aad, bits=bits, plaintext=False))
        expect("plaintext" not in wrapped, "a data key that stays wrapped")
        hidden = key.opens(wrapped["ciphertext"].encode(), aad)
        expect(len(hidden) * 8 == bits, "a wrapped data key")
        seen |= {opened, hidden}
        covered("datakey", key.type, key.kind, name, bits)
    expect(len(seen) == 6, "data keys differ")


def spoilt(made):
    """A stream of several chunks, in ways that must be noticed."""
    header, chunk = formats.STREAM_HEADER_BYTES, formats.CHUNK_BYTES + formats.TAG_BYTES
    front, chunks = made[:header], [made[at : at + chunk] for at in range(header, len(made), chunk)]
    first, second, *rest = chunks
    yield "its last byte left out", made[:-1]
    yield "a byte behind it", made + b"\x00"
    yield "its header alone", front
    yield "its first chunk alone", front + first
    yield "two chunks changed about", b"".join([front, second, first, *rest])
    yield "a chunk left out", b"".join([front, first, *rest])
    yield "its last chunk left out", b"".join([front, *chunks[:-1]])
    yield "another commitment", front[:-1] + bytes([front[-1] ^ 1]) + made[header:]
    yield "another tag", made[:-1] + bytes([made[-1] ^ 1])


def stream(server, key, aad, name):
    """Streams of lengths around the edges of chunks."""
    query, context = key.query(aad), key.context or b""
    for length in STREAM_LENGTHS:
        plaintext = formats.counted(length)
        made = server.raw("/api/stream/encrypt", query, plaintext)
        expect(formats.stream_version(made) == key.versions[-1], "the latest version encrypts")
        expect(formats.stream_decrypt(key.sub, made, aad or b"", context) == plaintext, f"a stream of {length}")
    covered("stream", key.type, key.kind, name, "from the server")

    for version, length in itertools.product(key.versions, STREAM_LENGTHS):
        plaintext = formats.counted(length)
        salt = os.urandom(16)
        made = formats.stream_encrypt(key.sub[version], version, salt, plaintext, aad or b"", context)
        expect(server.raw("/api/stream/decrypt", query, made) == plaintext, f"a stream of {length}")
    for what, wrong in spoilt(made):
        expect(server.refuses("/api/stream/decrypt", query, wrong), what)
    expect(server.refuses("/api/stream/decrypt", key.query((aad or b"") + b"x"), made), "other data")
    covered("stream", key.type, key.kind, name, "to the server")


def keystream(server, key):
    """Keystreams under the server's nonce, and under one from here."""
    context, nonces = key.context or b"", set()
    for length in KEYSTREAM_LENGTHS:
        reply = server.post("/api/keystream", key.members(bytes=length))
        nonce, version = unb64(reply["nonce"]), reply["key_version"]
        drawn = formats.keystream(key.sub[version], version, nonce, length, context)
        expect(unb64(reply["keystream"]) == drawn, f"a keystream of {length}")
        nonces.add(nonce)
    expect(len(nonces) == len(KEYSTREAM_LENGTHS), "nonces of the server differ")
    covered("keystream", key.type, key.kind, "nonce of the server")

    nonce, version = os.urandom(24), key.versions[-1]
    for length in KEYSTREAM_LENGTHS:
        reply = server.post("/api/keystream", key.members(bytes=length, nonce=b64(nonce)))
        drawn = formats.keystream(key.sub[version], version, nonce, length, context)
        expect(unb64(reply["keystream"]) == drawn and unb64(reply["nonce"]) == nonce, "the same again")
    covered("keystream", key.type, key.kind, "nonce of the client")


def signature(server, key):
    """Signatures under each version."""
    hash_name = formats.HASHES.get(key.type, "sha256")
    for message in (b"", PLAINTEXT, bytes(100_000)):
        reply = server.post("/api/sign", {"key": key.name, "input": b64(message)})
        expect(reply["key_version"] == key.versions[-1], "the latest version signs")
        made = formats.sign(hash_name, key.mac[key.versions[-1]], key.versions[-1], message)
        expect(reply["signature"].encode() == made, "a signature")
    covered("sign", key.type, key.kind)

    for version in key.versions:
        made = formats.sign(hash_name, key.mac[version], version, PLAINTEXT)
        for spelling in (made, made.replace(b"quantonium:", b"vault:")):
            body = {"key": key.name, "input": b64(PLAINTEXT), "signature": spelling.decode()}
            expect(server.post("/api/verify", body)["valid"] is True, "a signature to the server")
            body["input"] = b64(PLAINTEXT + b"x")
            expect(server.post("/api/verify", body)["valid"] is False, "another message")
    covered("verify", key.type, key.kind)


def imported(server, key_type):
    """A key that was made here: what it sealed or signed here is read there at once."""
    material = os.urandom(48 if key_type in formats.HASHES else 32)
    key = Key(server, f"interop-import-{key_type}", key_type, material=material)
    if key_type in formats.HASHES:
        made = formats.sign(formats.HASHES[key_type], material, 1, PLAINTEXT)
        body = {"key": key.name, "input": b64(PLAINTEXT), "signature": made.decode()}
        expect(server.post("/api/verify", body)["valid"] is True, "a signature of an imported key")
    else:
        nonce = os.urandom(formats.NONCE_BYTES[key_type])
        made = formats.encrypt(key_type, material, 1, nonce, PLAINTEXT, AAD)
        reply = server.post("/api/decrypt", key.members(AAD, ciphertext=made.decode()))
        expect(unb64(reply["plaintext"]) == PLAINTEXT, "a ciphertext of an imported key")
        reply = server.post("/api/encrypt", key.members(AAD, plaintext=b64(PLAINTEXT)))
        expect(key.opens(reply["ciphertext"].encode(), AAD) == PLAINTEXT, "and one from the server")
        # Nobody can know which 96-bit nonces were used before: the server seals under a fresh version.
        sealed_by_imported = reply["key_version"] == 1
        expect(sealed_by_imported == (key_type == "xchacha20-poly1305"), "the version that seals")
    covered("import", key_type)


def main():
    url, key_file = sys.argv[1:]
    with open(key_file, encoding="ascii") as file:
        server = Server(url, file.read().strip())
    for key_type, derived in itertools.product(AEAD_TYPES, (False, True)):
        key = Key(server, f"interop-{key_type}-{'derived' if derived else 'plain'}", key_type, derived)
        key.rotate()
        for name, aad in (("without data", None), ("with data", AAD)):
            for operation in (text, binary, hexadecimal, data_key, stream):
                operation(server, key, aad, name)
        keystream(server, key)
        signature(server, key)
    for key_type in formats.HASHES:
        key = Key(server, f"interop-{key_type}", key_type)
        key.rotate()
        signature(server, key)
    for key_type in (*AEAD_TYPES, *formats.HASHES):
        imported(server, key_type)


if __name__ == "__main__":
    main()
