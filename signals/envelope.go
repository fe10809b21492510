package signals

import (
	"vigil/authz"
)

// Envelope is what every version of Vigil can read of every signal.
type Envelope struct {
	Version  int64
	ID       string
	Type     string
	Tenant   string   // "" where it is not stated
	Entities []string // as written: a newer version may know other kinds
	Time     authz.Instant
}

// ReadEnvelope reads the envelope of a signal and passes over all else. It fails where
// DecodeOne must have failed too: where the body is not JSON, or the envelope is not
// whole.
func ReadEnvelope(body []byte) (Envelope, error) {
	var e Envelope
	if len(body) > MaxSignal {
		return e, &DecodeError{Code: CodeTooLarge, Detail: "the signal is too large"}
	}
	r := newReader(body)
	defer r.free()
	var seen memberSet
	err := r.object(func(name string) (err error) {
		id := memberByName[name]
		if memberNames[id] != name {
			return r.skip()
		}
		seen |= 1 << id
		switch id {
		case mV:
			if e.Version, err = r.integer(); err == nil && e.Version < 1 {
				err = r.at(CodeBadValue, "no version: %d", e.Version)
			}
		case mID:
			e.ID, err = r.name(MaxText)
		case mType:
			e.Type, err = r.name(MaxText)
		case mTenant:
			e.Tenant, err = r.name(MaxName)
		case mEntities:
			err = r.list(MaxEntities, func() error {
				ref, err := r.string(MaxText)
				e.Entities = append(e.Entities, ref)
				return err
			})
		case mTime:
			e.Time, err = r.instant()
		default:
			err = r.skip()
		}
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return Envelope{}, err
	}
	for id := memberID(0); id < memberEnd; id++ {
		if envelopeRequired.has(id) && !seen.has(id) {
			return Envelope{}, missing(id, "")
		}
	}
	return e, nil
}

// skip passes over one value. jsontext bounds its depth.
func (r *reader) skip() error {
	if err := r.dec.SkipValue(); err != nil {
		return r.syntax(err)
	}
	return nil
}
