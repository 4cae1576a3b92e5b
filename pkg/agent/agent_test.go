package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/agent"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// lock is a feature whose check answers as its block says.
type lock struct{}

func (lock) Info() feature.Info { return feature.Info{Name: "lock", Stage: feature.StageExtAuthz} }
func (lock) New() feature.Spec  { return &spec{} }
func (lock) ParseData(_ string, body []byte) (any, error) {
	if string(body) == "bad" {
		return nil, errors.New("bad data")
	}
	return string(body), nil
}

type spec struct {
	Status int `json:"status"`
}

func (*spec) Validate(policy.At, *policy.Problems) {}
func (s *spec) Check(context.Context, *feature.Request, *feature.Identity) feature.Decision {
	return feature.Decision{Status: s.Status}
}

func policyOf(t testing.TB, status int) agent.Resource {
	t.Helper()
	body, err := json.Marshal([]map[string]any{{"feature": "lock", "spec": spec{status}}})
	if err != nil {
		t.Fatal(err)
	}
	return agent.Resource{Type: feature.PolicyType, Name: feature.PolicyDigest(body), Version: "1", Body: body}
}

func holds(h *agent.Holder, digest string) bool {
	_, ok := h.Policy(context.Background(), digest)
	return ok
}

func TestHolder_HoldsWhatIsNamedAndAWhileLonger(t *testing.T) {
	h := agent.NewHolder(feature.NewSet(lock{}))
	p := policyOf(t, 401)
	if err := h.Change("edge", []agent.Resource{p}, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.Replace("edge", nil); err != nil {
		t.Fatal(err)
	}
	if !holds(h, p.Name) {
		t.Error("an Envoy that is a switch of routes behind has no policy")
	}
	if holds(h, "another") {
		t.Error("there is a policy of no name")
	}
}

func TestHolder_ForgetsPartsOfTablesAtOnce(t *testing.T) {
	h := agent.NewHolder(feature.NewSet(lock{}))
	part := agent.Resource{Type: feature.DataType, Name: feature.PartName("lock/table", 3), Body: []byte("part")}
	other := agent.Resource{Type: feature.DataType, Name: "lock/a", Body: []byte("a")}
	for _, gateway := range []string{"edge", "inside"} {
		if err := h.Change(gateway, []agent.Resource{part, other}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, gateway := range []string{"edge", "inside"} {
		if h.Data(part.Name) == nil {
			t.Error("it is forgotten while a gateway names it")
		}
		if err := h.Change(gateway, nil, []agent.Resource{part, other}); err != nil {
			t.Fatal(err)
		}
	}
	if h.Data(part.Name) != nil {
		t.Error("what may have been revoked since is still held")
	}
	if h.Data(other.Name) == nil {
		t.Error("an Envoy that is a switch of routes behind has no data")
	}
}

func TestHolder_WaitsForAPolicyThatIsOnItsWay(t *testing.T) {
	h, p := agent.NewHolder(feature.NewSet(lock{})), policyOf(t, 403)
	got := make(chan bool, 1)
	go func() { got <- holds(h, p.Name) }()
	if err := h.Change("edge", []agent.Resource{p}, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case ok := <-got:
		if !ok {
			t.Error("it did not wait")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for ever")
	}
}

func TestHolder_TakesNothingThatItCannotRead(t *testing.T) {
	h := agent.NewHolder(feature.NewSet(lock{}))
	named := func(body string) agent.Resource {
		return agent.Resource{Type: feature.PolicyType, Name: feature.PolicyDigest([]byte(body)), Body: []byte(body)}
	}
	wrong := policyOf(t, 401)
	wrong.Name = strings.Repeat("0", 64)
	for _, r := range []agent.Resource{
		wrong, named(`[]`), named(`{}`), named(``), named(`[{"feature":"unknown","spec":{}}]`), named(`[{"feature":"lock","spec":{"later":1}}]`),
		named(`[{"feature":"lock","spec":{}}] more`), {Type: "other", Name: "x"}, {Type: feature.DataType, Name: "lock/a", Body: []byte("bad")}, {Type: feature.DataType, Name: "nobody/a"},
	} {
		if err := h.Change("edge", []agent.Resource{r}, nil); err == nil {
			t.Errorf("%s %s was taken", r.Name, r.Body)
		}
	}
	if h.Len() != 0 {
		t.Errorf("%d held", h.Len())
	}
	good := agent.Resource{Type: feature.DataType, Name: "lock/a", Body: []byte("good")}
	if err := h.Change("edge", []agent.Resource{good}, nil); err != nil {
		t.Fatal(err)
	}
	good.Body = []byte("bad")
	_ = h.Change("edge", []agent.Resource{good}, nil)
	if h.Data("lock/a") != "good" {
		t.Errorf("bad data replaced good: %v", h.Data("lock/a"))
	}
}

func TestClient_TakesNoDamagedCopy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy")
	load := func() (*agent.Holder, error) {
		h := agent.NewHolder(feature.NewSet(lock{}))
		c := &agent.Client{Holder: h, Gateway: "edge", Node: "a", File: file, Log: slog.New(slog.DiscardHandler)}
		return h, c.Load()
	}
	if _, err := load(); err != nil {
		t.Errorf("no copy at all: %v", err)
	}
	for _, text := range []string{"", "sluice-agent 1 abc\n[]", "sluice-agent 2 \n[]", "[]"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if h, err := load(); err == nil || h.Len() != 0 {
			t.Errorf("%q was taken", text)
		}
	}
}
