//go:build stores

package router

import "gatehouse/store"

var lifetime int

func mortal(generation uint64) { lifetime = int(generation) }

func hearing() {
	if lifetime > 0 {
		store.StopAt(lifetime, store.Die)
		lifetime = 0
	}
}
