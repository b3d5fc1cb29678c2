"""What the traced servers called, held against the filters.

    check-sandbox-rules.py TRACES FILTERS PROCESS BROKER STARTUP

TRACES holds the directories `servers` and `commands`, with a file of `strace -ff -e raw=!prctl` for each thread, FILTERS a file of seccomp/, PROCESS
that of the filter of the whole process, BROKER that of the child that speaks to etcd, STARTUP the source with the calls of a start. A thread's role is the name that it gave
itself, the first thread's is `main`, which enters the filter of the process for all of them; what a thread called before it entered that
of its role belongs to the start. Fails for a rule that nothing used and that UNUSED does not name, for a call that no rule of the
role allows, or before that none of the process, and for a call of a start that STARTUP does not name, or names in vain.
"""

import collections
import json
import pathlib
import re
import sys

# Rules that a correct run on this machine need not use: (role or *, call, part of its comment) and why.
UNUSED = [
    ("*", "clock_gettime", "", "used where the vDSO has no clock source: hpet, acpi_pm, some virtual machines"),
    ("*", "futex", "wait, untimed", "which of the two forms of waiting is used is the standard library's business"),
    ("*", "exit_group", "panic hook", "the process ends from this thread after a defect only"),
    ("archivist", "getrandom", "session tickets", "the TLS library's generator has bytes left for the first changes"),
    ("*", "write", "log lines and the panic message", "a thread that had nothing to say"),
    ("broker", "socket", "IPv6", "etcd listens on IPv4 here"),
    ("broker", "getrandom", "", "etcd speaks no TLS here"),
    ("broker", "writev", "", "etcd speaks no TLS here"),
    ("broker", "membarrier", "", "etcd speaks no TLS here"),
    ("broker", "sched_yield", "", "etcd speaks no TLS here"),
    ("broker", "setsockopt", "waits for ever", "which waits have a time is the connection's business"),
    ("broker", "mremap", "", "the state is small here"),
    ("broker", "munmap", "", "the state is small here"),
    ("broker", "madvise", "", "the state is small here"),
    ("broker", "clock_nanosleep", "", "etcd is there"),
    ("broker", "nanosleep", "", "etcd is there"),
    ("broker", "restart_syscall", "", "nobody stops it here"),
    ("broker", "futex", "", "which of its waits are needed is chance"),
    ("broker", "read", "", "which of read and recvfrom is called is the standard library's business"),
    ("broker", "write", "", "which of write and sendto is called is the standard library's business"),
    ("broker", "sendto", "", "which of write and sendto is called is the standard library's business"),
    ("broker", "recvfrom", "", "which of read and recvfrom is called is the standard library's business"),
    ("broker", "prctl", "", "the tracer shows its arguments by name"),
    ("broker", "exit", "", "its threads end with it"),
]

# Calls of a start that the chosen tests need not make, and why.
UNCALLED = {"clock_nanosleep": "a start that waits for another to leave the store polls its lock"}

COMPARE = {
    "eq": lambda found, wanted: found == wanted,
    "ne": lambda found, wanted: found != wanted,
    "ge": lambda found, wanted: found >= wanted,
    "gt": lambda found, wanted: found > wanted,
    "le": lambda found, wanted: found <= wanted,
    "lt": lambda found, wanted: found < wanted,
}
CALL = re.compile(r"^(\w+)\((.*)\) += ")
NAME = re.compile(r'^prctl\(PR_SET_NAME, "([^"]*)"\)')


def allows(rule, arguments):
    for condition in rule.get("args", []):
        mask = 0xFFFFFFFF if condition["type"] == "dword" else 0xFFFFFFFFFFFFFFFF
        index = condition["index"]
        if index >= len(arguments):
            return False
        operation, found = condition["op"], arguments[index] & mask
        if isinstance(operation, dict):
            found, operation = found & operation["masked_eq"], "eq"
        if not COMPARE[operation](found, condition["val"]):
            return False
    return True


def numbers(text):
    try:
        return [int(part, 0) for part in text.split(", ")] if text else []
    except ValueError:
        return []


def role_of(name, filters):
    if name.startswith("etcd-"):
        return "broker"
    role = re.sub(r"-\d+$", "", name)
    return role if role in filters else "main"


def main():
    traces, filters_file, process_file, broker_file, startup_file = map(pathlib.Path, sys.argv[1:])
    filters = json.loads(filters_file.read_text())
    broker = json.loads(broker_file.read_text())
    filters["broker"] = {"filter": broker["everywhere"] + broker["x86_64"]}
    process = json.loads(process_file.read_text())
    process = process["everywhere"] + process["x86_64"]
    # What the rules of the roles hold is looked at there.
    of_roles = {rule["syscall"] for content in filters.values() for rule in content["filter"]}
    of_start = set()
    source = startup_file.read_text().split("const CALLS", 1)[1].split("];", 1)[0]
    listed = set(re.findall(r'^    \("(\w+)", "', source, re.MULTILINE))
    # What depends on rights, kernel and settings: it may be called, and need not.
    elsewhere = set(re.findall(r'^    \("(\w+)", "', startup_file.read_text(), re.MULTILINE)) - listed
    used = collections.Counter()
    outside = collections.Counter()
    started = collections.Counter()
    killed = []
    threads = 0
    for file in sorted((traces / "servers").iterdir()):
        role, locked = "main", False
        seen_filter = False
        entered = 0
        before = collections.Counter()
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("+++") or line.startswith("---"):
                if "SIGSYS" in line:
                    killed.append(f"{file.name} ({role}): {line}")
                if line.startswith("+++"):
                    if seen_filter:
                        started.update(before)
                    role, locked, seen_filter, before = "main", False, False, collections.Counter()
                    entered = 0
                continue
            named = NAME.match(line)
            if named:
                role = role_of(named.group(1), filters)
                if named.group(1).startswith("etcd-"):
                    # Born under its filter.
                    locked = True
                    continue
            match = CALL.match(line)
            if not match:
                continue
            call, arguments = match.group(1), numbers(match.group(2))
            if call == "seccomp" and arguments[:1] == [1]:
                before[call] += 1
                entered += 1
                if role == "main" and entered == 1:
                    continue
                locked = seen_filter = True
                threads += 1
                continue
            if not locked:
                before[call] += 1
                # Of the other threads no file says when main entered it for them; they wait until then, and enter their own.
                if entered:
                    hits = [number for number, rule in enumerate(process) if rule["syscall"] == call and allows(rule, arguments)]
                    of_start.update(hits)
                    if not hits and call != "prctl":
                        outside[f"process: {line[:120]}"] += 1
                continue
            hits = [
                number
                for number, rule in enumerate(filters[role]["filter"])
                if rule["syscall"] == call and allows(rule, arguments)
            ]
            for number in hits:
                used[role, number] += 1
            if not hits:
                outside[f"{role}: {line[:120]}"] += 1
        if seen_filter:
            started.update(before)

    for file in (traces / "commands").iterdir():
        started.update(line.split("(", 1)[0] for line in file.read_text().splitlines() if CALL.match(line) or line.startswith("exit"))

    # Without an etcd there is no broker, and the keeper has no such neighbour.
    alone = not any(role == "broker" for role, _ in used)
    if alone:
        del filters["broker"]
        print("no broker was traced: its rules, and the keeper's for it, were not held against anything")
    failures = []
    if not threads:
        failures.append("no thread was seen that entered a filter: nothing was traced")
    failures += [f"killed: {text}" for text in killed]
    failures += [f"outside of the rules, {count} times: {text}" for text, count in outside.most_common(20)]
    for role, content in filters.items():
        rules = content["filter"]
        seen = sum(1 for number in range(len(rules)) if used[role, number])
        print(f"{role}: {seen} of {len(rules)} rules used")
        for number, rule in enumerate(rules):
            if used[role, number]:
                continue
            shown = f"{role}: {rule['syscall']}: {rule['comment']}"
            arguments = ", ".join(f"{one['index']} {one['op']} {one['val']}" for one in rule.get("args", []))
            reasons = [
                why
                for of, call, part, why in UNUSED
                if of in ("*", role) and call == rule["syscall"] and part in rule["comment"]
            ]
            if alone and ("broker" in rule["comment"] or "etcd" in rule["comment"]):
                continue
            if reasons:
                print(f"  not used, accepted: {shown}: {reasons[0]}")
            else:
                failures.append(f"nothing uses this rule: {shown} [{arguments}]")
    for number, rule in enumerate(process):
        # The tracer shows the arguments of prctl by name; seccomp is the mark by which threads were followed.
        if number in of_start or rule["syscall"] in of_roles or rule["syscall"] in ("prctl", "seccomp"):
            continue
        failures.append(f"nothing uses this rule: process: {rule['syscall']}: {rule['comment']}")
    print(f"process: {len(of_start)} of {len(process)} rules used by a start")
    print(f"start: {len(started)} calls, {threads} threads were followed into their filters")
    failures += [f"a start calls {call}, which {startup_file} does not name" for call in sorted(set(started) - listed - elsewhere)]
    failures += [f"{startup_file} names {call}, which no start called" for call in sorted(listed - set(started) - set(UNCALLED))]
    for failure in failures:
        print(f"FAILED {failure}")
    sys.exit(1 if failures else 0)


main()
