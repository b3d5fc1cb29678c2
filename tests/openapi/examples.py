"""Runs every example of the description against a server, and compares what comes with what the description says.

    examples.py DOCUMENT URL KEYFILE

The examples are one story: what one makes, the next uses. A text of an example's reply that is not the same for every
server (a ciphertext, an identifier, a time) stands from then on for what this server gave, in requests and replies alike; all
else must be equal. Each reply must fit its schema, and have the fields that are said to be there. Prints a line for each
example.
"""

import http.client
import json
import pathlib
import sys
import urllib.parse

import jsonschema_rs

# The order of the story. What is not named here is a mistake, found at the end.
STORY = [
    "readHealth", "readLiveness", "readReadiness", "createKey", "listKeys", "readKey", "encrypt", "decrypt", "rewrap",
    "makeDataKey", "sign", "verify", "hash", "sampleEntropy", "drawKeystream", "encryptStream", "exportKey", "backUpKey",
    "restoreKey", "importKey", "configureKey", "rotateKey", "deleteKey", "undeleteKey", "readProfile", "createApiKey",
    "readApiKey", "listApiKeys", "configureApiKey", "rotateApiKey", "revokeApiKey", "deleteApiKey", "makeToken",
    "readIntegrity", "readAudit",
]
# Those without an example, and why.
SILENT = {
    "decryptStream": "its body is a stream that a server has sealed",
    "followAudit": "it does not end",
    "readDocument": "its reply is the description itself",
    "readConsole": "its reply is a page",
    "readSecurityTxt": "its reply is another one with each version",
    "readMetrics": "its reply is numbers",
}
# Members whose values are not the same for every server, and are not used again by their text.
VOLATILE = {
    "created_at", "last_used_at", "uptime_seconds", "version", "expires_at", "deleted_at", "purge_at", "revoked_at", "uses",
    "seals_reserved", "created_by",
}
# Members whose text is another on every server, and stands for it from then on.
LEARNT = {
    "ciphertext", "signature", "plaintext", "keystream", "nonce", "entropy", "id", "api_key", "access_token", "backup",
    "encryption_key", "hmac_key", "sub_key",
}
# Lists that hold what the story has made so far: looked at by their schema alone.
OPEN = {"listKeys", "listApiKeys", "readIntegrity", "readAudit", "readHealth"}


class Story:
    def __init__(self, document, url, key):
        self.document = document
        self.address = urllib.parse.urlsplit(url).netloc
        self.key = key
        self.learnt = {}
        self.count = 0

    def resolved(self, value):
        while "$ref" in value:
            found = self.document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            value = found
        return value

    def put(self, value):
        """An example's value with what this server gave in its place."""
        if isinstance(value, str):
            return self.learnt.get(value, value)
        if isinstance(value, list):
            return [self.put(item) for item in value]
        if isinstance(value, dict):
            return {name: self.put(item) for name, item in value.items()}
        return value

    def compare(self, where, said, came, name=""):
        if name in VOLATILE:
            return
        if isinstance(said, dict) and isinstance(came, dict):
            left, right = set(said) - VOLATILE, set(came) - VOLATILE
            assert left == right, f"{where}: members {sorted(left ^ right)}"
            for member in left:
                self.compare(f"{where}.{member}", said[member], came[member], member)
        elif isinstance(said, list) and isinstance(came, list):
            assert len(said) == len(came), f"{where}: {len(came)} items, not {len(said)}"
            for at, (one, other) in enumerate(zip(said, came)):
                self.compare(f"{where}[{at}]", one, other, name)
        elif name in LEARNT and isinstance(said, str) and said not in self.learnt:
            assert type(came) is str, where
            if said != came:
                self.learnt[said] = came
        else:
            assert self.put(said) == came, f"{where}: {came!r}, not {self.put(said)!r}"

    def send(self, method, path, query, body, headers):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        connection.request(method, target, body, {"X-API-Key": self.key, **headers})
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply, text

    def fits(self, where, schema, value):
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "components": self.document["components"]}
        found = [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in jsonschema_rs.validator_for(schema).iter_errors(value)]
        assert not found, f"{where}: {found}"

    def run(self, path, method, item, operation):
        body = operation.get("requestBody", {}).get("content", {})
        told = []
        for kind, media in body.items():
            for name, example in media.get("examples", {}).items():
                self.fits(f"{operation['operationId']} {kind} {name}, request", media["schema"], example["value"])
                told.append((kind, name, example))
        if not told:
            replies = operation["responses"]["200"].get("content", {}).get("application/json", {}).get("examples", {})
            told = [(None, name, example) for name, example in replies.items()]
        assert told, f"{operation['operationId']} has no example"
        for kind, name, example in told:
            self.example(path, method, item, operation, kind, name, example)

    def example(self, path, method, item, operation, kind, name, example):
        where = f"{operation['operationId']} {name}"
        given = example.get("x-parameters", {})
        query, headers = {}, {}
        for parameter in map(self.resolved, item.get("parameters", []) + operation.get("parameters", [])):
            value = given.get(parameter["name"], parameter.get("example"))
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", urllib.parse.quote(self.put(str(value)), safe=""))
            elif parameter["in"] == "query" and parameter["name"] in given:
                query[parameter["name"]] = self.put(value)
        payload = None
        if kind:
            headers["Content-Type"] = kind
            value = self.put(example["value"])
            payload = json.dumps(value) if "json" in kind else value
        reply, text = self.send(method.upper(), path, query, payload, headers)
        assert reply.status < 300, f"{where}: {reply.status} {text[:300]}"
        said = self.resolved(operation["responses"][str(reply.status)])
        for field, one in said["headers"].items():
            wanted = self.resolved(one).get("required")
            assert not wanted or reply.getheader(field) is not None, f"{where}: no {field}"
        unknown = {field for field, _ in reply.getheaders()} - set(said["headers"]) - {"Content-Type", "Content-Length", "Transfer-Encoding"}
        assert not unknown, f"{where}: fields that are not described: {unknown}"
        came = reply.getheader("Content-Type").split(";")[0]
        media = said["content"][came]
        if came == "application/json":
            value = json.loads(text)
            self.fits(where, media["schema"], value)
            shown = media.get("examples", {}).get(name)
            if shown:
                self.fits(f"{where}, reply", media["schema"], shown["value"])
                if operation["operationId"] not in OPEN:
                    self.compare(where, shown["value"], value)
        elif "x-reply" in example:
            assert text.decode() == example["x-reply"], f"{where}: {text!r}"
        self.count += 1
        print(f"ran: {where} ({kind or 'no body'}) -> {reply.status} {came}")


def main():
    document = json.loads(pathlib.Path(sys.argv[1]).read_text())
    story = Story(document, sys.argv[2], pathlib.Path(sys.argv[3]).read_text().strip())
    operations = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                operations[operation["operationId"]] = (path, method, item, operation)
    untold = set(operations) - set(STORY) - set(SILENT)
    assert not untold, f"not in the story: {sorted(untold)}"
    for name in STORY:
        story.run(*operations[name])


if __name__ == "__main__":
    main()
