package errors

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// when is what Envoy says of one kind of failure, as a CEL condition, and what the client is told. Nothing of what
// Envoy writes itself goes out: its words hold addresses, names and errors of TLS libraries.
type when struct {
	condition, text string
}

// reset is how Envoy's details begin when it could not talk to a service.
const reset = "response.code_details.startsWith('upstream_reset_before_response_started')"

// known are the failures that are told apart, the first that holds wins. Envoy reads at most 32 of them, and quotes
// would end the expression.
func known() []when {
	return []when{
		{is("route_not_found"), "No route takes this request."},
		{is("cluster_not_found", "no_healthy_upstream"), "No instance of the service is available."},
		{reset + " && response.code_details.contains('overflow')", "The service has more requests than it can take."},
		{reset + " && response.code == 502", "The service did not answer in valid HTTP."},
		{reset, "The service could not be reached, or broke off."},
		{is("http1.too_many_headers", "http2.too_many_headers"), "The request has more headers than allowed."},
		{is("upgrade_failed"), "This path takes no upgrades."},
		{is("path_normalization_failed", "rbac_access_denied_matched_policy[path_parameters]"), "The path of the request is not allowed."},
		{is("missing_host_header"), "The request has no Host header."},
		{is("rbac_access_denied_matched_policy[invalid_host]"), "The request names more than one host."},
		{is("rbac_access_denied_matched_policy[source]"), "Requests from this address are not allowed here."},
		{is("rbac_access_denied_matched_policy[method]"), "This method is not allowed here."},
		{is("cdn_loop_detected"), "The request has passed this gateway too often."},
		{is("invalid_cdn_loop_header"), "The CDN-Loop header is not valid."},
		{"response.code_details.startsWith('http') && response.code == 400", "The request is not valid HTTP."},
		{is("ext_authz_error"), "Whether this request is allowed could not be decided."},
	}
}

func is(details ...string) string {
	return "response.code_details in ['" + strings.Join(details, "', '") + "']"
}

// otherwise is what the client is told of all other failures, by status.
func otherwise() map[int]string {
	return map[int]string{
		http.StatusBadRequest:                  "The request is not valid.",
		http.StatusUnauthorized:                "Valid credentials are needed.",
		http.StatusForbidden:                   "This request is not allowed.",
		http.StatusNotFound:                    "There is nothing here.",
		http.StatusMethodNotAllowed:            "The path exists, but not with this method.",
		http.StatusRequestTimeout:              "The request did not arrive in time.",
		http.StatusRequestEntityTooLarge:       "The body of the request is larger than allowed.",
		http.StatusUnsupportedMediaType:        "The media type of the request is not one that is taken.",
		http.StatusUnprocessableEntity:         "The content of the request is not valid.",
		http.StatusUpgradeRequired:             "HTTP/1.1 or later is needed.",
		http.StatusTooManyRequests:             "There were too many requests; try again later.",
		http.StatusRequestHeaderFieldsTooLarge: "The headers of the request are larger than allowed.",
		http.StatusServiceUnavailable:          "The service is not available now; try again later.",
		http.StatusGatewayTimeout:              "The service did not answer in time.",
	}
}

// detail is the CEL expression for what the client is told.
func detail() string {
	var b strings.Builder
	for _, w := range known() {
		fmt.Fprintf(&b, "%s ? '%s' : ", w.condition, w.text)
	}
	return b.String() + byStatus(otherwise(), "The request could not be answered.")
}

// title is the CEL expression for the status's reason phrase.
func title() string {
	all := map[int]string{}
	for status := http.StatusBadRequest; status <= http.StatusHTTPVersionNotSupported; status++ {
		if text := phrase(status); text != "" {
			all[status] = text
		}
	}
	return byStatus(all, "Error")
}

// byStatus is the CEL expression for a text by status.
func byStatus(texts map[int]string, other string) string {
	var statuses, entries []string
	for _, status := range slices.Sorted(maps.Keys(texts)) {
		statuses = append(statuses, strconv.Itoa(status))
		entries = append(entries, fmt.Sprintf("%d: '%s'", status, texts[status]))
	}
	return fmt.Sprintf("response.code in [%s] ? {%s}[response.code] : '%s'", strings.Join(statuses, ", "), strings.Join(entries, ", "), other)
}

// phrase is a status's reason phrase as RFC 9110 and 6585 have it, "" for those of neither.
func phrase(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "Content Too Large"
	case http.StatusRequestURITooLong:
		return "URI Too Long"
	case http.StatusRequestedRangeNotSatisfiable:
		return "Range Not Satisfiable"
	case http.StatusUnprocessableEntity:
		return "Unprocessable Content"
	case http.StatusTeapot, http.StatusLocked, http.StatusFailedDependency, http.StatusTooEarly, http.StatusUnavailableForLegalReasons:
		return ""
	}
	return http.StatusText(status)
}

// The answers that keep the body they have.
const (
	// isGRPC: a gRPC client reads the message from a header.
	isGRPC = "request.headers['content-type'].startsWith('application/grpc')"
	// isReady: redirects, what is a problem already (the agent's answers), and a body that a policy has written.
	isReady = "response.code < 400 || response.headers['content-type'].startsWith('application/problem+json') || " +
		"(response.code_details == 'direct_response' && xds.route_metadata.filter_metadata['sluice']['body'] == 'as written')"
)
