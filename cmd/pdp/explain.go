package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"vigil/server/control"
)

type explainCmd struct {
	File   string `arg:"" optional:"" help:"An AuthZEN request as JSON; - reads standard input."`
	ID     string `name:"id" help:"Explain a recent decision by its id (see \"pdp decisions\")."`
	Tenant string `help:"Tenant, where your credential has several."`
	connection
	format
}

func (c *explainCmd) Run(ctx context.Context, a *app) error {
	switch {
	case c.File == "" && c.ID == "":
		return badInput("want a file with a request, or --id of a recent decision")
	case c.File != "" && c.ID != "":
		return badInput("want a file with a request or --id of a recent decision, and not both")
	}
	cl, err := a.controlClient(&c.connection)
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Tenant != "" {
		query.Set("tenant", c.Tenant)
	}
	var got *answer
	if c.ID != "" {
		query.Set("id", c.ID)
		got, err = cl.call(ctx, http.MethodGet, "/v1/explain?"+query.Encode(), nil)
	} else {
		var body []byte
		if body, err = a.readInput(c.File, maxRequest); err != nil {
			return err
		}
		path := "/v1/explain"
		if len(query) > 0 {
			path += "?" + query.Encode()
		}
		got, err = cl.call(ctx, http.MethodPost, path, body)
	}
	if err != nil {
		return err
	}
	var e control.ExplainResponse
	if err := cl.decode(got, &e); err != nil {
		return err
	}
	if c.json() {
		fmt.Fprintln(a.stdout, strings.TrimSpace(string(got.body)))
	} else if err := control.RenderExplanation(a.stdout, &e); err != nil {
		return err
	}
	if !e.Decision.Decision {
		return silent(exitDeny)
	}
	return nil
}

// shortDigest shortens "sha256:…" to what tells bundles apart at a glance.
func shortDigest(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(8, len(hex))]
}
