// Package access says who calls the admin API and what that caller may do: by a token, a client certificate, or by being
// on the same machine. Whoever is not known may nothing, and so is what cannot be decided.
package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/certs"
)

// Role is what a caller may do, and what an operation needs. The zero Role is that of nobody.
type Role = certs.Role

// The roles. Apply and Secrets include Read, and not each other. Open is needed by what everybody may see, and given to
// nobody.
const (
	Open    Role = "open"
	Read         = certs.RoleRead
	Apply        = certs.RoleApply
	Secrets      = certs.RoleSecrets
)

// Roles are those of one caller.
type Roles []Role

// May tells whether these roles allow what needs the one given. Nothing allows what needs none.
func (r Roles) May(needed Role) bool {
	switch needed {
	case Open:
		return true
	case Read:
		return slices.Contains(r, Read) || slices.Contains(r, Apply) || slices.Contains(r, Secrets)
	case Apply, Secrets:
		return slices.Contains(r, needed)
	}
	return false
}

// String lists the roles.
func (r Roles) String() string {
	words := make([]string, len(r))
	for i, role := range r {
		words[i] = string(role)
	}
	return strings.Join(words, ", ")
}

// all is what a caller may who is trusted wholly.
func all() Roles { return certs.Roles() }

// ParseRoles reads roles, at least one, each once, and puts them in order.
func ParseRoles(words []string) (Roles, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("there is no role; there are: %s", all())
	}
	var out Roles
	for _, word := range words {
		role, err := certs.ParseRole(word)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, role) {
			return nil, fmt.Errorf("the role %s is there twice", role)
		}
		out = append(out, role)
	}
	slices.Sort(out)
	return out, nil
}
