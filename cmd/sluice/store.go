package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/pkg/catalog/consul"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/bolt"
	"github.com/sluice-gateway/sluice/pkg/store/consulkv"
)

// storePatience is how long a start waits for Consul to have a leader.
const storePatience = time.Minute

// kept is where a server keeps its policies.
type kept struct {
	store.Store
	place   string
	catalog string // the file beside it that keeps what the catalog had; none when ""
}

// openStore opens what --store names: a file, or keys of Consul.
func (a *app) openStore(ctx context.Context, o serveOptions, log *slog.Logger) (kept, error) {
	prefix, inConsul, err := consulPrefix(o.store)
	if err != nil {
		return kept{}, fmt.Errorf("--store: %w", err)
	}
	if inConsul {
		return a.openConsulStore(ctx, o.consulFlags, prefix, log)
	}
	path, err := a.storePath(o.store)
	if err != nil {
		return kept{}, err
	}
	file, err := bolt.Open(path, store.Options{})
	if errors.Is(err, bolt.ErrInUse) {
		return kept{}, fmt.Errorf("--store: %w", err)
	}
	if err != nil {
		return kept{}, err
	}
	return kept{file, path, path + ".catalog"}, nil
}

// consulPrefix tells whether a store is named that Consul keeps, and what its keys begin with. A file called consul is
// named ./consul.
func consulPrefix(named string) (prefix string, inConsul bool, err error) {
	if named == "consul" {
		return consulkv.DefaultPrefix, true, nil
	}
	prefix, inConsul = strings.CutPrefix(named, "consul://")
	if !inConsul {
		return "", false, nil
	}
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return "", true, fmt.Errorf("%s names no prefix: write consul, or consul://PREFIX such as consul://sluice/food", named)
	}
	return prefix + "/", true, nil
}

func (a *app) openConsulStore(ctx context.Context, flags consulFlags, prefix string, log *slog.Logger) (kept, error) {
	dial := flags.config()
	if dial.Address == "" {
		dial.Address = consul.Default().Address
	}
	client, token, err := consul.Dial(dial)
	if err != nil {
		return kept{}, fmt.Errorf("--store: %w", err)
	}
	config := consulkv.Default()
	config.Client, config.Token, config.Prefix, config.Log = client, token, prefix, log
	waiting, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	opened, err := consulkv.Open(waiting, config)
	if err != nil {
		return kept{}, err
	}
	out := kept{Store: opened, place: "consul://" + strings.TrimSuffix(prefix, "/")}
	if path, err := a.storePath(""); err == nil { // without a folder, nothing is kept over a restart
		out.catalog = path + ".catalog"
	}
	return out, nil
}

// storePath is the file that keeps the policies. The folder of the default is made, one that was named is not.
func (a *app) storePath(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	dir := a.stateFolder()
	if dir == "" {
		return "", errors.New("there is no home to keep the policies in: name a file with --store")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("%w: name a file elsewhere with --store", err)
	}
	return filepath.Join(dir, "store.db"), nil
}

// stateFolder is where a service manager says, else where such things are on this system.
func (a *app) stateFolder() string {
	if dir := a.getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	if dir := a.getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "sluice")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/sluice"
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "sluice")
	}
	return ""
}
