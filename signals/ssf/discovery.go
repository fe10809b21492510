package ssf

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Metadata is what a transmitter says of itself: SSF 1.0 section 7.1. What it leaves out
// is "" or nil.
type Metadata struct {
	SpecVersion     string   `json:"spec_version"`
	Issuer          string   `json:"issuer"`
	JWKSURI         string   `json:"jwks_uri"`
	DeliveryMethods []string `json:"delivery_methods_supported"`
	Configuration   string   `json:"configuration_endpoint"`
	Status          string   `json:"status_endpoint"`
	AddSubject      string   `json:"add_subject_endpoint"`
	RemoveSubject   string   `json:"remove_subject_endpoint"`
	Verification    string   `json:"verification_endpoint"`
	Critical        []string `json:"critical_subject_members"`
	DefaultSubjects string   `json:"default_subjects"`
}

// Documents of discovery. The second is that of RISC transmitters from before SSF.
const (
	SSFConfiguration  = "ssf-configuration"
	RISCConfiguration = "risc-configuration"
)

const (
	maxMetadata = 256 << 10 // bytes
	callTime    = 15 * time.Second
)

// WellKnown is where a transmitter's metadata are: /.well-known/DOCUMENT between the host
// and the path of the issuer (SSF 1.0 section 7.2).
func WellKnown(issuer, document string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("the issuer %q is not a URL without query and fragment", clip(issuer))
	}
	return u.Scheme + "://" + u.Host + "/.well-known/" + document + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// MetadataURL is where the metadata of an issuer are: document is one of the documents of
// discovery, or a URL that it gives back, of a transmitter whose metadata are elsewhere.
func MetadataURL(issuer, document string) (string, error) {
	switch {
	case strings.Contains(document, "://"):
		return document, nil
	case document != SSFConfiguration && document != RISCConfiguration:
		return "", fmt.Errorf("discovery: want %s, %s or a URL, not %q", SSFConfiguration, RISCConfiguration, clip(document))
	}
	return WellKnown(issuer, document)
}

// Discover asks a transmitter for its metadata, which are at MetadataURL. They are of this
// issuer, exactly, and every endpoint in them is a URL that may be asked.
func Discover(ctx context.Context, web *Web, issuer, document string) (*Metadata, error) {
	where, err := MetadataURL(issuer, document)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	_, body, err := web.do(ctx, ask{method: http.MethodGet, url: where, most: maxMetadata, want: []int{http.StatusOK}})
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	m := &Metadata{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, doubtful("discovery: %v", err)
	}
	if m.Issuer != issuer {
		return nil, doubtful("discovery: the metadata are those of %q, not of %q", clip(m.Issuer), clip(issuer))
	}
	for name, endpoint := range map[string]string{
		"jwks_uri": m.JWKSURI, "configuration_endpoint": m.Configuration, "status_endpoint": m.Status,
		"add_subject_endpoint": m.AddSubject, "remove_subject_endpoint": m.RemoveSubject, "verification_endpoint": m.Verification,
	} {
		if endpoint == "" {
			continue
		}
		if err := web.CheckURL(endpoint); err != nil {
			return nil, doubtful("discovery: %s: %v", name, err)
		}
	}
	return m, nil
}
