package admin

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/explain"
)

// operation is one entry of the API: what serves it, who may ask for it, and what describes it.
type operation struct {
	id, method, path, summary string
	needs                     access.Role // of the caller; nobody may what needs none
	changes                   bool        // of policies, which a server for reading refuses
	query                     []parameter
	request, response         any // their types; nil where there is none, or no JSON
	handle                    func(s *Server, r *http.Request) (any, error)
}

type parameter struct{ name, kind, description string }

// operations are the whole API, and who may what. What needs more than reading is written to the audit log.
func operations() []operation {
	return []operation{
		post("apply", "/v1/apply", access.Apply, true, "Add, change and remove objects, all or nothing, and wait for the Envoys.", (*Server).apply),
		post("plan", "/v1/plan", access.Read, false, "What apply would change, without doing it.", (*Server).plan),
		post("rollback", "/v1/rollback", access.Apply, true, "Make the objects those of an earlier revision, as a new revision.", (*Server).rollback),
		post("import", "/v1/import", access.Apply, true, "Read an export in the place of what is stored.", (*Server).importSite),
		post("explain", "/v1/explain", access.Read, false, "Which rule takes a request, and what holds there.", (*Server).explain),
		{id: "export", method: "GET", path: "/v1/export", needs: access.Read, summary: "All that is stored, as JSON lines.", handle: (*Server).exportSite,
			query: []parameter{{"headOnly", "boolean", "Leave the history out."}}},
		get("objects", "/v1/objects", access.Read, "The stored objects.", Objects{}, (*Server).objects,
			parameter{"kind", "string", "Only of this kind."}, parameter{"name", "string", "Only of this name."},
			parameter{"source", "string", "Only from this source."}, parameter{"revision", "integer", "Of an earlier revision."}),
		get("history", "/v1/revisions", access.Read, "The newest revisions, newest first.", History{}, (*Server).history,
			parameter{"limit", "integer", "How many; all that are kept when 0. Default 50."}),
		get("envoys", "/v1/envoys", access.Read, "The Envoys, and what each has.", Envoys{}, (*Server).envoys),
		get("why", "/v1/why/{kind}/{name}", access.Read, "How far an object, or a Registration, has come, at each Envoy.", Why{}, (*Server).why),
		get("catalog", "/v1/catalog", access.Read, "The services that Consul is watched for.", CatalogStatus{}, (*Server).catalog),
		get("keys", "/v1/keys", access.Secrets, "The API keys, without what they are known by.", Keys{}, (*Server).keys,
			parameter{"owner", "string", "Only of this owner."}),
		get("key", "/v1/keys/{id}", access.Secrets, "One API key.", KeyResult{}, (*Server).key),
		post("createKey", "/v1/keys", access.Secrets, false, "Make an API key; its text is in the answer, and nowhere later.", (*Server).createKey),
		post("rotateKey", "/v1/keys/rotate", access.Secrets, false, "Give an API key a second text; the one before holds a while longer.", (*Server).rotateKey),
		post("disableKey", "/v1/keys/disable", access.Secrets, false, "Take an API key out of use.", changeKey(disableKey)),
		post("enableKey", "/v1/keys/enable", access.Secrets, false, "Take an API key into use again.", changeKey(enableKey)),
		post("deleteKey", "/v1/keys/delete", access.Secrets, false, "Remove an API key for good.", changeKey(deleteKey)),
		get("revocations", "/v1/revocations", access.Secrets, "What is revoked.", Revocations{}, (*Server).revocations),
		post("revoke", "/v1/revocations", access.Secrets, false, "Accept something no longer: a subject's tokens, a token or an API key.", (*Server).revoke),
		post("undoRevocation", "/v1/revocations/undo", access.Secrets, false, "Take a revocation back.", (*Server).undoRevocation),
		post("release", "/v1/catalog/release", access.Apply, false, "Let go of instances that are held though they are not registered any more.", (*Server).release),
		get("secrets", "/v1/secrets", access.Read, "The secrets of the store, without their values.", Secrets{}, (*Server).listSecrets),
		post("setSecret", "/v1/secrets", access.Secrets, false, "Make a secret of the store, or give it another value.", (*Server).setSecret),
		post("deleteSecret", "/v1/secrets/delete", access.Secrets, false, "Forget a secret of the store.", (*Server).deleteSecret),
		post("rotateSecrets", "/v1/secrets/rotate", access.Secrets, false, "Put all secrets of the store under the first key of the server.", (*Server).rotateSecrets),
	}
}

func get(id, path string, needs access.Role, summary string, response any, handle func(*Server, *http.Request) (any, error), query ...parameter) operation {
	return operation{id: id, method: "GET", path: path, needs: needs, summary: summary, response: response, query: query,
		handle: func(s *Server, r *http.Request) (any, error) {
			return s.recorded(r, record{operation: id, needs: needs}, func() (any, error) { return handle(s, r) })
		},
	}
}

// post is an operation with a JSON body.
func post[Request, Response any](
	id, path string, needs access.Role, changes bool, summary string, handle func(*Server, *http.Request, Request) (*Response, error),
) operation {
	return operation{
		id: id, method: "POST", path: path, needs: needs, summary: summary, changes: changes, request: *new(Request), response: *new(Response),
		handle: func(s *Server, r *http.Request) (any, error) {
			sum := sha256.New()
			request, err := decode[Request](r, io.TeeReader(r.Body, sum))
			if err != nil {
				return nil, err
			}
			return s.recorded(r, record{id, needs, request, sum.Sum(nil)}, func() (any, error) { return handle(s, r, request) })
		},
	}
}

// MaxRequestBytes bounds a request's body.
const MaxRequestBytes = 64 << 20

// decode reads a JSON body strictly: one value, no field that is not known.
func decode[T any](r *http.Request, body io.Reader) (value T, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("content-type")); err != nil || media != "application/json" {
		return value, &refusal{http.StatusUnsupportedMediaType, CodeBadRequest, "send the header content-type: application/json"}
	}
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&value); err != nil {
		return value, badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return value, badBody(errors.New("something follows the JSON value"))
	}
	return value, nil
}

func badBody(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &refusal{http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("the request is larger than %d MiB: send it in parts", MaxRequestBytes>>20)}
	case errors.Is(err, io.EOF):
		err = errors.New("the body is empty")
	}
	return &refusal{http.StatusBadRequest, CodeBadRequest, "the body: " + err.Error()}
}

// number reads a query parameter that is a whole number.
func number(r *http.Request, name string, otherwise uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, &refusal{http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("%s: %q is not a whole number", name, text)}
	}
	return n, nil
}

// yes reads a query parameter that is true or false.
func yes(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, &refusal{http.StatusBadRequest, CodeBadRequest, fmt.Sprintf("%s: %q is neither true nor false", name, text)}
	}
	return b, nil
}

func (s *Server) explain(_ *http.Request, ask explain.Request) (*explain.Result, error) {
	b := s.Controller.Serving()
	if b == nil {
		return nil, errStarting
	}
	result, err := explain.Explain(b.Config, ask)
	if err != nil {
		return nil, &refusal{http.StatusBadRequest, CodeBadRequest, err.Error()}
	}
	return result, nil
}
