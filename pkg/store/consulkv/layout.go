package consulkv

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// The keys, below the prefix. Only headKey is ever overwritten; what it names is written before it or together with it.
// Below each of the others stand the chunks of its value, by their digest, when it is too large for one.
const (
	headKey    = "head"
	lockKey    = "sweeping"
	objectsKey = "objects/" // digest → policy.Object
	statesKey  = "states/"  // digest of a set → []member
	historyKey = "history/" // generation / number → record
)

func objectKey(digest string) string { return objectsKey + digest }

func stateKey(digest string) string { return statesKey + digest }

func recordKey(generation string, number uint64) string {
	return fmt.Sprintf("%s%s/%020d", historyKey, generation, number)
}

// head is the one value that decides: what it does not name is not there.
type head struct {
	// Generation names the history that counts; a restored archive begins a new one.
	Generation string `json:"generation"`
	Revision   uint64 `json:"revision"`
	// ID is that of the last revision's record.
	ID string `json:"id,omitempty"`
	// Oldest is the oldest revision that is kept.
	Oldest uint64 `json:"oldest,omitempty"`
	// State is a set that was written whole, and Since the number of edits that lead from there to the head.
	State stateRef `json:"state"`
	Since int      `json:"since,omitempty"`
	// Sweeps counts the deletions of what nothing names. A change written before one, but not yet named, fails by it.
	Sweeps uint64 `json:"sweeps,omitempty"`
}

// stateRef names a set by its digest, and the revision it is of; the empty set when Digest is "".
type stateRef struct {
	Revision uint64 `json:"revision,omitempty"`
	Digest   string `json:"digest,omitempty"`
}

// record is one revision. Its ID is the writer's, so that a writer that got no answer finds out whether it is its own.
type record struct {
	ID       string         `json:"id"`
	Parent   string         `json:"parent,omitempty"`
	Revision store.Revision `json:"revision"`
	Edits    []edit         `json:"edits,omitempty"`
}

// edit is a store.Edit with the digests of its objects, "" for none.
type edit struct {
	policy.Ref
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// member is one object of a set.
type member struct {
	policy.Ref
	Digest string `json:"digest"`
}

func editsOf(edits []store.Edit) []edit {
	var out []edit
	for _, e := range edits {
		w := edit{Ref: e.Ref}
		if e.Before != nil {
			w.Before = e.Before.Digest
		}
		if e.After != nil {
			w.After = e.After.Digest
		}
		out = append(out, w)
	}
	return out
}

func membersOf(set *store.Set) []member {
	out := make([]member, set.Len())
	for i, e := range set.Entries() {
		out[i] = member{e.Object.Ref, e.Digest}
	}
	return out
}

// names tells whether the head and what it leads to name a key, or the value that a chunk belongs to. Keys that are
// not of this layout count as named: they are somebody else's.
func (h head) names(key string, objects map[string]bool) bool {
	switch family, rest, _ := strings.Cut(key, "/"); family + "/" {
	case objectsKey:
		digest, _, _ := strings.Cut(rest, "/")
		return objects[digest]
	case statesKey:
		digest, _, _ := strings.Cut(rest, "/")
		return digest == h.State.Digest
	case historyKey:
		generation, rest, _ := strings.Cut(rest, "/")
		text, _, _ := strings.Cut(rest, "/")
		number, err := strconv.ParseUint(text, 10, 64)
		return err == nil && generation == h.Generation && h.Oldest <= number && number <= h.Revision
	}
	return true
}

func decode[T any](key string, plain []byte) (value T, err error) {
	if err := json.Unmarshal(plain, &value); err != nil {
		return value, damaged("%s cannot be read: %v", key, err)
	}
	return value, nil
}

func decodeHead(plain []byte) (head, error) {
	h, err := decode[head](headKey, plain)
	switch {
	case err != nil:
		return head{}, err
	case h.Generation == "" || strings.Contains(h.Generation, "/"):
		return head{}, damaged("the head names no history")
	case h.Revision == 0 && h.Oldest != 0, h.Revision > 0 && h.Oldest == 0, h.Oldest > h.Revision, h.State.Revision > h.Revision,
		h.State.Revision+1 < h.Oldest:
		return head{}, damaged("the head names revisions %d to %d and the state of %d", h.Oldest, h.Revision, h.State.Revision)
	case h.Revision-h.Oldest > maxHistory:
		return head{}, damaged("the head names %d revisions", h.Revision-h.Oldest)
	}
	return h, nil
}

// maxHistory bounds the revisions that a head may name, so that a bad one asks for no memory.
const maxHistory = 10_000_000
