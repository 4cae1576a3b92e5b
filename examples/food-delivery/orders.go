package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// order speaks in the names of the service's own past (order_reference, eta), as backends do.
type order struct {
	ID              string     `json:"id"`
	Reference       string     `json:"order_reference"`
	Status          string     `json:"current_status"`
	ETA             time.Time  `json:"eta"`
	Items           []lineItem `json:"items"`
	DeliveryAddress string     `json:"deliveryAddress,omitempty"`
	PlacedBy        string     `json:"placed_by,omitempty"` // as the gateway says, which lets no client say it
}

type lineItem struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// orders is the service that takes orders.
type orders struct{ placed *shelf[order] }

func newOrders() *orders { return &orders{newShelf[order]()} }

func (o *orders) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/orders", o.place)
	mux.HandleFunc("GET /api/v1/orders", o.list)
	mux.HandleFunc("GET /api/v1/orders/{id}", o.read)
	mux.HandleFunc("/", notFound)
	return mux
}

// place stores an order; the same idempotency-key again answers with the order stored first.
func (o *orders) place(w http.ResponseWriter, r *http.Request) {
	var wanted order
	if !read(w, r, &wanted) {
		return
	}
	if fault := faultIn(wanted.Items); fault != "" {
		problem(w, http.StatusUnprocessableEntity, "%s", fault)
		return
	}
	placed, _ := o.placed.add(r.Header.Get("idempotency-key"), func(number int) order {
		return order{
			ID:              strconv.Itoa(number),
			Reference:       fmt.Sprintf("FD-%d", number),
			Status:          "placed",
			ETA:             time.Now().Add(40 * time.Minute).UTC().Truncate(time.Second),
			Items:           wanted.Items,
			DeliveryAddress: wanted.DeliveryAddress,
			PlacedBy:        caller(r),
		}
	})
	w.Header().Set("location", "/api/v1/orders/"+placed.ID)
	reply(w, http.StatusCreated, placed)
}

// faultIn says what is wrong with the items of an order, or nothing.
func faultIn(items []lineItem) string {
	if len(items) == 0 {
		return `an order needs items: {"items": [{"sku": "pizza-margherita", "quantity": 1}]}`
	}
	for n, item := range items {
		if item.SKU == "" || item.Quantity < 1 {
			return fmt.Sprintf("items[%d] needs a sku and a quantity of at least 1", n)
		}
	}
	return ""
}

// read finds an order by its id or by its reference. To others than whoever placed it, it is not there.
func (o *orders) read(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	number, err := strconv.Atoi(strings.TrimPrefix(id, "FD-"))
	found, ok := o.placed.get(number)
	if err != nil || !ok || found.PlacedBy != caller(r) {
		problem(w, http.StatusNotFound, "there is no order %q", id)
		return
	}
	reply(w, http.StatusOK, found)
}

// list shows the caller's orders, the newest first.
func (o *orders) list(w http.ResponseWriter, r *http.Request) {
	mine := []order{}
	for _, placed := range o.placed.newest(shelfSize) {
		if len(mine) < 50 && placed.PlacedBy == caller(r) {
			mine = append(mine, placed)
		}
	}
	reply(w, http.StatusOK, map[string]any{"orders": mine})
}

// caller is who the gateway says is calling; "" behind one that does not ask.
func caller(r *http.Request) string { return r.Header.Get("x-sluice-user") }
