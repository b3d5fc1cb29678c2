"""The formats of Quantonium, written a second time from docs/FORMATS.md.

Nothing here comes from the server's sources: the primitives are those of the packages `cryptography` and
`PyNaCl`, and HChaCha20, which neither of them gives out, is written down below. Run as a program, it checks itself
against every example of docs/FORMATS.md that it has a part in:

    python quantonium_formats.py docs/FORMATS.md
"""

import base64
import hashlib
import hmac
import json
import re
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl import bindings
from nacl.exceptions import CryptoError

NONCE_BYTES = {"xchacha20-poly1305": 24, "chacha20-poly1305": 12}
HASHES = {"hmac-sha256": "sha256", "hmac-sha384": "sha384", "hmac-sha512": "sha512"}
TAG_BYTES = 16
BINARY_MAGIC = b"QN\x01"
STREAM_MAGIC = b"QNS\x01"
STREAM_HEADER_BYTES = 4 + 4 + 16 + 32
CHUNK_BYTES = 65_536
KEYSTREAM_MAX_BYTES = 1 << 20
TEXT = re.compile(rb"(?:quantonium|vault):v([1-9][0-9]{0,9}):([A-Za-z0-9+/]*={0,2})")


class Refused(Exception):
    """What was read is not of the form, or not authentic."""


# --- primitives ------------------------------------------------------------------------------------------------


def hkdf(ikm, salt, info, length):
    """HKDF-SHA256 (RFC 5869); no salt is the empty one."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=info).derive(ikm)


def seal(key_type, key, nonce, aad, plaintext):
    """Ciphertext and tag under a nonce of the type's length."""
    if len(nonce) != NONCE_BYTES[key_type]:
        raise ValueError("length of the nonce")
    if key_type == "xchacha20-poly1305":
        return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, aad, nonce, key)
    return ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def open_sealed(key_type, key, nonce, aad, sealed):
    """The plaintext of ciphertext and tag."""
    try:
        if key_type == "xchacha20-poly1305":
            return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, aad, nonce, key)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, aad)
    except (CryptoError, InvalidTag, ValueError) as error:
        raise Refused("not authentic") from error


def hchacha20(key, start):
    """HChaCha20 (draft-irtf-cfrg-xchacha-03 section 2.2): 32 bytes of key from a key and 16 bytes."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + start))

    def add_xor_turn(a, b, d, bits):
        state[a] = (state[a] + state[b]) & 0xFFFFFFFF
        mixed = state[d] ^ state[a]
        state[d] = (mixed << bits | mixed >> (32 - bits)) & 0xFFFFFFFF

    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for a, b, c, d in (columns + diagonals) * 10:
        add_xor_turn(a, b, d, 16)
        add_xor_turn(c, d, b, 12)
        add_xor_turn(a, b, d, 8)
        add_xor_turn(c, d, b, 7)
    return struct.pack("<8I", *state[:4], *state[12:])


def xchacha20(key, nonce, length):
    """Keystream of XChaCha20 from counter 0."""
    counter_and_nonce = bytes(4) + bytes(4) + nonce[16:]
    cipher = Cipher(algorithms.ChaCha20(hchacha20(key, nonce[:16]), counter_and_nonce), mode=None)
    return cipher.encryptor().update(bytes(length))


# --- ciphertexts -----------------------------------------------------------------------------------------------


def aead_key(enc, context=None):
    """The key of the AEAD: the version's own, or for keys made with `derived` the one of the context."""
    return enc if context is None else hkdf(enc, b"", context, 32)


def encrypt(key_type, enc, version, nonce, plaintext, aad=b"", context=None, binary=False):
    """A ciphertext in the text form (as `bytes` of ASCII), or in the binary one."""
    body = nonce + seal(key_type, aead_key(enc, context), nonce, aad, plaintext)
    if binary:
        return BINARY_MAGIC + struct.pack(">I", version) + body
    return b"quantonium:v%d:" % version + base64.b64encode(body)


def split(ciphertext):
    """Key version and body of a ciphertext in either form, or of a signature."""
    if ciphertext.startswith(BINARY_MAGIC):
        if len(ciphertext) < 7:
            raise Refused("too short")
        version, body = struct.unpack(">I", ciphertext[3:7])[0], ciphertext[7:]
    else:
        found = TEXT.fullmatch(ciphertext)
        if not found:
            raise Refused("neither form")
        version, body = int(found[1]), decode_base64(found[2])
    if not 1 <= version <= 0xFFFFFFFF:
        raise Refused("version")
    return version, body


def decode_base64(text):
    """Standard base64 with padding; only the one spelling that encoding gives."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Refused("base64") from error
    if base64.b64encode(decoded) != text:
        raise Refused("base64")
    return decoded


def decrypt(key_type, enc_of, ciphertext, aad=b"", context=None):
    """The plaintext; `enc_of` maps versions to their `enc` keys."""
    version, body = split(ciphertext)
    if version not in enc_of:
        raise Refused("version")
    length = NONCE_BYTES[key_type]
    if len(body) < length + TAG_BYTES:
        raise Refused("too short")
    return open_sealed(key_type, aead_key(enc_of[version], context), body[:length], aad, body[length:])


# --- streams ---------------------------------------------------------------------------------------------------


def stream_keys(sub, version, salt, aad, context):
    """File key and commitment of a stream."""
    info = b"quantonium/stream/v1\x00" + STREAM_MAGIC + struct.pack(">I", version)
    info += struct.pack(">I", len(context)) + context
    info += struct.pack(">Q", len(aad)) + hashlib.sha256(aad).digest()
    okm = hkdf(sub, salt, info, 64)
    return okm[:32], okm[32:]


def chunk_nonce(number, last):
    """11 bytes of number and one of flag."""
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def stream_encrypt(sub, version, salt, plaintext, aad=b"", context=b""):
    """The stream form of a plaintext."""
    key, commitment = stream_keys(sub, version, salt, aad, context)
    pieces = [plaintext[at : at + CHUNK_BYTES] for at in range(0, len(plaintext), CHUNK_BYTES)] or [b""]
    stream = [STREAM_MAGIC + struct.pack(">I", version) + salt + commitment]
    for number, piece in enumerate(pieces):
        nonce = chunk_nonce(number, number == len(pieces) - 1)
        stream.append(ChaCha20Poly1305(key).encrypt(nonce, piece, b""))
    return b"".join(stream)


def stream_version(stream):
    """The key version that the header names."""
    if len(stream) < STREAM_HEADER_BYTES or not stream.startswith(STREAM_MAGIC) or stream[4:8] == bytes(4):
        raise Refused("no header")
    return struct.unpack(">I", stream[4:8])[0]


def stream_decrypt(sub_of, stream, aad=b"", context=b""):
    """The plaintext of a stream; `sub_of` maps versions to their `sub` keys."""
    version = stream_version(stream)
    if version not in sub_of:
        raise Refused("version")
    key, commitment = stream_keys(sub_of[version], version, stream[8:24], aad, context)
    if not hmac.compare_digest(commitment, stream[24:STREAM_HEADER_BYTES]):
        raise Refused("commitment")
    rest, number, plaintext = stream[STREAM_HEADER_BYTES:], 0, []
    while True:
        last = len(rest) <= CHUNK_BYTES + TAG_BYTES
        piece, rest = rest[: CHUNK_BYTES + TAG_BYTES], rest[CHUNK_BYTES + TAG_BYTES :]
        if len(piece) < TAG_BYTES or (len(piece) == TAG_BYTES and number > 0):
            raise Refused("length of the last chunk")
        plaintext.append(open_sealed("chacha20-poly1305", key, chunk_nonce(number, last), b"", piece))
        if last:
            return b"".join(plaintext)
        number += 1


# --- keystream and signatures ----------------------------------------------------------------------------------


def keystream(sub, version, nonce, length, context=b""):
    """The keystream of a nonce of 24 bytes."""
    if len(nonce) != 24 or length > KEYSTREAM_MAX_BYTES:
        raise ValueError("length")
    info = b"quantonium/keystream/v1\x00" + struct.pack(">II", version, len(context)) + context
    return xchacha20(hkdf(sub, b"", info, 32), nonce, length)


def sign(hash_name, mac_key, version, message):
    """The text form of a signature."""
    tag = hmac.new(mac_key, message, hash_name).digest()
    return b"quantonium:v%d:" % version + base64.b64encode(tag)


def verify(hash_name, mac_of, message, signature):
    """Whether a signature is right; `mac_of` maps versions to their HMAC keys."""
    if signature.startswith(BINARY_MAGIC):
        raise Refused("signatures have no binary form")
    version, tag = split(signature)
    if len(tag) not in (32, 48, 64):
        raise Refused("length of the tag")
    if version not in mac_of:
        raise Refused("version")
    return hmac.compare_digest(tag, hmac.new(mac_of[version], message, hash_name).digest())


# --- the audit log ---------------------------------------------------------------------------------------------


def audit_root(root):
    return hkdf(root, b"", b"quantonium/audit/v1", 32)


def audit_keys(root, stream):
    """The keys of a stream, one after the other."""
    key = hkdf(audit_root(root), b"", b"quantonium/audit/stream/v1\0" + stream.encode(), 32)
    while True:
        yield key
        key = hmac.digest(key, b"quantonium/audit/ratchet/v1", "sha256")


def audit_verify(root, stream, lines):
    """Verifies the lines of a whole stream, without line ends; returns the last number."""
    keys, index, last, prev = audit_keys(root, stream), 0, 0, "0" * 32
    key = next(keys)
    for line in lines:
        told = json.loads(line)
        covered = line[: line.rindex(b',"mac":')]
        named = told.get("first") == last + 1 and told.get("last") == told["seq"] - 1
        if told["stream"] != stream or not (told["seq"] == last + 1 or named):
            raise Refused("the number of a line")
        while index < (told["seq"] - 1) // 256:
            key, index = next(keys), index + 1
        mac = hmac.digest(key, covered, "sha256")[:16].hex()
        if told["prev"] != prev or line != covered + b',"mac":"%s"}' % mac.encode():
            raise Refused("the mac of a line")
        last, prev = told["seq"], mac
    return last


# --- the examples of docs/FORMATS.md ---------------------------------------------------------------------------


def examples(page):
    """The `example` blocks, each a mapping from names to values."""
    blocks = re.findall(r"^```example\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def counted(length):
    """Bytes 0 to 250 over and over: the plaintext of the long examples."""
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def field(example, name):
    return bytes.fromhex(example.get(name, ""))


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def refuses(call, what):
    try:
        call()
    except Refused:
        return
    raise AssertionError(what)


def check_ciphertext(example):
    key_type, version = example["algorithm"], int(example["version"])
    enc, nonce, aad = (field(example, name) for name in ("key", "nonce", "associated_data"))
    context = field(example, "context") if "context" in example else None
    plaintext = field(example, "plaintext")
    if context is not None:
        expect(aead_key(enc, context) == field(example, "derived_key"), "the derived key")
    text = encrypt(key_type, enc, version, nonce, plaintext, aad, context)
    expect(text == example["text"].encode(), "the text form")
    binary = encrypt(key_type, enc, version, nonce, plaintext, aad, context, binary=True)
    expect(binary == field(example, "binary"), "the binary form")
    for form in (text, binary, text.replace(b"quantonium:", b"vault:")):
        expect(decrypt(key_type, {version: enc}, form, aad, context) == plaintext, "the plaintext")
        refuses(lambda form=form: decrypt(key_type, {version: enc}, form, b"other", context), "other data")


def check_stream(example):
    version, salt, sub = int(example["version"]), field(example, "salt"), field(example, "sub_key")
    aad, context = field(example, "associated_data"), field(example, "context")
    plaintext = field(example, "plaintext") or counted(int(example["plaintext_bytes"]))
    made = stream_encrypt(sub, version, salt, plaintext, aad, context)
    key, _ = stream_keys(sub, version, salt, aad, context)
    expect(key == field(example, "file_key"), "the file key")
    expect(made[:STREAM_HEADER_BYTES] == field(example, "header"), "the header")
    if "stream" in example:
        expect(made == field(example, "stream"), "the stream")
    else:
        expect(hashlib.sha256(made).hexdigest() == example["stream_sha256"], "the stream")
        expect(made.endswith(field(example, "last_chunk")), "the last chunk")
    expect(stream_decrypt({version: sub}, made, aad, context) == plaintext, "the plaintext")
    for wrong in (made[:-1], made + b"\x00", made[:STREAM_HEADER_BYTES], made[: STREAM_HEADER_BYTES + 16]):
        refuses(lambda wrong=wrong: stream_decrypt({version: sub}, wrong, aad, context), "another length")
    refuses(lambda: stream_decrypt({version: sub}, made, aad + b"x", context), "other data")


def check_keystream(example):
    version, nonce, sub = int(example["version"]), field(example, "nonce"), field(example, "sub_key")
    drawn = keystream(sub, version, nonce, len(field(example, "keystream")), field(example, "context"))
    expect(drawn == field(example, "keystream"), "the keystream")


def check_signature(example):
    name, version = example["hash"], int(example["version"])
    key, message, text = field(example, "hmac_key"), field(example, "input"), example["signature"].encode()
    expect(sign(name, key, version, message) == text, "the signature")
    expect(verify(name, {version: key}, message, text), "its verification")
    expect(not verify(name, {version: key}, message + b"x", text), "another message")


def check_audit(example):
    root, stream = field(example, "root_key"), example["stream_name"]
    expect(audit_root(root) == field(example, "audit_root"), "the audit root")
    keys = audit_keys(root, stream)
    expect(next(keys) == field(example, "stream_key"), "the key of the stream")
    expect(next(keys) == field(example, "next_stream_key"), "its next key")
    lines = [example["audit"].encode(), example["gap"].encode()]
    expect(audit_verify(root, stream, lines) == 300, "the lines")
    for wrong in (lines[1:], lines[::-1], [lines[0].replace(b"400", b"200"), lines[1]], lines + lines[1:]):
        refuses(lambda wrong=wrong: audit_verify(root, stream, wrong), "other lines")


CHECKS = {
    "text": check_ciphertext,
    "file_key": check_stream,
    "keystream": check_keystream,
    "signature": check_signature,
    "checkpoint": check_audit,
}


def check_primitives():
    """HChaCha20 against the XChaCha20 inside of PyNaCl's AEAD, whose ciphertext begins at block 1."""
    key, nonce = counted(32), counted(24)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(bytes(1000), b"", nonce, key)
    expect(xchacha20(key, nonce, 1064)[64:] == sealed[:1000], "XChaCha20")


def self_check(page):
    """Checks every example that has a part here; returns how many of each kind there were."""
    check_primitives()
    counts = dict.fromkeys(CHECKS, 0)
    for example in examples(page):
        for name, check in CHECKS.items():
            if name in example:
                check(example)
                counts[name] += 1
    for name, count in counts.items():
        expect(count > 0, f"no example with {name}")
    return counts


def main():
    with open(sys.argv[1], encoding="utf-8") as page:
        for name, count in self_check(page.read()).items():
            print(f"known answers with {name}: {count}")


if __name__ == "__main__":
    main()
