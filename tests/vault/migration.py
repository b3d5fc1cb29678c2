"""Moves keys from an OpenBao to a server and back: python migration.py URL TOKEN_FILE

What was sealed and signed there is opened and checked here, by hvac, which only gets another address. Says
`covered: NAME` for everything that was done and held.
"""

import base64
import os
import subprocess
import sys
import tempfile

import hvac
from openbao import BAO, Server, openbao

KINDS = {
    "plain": {"type": "chacha20-poly1305"},
    "long": {"type": "xchacha20-poly1305"},
    "derived": {"type": "chacha20-poly1305", "derived": True},
    "convergent": {"type": "xchacha20-poly1305", "derived": True, "convergent_encryption": True},
    "mac": {"type": "hmac", "key_size": 32},
}
CONTEXT = base64.b64encode(b"tenant").decode()


def b64(text):
    return base64.b64encode(text.encode()).decode()


def covered(name, holds):
    assert holds, name
    print(f"covered: {name}")


def use(transit, name):
    """What an application does with a key: seals if it can, and signs."""
    context = {"context": CONTEXT} if KINDS[name].get("derived") else {}
    sealed = None
    if name != "mac":
        sealed = transit.encrypt_data(name, plaintext=b64(name), **context)["data"]["ciphertext"]
    return sealed, transit.generate_hmac(name, hash_input=b64(name), algorithm="sha2-512")["data"]["hmac"]


def holds(transit, name, made):
    context = {"context": CONTEXT} if KINDS[name].get("derived") else {}
    for sealed, mac in made:
        checked = transit.verify_signed_data(name, hash_input=b64(name), hmac=mac, hash_algorithm="sha2-512")
        if not checked["data"]["valid"]:
            return False
        if sealed and transit.decrypt_data(name, ciphertext=sealed, **context)["data"]["plaintext"] != b64(name):
            return False
    return True


def main():
    url, token = sys.argv[1], open(sys.argv[2], encoding="ascii").read().strip()
    ours = Server(url, token)
    here = hvac.Client(url=url, token=token).secrets.transit
    with openbao() as theirs:
        there = hvac.Client(url=theirs.url, token="root").secrets.transit
        made = {}
        for name, options in KINDS.items():
            theirs.data("POST", f"transit/keys/{name}", {**options, "exportable": True, "allow_plaintext_backup": True})
            made[name] = [use(there, name)]
            there.rotate_key(name)
            made[name].append(use(there, name))
        for name, options in KINDS.items():
            backup = theirs.data("GET", f"transit/backup/{name}")
            ours.data("POST", "transit/restore", backup)
            covered(f"backup {name}", holds(here, name, made[name]))
            wanted = 3 if options["type"] == "chacha20-poly1305" else 2
            covered(f"versions {name}", ours.data("GET", f"transit/keys/{name}")["latest_version"] == wanted)
        same = [use(transit, "convergent")[0] for transit in (there, here)]
        covered("convergent bytes", same[0] == same[1])
        covered("HMAC bytes", use(there, "mac")[1] == use(here, "mac")[1])
        # The same by export and import, under the same names: the keys of the first way go.
        for name, options in KINDS.items():
            ours.data("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
            ours.data("DELETE", f"transit/keys/{name}")
            macs = theirs.data("GET", f"transit/export/hmac-key/{name}")["keys"]
            body = {key: value for key, value in options.items() if key != "key_size"}
            if name == "mac":
                body["keys"] = macs
            else:
                body["keys"] = theirs.data("GET", f"transit/export/encryption-key/{name}")["keys"]
                body["hmac_keys"] = macs
            ours.data("POST", f"transit/keys/{name}/import", body)
            covered(f"export {name}", holds(here, name, made[name]))
        # And back, by the other's own command.
        ours.data("POST", "transit/keys/back", {"type": "chacha20-poly1305", "exportable": True})
        sealed = here.encrypt_data("back", plaintext=b64("back"))["data"]["ciphertext"]
        key = ours.data("GET", "transit/export/encryption-key/back")["keys"]["1"]
        with tempfile.TemporaryDirectory() as home:
            environment = {"BAO_ADDR": theirs.url, "BAO_TOKEN": "root", "HOME": home, "PATH": os.environ["PATH"]}
            words = [BAO, "transit", "import", "transit/keys/back", key, "type=chacha20-poly1305"]
            subprocess.run(words, env=environment, check=True, capture_output=True)
        covered("back", there.decrypt_data("back", ciphertext=sealed)["data"]["plaintext"] == b64("back"))


main()
