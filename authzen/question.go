package authzen

import (
	"strconv"

	"vigil/authz"
)

// where is the object that a request stands in: the whole body, or an item of a batch.
type where int

const whole where = -1

func item(index int) where { return where(index) }

func (w where) pointer(rest string) string {
	if w == whole {
		return rest
	}
	return "/evaluations/" + strconv.Itoa(int(w)) + rest
}

// part is one of the three things that every request must have.
type part uint8

const (
	subject part = iota
	action
	resource
	numParts
)

var partPointer = [numParts]string{"/subject", "/action", "/resource"}

// shortfall is what a part that is there lacks. The zero shortfall is nothing.
type shortfall struct {
	code   string
	member string // "/type"
}

// question is a request as it is read: which parts are there and what they lack. It is
// an error only once it is known whether the part is used.
type question struct {
	request authz.Request
	there   [numParts]bool
	lacks   [numParts]shortfall

	hasContext bool
	// Only where a batch may stand.
	evaluations, options *authz.Value
}

// read takes the members of one object. Wrong types are errors at once; what is
// missing is for complete. batch says that the object may hold a batch.
func (q *question) read(body []byte, w where, members []authz.Member, batch bool) *Error {
	for i := range members {
		v := &members[i].Value
		if v.Kind == authz.Absent {
			continue
		}
		var err *Error
		switch members[i].Name {
		case "subject":
			q.there[subject] = true
			q.lacks[subject], err = party(body, w, "/subject", v, &q.request.Subject)
		case "resource":
			q.there[resource] = true
			q.lacks[resource], err = party(body, w, "/resource", v, &q.request.Resource)
		case "action":
			q.there[action] = true
			q.lacks[action], err = act(body, w, v, &q.request.Action)
		case "context":
			if v.Kind != authz.Map {
				return wrongType(body, w.pointer("/context"), "an object", v.Kind)
			}
			q.hasContext = true
			q.request.Context = v.Members
		case "evaluations":
			if !batch {
				continue
			}
			if v.Kind != authz.List {
				return wrongType(body, "/evaluations", "a list", v.Kind)
			}
			q.evaluations = v
		case "options":
			if !batch {
				continue
			}
			if v.Kind != authz.Map {
				return wrongType(body, "/options", "an object", v.Kind)
			}
			q.options = v
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// complete puts in the parts of defaults that q lacks, whole as they are, and says what
// is missing then.
func (q *question) complete(body []byte, w where, defaults *question) *Error {
	from := [numParts]where{w, w, w} // where the part in use stands
	if defaults != nil {
		if !q.there[subject] {
			q.request.Subject = defaults.request.Subject
		}
		if !q.there[action] {
			q.request.Action = defaults.request.Action
		}
		if !q.there[resource] {
			q.request.Resource = defaults.request.Resource
		}
		if !q.hasContext {
			q.request.Context = defaults.request.Context
		}
		for p := range numParts {
			if !q.there[p] && defaults.there[p] {
				q.there[p], q.lacks[p], from[p] = true, defaults.lacks[p], whole
			}
		}
	}
	for p := range numParts {
		lack, at := q.lacks[p], from[p].pointer
		if !q.there[p] {
			lack, at = shortfall{code: CodeMissingMember}, w.pointer
		}
		if lack.code == "" {
			continue
		}
		e := &Error{Code: lack.code, Pointer: at(partPointer[p] + lack.member), Offset: -1}
		if lack.code == CodeEmptyMember && w == whole {
			// Not for items: a thousand of them would each search the whole body.
			e.Offset = offsetOf(body, e.Pointer)
		}
		return e
	}
	return nil
}

// party reads a subject or a resource.
func party(body []byte, w where, at string, v *authz.Value, p *authz.Party) (shortfall, *Error) {
	if v.Kind != authz.Map {
		return shortfall{}, wrongType(body, w.pointer(at), "an object", v.Kind)
	}
	lacksType, lacksID := CodeMissingMember, CodeMissingMember
	for i := range v.Members {
		m := &v.Members[i].Value
		if m.Kind == authz.Absent {
			continue
		}
		switch v.Members[i].Name {
		case "type":
			if m.Kind != authz.String {
				return shortfall{}, wrongType(body, w.pointer(at+"/type"), "a string", m.Kind)
			}
			p.Type, lacksType = m.Str, unlessEmpty(m.Str)
		case "id":
			if m.Kind != authz.String {
				return shortfall{}, wrongType(body, w.pointer(at+"/id"), "a string", m.Kind)
			}
			p.ID, lacksID = m.Str, unlessEmpty(m.Str)
		case "properties":
			if m.Kind != authz.Map {
				return shortfall{}, wrongType(body, w.pointer(at+"/properties"), "an object", m.Kind)
			}
			p.Properties = m.Members
		}
	}
	if lacksType != "" {
		return shortfall{lacksType, "/type"}, nil
	}
	if lacksID != "" {
		return shortfall{lacksID, "/id"}, nil
	}
	return shortfall{}, nil
}

func act(body []byte, w where, v *authz.Value, a *authz.Action) (shortfall, *Error) {
	if v.Kind != authz.Map {
		return shortfall{}, wrongType(body, w.pointer("/action"), "an object", v.Kind)
	}
	lacksName := CodeMissingMember
	for i := range v.Members {
		m := &v.Members[i].Value
		if m.Kind == authz.Absent {
			continue
		}
		switch v.Members[i].Name {
		case "name":
			if m.Kind != authz.String {
				return shortfall{}, wrongType(body, w.pointer("/action/name"), "a string", m.Kind)
			}
			a.Name, lacksName = m.Str, unlessEmpty(m.Str)
		case "properties":
			if m.Kind != authz.Map {
				return shortfall{}, wrongType(body, w.pointer("/action/properties"), "an object", m.Kind)
			}
			a.Properties = m.Members
		}
	}
	if lacksName != "" {
		return shortfall{lacksName, "/name"}, nil
	}
	return shortfall{}, nil
}

func unlessEmpty(s string) string {
	if s == "" {
		return CodeEmptyMember
	}
	return ""
}

// blame makes an error about a value of body, which is well-formed.
func blame(body []byte, code, pointer, detail string) *Error {
	return &Error{Code: code, Pointer: pointer, Offset: offsetOf(body, pointer), Detail: detail}
}

func wrongType(body []byte, pointer, want string, got authz.ValueKind) *Error {
	return blame(body, CodeWrongType, pointer, "want "+want+", got "+kindName(got))
}

func kindName(k authz.ValueKind) string {
	if k == authz.Absent {
		return "null"
	}
	return k.String()
}
