package main

import (
	"net/http"
	"strconv"
)

// payment is an amount that was taken, in cents.
type payment struct {
	ID      string `json:"id"`
	OrderID string `json:"orderId"`
	Cents   int    `json:"cents"`
	Status  string `json:"status"`
	Settled string `json:"settled_by,omitempty"` // the provider, as its certificate says
}

// payments is the service that takes money, once for each idempotency-key.
type payments struct{ taken *shelf[payment] }

func newPayments() *payments { return &payments{newShelf[payment]()} }

func (p *payments) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/payments", p.pay)
	mux.HandleFunc("POST /api/v1/payments/{id}/settled", p.settle)
	mux.HandleFunc("/", notFound)
	return mux
}

func (p *payments) pay(w http.ResponseWriter, r *http.Request) {
	var wanted payment
	if !read(w, r, &wanted) {
		return
	}
	key := r.Header.Get("idempotency-key")
	if key == "" || wanted.OrderID == "" || wanted.Cents < 1 {
		problem(w, http.StatusUnprocessableEntity, "a payment needs the header idempotency-key, an orderId and cents of at least 1")
		return
	}
	paid, _ := p.taken.add(key, func(number int) payment {
		return payment{ID: strconv.Itoa(number), OrderID: wanted.OrderID, Cents: wanted.Cents, Status: "paid"}
	})
	reply(w, http.StatusCreated, paid)
}

// settle is where the payment provider tells that the money has arrived.
func (p *payments) settle(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	number, err := strconv.Atoi(id)
	settled, ok := p.taken.get(number)
	if err != nil || !ok {
		problem(w, http.StatusNotFound, "there is no payment %q", id)
		return
	}
	settled.Status, settled.Settled = "settled", caller(r)
	p.taken.set(number, settled)
	reply(w, http.StatusOK, settled)
}
