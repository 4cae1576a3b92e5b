package consulkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/pkg/store"
)

const (
	// maxOps and maxBytes bound one transaction; Consul takes 512 KiB of JSON.
	maxOps   = 64
	maxBytes = 480 << 10
	// readsAtOnce bounds the connections that reading takes.
	readsAtOnce = 4
)

var (
	// ErrUnreachable says that no Consul agent answers.
	ErrUnreachable = fmt.Errorf("%w: consul cannot be reached: is its agent running, and does --consul name it?", store.ErrUnavailable)
	// ErrNoLeader says that Consul can neither be read nor written now.
	ErrNoLeader = fmt.Errorf("%w: consul has no leader: try again when its servers have elected one", store.ErrUnavailable)
	// ErrDenied says that the token does not suffice.
	ErrDenied = errors.New("consul denies it: the token needs key_prefix \"write\" on the prefix, and session_prefix \"write\"")
	// ErrNewerFormat refuses what a later version of this program wrote.
	ErrNewerFormat = errors.New("a newer sluice wrote it: run that version or a newer one on every replica, or export there and import here")
	// ErrUnknown says that Consul was asked to commit and never said whether it did.
	ErrUnknown = errors.New("consul did not say whether the change was committed: look at the history, or ask again with the same request ID")

	// errMoved says that the head is no longer the one that a change was written for.
	errMoved = errors.New("the head of the store has moved")
)

// kv is the keys below a prefix.
type kv struct {
	client  *api.Client
	token   func() string
	prefix  string
	timeout time.Duration // of one call
}

func (k kv) query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{Token: k.token()}).WithContext(ctx)
}

// get is the value of a key with its index; nil when there is none.
func (k kv) get(ctx context.Context, key string) (*api.KVPair, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	pair, _, err := k.client.KV().Get(k.prefix+key, k.query(ctx))
	if err != nil {
		return nil, explain(err)
	}
	return pair, nil
}

// await returns when a key has changed since the index, or when the wait is over, with the index to wait for next.
func (k kv) await(ctx context.Context, key string, since uint64, wait time.Duration) (*api.KVPair, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+k.timeout)
	defer cancel()
	q := k.query(ctx)
	q.WaitIndex, q.WaitTime = since, wait
	pair, meta, err := k.client.KV().Get(k.prefix+key, q)
	if err != nil {
		return nil, 0, explain(err)
	}
	return pair, nextIndex(since, meta.LastIndex), nil
}

// nextIndex is what to wait for after an answer: an index that went backwards begins anew, and none is below 1, which
// would not wait at all.
func nextIndex(since, answered uint64) uint64 {
	if answered < since {
		return 0
	}
	return max(answered, 1)
}

// values are those of the keys, in their order: nil for one that is not there.
func (k kv) values(ctx context.Context, keys []string) ([][]byte, error) {
	out := make([][]byte, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	at := 0
	for part := range slices.Chunk(keys, maxOps) {
		into := out[at : at+len(part)]
		at += len(part)
		g.Go(func() error { return k.valuesInto(ctx, part, into) })
	}
	return out, g.Wait()
}

func (k kv) valuesInto(ctx context.Context, keys []string, into [][]byte) error {
	var ops api.TxnOps
	at := map[string][]int{}
	for i, key := range keys {
		at[k.prefix+key] = append(at[k.prefix+key], i)
		ops = append(ops, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVGetOrEmpty, Key: k.prefix + key}})
	}
	answer, err := k.txn(ctx, ops)
	if err != nil {
		return err
	}
	// What the token may not read is left out of the answer.
	if len(answer.Results) < len(keys) {
		return fmt.Errorf("%w (prefix %s)", ErrDenied, k.prefix)
	}
	for _, r := range answer.Results {
		if r.KV == nil {
			continue
		}
		for _, i := range at[r.KV.Key] {
			into[i] = r.KV.Value
		}
	}
	return nil
}

// keys are those that begin with that after the prefix, without the prefix.
func (k kv) keys(ctx context.Context, begin string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	keys, _, err := k.client.KV().Keys(k.prefix+begin, "", k.query(ctx))
	if err != nil {
		return nil, explain(err)
	}
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], k.prefix)
	}
	return keys, nil
}

// txn makes all of the operations, or none.
func (k kv) txn(ctx context.Context, ops api.TxnOps) (*api.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	ok, answer, _, err := k.client.Txn().Txn(ops, k.query(ctx))
	if err != nil {
		return nil, explain(err)
	}
	if ok {
		return answer, nil
	}
	var reasons []string
	for _, e := range answer.Errors {
		reasons = append(reasons, e.What)
	}
	reason := strings.Join(reasons, "; ")
	if strings.Contains(reason, "index is stale") {
		return nil, errMoved
	}
	return nil, explain(&refusal{reason})
}

// refusal is Consul's definite no: nothing was done.
type refusal struct{ reason string }

func (r *refusal) Error() string { return "consul refuses it: " + r.reason }

// explain adds to what the client says what it means.
func explain(err error) error {
	text := err.Error()
	for part, meaning := range map[string]error{
		"Permission denied": ErrDenied, "ACL not found": ErrDenied,
		"No cluster leader": ErrNoLeader, "no known leader": ErrNoLeader, "leadership lost": ErrNoLeader, "node is not the leader": ErrNoLeader,
	} {
		if strings.Contains(text, part) {
			return fmt.Errorf("%w: %w", meaning, err)
		}
	}
	if transport := new(*url.Error); errors.As(err, transport) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// undone tells whether an error means that nothing was done, for certain.
func undone(err error) bool {
	text := err.Error()
	if errors.As(err, new(*refusal)) || errors.Is(err, ErrDenied) || strings.Contains(text, "No cluster leader") || strings.Contains(text, "too large") {
		return true
	}
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

func set(k kv, w write) *api.TxnOp {
	return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: k.prefix + w.key, Value: w.value}}
}

func remove(k kv, key string) *api.TxnOp {
	return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVDelete, Key: k.prefix + key}}
}

func swap(k kv, w write, index uint64) *api.TxnOp {
	return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: k.prefix + w.key, Value: w.value, Index: index}}
}

// batches cuts operations into transactions that Consul takes; those of the last argument stay together, in the last.
func batches(ops, last api.TxnOps) []api.TxnOps {
	var out []api.TxnOps
	var batch api.TxnOps
	size := 0
	for _, op := range ops {
		if len(batch) == maxOps || len(batch) > 0 && size+weight(op) > maxBytes {
			out, batch, size = append(out, batch), nil, 0
		}
		batch, size = append(batch, op), size+weight(op)
	}
	for _, op := range last {
		size += weight(op)
	}
	if len(batch) > 0 && (len(batch)+len(last) > maxOps || size > maxBytes) {
		out, batch = append(out, batch), nil
	}
	return append(out, append(batch, last...))
}

// weight is about what an operation takes in JSON.
func weight(op *api.TxnOp) int { return len(op.KV.Value)*4/3 + len(op.KV.Key) + 160 }
