//go:build !amd64

package process

func (b *broker) force(string, uint64) {
	b.t.Helper()
	b.t.Skip("SKIP needs amd64: another thread's registers")
}

func (b *broker) mute(string) {
	b.t.Helper()
	b.t.Skip("SKIP needs amd64: another process's code")
}
