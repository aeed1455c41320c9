package privsep

// Each payload has the same two methods. Append writes the payload to the end
// of dst. Parse takes b only if it is exactly one valid payload, all of its
// bytes; otherwise it returns ErrShape and leaves the zero value. SETUP_END and
// DRAINED have no payload.

// Append encodes p.
func (p *Boot) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Boot) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Settings) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Settings) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Segment) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Segment) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Listener) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Listener) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Peer) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Peer) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *DoorbellEnd) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *DoorbellEnd) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *SetupDone) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *SetupDone) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *StatsGet) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *StatsGet) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Stats) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Stats) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *CMGone) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *CMGone) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *CMFault) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *CMFault) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *ConnHandoff) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *ConnHandoff) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Shutdown) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Shutdown) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Certificate) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Certificate) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *ReleasedKey) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *ReleasedKey) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Sign) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Sign) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Signed) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Signed) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Live) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Live) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *ListenerGone) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *ListenerGone) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Adopt) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Adopt) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Adopted) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Adopted) Parse(b []byte) error { return decode(p, b) }
