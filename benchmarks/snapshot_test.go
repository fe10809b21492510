package main

import (
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestTheReferenceDecodesAllOfASnapshot(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	_, file, err := b.writeData(newFleet(5000))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := partsOf(data)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	size := 0
	for _, part := range parts {
		out, err := decoder.DecodeAll(part, nil)
		if err != nil {
			t.Fatal(err)
		}
		size += len(out)
	}
	// The name of an agent alone has 13 bytes, its registration another 11.
	if size < 5000*24 {
		t.Errorf("%d bytes of 5,000 agents", size)
	}
	for _, cut := range []int{0, 11, len(data) / 2} {
		if _, err := partsOf(data[:cut]); err == nil {
			t.Errorf("a snapshot cut at byte %d is read", cut)
		}
	}
}
