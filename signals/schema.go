package signals

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// Schema gives the JSON Schema (draft 2020-12) of what Decode accepts: one signal or a
// batch. What a schema cannot say is in its "$comment"s, and Decode checks it all the
// same: lengths count bytes, "expires" is after "time", ids in a batch are distinct.
func Schema() []byte {
	text := func(most int) object {
		return object{"type": "string", "maxLength": most, "pattern": noControl + "*$"}
	}
	names := object{"type": "array", "maxItems": MaxList, "uniqueItems": true, "items": object{
		"type": "string", "minLength": 1, "maxLength": MaxName, "pattern": noControlOrSpace + "+$"}}
	instant := object{"type": "string", "format": "date-time", "pattern": `^(197[1-9]|19[89][0-9]|2[01][0-9][0-9]|22[0-5][0-9]|226[01])-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`,
		"$comment": fmt.Sprintf("of the years %d to %d, UTC", firstYear, lastYear)}
	digest := object{"type": "string", "minLength": 1, "maxLength": authz.MaxID, "pattern": noControl + "+$"}

	of := [memberEnd]object{
		mV:            {"const": Version},
		mID:           name(MaxText),
		mTenant:       name(MaxName),
		mTime:         instant,
		mExpires:      instant,
		mActor:        text(MaxText),
		mReason:       text(MaxText),
		mTicket:       text(MaxText),
		mSource:       sourceName(),
		mRisk:         {"type": "integer", "minimum": 0, "maximum": 100},
		mResult:       {"enum": []string{"pass", "fail"}},
		mScopes:       names,
		mActions:      names,
		mIssuedBefore: instant,
		mClass:        name(MaxName),
		mLabels: {"type": "object", "maxProperties": MaxLabels,
			"propertyNames":        object{"minLength": 1, "maxLength": MaxLabel, "pattern": noControl + "+$"},
			"additionalProperties": text(MaxText)},
		mCode:  digest,
		mModel: digest,
	}
	described := [memberEnd]string{
		mID:           "Names the signal. A source uses an id once; sending the same signal again is safe.",
		mTenant:       "May only repeat a tenant that the credential has.",
		mEntities:     "What it is about: \"kind:id\", or \"everything\".",
		mTime:         "When it happened. The newest word of a source counts.",
		mExpires:      "When it ends by itself, after \"time\". Without it the signal does not end.",
		mActor:        "Who is behind it, for people.",
		mReason:       "Why, for people.",
		mTicket:       "Where there is more, for people.",
		mSource:       "Another source, in whose line to speak, for whoever may overrule it. Then about one entity.",
		mRisk:         "0 to 100. The highest of all sources counts.",
		mScopes:       "Scopes that are left, or registered. An empty list leaves none.",
		mActions:      "Actions that need approval. Absent, empty or with \"*\": every action.",
		mIssuedBefore: "Revokes credentials issued until then, and nothing issued later.",
		mClass:        "The capability-risk class.",
		mCode:         "Digest of the code.",
		mModel:        "Digest of the model.",
		mLifts:        "The signal whose taint, approval or narrowing ends for good. Without \"source\" it is one's own.",
	}

	defs := object{}
	var one []object
	for i := range vocabulary {
		spec := &vocabulary[i]
		for _, v := range variants(spec) {
			properties := object{mType.String(): object{"const": spec.name}}
			var required []string
			for id := memberID(0); id < memberEnd; id++ {
				if (envelopeRequired | spec.required | v.required).has(id) {
					required = append(required, id.String())
				}
				if id == mType || !(common | spec.members).has(id) || v.without.has(id) {
					continue
				}
				property := object{}
				for k, x := range of[id] {
					property[k] = x
				}
				if id == mEntities {
					property = entities(v.kinds)
				}
				for k, x := range v.of[id] {
					property[k] = x
				}
				if described[id] != "" {
					property["description"] = described[id]
				}
				properties[id.String()] = property
			}
			defs[v.name] = object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
			one = append(one, object{"$ref": "#/$defs/" + v.name})
		}
	}
	defs["signal"] = object{"oneOf": one}
	schema := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "A risk signal, or a batch of them",
		"oneOf": []object{
			{"$ref": "#/$defs/signal"},
			{"type": "array", "minItems": 1, "maxItems": MaxBatch, "items": object{"$ref": "#/$defs/signal"}},
		},
		"$defs": defs,
	}
	out, err := json.Marshal(schema, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		panic(err) // nothing in it depends on anything outside this package
	}
	return append(out, '\n')
}

type object map[string]any

func name(most int) object {
	return object{"type": "string", "minLength": 1, "maxLength": most, "pattern": noControl + "+$"}
}

func sourceName() object {
	return object{"type": "string", "maxLength": MaxText, "pattern": "^(" + strings.Join(authz.SourceKinds(), "|") + "):" + noControl[1:] + "+$"}
}

// lifts is what names a signal of one of the types.
func lifts(types []Type) object {
	return object{"type": "object", "additionalProperties": false, "required": []string{"type", "id"},
		"properties": object{"type": object{"enum": types}, "source": sourceName(), "id": name(MaxText)}}
}

func isWaive(t Type) bool { return t == TypeWaive }

func (id memberID) String() string { return memberNames[id] }

// noControl and noControlOrSpace begin patterns of one character.
const (
	noControl        = `^[^\u0000-\u001f\u007f-\u009f]`
	noControlOrSpace = `^[^\u0000-\u0020\u007f-\u009f]`
)

// variant is one shape of a type of signal: what a member says may rule another one out.
type variant struct {
	name     string
	kinds    kindSet
	required memberSet
	without  memberSet
	of       map[memberID]object // what it has further to say of members
}

func variants(spec *typeSpec) []variant {
	switch spec.name {
	case TypeRevoke:
		return []variant{
			{name: "revoke", kinds: revocable, without: set(mIssuedBefore)},
			{name: "revoke_issued_before", kinds: spec.kinds, required: set(mIssuedBefore)},
		}
	case TypeAttest:
		return []variant{
			{name: "attest_pass", kinds: spec.kinds, of: map[memberID]object{mResult: {"enum": []string{"pass"}}}},
			{name: "attest_fail", kinds: spec.kinds, of: map[memberID]object{mResult: {"enum": []string{"fail"}}}, without: set(mExpires)},
		}
	case TypeLift:
		return []variant{
			{name: "lift", kinds: anyKind, of: map[memberID]object{mLifts: lifts(slices.DeleteFunc(slices.Clone(liftable), isWaive))}},
			{name: "lift_of_source", kinds: sources, of: map[memberID]object{mLifts: lifts([]Type{TypeWaive, TypeUnreadable})}},
		}
	case TypeWaive:
		return []variant{{name: "waive", kinds: spec.kinds, of: map[memberID]object{
			mReason: {"pattern": `\S`}, mExpires: {"$comment": fmt.Sprintf("at most %v after time", MaxWaiver)}}}}
	case TypeHeartbeat:
		return []variant{{name: "heartbeat", kinds: spec.kinds, of: map[memberID]object{mEntities: {"maxItems": 1}}}}
	}
	return []variant{{name: string(spec.name), kinds: spec.kinds}}
}

func entities(kinds kindSet) object {
	var names []string
	for _, k := range authz.Kinds() {
		switch {
		case !kinds.has(k) || k == authz.KindEverything:
		case k == authz.KindSource:
			names = append(names, "source:("+strings.Join(authz.SourceKinds(), "|")+")")
		default:
			names = append(names, k.String())
		}
	}
	// An id holds neither C0 controls nor the replacement character; see authz.CheckID.
	pattern := "^(" + strings.Join(names, "|") + `):[^\u0000-\u001f\u007f\ufffd]+$`
	if kinds.has(authz.KindEverything) {
		pattern = "^everything$|" + pattern
	}
	return object{"type": "array", "minItems": 1, "maxItems": MaxEntities, "uniqueItems": true, "items": object{
		"type": "string", "pattern": pattern, "$comment": fmt.Sprintf("the id has 1 to %d bytes", authz.MaxID)}}
}
