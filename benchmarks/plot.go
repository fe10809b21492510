package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// The pictures are drawn by hand, in colours that can be read on light and on dark paper.
const style = `<style>
text { font: 12px sans-serif; fill: #333 }
.title { font-size: 14px; font-weight: bold }
.axis { stroke: #888; fill: none }
.grid { stroke: #8884; fill: none }
.bar { fill: #2a7ab8 } .short { fill: #c8442c }
.limit { stroke: #333; stroke-width: 2; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .limit { stroke: #ddd } .bar { fill: #58a6e0 } .short { fill: #f0705a } }
</style>
`

var colours = []string{"#2a7ab8", "#d9822b", "#3a9a5b", "#8e5bb5"}

// frame is where the lines of a plot are drawn, in pixels.
const (
	plotWidth, plotHeight = 720, 400
	frameLeft, frameRight = 70, 700
	frameTop, frameBottom = 44, 300
)

// scale maps values to pixels.
type scale struct {
	low, high float64
	log       bool
	from, to  float64
}

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log10(v), math.Log10(low), math.Log10(high)
	}
	return s.from + (v-low)/(high-low)*(s.to-s.from)
}

// ticks are round values within a scale: powers of ten, with 2 and 5 where there are few.
func (s scale) ticks() (all []float64) {
	if !s.log {
		step := math.Pow(10, math.Floor(math.Log10(s.high-s.low)))
		if (s.high-s.low)/step < 3 {
			step /= 4
		}
		for v := math.Ceil(s.low/step) * step; v <= s.high; v += step {
			all = append(all, v)
		}
		return all
	}
	factors := []float64{1}
	if s.high/s.low < 1000 {
		factors = []float64{1, 2, 5}
	}
	for power := math.Pow(10, math.Floor(math.Log10(s.low))); power <= s.high; power *= 10 {
		for _, f := range factors {
			if v := power * f; v >= s.low && v <= s.high*1.0001 {
				all = append(all, v)
			}
		}
	}
	return all
}

// scales fit all points, zero included where y is linear.
func (s *Series) scales() (x, y scale) {
	x = scale{low: math.Inf(1), high: math.Inf(-1), log: s.LogX, from: frameLeft, to: frameRight}
	y = scale{low: math.Inf(1), high: math.Inf(-1), log: s.LogY, from: frameBottom, to: frameTop}
	for _, line := range s.Lines {
		for _, p := range line.Points {
			x.low, x.high = min(x.low, p[0]), max(x.high, p[0])
			y.low, y.high = min(y.low, p[1]), max(y.high, p[1])
		}
	}
	if y.log {
		y.low, y.high = max(y.low, 1e-3)/1.3, max(y.high, 1e-3)*1.3
	} else {
		y.low, y.high = min(0, y.low), y.high*1.1
	}
	for _, c := range []*scale{&x, &y} {
		if !(c.high > c.low) { // one point, or none
			c.low, c.high = 1, 10
		}
	}
	return x, y
}

// svg draws a series.
func (s *Series) svg() string {
	var b strings.Builder
	header(&b, s.Title, plotWidth, plotHeight)
	x, y := s.scales()
	for _, v := range y.ticks() {
		fmt.Fprintf(&b, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", frameLeft, y.at(v), frameRight, frameLeft-6, y.at(v)+4, thousands(v))
	}
	for _, v := range x.ticks() {
		label := thousands(v)
		if s.X == "quantile" {
			if label = quantileName(v); label == "" {
				continue
			}
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x.at(v), frameBottom+18, label)
	}
	fmt.Fprintf(&b, `<path class="axis" d="M%d %dV%dH%d"/>`+"\n", frameLeft, frameTop, frameBottom, frameRight)
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text><text x="6" y="%d">%s</text>`+"\n", (frameLeft+frameRight)/2, frameBottom+36, escaped(s.X), frameTop-8, escaped(s.Y))
	for i, line := range s.Lines {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for k, p := range line.Points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(k, 1)], x.at(p[0]), y.at(max(p[1], y.low)))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.at(p[0]), y.at(max(p[1], y.low)), colour)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		fmt.Fprintf(&b, `<path d="M%d %dh20" stroke="%s" stroke-width="3"/><text x="%d" y="%d">%s</text>`+"\n", frameLeft, frameBottom+52+16*i, colour, frameLeft+26, frameBottom+56+16*i, escaped(line.Name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// quantileName names the points of a plot whose x is a number of nines; "" between them.
func quantileName(v float64) string {
	names := []string{"p50", "p90", "p99", "p99.9", "p99.99"}
	if v != math.Trunc(v) || v < 0 || int(v) >= len(names) {
		return ""
	}
	return names[int(v)]
}

// barsSVG draws how much of its bar each row uses: below 1 it is held.
func barsSVG(rows []Row) string {
	type used struct {
		what  string
		share float64
	}
	var all []used
	for _, r := range rows {
		if b, ok := barOf(r.ID); ok && b.Bar != 0 {
			all = append(all, used{r.What, b.share(r.Value)})
		}
	}
	const left, right, row, most = 430, 700, 24, 2.0
	var b strings.Builder
	height := 60 + row*len(all)
	header(&b, "How much of its bar each uses: left of the line it holds", plotWidth, height)
	at := func(share float64) float64 { return left + share/most*(right-left) }
	for i, u := range all {
		class, y := "bar", 40+row*i
		if u.share > 1 {
			class = "short"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="14"/><text x="%.1f" y="%d">%s</text>`+"\n",
			left-8, y+11, escaped(clipped(u.what, 62)), class, left, y, at(min(u.share, most))-left, min(at(u.share)+4, right-20), y+11, number(u.share))
	}
	fmt.Fprintf(&b, `<path class="limit" d="M%.1f 32V%d"/>`+"\n</svg>\n", at(1), height-8)
	return b.String()
}

// share is how much of the bar a value uses, above 1 where it is short.
func (b *Bar) share(value float64) float64 {
	if b.Most {
		return value / b.Bar
	}
	return b.Bar / value
}

func header(b *strings.Builder, title string, width, height int) {
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n%s", width, height, width, height, style)
	fmt.Fprintf(b, `<title>%s</title><text class="title" x="6" y="18">%s</text>`+"\n", escaped(title), escaped(title))
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder takes everything
	return b.String()
}

// clipped shortens a text to n runes.
func clipped(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}
