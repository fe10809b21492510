package authzen

import (
	"strconv"

	"vigil/authz"
)

// Powers of ten that a double holds exactly.
var pow10 = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number reads the number at b[i] (RFC 8259 section 6) and returns where it ends, or -1.
// It is the double nearest to what is written; beyond the largest it is an error.
func (d *Decoder) number(b []byte, i int, v *authz.Value) int {
	start := i
	negative := b[i] == '-'
	if negative {
		i++
	}
	// mantissa counts while it is exact in a double, that is with at most 15 digits.
	var mantissa uint64
	digits, scale := 0, 0
	if i >= len(b) {
		return d.failed(i, CodeUnexpectedEnd)
	}
	switch c := b[i]; {
	case c == '0':
		i++
		if i < len(b) && '0' <= b[i] && b[i] <= '9' {
			return d.failed(start, CodeBadNumber)
		}
	case '1' <= c && c <= '9':
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			mantissa = mantissa*10 + uint64(b[i]-'0')
			digits++
			i++
		}
	default:
		return d.failed(start, CodeBadNumber)
	}
	exact := true
	if i < len(b) && b[i] == '.' {
		i++
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			mantissa = mantissa*10 + uint64(b[i]-'0')
			i++
		}
		if i == from {
			return d.ended(b, i, CodeBadNumber)
		}
		scale = i - from
		digits += scale
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		exact = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		if i == from {
			return d.ended(b, i, CodeBadNumber)
		}
	}
	if exact && digits <= 15 && scale < len(pow10) {
		// Both operands are exact, so the quotient is the nearest double.
		v.Num = float64(mantissa) / pow10[scale]
		if negative {
			v.Num = -v.Num
		}
		return i
	}
	f, err := strconv.ParseFloat(alias(b[start:i]), 64)
	if err != nil {
		return d.failed(start, CodeNumberRange)
	}
	v.Num = f
	return i
}
