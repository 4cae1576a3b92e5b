package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// load is clients that ask all the time, each on one kept-alive connection.
type load struct {
	size            int
	dials, requests atomic.Int64
	cancel          context.CancelFunc
	running         sync.WaitGroup

	mu    sync.Mutex
	wrong int
	borne int      // how many of them are let pass, if they are 503
	first []string // some of what was wrong
}

// reply is what a client got. One that failed has status 0 and the reason.
type reply struct {
	status                 int
	instance, body, reason string
}

func (a reply) String() string {
	switch {
	case a.status == 0:
		return a.reason
	case a.instance != "":
		return fmt.Sprintf("%d %s", a.status, a.instance)
	}
	return fmt.Sprint(a.status)
}

// clientRound is one round of a client: it gets what it wants and says what is wrong with that, "" for nothing.
type clientRound func(r *rand.Rand, get func(path string) reply) (wrong string)

// clientPause keeps the clients from taking the machine for themselves.
const clientPause = time.Millisecond

// startLoad starts so many clients. The first request of each has been answered when it returns.
func startLoad(t *testing.T, url string, size int, round clientRound) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{size: size, cancel: cancel}
	var begun sync.WaitGroup
	begun.Add(size)
	for i := range size {
		l.running.Go(func() {
			client := l.client()
			defer client.CloseIdleConnections()
			r := rand.New(rand.NewPCG(uint64(i), 1))
			first := sync.OnceFunc(begun.Done)
			for ctx.Err() == nil {
				l.note(round(r, func(path string) reply { return l.get(client, url+path) }))
				first()
				time.Sleep(clientPause)
			}
		})
	}
	t.Cleanup(func() { cancel(); l.running.Wait() })
	begun.Wait()
	return l
}

func (l *load) client() *http.Client {
	dialer := &net.Dialer{}
	return &http.Client{Timeout: gateway.Patience, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			l.dials.Add(1)
			return dialer.DialContext(ctx, network, address)
		},
	}}
}

func (l *load) get(client *http.Client, url string) reply {
	l.requests.Add(1)
	resp, err := client.Get(url)
	if err != nil {
		return reply{reason: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{reason: err.Error()}
	}
	return reply{status: resp.StatusCode, instance: resp.Header.Get("x-instance"), body: string(body)}
}

func (l *load) note(wrong string) {
	if wrong == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong++
	if len(l.first) < 10 {
		l.first = append(l.first, wrong)
	}
}

// end stops the clients, and fails the test for every wrong answer that is not borne and every connection that was closed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.cancel()
	l.running.Wait()
	closed := l.dials.Load() - int64(l.size)
	t.Logf("%d requests by %d clients: %d wrong, %d connections closed", l.requests.Load(), l.size, l.wrong, closed)
	other := slices.ContainsFunc(l.first, func(wrong string) bool { return wrong != "503" })
	if int(l.wrong) > l.borne || other || closed != 0 {
		t.Errorf("%d wrong answers, %d closed connections; the first: %q", l.wrong, closed, l.first)
	}
}
