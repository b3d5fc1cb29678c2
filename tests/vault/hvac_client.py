"""Drives a server with hvac, unmodified: python hvac_client.py URL TOKEN_FILE

Says `covered: NAME` for everything that was done and held.
"""

import base64
import sys

import hvac

url, token = sys.argv[1], open(sys.argv[2], encoding="ascii").read().strip()
client = hvac.Client(url=url, token=token)
transit = client.secrets.transit


def b64(text):
    return base64.b64encode(text.encode()).decode()


def covered(name, holds):
    assert holds, name
    print(f"covered: {name}")


def refused(error, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error:
        return True
    return False


covered("is_authenticated", client.is_authenticated())
covered("is_initialized", client.sys.is_initialized() and not client.sys.is_sealed())
covered("health HEAD", client.sys.read_health_status(method="HEAD").status_code == 200)
covered("health GET", client.sys.read_health_status(method="GET")["initialized"])
covered("mounts", "transit/" in client.sys.list_mounted_secrets_engines()["data"])

made = transit.create_key("h", key_type="chacha20-poly1305", exportable=True, allow_plaintext_backup=True)
covered("create", made["data"]["latest_version"] == 1)
covered("create of another type", refused(hvac.exceptions.InvalidRequest, transit.create_key, "a", key_type="aes256-gcm96"))
covered("read", transit.read_key("h")["data"]["type"] == "chacha20-poly1305")
covered("read of none", refused(hvac.exceptions.InvalidPath, transit.read_key, "none"))
covered("list", transit.list_keys()["data"]["keys"] == ["h"])
sealed = transit.encrypt_data("h", plaintext=b64("hello"))["data"]["ciphertext"]
covered("encrypt", sealed.startswith("vault:v1:"))
covered("decrypt", transit.decrypt_data("h", ciphertext=sealed)["data"]["plaintext"] == b64("hello"))
covered("decrypt of rubbish", refused(hvac.exceptions.InvalidRequest, transit.decrypt_data, "h", ciphertext="vault:v1:AAAA"))
transit.rotate_key("h")
rewrapped = transit.rewrap_data("h", ciphertext=sealed)["data"]
covered("rotate and rewrap", rewrapped["key_version"] == 2 and rewrapped["ciphertext"].startswith("vault:v2:"))
batch = transit.encrypt_data("h", batch_input=[{"plaintext": b64(text)} for text in "abc"])["data"]["batch_results"]
opened = transit.decrypt_data("h", batch_input=[{"ciphertext": item["ciphertext"]} for item in batch])
covered("batch", [item["plaintext"] for item in opened["data"]["batch_results"]] == [b64(text) for text in "abc"])
for bits in (128, 256, 512):
    plain = transit.generate_data_key("h", key_type="plaintext", bits=bits)["data"]
    again = transit.decrypt_data("h", ciphertext=plain["ciphertext"])["data"]["plaintext"]
    covered(f"datakey {bits}", again == plain["plaintext"] and len(base64.b64decode(again)) == bits // 8)
wrapped = transit.generate_data_key("h", key_type="wrapped")["data"]
covered("datakey wrapped", "plaintext" not in wrapped)
for algorithm in ("sha2-256", "sha2-384", "sha2-512"):
    mac = transit.generate_hmac("h", hash_input=b64("x"), algorithm=algorithm)["data"]["hmac"]
    right = transit.verify_signed_data("h", hash_input=b64("x"), hmac=mac, hash_algorithm=algorithm)["data"]["valid"]
    wrong = transit.verify_signed_data("h", hash_input=b64("y"), hmac=mac, hash_algorithm=algorithm)["data"]["valid"]
    covered(f"hmac and verify {algorithm}", right and not wrong)
covered("random", len(base64.b64decode(transit.generate_random_bytes(n_bytes=7)["data"]["random_bytes"])) == 7)
covered("hash", len(transit.hash_data(hash_input=b64("x"), algorithm="sha2-512")["data"]["sum"]) == 128)
covered("export", set(transit.export_key("h", key_type="encryption-key")["data"]["keys"]) == {"1", "2"})
backup = transit.backup_key("h")["data"]["backup"]
covered("backup and restore", transit.restore_key(backup, name="h2").status_code == 204)
covered("restored", transit.decrypt_data("h2", ciphertext=sealed)["data"]["plaintext"] == b64("hello"))
transit.create_key("d", key_type="chacha20-poly1305", derived=True, convergent_encryption=True)
pair = [transit.encrypt_data("d", plaintext=b64("x"), context=b64("c"))["data"]["ciphertext"] for _ in range(2)]
covered("convergent", pair[0] == pair[1])
transit.update_key_configuration("h", min_encryption_version=2)
transit.update_key_configuration("h", min_decryption_version=2, deletion_allowed=True)
covered("config", refused(hvac.exceptions.InvalidRequest, transit.decrypt_data, "h", ciphertext=sealed))
covered("trim", transit.trim_key("h", min_version=2)["data"]["min_available_version"] == 2)
covered("delete", transit.delete_key("h").status_code == 204)
covered("deleted", refused(hvac.exceptions.InvalidPath, transit.read_key, "h"))

identifier, secret = token.split(".")
login = client.auth.approle.login(role_id=identifier, secret_id=secret)["auth"]
client.token = login["client_token"]
covered("approle", login["lease_duration"] > 0 and client.lookup_token()["data"]["ttl"] > 0)
client.auth.token.revoke_self()
covered("revoke-self", refused(hvac.exceptions.Forbidden, transit.list_keys))
