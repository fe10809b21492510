package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"vigil/authz"
	"vigil/disk"
)

// segment is one file of the chain.
//
// Invariant: the segments of a journal have consecutive ordinals, and each ends where
// the next begins.
type segment struct {
	path   string
	header header
	end    int64 // the offset after the last record that counts
	size   int64 // the byte after that record; what follows is void, or not durable yet
}

// survey is what a look at every byte of a folder found.
type survey struct {
	// segments are those that can be read, the last of them perhaps in part.
	segments []segment
	unread   []string     // the files of the segments behind the damage
	damage   *DamageError // the first, or nil

	running   digest // at the end of the last segment
	watermark int64  // every record below was acknowledged
	// torn says why the last segment does not end with a whole frame, or is nil.
	torn *frameError
	// confirmed and unconfirmed are the running hash at the watermark and the whole
	// records past it. They are there only without damage.
	confirmed   digest
	unconfirmed []tailRecord

	records int64
	latest  authz.Instant // the latest append time seen
}

type tailRecord struct {
	appended authz.Instant
	payload  []byte
}

// take reads the folder of a log. acknowledged is the offset up to which it is known from
// elsewhere that records were. Without an identity (it is lost) any log's segments are
// taken. Damage is a finding, not an error; errors are the disk's.
func take(fsys disk.FS, dir string, id *identity, acknowledged int64) (*survey, error) {
	s := &survey{watermark: acknowledged}
	names, err := segmentNames(fsys, dir)
	if err != nil {
		return nil, err
	}
	headers, err := s.headers(fsys, dir, names, id)
	if err != nil {
		return nil, err
	}
	for i := range headers {
		last := i == len(headers)-1
		var end *mark // where it must end; nil: as far as it goes
		switch {
		case !last:
			end = &mark{headers[i+1].first, headers[i+1].before}
		case s.damage == nil && id != nil && headers[i].id != id.log:
			end = &mark{id.since, id.before} // it is an ancestor's, and ends where the log begins
		}
		ends, err := s.read(fsys, filepath.Join(dir, names[i]), end)
		if err != nil {
			return nil, err
		}
		if !ends {
			break
		}
	}
	for _, name := range names[len(s.segments):] {
		s.unread = append(s.unread, filepath.Join(dir, name))
	}
	return s, nil
}

// headers reads the headers up to the first that does not belong.
func (s *survey) headers(fsys disk.FS, dir string, names []string, id *identity) ([]header, error) {
	headers := make([]header, 0, len(names))
	for _, name := range names {
		path := filepath.Join(dir, name)
		h, err := readHeader(fsys, path)
		var bad *frameError
		if err != nil && !errors.As(err, &bad) {
			return nil, err
		}
		what := ""
		if bad != nil {
			what = bad.what
		} else {
			what = misplaced(headers, h, name, id)
		}
		if what != "" {
			_, first, _ := parseSegmentName(name)
			s.damage = &DamageError{Path: path, Record: first, What: what}
			break
		}
		headers = append(headers, h)
	}
	return headers, nil
}

// misplaced says why a segment does not follow the ones before, or "".
func misplaced(before []header, h header, name string, id *identity) string {
	if segmentName(h.ordinal, h.first) != name {
		return "the header is that of " + segmentName(h.ordinal, h.first)
	}
	if id != nil && !id.knows(h.id) {
		return "it belongs to another log"
	}
	if len(before) == 0 {
		return ""
	}
	last := before[len(before)-1]
	if h.ordinal != last.ordinal+1 {
		return fmt.Sprintf("segment %d is missing before it", last.ordinal+1)
	}
	if h.first < last.first {
		return fmt.Sprintf("it begins at record %d, before the segment that precedes it", h.first)
	}
	return ""
}

// read reads one segment and adds what it finds. It reports whether the segment ends as
// it must.
func (s *survey) read(fsys disk.FS, path string, end *mark) (bool, error) {
	f, err := fsys.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return false, err
	}
	r, err := readSegment(f, size)
	if err != nil {
		return false, err
	}
	var bad *frameError
	for end == nil || r.next < end.next {
		appended, _, err := r.record()
		if errors.Is(err, io.EOF) {
			break
		} else if errors.As(err, &bad) {
			break
		} else if err != nil {
			return false, err
		}
		s.records++
		s.latest = max(s.latest, appended)
	}
	s.segments = append(s.segments, segment{path: path, header: r.header, end: r.next, size: r.at})
	s.running = r.running
	if end != nil {
		s.damage = firstDamage(s.damage, endDamage(r, path, bad, end))
		s.watermark = max(s.watermark, end.next)
		s.confirmed = r.running
		return r.next == end.next && r.running == end.running, nil
	}
	if s.damage != nil {
		return true, nil // what lies behind is lost; how far this one was meant to go cannot be known
	}
	s.torn = bad
	s.watermark = max(s.watermark, r.marked.next)
	if bad != nil {
		behind, err := r.marksBehind(bad.at, size)
		if err != nil {
			return false, err
		}
		s.watermark = max(s.watermark, behind)
	}
	if r.next < s.watermark {
		what := "the file ends"
		if bad != nil {
			what = bad.what
		}
		s.damage = &DamageError{Path: path, At: r.at, Record: r.next,
			What: fmt.Sprintf("%s, but the records up to %d were acknowledged", what, s.watermark)}
		return true, nil
	}
	return true, s.readTail(f, size)
}

// endDamage says how r fails to stand where its segment must end, or nil.
func endDamage(r *segmentReader, path string, bad *frameError, end *mark) *DamageError {
	d := &DamageError{Path: path, At: r.at, Record: r.next}
	switch {
	case r.next == end.next && r.running == end.running:
		return nil
	case r.next == end.next:
		d.What = "the running hash does not match the one that the next segment names"
	case r.next > end.next:
		d.What = fmt.Sprintf("it begins past record %d, where it must end", end.next)
	case bad != nil:
		d.What = bad.what
	default:
		d.What = fmt.Sprintf("the file ends, but the next segment begins with record %d", end.next)
	}
	return d
}

func firstDamage(known, found *DamageError) *DamageError {
	if found != nil {
		return found // segments are read in order, headers before all of them
	}
	return known
}

// readTail reads the last segment once more: to the watermark, and what lies past it.
func (s *survey) readTail(f disk.File, size int64) error {
	if last := s.segments[len(s.segments)-1]; s.watermark == last.end {
		s.confirmed = s.running
		return nil
	}
	r, err := readSegment(f, size)
	if err != nil {
		return err
	}
	if err := r.skipTo(s.watermark); err != nil {
		return err
	}
	s.confirmed = r.running
	for end := s.segments[len(s.segments)-1].end; r.next < end; {
		appended, payload, err := r.record()
		if err != nil {
			return err
		}
		s.unconfirmed = append(s.unconfirmed, tailRecord{appended, append([]byte(nil), payload...)})
	}
	return nil
}

// segmentNames gives the files of segments in their order.
func segmentNames(fsys disk.FS, dir string) ([]string, error) {
	all, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if !strings.HasSuffix(name, segmentSuffix) {
			continue
		}
		if _, _, ok := parseSegmentName(name); !ok {
			return nil, fmt.Errorf("%s: not a name that the journal gives to a segment; move the file away", filepath.Join(dir, name))
		}
		names = append(names, name)
	}
	return names, nil
}

func readHeader(fsys disk.FS, path string) (header, error) {
	f, err := fsys.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return header{}, err
	}
	defer f.Close()
	r, err := readSegment(f, headerSize)
	if err != nil {
		return header{}, err
	}
	return r.header, nil
}
