package main

import (
	"net/http"
	"strconv"
)

// delivery is one order on its way.
type delivery struct {
	ID      string `json:"id"`
	OrderID string `json:"orderId"`
	Address string `json:"address"`
	Status  string `json:"status"`
}

// deliveries is the service that sends couriers.
type deliveries struct{ sent *shelf[delivery] }

func newDeliveries() *deliveries { return &deliveries{newShelf[delivery]()} }

func (d *deliveries) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/deliveries", d.send)
	mux.HandleFunc("GET /api/v1/deliveries/{id}", d.read)
	mux.HandleFunc("/", notFound)
	return mux
}

func (d *deliveries) send(w http.ResponseWriter, r *http.Request) {
	var wanted delivery
	if !read(w, r, &wanted) {
		return
	}
	if wanted.OrderID == "" || wanted.Address == "" {
		problem(w, http.StatusUnprocessableEntity, "a delivery needs an orderId and an address")
		return
	}
	sent, _ := d.sent.add(r.Header.Get("idempotency-key"), func(number int) delivery {
		return delivery{ID: strconv.Itoa(number), OrderID: wanted.OrderID, Address: wanted.Address, Status: "assigned"}
	})
	w.Header().Set("location", "/api/v1/deliveries/"+sent.ID)
	reply(w, http.StatusCreated, sent)
}

func (d *deliveries) read(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	number, err := strconv.Atoi(id)
	found, ok := d.sent.get(number)
	if err != nil || !ok {
		problem(w, http.StatusNotFound, "there is no delivery %q", id)
		return
	}
	reply(w, http.StatusOK, found)
}
