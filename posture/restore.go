package posture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"vigil/authz"
)

// SnapshotError says what is wrong with a snapshot, and where.
type SnapshotError struct {
	Offset int64 // of the block or header that is wrong
	Entity uint64
	Err    error // wraps ErrNewer where a newer version wrote it
}

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("snapshot: byte %d, after %d entities: %v", e.Offset, e.Entity, e.Err)
}

func (e *SnapshotError) Unwrap() error { return e.Err }

// ReadSnapshot makes a store of what WriteSnapshot wrote. It refuses anything damaged,
// and anything of a newer version, with a *SnapshotError; an error of r itself is in its
// chain. now makes the records' effective form ready, and no source counts as heard later
// (see Store.Hear). What it allocates is bounded by what r gives.
func ReadSnapshot(r io.Reader, now authz.Instant) (*Store, error) {
	s := NewStore()
	if err := s.restore(r, now); err != nil {
		return nil, err
	}
	return s, nil
}

// CheckSnapshot reads as ReadSnapshot does and refuses what that refuses, but keeps no
// record: it takes the memory of a block and of the distinct sources and registrations.
func CheckSnapshot(r io.Reader) error {
	in := snapshotReader{r: bufio.NewReaderSize(r, blockSize), store: NewStore(), discard: true}
	return in.run()
}

// restore fills an empty store that nobody else has yet.
func (s *Store) restore(r io.Reader, now authz.Instant) error {
	in := snapshotReader{r: bufio.NewReaderSize(r, blockSize), store: s, now: now}
	return in.run()
}

type snapshotReader struct {
	r     io.Reader
	sum   uint32
	at    int64 // bytes read
	start int64 // of what is being read
	store *Store
	now   authz.Instant
	// discard is for a check: every entity is decoded, and none put into the store.
	discard bool
	count   uint64
	last    authz.Key

	tenants       []string
	sources       []string
	registrations []*Registered
	// What they are in the store's own dict.
	sourceRefs       []uint32
	registrationRefs []uint32

	tenant  tenant // of the last entity
	ids     arena
	encoded arena
	cells   []cell

	items    []item
	disorder bool // of items
	enc      []byte
	raw      []byte
}

var errTruncated = errors.New("it ends too early")

func (in *snapshotReader) run() error {
	if err := in.all(); err != nil {
		return &SnapshotError{Offset: in.start, Entity: in.count, Err: err}
	}
	return nil
}

func (in *snapshotReader) all() error {
	head, err := in.read(nil, len(snapshotMagic)+2+8)
	if err != nil {
		return err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return errors.New("this is no snapshot")
	}
	versions := head[len(snapshotMagic):]
	if versions[0] < 1 || versions[0] > snapshotVersion || versions[1] != factVersion {
		return fmt.Errorf("versions %d and %d, not up to %d and %d: %w",
			versions[0], versions[1], snapshotVersion, factVersion, ErrNewer)
	}
	if !in.discard {
		in.store.expect(binary.BigEndian.Uint64(versions[2:]))
	}
	var block []byte
	if versions[0] > 1 {
		if block, err = in.block(block); err == nil {
			err = in.verify()
		}
		if err == nil {
			err = in.heard(string(block))
		}
		if err != nil {
			return err
		}
	}
	for {
		if block, err = in.block(block); err != nil {
			return err
		}
		if len(block) == 0 {
			return in.end()
		}
		if err := in.verify(); err != nil {
			return err
		}
		if err := in.entities(string(block)); err != nil {
			return err
		}
	}
}

// block reads the length and the payload of a block, using buf's memory.
func (in *snapshotReader) block(buf []byte) ([]byte, error) {
	in.start = in.at
	length, err := in.read(buf, 4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length)
	if n > maxBlock {
		return nil, fmt.Errorf("a block of %d bytes", n)
	}
	return in.read(length, int(n))
}

// heard reads when the sources were heard last.
func (in *snapshotReader) heard(block string) error {
	d := decoder{s: block}
	last := ""
	var all []sourceHeard
	if block == "" {
		return errors.New("nothing was heard, which is version 1")
	}
	for d.at < len(d.s) {
		source, at := d.string(), d.instant()
		switch {
		case d.err != nil:
			return d.err
		case source <= last:
			return fmt.Errorf("source %q is out of order", source)
		case at <= 0:
			return fmt.Errorf("source %q was heard at %d", source, at)
		}
		last = source
		all = append(all, sourceHeard{source, at, min(at, in.now)})
	}
	if !in.discard {
		in.store.heard.fill(all, in.store.caps.heard)
	}
	return nil
}

// end reads the last block.
func (in *snapshotReader) end() error {
	b, err := in.read(nil, 8)
	if err != nil {
		return err
	}
	if err := in.verify(); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint64(b); n != in.count {
		return fmt.Errorf("%d entities instead of %d", in.count, n)
	}
	if n, err := in.r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		if n == 0 && err != nil {
			return err
		}
		return errors.New("it goes on after its end")
	}
	return nil
}

// verify reads a checksum and compares it to that of what was read so far.
func (in *snapshotReader) verify() error {
	want := in.sum
	b, err := in.read(nil, 4)
	if err != nil {
		return err
	}
	if got := binary.BigEndian.Uint32(b); got != want {
		return fmt.Errorf("it is damaged: checksum %08x, computed %08x", got, want)
	}
	return nil
}

// read reads n bytes, using buf's memory. It grows as the bytes come, not by what n says.
func (in *snapshotReader) read(buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		step := min(n-len(buf), max(cap(buf)-len(buf), 2*blockSize))
		have := len(buf)
		if cap(buf) < have+step {
			grown := make([]byte, have, max(have+step, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		buf = buf[:have+step]
		m, err := io.ReadFull(in.r, buf[have:])
		in.at += int64(m)
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = errTruncated
			}
			return nil, err
		}
	}
	in.sum = crc32.Update(in.sum, castagnoli, buf)
	return buf, nil
}

// entities reads the entities of one block.
func (in *snapshotReader) entities(block string) error {
	d := decoder{s: block}
	for d.at < len(d.s) {
		kind := authz.Kind(d.byte())
		ref, tenant := reference(&d, in.tenants)
		if ref == 0 {
			tenant = strings.Clone(d.string())
			if len(in.tenants) < maxSnapshotRefs {
				in.tenants = append(in.tenants, tenant)
			}
		}
		key := authz.Key{Tenant: tenant, Kind: kind, ID: d.string()}
		facts := decoder{s: d.string()}
		if d.err != nil {
			return d.err
		}
		if kind == authz.NoKind || int(kind) >= authz.NumKinds {
			return fmt.Errorf("entity kind %d: %w", kind, ErrNewer)
		}
		if in.count > 0 && !before(in.last, key) {
			return fmt.Errorf("%s %s is out of order", key.Tenant, key.Ref())
		}
		if err := in.facts(&facts); err != nil {
			return fmt.Errorf("%s %s: %w", key.Tenant, key.Ref(), err)
		}
		if !in.discard {
			in.settle(key)
		}
		in.last = key
		in.count++
	}
	return nil
}

func before(a, b authz.Key) bool {
	if c := strings.Compare(a.Tenant, b.Tenant); c != 0 {
		return c < 0
	}
	if a.Kind != b.Kind {
		return a.Kind < b.Kind
	}
	return a.ID < b.ID
}

// facts reads the facts of one entity, in the form that the store keeps them in.
func (in *snapshotReader) facts(d *decoder) error {
	clear(in.items)
	in.items = in.items[:0]
	in.enc = in.enc[:0]
	in.disorder = false
	for d.at < len(d.s) {
		in.items = append(in.items, item{})
		f := &in.items[len(in.items)-1].Fact
		r := d.fact(f, in.sources, in.registrations)
		if d.err != nil {
			return d.err
		}
		own := in.own(f, r)
		if len(in.items) > 1 && order(&in.items[len(in.items)-2].Fact, f) >= 0 {
			in.disorder = true
		}
		in.enc = appendFact(in.enc, f, own.source, own.registration)
	}
	if len(in.items) == 0 {
		return errors.New("an entity without facts")
	}
	return nil
}

// own gives the store's own references for a fact, and adds to the tables what the fact
// spells out. What a snapshot refers to is shared by definition.
func (in *snapshotReader) own(f *Fact, r refs) (own refs) {
	dict := in.store.dict
	if r.source > 0 {
		own.source = in.sourceRefs[r.source-1]
	} else {
		own.source = dict.source(f.Source)
		if len(in.sources) < maxSnapshotRefs {
			in.sources = append(in.sources, strings.Clone(f.Source))
			in.sourceRefs = append(in.sourceRefs, own.source)
		}
	}
	if f.Facet != Registration {
		return own
	}
	if r.registration > 0 {
		at := r.registration - 1
		if in.registrationRefs[at] == 0 {
			in.raw = appendRegistered(in.raw[:0], f.Registration)
			in.registrationRefs[at] = dict.registration(in.raw, true)
		}
		own.registration = in.registrationRefs[at]
		return own
	}
	in.raw = appendRegistered(in.raw[:0], f.Registration)
	own.registration = dict.registration(in.raw, false)
	if len(in.registrations) < maxSnapshotRefs {
		whole := decoder{s: string(in.raw)}
		in.registrations = append(in.registrations, whole.registered())
		in.registrationRefs = append(in.registrationRefs, own.registration)
	}
	return own
}

// joined joins the facts that were read, in case the snapshot was taken under other caps
// or by a version that joined or ordered otherwise: one odd record must not keep every
// replica from starting. It gives nil where joining changes nothing.
func (in *snapshotReader) joined() []item {
	if len(in.items) == 1 {
		return nil
	}
	if in.disorder {
		var items []item
		for i := range in.items {
			items = add(items, &in.items[i].Fact)
		}
		return in.store.caps.join(nil, items)
	}
	n := len(in.items)
	for i := range in.items {
		in.items[i].raw = "as read" // here it only marks what was there before
	}
	kept := in.store.caps.join(nil, in.items)
	if len(kept) == n && !slices.ContainsFunc(kept, func(it item) bool { return it.raw == "" }) {
		return nil
	}
	for i := range kept {
		kept[i].raw = ""
	}
	return kept
}

// settle puts the entity that was read into the store, which nobody else has yet.
func (in *snapshotReader) settle(key authz.Key) {
	s := in.store
	id := in.ids.keep([]byte(key.ID))
	var rec *Record
	if kept := in.joined(); kept != nil {
		rec = s.record(in.now, id, kept)
	} else {
		rec = &Record{eff: effectiveAt(id, in.encoded.keep(in.enc), s.dict, in.now)}
	}
	if in.tenant.number == 0 || in.tenant.name != key.Tenant {
		in.tenant = s.addTenant(key.Tenant)
	}
	p := s.placeOf(&in.tenant, key.Kind, id)
	if len(in.cells) == 0 {
		in.cells = make([]cell, cellsAtOnce)
	}
	c := &in.cells[0]
	in.cells = in.cells[1:]
	c.id, c.meta = id, p.meta
	c.rec.Store(rec)
	s.insert(p, c)
	s.count(key.Kind, absent, rec)
}

// What a snapshot's entities keep is allocated many at a time, for the start is mostly
// allocation. It is freed as many at a time, when none of them is left.
const (
	cellsAtOnce = 64
	bytesAtOnce = 4 << 10
)

// arena keeps copies of strings, many in one allocation.
type arena struct{ b strings.Builder }

func (a *arena) keep(s []byte) string {
	if a.b.Cap()-a.b.Len() < len(s) {
		a.b = strings.Builder{}
		a.b.Grow(max(bytesAtOnce, len(s)))
	}
	at := a.b.Len()
	a.b.Write(s)
	return a.b.String()[at:] // a Builder never changes what it has written
}

// maxExpected bounds the room that a store makes on the word of a snapshot.
const maxExpected = 1 << 21

// expect makes room for n entities.
func (s *Store) expect(n uint64) {
	per := int(min(n, maxExpected)/numShards)*3/2 + minSlots
	for i := range s.shards {
		s.rebuild(&s.shards[i], per)
	}
}
