package kafka

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

// The library says which members a message has in which version, by tags on its types, and
// encodes requests. Its decoder makes arrays and strings of whatever length an answer
// claims, which ends the process when that is large; so answers are decoded here.

// answerTo is an empty answer to a request.
func answerTo(key protocol.ApiKey) (protocol.Message, error) {
	switch key {
	case protocol.ApiVersions:
		return &apiversions.Response{}, nil
	case protocol.SaslHandshake:
		return &saslhandshake.Response{}, nil
	case protocol.SaslAuthenticate:
		return &saslauthenticate.Response{}, nil
	case protocol.ListOffsets:
		return &listoffsets.Response{}, nil
	case protocol.Produce:
		return &produce.Response{}, nil
	case protocol.CreateTopics:
		return &createtopics.Response{}, nil
	case protocol.DescribeConfigs:
		return &describeconfigs.Response{}, nil
	}
	return nil, fmt.Errorf("no answer is known to a request of kind %s", key)
}

// decodeAnswer reads an answer, from after its correlation id on. All of it must be read.
func decodeAnswer(b []byte, version int16, answer protocol.Message) error {
	c := &cursor{rest: b}
	v := reflect.ValueOf(answer).Elem()
	flexible := isFlexible(v.Type(), version)
	if flexible {
		c.tags() // of the header
	}
	c.structure(v, version, flexible)
	if c.bad {
		return fmt.Errorf("%w: it ends too early", errMalformed)
	}
	if len(c.rest) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errMalformed, len(c.rest))
	}
	return nil
}

// isFlexible reports whether a version of a message is of the form with compact lengths
// and tagged fields. The library says so by a member that is a tagged field.
func isFlexible(t reflect.Type, version int16) bool {
	for i := range t.NumField() {
		for tag := range strings.SplitSeq(t.Field(i).Tag.Get("kafka"), "|") {
			if from, _, tagged := versions(tag); tagged && version >= from {
				return true
			}
		}
	}
	return false
}

// versions are those that a member is in, of one alternative of its tag: none (1 to 0)
// where it does not say. A tagged field is not in the place of its member.
func versions(tag string) (from, until int16, tagged bool) {
	from, until = 1, 0
	for option := range strings.SplitSeq(tag, ",") {
		name, value, _ := strings.Cut(option, "=")
		n, _ := strconv.ParseInt(strings.TrimPrefix(value, "v"), 10, 16)
		switch name {
		case "min":
			from = int16(n)
		case "max":
			until = int16(n)
		case "tag":
			tagged = true
		}
	}
	return from, until, tagged
}

func (c *cursor) structure(v reflect.Value, version int16, flexible bool) {
	for i := range v.NumField() {
		for tag := range strings.SplitSeq(v.Type().Field(i).Tag.Get("kafka"), "|") {
			if from, until, tagged := versions(tag); version >= from && version <= until {
				if !tagged {
					c.value(v.Field(i), version, flexible)
				}
				break
			}
		}
	}
	if flexible {
		c.tags()
	}
}

func (c *cursor) value(v reflect.Value, version int16, flexible bool) {
	switch kind := v.Kind(); kind {
	case reflect.Bool:
		v.SetBool(c.int8() != 0)
	case reflect.Int8:
		v.SetInt(int64(c.int8()))
	case reflect.Int16:
		v.SetInt(int64(c.int16()))
	case reflect.Int32:
		v.SetInt(int64(c.int32()))
	case reflect.Int64:
		v.SetInt(c.int64())
	case reflect.Float64:
		v.SetFloat(math.Float64frombits(uint64(c.int64())))
	case reflect.String:
		v.SetString(c.string(flexible))
	case reflect.Struct:
		c.structure(v, version, flexible)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(c.bytes(flexible))
			return
		}
		// It grows with what is really there, and not at once to what it claims.
		for n := c.count(flexible); n > 0 && !c.bad; n-- {
			element := reflect.New(v.Type().Elem()).Elem()
			c.value(element, version, flexible)
			v.Set(reflect.Append(v, element))
		}
	default:
		c.bad, c.rest = true, nil
	}
}
