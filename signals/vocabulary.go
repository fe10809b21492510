package signals

import "vigil/authz"

// memberID numbers the members of a signal. A set of them is a memberSet.
type memberID uint8

const (
	mV memberID = iota
	mID
	mType
	mTenant
	mEntities
	mTime
	mExpires
	mActor
	mReason
	mTicket
	mSource
	mRisk
	mResult
	mScopes
	mActions
	mIssuedBefore
	mClass
	mLabels
	mCode
	mModel
	mLifts
	memberEnd
)

var memberNames = [memberEnd]string{
	"v", "id", "type", "tenant", "entities", "time", "expires", "actor", "reason", "ticket",
	"source", "risk", "result", "scopes", "actions", "issued_before", "class", "labels",
	"code", "model", "lifts",
}

var memberByName = func() map[string]memberID {
	m := make(map[string]memberID, memberEnd)
	for id, name := range memberNames {
		m[name] = memberID(id)
	}
	return m
}()

type memberSet uint32

func set(ids ...memberID) memberSet {
	var s memberSet
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

func (s memberSet) has(id memberID) bool { return s&(1<<id) != 0 }

var (
	// envelope is frozen: every version of Vigil writes and reads it.
	envelopeRequired = set(mV, mID, mType, mEntities, mTime)
	common           = envelopeRequired | set(mTenant, mActor, mReason, mTicket)
)

// typeSpec is what one type of signal may and must say.
type typeSpec struct {
	name     Type
	members  memberSet // beyond common
	required memberSet // beyond envelopeRequired
	// permissive: it can widen what an entity may do, so it may not be dated ahead.
	// attest is permissive only when it passes.
	permissive bool
	// lined: the newest fact of a source speaks, so there is a line to overrule.
	lined bool
	// kinds it may be about; nil for all.
	kinds kindSet
}

type kindSet uint32

// kindsBut are all kinds but sources, which signals of their own are about, and those named.
func kindsBut(not ...authz.Kind) kindSet {
	var s kindSet
	for _, k := range authz.Kinds() {
		s |= 1 << k
	}
	for _, k := range append(not, authz.KindSource) {
		s &^= 1 << k
	}
	return s
}

func (s kindSet) has(k authz.Kind) bool { return s&(1<<k) != 0 }

var (
	anyKind   = kindsBut()
	sources   = kindSet(1 << authz.KindSource)
	concrete  = kindsBut(authz.KindTenant, authz.KindEverything)
	revocable = kindsBut(authz.KindUser, authz.KindTool, authz.KindTenant, authz.KindEverything)
)

// vocabulary is the one table that decoding, encoding and the schema are made from.
var vocabulary = [...]typeSpec{
	{name: TypeRegister, members: set(mExpires, mSource, mClass, mLabels, mScopes, mCode, mModel),
		required: set(mClass), permissive: true, lined: true, kinds: concrete},
	{name: TypeAttest, members: set(mExpires, mSource, mResult),
		required: set(mResult), permissive: true, lined: true, kinds: concrete},
	{name: TypeRisk, members: set(mExpires, mSource, mRisk),
		required: set(mRisk), permissive: true, lined: true, kinds: anyKind},
	{name: TypeQuarantine, members: set(mExpires, mSource), lined: true, kinds: anyKind},
	{name: TypeRelease, members: set(mExpires, mSource), permissive: true, lined: true, kinds: anyKind},
	{name: TypeNarrow, members: set(mExpires, mScopes), required: set(mScopes), kinds: anyKind},
	{name: TypeRequireApproval, members: set(mExpires, mActions), kinds: anyKind},
	{name: TypeTaint, members: set(mExpires), kinds: anyKind},
	// A plain revoke is for revocable kinds only; see checkRevoke.
	{name: TypeRevoke, members: set(mIssuedBefore), kinds: anyKind},
	{name: TypeDecommission, kinds: kindsBut(authz.KindEverything)},
	{name: TypeLift, members: set(mLifts), required: set(mLifts), permissive: true, kinds: anyKind | sources}, // see checkKinds
	{name: TypeWaive, members: set(mExpires), required: set(mExpires, mReason), permissive: true, kinds: sources},
	{name: TypeHeartbeat, kinds: sources},
}

// spec gives the entry of t, or nil.
func (t Type) spec() *typeSpec {
	for i := range vocabulary {
		if vocabulary[i].name == t {
			return &vocabulary[i]
		}
	}
	return nil
}

// liftable are the types whose facts all stand until lifted.
var liftable = []Type{TypeTaint, TypeRequireApproval, TypeNarrow, TypeWaive, TypeUnreadable}

// permissive reports whether s can widen what an entity may do. A risk may fall and a
// registration may add scopes, so both count.
func (s *Signal) permissive() bool {
	if s.Type == TypeAttest {
		return s.Passed
	}
	spec := s.Type.spec()
	return spec != nil && spec.permissive
}
