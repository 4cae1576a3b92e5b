package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/diff"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// maxWait is MaxWait.
const maxWait = 5 * time.Minute

func (s *Server) apply(r *http.Request, ask ApplyRequest) (*ApplyResult, error) {
	ask.Who = who(r, ask.Who)
	// A change that began is finished, whether or not its client is still there.
	result, err := s.Controller.Apply(context.WithoutCancel(r.Context()), ask.Request)
	if err != nil {
		return nil, err
	}
	s.Log.Info("apply", "revision", result.Build.Revision.Number, "changed", result.Changed, "changes", len(result.Changes), "who", ask.Who, "source", ask.Source)
	return s.applied(r, result, ask.WaitRequest), nil
}

func (s *Server) rollback(r *http.Request, ask RollbackRequest) (*ApplyResult, error) {
	ask.Who = who(r, ask.Who)
	result, err := s.Controller.Rollback(context.WithoutCancel(r.Context()), ask.To,
		control.Request{Base: ask.Base, Who: ask.Who, Message: ask.Message, RequestID: ask.RequestID})
	if err != nil {
		return nil, err
	}
	s.Log.Info("rollback", "revision", result.Build.Revision.Number, "to", ask.To, "who", ask.Who)
	return s.applied(r, result, ask.WaitRequest), nil
}

// applied waits for the Envoys, and takes the change back when that is asked for.
func (s *Server) applied(r *http.Request, result *control.Result, w WaitRequest) *ApplyResult {
	out := &ApplyResult{
		Revision: result.Build.Revision, Changed: result.Changed, Changes: s.changes(result, false),
		Warnings: warnings(result.Build), Proof: proofOf(result.Build), Delivery: NotWaited, Envoys: []xds.EnvoyStatus{},
	}
	if w.Wait <= 0 && !w.UndoOnRefusal {
		return out
	}
	wait := min(w.Wait.D(), maxWait)
	if wait <= 0 {
		wait = 30 * time.Second
	}
	waiting, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	out.Envoys = append(out.Envoys, s.Controller.Wait(waiting, result.Build)...)
	out.Delivery = delivery(out.Envoys)
	if out.Delivery == NotTaken && w.UndoOnRefusal && result.Changed {
		s.undo(r, out)
	}
	return out
}

func delivery(nodes []xds.EnvoyStatus) Delivery {
	out := Delivered
	if len(xds.OnlyEnvoys(nodes)) == 0 {
		out = NoEnvoys
	}
	for _, e := range nodes {
		switch {
		case e.State == xds.Refused:
			return NotTaken
		case e.State != xds.Synced && out == Delivered:
			out = Incomplete
		}
	}
	return out
}

// undo goes back to the revision before, if nothing came after.
func (s *Server) undo(r *http.Request, out *ApplyResult) {
	number := out.Revision.Number
	ask := RollbackRequest{To: out.Revision.Parent, Base: &number, Who: out.Revision.Who, Message: fmt.Sprintf("undo revision %d: refused by an Envoy", number)}
	_, err := s.recorded(r, record{operation: "undo", needs: access.Apply, request: ask}, func() (any, error) {
		back, err := s.Controller.Rollback(context.WithoutCancel(r.Context()), ask.To, control.Request{Base: ask.Base, Who: ask.Who, Message: ask.Message})
		if err != nil {
			return nil, err
		}
		out.Undone = back.Build.Revision.Number
		return &ApplyResult{Revision: back.Build.Revision, Changed: back.Changed}, nil
	})
	if err != nil {
		out.NotUndone = err.Error()
		return
	}
	s.Log.Warn("a refused change was taken back", "revision", number, "by", out.Undone)
}

func (s *Server) plan(r *http.Request, ask control.Request) (*PlanResult, error) {
	result, err := s.Controller.Plan(r.Context(), ask)
	if result == nil {
		return nil, err
	}
	out := &PlanResult{
		Base: result.Build.Revision.Number, Changed: result.Changed, Changes: s.changes(result, true),
		Warnings: warnings(result.Build), Proof: proofOf(result.Build), Deciders: s.deciders(result.Build),
	}
	switch {
	case errors.Is(err, control.ErrRemovals):
		out.Removals = err.Error()
	case err != nil:
		return nil, err
	}
	return out, nil
}

// changes are what happens to each object; the lines only where they are asked for.
func (s *Server) changes(result *control.Result, lines bool) []diff.Object {
	out := []diff.Object{}
	for _, c := range result.Changes {
		d := diff.Of(s.Features, c.Before, c.After)
		if !lines {
			d.Lines = nil
		}
		out = append(out, d)
	}
	return out
}

func warnings(b *control.Build) []policy.Problem {
	out := []policy.Problem{}
	if b.Problems != nil {
		out = append(out, b.Problems.List()...)
	}
	return out
}

func proofOf(b *control.Build) Proof { return Proof{State: b.Proof.State, Reason: b.Proof.Reason} }

// deciders are the rules for which another one would decide.
func (s *Server) deciders(b *control.Build) []DeciderChange {
	var before, after map[string]model.Decider
	if serving := s.Controller.Serving(); serving != nil {
		before = serving.Config.Deciders()
	}
	if b.Config != nil {
		after = b.Config.Deciders()
	}
	var out []DeciderChange
	for _, rule := range slices.Sorted(maps.Keys(after)) {
		if before[rule] != after[rule] {
			out = append(out, DeciderChange{rule, before[rule], after[rule]})
		}
	}
	return out
}
