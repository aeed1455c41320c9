package wire

import "testing"

func benchmarkParse(b *testing.B, line string, want Event) {
	var p Parser
	p.SetHeaders(true)
	var f Frame
	in := []byte(line)
	b.ReportAllocs()
	for b.Loop() {
		n, ev, err := p.Next(in, &lims, &f)
		if n != len(in) || ev != want || err != nil {
			b.Fatal(n, ev, err)
		}
	}
}

func BenchmarkPub16(b *testing.B) {
	benchmarkParse(b, "PUB bench.subject 16\r\n0123456789abcdef\r\n", Message)
}
func BenchmarkPubReply16(b *testing.B) {
	benchmarkParse(b, "PUB bench.subject _INBOX.0123456789abcdefghijkl.01234567 16\r\n0123456789abcdef\r\n", Message)
}
func BenchmarkHPub16(b *testing.B) {
	benchmarkParse(b, "HPUB bench.subject 12 28\r\nNATS/1.0\r\n\r\n0123456789abcdef\r\n", Message)
}
func BenchmarkSub(b *testing.B)  { benchmarkParse(b, "SUB bench.subject 1\r\n", Control) }
func BenchmarkPing(b *testing.B) { benchmarkParse(b, "PING\r\n", Control) }

func BenchmarkPubSplit(b *testing.B) {
	var p Parser
	var f Frame
	in := []byte("PUB bench.subject 16\r\n0123456789abcdef\r\n")
	b.ReportAllocs()
	for b.Loop() {
		p.Next(in[:12], &lims, &f)
		if _, ev, err := p.Next(in[12:], &lims, &f); ev != Message || err != nil {
			b.Fatal(ev, err)
		}
	}
}

func BenchmarkAppendMsg(b *testing.B) {
	var dst []byte
	subject, sid := []byte("bench.subject"), []byte("1")
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMsg(dst[:0], subject, sid, nil, -1, 16)
	}
}

func benchmarkHeaders(b *testing.B, block string, left int) {
	var f Facts
	in := []byte(block)
	work := make([]byte, len(in))
	b.ReportAllocs()
	for b.Loop() {
		copy(work, in)
		if got := ReadHeaders(work, &f); len(got) != left {
			b.Fatal(len(got))
		}
	}
}

func BenchmarkHeadersNone(b *testing.B) { benchmarkHeaders(b, "NATS/1.0\r\n\r\n", 12) }
func BenchmarkHeadersOther(b *testing.B) {
	in := "NATS/1.0\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Type: application/json\r\n\r\n"
	benchmarkHeaders(b, in, len(in))
}
func BenchmarkHeadersFacts(b *testing.B) {
	in := "NATS/1.0\r\nGatehouse-Mode: fanout\r\nGatehouse-Timeout: 500ms\r\nGatehouse-To-Type: pricer\r\n\r\n"
	benchmarkHeaders(b, in, len(in))
}
func BenchmarkHeadersStrip(b *testing.B) {
	benchmarkHeaders(b, "NATS/1.0\r\nGatehouse-From: acme/pricer/1\r\nContent-Type: application/json\r\n\r\n", 44)
}
