"""What schemathesis must know that a schema cannot say.

- A raw call and one with JSON are the same operation with other parameters: the query of the one is taken from the other.
- A request has one credential, not one of each kind.
- A schema does not say whether a ciphertext opens or a key is a derived one: for what it allows, the server may still have
  a reason to refuse, and `refused_for_a_reason_no_schema_says` lists which.
"""

import schemathesis
from schemathesis.generation import GenerationMode

RAW = {
    "encrypt": ["key", "associated_data", "context", "key_version"],
    "decrypt": ["key", "associated_data", "context"],
    "rewrap": ["key", "associated_data", "context", "key_version"],
    "makeDataKey": ["key", "bits", "associated_data", "context", "key_version"],
    "sign": ["key", "key_version"],
    "verify": ["key", "signature"],
    "hash": ["algorithm"],
    "sampleEntropy": ["bytes"],
    "drawKeystream": ["key", "bytes", "nonce", "context", "key_version"],
    "importKey": [
        "type", "derived", "exportable", "plaintext_backup", "min_decryption_version", "min_encryption_version",
        "keep_versions", "auto_rotate_seconds", "deletion_allowed",
    ],
}
# What makes a call a raw one, where that is not the name of a key.
NEEDED = {"sampleEntropy": "bytes", "importKey": "type"}
NEEDED_VALUES = {"sampleEntropy": "16", "importKey": "hmac-sha256"}
# Reasons that depend on the server's state, on bytes inside texts, or on two members together.
REASONS = {
    "api_key_terms", "backup_other_key", "backup_rejected", "batch_too_large", "bytes_out_of_range", "ciphertext_or_batch",
    "context_not_allowed", "context_required", "decryption_failed", "input_or_batch", "key_type_not_allowed",
    "malformed_associated_data", "malformed_ciphertext", "malformed_context", "malformed_event_id", "malformed_identity",
    "malformed_input", "malformed_material", "malformed_network", "malformed_nonce", "malformed_parameter",
    "malformed_plaintext", "malformed_scope", "malformed_signature", "material_not_allowed", "plaintext_or_batch",
    "policy_not_allowed", "repeated_version", "reply_too_large", "unknown_audience", "unknown_key_version",
    # Members of an item beside a batch, and texts of more bytes than characters.
    "malformed_json",
}


def positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.hook
def before_call(context, case, kwargs):
    if "X-API-Key" in (case.headers or {}):
        case.headers.pop("Authorization", None)
    operation = case.operation.definition.raw.get("operationId")
    if operation not in RAW or not positive(case):
        return
    if case.media_type == "application/json" and case.body:
        for name in RAW[operation]:
            (case.query or {}).pop(name, None)
    elif operation != "hash":
        case.query = {NEEDED.get(operation, "key"): NEEDED_VALUES.get(operation, "orders"), **(case.query or {})}


@schemathesis.hook
def map_query(context, query):
    """A key that is there, half of the time by the length of its name."""
    if query and isinstance(query.get("key"), str) and len(query["key"]) % 2:
        query["key"] = "orders"
    return query


@schemathesis.check
def refused_for_a_reason_no_schema_says(context, response, case):
    if not positive(case) or response.status_code not in (400, 413):
        return
    code = response.json().get("code")
    assert code in REASONS, f"what the schema allows was refused: {response.text}"
