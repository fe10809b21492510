package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"vigil/authz"
	"vigil/posture"
)

// Write writes a snapshot of store. meta.Positions must have been captured before, so
// that store has everything up to there; facts that have expired at meta.Now are left out.
func Write(w io.Writer, meta Meta, store *posture.Store) error {
	if meta.Entities == 0 {
		for _, n := range store.Len() {
			meta.Entities += uint64(n)
		}
	}
	return write(w, meta, func(parts io.Writer) error { return store.WriteSnapshot(parts, meta.Now) })
}

func write(w io.Writer, meta Meta, body func(io.Writer) error) error {
	head, err := meta.encode()
	if err != nil {
		return err
	}
	parts, err := newPartWriter(w)
	if err != nil {
		return err
	}
	defer parts.encoder.Close()
	if err := parts.put(head); err != nil {
		return err
	}
	if err := body(parts); err != nil {
		return err
	}
	return parts.finish()
}

// Read reads a snapshot that Write wrote, to its very end, and refuses anything else with
// a *DamagedError or an error that wraps ErrNewer. It needs a few MiB besides the store. The store is
// not bounded: limit r where it is not trusted (a file of n bytes decodes to 256 n at most).
func Read(r io.Reader, now authz.Instant) (Meta, *posture.Store, error) {
	var store *posture.Store
	meta, err := read(r, func(parts io.Reader) (err error) {
		store, err = posture.ReadSnapshot(parts, now)
		return err
	})
	if err != nil {
		return Meta{}, nil, err
	}
	return meta, store, nil
}

// Check reads a snapshot as Read does, down to the last fact, and refuses what Read
// refuses, but makes no store of it.
func Check(r io.Reader) (Meta, error) {
	return read(r, posture.CheckSnapshot)
}

func read(r io.Reader, body func(io.Reader) error) (Meta, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	parts, err := newPartReader(buffered)
	if err != nil {
		return Meta{}, err
	}
	defer parts.close()
	meta, err := readMeta(parts.r)
	if err != nil {
		return Meta{}, err
	}
	if err := body(parts); err != nil {
		// Damage found below shows as an odd end above; the cause is what counts.
		if parts.err != nil && !errors.Is(parts.err, io.EOF) {
			return Meta{}, parts.err
		}
		if errors.Is(err, posture.ErrNewer) {
			return Meta{}, fmt.Errorf("%w: %w", ErrNewer, err)
		}
		return Meta{}, damaged("its posture cannot be read: %v", err)
	}
	switch n, err := parts.Read(make([]byte, 1)); {
	case n > 0:
		return Meta{}, damaged("something follows the posture")
	case !errors.Is(err, io.EOF):
		return Meta{}, err
	}
	return meta, nil
}

// String says in a line what the snapshot is of.
func (m Meta) String() string {
	return fmt.Sprintf("log %x, %s, of %s, about %d entities", m.Log[:4], m.Positions, m.Now, m.Entities)
}
