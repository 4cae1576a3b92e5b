package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ask sends one request to a handler and returns the answer with its body decoded.
func ask(t *testing.T, h http.Handler, method, path, body string, headers ...string) (*http.Response, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var decoded map[string]any
	if err := json.NewDecoder(w.Body).Decode(&decoded); err != nil {
		t.Fatalf("%s %s: body is not JSON: %v", method, path, err)
	}
	return w.Result(), decoded
}

func TestServicesAnswer(t *testing.T) {
	const twoPizzas = `{"items": [{"sku": "pizza-margherita", "quantity": 2}]}`
	type step struct {
		method, path, body string
		status             int
		want               map[string]any // fields the answer must have
	}
	tests := []struct {
		name  string
		h     http.Handler
		steps []step
	}{
		{"orders", newOrders().routes(), []step{
			{"GET", "/api/v1/orders/1", "", 404, map[string]any{"detail": `there is no order "1"`}},
			{"POST", "/api/v1/orders", twoPizzas, 201, map[string]any{"id": "1", "order_reference": "FD-1", "current_status": "placed"}},
			{"POST", "/api/v1/orders", twoPizzas, 201, map[string]any{"id": "2"}},
			{"GET", "/api/v1/orders/2", "", 200, map[string]any{"id": "2"}},
			{"GET", "/api/v1/orders/FD-1", "", 200, map[string]any{"id": "1"}},
			{"GET", "/api/v1/orders/x", "", 404, map[string]any{"title": "Not Found"}},
			{"GET", "/api/v1/orders", "", 200, nil},
			{"POST", "/api/v1/orders", `{"items": []}`, 422, map[string]any{"status": 422.0}},
			{"POST", "/api/v1/orders", `{"items": [{"sku": "x", "quantity": 0}]}`, 422, nil},
			{"POST", "/api/v1/orders", `{`, 400, nil},
			{"GET", "/elsewhere", "", 404, nil},
		}},
		{"inventory", newInventory().routes(), []step{
			{"GET", "/api/v1/inventory/lemonade", "", 200, map[string]any{"available": 1000.0}},
			{"GET", "/api/v1/inventory/gold", "", 404, nil},
			{"POST", "/api/v1/inventory/reservations", `{"items": [{"sku": "lemonade", "quantity": 400}]}`, 201, map[string]any{"id": "1"}},
			{"GET", "/api/v1/inventory/lemonade", "", 200, map[string]any{"available": 600.0}},
			{"POST", "/api/v1/inventory/reservations", `{"items": [{"sku": "tiramisu", "quantity": 1}, {"sku": "lemonade", "quantity": 601}]}`, 409, nil},
			{"POST", "/api/v1/inventory/reservations", `{"items": [{"sku": "lemonade", "quantity": 400}, {"sku": "lemonade", "quantity": 400}]}`, 409, nil},
			{"GET", "/api/v1/inventory/tiramisu", "", 200, map[string]any{"available": 1000.0}},
			{"POST", "/api/v1/inventory/reservations", `{}`, 422, nil},
		}},
		{"deliveries", newDeliveries().routes(), []step{
			{"POST", "/api/v1/deliveries", `{"orderId": "1", "address": "Main St 1"}`, 201, map[string]any{"id": "1", "status": "assigned"}},
			{"GET", "/api/v1/deliveries/1", "", 200, map[string]any{"address": "Main St 1"}},
			{"GET", "/api/v1/deliveries/2", "", 404, nil},
			{"POST", "/api/v1/deliveries", `{"orderId": "1"}`, 422, nil},
		}},
		{"catalog", newCatalog().routes(), []step{
			{"GET", "/api/v1/products", "", 200, nil},
			{"GET", "/api/v1/products/tiramisu", "", 200, map[string]any{"name": "Tiramisu", "cents": 590.0}},
			{"GET", "/api/v1/products/gold", "", 404, map[string]any{"detail": `there is no product "gold"`}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range tt.steps {
				got, body := ask(t, tt.h, s.method, s.path, s.body)
				if got.StatusCode != s.status {
					t.Errorf("%s %s: status %d, want %d: %v", s.method, s.path, got.StatusCode, s.status, body)
				}
				wantType := "application/json"
				if s.status >= 400 {
					wantType = "application/problem+json"
				}
				if ct := got.Header.Get("content-type"); ct != wantType {
					t.Errorf("%s %s: content-type %q, want %q", s.method, s.path, ct, wantType)
				}
				for field, want := range s.want {
					if diff := cmp.Diff(want, body[field]); diff != "" {
						t.Errorf("%s %s: %s (-want +got):\n%s", s.method, s.path, field, diff)
					}
				}
			}
		})
	}
}

func TestIdempotencyKeyReturnsTheFirstEntry(t *testing.T) {
	h := newPayments().routes()
	_, first := ask(t, h, "POST", "/api/v1/payments", `{"orderId": "1", "cents": 1900}`, "idempotency-key", "a")
	_, again := ask(t, h, "POST", "/api/v1/payments", `{"orderId": "1", "cents": 1900}`, "idempotency-key", "a")
	_, other := ask(t, h, "POST", "/api/v1/payments", `{"orderId": "1", "cents": 1900}`, "idempotency-key", "b")
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same key took another payment (-first +again):\n%s", diff)
	}
	if other["id"] == first["id"] {
		t.Errorf("another key returned payment %v again", other["id"])
	}
	if got, _ := ask(t, h, "POST", "/api/v1/payments", `{"orderId": "1", "cents": 1900}`); got.StatusCode != 422 {
		t.Errorf("without a key: status %d, want 422", got.StatusCode)
	}
}

func TestShelfDropsTheOldest(t *testing.T) {
	s := newShelf[int]()
	for range shelfSize + 2 {
		s.add("", func(n int) int { return n })
	}
	s.add("key", func(n int) int { return n })
	for number, want := range map[int]bool{0: false, 1: false, 3: false, 4: true, shelfSize + 3: true, shelfSize + 4: false} {
		if got, ok := s.get(number); ok != want || ok && got != number {
			t.Errorf("get(%d) = %d, %v; want found %v", number, got, ok, want)
		}
	}
	if diff := cmp.Diff([]int{shelfSize + 3, shelfSize + 2}, s.newest(2)); diff != "" {
		t.Errorf("newest (-want +got):\n%s", diff)
	}
	if again, added := s.add("key", func(n int) int { return n }); added || again != shelfSize+3 {
		t.Errorf("key again: %d, %v; want %d, false", again, added, shelfSize+3)
	}
	for range shelfSize {
		s.add("", func(n int) int { return n })
	}
	if _, added := s.add("key", func(n int) int { return n }); !added || len(s.byKey) != 1 || len(s.keys) != 1 {
		t.Errorf("a key outlived its entry: added %v, %d keys, %d numbers", added, len(s.byKey), len(s.keys))
	}
}

func TestOrdersAreTheirCustomersOwn(t *testing.T) {
	h := newOrders().routes()
	ask(t, h, "POST", "/api/v1/orders", `{"items": [{"sku": "tiramisu", "quantity": 1}]}`, "x-sluice-user", "alice")
	for _, c := range []struct {
		user   string
		status int
		listed int
	}{{"alice", 200, 1}, {"bob", 404, 0}, {"", 404, 0}} {
		if got, _ := ask(t, h, "GET", "/api/v1/orders/1", "", "x-sluice-user", c.user); got.StatusCode != c.status {
			t.Errorf("%q reads alice's order: %d, want %d", c.user, got.StatusCode, c.status)
		}
		if _, body := ask(t, h, "GET", "/api/v1/orders", "", "x-sluice-user", c.user); len(body["orders"].([]any)) != c.listed {
			t.Errorf("%q sees %v, want %d orders", c.user, body["orders"], c.listed)
		}
	}
}

func TestPaymentsAreSettledByTheirProvider(t *testing.T) {
	h := newPayments().routes()
	ask(t, h, "POST", "/api/v1/payments", `{"orderId": "1", "cents": 1900}`, "idempotency-key", "a")
	for _, c := range []struct {
		id     string
		status int
	}{{"1", 200}, {"2", 404}, {"x", 404}} {
		got, body := ask(t, h, "POST", "/api/v1/payments/"+c.id+"/settled", "", "x-sluice-user", "provider")
		if got.StatusCode != c.status || c.status == 200 && (body["status"] != "settled" || body["settled_by"] != "provider") {
			t.Errorf("payment %s: %d %v, want %d", c.id, got.StatusCode, body, c.status)
		}
	}
}
