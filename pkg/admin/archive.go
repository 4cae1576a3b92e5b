package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// exportSite writes all that is stored. Where that is more than policies, it is also about secrets: keys are there as their
// digests, secrets encrypted, and a backup that silently lacked them would take them away when it is read in again.
func (s *Server) exportSite(r *http.Request) (any, error) {
	headOnly, err := yes(r, "headOnly")
	if err != nil {
		return nil, err
	}
	secret, err := s.keepsRecords(r)
	if err != nil {
		return nil, err
	}
	write := func(o store.ExportOptions) (any, error) {
		o.HeadOnly = headOnly
		return stream(func(w io.Writer) error { return store.Export(r.Context(), s.Store, w, o) }), nil
	}
	if !secret {
		return write(store.ExportOptions{PoliciesOnly: true})
	}
	if err := mayAlso(r, access.Secrets, "an export of this site holds API keys, secrets or other records beside its policies"); err != nil {
		return nil, err
	}
	return s.recorded(r, record{operation: "export", needs: access.Secrets}, func() (any, error) { return write(store.ExportOptions{}) })
}

// keepsRecords tells whether the store has more than policies.
func (s *Server) keepsRecords(r *http.Request) (bool, error) {
	records, err := s.Store.AllRecords(r.Context())
	return len(records) > 0, err
}

// mayAlso refuses a caller who has not a role beside the one that the operation needs of all.
func mayAlso(r *http.Request, needed access.Role, why string) error {
	caller := callerOf(r.Context())
	if caller.Roles.May(needed) {
		return nil
	}
	return &access.RefusedError{Reason: access.TooSmall, Detail: fmt.Sprintf("%s: that needs the role %s, too, and %s has %s", why, needed, caller.Name, caller.Roles)}
}

// importSite checks an export as apply would, and puts it in the place of what is stored.
func (s *Server) importSite(r *http.Request, ask ImportRequest) (*ImportResult, error) {
	archive, err := store.ReadArchive(strings.NewReader(ask.Export))
	if err != nil {
		return nil, err
	}
	head, err := archive.Head()
	if err != nil {
		return nil, err
	}
	kept, err := s.keepsRecords(r)
	if err != nil {
		return nil, err
	}
	if kept || len(archive.Records) > 0 {
		if err := mayAlso(r, access.Secrets, "this import replaces API keys, secrets or other records beside the policies"); err != nil {
			return nil, err
		}
	}
	if err := s.checkImport(r.Context(), head.Objects()); err != nil {
		return nil, err
	}
	revision, err := store.Import(context.WithoutCancel(r.Context()), s.Store, strings.NewReader(ask.Export), store.ImportOptions{Replace: ask.Replace})
	if err != nil {
		return nil, err
	}
	s.Log.Info("import", "revision", revision.Number, "objects", head.Len())
	return &ImportResult{Revision: revision}, nil
}

// checkImport plans the change that makes the imported objects of those that are stored.
func (s *Server) checkImport(ctx context.Context, objects []policy.Object) error {
	_, stored, err := s.Store.Head(ctx)
	if err != nil {
		return err
	}
	_, remove := store.Between(stored, objects)
	_, err = s.Controller.Plan(ctx, control.Request{Set: objects, Delete: remove, AllowRemovals: true})
	return err
}
