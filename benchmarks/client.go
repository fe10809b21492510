package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// order is a load that the client is to put on a server, as one line of JSON.
type order struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"`
	Entries     int    `json:"entries"` // different requests; 0: every request is new
	Agents      int    `json:"agents"`  // that there are
	For         nanos  `json:"for"`
	Awake       bool   `json:"awake"` // never sleep: the client has a processor of its own
}

// nanos is a duration as it stands in JSON: a number of nanoseconds.
type nanos int64

// tally answers an order.
type tally struct {
	Answered int64  `json:"answered"`
	Took     nanos  `json:"took"`
	Worked   nanos  `json:"worked"` // of it, the time in which the client asked and looked at answers
	Err      string `json:"err"`
}

// clientCommand reads orders and answers each when it is done. It is a process of its own,
// on a processor of its own, and does as little as it can for a request: it writes bytes
// that are ready, and looks at the status, the length and the decision of the answer.
func clientCommand(ctx context.Context, args []string, out, _ io.Writer) error {
	if len(args) > 0 {
		return badUsage("client is for this program's own use")
	}
	c := &client{open: map[string][]*connection{}, ready: map[int][][]byte{}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() && ctx.Err() == nil {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		answer, err := json.Marshal(c.load(o))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", answer)
	}
	return lines.Err()
}

// client keeps its connections from one order to the next.
type client struct {
	open   map[string][]*connection
	ready  map[int][][]byte // requests by the number of different ones
	serial atomic.Int64     // of requests that are to be new
}

// connection is for one goroutine.
type connection struct {
	line       // what is read and written, by the system's own means
	buffer     []byte
	have, want int       // of the answer that is being read; want is -1 until its head is there
	fresh      *template // nil until requests are to be new
	random     uint64
}

func connect(address string, number int) (*connection, error) {
	l, err := dial(address)
	if err != nil {
		return nil, err
	}
	return &connection{line: l, buffer: make([]byte, 16<<10), want: -1, random: uint64(number) + 1}, nil
}

func (c *client) load(o order) (t tally) {
	conns := c.open[o.Address]
	for len(conns) < o.Connections {
		conn, err := connect(o.Address, len(conns))
		if err != nil {
			return tally{Err: err.Error()}
		}
		conns = append(conns, conn)
		c.open[o.Address] = conns
	}
	if o.Entries > 0 && c.ready[o.Entries] == nil {
		for i := range o.Entries {
			c.ready[o.Entries] = append(c.ready[o.Entries], request(i*max(1, o.Agents/o.Entries)%o.Agents, i))
		}
	}
	begin := time.Now()
	answered, worked, err := drive(conns[:o.Connections], o.Awake, begin.Add(time.Duration(o.For)), func(conn *connection) []byte { return c.next(conn, o) })
	t = tally{Answered: answered, Took: nanos(time.Since(begin)), Worked: nanos(worked)}
	if err != nil {
		t.Err = err.Error()
	}
	return t
}

// next is the next request of a connection.
func (c *client) next(conn *connection, o order) []byte {
	if o.Entries > 0 {
		conn.random ^= conn.random << 13
		conn.random ^= conn.random >> 7
		conn.random ^= conn.random << 17
		return c.ready[o.Entries][conn.random%uint64(o.Entries)]
	}
	serial := int(c.serial.Add(1))
	if conn.fresh == nil {
		conn.fresh = newTemplate()
	}
	return conn.fresh.with(serial%o.Agents, serial)
}

// template is a request whose agent and serial are written into it again and again: making
// each anew would cost the client more than asking.
type template struct {
	bytes  []byte
	agents []int // where an agent's number stands
	serial []int // where a serial stands
}

// markers are numbers that stand nowhere else in a request.
const (
	agentMarker  = 8_675_309
	serialMarker = 918_273_645
)

func newTemplate() *template {
	t := &template{bytes: request(agentMarker, serialMarker)}
	t.agents = places(t.bytes, agentID(agentMarker)[len("agent-"):])
	t.serial = places(t.bytes, strconv.Itoa(serialMarker))
	return t
}

func places(text []byte, marker string) (all []int) {
	for from := 0; ; {
		i := bytes.Index(text[from:], []byte(marker))
		if i < 0 {
			return all
		}
		all = append(all, from+i)
		from += i + len(marker)
	}
}

// with writes an agent and a serial into the request. The result is valid until the next
// call.
func (t *template) with(agent, serial int) []byte {
	for _, at := range t.agents {
		writeAgent(t.bytes[at:at+agentDigits], agent)
	}
	for _, at := range t.serial {
		decimal(t.bytes[at:at+9], serial)
	}
	return t.bytes
}

// decimal fills digits with n, zeros in front.
func decimal(digits []byte, n int) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}

// request is a whole HTTP request.
func request(agent, serial int) []byte {
	body := bodyOf(agent, serial)
	return fmt.Appendf(nil, "POST /access/v1/evaluation HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

var (
	statusOK  = []byte("HTTP/1.1 200 ")
	headEnd   = []byte("\r\n\r\n")
	lengthIs  = []byte("\r\nContent-Length: ")
	permitted = []byte(`{"decision":true`)
)

// took looks at n more bytes of an answer, and says whether it is whole.
func (c *connection) took(n int) (bool, error) {
	c.have += n
	head := bytes.Index(c.buffer[:c.have], headEnd)
	if head < 0 {
		return false, nil
	}
	if c.want < 0 {
		var err error
		if c.want, err = wholeLength(c.buffer[:head+len(headEnd)]); err != nil {
			return false, err
		}
		if c.want > len(c.buffer) {
			return false, errors.New("the answer is too long")
		}
	}
	if c.have < c.want {
		return false, nil
	}
	if c.have > c.want || !bytes.HasPrefix(c.buffer[head+len(headEnd):c.have], permitted) {
		return false, fmt.Errorf("not an allow: %.600s", c.buffer[:c.have])
	}
	c.have, c.want = 0, -1
	return true, nil
}

// wholeLength reads the head of an answer and gives the length of all of it.
func wholeLength(head []byte) (int, error) {
	if !bytes.HasPrefix(head, statusOK) {
		return 0, fmt.Errorf("not a 200: %.200s", head)
	}
	i := bytes.Index(head, lengthIs)
	if i < 0 {
		return 0, errors.New("an answer without a length")
	}
	digits := head[i+len(lengthIs):]
	digits = digits[:bytes.IndexByte(digits, '\r')]
	n, err := strconv.Atoi(string(digits))
	return len(head) + n, err
}

// oneAnswer asks a server the first request and gives the body of its answer.
func oneAnswer(address string) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request(0, 0)); err != nil {
		return nil, err
	}
	c := &connection{buffer: make([]byte, 16<<10), want: -1}
	for {
		n, err := conn.Read(c.buffer[c.have:])
		if err != nil {
			return nil, err
		}
		all := c.buffer[:c.have+n]
		if whole, err := c.took(n); err != nil {
			return nil, err
		} else if whole {
			return bytes.Clone(all[bytes.Index(all, headEnd)+len(headEnd):]), nil
		}
	}
}
