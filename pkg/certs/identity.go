package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// TrustDomain is where all our names stand below: spiffe://sluice/…
const TrustDomain = "sluice"

// AgentPrefix stands before a node's id in that of the agent beside it.
const AgentPrefix = "agent-"

// longestName bounds a name, in bytes.
const longestName = 256

// ErrNoIdentity is of a certificate that does not say who its bearer is: it may be good, and of an authority that is
// trusted, and is not enough all the same.
var ErrNoIdentity = errors.New("the certificate does not say who its bearer is")

// Node is what the certificate of an Envoy, and of the agent beside it, says.
type Node struct {
	// Gateway is the Gateway that it serves.
	Gateway string
	// Node is its id; "" stands for every node of the gateway.
	Node string
}

// URI is the name as it stands in certificates.
func (n Node) URI() string {
	if n.Node == "" {
		return nameURI("gateway", n.Gateway)
	}
	return nameURI("gateway", n.Gateway, "node", n.Node)
}

// Covers tells whether the bearer may call itself this node of this gateway. The agent beside a node has the node's
// certificate, and the node's id after AgentPrefix.
func (n Node) Covers(gateway, id string) bool {
	if n.Gateway == "" || gateway != n.Gateway || checkName(id) != nil {
		return false
	}
	return n.Node == "" || id == n.Node || id == AgentPrefix+n.Node
}

// Role is what a caller of the admin API may do. Package access says what each includes.
type Role string

// The roles.
const (
	RoleRead    Role = "read"    // look
	RoleApply   Role = "apply"   // change policies
	RoleSecrets Role = "secrets" // change what is secret
)

// Roles are all roles.
func Roles() []Role { return []Role{RoleRead, RoleApply, RoleSecrets} }

// ParseRole reads a role. The error names those that there are.
func ParseRole(text string) (Role, error) {
	if role := Role(text); slices.Contains(Roles(), role) {
		return role, nil
	}
	return "", fmt.Errorf("there is no role %q; there are: read, apply, secrets", text)
}

// Client is what the certificate of somebody who calls the admin API says.
type Client struct {
	Role Role
	Name string
}

// URI is the name as it stands in certificates.
func (c Client) URI() string { return nameURI("role", string(c.Role), "name", c.Name) }

// NodeOf is what a node's certificate says. The error is ErrNoIdentity, with the reason, for one that says nothing, or
// something else. Whether the certificate is good is another question.
func NodeOf(c *x509.Certificate) (Node, error) {
	parts, err := nameOf(c)
	if err != nil {
		return Node{}, err
	}
	switch {
	case len(parts) == 2 && parts[0] == "gateway":
		return Node{Gateway: parts[1]}, nil
	case len(parts) == 4 && parts[0] == "gateway" && parts[2] == "node":
		return Node{Gateway: parts[1], Node: parts[3]}, nil
	}
	return Node{}, fmt.Errorf("%w: it is that of no Envoy or agent", ErrNoIdentity)
}

// ClientOf is what the certificate of a caller of the admin API says. The error is ErrNoIdentity, with the reason, for one
// that says nothing, or something else.
func ClientOf(c *x509.Certificate) (Client, error) {
	parts, err := nameOf(c)
	if err != nil {
		return Client{}, err
	}
	if len(parts) != 4 || parts[0] != "role" || parts[2] != "name" {
		return Client{}, fmt.Errorf("%w: it is not for the admin API", ErrNoIdentity)
	}
	role, err := ParseRole(parts[1])
	if err != nil {
		return Client{}, fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	return Client{Role: role, Name: parts[3]}, nil
}

// Identity is the name that a certificate bears as it stands there, "" for none; for logs.
func Identity(c *x509.Certificate) string {
	parts, err := nameOf(c)
	if err != nil {
		return ""
	}
	return nameURI(parts...)
}

func nameURI(parts ...string) string {
	var b strings.Builder
	b.WriteString("spiffe://" + TrustDomain)
	for _, part := range parts {
		b.WriteString("/" + escape(part))
	}
	return b.String()
}

// escape leaves letters, digits and -._~ as they are, which every reader of URIs does too.
func escape(name string) string { return strings.ReplaceAll(url.QueryEscape(name), "+", "%20") }

// nameOf is the one name of ours in a certificate, part by part.
func nameOf(c *x509.Certificate) ([]string, error) {
	var ours []*url.URL
	for _, u := range c.URIs {
		if strings.EqualFold(u.Scheme, "spiffe") && strings.EqualFold(u.Host, TrustDomain) {
			ours = append(ours, u)
		}
	}
	switch len(ours) {
	case 0:
		return nil, fmt.Errorf("%w: it has no URI spiffe://%s/…", ErrNoIdentity, TrustDomain)
	case 1:
		return parseName(ours[0])
	}
	return nil, fmt.Errorf("%w: it has %d URIs spiffe://%s/…, and may have one", ErrNoIdentity, len(ours), TrustDomain)
}

// parseName takes only the one spelling that nameURI gives.
func parseName(u *url.URL) ([]string, error) {
	var parts []string
	for _, part := range strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		name, err := url.PathUnescape(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoIdentity, err)
		}
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoIdentity, err)
		}
		parts = append(parts, name)
	}
	if u.String() != nameURI(parts...) {
		return nil, fmt.Errorf("%w: %q is not the spelling of its name", ErrNoIdentity, u)
	}
	return parts, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case len(name) > longestName:
		return fmt.Errorf("a name is longer than %d bytes", longestName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("a name has bytes that are no letters: %q", name)
	}
	return nil
}
