package main

import "math/rand/v2"

// orders has a power of two elements, so that walking through it in circles costs nothing.
const orders = 1 << 16

// evenly is the indexes below n in an order without one, all alike.
func evenly(n int) []uint32 {
	random := rand.New(rand.NewPCG(7, uint64(n)))
	all := make([]uint32, orders)
	for i := range all {
		all[i] = uint32(random.IntN(n))
	}
	return all
}

// byPopularity is the indexes below n, index k in proportion to 1/k^1.1: most requests are
// of few, and there is a long tail.
func byPopularity(n int) []uint32 {
	random := rand.New(rand.NewPCG(8, uint64(n)))
	zipf := rand.NewZipf(random, 1.1, 1, uint64(n-1))
	all := make([]uint32, orders)
	for i := range all {
		all[i] = uint32(zipf.Uint64())
	}
	return all
}
