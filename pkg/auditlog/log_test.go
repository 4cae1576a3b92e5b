package auditlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/auditlog"
)

func open(t testing.TB, path string) *auditlog.Log {
	t.Helper()
	l, err := auditlog.Open(auditlog.Config{Path: path, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1700000000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // most have been closed
	return l
}

// fill writes two lines a change.
func fill(t testing.TB, l *auditlog.Log, changes int) {
	t.Helper()
	for i := range changes {
		c, err := l.Begin(auditlog.Event{Who: "token ci", From: "10.0.0.1:5", Operation: "apply", Digest: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		c.Done(uint64(i), uint64(i)+1)
	}
}

func shut(t testing.TB, l *auditlog.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func entries(t testing.TB, path string) (out []auditlog.Entry) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var e auditlog.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

func TestWhatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	e := auditlog.Event{Who: "token ci", Says: "anna@desk", From: "10.0.0.1:5", Operation: "apply", Object: "shop", Digest: "d"}
	first, err := l.Begin(e)
	if err != nil {
		t.Fatal(err)
	}
	first.Done(4, 5)
	second, err := l.Begin(e)
	if err != nil {
		t.Fatal(err)
	}
	second.Failed("conflict")
	l.Denied(auditlog.Event{From: "10.0.0.2:5", Operation: "apply", Reason: "no token"})
	shut(t, l)
	got := entries(t, path)
	for i := range got {
		if i == 0 && got[i].Prev != auditlog.Start || got[i].Time.Unix() != 1700000000 {
			t.Errorf("line %d: %+v", i, got[i])
		}
		got[i].Prev, got[i].Time = "", time.Time{}
	}
	done, failed := e, e
	done.Base, done.Revision, failed.Reason = 4, 5, "conflict"
	want := []auditlog.Entry{
		{Seq: 1, Kind: auditlog.Began, Event: e}, {Seq: 2, Kind: auditlog.Done, Of: 1, Event: done},
		{Seq: 3, Kind: auditlog.Began, Event: e}, {Seq: 4, Kind: auditlog.Failed, Of: 3, Event: failed},
		{Seq: 5, Kind: auditlog.Denied, Event: auditlog.Event{From: "10.0.0.2:5", Operation: "apply", Reason: "no token"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	report, err := auditlog.Verify([]string{path}, auditlog.Known{})
	if err != nil || report.Lines != 5 || report.Denied != 1 || report.First != 1 || report.Last != 5 || len(report.Open)+len(report.Notes) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, name := range []string{path, path + ".head"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

// TestWhatWasDoneToALogIsFound alters a log of ten lines in many ways.
func TestWhatWasDoneToALogIsFound(t *testing.T) {
	source := filepath.Join(t.TempDir(), "audit")
	l := open(t, source)
	fill(t, l, 5)
	shut(t, l)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	marker, err := os.ReadFile(source + ".head")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(lines []string) []string
		want   string
		starts bool // serve goes on: it looks at the end only
	}{
		{"nothing", func(l []string) []string { return l }, "", true},
		{"a byte in the middle", func(l []string) []string { l[4] = strings.Replace(l[4], "token ci", "token cj", 1); return l }, ":6: does not follow", true},
		{"a byte in the last line", func(l []string) []string { l[9] = strings.Replace(l[9], "token ci", "token cj", 1); return l }, "line 10, the last one", false},
		{"a line taken away", func(l []string) []string { return slices.Delete(l, 4, 5) }, ":5: is line 6, and should be line 5", false},
		{"the first line taken away", func(l []string) []string { return l[1:] }, ":1: begins with line 2", false},
		{"the last line taken away", func(l []string) []string { return l[:9] }, "line 10, the last one", false},
		{"half of the last line taken away", func(l []string) []string { l[9] = l[9][:30]; return l }, "line 10, the last one", false},
		{"all taken away", func([]string) []string { return nil }, "line 10, the last one", false},
		{"two lines changed about", func(l []string) []string { l[2], l[3] = l[3], l[2]; return l }, ":3: is line 4, and should be line 3", true},
		{"a line twice", func(l []string) []string { return slices.Insert(l, 5, l[4]) }, ":6: is line 5, and should be line 6", false},
		{"a line of nothing", func(l []string) []string { return slices.Insert(l, 5, "\n") }, ":6: is not what sluice writes", false},
		{"a line put in at the end", func(l []string) []string {
			return append(l, strings.Replace(l[9], `"seq":10`, `"seq":11`, 1))
		}, ":11: does not follow", false},
		{"a very long line", func(l []string) []string { l[9] = strings.Repeat("x", 1<<20) + "\n"; return l }, ":10: is longer", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "audit")
			changed := strings.Join(c.change(slices.Collect(strings.Lines(string(text)))), "")
			if err := errors.Join(os.WriteFile(path, []byte(changed), 0o600), os.WriteFile(path+".head", marker, 0o600)); err != nil {
				t.Fatal(err)
			}
			_, err := auditlog.Verify([]string{path}, auditlog.Known{})
			var broken *auditlog.BrokenError
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &broken) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("verify: %v", err)
			}
			again, err := auditlog.Open(auditlog.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
			if (err == nil) != c.starts {
				t.Errorf("open: %v", err)
			}
			if err == nil {
				shut(t, again)
			}
		})
	}
}

func TestAHashKeptElsewhereShowsThatAllWasRewritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir+"/a")
	fill(t, l, 1)
	_, hash := l.Head()
	fill(t, l, 1)
	shut(t, l)
	if _, err := auditlog.Verify([]string{dir + "/a"}, auditlog.Known{Holds: []string{hash}}); err != nil {
		t.Error(err)
	}
	forged := open(t, dir+"/b")
	c, err := forged.Begin(auditlog.Event{Who: "nobody", Operation: "apply"})
	if err != nil {
		t.Fatal(err)
	}
	c.Done(0, 1)
	shut(t, forged)
	if _, err := auditlog.Verify([]string{dir + "/b"}, auditlog.Known{Holds: []string{hash}}); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("got %v", err)
	}
}

func TestALogIsMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	fill(t, l, 2)
	_, between := l.Head()
	move(t, path, path+".1")
	fill(t, l, 1)
	shut(t, l)
	move(t, path, path+".2")
	l = open(t, path)
	fill(t, l, 1)
	shut(t, l)
	shut(t, open(t, path))
	report, err := auditlog.Verify([]string{path + ".1", path + ".2", path}, auditlog.Known{})
	if err != nil || report.Lines != 8 || len(report.Notes) != 0 {
		t.Errorf("all: %+v, %v", report, err)
	}
	if report, err = auditlog.Verify([]string{path + ".2", path}, auditlog.Known{After: between}); err != nil || report.First != 5 {
		t.Errorf("without the first: %+v, %v", report, err)
	}
	for _, files := range [][]string{{path + ".2", path}, {path + ".1", path}, {path, path + ".1"}} {
		if _, err := auditlog.Verify(files, auditlog.Known{}); err == nil {
			t.Errorf("%v is no chain from the beginning", files)
		}
	}
}

func move(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestAMachineThatStops leaves a head that is behind, and half a line.
func TestAMachineThatStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	fill(t, l, 1)
	marker, err := os.ReadFile(path + ".head")
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 3)
	shut(t, l)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":9,"ki`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(path+".head", marker, 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err := auditlog.Verify([]string{path}, auditlog.Known{}); err != nil || len(report.Notes) != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	l = open(t, path)
	fill(t, l, 1)
	shut(t, l)
	if report, err := auditlog.Verify([]string{path}, auditlog.Known{}); err != nil || report.Lines != 10 || len(report.Notes) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestWhatCannotBeWrittenIsNotBegun(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(t *testing.T, path string)
		want string
	}{
		{"something else writes it", func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(f, "hello")
			f.Close()
		}, "something else wrote or cut it"},
		{"it is cut", func(t *testing.T, path string) {
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
		}, "something else wrote or cut it"},
		{"another file stands there", func(t *testing.T, path string) {
			move(t, path, path+".1")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is another file now"},
		{"its folder is gone", func(t *testing.T, path string) { move(t, filepath.Dir(path), filepath.Dir(path)+".gone") }, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "folder", "audit")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			l := open(t, path)
			fill(t, l, 1)
			c.harm(t, path)
			if _, err := l.Begin(auditlog.Event{Operation: "apply"}); err == nil || !strings.Contains(err.Error(), c.want) || l.Err() == nil {
				t.Errorf("got %v", err)
			}
			l.Denied(auditlog.Event{Operation: "apply"})
			if l.Err() == nil {
				t.Error("a denial that cannot be written does not show")
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	held := open(t, dir+"/held")
	fill(t, held, 1)
	writeFile(t, dir+"/damaged.head", "rubbish")
	writeFile(t, dir+"/headless", "{}\n")
	if err := os.Mkdir(dir+"/folder", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"held": "in use by another process", "damaged": "is not what sluice writes there", "headless": "cut or changed",
		"folder": "is no regular file", "none/audit": "no such file",
	} {
		if _, err := auditlog.Open(auditlog.Config{Path: dir + "/" + name, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	if path := os.Getenv("AUDIT_UNTIL_FULL"); path != "" {
		os.Exit(untilFull(path))
	}
	os.Exit(m.Run())
}

// untilFull writes until the disk is full, which a limit of the process on the size of files stands for; then gives
// room, and writes again.
func untilFull(path string) int {
	limit := syscall.Rlimit{Cur: 5000, Max: 1 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := auditlog.Open(auditlog.Config{Path: path, Log: slog.New(slog.DiscardHandler)})
	var last *auditlog.Change
	for err == nil {
		var c *auditlog.Change
		if c, err = l.Begin(auditlog.Event{Operation: "apply"}); err == nil {
			last = c
		}
	}
	last.Done(1, 2) // which is no shorter than its beginning
	if !errors.Is(err, syscall.EFBIG) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := l.Begin(auditlog.Event{Operation: "after"}); err != nil || l.Err() != nil {
		fmt.Fprintln(os.Stderr, "with room again:", err)
		return 1
	}
	return 0 // without closing it
}

// TestAFullDisk: what began before the disk was full has its outcome when there is room again.

func TestAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AUDIT_UNTIL_FULL="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	report, err := auditlog.Verify([]string{path}, auditlog.Known{})
	if err != nil || len(report.Notes) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	all := entries(t, path)
	if done, after := all[len(all)-2], all[len(all)-1]; done.Kind != auditlog.Done || done.Of != uint64(len(all)-2) || after.Operation != "after" {
		t.Errorf("the last lines are %+v and %+v", done, after)
	}
}

func TestAFloodOfDenialsIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	for i := range 1000 {
		l.Denied(auditlog.Event{From: fmt.Sprintf("10.0.0.1:%d", i), Operation: "apply"})
	}
	l.Denied(auditlog.Event{From: "10.0.0.2:1", Operation: "apply", Reason: "another one is still seen"})
	for i := range 300 {
		l.Denied(auditlog.Event{From: fmt.Sprintf("[2001:db8:%x::1]:5", i), Operation: "apply"})
	}
	shut(t, l)
	var counted uint64
	seen := false
	all := entries(t, path)
	for _, e := range all {
		counted += 1 + e.Unwritten
		seen = seen || e.Reason != ""
	}
	if counted != 1301 || !seen || len(all) > 500 {
		t.Errorf("%d denials in %d lines, the single one seen: %v", counted, len(all), seen)
	}
}

func TestManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			fill(t, l, 10)
			l.Denied(auditlog.Event{Operation: "read"})
		})
	}
	all.Wait()
	shut(t, l)
	if report, err := auditlog.Verify([]string{path}, auditlog.Known{}); err != nil || report.Lines != 168 || len(report.Open) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestWithoutALogAllIsDone(t *testing.T) {
	var l *auditlog.Log
	c, err := l.Begin(auditlog.Event{})
	if err != nil {
		t.Fatal(err)
	}
	c.Done(1, 2)
	c.Failed("x")
	l.Denied(auditlog.Event{})
	if err := errors.Join(l.Err(), l.Close()); err != nil {
		t.Error(err)
	}
}

func TestAStrangersTextIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	l.Denied(auditlog.Event{Operation: strings.Repeat("ä", 1<<20), Reason: "a\nb\x00\xff", From: strings.Repeat("\xff", 1000)})
	shut(t, l)
	got := entries(t, path)
	if len(got) != 1 || len(got[0].Operation) > 256 || !strings.HasSuffix(got[0].Operation, "ä…") || got[0].Reason != "a\nb\x00\uFFFD" {
		t.Errorf("%+v", got)
	}
	if _, err := auditlog.Verify([]string{path}, auditlog.Known{}); err != nil {
		t.Error(err)
	}
}

// FuzzVerify: no text but an untouched log passes for one, and none ends the program.
func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "audit")
	l := open(f, path)
	fill(f, l, 2)
	shut(f, l)
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	_, hash := l.Head()
	f.Add(string(text))
	f.Add(string(text[:len(text)-5]))
	f.Add("{}\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, changed string) {
		copied := filepath.Join(t.TempDir(), "audit")
		writeFile(t, copied, changed)
		_, err := auditlog.Verify([]string{copied}, auditlog.Known{Holds: []string{hash}})
		if err == nil && !strings.HasPrefix(changed, string(text)) {
			t.Errorf("taken for whole: %q", changed)
		}
		again, err := auditlog.Open(auditlog.Config{Path: copied, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			shut(t, again)
		}
	})
}
