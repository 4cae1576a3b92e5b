package policy

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// NodeKind tells what a Node is.
type NodeKind uint8

// The kinds of nodes. Null is an empty value, as in `cors:`.
const (
	Null NodeKind = iota
	Scalar
	List
	Map
)

// String is the kind as problems name it.
func (k NodeKind) String() string {
	return [...]string{"nothing", "a single value", "a list", "a mapping"}[k]
}

// Node is one YAML value and where it stands. Lines count from 1 within the document's own text.
type Node struct {
	Kind   NodeKind
	Value  string // a scalar's text
	Tag    string // a scalar's resolved tag: !!str, !!int, !!float, !!bool, …
	Items  []*Node
	Fields []Field
	Line   int
	Column int
}

// Field is one key of a mapping, in the order written.
type Field struct {
	Key   string
	At    *Node // the key's own place
	Value *Node
}

// Get is the value under key, nil when there is none.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, f := range n.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

// Limits of one document: far above what people write, far below what hurts.
const (
	// MaxFileBytes is the largest policy file that is read.
	MaxFileBytes = 16 << 20
	// MaxDocumentBytes is the largest single document that is read.
	MaxDocumentBytes = 1 << 20
	maxNodes         = 200_000
	maxDepth         = 64
)

// nodeError is a syntax problem and its place in the document's text.
type nodeError struct {
	line, column int
	message      string
}

func (e *nodeError) Error() string { return e.message }

// parseNode reads the one YAML document in text; nil when it is empty or only comments.
func parseNode(text string) (*Node, error) {
	if len(text) > MaxDocumentBytes {
		return nil, &nodeError{1, 1, fmt.Sprintf("the document is larger than %d KiB", MaxDocumentBytes>>10)}
	}
	var root yaml.Node
	if err := yaml.Load([]byte(text), &root); err != nil {
		return nil, syntaxError(err)
	}
	if root.Kind == 0 || len(root.Content) == 0 {
		return nil, nil
	}
	c := converter{}
	n := c.convert(root.Content[0], 0)
	if c.err != nil {
		return nil, c.err
	}
	return n, nil
}

// syntaxError finds the place in the YAML reader's error.
func syntaxError(err error) error {
	var many *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case errors.As(err, &many) && len(many.Errors) > 0:
		one = many.Errors[0]
	case !errors.As(err, &one):
		return &nodeError{1, 1, strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	return &nodeError{max(one.Mark.Line, 1), max(one.Mark.Column, 1), one.Message}
}

// converter turns YAML's nodes into ours: aliases expanded within the limits, duplicate and merge keys refused.
type converter struct {
	count int
	err   *nodeError
}

func (c *converter) fail(y *yaml.Node, format string, args ...any) *Node {
	if c.err == nil {
		c.err = &nodeError{y.Line, y.Column, fmt.Sprintf(format, args...)}
	}
	return &Node{Line: y.Line, Column: y.Column}
}

func (c *converter) convert(y *yaml.Node, depth int) *Node {
	if c.count++; c.count > maxNodes {
		return c.fail(y, "the document has more than %d values once its aliases are expanded", maxNodes)
	}
	if depth > maxDepth {
		return c.fail(y, "values are nested deeper than %d levels", maxDepth)
	}
	if c.err != nil {
		return &Node{}
	}
	n := &Node{Line: y.Line, Column: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		return c.convert(y.Alias, depth+1)
	case yaml.SequenceNode:
		n.Kind = List
		for _, item := range y.Content {
			n.Items = append(n.Items, c.convert(item, depth+1))
		}
	case yaml.MappingNode:
		n.Kind = Map
		c.fields(n, y, depth)
	default:
		n.Kind, n.Value, n.Tag = Scalar, y.Value, y.ShortTag()
		if n.Tag == "!!null" {
			n.Kind = Null
		}
	}
	return n
}

func (c *converter) fields(n *Node, y *yaml.Node, depth int) {
	seen := make(map[string]bool, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		k := y.Content[i]
		if k.Kind != yaml.ScalarNode {
			c.fail(k, "a key must be a single word")
			return
		}
		if k.Value == "<<" && k.ShortTag() == "!!merge" {
			c.fail(k, "merge keys (<<) are not supported; put what is shared in a Policy and name it under use")
			return
		}
		if seen[k.Value] {
			c.fail(k, "%q is set twice", shorten(k.Value))
			return
		}
		seen[k.Value] = true
		n.Fields = append(n.Fields, Field{
			Key:   k.Value,
			At:    &Node{Kind: Scalar, Value: k.Value, Line: k.Line, Column: k.Column},
			Value: c.convert(y.Content[i+1], depth+1),
		})
	}
}
