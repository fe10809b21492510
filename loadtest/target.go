package main

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// target is where requests go: http over TCP or over a Unix socket.
type target struct {
	network, address string
	host             string // of the Host header
	prefix           string // of paths
}

// parseTarget reads http://host:port[/prefix] or unix:/path. Other machines than this one
// are refused unless they are wanted.
func parseTarget(text string, remote bool) (target, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return target{network: "unix", address: "/" + strings.TrimLeft(path, "/"), host: "localhost"}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return target{}, badUsage("%q: want http://host:port or unix:/path", text)
	}
	t := target{network: "tcp", address: u.Host, host: u.Host, prefix: strings.TrimSuffix(u.Path, "/")}
	if u.Port() == "" {
		t.address = net.JoinHostPort(u.Hostname(), "80")
	}
	ip := net.ParseIP(u.Hostname())
	if local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(); !local && !remote {
		return target{}, badUsage("%s is not on this machine; load goes elsewhere only with --allow-remote", u.Host)
	}
	return t, nil
}

// request is a whole HTTP request, ready to be written.
func (t target) request(method, path, token string, body []byte) []byte {
	return t.requestWith(method, path, token, "", body)
}

// requestWith is request with one header more, such as "Name: value"; "" for none.
func (t target) requestWith(method, path, token, header string, body []byte) []byte {
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s%s HTTP/1.1\r\nHost: %s\r\n", method, t.prefix, path, t.host)
	if header != "" {
		head.WriteString(header + "\r\n")
	}
	if token != "" {
		fmt.Fprintf(&head, "Authorization: Bearer %s\r\n", token)
	}
	if body != nil {
		fmt.Fprintf(&head, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	head.WriteString("\r\n")
	return append([]byte(head.String()), body...)
}

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 4 << 20

// conn is one connection that is kept, and made anew after it failed. It is for one
// goroutine. It is a client that does as little as can be, for it shares the processors
// with what it measures.
type conn struct {
	to       target
	timeout  time.Duration // of one request, connecting included
	net      net.Conn
	reader   *bufio.Reader
	response fasthttp.Response
	dials    int
}

func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close()
		c.net = nil
	}
}

// do sends a request and reads its answer. body is valid until the next call.
func (c *conn) do(request []byte) (status int, body []byte, err error) {
	deadline := time.Now().Add(c.timeout)
	if c.net == nil {
		c.net, err = (&net.Dialer{Deadline: deadline}).Dial(c.to.network, c.to.address)
		if err != nil {
			c.net = nil
			return 0, nil, err
		}
		c.dials++
		if c.reader == nil {
			c.reader = bufio.NewReaderSize(nil, 8<<10)
		}
		c.reader.Reset(c.net)
	}
	if err = c.net.SetDeadline(deadline); err == nil {
		if _, err = c.net.Write(request); err == nil {
			err = c.response.ReadLimitBody(c.reader, maxAnswer)
		}
	}
	if err != nil {
		c.close()
		return 0, nil, err
	}
	if c.response.ConnectionClose() {
		c.close()
	}
	return c.response.StatusCode(), c.response.Body(), nil
}
