package hostile

import "testing"

type identity struct{}

func (*identity) listen() string                         { return "" }
func (*identity) config(t testing.TB, dir string) string { return "" }
