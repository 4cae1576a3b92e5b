package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Client speaks to a running sluice.
type Client struct {
	server string // as it was given, for errors
	base   string
	http   *http.Client
}

// Error is a refusal by the server.
type Error struct {
	Problem
}

// Error says what the server said.
func (e *Error) Error() string {
	if e.Code == CodeProblems {
		return policy.Render(e.Problems, e.Dropped)
	}
	return e.Detail
}

// ErrUnreachable says that no sluice answers at the address.
var ErrUnreachable = errors.New("no sluice answers there: start one with `sluice serve`, or name it with --server or SLUICE_SERVER")

// NewClient is a client of the server at http://host:port, host:port or unix:///path. Nothing is sent yet.
func NewClient(server string) (*Client, error) {
	transport := &http.Transport{} // without a proxy: the server is on this machine, or named on purpose
	c := &Client{server: server, http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return nil, fmt.Errorf("server %q: names no path: write unix:///run/sluice.sock", server)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = "http://localhost"
		return c, nil
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("server %q: write http://127.0.0.1:18080 or unix:///run/sluice.sock", c.server)
	}
	c.base = u.Scheme + "://" + u.Host
	return c, nil
}

// Apply asks for a change.
func (c *Client) Apply(ctx context.Context, r ApplyRequest) (*ApplyResult, error) {
	return call[ApplyResult](ctx, c, http.MethodPost, "/v1/apply", r)
}

// Plan asks what a change would do.
func (c *Client) Plan(ctx context.Context, r control.Request) (*PlanResult, error) {
	return call[PlanResult](ctx, c, http.MethodPost, "/v1/plan", r)
}

// Rollback asks for the objects of an earlier revision.
func (c *Client) Rollback(ctx context.Context, r RollbackRequest) (*ApplyResult, error) {
	return call[ApplyResult](ctx, c, http.MethodPost, "/v1/rollback", r)
}

// Explain asks what would happen to a request.
func (c *Client) Explain(ctx context.Context, r explain.Request) (*explain.Result, error) {
	return call[explain.Result](ctx, c, http.MethodPost, "/v1/explain", r)
}

// ObjectFilter chooses stored objects; empty fields choose all, revision 0 the head.
type ObjectFilter struct {
	Kind, Name, Source string
	Revision           uint64
}

// Objects are the stored objects.
func (c *Client) Objects(ctx context.Context, f ObjectFilter) (*Objects, error) {
	q := url.Values{}
	for name, value := range map[string]string{"kind": f.Kind, "name": f.Name, "source": f.Source} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Revision > 0 {
		q.Set("revision", strconv.FormatUint(f.Revision, 10))
	}
	return call[Objects](ctx, c, http.MethodGet, "/v1/objects?"+q.Encode(), nil)
}

// History is the newest revisions; all of them when limit is 0.
func (c *Client) History(ctx context.Context, limit int) (*History, error) {
	return call[History](ctx, c, http.MethodGet, "/v1/revisions?limit="+strconv.Itoa(limit), nil)
}

// Envoys are the Envoys that the server knows.
func (c *Client) Envoys(ctx context.Context) (*Envoys, error) {
	return call[Envoys](ctx, c, http.MethodGet, "/v1/envoys", nil)
}

// Why is how far an object has come.
func (c *Client) Why(ctx context.Context, ref policy.Ref) (*Why, error) {
	return call[Why](ctx, c, http.MethodGet, "/v1/why/"+url.PathEscape(ref.Kind)+"/"+url.PathEscape(ref.Name), nil)
}

// Catalog is the services that Consul is watched for.
func (c *Client) Catalog(ctx context.Context) (*CatalogStatus, error) {
	return call[CatalogStatus](ctx, c, http.MethodGet, "/v1/catalog", nil)
}

// Release lets go of what is held.
func (c *Client) Release(ctx context.Context, r ReleaseRequest) (*ReleaseResult, error) {
	return call[ReleaseResult](ctx, c, http.MethodPost, "/v1/catalog/release", r)
}

// Import sends an export.
func (c *Client) Import(ctx context.Context, r ImportRequest) (*ImportResult, error) {
	return call[ImportResult](ctx, c, http.MethodPost, "/v1/import", r)
}

// Export writes all that is stored. What was written is whole only when there is no error.
func (c *Client) Export(ctx context.Context, headOnly bool, to io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/export?headOnly="+strconv.FormatBool(headOnly), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("the export was cut short: %w", err)
	}
	return nil
}

// call sends a request and reads the JSON answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out T
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("%s: its answer cannot be read: %w", c.server, err)
	}
	return &out, nil
}

// do sends a request; an answer that is no success becomes an error.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%s: %w (%w)", c.server, ErrUnreachable, cause(err))
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	if body == nil {
		return http.NewRequestWithContext(ctx, method, c.base+path, nil)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err == nil {
		req.Header.Set("content-type", "application/json")
	}
	return req, err
}

// cause is what happened, without the URL that stands before it already.
func cause(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// refused reads a problem; anything else comes from something that is no sluice.
func (c *Client) refused(resp *http.Response) error {
	var p Problem
	media, _, _ := mime.ParseMediaType(resp.Header.Get("content-type"))
	if media != "application/problem+json" || json.NewDecoder(resp.Body).Decode(&p) != nil || p.Code == "" {
		return fmt.Errorf("%s answers %s, but is no sluice: name it with --server or SLUICE_SERVER", c.server, resp.Status)
	}
	return &Error{p}
}
