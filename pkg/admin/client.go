package admin

import (
	"bytes"
	"context"
	"crypto/tls"
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
	"syscall"

	"github.com/sluice-gateway/sluice/pkg/control"
	"github.com/sluice-gateway/sluice/pkg/explain"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Client speaks to a running sluice.
type Client struct {
	server string // as it was given, for errors
	base   string
	token  string
	http   *http.Client

	certificate bool // one is shown
}

// ClientConfig says which server is asked, and how.
type ClientConfig struct {
	// Server is http://host:port, https://host:port, host:port or unix:///path.
	Server string
	// Token proves the caller; "" for none. It is never sent in the clear over a network.
	Token string
	// TLS is for https, nil for what the system trusts.
	TLS *tls.Config
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

// NewClient is a client of a server that asks for no proof.
func NewClient(server string) (*Client, error) { return Dial(ClientConfig{Server: server}) }

// Dial makes a client. Nothing is sent yet.
func Dial(config ClientConfig) (*Client, error) {
	transport := &http.Transport{TLSClientConfig: config.TLS} // without a proxy: the server is on this machine, or named on purpose
	c := &Client{server: config.Server, token: config.Token, certificate: config.TLS != nil && config.TLS.GetClientCertificate != nil, http: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if path, ok := strings.CutPrefix(config.Server, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return nil, fmt.Errorf("server %q: names no path: write unix:///run/sluice.sock", config.Server)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = "http://localhost"
		return c, nil
	}
	u, err := serverURL(config)
	if err != nil {
		return nil, err
	}
	if config.Token != "" && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, fmt.Errorf("server %s: a token is not sent over a network in the clear: write https://%s", config.Server, u.Host)
	}
	c.base = u.Scheme + "://" + u.Host
	return c, nil
}

// serverURL is where the server is. Without a scheme it is https where TLS was set up.
func serverURL(config ClientConfig) (*url.URL, error) {
	server := config.Server
	switch {
	case strings.Contains(server, "://"):
	case config.TLS != nil:
		server = "https://" + server
	default:
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("server %q: write http://127.0.0.1:18080, https://sluice.example:18080 or unix:///run/sluice.sock", config.Server)
	}
	return u, nil
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

// Keys are the API keys of an owner, of all owners when it is "".
func (c *Client) Keys(ctx context.Context, owner string) (*Keys, error) {
	return call[Keys](ctx, c, http.MethodGet, "/v1/keys?owner="+url.QueryEscape(owner), nil)
}

// Key is one API key.
func (c *Client) Key(ctx context.Context, id string) (*KeyResult, error) {
	return call[KeyResult](ctx, c, http.MethodGet, "/v1/keys/"+url.PathEscape(id), nil)
}

// CreateKey makes an API key.
func (c *Client) CreateKey(ctx context.Context, r NewKeyRequest) (*IssuedKey, error) {
	return call[IssuedKey](ctx, c, http.MethodPost, "/v1/keys", r)
}

// RotateKey gives an API key a second text.
func (c *Client) RotateKey(ctx context.Context, r RotateKeyRequest) (*IssuedKey, error) {
	return call[IssuedKey](ctx, c, http.MethodPost, "/v1/keys/rotate", r)
}

// ChangeKey does one of disable, enable and delete to an API key.
func (c *Client) ChangeKey(ctx context.Context, what, id string) (*KeyResult, error) {
	return call[KeyResult](ctx, c, http.MethodPost, "/v1/keys/"+what, KeyRequest{ID: id})
}

// Revocations are those in force.
func (c *Client) Revocations(ctx context.Context) (*Revocations, error) {
	return call[Revocations](ctx, c, http.MethodGet, "/v1/revocations", nil)
}

// Revoke revokes something.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) (*RevocationResult, error) {
	return call[RevocationResult](ctx, c, http.MethodPost, "/v1/revocations", r)
}

// UndoRevocation takes a revocation back.
func (c *Client) UndoRevocation(ctx context.Context, id string) (*RevocationResult, error) {
	return call[RevocationResult](ctx, c, http.MethodPost, "/v1/revocations/undo", UndoRevocationRequest{ID: id})
}

// Secrets are the secrets of the store, without their values.
func (c *Client) Secrets(ctx context.Context) (*Secrets, error) {
	return call[Secrets](ctx, c, http.MethodGet, "/v1/secrets", nil)
}

// SetSecret makes a secret of the store, or gives it another value.
func (c *Client) SetSecret(ctx context.Context, r SetSecretRequest) (*SecretChanged, error) {
	return call[SecretChanged](ctx, c, http.MethodPost, "/v1/secrets", r)
}

// DeleteSecret forgets a secret of the store.
func (c *Client) DeleteSecret(ctx context.Context, r DeleteSecretRequest) (*SecretChanged, error) {
	return call[SecretChanged](ctx, c, http.MethodPost, "/v1/secrets/delete", r)
}

// RotateSecrets puts all secrets under the server's first key.
func (c *Client) RotateSecrets(ctx context.Context) (*SecretsRotated, error) {
	return call[SecretsRotated](ctx, c, http.MethodPost, "/v1/secrets/rotate", RotateSecretsRequest{})
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
		return nil, c.failed(err)
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(resp)
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("content-type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("authorization", "Bearer "+c.token)
	}
	return req, nil
}

// failed says why no answer came.
func (c *Client) failed(err error) error {
	var unproven *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &unproven):
		return fmt.Errorf("%s: the server does not prove that it is the one: %w: name the authority of its certificate with --server-ca or SLUICE_SERVER_CA", c.server, unproven)
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("%s: the server does not take our certificate (--client-cert): %w", c.server, op.Err)
	case c.certificate && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return fmt.Errorf("%s: the server ends the connection, as if it does not take our certificate (--client-cert): %w", c.server, cause(err))
	}
	return fmt.Errorf("%s: %w (%w)", c.server, ErrUnreachable, cause(err))
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
	if resp.StatusCode == http.StatusBadRequest && resp.ProtoMajor == 1 && resp.ProtoMinor == 0 && strings.HasPrefix(c.base, "http:") {
		return fmt.Errorf("%s wants TLS: write https://%s", c.server, strings.TrimPrefix(c.base, "http://")) // so says net/http
	}
	if media != "application/problem+json" || json.NewDecoder(resp.Body).Decode(&p) != nil || p.Code == "" {
		return fmt.Errorf("%s answers %s, but is no sluice: name it with --server or SLUICE_SERVER", c.server, resp.Status)
	}
	return &Error{p}
}
