package signals

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"vigil/authz"
)

// Batch is the signals of one body, with the bytes that each was read from.
type Batch struct {
	Signals []Signal
	Bodies  [][]byte // Bodies[i] is Signals[i] as sent; it shares the body's memory
	IsList  bool     // the body was an array, not one object
}

// Pointer gives the RFC 6901 pointer into the body of a place within signal i.
func (b *Batch) Pointer(i int, within string) string {
	if !b.IsList {
		return within
	}
	return fmt.Sprintf("/%d%s", i, within)
}

// turn is how many signals are read or applied before others have their turn. A batch is
// milliseconds of work, and the scheduler lets it go on for ten: with all processors at such
// work a decision that has become due would wait for that long.
const turn = 16

// Decode reads one signal or an array of 1 to MaxBatch of them. It returns all or a
// *DecodeError for the first thing wrong, in the order of the body.
func Decode(body []byte) (*Batch, error) {
	if len(body) > MaxBody {
		return nil, &DecodeError{Code: CodeTooLarge, Detail: fmt.Sprintf("the body has %d bytes, more than %d", len(body), MaxBody)}
	}
	r := newReader(body)
	defer r.free()
	b := &Batch{IsList: r.dec.PeekKind() == '['}
	var err error
	if b.IsList {
		err = b.readList(r, body)
	} else {
		err = b.readOne(r, body)
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Batch) readList(r *reader, body []byte) error {
	ids := make(map[string]int)
	err := r.list(MaxBatch, func() error {
		i := len(b.Signals)
		if i%turn == turn-1 {
			runtime.Gosched()
		}
		if err := b.readOne(r, body); err != nil {
			return err
		}
		if i == 0 {
			b.expect(len(body) / len(b.Bodies[0]))
		}
		id := b.Signals[i].ID
		if first, twice := ids[id]; twice {
			return &DecodeError{Code: CodeBadValue, Pointer: fmt.Sprintf("/%d/id", i),
				Detail: fmt.Sprintf("/%d has the same id", first)}
		}
		ids[id] = i
		return nil
	})
	if err == nil && len(b.Signals) == 0 {
		return &DecodeError{Code: CodeBadValue, Detail: "the batch is empty"}
	}
	return err
}

// expect makes room for n signals. It is a guess from the first, and bounded as the batch is.
func (b *Batch) expect(n int) {
	n = min(n, MaxBatch)
	b.Signals, b.Bodies = slices.Grow(b.Signals, n), slices.Grow(b.Bodies, n)
}

func (b *Batch) readOne(r *reader, body []byte) error {
	i := len(b.Signals)
	b.Signals = append(b.Signals, Signal{})
	s := &b.Signals[i]
	start, seen, err := r.signal(s)
	if err != nil {
		return err
	}
	if e := s.check(&seen); e != nil {
		e.Pointer = b.Pointer(i, e.Pointer)
		return e
	}
	raw := body[start:r.dec.InputOffset()]
	if len(raw) > MaxSignal {
		return &DecodeError{Code: CodeTooLarge, Pointer: b.Pointer(i, ""), Detail: fmt.Sprintf("the signal has %d bytes, more than %d", len(raw), MaxSignal)}
	}
	b.Bodies = append(b.Bodies, raw)
	return nil
}

// DecodeOne reads exactly one signal, as a record in a log holds it.
func DecodeOne(body []byte) (Signal, error) {
	var s Signal
	if len(body) > MaxSignal {
		return s, &DecodeError{Code: CodeTooLarge, Detail: fmt.Sprintf("the signal has %d bytes, more than %d", len(body), MaxSignal)}
	}
	r := newReader(body)
	defer r.free()
	_, seen, err := r.signal(&s)
	if err != nil {
		return Signal{}, err
	}
	if e := s.check(&seen); e != nil {
		return Signal{}, e
	}
	if err := r.end(); err != nil {
		return Signal{}, err
	}
	return s, nil
}

// signal reads one object, which is to be checked as a whole afterwards. It gives the
// offset of its first byte and the members that it had.
func (r *reader) signal(s *Signal) (start int64, seen members, err error) {
	*s = Signal{Expires: authz.Forever}
	t, err := r.token()
	if err != nil {
		return 0, seen, err
	}
	if t.Kind() != '{' {
		return 0, seen, r.at(CodeWrongType, "want a signal, which is an object, got %s", kindWords[t.Kind()])
	}
	start = r.dec.InputOffset() - 1
	err = r.members(func(name string) error {
		id, known := memberByName[name]
		if !known {
			return r.unknown(name, "a signal", memberNames[:])
		}
		seen.add(id)
		return r.member(s, id)
	})
	return start, seen, err
}

// unknown makes the error about a member that what does not have.
func (r *reader) unknown(name, what string, known []string) error {
	if hint := suggest(name, known); hint != "" {
		return r.at(CodeUnknownMember, "%q%s", clip(name), hint)
	}
	return r.at(CodeUnknownMember, "%q is no member of %s", clip(name), what)
}

// member reads the value of one member into s.
func (r *reader) member(s *Signal, id memberID) (err error) {
	switch id {
	case mV:
		var v int64
		if v, err = r.integer(); err == nil && v != Version {
			err = r.at(CodeBadValue, "unknown version %d; want %d", v, Version)
		}
	case mID:
		s.ID, err = r.name(MaxText)
	case mType:
		err = r.signalType(s)
	case mTenant:
		s.Tenant, err = r.name(MaxName)
	case mEntities:
		err = r.entities(s)
	case mTime:
		s.Time, err = r.instant()
	case mExpires:
		s.Expires, err = r.instant()
	case mActor:
		s.Actor, err = r.text(MaxText)
	case mReason:
		s.Reason, err = r.text(MaxText)
	case mTicket:
		s.Ticket, err = r.text(MaxText)
	case mSource:
		s.Line, err = r.source()
	case mRisk:
		var v int64
		if v, err = r.integer(); err == nil && (v < 0 || v > 100) {
			err = r.at(CodeBadValue, "want 0 to 100, got %d", v)
		}
		s.Risk = int(v)
	case mResult:
		err = r.result(s)
	case mScopes:
		s.Scopes, err = r.names("scope")
	case mActions:
		s.Actions, err = r.names("action")
	case mIssuedBefore:
		s.IssuedBefore, err = r.instant()
	case mClass:
		s.Class, err = r.name(MaxName)
	case mLabels:
		err = r.labels(s)
	case mCode:
		s.Code, err = r.entityID()
	case mModel:
		s.Model, err = r.entityID()
	case mLifts:
		err = r.lifts(s)
	}
	return err
}

func (r *reader) signalType(s *Signal) error {
	name, err := r.string(MaxText)
	if err != nil {
		return err
	}
	if spec := Type(name).spec(); spec != nil {
		s.Type = spec.name
	} else {
		return r.at(CodeBadValue, "unknown type %q%s", clip(name), suggest(name, Types()))
	}
	return nil
}

func (r *reader) entities(s *Signal) error {
	err := r.list(MaxEntities, func() error {
		text, err := r.string(authz.MaxID + 32)
		if err != nil {
			return err
		}
		ref, problem := parseRef(text)
		if problem != "" {
			return r.at(CodeBadValue, "%s", problem)
		}
		if i := slices.Index(s.Entities, ref); i >= 0 {
			return r.at(CodeBadValue, "%s appears twice", clip(text))
		}
		s.Entities = append(s.Entities, ref)
		return nil
	})
	if err == nil && len(s.Entities) == 0 {
		return r.at(CodeBadValue, "names no entity")
	}
	return err
}

// parseRef is authz.ParseRef with a message that suggests a kind and stays short.
func parseRef(text string) (authz.Ref, string) {
	ref, err := authz.ParseRef(text)
	if err == nil {
		return ref, ""
	}
	name, _, colon := strings.Cut(text, ":")
	if _, known := authz.ParseKind(name); colon && !known {
		var kinds []string
		for _, k := range authz.Kinds() {
			kinds = append(kinds, k.String())
		}
		return ref, fmt.Sprintf("%q: unknown kind %q%s", clip(text), clip(name), suggest(name, kinds))
	}
	if len(text) > 80 {
		return ref, fmt.Sprintf("%q is not an entity: want kind:id with an id of 1 to %d bytes", clip(text), authz.MaxID)
	}
	return ref, err.Error()
}

func (r *reader) source() (string, error) {
	s, err := r.name(MaxText)
	if err != nil {
		return "", err
	}
	if _, ok := ParseSource(s); !ok {
		return "", r.at(CodeBadValue, "%q is not a source such as client:soar", clip(s))
	}
	return s, nil
}

func (r *reader) result(s *Signal) error {
	v, err := r.string(MaxText)
	if err != nil {
		return err
	}
	switch v {
	case "pass":
		s.Passed = true
	case "fail":
	default:
		return r.at(CodeBadValue, "want \"pass\" or \"fail\", got %q", clip(v))
	}
	return nil
}

// names reads a list of distinct names and sorts it: their order means nothing.
func (r *reader) names(what string) ([]string, error) {
	names := []string{}
	err := r.list(MaxList, func() error {
		s, err := r.name(MaxName)
		if err != nil {
			return err
		}
		if strings.ContainsRune(s, ' ') {
			return r.at(CodeBadValue, "%q holds a space: give each %s its own element", clip(s), what)
		}
		if slices.Contains(names, s) {
			return r.at(CodeBadValue, "%q appears twice", clip(s))
		}
		names = append(names, s)
		return nil
	})
	slices.Sort(names)
	return names, err
}

func (r *reader) labels(s *Signal) error {
	s.Labels = make(map[string]string)
	return r.object(func(name string) error {
		switch {
		case len(s.Labels) == MaxLabels:
			return r.at(CodeTooLarge, "more than %d labels", MaxLabels)
		case name == "":
			return r.at(CodeBadValue, "a label has an empty name")
		case len(name) > MaxLabel:
			return r.at(CodeTooLarge, "the name has %d bytes, more than %d", len(name), MaxLabel)
		}
		if c, bad := control(name); bad {
			return r.at(CodeBadValue, "the name holds a control character (%U)", c)
		}
		v, err := r.text(MaxText)
		s.Labels[name] = v
		return err
	})
}

// entityID reads a digest that an entity of kind code or model can have as its id.
func (r *reader) entityID() (string, error) {
	s, err := r.string(authz.MaxID)
	if err != nil {
		return "", err
	}
	if err := authz.CheckID(s); err != nil {
		return "", r.at(CodeBadValue, "%v", err)
	}
	return s, nil
}

var liftMembers = []string{"type", "source", "id"}

func (r *reader) lifts(s *Signal) error {
	s.Lifts = &LiftTarget{}
	err := r.object(func(name string) (err error) {
		switch name {
		case "type":
			var t string
			if t, err = r.string(MaxText); err != nil {
				return err
			}
			s.Lifts.Type = Type(t)
			if !slices.Contains(liftable, s.Lifts.Type) {
				if s.Lifts.Type.spec() != nil {
					return r.at(CodeBadValue, "a %s cannot be lifted; what can is taint, require_approval, narrow, waive, unreadable", t)
				}
				return r.at(CodeBadValue, "unknown type %q%s", clip(t), suggest(t, liftable))
			}
		case "source":
			s.Lifts.Source, err = r.source()
		case "id":
			s.Lifts.ID, err = r.name(MaxText)
		default:
			return r.unknown(name, `"lifts"`, liftMembers)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case s.Lifts.Type == "":
		return r.at(CodeMissingMember, `"type" is missing`)
	case s.Lifts.ID == "":
		return r.at(CodeMissingMember, `"id" is missing`)
	}
	return nil
}
