"""The judge of scripts/soak: reads the ledger and the server's own files, and knows nothing of the load but what stands there.

Owns what counts as kept. Invariants: nothing is taken as kept that was not looked at; each check is shown something bad with every run
(`spoiled`), and must find it.
"""

import statistics

from serving import Failed, drawn, encoded, must
from soak_load import form, given, is_over, opened_again

# How much more the last third of the time may take than the first: what a key ring and a log of requests grow by, and noise.
GROWTH_RATIO, GROWTH_KIB, GROWTH_DESCRIPTORS = 1.25, 6 * 1024, 24
WARM_UP_SHARE = 0.25
# What a process of these settings may come to by its bounds: in a short run, all below it is warming up.
MEMORY_BYTES = 32 << 20
BOUND_KIB = MEMORY_BYTES // 1024 + 24 * 1024
LONG_MINUTES = 10
# A judgement about fewer samples would be one about noise.
SAMPLES_MIN = 30
# What everybody together must have come to, or the load was none.
SUCCESSES_EACH_MINUTE = 300
# Items of a batch, and bytes of plaintext beyond which no more are added.
BATCH_COUNT, BATCH_BYTES = 100, 500_000


def thirds(samples):
    """The medians of the first and of the last third, after the warm-up; nothing if there are too few samples."""
    warm = samples[int(len(samples) * WARM_UP_SHARE) :]
    if len(warm) < SAMPLES_MIN:
        return None
    third = len(warm) // 3
    return statistics.median(warm[:third]), statistics.median(warm[-third:])


def grows(samples, slack):
    """Whether the last third stands above the first by more than a ratio and more than a slack."""
    medians = thirds(samples)
    return medians is not None and medians[1] > medians[0] * GROWTH_RATIO and medians[1] > medians[0] + slack


def steady(samples, slack, what, excused=0):
    """Holds that they did not grow; nothing up to `excused` is growth."""
    medians = thirds(samples)
    must(medians is not None, f"{what}: {len(samples)} samples are too few to judge by")
    must(not grows(samples, slack) or medians[1] <= excused, f"{what} grew: {medians}")


def assert_growth_is_found():
    """The judgement of growth finds it, and takes noise and one step up for none."""
    noise = [20_000 + number * 7919 % 900 for number in range(600)]
    must(not grows(noise, GROWTH_KIB), "noise counts as growth")
    must(not grows([10_000] * 60 + noise, GROWTH_KIB), "the warm-up counts as growth")
    must(grows([value + 60 * number for number, value in enumerate(noise)], GROWTH_KIB), "a leak of memory is not found")
    must(grows([40 + number // 5 for number in range(600)], GROWTH_DESCRIPTORS), "a leak of descriptors is not found")
    must(thirds(noise[:20]) is None, "too few samples are judged")


def check_opens(client, sealed, place):
    """Each ciphertext opens to what was sealed, or `Failed` names the first that does not."""
    batches = {}
    for entry in sealed:
        if "stream" in entry or entry.get("vault"):
            must(opened_again(client, entry, place), f"an acknowledged ciphertext does not open: {entry}")
            continue
        batch = batches.setdefault(entry["key"], [])
        batch.append(entry)
        if len(batch) == BATCH_COUNT or sum(item["size"] for item in batch) > BATCH_BYTES:
            check_batch(client, batches.pop(entry["key"]))
    for batch in batches.values():
        check_batch(client, batch)
    return len(sealed)


def check_batch(client, batch):
    items = [{"ciphertext": entry["ciphertext"], **given(entry)} for entry in batch]
    told = client.call("POST", "/api/decrypt", {"key": batch[0]["key"], "batch": items})
    must(told.status == 200, f"a batch of acknowledged ciphertexts: {told}")
    for entry, result in zip(batch, told.json()["results"], strict=True):
        plain = encoded(drawn(entry["seed"], entry["size"]))
        must(result.get("plaintext") == plain, f"an acknowledged ciphertext does not open: {entry}: {str(result)[:200]}")


def check_signatures(client, signed):
    for entry in signed:
        asked = {"key": entry["key"], "input": encoded(drawn(entry["seed"], entry["size"])), "signature": entry["signature"]}
        told = client.call("POST", "/api/verify", asked)
        must(told.status == 200 and told.json()["valid"] is True, f"an acknowledged signature is none: {entry}: {told}")
    return len(signed)


def check_keys(client, keys):
    """Each key is as it was told last; how often it was changed."""
    last = {entry["name"]: entry["view"] for entry in keys}
    for name, view in last.items():
        found = client.call("GET", f"/api/keys/{name}")
        if found.status == 404 and is_over(view):
            continue
        if found.status == 404:
            raise Failed(f"an acknowledged key is gone: {name}")
        must(form(found.json()) == view, f"{name} is not as it was told: {form(found.json())} instead of {view}")
    return len(keys)


def check_api_keys(server, entries):
    for entry in entries:
        client = server.client(entry["text"])
        told = client.call("GET", "/api/auth/profile")
        client.close()
        must(told.status == (200 if entry["works"] else 401), f"an API key that was {'given out' if entry['works'] else 'revoked'}: {told}")
    return len(entries)


def check_audit(lines, successes):
    """Each success has its line; what the process found in itself is none."""
    told = set()
    for line in lines:
        must(line["event"] != "integrity.finding", f"the process found something in itself: {line}")
        if line["outcome"] == "success" and "request_id" in line:
            told.add(line["request_id"])
    for entry in successes:
        must(entry["id"] in told, f"a success has no audit line: {entry}")
    return len(successes)


def assert_bad_is_found(server, ledger, lines):
    """Shows each check something that is not so."""
    client = server.client()

    def found(what, check, *arguments):
        try:
            check(*arguments)
        except Failed:
            return
        raise Failed(f"the checker takes {what}")

    sealed = ledger.read("sealed")
    plain = next(entry for entry in sealed if "stream" not in entry and not entry.get("vault"))
    found("another plaintext", check_opens, client, [{**plain, "seed": "another"}], ledger.place)
    spoiled = plain["ciphertext"][:-8] + ("AAAAAAA=" if not plain["ciphertext"].endswith("AAAAAAA=") else "BBBBBBA=")
    found("a changed ciphertext", check_opens, client, [{**plain, "ciphertext": spoiled}], ledger.place)
    stream = next(entry for entry in sealed if "stream" in entry)
    found("another stream", check_opens, client, [{**stream, "seed": "another"}], ledger.place)
    found("a wrong signature", check_signatures, client, [{**ledger.read("signed")[0], "seed": "another"}])
    view = ledger.read("key")[-1]
    found("a change that is gone", check_keys, client, [{**view, "view": {**view["view"], "latest_version": 999}}])
    found("a key that is gone", check_keys, client, [{**view, "name": "never-made"}])
    text = ledger.read("api_key")[-1]
    found("a revoked API key that works", check_api_keys, server, [{**text, "works": not text["works"]}])
    found("a success without a line", check_audit, lines, [{"id": "0" * 32}])
    found("a finding", check_audit, [{"event": "integrity.finding", "outcome": "failure"}], [])
    client.close()
