package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// Request is a change of the policies, all or nothing.
type Request struct {
	// Set are the objects to add or change, Delete those to remove.
	Set    []policy.Object `json:"set,omitempty"`
	Delete []policy.Ref    `json:"delete,omitempty"`
	// Prune also removes what earlier requests brought with this source and Set lacks.
	Prune  bool   `json:"prune,omitempty"`
	Source string `json:"source,omitempty"`
	// Base, when set, is the revision that the change was made on: another head is a conflict.
	Base *uint64 `json:"base,omitempty"`
	// AllowRemovals lets more than a fifth of all objects go.
	AllowRemovals bool   `json:"allowRemovals,omitempty"`
	Who           string `json:"who,omitempty"`
	Message       string `json:"message,omitempty"`
	// RequestID makes asking again safe.
	RequestID string `json:"requestId,omitempty"`

	rollbackOf uint64
}

// ErrRemovals refuses a change that removes more than a fifth of all objects.
var ErrRemovals = errors.New("the change removes more than a fifth of all objects")

// ErrUnknownObject refuses to delete what is not there.
var ErrUnknownObject = errors.New("there is no such object")

// removalsFreely is how many objects may go whatever the share.
const removalsFreely = 2

// Result is what became of a Request.
type Result struct {
	Build *Build
	// Changed is false when the objects were as asked for already: then there is no new revision.
	Changed bool
	Changes []Change
}

// Change is what happens to one object.
type Change struct {
	Ref    policy.Ref     `json:"ref"`
	Before *policy.Object `json:"before,omitempty"`
	After  *policy.Object `json:"after,omitempty"`
}

// Apply compiles, proves, stores and publishes a change. When it returns without an error, the revision is stored and
// on its way to the Envoys; Wait tells when they have it. A request without a Base holds for any head: when another
// replica was faster, it is made again on the new head. Its errors: *Problems, *store.ConflictError, ErrRemovals,
// ErrUnknownObject; nothing was stored then.
func (c *Controller) Apply(ctx context.Context, r Request) (*Result, error) {
	c.refresh(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	result, err := c.apply(ctx, r)
	for began := time.Now(); r.Base == nil && errors.As(err, new(*store.ConflictError)) && time.Since(began) < applyPatience; {
		result, err = c.apply(ctx, r)
	}
	c.metrics.applies.WithLabelValues(outcome(result, err)).Inc()
	return result, err
}

// applyPatience bounds how long a change is made again and again because other replicas are faster.
const applyPatience = 10 * time.Second

// refresh has a store that other replicas write to read what they wrote. One that cannot goes on with what it has read;
// to commit it then fails.
func (c *Controller) refresh(ctx context.Context) {
	if s, ok := c.Store.(interface{ Refresh(context.Context) error }); ok {
		if err := s.Refresh(ctx); err != nil {
			c.Log.Warn("what other replicas have committed could not be read", "error", err)
		}
	}
}

func outcome(r *Result, err error) string {
	var problems *Problems
	switch {
	case errors.As(err, &problems):
		return "problems"
	case err != nil:
		return "error"
	case !r.Changed:
		return "unchanged"
	}
	return "applied"
}

func (c *Controller) apply(ctx context.Context, r Request) (*Result, error) {
	if done, err := c.alreadyDone(ctx, r.RequestID); done != nil || err != nil {
		return done, err
	}
	p, err := c.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := p.removals(r); err != nil {
		return nil, err
	}
	b, err := c.check(ctx, p, newKeyPatience)
	if err != nil {
		c.askAsBefore()
		return nil, err
	}
	b.Revision, err = c.Store.Commit(ctx, store.Change{
		Base: p.head.Number, Who: r.Who, Message: r.Message, Set: p.set(), Delete: p.deleted(), Snapshots: b.Tables,
		RequestID: r.RequestID, RollbackOf: r.rollbackOf,
	})
	if err != nil {
		return nil, err
	}
	c.publish(b)
	return &Result{Build: b, Changed: len(p.changes) > 0, Changes: p.changes}, nil
}

// alreadyDone answers a request that was carried out before.
func (c *Controller) alreadyDone(ctx context.Context, requestID string) (*Result, error) {
	serving := c.serving.Load()
	if requestID == "" || serving == nil {
		return nil, nil
	}
	revisions, err := c.Store.History(ctx, 0)
	if err != nil {
		return nil, err
	}
	for _, r := range revisions {
		if r.RequestID == requestID {
			return &Result{Build: serving}, nil
		}
	}
	return nil, nil
}

// Plan says what Apply would do, without doing it.
func (c *Controller) Plan(ctx context.Context, r Request) (*Result, error) {
	c.refresh(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	b, err := c.check(ctx, p, 0)
	if err != nil {
		return nil, err
	}
	b.Revision = p.head
	return &Result{Build: b, Changed: len(p.changes) > 0, Changes: p.changes}, p.removals(r)
}

// Rollback makes the objects those of an earlier revision, as a new revision.
func (c *Controller) Rollback(ctx context.Context, to uint64, r Request) (*Result, error) {
	c.refresh(ctx)
	from, head, err := c.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if r.Base == nil {
		r.Base = &from.Number // what is rolled back is what stands there now
	}
	_, wanted, err := c.Store.At(ctx, to)
	if err != nil {
		return nil, err
	}
	r.Set, r.Delete = store.Between(head, wanted)
	r.AllowRemovals, r.rollbackOf = true, to
	if r.Message == "" {
		r.Message = "rollback to revision " + strconv.FormatUint(to, 10)
	}
	return c.Apply(ctx, r)
}

// check is the line up to the proof; Problems are an error.
func (c *Controller) check(ctx context.Context, p *prepared, patience time.Duration) (*Build, error) {
	b, err := c.build(ctx, p.objects, patience)
	if err != nil {
		return nil, err
	}
	for _, problem := range b.missing {
		b.Problems.Add(problem)
	}
	if b.Problems.Failed() {
		return nil, &Problems{List: b.Problems.List(), Dropped: b.Problems.Dropped()}
	}
	return b, nil
}

// prepared is a request held against the head.
type prepared struct {
	head    store.Revision
	had     int
	objects []policy.Object // the whole set as it would be
	changes []Change        // by ref
}

func (c *Controller) prepare(ctx context.Context, r Request) (*prepared, error) {
	head, objects, err := c.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if r.Base != nil && *r.Base != head.Number {
		return nil, &store.ConflictError{Base: *r.Base, Head: head.Number}
	}
	p := &prepared{head: head, had: len(objects)}
	changes, duplicates := changes(objects, r)
	if len(duplicates) > 0 {
		return nil, &Problems{List: duplicates}
	}
	for _, ref := range r.Delete {
		if ch, ok := changes[ref]; !ok || ch.Before == nil {
			return nil, fmt.Errorf("%w: %s", ErrUnknownObject, ref)
		}
	}
	p.objects = make([]policy.Object, 0, len(objects)+len(changes))
	for _, o := range objects {
		if _, touched := changes[o.Ref]; !touched {
			p.objects = append(p.objects, o)
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(changes), policy.Ref.Compare) {
		ch := changes[ref]
		if ch.After != nil {
			p.objects = append(p.objects, *ch.After)
		}
		if ch.Before == nil || ch.After == nil || ch.Before.Digest() != ch.After.Digest() {
			p.changes = append(p.changes, *ch)
		}
	}
	return p, nil
}

// changes is what a request does to the objects, by ref; and the objects that it sets twice.
func changes(objects []policy.Object, r Request) (map[policy.Ref]*Change, []policy.Problem) {
	out := make(map[policy.Ref]*Change, len(r.Set))
	var twice policy.Problems
	for _, o := range r.Set {
		if r.rollbackOf == 0 {
			o.Source = r.Source
		}
		if ch, ok := out[o.Ref]; ok {
			twice.Add(policy.Problem{
				Severity: policy.Error, Code: policy.CodeDuplicate, File: o.File, Line: o.Line, Column: 1,
				Message: fmt.Sprintf("%s is already defined at %s", o.Ref, ch.After.Place()),
			})
			continue
		}
		out[o.Ref] = &Change{Ref: o.Ref, After: &o}
	}
	for _, ref := range r.Delete {
		out[ref] = &Change{Ref: ref}
	}
	for i := range objects {
		o := &objects[i]
		if ch, ok := out[o.Ref]; ok {
			ch.Before = o
			continue
		}
		if r.Prune && o.Source == r.Source {
			out[o.Ref] = &Change{Ref: o.Ref, Before: o}
		}
	}
	return out, twice.List()
}

// removals holds the number of objects that would go against the limit.
func (p *prepared) removals(r Request) error {
	gone := len(p.deleted())
	if r.AllowRemovals || gone <= removalsFreely || gone*5 <= p.had {
		return nil
	}
	return fmt.Errorf("%w: %d of %d; allow it with --allow-removals", ErrRemovals, gone, p.had)
}

func (p *prepared) set() []policy.Object {
	var out []policy.Object
	for _, ch := range p.changes {
		if ch.After != nil {
			out = append(out, *ch.After)
		}
	}
	return out
}

func (p *prepared) deleted() []policy.Ref {
	var out []policy.Ref
	for _, ch := range p.changes {
		if ch.After == nil {
			out = append(out, ch.Ref)
		}
	}
	return out
}

func splitOrigin(origin string) (file string, line int) {
	i := strings.LastIndexByte(origin, ':')
	if i < 0 {
		return origin, 0
	}
	line, _ = strconv.Atoi(origin[i+1:])
	return origin[:i], line
}
