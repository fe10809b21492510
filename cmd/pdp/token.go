package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"vigil/server/credential"
)

type tokenCmd struct {
	New tokenNewCmd `cmd:"" help:"Make a new bearer token, and the hash that goes into the configuration."`
}

type tokenNewCmd struct {
	Out string `help:"Write the token to this file (mode 0600, must not exist) instead of printing it." placeholder:"FILE"`
	format
}

func (c *tokenNewCmd) Run(a *app) error {
	token := credential.NewToken()
	hash := credential.HashToken(token)
	shown := token
	if c.Out != "" {
		f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return badInput("%s exists already; choose another name", c.Out)
		}
		if err != nil {
			return badInput("%s: %s", c.Out, notMade(c.Out, err))
		}
		if _, err = fmt.Fprintln(f, token); err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return badInput("%s: %s", c.Out, plainOSError(err))
		}
		shown = ""
	}
	if c.json() {
		return a.printJSON(struct {
			Token string `json:"token,omitzero"`
			Hash  string `json:"token_sha256"`
		}{shown, hex.EncodeToString(hash[:])})
	}
	if shown != "" {
		fmt.Fprintln(a.stdout, "token:       ", shown)
	}
	fmt.Fprintln(a.stdout, "token_sha256:", hex.EncodeToString(hash[:]))
	return nil
}
