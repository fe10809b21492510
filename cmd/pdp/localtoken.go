package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"vigil/server/credential"
)

// Without configured clients, serve makes one token, for the user who runs it. It is
// written twice, each time readable by that user only: into the data folder, and into
// the user's runtime folder under the address of the control port, where every command
// finds it. This keeps other users out. It does not keep out an agent that runs as the
// same user; that takes configured clients and another user for the agent.

const localTokenName = "local.token"

// runtimeDir is where this user's running engines leave their tokens, or "" where the
// environment names no fit place. It is never a folder that other users can write to.
func runtimeDir(env environment) string {
	if dir := env.get("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vigil")
	}
	if dir := env.get("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "vigil", "run")
	}
	if home := env.get("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "vigil", "run")
	}
	return ""
}

// tokenFileFor names the file of the token for the control port at address, a
// host:port or unix:/path.
func tokenFileFor(dir, address string) string {
	name := strings.Map(func(r rune) rune {
		if notNameRune(r) {
			return '_'
		}
		return r
	}, strings.Replace(address, "localhost", "127.0.0.1", 1))
	return filepath.Join(dir, name+".token")
}

// leaveLocalToken makes a token, leaves it in the data folder and the runtime folder, and
// gives the files that hold it. One of them is enough: the one in the data folder can be
// named with --token-file. Where neither can be written, as on a full disk, a token that
// an earlier process left in the data folder is used again.
func leaveLocalToken(env environment, dataDir string, address net.Addr) (token string, files []string, err error) {
	token = credential.NewToken()
	first := filepath.Join(dataDir, localTokenName)
	if err = writePrivate(first, token); err == nil {
		files = append(files, first)
	}
	if dir := runtimeDir(env); privateDir(dir) {
		if second := tokenFileFor(dir, reachable(address)); writePrivate(second, token) == nil {
			files = append(files, second)
		}
	}
	if err == nil || len(files) > 0 {
		return token, files, nil
	}
	if checkPrivate(first) == nil {
		if old, readErr := readToken(first); readErr == nil && len(old) == len(token) {
			return old, []string{first}, nil
		}
	}
	return "", nil, err
}

var errNoToken = errors.New("it does not hold one token in one line")

func readToken(name string) (string, error) {
	data, err := readBounded(name, 4096)
	if err != nil {
		return "", errors.New(plainOSError(err))
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errNoToken
	}
	return token, nil
}

// privateDir makes a folder for this user alone, and reports whether it is that.
func privateDir(dir string) bool {
	return dir != "" && os.MkdirAll(dir, 0o700) == nil && checkPrivate(dir) == nil
}

// reachable gives the address at which this machine reaches a listener.
func reachable(address net.Addr) string {
	switch a := address.(type) {
	case *net.UnixAddr:
		return "unix:" + a.Name
	case *net.TCPAddr:
		if a.IP.IsUnspecified() {
			return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port))
		}
	}
	return address.String()
}

// writePrivate replaces the file name whole, readable by its owner only.
func writePrivate(name, content string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(content + "\n")
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// checkPrivate says what makes a file or folder unfit to hold a secret of this user.
func checkPrivate(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to another user", name)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %04o); want 0600 or, for a folder, 0700", name, info.Mode().Perm())
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a symbolic link", name)
	}
	return nil
}

// findToken gives the token to send to target and where it was found; "" where there is
// none, which a decision port on loopback does not mind. A local token is never sent to
// another machine.
func (a *app) findToken(c *connection, target string) (token, found string, err error) {
	if c.TokenFile != "" {
		token, err := readToken(c.TokenFile)
		if err != nil {
			return "", "", badInput("--token-file: %s: %s", c.TokenFile, err)
		}
		return token, c.TokenFile, nil
	}
	dir := runtimeDir(a.env)
	address := controlAddress(c.ControlURL)
	if dir == "" || address == "" || controlAddress(target) == "" {
		return "", "", nil
	}
	name := tokenFileFor(dir, address)
	data, err := readBounded(name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err == nil {
		err = checkPrivate(name)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "pdp: the local token is not used: %s\n", err)
		return "", "", nil
	}
	return strings.TrimSpace(string(data)), name, nil
}

// controlAddress gives the address of a control port on this machine, as serve names
// its token after it, or "" for one on another machine.
func controlAddress(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix:" + strings.TrimPrefix(path, "//")
	}
	u, err := url.Parse(address)
	if err != nil || !loopback(u.Host) {
		return ""
	}
	return u.Host
}
