package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/pkg/admin"
	"github.com/sluice-gateway/sluice/pkg/compile"
	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/translate"
)

// plane is a control plane in a process of its own.
type plane interface {
	// ready makes everything that is not part of the measured path, and returns that path: it ends when the change is
	// published, or, if that is asked for, when every node has it.
	ready(ctx context.Context, change control.Request, settled bool) (publish func(context.Context) error, err error)
	// apply makes a change and waits until every node has it.
	apply(ctx context.Context, change control.Request) error
	proc() *process
	xds() string
	stop()
}

func applied(ctx context.Context, p plane, change control.Request) error {
	publish, err := p.ready(ctx, change, true)
	if err != nil {
		return err
	}
	return publish(ctx)
}

// sluice is `sluice serve`.
type sluice struct {
	*process
	client  *admin.Client
	address string
	admin   string // the URL of its admin API
}

// startSluice starts it on a store, with more arguments; without a prover it publishes unproven. It says how long it took
// to be ready.
func (b *bench) startSluice(ctx context.Context, store string, proven bool, args ...string) (*sluice, time.Duration, error) {
	xds, adminAddress, err := twoAddresses()
	if err != nil {
		return nil, 0, err
	}
	cmd := exec.Command(b.sluiceBinary, "serve", "--store", store, "--listen-xds", xds, "--listen-admin", adminAddress)
	cmd.Args = append(cmd.Args, args...)
	cmd.Env = []string{"HOME=" + b.dir} // with nothing else, no Envoy is found
	if proven {
		cmd.Args = append(cmd.Args, "--envoy", b.envoyBinary)
	}
	p, took, err := b.start(ctx, cmd, "http://"+adminAddress+"/readyz")
	if err != nil {
		return nil, 0, err
	}
	client, err := admin.NewClient(adminAddress)
	return &sluice{process: p, client: client, address: xds, admin: "http://" + adminAddress}, took, err
}

func (s *sluice) ready(_ context.Context, change control.Request, settled bool) (func(context.Context) error, error) {
	change.AllowRemovals = true
	ask := admin.ApplyRequest{Request: change}
	if settled {
		ask.Wait = policy.Duration(patience)
	}
	return func(ctx context.Context) error {
		result, err := s.client.Apply(ctx, ask)
		switch {
		case err != nil:
			return err
		case result.Delivery == admin.Incomplete, result.Delivery == admin.NotTaken:
			return fmt.Errorf("revision %d: %s", result.Revision.Number, result.Delivery)
		}
		return nil
	}, nil
}

func (s *sluice) apply(ctx context.Context, change control.Request) error {
	return applied(ctx, s, change)
}

func (s *sluice) proc() *process { return s.process }
func (s *sluice) xds() string    { return s.address }

// bareProcess is the floor. What it is to publish is compiled here, so that its process only serves.
type bareProcess struct {
	*process
	control    string
	address    string
	objects    map[policy.Ref]policy.Object
	compiler   *compile.Compiler
	translator *translate.Translator
}

func (b *bench) startFloor(ctx context.Context) (*bareProcess, error) {
	xds, control, err := twoAddresses()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, _, err := b.start(ctx, exec.Command(self, floorRole, "-xds", xds, "-control", control), "http://"+control+"/readyz")
	if err != nil {
		return nil, err
	}
	return &bareProcess{
		process: p, control: "http://" + control, address: xds, objects: map[policy.Ref]policy.Object{},
		compiler: compile.New(all.Features()), translator: translate.New(all.Features()),
	}, nil
}

func (f *bareProcess) ready(ctx context.Context, change control.Request, _ bool) (func(context.Context) error, error) {
	for _, o := range change.Set {
		f.objects[o.Ref] = o
	}
	for _, ref := range change.Delete {
		delete(f.objects, ref)
	}
	body, err := f.resources()
	if err != nil {
		return nil, err
	}
	if err := post(ctx, f.control+"/ready", body); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return post(ctx, f.control+"/publish", nil) }, nil // returns when it is settled
}

func (f *bareProcess) apply(ctx context.Context, change control.Request) error {
	return applied(ctx, f, change)
}

// resources are what Sluice would publish, byte for byte.
func (f *bareProcess) resources() (io.Reader, error) {
	config, problems := f.compiler.Compile(slices.SortedFunc(maps.Values(f.objects), func(a, b policy.Object) int { return a.Ref.Compare(b.Ref) }))
	if problems.Failed() {
		return nil, errors.New(problems.Render())
	}
	resources, err := f.translator.Translate(config.Gateways[0])
	if err != nil {
		return nil, err
	}
	f.translator.EndRun()
	var body bytes.Buffer
	return &body, gob.NewEncoder(&body).Encode(resources)
}

func (f *bareProcess) proc() *process { return f.process }
func (f *bareProcess) xds() string    { return f.address }

func post(ctx context.Context, url string, body io.Reader) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, text)
	}
	return err
}

func twoAddresses() (a, b string, err error) {
	if a, err = freeAddress(); err == nil {
		b, err = freeAddress()
	}
	return a, b, err
}

// newStore is a path for a store of its own.
func (b *bench) newStore() string {
	b.stores++
	return filepath.Join(b.dir, fmt.Sprintf("store-%d.db", b.stores))
}
