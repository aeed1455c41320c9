// Logging in to Gatehouse by certificate, for nats.js under node. It is one file to be
// copied into an application.
//
//   const authenticator = certificate("orga", await readFile("alice.pem"), await readFile("alice.key"));
//   const nc = await connect({ servers, authenticator });
//
// The first certificate is the client's own; those between it and an approved one
// follow. The private key signs what a broker of that environment has to be shown, and
// is not sent. The environment is the program's to know, not the broker's to tell.
import { createHash, createPrivateKey, sign, X509Certificate } from "node:crypto";

export function certificate(environment, certPEM, keyPEM) {
  const certs = String(certPEM).match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  if (!certs) throw new Error("no certificate");
  const chain = certs.map((pem) => new X509Certificate(pem));
  const key = createPrivateKey(keyPEM);
  if (!chain[0].checkPrivateKey(key)) throw new Error("the private key is another certificate's");
  return (nonce) => {
    const content = Buffer.from(`gatehouse-auth-v1\0${environment}\0${nonce}`);
    return { jwt: "x509", sig: signedData(chain.map((c) => c.raw), key, content).toString("base64url") };
  };
}

// signedData is CMS SignedData (RFC 5652): detached, with signed attributes, by the
// first certificate.
function signedData(chain, key, content) {
  const { hash, digestID, scheme } = howToSign(key);
  const digest = createHash(hash).update(content).digest();
  const attributes = [
    sequence(oid("1.2.840.113549.1.9.3"), set(oid(data))), // content-type
    sequence(oid("1.2.840.113549.1.9.4"), set(tlv(0x04, digest))), // message-digest
  ].sort(Buffer.compare);
  const algorithm = sequence(oid(digestID));
  const signature = sign(key.asymmetricKeyType === "ed25519" ? null : hash, set(...attributes), key);
  const signer = sequence(
    integer(1), issuerAndSerial(chain[0]), algorithm, tlv(0xa0, ...attributes), scheme, tlv(0x04, signature));
  return sequence(oid("1.2.840.113549.1.7.2"), tlv(0xa0, sequence(
    integer(1), set(algorithm), sequence(oid(data)), tlv(0xa0, ...[...chain].sort(Buffer.compare)), set(signer))));
}

const data = "1.2.840.113549.1.7.1";
const sha = { sha256: "2.16.840.1.101.3.4.2.1", sha384: "2.16.840.1.101.3.4.2.2", sha512: "2.16.840.1.101.3.4.2.3" };

function howToSign(key) {
  const ecdsa = (hash, n) => ({ hash, digestID: sha[hash], scheme: sequence(oid(`1.2.840.10045.4.3.${n}`)) });
  switch (key.asymmetricKeyType) {
    case "rsa":
      return { hash: "sha256", digestID: sha.sha256, scheme: sequence(oid("1.2.840.113549.1.1.11"), tlv(0x05)) };
    case "ed25519":
      return { hash: "sha512", digestID: sha.sha512, scheme: sequence(oid("1.3.101.112")) };
    case "ec":
      switch (key.asymmetricKeyDetails.namedCurve) {
        case "prime256v1": return ecdsa("sha256", 2);
        case "secp384r1": return ecdsa("sha384", 3);
        case "secp521r1": return ecdsa("sha512", 4);
      }
  }
  throw new Error("RSA, P-256, P-384, P-521 and Ed25519 can log in");
}

// issuerAndSerial is how a certificate is named.
function issuerAndSerial(cert) {
  const fields = elements(elements(cert)[0]); // of the TBSCertificate
  if (fields[0][0] === 0xa0) fields.shift(); // version
  const [serial, , issuer] = fields;
  return sequence(issuer, serial);
}

// elements are the parts of a constructed value.
function elements(der) {
  const list = [];
  for (let at = header(der, 0).start; at < der.length;) {
    const { end } = header(der, at);
    list.push(der.subarray(at, end));
    at = end;
  }
  return list;
}

function header(der, at) {
  let length = der[at + 1], start = at + 2;
  if (length > 0x80) {
    const n = length & 0x7f;
    length = der.readUIntBE(start, n);
    start += n;
  }
  return { start, end: start + length };
}

function tlv(tag, ...parts) {
  const body = Buffer.concat(parts);
  const n = body.length;
  const length = n < 0x80 ? [n] : n < 0x100 ? [0x81, n] : [0x82, n >> 8, n & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

function sequence(...parts) { return tlv(0x30, ...parts); }
function set(...parts) { return tlv(0x31, ...parts); }
function integer(n) { return tlv(0x02, Buffer.from([n])); }

function oid(text) {
  const [a, b, ...rest] = text.split(".").map(Number);
  const bytes = [40 * a + b];
  for (const n of rest) {
    const arc = [n & 0x7f];
    for (let m = n >>> 7; m > 0; m >>>= 7) arc.unshift((m & 0x7f) | 0x80);
    bytes.push(...arc);
  }
  return tlv(0x06, Buffer.from(bytes));
}
