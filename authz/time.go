package authz

import (
	"math"
	"time"
)

// Instant is a point in time in nanoseconds since the Unix epoch, UTC. The zero
// Instant means "not stated".
type Instant int64

// Forever is later than every stated time.
const Forever Instant = math.MaxInt64

// InstantOf converts t. Times outside the years 1678 to 2262 are clamped.
func InstantOf(t time.Time) Instant {
	switch s := t.Unix(); {
	case s > math.MaxInt64/int64(time.Second)-1:
		return Forever - 1
	case s < math.MinInt64/int64(time.Second)+1:
		return math.MinInt64 + 1
	}
	return Instant(t.UnixNano())
}

// Time converts i to UTC.
func (i Instant) Time() time.Time { return time.Unix(0, int64(i)).UTC() }

// Add moves i by d and stops at Forever instead of overflowing.
func (i Instant) Add(d time.Duration) Instant {
	if i == Forever {
		return Forever
	}
	sum := i + Instant(d)
	if d > 0 && sum < i {
		return Forever
	}
	return sum
}

// String gives RFC 3339 with up to nanoseconds, "never" for Forever and "" for zero.
func (i Instant) String() string {
	switch i {
	case Forever:
		return "never"
	case 0:
		return ""
	}
	return i.Time().Format(time.RFC3339Nano)
}

// AppendInstant appends i as RFC 3339 in UTC with milliseconds.
func AppendInstant(dst []byte, i Instant) []byte {
	return i.Time().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}
