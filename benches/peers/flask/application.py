"""The work of an `encrypt` as a Flask application: what scripts/bench_servers.py serves with gunicorn.

It checks the API key, reads the JSON, decodes, seals with OpenSSL's ChaCha20-Poly1305 and encodes. It writes no audit line and
keeps no limits.
"""

import base64
import binascii
import hashlib
import hmac
import os

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from flask import Flask, jsonify, request

application = Flask(__name__)
PEPPER = os.urandom(32)
ADMIN = hmac.digest(PEPPER, os.environ["BENCH_KEY"].encode(), hashlib.sha256)
CIPHER = ChaCha20Poly1305(os.urandom(32))


@application.get("/api/health")
def health():
    return jsonify(status="ok")


@application.post("/api/encrypt")
def encrypt():
    presented = hmac.digest(PEPPER, request.headers.get("X-API-Key", "").encode(), hashlib.sha256)
    if not hmac.compare_digest(presented, ADMIN):
        return jsonify(error="unauthorized"), 401
    asked = request.get_json()
    if asked["key"] != "bench":
        return jsonify(error="not_found"), 404
    try:
        plaintext = base64.b64decode(asked["plaintext"], validate=True)
    except binascii.Error:
        return jsonify(error="malformed"), 400
    nonce = os.urandom(12)
    sealed = nonce + CIPHER.encrypt(nonce, plaintext, b"bench")
    return jsonify(ciphertext=base64.b64encode(sealed).decode(), key_version=1)
