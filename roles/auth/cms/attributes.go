package cms

import (
	"bytes"
	"encoding/asn1"
	"slices"
	"time"

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
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidCountersigned = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
)

// readAttributes reads signed attributes, each of them once and in DER's order, and
// gives the digest among them.
func readAttributes(set cryptobyte.String) (digest []byte, err error) {
	var seen []asn1.ObjectIdentifier
	var before cryptobyte.String
	for !set.Empty() {
		var attr, values cryptobyte.String
		if !set.ReadASN1Element(&attr, tag.SEQUENCE) {
			return nil, errAttribute
		}
		if bytes.Compare(before, attr) >= 0 {
			return nil, fail(Attributes, "the signed attributes are not in the order of DER")
		}
		before = attr
		var oid asn1.ObjectIdentifier
		if !attr.ReadASN1(&attr, tag.SEQUENCE) || !attr.ReadASN1ObjectIdentifier(&oid) ||
			!attr.ReadASN1(&values, tag.SET) || !attr.Empty() || values.Empty() {
			return nil, errAttribute
		}
		switch {
		case has(seen, oid):
			return nil, fail(Attributes, "a signed attribute comes twice")
		case len(seen) == maxAttributes:
			return nil, fail(Attributes, "more than 16 signed attributes")
		}
		seen = append(seen, oid)
		if err := checkAttribute(oid, values, &digest); err != nil {
			return nil, err
		}
	}
	switch {
	case !has(seen, oidContentType):
		return nil, fail(Attributes, "no content-type among the signed attributes")
	case !has(seen, oidMessageDigest):
		return nil, fail(Attributes, "no message-digest among the signed attributes")
	}
	return digest, nil
}

var errAttribute = fail(Attributes, "a signed attribute is not DER")

func has(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}

// checkAttribute holds the values of one against what RFC 5652, 11, has of it. A time
// is the signer's word and counts for nothing.
func checkAttribute(oid asn1.ObjectIdentifier, values cryptobyte.String, digest *[]byte) error {
	switch {
	case oid.Equal(oidContentType):
		var name asn1.ObjectIdentifier
		if !values.ReadASN1ObjectIdentifier(&name) || !values.Empty() || !name.Equal(oidData) {
			return fail(Attributes, "the content-type is not id-data")
		}
	case oid.Equal(oidMessageDigest):
		var sum cryptobyte.String
		if !values.ReadASN1(&sum, tag.OCTET_STRING) || !values.Empty() {
			return fail(Attributes, "the message-digest is not one octet string")
		}
		*digest = sum
	case oid.Equal(oidSigningTime):
		var t time.Time
		read := values.ReadASN1UTCTime
		if values.PeekASN1Tag(tag.GeneralizedTime) {
			read = values.ReadASN1GeneralizedTime
		}
		if !read(&t) || !values.Empty() {
			return fail(Attributes, "the signing-time is not one time")
		}
	case oid.Equal(oidCountersigned):
		return fail(Attributes, "a countersignature that is signed itself")
	case !isDER(values, maxDepth) || !inOrder(values):
		return fail(Attributes, "the value of a signed attribute is not DER")
	}
	return nil
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
