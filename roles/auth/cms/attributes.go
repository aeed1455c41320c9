package cms

import (
	"bytes"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// maxAttributes is more than any signer has.
const maxAttributes = 16

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
)

// readAttributes reads signed attributes, each of them once and in DER's order, and
// gives the digest among them.
func readAttributes(set cryptobyte.String) (digest []byte, err error) {
	var seen []asn1.ObjectIdentifier
	var before cryptobyte.String
	typed := false
	for !set.Empty() {
		var attr cryptobyte.String
		if !set.ReadASN1Element(&attr, tag.SEQUENCE) {
			return nil, fail(Attributes, "a signed attribute is not DER")
		}
		if bytes.Compare(before, attr) >= 0 {
			return nil, fail(Attributes, "the signed attributes are not in the order of DER")
		}
		before = attr
		var oid asn1.ObjectIdentifier
		var values cryptobyte.String
		if !attr.ReadASN1(&attr, tag.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&oid) ||
			!attr.ReadASN1(&values, tag.SET) || !attr.Empty() || values.Empty() {
			return nil, fail(Attributes, "a signed attribute is not DER")
		}
		for _, o := range seen {
			if o.Equal(oid) {
				return nil, fail(Attributes, "a signed attribute comes twice")
			}
		}
		if seen = append(seen, oid); len(seen) > maxAttributes {
			return nil, fail(Attributes, "more than 16 signed attributes")
		}
		switch {
		case oid.Equal(oidContentType):
			var name asn1.ObjectIdentifier
			if !values.ReadASN1ObjectIdentifier(&name) || !values.Empty() || !name.Equal(oidData) {
				return nil, fail(Attributes, "the content-type is not id-data")
			}
			typed = true
		case oid.Equal(oidMessageDigest):
			var sum cryptobyte.String
			if !values.ReadASN1(&sum, tag.OCTET_STRING) || !values.Empty() {
				return nil, fail(Attributes, "the message-digest is not one octet string")
			}
			digest = sum
		case !isDER(values, maxDepth) || !inOrder(values):
			return nil, fail(Attributes, "the value of a signed attribute is not DER")
		}
	}
	switch {
	case !typed:
		return nil, fail(Attributes, "no content-type among the signed attributes")
	case digest == nil:
		return nil, fail(Attributes, "no message-digest among the signed attributes")
	}
	return digest, nil
}

// maxDepth bounds how deep a value is that nobody here looks at.
const maxDepth = 16

// isDER tells whether in is values with the lengths of DER, all the way down.
func isDER(in cryptobyte.String, depth int) bool {
	for !in.Empty() {
		var value cryptobyte.String
		var t tag.Tag
		if !in.ReadAnyASN1(&value, &t) {
			return false
		}
		if t&0x20 == 0 {
			continue
		}
		if universal := t&0xc0 == 0; universal && t != tag.SEQUENCE && t != tag.SET {
			return false // a string in pieces is BER
		}
		if depth == 0 || !isDER(value, depth-1) {
			return false
		}
	}
	return true
}

// inOrder tells whether the elements of a SET OF are in the order of DER.
func inOrder(set cryptobyte.String) bool {
	var before cryptobyte.String
	for !set.Empty() {
		var element cryptobyte.String
		var t tag.Tag
		if !set.ReadAnyASN1Element(&element, &t) || bytes.Compare(before, element) > 0 {
			return false
		}
		before = element
	}
	return true
}
