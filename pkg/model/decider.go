package model

// Decider is who decides whether a route's requests may go on. It is one for all that the route asks of its callers.
type Decider string

// The deciders; the empty one is of routes that ask nothing of their callers.
const (
	// Agent is the agent beside Envoy.
	Agent Decider = "agent"
	// Native is Envoy by itself: the data that it needs is part of its configuration. What is told to agents, such as
	// revoked tokens, does not reach such a route.
	Native Decider = "native"
)

// Identity is where the dynamic metadata of a request says who is calling. Of several places for the same thing the
// first that is there holds.
type Identity struct {
	// Namespace is the metadata's.
	Namespace string
	// User, Plan and Issuer are texts, or numbers.
	User, Plan, Issuer []MetadataPath
	// Permissions, Scopes and Roles are lists of words, or one text with spaces between them.
	Permissions, Scopes, Roles []MetadataPath
	// Claims is where all claims of the token are; nil where they are not told.
	Claims MetadataPath
}

// MetadataPath leads to a value below a namespace, field by field.
type MetadataPath []string
