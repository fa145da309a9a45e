package main

// Choices by weight.

import "math/rand/v2"

// A choice is one of several things, which is made as often as its weight says.
type choice[T any] struct {
	name   string
	weight int
	run    T
}

// choose returns one of the choices.
func choose[T any](random *rand.Rand, from []choice[T]) choice[T] {
	total := 0
	for _, c := range from {
		total += c.weight
	}
	n := random.IntN(total)
	for _, c := range from {
		if n -= c.weight; n < 0 {
			return c
		}
	}
	panic("a choice has a negative weight")
}

// isClosed reports whether a channel is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
