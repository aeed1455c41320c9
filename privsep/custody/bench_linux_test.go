package custody

import "testing"

// What a signature costs the parent: parsed anew after each garbage
// collection, and everything that it leaves erased.
func BenchmarkSign(b *testing.B) {
	message := input(32)
	for i, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			k := opened(b, i)
			scheme := k.Schemes()[0]
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Sign(scheme, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The first signature after a collection.
func BenchmarkSignParsed(b *testing.B) {
	message := input(32)
	for i, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			k := opened(b, i)
			scheme := k.Schemes()[0]
			for b.Loop() {
				k.parsed.Store(nil)
				if _, err := k.Sign(scheme, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTidy(b *testing.B) {
	for b.Loop() {
		Tidy()
	}
}
