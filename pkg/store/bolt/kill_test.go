package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// childEnv makes the test binary a process that commits to the store it names and says what was acknowledged.
const childEnv = "SLUICE_STORE_TEST_CHILD"

const childKeep = 20

// child commits until it is killed; each line is a revision that Commit has acknowledged.
func child(path string) int {
	s, err := Open(path, store.Options{Keep: childKeep})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	head, _, err := s.Head(context.Background())
	for err == nil {
		if err = number(s, head.Number); err != nil {
			break
		}
		if head, err = s.Commit(context.Background(), pushOn(head.Number)); err == nil {
			fmt.Println(head.Number, head.Digest)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// number writes a record that says the number of the head, before the next push.
func number(s *Store, head uint64) error {
	was, err := s.Record(context.Background(), store.TableKeys, "head")
	if err != nil && !errors.Is(err, store.ErrNoRecord) {
		return err
	}
	r := store.Record{Key: "head", Value: fmt.Append(nil, head), Version: was.Version}
	_, err = s.WriteRecords(context.Background(), store.TableKeys, store.RecordChange{Record: r})
	return err
}

// pushOn is the change that the child makes on that head, the same each time: some objects come, some change, some go.
func pushOn(base uint64) store.Change {
	n := int(base)
	change := store.Change{Base: base, RequestID: fmt.Sprint("push-", n), Set: []policy.Object{storetest.Object("counter", n)}}
	for i := range 10 {
		change.Set = append(change.Set, storetest.Object(fmt.Sprint("route-", n%7, "-", i), n))
	}
	if n > 3 {
		change.Delete = []policy.Ref{{Kind: "Route", Name: fmt.Sprint("route-", (n-3)%7, "-1")}}
	}
	return change
}

type acknowledged struct {
	number uint64
	digest string
}

func TestKill(t *testing.T) {
	rounds, pushes := 3, 20
	if os.Getenv("SLUICE_SOAK") != "" {
		rounds, pushes = 20, 200
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "sluice.db")
	var last acknowledged
	for range rounds {
		last = runAndKill(t, path, last, pushes/rounds+random.IntN(10), time.Duration(random.Int64N(int64(5*time.Millisecond))))
		last = expectAcknowledged(t, path, last)
	}
}

// runAndKill lets a child push that many times, kills it a moment later, somewhere in a later push, and returns the
// last revision it said was committed.
func runAndKill(t *testing.T, path string, last acknowledged, pushes int, moment time.Duration) acknowledged {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range pushes {
		if last, err = readAcknowledged(lines, last); err != nil {
			t.Errorf("the child ended by itself: %v", err)
			break
		}
	}
	kill := time.AfterFunc(moment, func() { cmd.Process.Kill() })
	defer kill.Stop()
	for err == nil {
		last, err = readAcknowledged(lines, last)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	cmd.Wait() // its error is the kill
	return last
}

// readAcknowledged reads one whole line; a line cut by the kill was no acknowledgement.
func readAcknowledged(from *bufio.Reader, last acknowledged) (acknowledged, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return last, err
	}
	var a acknowledged
	if _, err := fmt.Sscan(line, &a.number, &a.digest); err != nil {
		return last, fmt.Errorf("line %q: %w", line, err)
	}
	return a, nil
}

// expectAcknowledged opens what the killed child left: everything acknowledged is there, at most the one push under
// way besides, whole, and a retry of that push does not make it twice.
func expectAcknowledged(t *testing.T, path string, last acknowledged) acknowledged {
	t.Helper()
	if err := Check(path); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, store.Options{Keep: childKeep})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rev, _, err := s.At(t.Context(), last.number)
	if err != nil || rev.Digest != last.digest {
		t.Fatalf("acknowledged revision %d %s is %s, %v", last.number, last.digest, rev.Digest, err)
	}
	head, _, err := s.Head(t.Context())
	if err != nil || head.Number > last.number+1 {
		t.Fatalf("head %d, acknowledged %d, %v", head.Number, last.number, err)
	}
	record, err := s.Record(t.Context(), store.TableKeys, "head")
	if text := string(record.Value); err != nil || text != fmt.Sprint(last.number-1) && text != fmt.Sprint(last.number) {
		t.Fatalf("the record before acknowledged revision %d says %q, %v", last.number, text, err)
	}
	retried, err := s.Commit(t.Context(), pushOn(last.number))
	if err != nil || retried.Number != last.number+1 {
		t.Fatalf("retry of the push on %d: revision %d, %v", last.number, retried.Number, err)
	}
	history, err := s.History(t.Context(), 0)
	if err != nil || history[0].Number != last.number+1 || history[1].Number != last.number {
		t.Fatalf("history after the retry: %d revisions, %v", len(history), err)
	}
	return acknowledged{retried.Number, retried.Digest}
}
