package signals

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// AppendJSON appends the canonical JSON of s: members in a fixed order, those that say
// nothing left out, lists sorted. Decode gives back an equal Signal.
func (s *Signal) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"v":1`...)
	dst = appendText(dst, mID, s.ID)
	dst = appendText(dst, mType, string(s.Type))
	dst = appendOptional(dst, mTenant, s.Tenant)
	dst = appendMember(dst, mEntities)
	dst = append(dst, '[')
	for i, ref := range s.Entities {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, ref.String())
	}
	dst = append(dst, ']')
	dst = appendTime(dst, mTime, s.Time)
	if s.Expires != authz.Forever {
		dst = appendTime(dst, mExpires, s.Expires)
	}
	dst = appendOptional(dst, mActor, s.Actor)
	dst = appendOptional(dst, mReason, s.Reason)
	dst = appendOptional(dst, mTicket, s.Ticket)
	dst = appendOptional(dst, mSource, s.Line)
	return append(s.appendValue(dst), '}')
}

// appendValue appends the members that only some types have.
func (s *Signal) appendValue(dst []byte) []byte {
	switch s.Type {
	case TypeRegister:
		dst = appendText(dst, mClass, s.Class)
		if len(s.Labels) > 0 {
			dst = append(appendMember(dst, mLabels), '{')
			for i, name := range slices.Sorted(maps.Keys(s.Labels)) {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(appendString(dst, name), ':')
				dst = appendString(dst, s.Labels[name])
			}
			dst = append(dst, '}')
		}
		if len(s.Scopes) > 0 {
			dst = appendList(dst, mScopes, s.Scopes)
		}
		dst = appendOptional(dst, mCode, s.Code)
		dst = appendOptional(dst, mModel, s.Model)
	case TypeAttest:
		if s.Passed {
			dst = appendText(dst, mResult, "pass")
		} else {
			dst = appendText(dst, mResult, "fail")
		}
	case TypeRisk:
		dst = strconv.AppendInt(appendMember(dst, mRisk), int64(s.Risk), 10)
	case TypeNarrow:
		dst = appendList(dst, mScopes, s.Scopes)
	case TypeRequireApproval:
		dst = appendList(dst, mActions, s.Actions)
	case TypeRevoke:
		if s.IssuedBefore != 0 {
			dst = appendTime(dst, mIssuedBefore, s.IssuedBefore)
		}
	case TypeLift:
		dst = append(appendMember(dst, mLifts), `{"type":`...)
		dst = appendString(dst, string(s.Lifts.Type))
		if s.Lifts.Source != "" {
			dst = appendString(append(dst, `,"source":`...), s.Lifts.Source)
		}
		dst = appendString(append(dst, `,"id":`...), s.Lifts.ID)
		dst = append(dst, '}')
	}
	return dst
}

func appendMember(dst []byte, id memberID) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, memberNames[id]...)
	return append(dst, '"', ':')
}

func appendText(dst []byte, id memberID, v string) []byte {
	return appendString(appendMember(dst, id), v)
}

func appendOptional(dst []byte, id memberID, v string) []byte {
	if v == "" {
		return dst
	}
	return appendText(dst, id, v)
}

func appendList(dst []byte, id memberID, list []string) []byte {
	dst = append(appendMember(dst, id), '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, v)
	}
	return append(dst, ']')
}

func appendTime(dst []byte, id memberID, i authz.Instant) []byte {
	dst = append(appendMember(dst, id), '"')
	dst = i.Time().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendString quotes v. Invalid UTF-8, which Decode lets nobody send, becomes U+FFFD.
func appendString(dst []byte, v string) []byte {
	dst, _ = jsontext.AppendQuote(dst, v)
	return dst
}
