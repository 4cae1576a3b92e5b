package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/integration/gateway"
)

// edge is a Gateway document that listens on the test's port, with these blocks.
func edge(blocks ...string) string {
	return "apiVersion: sluice/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  listeners: [{name: http, port: $PORT}]\n  " +
		strings.Join(blocks, "\n  ") + "\n---\n"
}

// connect opens a connection to the gateway, closed when the test ends.
func connect(t *testing.T, g *gateway.Gateway) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(gateway.Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// raw sends bytes that no HTTP client would, and gives the first answer.
func raw(t *testing.T, g *gateway.Gateway, request string) (int, string, http.Header) {
	t.Helper()
	c := connect(t, g)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return answer(t, c)
}

// answer waits for one answer on a connection.
func answer(t *testing.T, c net.Conn) (int, string, http.Header) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

// closed waits until the other side has closed a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection was not closed: %v", err)
	}
}
