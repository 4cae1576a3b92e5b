package admin

import (
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/diff"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/xds"
)

// MaxWait bounds how long a change waits for Envoys.
const MaxWait = "5m"

// ApplyRequest asks for a change.
type ApplyRequest struct {
	control.Request
	WaitRequest
}

// WaitRequest says what happens after a change is stored.
type WaitRequest struct {
	// Wait is how long to wait for the Envoys' answers; none at all when empty.
	Wait policy.Duration `json:"wait,omitempty"`
	// UndoOnRefusal goes back to the revision before when an Envoy refuses the new one.
	UndoOnRefusal bool `json:"undoOnRefusal,omitempty"`
}

// RollbackRequest asks for the objects of an earlier revision, as a new revision.
type RollbackRequest struct {
	To        uint64  `json:"to"`
	Base      *uint64 `json:"base,omitempty"`
	Who       string  `json:"who,omitempty"`
	Message   string  `json:"message,omitempty"`
	RequestID string  `json:"requestId,omitempty"`
	WaitRequest
}

// ApplyResult is what became of a change.
type ApplyResult struct {
	Revision store.Revision `json:"revision"`
	// Changed is false when everything was as asked for already; then there is no new revision.
	Changed  bool             `json:"changed"`
	Changes  []diff.Object    `json:"changes"`
	Warnings []policy.Problem `json:"warnings"`
	Proof    Proof            `json:"proof"`
	// Delivery is how the Envoys answered, as far as was waited for.
	Delivery Delivery          `json:"delivery"`
	Envoys   []xds.EnvoyStatus `json:"envoys"`
	// Undone is the revision that took the change back, 0 when none did.
	Undone uint64 `json:"undone,omitempty"`
	// NotUndone says why a refused change was not taken back although that was asked for.
	NotUndone string `json:"notUndone,omitempty"`
}

// Delivery is how a change came to the Envoys.
type Delivery string

// The deliveries.
const (
	Delivered  Delivery = "delivered"  // every connected Envoy has acknowledged it
	NotWaited  Delivery = "not-waited" // nobody asked to wait
	NoEnvoys   Delivery = "no-envoys"  // none is connected
	Incomplete Delivery = "incomplete" // an Envoy had not answered in time
	NotTaken   Delivery = "refused"    // an Envoy refused part of it
)

// Proof is what the real Envoy said before anything was published.
type Proof struct {
	State  control.ProofState `json:"state"`
	Reason string             `json:"reason,omitempty"`
}

// PlanResult is what a change would do.
type PlanResult struct {
	// Base is the revision that the plan was made on.
	Base     uint64           `json:"base"`
	Changed  bool             `json:"changed"`
	Changes  []diff.Object    `json:"changes"`
	Warnings []policy.Problem `json:"warnings"`
	Proof    Proof            `json:"proof"`
	// Removals, when set, is why the change would be refused for how much it removes.
	Removals string `json:"removals,omitempty"`
	// Deciders are the rules for which another one decides than before.
	Deciders []DeciderChange `json:"deciders,omitempty"`
}

// DeciderChange is a rule for which another one decides whether requests may go on: agent, native, or "" for nobody.
type DeciderChange struct {
	Rule   string        `json:"rule"`
	Before model.Decider `json:"before,omitempty"`
	After  model.Decider `json:"after,omitempty"`
}

// Objects are stored objects.
type Objects struct {
	Revision uint64          `json:"revision"`
	Objects  []policy.Object `json:"objects"`
}

// History is the newest revisions, newest first.
type History struct {
	Serving   uint64           `json:"serving"`
	Revisions []store.Revision `json:"revisions"`
}

// ImportRequest is an export to be read in.
type ImportRequest struct {
	// Replace allows what is stored, with its history, to be replaced.
	Replace bool   `json:"replace,omitempty"`
	Export  string `json:"export"`
}

// ImportResult is the head after an import.
type ImportResult struct {
	Revision store.Revision `json:"revision"`
}

// Envoys are the Envoys that are known.
type Envoys struct {
	Serving uint64            `json:"serving"`
	Envoys  []xds.EnvoyStatus `json:"envoys"`
	// Note says that the endpoints of all of them may be old, since the catalog cannot be asked.
	Note string `json:"note,omitempty"`
}

// Why is how far an object has come, with what the catalog knows of the services that it asks for.
type Why struct {
	control.Journey
	Catalog []CatalogService `json:"catalog,omitempty"`
}
