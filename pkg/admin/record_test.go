package admin_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/auditlog"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/credentials"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

func TestWhatIsRecorded(t *testing.T) {
	ctx := context.Background()
	g := newGuarded(t)
	ci, look := g.as(t, "apply"), g.as(t, "read")
	ask := admin.ApplyRequest{Request: control.Request{Set: objects(t, policies), Source: "shop", Who: "anna@desk", Message: "private"}}
	result, err := ci.Apply(ctx, ask)
	if err != nil || result.Revision.Who != "token apply" {
		t.Fatalf("%+v, %v", result, err)
	}
	if _, err := ci.Apply(ctx, ask); err != nil {
		t.Error(err)
	}
	g.fleet.envoys = []xds.EnvoyStatus{{Node: "e", State: xds.Refused}}
	ask.Set = objects(t, strings.Replace(policies, "body: hello", "body: private", 1))
	ask.WaitRequest = admin.WaitRequest{Wait: policy.Duration(time.Second), UndoOnRefusal: true}
	if result, err = ci.Apply(ctx, ask); err != nil || result.Undone != 3 {
		t.Errorf("%+v, %v", result, err)
	}
	stale := uint64(1)
	if _, err := ci.Rollback(ctx, admin.RollbackRequest{To: 1, Base: &stale}); codeOf(err) != admin.CodeConflict {
		t.Errorf("rollback: %v", err)
	}
	if _, err := look.Apply(ctx, ask); codeOf(err) != admin.CodeForbidden {
		t.Errorf("apply: %v", err)
	}
	if _, err := look.Plan(ctx, ask.Request); err != nil {
		t.Errorf("plan: %v", err)
	}
	began := func(e auditlog.Event) auditlog.Event { e.Who = "token apply"; return e }
	apply := auditlog.Event{Operation: "apply", Object: "shop", Says: "anna@desk"}
	undo := auditlog.Event{Operation: "undo", Object: "to revision 1", Says: "token apply", Base: 2}
	back := auditlog.Event{Operation: "rollback", Object: "to revision 1", Base: 1}
	with := func(e auditlog.Event, base, revision uint64, reason string) auditlog.Event {
		e.Base, e.Revision, e.Reason = base, revision, reason
		return began(e)
	}
	want := []auditlog.Entry{
		{Seq: 1, Kind: auditlog.Began, Event: began(apply)}, {Seq: 2, Kind: auditlog.Done, Of: 1, Event: with(apply, 0, 1, "")},
		{Seq: 3, Kind: auditlog.Began, Event: began(apply)}, {Seq: 4, Kind: auditlog.Done, Of: 3, Event: with(apply, 1, 0, "")},
		{Seq: 5, Kind: auditlog.Began, Event: began(apply)},
		{Seq: 6, Kind: auditlog.Began, Event: began(undo)}, {Seq: 7, Kind: auditlog.Done, Of: 6, Event: with(undo, 2, 3, "")},
		{Seq: 8, Kind: auditlog.Done, Of: 5, Event: with(apply, 1, 2, "")},
		{Seq: 9, Kind: auditlog.Began, Event: began(back)}, {Seq: 10, Kind: auditlog.Failed, Of: 9, Event: with(back, 1, 0, "conflict")},
		{Seq: 11, Kind: auditlog.Denied, Event: auditlog.Event{Who: "token read", Operation: "apply", Reason: "forbidden: apply needs the role apply, and token read has read"}},
	}
	if d := cmp.Diff(want, g.lines(t), cmpopts.IgnoreFields(auditlog.Event{}, "Digest")); d != "" {
		t.Error(d)
	}
	for _, line := range g.lines(t) {
		if wants := line.Kind != auditlog.Denied && line.Operation != "undo"; wants != (len(line.Digest) == 64) {
			t.Errorf("line %d: digest %q", line.Seq, line.Digest)
		}
	}
	text, err := os.ReadFile(g.audit)
	if err != nil || strings.Contains(string(text), "private") {
		t.Errorf("what was changed stands in the log: %v", err)
	}
}

func TestNothingIsChangedThatCannotBeRecorded(t *testing.T) {
	ctx := context.Background()
	g := newGuarded(t)
	ci := g.as(t, "apply")
	if err := os.Truncate(g.audit, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(g.audit, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("something else\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ask := admin.ApplyRequest{Request: control.Request{Set: objects(t, policies), Source: "shop"}}
	if _, err := ci.Apply(ctx, ask); codeOf(err) != admin.CodeAudit {
		t.Errorf("apply: %v", err)
	}
	if _, err := ci.Import(ctx, admin.ImportRequest{}); codeOf(err) != admin.CodeAudit {
		t.Errorf("import: %v", err)
	}
	if h, err := ci.History(ctx, 0); err != nil || len(h.Revisions) != 0 {
		t.Errorf("reading: %+v, %v", h, err)
	}
	if _, body := g.ask(t, "GET", "/readyz?verbose", "read", ""); !strings.Contains(body, "changes are refused") {
		t.Errorf("readyz: %s", body)
	}
	if err := os.Rename(g.audit, g.audit+".broken"); err != nil {
		t.Fatal(err)
	}
	if _, err := ci.Apply(ctx, ask); err != nil {
		t.Errorf("with a new file: %v", err)
	}
}

// TestWhatIsBesideThePolicies: nobody gets at API keys by exports and imports who may not get at them else.
func TestWhatIsBesideThePolicies(t *testing.T) {
	ctx := context.Background()
	g := newGuarded(t)
	if _, err := g.as(t, "apply").Apply(ctx, admin.ApplyRequest{Request: control.Request{Set: objects(t, policies), Source: "shop"}}); err != nil {
		t.Fatal(err)
	}
	export := func(who string) (string, error) {
		var b strings.Builder
		err := g.as(t, who).Export(ctx, false, &b)
		return b.String(), err
	}
	plain, err := export("read")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.WriteRecords(ctx, "keys", store.RecordChange{Record: store.Record{Key: "k1", Value: []byte(`{"hash":"x"}`)}}); err != nil {
		t.Fatal(err)
	}
	whole := ""
	for who, may := range map[string]bool{"read": false, "apply": false, "secrets": true, "both": true} {
		text, err := export(who)
		if may != (err == nil) || !may && (codeOf(err) != admin.CodeForbidden || strings.Contains(text, "hash")) {
			t.Errorf("%s exports %q: %v", who, text, err)
		}
		if may {
			whole = text
		}
	}
	for _, text := range []string{plain, whole} {
		for _, who := range []string{"apply", "secrets"} {
			if _, err := g.as(t, who).Import(ctx, admin.ImportRequest{Export: text, Replace: true}); codeOf(err) != admin.CodeForbidden {
				t.Errorf("%s imports over keys: %v", who, err)
			}
		}
	}
	if _, err := g.as(t, "both").Import(ctx, admin.ImportRequest{Export: whole, Replace: true}); err != nil {
		t.Errorf("who may both: %v", err)
	}
	empty := newGuarded(t)
	if _, err := empty.as(t, "apply").Import(ctx, admin.ImportRequest{Export: whole}); codeOf(err) != admin.CodeForbidden {
		t.Errorf("keys into an empty store: %v", err)
	}
	if _, err := empty.as(t, "apply").Import(ctx, admin.ImportRequest{Export: plain}); err != nil {
		t.Errorf("policies into an empty store: %v", err)
	}
	exported := 0
	for _, line := range g.lines(t) {
		if line.Operation == "export" && line.Kind == auditlog.Done {
			exported++
		}
	}
	if exported != 2 {
		t.Errorf("%d exports are recorded", exported)
	}
}

func TestWhatIsRecordedOfSecrets(t *testing.T) {
	g := newGuarded(t, func(c *admin.Config) {
		c.Keeper = credentials.New(credentials.Config{Records: c.Store, Log: slog.New(slog.DiscardHandler)})
	})
	status, body := g.ask(t, "POST", "/v1/keys", "secrets", `{"owner":"acme","who":"anna@desk"}`)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 200 || made.Secret == "" {
		t.Fatalf("%d %s %v", status, body, err)
	}
	// Somebody gives the key itself where its id belongs.
	if status, body := g.ask(t, "POST", "/v1/keys/disable", "secrets", `{"id":"`+made.Secret+`"}`); status != 404 {
		t.Errorf("%d %s", status, body)
	}
	create := auditlog.Event{Who: "token secrets", Says: "anna@desk", Operation: "createKey", Object: "owner acme"}
	done, disable := create, auditlog.Event{Who: "token secrets", Operation: "disableKey", Object: "API key (a secret in the place of a name)"}
	done.Object = "API key " + made.ID + " of acme"
	failed := disable
	failed.Reason = "not-found"
	want := []auditlog.Entry{
		{Seq: 1, Kind: auditlog.Began, Event: create}, {Seq: 2, Kind: auditlog.Done, Of: 1, Event: done},
		{Seq: 3, Kind: auditlog.Began, Event: disable}, {Seq: 4, Kind: auditlog.Failed, Of: 3, Event: failed},
	}
	if d := cmp.Diff(want, g.lines(t)); d != "" {
		t.Error(d)
	}
	text, err := os.ReadFile(g.audit)
	if err != nil || strings.Contains(string(text), made.Secret[4:]) {
		t.Errorf("the key stands in the log: %v", err)
	}
}
