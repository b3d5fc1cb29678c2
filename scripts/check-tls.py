"""Reads what a TLS scanner found, for scripts/check-tls.

    check-tls.py testssl|sslscan|sslyze OLDEST REPORT LOG SECONDS

OLDEST is the oldest version of TLS that the server speaks, 1.2 or 1.3. Only sslyze sees TLS 1.2: the hellos of the other two
lack the extended master secret (RFC 7627), without which the server does not speak it, and that is checked. Prints one line; ends with 1 if something is
above "low" that is not expected below.
"""

import json
import sys
import xml.etree.ElementTree

# What a scan of a development certificate on loopback cannot help finding, by the identifier of testssl.sh.
EXPECTED = {
    "cert_chain_of_trust": "the certificate is a self-signed one for development",
    "cert_trust": "the scanner asks for 127.0.0.1, the name of a loopback listener",
    "cert_revocation": "nobody can revoke a self-signed certificate",
    "engine_problem": "about the scanner's own OpenSSL: no GOST engine",
    "optimal_proto": "about the scanner's own OpenSSL, where the server speaks TLS 1.3 alone",
    "sessionresumption_ticket": "the scanner's test of it needs TLS 1.2",
}
# By the part of sslyze's check against the profile of Mozilla.
EXPECTED_SSLYZE = {
    "certificate_path_validation": "the certificate is a self-signed one for development",
}

CIPHERS_13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
# Of the three suites of TLS 1.2; sslyze asks for the two with AES with an old OpenSSL, without the extended master secret.
CIPHERS_12 = {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}
# sslscan knows no hybrid group.
GROUPS = {"0x0017", "0x0018", "0x001d"}
# These parts of sslyze must have come to a result.
SSLYZE_PARTS = ("heartbleed", "robot", "openssl_ccs_injection", "tls_compression", "session_renegotiation")


def testssl(path):
    with open(path, encoding="utf-8") as file:
        findings = json.load(file)
    by_id = {}
    for finding in findings:
        by_id.setdefault(finding["id"], []).append(finding)
    bad = [f"no result for {name}" for name in ("TLS1_3", "heartbleed", "BREACH", "HSTS_time", "PFS") if name not in by_id]
    bad += [
        f"{finding['id']} ({finding['severity']}): {finding['finding']}"
        for finding in findings
        if finding["severity"] not in ("OK", "INFO", "LOW", "DEBUG") and finding["id"] not in EXPECTED
    ]
    if any("not offered" not in finding["finding"] for finding in by_id.get("TLS1_2", [])):
        bad.append("TLS 1.2 without the extended master secret")
    return len(findings), bad


def sslscan(path):
    test = xml.etree.ElementTree.parse(path).getroot().find("ssltest")
    if test is None:
        return 0, ["no scan in the report"]
    bad = []
    spoken = [row.get("version") for row in test.findall("protocol") if row.get("enabled") == "1"]
    if spoken != ["1.3"]:
        bad.append(f"protocols {spoken}")
    seen = {row.get("cipher") for row in test.findall("cipher")}
    if seen != CIPHERS_13:
        bad.append(f"ciphers {seen}")
    groups = {row.get("id") for row in test.findall("group")}
    if groups != GROUPS:
        bad.append(f"groups {groups}")
    bad += [f"heartbleed {row.attrib}" for row in test.findall("heartbleed") if row.get("vulnerable") != "0"]
    bad += [f"compression {row.attrib}" for row in test.findall("compression") if row.get("supported") != "0"]
    bad += [
        f"renegotiation {row.attrib}"
        for row in test.findall("renegotiation")
        if row.get("supported") == "1" and row.get("secure") != "1"
    ]
    return len(seen) + len(groups), bad


def sslyze(path, log, oldest):
    with open(path, encoding="utf-8") as file:
        [result] = json.load(file)["server_scan_results"]
    done = [name for name, part in result["scan_result"].items() if part["status"] == "COMPLETED"]
    bad = [f"no result for {name}" for name in SSLYZE_PARTS if name not in done]
    for version, expected in (("2", CIPHERS_12 if oldest == "1.2" else set()), ("3", CIPHERS_13)):
        rows = result["scan_result"][f"tls_1_{version}_cipher_suites"]["result"]["accepted_cipher_suites"]
        names = {row["cipher_suite"]["name"] for row in rows}
        if names != expected:
            bad.append(f"ciphers of TLS 1.{version}: {names}")
    # The comparison with the profile is only in what it prints.
    with open(log, encoding="utf-8") as file:
        printed = file.read()
    if "COMPLIANCE AGAINST TLS CONFIGURATION" not in printed:
        return len(done), [*bad, "no comparison with the profile"]
    comparison = printed.split("COMPLIANCE AGAINST TLS CONFIGURATION")[1]
    lines = [line.strip()[2:] for line in comparison.splitlines() if line.strip().startswith("* ")]
    if not lines and "OK - Compliant" not in comparison:
        bad.append("no comparison with the profile")
    return len(done), bad + [line for line in lines if line.split(":")[0] not in EXPECTED_SSLYZE]


def main():
    tool, oldest, path, log, seconds = sys.argv[1:]
    try:
        if tool == "sslyze":
            count, bad = sslyze(path, log, oldest)
        else:
            count, bad = {"testssl": testssl, "sslscan": sslscan}[tool](path)
    except (OSError, ValueError, KeyError, xml.etree.ElementTree.ParseError) as error:
        count, bad = 0, [f"no report: {error}"]
    print(f"{tool}, TLS {oldest} and newer: {count} results, {len(bad)} above low, {seconds} s")
    for line in bad:
        print(f"    {line}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
