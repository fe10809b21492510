package authzen

import (
	"bytes"
	"io"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// payBody is the evaluation request of the invoice scenario, 444 bytes.
const payBody = `{"subject":{"type":"user","id":"kim@acme.example","properties":{"role":"AP-analyst","scope":"propose:payments read:invoices","act":{"sub":"invoice-agent","instance":"invoice-agent/7f3a"}}},"action":{"name":"pay","properties":{"method":"tools/call"}},"resource":{"type":"payment","id":"inv-2026-004417","properties":{"amount":4200.50,"supplier":"acme","currency":"EUR"}},"context":{"session":"s-9f2c41d0","token":"t-5b1e","trace_id":"4bf92f35"}}`

func BenchmarkDecodeEvaluation(b *testing.B) {
	body := []byte(payBody)
	var d Decoder
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Evaluation(body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTokensOfJSONText is what reading the same body token by token costs with the
// strict library, building nothing.
func BenchmarkTokensOfJSONText(b *testing.B) {
	body := []byte(payBody)
	var reader bytes.Reader
	d := jsontext.NewDecoder(&reader)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		d.Reset(&reader)
		for {
			if _, err := d.ReadToken(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkAppendDecision(b *testing.B) {
	answer := exampleAnswer()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendDecision(buf[:0], answer, true)
	}
}
