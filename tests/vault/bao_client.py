"""Drives a server with the `bao` command line, unmodified: python bao_client.py URL TOKEN_FILE

Says `covered: NAME` for everything that was done and held.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile

url, token = sys.argv[1], open(sys.argv[2], encoding="ascii").read().strip()
BAO = os.path.join(os.path.dirname(sys.executable), "bao")


def b64(text):
    return base64.b64encode(text.encode()).decode()


def bao(*words, fails=False, given=None):
    with tempfile.TemporaryDirectory() as home:
        environment = {"BAO_ADDR": url, "BAO_TOKEN": token, "HOME": home, "PATH": os.environ["PATH"], "BAO_FORMAT": "json"}
        done = subprocess.run([BAO, *words], env=environment, capture_output=True, text=True, input=given, check=False)
    if fails:
        return done.returncode != 0
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout


def covered(name, holds):
    assert holds, name
    print(f"covered: {name}")


covered("status", bao("status")["initialized"])
covered("token lookup", bao("token", "lookup")["data"]["type"] == "service")
covered("secrets list", bao("secrets", "list")["transit/"]["type"] == "transit")
# -f sends a body of null, and options are texts.
covered("create", bao("write", "-f", "transit/keys/c", "exportable=true", "type=chacha20-poly1305")["data"]["exportable"] is True)
covered("read", bao("read", "transit/keys/c")["data"]["latest_version"] == 1)
covered("list", bao("list", "transit/keys") == ["c"])
sealed = bao("write", "transit/encrypt/c", "plaintext=" + b64("hello"))["data"]["ciphertext"]
covered("decrypt", bao("write", "transit/decrypt/c", "ciphertext=" + sealed)["data"]["plaintext"] == b64("hello"))
covered("rotate", bao("write", "-f", "transit/keys/c/rotate")["data"]["latest_version"] == 2)
covered("rewrap", bao("write", "transit/rewrap/c", "ciphertext=" + sealed, "key_version=2")["data"]["key_version"] == 2)
covered("datakey", len(bao("write", "-f", "transit/datakey/plaintext/c")["data"]["plaintext"]) == 44)
mac = bao("write", "transit/hmac/c", "input=" + b64("x"))["data"]["hmac"]
covered("verify", bao("write", "transit/verify/c", "input=" + b64("x"), "hmac=" + mac)["data"]["valid"])
covered("random", len(bao("write", "-f", "transit/random/9", "format=hex")["data"]["random_bytes"]) == 18)
covered("hash", len(bao("write", "transit/hash", "input=" + b64("x"))["data"]["sum"]) == 64)
items = json.dumps({"batch_input": [{"plaintext": b64("a")}, {"plaintext": b64("b")}]})
covered("batch", len(bao("write", "transit/encrypt/c", "-", given=items)["data"]["batch_results"]) == 2)
covered("export", set(bao("read", "transit/export/encryption-key/c")["data"]["keys"]) == {"1", "2"})
covered("config", bao("write", "transit/keys/c/config", "deletion_allowed=true", "auto_rotate_period=24h")["data"]["auto_rotate_period"] == 86400)
bao("delete", "transit/keys/c")
covered("delete", bao("read", "transit/keys/c", fails=True))
covered("wrapping", bao("read", "-wrap-ttl=60s", "transit/keys/c", fails=True))
identifier, secret = token.split(".")
login = bao("write", "auth/approle/login", "role_id=" + identifier, "secret_id=" + secret)["auth"]
token = login["client_token"]
covered("approle", bao("token", "lookup")["data"]["ttl"] > 0)
bao("token", "revoke", "-self")
covered("revoke-self", bao("token", "lookup", fails=True))
