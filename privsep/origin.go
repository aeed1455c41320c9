package privsep

// Origin is an address as far as it stands for one party: of IPv6 a /64, since that is
// what one is given.
type Origin [16]byte

// OriginOf gives that of an address, of IPv4 as mapped to IPv6 (RFC 4291, 2.5.5.2).
func OriginOf(addr [16]byte) Origin {
	const v4 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
	if string(addr[:len(v4)]) != v4 {
		clear(addr[8:])
	}
	return addr
}
