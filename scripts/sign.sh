#!/usr/bin/env bash
# Signs files, statements of provenance and images in cosign's formats.
#
#   scripts/sign.sh keys FOLDER                      a key pair: FOLDER/cosign.key and FOLDER/cosign.pub (ECDSA P-256)
#   scripts/sign.sh --key KEY blob FILE...           FILE.sig, and FILE.sigstore.json (Sigstore bundle v0.3)
#   scripts/sign.sh --key KEY statement FILE...      in-toto statements: FILE.sigstore.json around them (DSSE)
#   scripts/sign.sh --key KEY image LAYOUT NAME      into an OCI layout, as cosign lays it beside an image in a registry
#   scripts/sign.sh --keyless blob|statement FILE... the same by cosign (2.6 or later), with the identity of a workflow
#   scripts/sign.sh --keyless image NAME@DIGEST      in the registry
#
# With a key, `openssl` and `jq` are enough, nothing is asked of the network, and no log is written of it: so say when you
# publish the key. KEY is PEM; what `cosign generate-key-pair` makes is encrypted in a form of its own, and for `cosign` itself.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)

usage() {
    sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 64
}

fail() {
    echo "scripts/sign.sh: $*" >&2
    exit 1
}

base64_of() { base64 -w0; }

# What tells a reader which key it is.
hint() { openssl pkey -in "$1" -pubout -outform DER 2>/dev/null | openssl dgst -sha256 -binary | base64_of; }

# The signature over standard input, as DER in base64.
signed() { openssl dgst -sha256 -sign "$1" | base64_of; }

sign_blob() { # KEY FILE
    local signature digest
    signature=$(signed "$1" <"$2")
    digest=$(openssl dgst -sha256 -binary "$2" | base64_of)
    printf '%s' "$signature" >"$2.sig"
    jq -n --arg hint "$(hint "$1")" --arg digest "$digest" --arg signature "$signature" '{
        mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
        verificationMaterial: {publicKey: {hint: $hint}, tlogEntries: []},
        messageSignature: {messageDigest: {algorithm: "SHA2_256", digest: $digest}, signature: $signature}
    }' >"$2.sigstore.json"
    echo "$2: signed ($2.sig, $2.sigstore.json)"
}

# DSSE: what is signed is the type and the text, each with its length.
sign_statement() { # KEY FILE
    local kind=application/vnd.in-toto+json signature
    jq -e '._type == "https://in-toto.io/Statement/v1" and (.subject | length > 0)' "$2" >/dev/null || fail "$2 is no in-toto statement"
    signature=$({
        printf 'DSSEv1 %d %s %d ' "${#kind}" "$kind" "$(wc -c <"$2")"
        cat "$2"
    } | signed "$1")
    jq -n --arg hint "$(hint "$1")" --arg kind "$kind" --arg payload "$(base64_of <"$2")" --arg signature "$signature" '{
        mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
        verificationMaterial: {publicKey: {hint: $hint}, tlogEntries: []},
        dsseEnvelope: {payload: $payload, payloadType: $kind, signatures: [{sig: $signature, keyid: ""}]}
    }' >"$2.sigstore.json"
    echo "$2: signed ($2.sigstore.json)"
}

# Puts a blob into the layout; prints its descriptor.
blob() { # LAYOUT MEDIA-TYPE FILE
    local digest
    digest=$(sha256sum <"$3" | cut -d ' ' -f 1)
    cp -- "$3" "$1/blobs/sha256/$digest"
    jq -cn --arg media "$2" --arg digest "sha256:$digest" --argjson size "$(wc -c <"$3")" '{mediaType: $media, digest: $digest, size: $size}'
}

sign_image() { # KEY LAYOUT NAME
    local digest work signature layer config tag
    digest=$("$here/verify_signature.sh" digest "$2")
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # that folder, whatever is called so at the end
    trap "rm -rf -- '$work'" EXIT
    # Cosign's simple signing: what is signed names the digest, and whoever checks compares it.
    jq -cjn --arg name "$3" --arg digest "$digest" '{
        critical: {identity: {"docker-reference": $name}, image: {"docker-manifest-digest": $digest}, type: "cosign container image signature"},
        optional: null
    }' >"$work/payload"
    signature=$(signed "$1" <"$work/payload")
    layer=$(blob "$2" application/vnd.dev.cosign.simplesigning.v1+json "$work/payload")
    jq -cjn --argjson layer "$layer" '{architecture: "", os: "", config: {}, rootfs: {type: "layers", diff_ids: [$layer.digest]}}' >"$work/config"
    config=$(blob "$2" application/vnd.oci.image.config.v1+json "$work/config")
    jq -cjn --argjson layer "$layer" --argjson config "$config" --arg signature "$signature" '{
        schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config,
        layers: [$layer + {annotations: {"dev.cosignproject.cosign/signature": $signature}}]
    }' >"$work/manifest"
    tag=${digest/:/-}.sig
    jq -c --argjson entry "$(blob "$2" application/vnd.oci.image.manifest.v1+json "$work/manifest")" --arg tag "$tag" '
        .manifests |= map(select(.annotations["org.opencontainers.image.ref.name"] != $tag))
            + [$entry + {artifactType: "application/vnd.dev.cosign.artifact.sig.v1+json", annotations: {"org.opencontainers.image.ref.name": $tag}}]
    ' "$2/index.json" >"$work/index"
    cp -- "$work/index" "$2/index.json"
    echo "$2: $digest signed as $3 ($tag)"
}

keyless() { # WHAT ARGUMENT...
    command -v cosign >/dev/null || fail "signing without a key needs cosign, and the identity of a workflow"
    local what=$1 file
    shift
    for file in "$@"; do
        case $what in
        blob) cosign sign-blob --yes --new-bundle-format --bundle "$file.sigstore.json" "$file" ;;
        # The subjects and the predicate are in the statement already.
        statement) cosign attest-blob --yes --new-bundle-format --statement "$file" --bundle "$file.sigstore.json" ;;
        image)
            [[ $file == *@sha256:* ]] || fail "$file: an image is signed by its digest, never by a tag"
            cosign sign --yes "$file"
            ;;
        *) usage ;;
        esac
    done
}

(($# >= 2)) || usage
case $1 in
keys)
    mkdir -p -- "$2"
    [[ ! -e $2/cosign.key ]] || fail "$2/cosign.key exists"
    (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2/cosign.key" 2>/dev/null)
    openssl pkey -in "$2/cosign.key" -pubout -out "$2/cosign.pub"
    echo "$2/cosign.key (keep it away from the sources and from every machine that builds), $2/cosign.pub"
    ;;
--keyless)
    shift
    keyless "$@"
    ;;
--key)
    (($# >= 4)) || usage
    key=$2 what=$3
    shift 3
    [[ -r $key ]] || fail "$key cannot be read"
    case $what in
    blob) for file in "$@"; do sign_blob "$key" "$file"; done ;;
    statement) for file in "$@"; do sign_statement "$key" "$file"; done ;;
    image)
        (($# == 2)) || usage
        sign_image "$key" "$1" "$2"
        ;;
    *) usage ;;
    esac
    ;;
*) usage ;;
esac
