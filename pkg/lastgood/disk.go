package lastgood

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/pkg/snapshot"
)

// fileFormat starts the file; the checksum of what follows the line stands behind it, in hex. What follows is one
// DeltaDiscoveryResponse with every resource of every type, private keys among them.
const fileFormat = "sluice-lastgood 1 "

// Load takes in the copy from disk, and publishes it: Envoys ask here only when no server is there, and one that starts at
// the same time must not find that nobody serves. Without a file there is none. A damaged file, or one of another gateway,
// is an error, and nothing is taken from it. Load comes first.
func (c *Copy) Load() error {
	if c.File == "" {
		return nil
	}
	text, err := os.ReadFile(c.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, gateway, err := decode(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if gateway != c.Gateway {
		return fmt.Errorf("%s: is of gateway %q, and not of %q", c.File, gateway, c.Gateway)
	}
	info, err := os.Stat(c.File)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.good, c.written, c.asOf = s, s, s, info.ModTime()
	c.turn = time.Now().Add(mostPause)
	c.Server.Publish(c.Gateway, s)
	return nil
}

// save writes what is good to disk, if that has not been done, and says whether it was to be done.
func (c *Copy) save() bool {
	c.mu.Lock()
	s := c.good
	done := c.File == "" || s.Digest() == c.written.Digest()
	c.mu.Unlock()
	if done {
		return false
	}
	text, err := encode(s, c.Gateway)
	if err == nil {
		err = replace(c.File, text)
	}
	if err != nil {
		c.Log.Warn("the last good configuration could not be written: a restart without the control plane would not have it", "gateway", c.Gateway, "error", err)
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = s
	c.stamp()
	return true
}

// stamp makes the file's time the one that it is as of.
func (c *Copy) stamp() {
	if c.File == "" || c.good.Digest() != c.written.Digest() {
		return
	}
	if err := os.Chtimes(c.File, time.Time{}, c.asOf); err != nil {
		c.Log.Warn("the time of the last good configuration could not be noted", "gateway", c.Gateway, "error", err)
	}
}

func encode(s *snapshot.Snapshot, gateway string) ([]byte, error) {
	all := &discoveryv3.DeltaDiscoveryResponse{ControlPlane: &corev3.ControlPlane{Identifier: gateway}}
	for _, url := range s.Types() {
		table := s.Table(url)
		for _, name := range table.Names() {
			all.Resources = append(all.Resources, &discoveryv3.Resource{Name: name, Resource: &anypb.Any{TypeUrl: url, Value: table.Body(name)}})
		}
	}
	body, err := proto.Marshal(all)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return append([]byte(fileFormat+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

func decode(text []byte) (s *snapshot.Snapshot, gateway string, err error) {
	head, body, ok := bytes.Cut(text, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(head) != fileFormat+hex.EncodeToString(sum[:]) {
		return nil, "", errors.New("not a copy of this version, or damaged")
	}
	all := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(body, all); err != nil {
		return nil, "", err
	}
	bodies := map[string]map[string][]byte{}
	for _, r := range all.GetResources() {
		url := r.GetResource().GetTypeUrl()
		if bodies[url] == nil {
			bodies[url] = map[string][]byte{}
		}
		bodies[url][r.GetName()] = r.GetResource().GetValue()
	}
	tables := map[string]*snapshot.Table{}
	for url, resources := range bodies {
		tables[url] = snapshot.NewTable(resources)
	}
	return snapshot.New(tables), all.GetControlPlane().GetIdentifier(), nil
}

// replace replaces the file, whole or not at all. Only its owner can read it.
func replace(file string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
