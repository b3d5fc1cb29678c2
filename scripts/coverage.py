"""Counts the lines of src/ that ran: coverage.py LCOV-IN LCOV-OUT FLOOR. Called by scripts/coverage, which says what is counted."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def tests_of(path):
    """The first line of what is compiled for tests alone, which stands last in a file (a house rule)."""
    lines = path.read_text().splitlines()
    for number, (line, after) in enumerate(zip(lines, lines[1:]), 1):
        if re.match(r"#\[cfg\((all\()?test\b", line) and re.match(r"(pub(\(\w+\))? )?mod ", after):
            return number
    return sys.maxsize


def main(source, target, floor):
    counts, path = {}, None
    for line in pathlib.Path(source).read_text().splitlines():
        if line.startswith("SF:"):
            path = line[3:]
        elif line.startswith("DA:"):
            number, count = line[3:].split(",")[:2]
            lines = counts.setdefault(path, {})
            lines[int(number)] = max(lines.get(int(number), 0), int(count))
    kept = {}
    for path, lines in counts.items():
        name = path.removeprefix(f"{ROOT}/")
        of_tests = name.endswith("/tests.rs") or "/tests/" in name
        if name.startswith("src/") and name != "src/main.rs" and not name.startswith("src/pentest") and not of_tests:
            end = tests_of(ROOT / name)
            kept[name] = {number: count for number, count in lines.items() if number < end}
    if not kept:
        sys.exit("coverage: nothing was counted")
    with open(target, "w") as out:
        for name, lines in sorted(kept.items()):
            out.write(f"SF:{name}\n" + "".join(f"DA:{n},{c}\n" for n, c in sorted(lines.items())) + "end_of_record\n")
    floors = {}
    for name, lines in kept.items():
        floor_of = name.split("/")[1].removesuffix(".rs")
        ran, all_of = floors.get(floor_of, (0, 0))
        floors[floor_of] = (ran + sum(count > 0 for count in lines.values()), all_of + len(lines))
    for name, (ran, all_of) in sorted(floors.items()):
        if all_of:
            print(f"  {name:<14} {ran:>6} of {all_of:>6} lines  {100 * ran / all_of:5.1f} %")
    ran, all_of = (sum(pair[place] for pair in floors.values()) for place in (0, 1))
    percent = 100 * ran / all_of
    print(f"coverage: {ran} of {all_of} lines, {percent:.1f} % (at least {floor})")
    if percent < float(floor):
        sys.exit(1)


main(*sys.argv[1:])
