#!/usr/bin/env bash
# Makes the messages of TestOpenSSL anew: RESULT.what.der, where RESULT is ok or the
# reason for which it is refused. The certificates in them may have expired since, which
# is not this package's affair.
set -euo pipefail
cd "$(dirname "$0")"
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
q() { "$@" 2>>"$t/log" || { cat "$t/log"; exit 1; }; }

cat >"$t/ext" <<X
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectKeyIdentifier=hash
X
q openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /O=ORGA/CN=root -keyout "$t/ca.key" -out "$t/ca.pem"
key() { # name, arguments of genpkey
	local name=$1
	shift
	q openssl genpkey "$@" -out "$t/$name.key"
	q openssl req -new -key "$t/$name.key" -subj "/O=ORGA/CN=$name" -out "$t/$name.csr"
	q openssl x509 -req -in "$t/$name.csr" -CA "$t/ca.pem" -CAkey "$t/ca.key" -days 3650 -extfile "$t/ext" -out "$t/$name.pem"
}
key rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
key weak -algorithm RSA -pkeyopt rsa_keygen_bits:1024
key p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
key p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
key p521 -algorithm EC -pkeyopt ec_paramgen_curve:P-521
key k1 -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1

challenge=mO9qYk1zXkqzJjTjJ8m0w3a2bRrQeX4T
printf 'gatehouse-auth-v1\0orga\0%s' $challenge >"$t/content"
printf 'gatehouse-auth-v1\0orgb\0%s' $challenge >"$t/elsewhere"
printf '%s' $challenge >"$t/bare"

rm -f ./*.der
sign() { # file, certificate, arguments of cms
	local out=$1 by=$2
	shift 2
	q openssl cms -sign -binary -in "$t/content" -signer "$t/$by.pem" -inkey "$t/$by.key" -outform DER -out "$out.der" "$@"
}
for by in rsa p256 p384 p521; do
	for md in sha256 sha384 sha512; do sign ok.$by-$md $by -md $md; done
done
sign ok.chain rsa -certfile "$t/ca.pem"
sign ok.keyid p256 -keyid
sign ok.no-smime-capabilities rsa -nosmimecap
sign ok.cades p256 -cades
sign ok.pss rsa -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:-1
sign algorithm.pss-long-salt rsa -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:-2
sign algorithm.sha1 rsa -md sha1
sign algorithm.sha224 p256 -md sha224
sign algorithm.weak weak -md sha256
sign certificates.secp256k1 k1 -md sha256
sign attributes.none rsa -noattr
sign form.attached p256 -nodetach
sign form.stream p256 -stream -nodetach
sign certificates.none p256 -nocerts
sign form.two-signers rsa -signer "$t/p256.pem" -inkey "$t/p256.key"
sign form.receipt-type p256 -econtent_type 1.2.3.4
q openssl cms -sign -binary -in "$t/elsewhere" -signer "$t/rsa.pem" -inkey "$t/rsa.key" -outform DER -out content.elsewhere.der
q openssl cms -sign -binary -in "$t/bare" -signer "$t/rsa.pem" -inkey "$t/rsa.key" -outform DER -out content.bare.der
q openssl smime -sign -binary -in "$t/content" -signer "$t/rsa.pem" -inkey "$t/rsa.key" -md sha256 -outform DER -out ok.pkcs7.der
