package authzen

import (
	"strconv"
	"unsafe"

	"vigil/authz"
)

// MaxItems is the most requests of one batch.
const MaxItems = 1000

// Decoder reads requests strictly: I-JSON (RFC 7493), and beyond it bounds on depth,
// members and values. Members that the standard does not define are ignored, as it
// demands, but must be well-formed; names are compared byte for byte; a null member
// is an absent one.
//
// A Decoder keeps its memory for the next body, so the results of a call, which also
// alias the body, are valid until the next call and as long as the body. It is for one
// goroutine. The zero Decoder is ready for use.
type Decoder struct {
	// MaxItems bounds a batch; 0 or more than MaxItems means MaxItems.
	MaxItems int

	// levels[n] holds the members of all containers that n others are around.
	levels  [MaxDepth][]authz.Member
	tables  [MaxDepth]*nameTable
	scratch []byte // unescaped strings
	root    authz.Value
	left    int // values that may still come
	fail    failure

	// What single requests looked like; see shape.
	shapes    []*shape // the latest to match first
	spans     []span   // of the leaves of the body that was scanned, up to its capacity
	unmatched uint

	question question // the request, or the defaults of a batch
	own      question // what one item of a batch says itself
	batch    Batch
}

// Semantic says when a batch ends.
type Semantic uint8

// The values of options.evaluations_semantic.
const (
	ExecuteAll Semantic = iota
	DenyOnFirstDeny
	PermitOnFirstPermit
)

func (s Semantic) String() string {
	return [...]string{"execute_all", "deny_on_first_deny", "permit_on_first_permit"}[s]
}

// Batch is an evaluations request (section 7 of the standard).
type Batch struct {
	Semantic Semantic
	// Single means that there were no evaluations: Items holds the one request, and
	// the answer is that of a single evaluation.
	Single bool
	Items  []Item
}

// Item is one request of a batch, with the defaults put in.
type Item struct {
	Request authz.Request
	// Err says what the item lacks. Such an item is answered no, the others as they
	// deserve.
	Err *Error
}

// Evaluation reads the body of an access evaluation request. The error is an *Error.
func (d *Decoder) Evaluation(body []byte) (*authz.Request, error) {
	root := d.recall(body)
	if root != nil {
		return d.request(body, root)
	}
	if d.spans == nil {
		d.spans = make([]span, 0, maxShapeLeaves+1) // one more shows that there are too many
	}
	if err := d.open(body, MaxNodes); err != nil {
		return nil, err
	}
	req, err := d.request(body, &d.root)
	if err == nil {
		if d.unmatched%learnEvery == 0 {
			d.learn(body)
		}
		d.unmatched++
	}
	return req, err
}

// request reads the one request of body from its tree.
func (d *Decoder) request(body []byte, root *authz.Value) (*authz.Request, error) {
	q := &d.question
	*q = question{}
	if err := q.read(body, whole, root.Members, false); err != nil {
		return nil, err
	}
	if err := q.complete(body, whole, nil); err != nil {
		return nil, err
	}
	return &q.request, nil
}

// Evaluations reads the body of an access evaluations request. The error is an *Error
// about the whole body; what a single item lacks is in the item.
func (d *Decoder) Evaluations(body []byte) (*Batch, error) {
	if err := d.open(body, MaxBatchNodes); err != nil {
		return nil, err
	}
	defaults := &d.question
	*defaults = question{}
	if err := defaults.read(body, whole, d.root.Members, true); err != nil {
		return nil, err
	}
	batch := &d.batch
	batch.Items, batch.Single = batch.Items[:0], false
	var err *Error
	if batch.Semantic, err = semantic(body, defaults.options); err != nil {
		return nil, err
	}
	list := defaults.evaluations
	if list == nil || len(list.Members) == 0 {
		batch.Single = true
		if err := defaults.complete(body, whole, nil); err != nil {
			return nil, err
		}
		batch.Items = append(batch.Items, Item{Request: defaults.request})
		return batch, nil
	}
	most := d.MaxItems
	if most <= 0 || most > MaxItems {
		most = MaxItems
	}
	if len(list.Members) > most {
		return nil, blame(body, CodeTooMany, "/evaluations", "at most "+strconv.Itoa(most))
	}
	for i := range list.Members {
		v := &list.Members[i].Value
		if v.Kind != authz.Map {
			return nil, wrongType(body, item(i).pointer(""), "an object", v.Kind)
		}
		d.own = question{}
		if err := d.own.read(body, item(i), v.Members, false); err != nil {
			return nil, err
		}
		err := d.own.complete(body, item(i), defaults)
		batch.Items = append(batch.Items, Item{Request: d.own.request, Err: err})
	}
	return batch, nil
}

// open scans body, which must be an object.
func (d *Decoder) open(body []byte, maxNodes int) error {
	if err := d.scan(body, maxNodes); err != nil {
		return err
	}
	if d.root.Kind != authz.Map {
		return wrongType(body, "", "an object", d.root.Kind)
	}
	return nil
}

func semantic(body []byte, options *authz.Value) (Semantic, *Error) {
	if options == nil {
		return ExecuteAll, nil
	}
	v := authz.Object(options.Members).Get("evaluations_semantic")
	if v == nil {
		return ExecuteAll, nil
	}
	if v.Kind != authz.String {
		return 0, wrongType(body, "/options/evaluations_semantic", "a string", v.Kind)
	}
	for s := ExecuteAll; s <= PermitOnFirstPermit; s++ {
		if v.Str == s.String() {
			return s, nil
		}
	}
	return 0, blame(body, CodeUnknownSemantic, "/options/evaluations_semantic",
		"want execute_all, deny_on_first_deny or permit_on_first_permit")
}

// Retained is about how many bytes d keeps for the next body. Who pools decoders may
// want to drop one that met a large body.
func (d *Decoder) Retained() int {
	n := cap(d.scratch) + cap(d.batch.Items)*int(unsafe.Sizeof(Item{}))
	for _, s := range d.shapes {
		n += cap(s.text) + cap(s.members)*int(unsafe.Sizeof(authz.Member{})) + cap(s.leaves)*int(unsafe.Sizeof(leaf{}))
	}
	for i := range d.levels {
		n += cap(d.levels[i]) * int(unsafe.Sizeof(authz.Member{}))
		if d.tables[i] != nil {
			n += int(unsafe.Sizeof(nameTable{}))
		}
	}
	return n
}
