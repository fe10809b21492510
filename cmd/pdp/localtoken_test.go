package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vigil/server/credential"
)

func TestLocalTokenIsFoundOnlyForItsPortAndOnlyWhenPrivate(t *testing.T) {
	runtime, data := t.TempDir(), t.TempDir()
	env := environment{"XDG_RUNTIME_DIR=" + runtime}
	secret, files, err := leaveLocalToken(env, data, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071})
	must(t, err)
	if len(files) != 2 {
		t.Fatalf("written to %v", files)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	errs := &buffer{}
	a := &app{env: env, stderr: errs}
	find := func(control, target string) string {
		token, _, err := a.findToken(&connection{ControlURL: control}, target)
		must(t, err)
		return token
	}
	const here = "http://127.0.0.1:7071"
	for _, c := range []struct{ what, control, target, want string }{
		{"the control port", here, here, secret},
		{"by another name", "http://localhost:7071", "http://localhost:7071", secret},
		{"the decision port beside it", here, "http://127.0.0.1:7070", secret},
		{"another port", "http://127.0.0.1:7072", "http://127.0.0.1:7072", ""},
		{"another machine", "http://192.0.2.1:7071", "http://192.0.2.1:7071", ""},
		{"another machine's decision port", here, "http://pdp.example.com:7070", ""},
	} {
		if got := find(c.control, c.target); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	// A file that others could have written, or read, is not used.
	must(t, os.Chmod(files[1], 0o644))
	if got := find(here, here); got != "" {
		t.Errorf("a token that others can read was used")
	}
	if !strings.Contains(errs.String(), "open to other users") || strings.Contains(errs.String(), secret) {
		t.Errorf("it said %q", errs.String())
	}
	must(t, os.Remove(files[1]))
	must(t, os.Symlink(files[0], files[1]))
	if got := find(here, here); got != "" {
		t.Errorf("a token behind a link was used")
	}
}

// A full data folder must not keep an engine from starting: old signals are in it.
func TestALocalTokenNeedsOneFolderOnly(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071}
	env := environment{"XDG_RUNTIME_DIR=" + t.TempDir()}
	full := filepath.Join(t.TempDir(), "missing") // nothing can be written here
	token, files, err := leaveLocalToken(env, full, at)
	if err != nil || token == "" || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if _, _, err := leaveLocalToken(nil, full, at); err == nil {
		t.Error("a token that nobody can find")
	}
}

// Where nothing can be written at all, the token of an earlier process is used again, if it
// is one, and private. A path on which no longer name fits stands for a full disk, for root
// writes everywhere else.
func TestTheTokenOfBeforeIsUsedWhereNoneCanBeWritten(t *testing.T) {
	const pathMax = 4096 // of Linux, with the byte behind it
	data := t.TempDir()
	for room := pathMax - 1 - len("/"+localTokenName) - len(data); room > 0; {
		n := min(200, room-1)
		if room-1-n == 1 {
			n-- // a name has at least one byte besides its slash
		}
		data, room = filepath.Join(data, strings.Repeat("d", n)), room-1-n
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Skipf("this file system takes no path as long as a socket's limit: %v", err)
	}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071}
	name := filepath.Join(data, localTokenName)
	old := credential.NewToken()
	for _, c := range []struct {
		what, content string
		mode          os.FileMode
		used          bool
	}{
		{"none", "", 0, false},
		{"the token of before", old + "\n", 0o600, true},
		{"one that others may know", old + "\n", 0o644, false},
		{"half a token", old[:20] + "\n", 0o600, false},
		{"no token", "\n", 0o600, false},
	} {
		if c.content != "" {
			must(t, os.WriteFile(name, []byte(c.content), 0o600))
			must(t, os.Chmod(name, c.mode))
		}
		token, files, err := leaveLocalToken(nil, data, at)
		if c.used && (err != nil || token != old || len(files) != 1) || !c.used && err == nil {
			t.Errorf("%s: %d files, %v", c.what, len(files), err)
		}
	}
}

// A folder that others can enter is none for a token, and neither is a token of another user.
func TestALocalTokenIsLeftInPrivateFoldersOnly(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071}
	runtime := t.TempDir()
	env := environment{"XDG_RUNTIME_DIR=" + runtime}
	folder := filepath.Join(runtime, "vigil")
	must(t, os.Mkdir(folder, 0o700))
	must(t, os.Chmod(folder, 0o755))
	if _, files, err := leaveLocalToken(env, t.TempDir(), at); err != nil || len(files) != 1 || filepath.Dir(files[0]) == folder {
		t.Errorf("%v, %v", files, err)
	}
	must(t, os.Chmod(folder, 0o700))
	_, files, err := leaveLocalToken(env, t.TempDir(), at)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	if os.Chown(files[1], 65534, 65534) != nil {
		t.Skip("only root can make a file another user's")
	}
	errs := &buffer{}
	a := &app{env: env, stderr: errs}
	if token, _, err := a.findToken(&connection{ControlURL: "http://127.0.0.1:7071"}, "http://127.0.0.1:7071"); err != nil || token != "" || !strings.Contains(errs.String(), "belongs to another user") {
		t.Errorf("a token that another user has left was used: %v; %s", err, errs)
	}
}

func TestTokenFileMustHoldOneToken(t *testing.T) {
	dir := t.TempDir()
	a := &app{stderr: &buffer{}}
	for content, ok := range map[string]bool{"vgl_x\n": true, "": false, "two tokens\n": false, "a\nb\n": false, strings.Repeat("x", 5000): false} {
		name := filepath.Join(dir, "token")
		must(t, os.WriteFile(name, []byte(content), 0o600))
		token, _, err := a.findToken(&connection{TokenFile: name}, "http://192.0.2.1:1")
		if (err == nil) != ok {
			t.Errorf("%.20q: %q, %v", content, token, err)
		}
		if err != nil && len(content) > 3 && strings.Contains(err.Error(), content) {
			t.Errorf("the content is repeated: %v", err)
		}
	}
}

func TestReachableAddresses(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"127.0.0.1:7071":   &net.TCPAddr{IP: net.IPv4zero, Port: 7071},
		"[::1]:7071":       &net.TCPAddr{IP: net.IPv6loopback, Port: 7071},
		"192.0.2.1:7071":   &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7071},
		"unix:/run/v.sock": &net.UnixAddr{Name: "/run/v.sock", Net: "unix"},
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%v: got %s, want %s", addr, got, want)
		}
	}
}
