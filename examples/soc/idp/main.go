// Command idp is an identity provider as Vigil sees one, for trying out: it serves the
// public keys that security events are verified with, lets a stream of them be managed, and
// signs and pushes such events.
//
//	idp serve --dir DIR [--listen ADDRESS] [--address-file FILE] [--manage-token-file FILE]
//	idp say --dir DIR --to URL --token-file FILE EVENT SUBJECT [MEMBER=TEXT...]
//
// EVENT is one of CAEP or RISC, such as session-revoked; SUBJECT is kind:id, such as
// session:s-1 or user:kim. The private key is in DIR, and only who can read it can speak.
// Whoever has the token of --manage-token-file can make the stream, and have it verified.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// issuer and audience are what the example's vigil.yaml expects.
const (
	issuer   = "https://idp.example.com/"
	audience = "https://pdp.example.com/ssf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "idp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say `serve` or `say`")
	}
	flags := flag.NewFlagSet("idp "+args[0], flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of the private key")
	switch args[0] {
	case "serve":
		listen := flags.String("listen", "127.0.0.1:7079", "where the public keys are served")
		addressFile := flags.String("address-file", "", "file that the URL of the server is written to")
		manageFile := flags.String("manage-token-file", "", "file of the bearer token of who may manage the stream")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serve(ctx, *dir, *listen, *addressFile, *manageFile, out)
	case "say":
		to := flags.String("to", "http://127.0.0.1:7071/v1/events/idp", "where events are pushed to")
		tokenFile := flags.String("token-file", "", "file of the bearer token for that")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() < 2 {
			return errors.New("say which event, and about what")
		}
		return say(ctx, *dir, *to, *tokenFile, flags.Args(), out)
	}
	return fmt.Errorf("%q is neither `serve` nor `say`", args[0])
}

// serve serves the public key of dir, which is made where there is none, and the management
// of a stream, until ctx ends.
func serve(ctx context.Context, dir, listen, addressFile, manageFile string, out io.Writer) error {
	key, err := openKey(dir)
	if err != nil {
		return err
	}
	jwks, err := publicKeys(&key.PublicKey)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(jwks)
	})
	url := fmt.Sprintf("http://%s", listener.Addr())
	if manageFile != "" {
		token, err := os.ReadFile(filepath.Clean(manageFile))
		if err != nil {
			return err
		}
		m := newManager(url, strings.TrimSpace(string(token)), func(ctx context.Context, set *event, to, authorization string) error {
			token, err := sign(key, set)
			if err != nil {
				return err
			}
			return deliver(ctx, to, authorization, token, out)
		})
		m.routes(mux)
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.run(ctx, out)
		}()
		defer func() {
			stop()
			<-ended
		}()
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if addressFile != "" { // whole or not at all, for others wait for it
		if err := os.WriteFile(addressFile+".new", []byte(url+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(addressFile+".new", addressFile); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "the keys are at", url+"/keys")
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// say signs an event and pushes it. What is to come again (RFC 8935) is pushed again, as the
// same event.
func say(ctx context.Context, dir, to, tokenFile string, words []string, out io.Writer) error {
	key, err := openKey(dir)
	if err != nil {
		return err
	}
	bearer, err := os.ReadFile(filepath.Clean(tokenFile))
	if err != nil {
		return err
	}
	set, err := newEvent(words[0], words[1], words[2:], time.Now())
	if err != nil {
		return err
	}
	token, err := sign(key, set)
	if err != nil {
		return err
	}
	if err := deliver(ctx, to, "Bearer "+strings.TrimSpace(string(bearer)), token, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s about %s: acknowledged, in force (%s)\n", words[0], words[1], set.ID)
	return nil
}

// deliver pushes a signed event until it is acknowledged or refused.
func deliver(ctx context.Context, to, authorization, token string, out io.Writer) error {
	for attempt := range 6 {
		status, answer, err := push(ctx, to, authorization, token)
		switch {
		case err == nil && status == http.StatusAccepted:
			return nil
		case err == nil && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
			return fmt.Errorf("refused: %d %s", status, answer)
		case err == nil:
			err = fmt.Errorf("not now: %d %s", status, answer)
		}
		fmt.Fprintln(out, err)
		select {
		case <-time.After(time.Second << attempt):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("it was not taken; say it again")
}

// push makes one request (RFC 8935 section 2).
func push(ctx context.Context, to, authorization, token string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(token))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/secevent+jwt")
	r.Header.Set("Accept", "application/json")
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	return response.StatusCode, strings.TrimSpace(string(answer)), err
}
