#!/usr/bin/env bash
# Verifies one record with its proof, with openssl, sha256sum, od and base64 alone. No program of ours is used.
#
#   verify-record.sh LEAF PROOF VERIFIER-KEY
#
# LEAF: the bytes of the leaf. PROOF: the C2SP tlog-proof. VERIFIER-KEY: the log's key as it stands in trust.json
# ("key"): name+hash+base64. Exit code 0 and "VERIFIED" only if the signature on the checkpoint is that key's and the
# leaf is in the tree that it signed. Sources: C2SP signed-note, tlog-checkpoint, tlog-proof; RFC 9162 sections 2.1.1
# and 2.1.3.2.
set -euo pipefail
[ $# -eq 3 ] || { echo "usage: $0 LEAF PROOF VERIFIER-KEY" >&2; exit 2; }
leaf=$1 proof=$2 key=$3
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
fail() { echo "NOT VERIFIED: $1"; exit 1; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
bytes() { printf '%b' "$(printf '%s' "$1" | sed 's/../\\x&/g')"; }
sha() { sha256sum | cut -d' ' -f1; }

# the proof: head, empty line, checkpoint note (text, empty line, signature lines)
sed '/^$/,$d' "$proof" > "$work/head"
sed '1,/^$/d' "$proof" > "$work/note"
sed '/^$/,$d' "$work/note" > "$work/text"
[ "$(head -1 "$work/head")" = "c2sp.org/tlog-proof@v1" ] || fail "not a tlog-proof"
index=$(sed -n 's/^index \([0-9]*\)$/\1/p' "$work/head")
size=$(sed -n 2p "$work/text")
root=$(sed -n 3p "$work/text" | base64 -d | hex)
[ "$index" -lt "$size" ] || fail "the index is outside the tree"

# the signature: 4 bytes key hash and 64 bytes Ed25519 over the text; the key: 1 byte type and 32 bytes
name=${key%%+*}
rest=${key#*+}   # base64 may hold plus signs: cut off from the front
public=$(printf '%s' "${rest#*+}" | base64 -d | hex)
[ "${public:0:2}" = 01 ] || fail "the verifier key is not of the type Ed25519"
keyhash=$( { printf '%s\n' "$name"; bytes "$public"; } | sha)
signature=
while read -r dash signer blob; do
    if [ "$dash" = "—" ] && [ "$signer" = "$name" ]; then
        blob=$(printf '%s' "$blob" | base64 -d | hex)
        if [ "${blob:0:8}" = "${keyhash:0:8}" ]; then signature=${blob:8}; fi
    fi
done < <(sed '1,/^$/d' "$work/note")
[ -n "$signature" ] || fail "the checkpoint has no signature of this key"
bytes "302a300506032b6570032100${public:2}" > "$work/key.der"
bytes "$signature" > "$work/signature"
openssl pkeyutl -verify -pubin -inkey "$work/key.der" -keyform DER -rawin -in "$work/text" \
    -sigfile "$work/signature" >/dev/null 2>&1 || fail "the signature on the checkpoint is wrong"

# the leaf, folded up to the root
hash=$( { bytes 00; cat "$leaf"; } | sha)
echo "leaf hash  $hash"
fn=$index sn=$((size - 1))
while read -r line; do
    sibling=$(printf '%s' "$line" | base64 -d | hex)
    [ "$sn" -ne 0 ] || fail "the path is too long"
    if [ $((fn & 1)) -eq 1 ] || [ "$fn" -eq "$sn" ]; then
        hash=$(bytes "01$sibling$hash" | sha)
        while [ $((fn & 1)) -eq 0 ] && [ "$fn" -ne 0 ]; do fn=$((fn >> 1)); sn=$((sn >> 1)); done
    else
        hash=$(bytes "01$hash$sibling" | sha)
    fi
    fn=$((fn >> 1)); sn=$((sn >> 1))
done < <(grep -v -e '^c2sp' -e '^extra ' -e '^index ' "$work/head" || true)
[ "$sn" -eq 0 ] || fail "the path is too short"
[ "$hash" = "$root" ] || fail "the path does not lead to the signed root"
echo "VERIFIED: leaf $index of $size in $(head -1 "$work/text")"
