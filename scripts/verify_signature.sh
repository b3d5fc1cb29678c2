#!/usr/bin/env bash
# Checks what scripts/sign.sh, or cosign with the same kind of key, has signed. Nothing is asked of the network.
#
#   scripts/verify_signature.sh --key PUBLIC blob FILE...       by FILE.sigstore.json and FILE.sig, whichever are there
#   scripts/verify_signature.sh --key PUBLIC statement FILE...  in-toto statements, by FILE.sigstore.json
#   scripts/verify_signature.sh --key PUBLIC image LAYOUT       an OCI layout: the signature, that it is of this image, that nothing
#                                                           else goes by a name in it, and that each blob is there and whole
#   scripts/verify_signature.sh digest LAYOUT                   what the image of a layout is called by
#   scripts/verify_signature.sh --identity REGEXP --issuer URL blob|statement|image FILE|NAME@DIGEST...   without a key: by cosign
#                                                           (2.6 or later); of a statement each file that it is about
#
# Ends with 0 only if every signature there is holds; what has none does not.
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 64
}

refuse() {
    echo "REFUSED: $*" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# Whether the signature, DER in base64, is that of the file.
holds() { # PUBLIC SIGNATURE FILE
    base64 -d <<<"$2" >"$work/der" 2>/dev/null && [[ -s $work/der ]] &&
        openssl dgst -sha256 -verify "$1" -signature "$work/der" "$3" >/dev/null 2>&1
}

member() { jq -er "$1" "$2" 2>/dev/null || refuse "$2 has no $1"; }

is_bundle() { [[ $(member .mediaType "$1") == application/vnd.dev.sigstore.bundle.v0.3+json ]] || refuse "$1 is no Sigstore bundle v0.3"; }

verify_blob() { # PUBLIC FILE
    local found=0
    [[ -r $2 ]] || refuse "$2 cannot be read"
    if [[ -e $2.sigstore.json ]]; then
        is_bundle "$2.sigstore.json"
        [[ $(member .messageSignature.messageDigest.digest "$2.sigstore.json") == "$(openssl dgst -sha256 -binary "$2" | base64 -w0)" ]] ||
            refuse "$2: its bundle is of another file"
        holds "$1" "$(member .messageSignature.signature "$2.sigstore.json")" "$2" || refuse "$2: the signature of its bundle does not hold"
        found=1
    fi
    if [[ -e $2.sig ]]; then
        holds "$1" "$(cat "$2.sig")" "$2" || refuse "$2: $2.sig does not hold"
        found=1
    fi
    ((found)) || refuse "$2: there is no signature"
    echo "VERIFIED: $2"
}

# Whether the bundle is around this statement; its signature is looked at elsewhere.
around() { # FILE: its bundle's bytes into $work/payload
    local bundle=$1.sigstore.json kind
    [[ -r $bundle ]] || refuse "$1: there is no signature"
    is_bundle "$bundle"
    kind=$(member .dsseEnvelope.payloadType "$bundle")
    [[ $kind == application/vnd.in-toto+json ]] || refuse "$bundle: a $kind"
    member .dsseEnvelope.payload "$bundle" | base64 -d >"$work/payload"
    cmp -s "$work/payload" "$1" || refuse "$1: its bundle is of another statement"
}

verify_statement() { # PUBLIC FILE
    local bundle=$2.sigstore.json kind=application/vnd.in-toto+json
    around "$2"
    {
        printf 'DSSEv1 %d %s %d ' "${#kind}" "$kind" "$(wc -c <"$work/payload")"
        cat "$work/payload"
    } >"$work/signed"
    holds "$1" "$(member '.dsseEnvelope.signatures[0].sig' "$bundle")" "$work/signed" || refuse "$2: its signature does not hold"
    echo "VERIFIED: $2"
}

# A blob by what it is called; a name says nothing yet: the bytes must be those that it was made from.
blob() { # LAYOUT DIGEST
    [[ $2 =~ ^sha256:[0-9a-f]{64}$ ]] || refuse "$1: ${2:0:80} is no digest"
    [[ -f $1/blobs/sha256/${2#sha256:} ]] || refuse "$1: ${2#sha256:} is not there"
    [[ $(sha256sum <"$1/blobs/sha256/${2#sha256:}") == "${2#sha256:}  -" ]] || refuse "$1: ${2#sha256:} is not what it is called"
    echo "$1/blobs/sha256/${2#sha256:}"
}

# Everything that a manifest names, and what those name.
whole() { # LAYOUT DIGEST
    local file found digest
    file=$(blob "$1" "$2")
    found=$(jq -r '(.manifests // [])[].digest' "$file") || refuse "$1: $2 is no manifest"
    for digest in $found; do whole "$1" "$digest"; done
    found=$(jq -r '.config // empty, (.layers // [])[] | .digest' "$file") || refuse "$1: $2 is no manifest"
    for digest in $found; do blob "$1" "$digest" >/dev/null; done
}

# The one image of a layout. Nobody signs index.json, and engines take out of it what they are asked for by name: so whatever
# else is there has no name but that of the image's signature, or says of itself, in its own bytes, that it refers to the image.
image_digest() { # LAYOUT
    local found others entry file
    # What readers understand in different ways: a member twice, or one that is written in another case.
    cmp -s <(jq -c --stream . "$1/index.json") <(jq -c . "$1/index.json" | jq -c --stream .) || refuse "$1/index.json says something twice"
    found=$(jq -r '[keys[], (.manifests[] | keys[])] - ["schemaVersion", "mediaType", "manifests", "digest", "size", "annotations", "platform",
        "artifactType"] | .[0] // empty' "$1/index.json") || refuse "$1 is no OCI layout"
    [[ -z $found ]] || refuse "$1/index.json has a member ${found:0:40}"
    found=$(jq -r '.manifests[] | select(has("artifactType") | not) | .digest' "$1/index.json") || refuse "$1 is no OCI layout"
    [[ $found =~ ^sha256:[0-9a-f]{64}$ ]] || refuse "$1 holds not exactly one image"
    others=$(jq -c '.manifests[] | select(has("artifactType"))' "$1/index.json")
    while read -r entry; do
        [[ -n $entry ]] || continue
        jq -e --arg name "${found/:/-}.sig" '.annotations == {"org.opencontainers.image.ref.name": $name}' <<<"$entry" >/dev/null && continue
        jq -e '(.annotations // {}) == {}' <<<"$entry" >/dev/null || refuse "$1/index.json gives a name to what is not its image: ${entry:0:200}"
        file=$(blob "$1" "$(jq -r .digest <<<"$entry")")
        [[ $(jq -r '.subject.digest // empty' "$file") == "$found" ]] || refuse "$1/index.json names ${file##*/}, which does not refer to its image"
    done <<<"$others"
    echo "$found"
}

# What the image is asked for by.
image_tag() { # LAYOUT
    jq -r '.manifests[] | select(has("artifactType") | not) | .annotations["org.opencontainers.image.ref.name"] // "(no tag)"' "$1/index.json" | tr -cd '[:print:]'
}

verify_image() { # PUBLIC LAYOUT
    local digest tag manifest entries index file all
    digest=$(image_digest "$2")
    for file in "$2"/blobs/sha256/*; do blob "$2" "sha256:${file##*/}" >/dev/null; done
    all=$(jq -r '.manifests[].digest' "$2/index.json")
    for file in $all; do whole "$2" "$file"; done
    tag=${digest/:/-}.sig
    manifest=$(jq -r --arg tag "$tag" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag) | .digest' "$2/index.json")
    [[ $manifest =~ ^sha256:[0-9a-f]{64}$ ]] || refuse "$2: there is no signature of $digest"
    manifest=$2/blobs/sha256/${manifest#sha256:}
    entries=$(member '.layers | length' "$manifest")
    # Several may have signed; one that holds is what is asked for.
    for ((index = 0; index < entries; index++)); do
        local payload
        payload=$(blob "$2" "$(member ".layers[$index].digest" "$manifest")")
        holds "$1" "$(member ".layers[$index].annotations[\"dev.cosignproject.cosign/signature\"]" "$manifest")" "$payload" || continue
        [[ $(member .critical.type "$payload") == "cosign container image signature" ]] || refuse "$payload is no signature of an image"
        [[ $(member '.critical.image["docker-manifest-digest"]' "$payload") == "$digest" ]] || refuse "$2: the signature is of another image"
        echo "VERIFIED: $2 $digest as $(member '.critical.identity["docker-reference"]' "$payload"), which its index calls $(image_tag "$2")"
        return
    done
    refuse "$2: no signature of $digest holds"
}

(($# >= 2)) || usage
case $1 in
digest) image_digest "$2" ;;
--key)
    (($# >= 4)) || usage
    public=$2 what=$3
    shift 3
    openssl pkey -pubin -in "$public" -noout 2>/dev/null || refuse "$public is no public key"
    for thing in "$@"; do
        case $what in
        blob) verify_blob "$public" "$thing" ;;
        statement) verify_statement "$public" "$thing" ;;
        image) verify_image "$public" "$thing" ;;
        *) usage ;;
        esac
    done
    ;;
--identity)
    (($# >= 6)) || usage
    [[ $3 == --issuer ]] || usage
    identity=$2 issuer=$4 what=$5
    shift 5
    command -v cosign >/dev/null || refuse "what was signed without a key is checked by cosign, which is not there"
    for thing in "$@"; do
        case $what in
        blob) cosign verify-blob --new-bundle-format --bundle "$thing.sigstore.json" --certificate-identity-regexp "$identity" --certificate-oidc-issuer "$issuer" "$thing" ;;
        statement)
            around "$thing"
            type=$(member .predicateType "$thing")
            names=$(member '.subject[].name' "$thing")
            while read -r name; do
                [[ -n $name && $name != */* ]] || refuse "$thing: it is about ${name:0:80}"
                cosign verify-blob-attestation --new-bundle-format --bundle "$thing.sigstore.json" --type "$type" \
                    --certificate-identity-regexp "$identity" --certificate-oidc-issuer "$issuer" "$(dirname -- "$thing")/$name" </dev/null
            done <<<"$names"
            ;;
        image)
            [[ $thing == *@sha256:* ]] || refuse "$thing: an image is checked by its digest"
            cosign verify --certificate-identity-regexp "$identity" --certificate-oidc-issuer "$issuer" "$thing"
            ;;
        *) usage ;;
        esac
    done
    ;;
*) usage ;;
esac
