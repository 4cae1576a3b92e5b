package authenticate

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/sluice-gateway/sluice/pkg/apikey"
	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/model"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// APIKey is the method `apiKey`: keys that `sluice keys create` makes.
type APIKey struct {
	Header     string   `json:"header,omitempty" jsonschema_description:"The header that holds the key and nothing else; x-api-key when left out."`
	Query      string   `json:"query,omitempty" jsonschema_description:"A parameter of the query that may hold the key instead. Needs allowQuery."`
	AllowQuery bool     `json:"allowQuery,omitempty" jsonschema_description:"Says that it is known that addresses end up in logs, histories and referrers, with the keys in them."`
	Owners     []string `json:"owners,omitempty" jsonschema_description:"Only keys of these owners are taken; of any when left out."`
	Forward    bool     `json:"forward,omitempty" jsonschema_description:"Lets the service see the key, which is removed from the request otherwise."`
}

// What keys are to the rest of the gateway.
const (
	// IssuerAPIKey is the issuer of identities that come from keys.
	IssuerAPIKey  = "api-key"
	defaultHeader = "x-api-key"
	keyData       = "authenticate/key"
)

// UnmarshalNode reads the name of a header, or the long form.
func (k *APIKey) UnmarshalNode(at policy.At, p *policy.Problems) {
	if at.Node.Kind == policy.Scalar {
		if k.Header = at.Node.Value; k.Header == "true" || k.Header == "" {
			p.Suggestf(at, policy.CodeValue, "write apiKey: "+defaultHeader, "apiKey is the name of a header, or a mapping")
		}
		return
	}
	type plain APIKey
	policy.Decode(at, (*plain)(k), p)
	if k.Header == "" {
		k.Header = defaultHeader
	}
}

// JSONSchema describes both forms.
func (APIKey) JSONSchema() *jsonschema.Schema {
	type plain APIKey
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", Examples: []any{defaultHeader}}, policy.TypeSchema(plain{})}}
}

func (k *APIKey) validate(at policy.At, p *policy.Problems) {
	at = at.Field("apiKey")
	From{Header: k.Header}.validate(at, p)
	if slices.Contains([]string{"authorization", "cookie", "host"}, strings.ToLower(k.Header)) {
		p.Suggestf(at, policy.CodeValue, "use a header of its own, such as "+defaultHeader, "the header %s holds other things", k.Header)
	}
	if slices.Contains(k.Owners, "") {
		p.Errorf(at.Field("owners"), policy.CodeValue, "an owner without a name")
	}
	switch {
	case k.Query == "" && k.AllowQuery:
		p.Suggestf(at.Field("allowQuery"), policy.CodeConflict, "write query: and the parameter's name", "allowQuery without query allows nothing")
	case k.Query == "":
	case !k.AllowQuery:
		p.Suggestf(at.Field("query"), policy.CodeConflict, "send it in a header; or write allowQuery: true where clients cannot",
			"keys in addresses end up in logs, histories and referrers")
	default:
		From{Query: k.Query}.validate(at.Field("query"), p)
		p.Warnf(at.Field("query"), policy.CodeConflict, "send it in a header wherever clients can", "keys in addresses end up in logs, histories and referrers")
	}
}

func (k *APIKey) data() []model.Data {
	return []model.Data{{Name: keyData, Table: model.TableKeys}}
}

func (k *APIKey) check(_ context.Context, r *feature.Request, id *feature.Identity) feature.Decision {
	text, f := k.find(r)
	if f != nil {
		return refusedKey(f)
	}
	hash, err := apikey.Parse(text)
	if err != nil {
		return refusedKey(&fault{"malformed", "That is not an API key of this gateway, or it was mistyped."})
	}
	table, ok := r.Data(feature.PartName(keyData, hash.Shard())).(apikey.Table)
	if !ok {
		return feature.Unavailable("no_keys", "The API keys are not known here yet.")
	}
	e := table[hash]
	switch {
	case e == nil:
		return refusedKey(&fault{"unknown", "The API key is not known, or no longer."})
	case e.Ended(r.Now):
		return refusedKey(&fault{"expired", "The API key has expired."})
	case len(k.Owners) > 0 && !slices.Contains(k.Owners, e.Owner):
		return refusedKey(&fault{"owner", "The API key is not one that is taken here."})
	}
	*id = feature.Identity{User: e.Owner, Plan: e.Plan, Issuer: IssuerAPIKey, Key: e.ID, Scopes: e.Scopes, Permissions: e.Permissions}
	return feature.Decision{}
}

// find is the one key of a request.
func (k *APIKey) find(r *feature.Request) (string, *fault) {
	inHeader, f := From{Header: k.Header}.find(r)
	if k.Query == "" || f != nil && f.reason != reasonMissing {
		return inHeader, k.named(f)
	}
	inQuery, other := From{Query: k.Query}.find(r)
	switch {
	case f != nil:
		return inQuery, k.named(other)
	case other == nil || other.reason != reasonMissing:
		return "", &fault{"several", "The request carries more than one API key."}
	}
	return inHeader, nil
}

// named is a fault in the words of keys.
func (k *APIKey) named(f *fault) *fault {
	switch {
	case f == nil:
		return nil
	case f.reason == reasonMissing:
		return &fault{reasonMissing, "An API key is needed, in the header " + k.Header + "."}
	}
	return &fault{f.reason, "The request carries more than one API key."}
}

// hide says what of the request the service is not to see.
func (k *APIKey) hide(d *feature.Decision) {
	if k.Forward {
		return
	}
	d.RemoveHeaders = append(d.RemoveHeaders, strings.ToLower(k.Header))
	if k.Query != "" {
		d.RemoveQuery = append(d.RemoveQuery, k.Query)
	}
}

func refusedKey(f *fault) feature.Decision {
	return feature.Decision{Status: http.StatusUnauthorized, Reason: f.reason, Detail: f.detail, Challenge: `ApiKey realm="sluice"`}
}
