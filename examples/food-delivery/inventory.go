package main

import (
	"net/http"
	"strconv"
	"sync"
)

// inventory is the service that knows how much there is of each product.
type inventory struct {
	mu       sync.Mutex
	stock    map[string]int
	reserved int
}

func newInventory() *inventory {
	stock := map[string]int{}
	for _, p := range menu() {
		stock[p.SKU] = 1000
	}
	return &inventory{stock: stock}
}

func (s *inventory) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/inventory/{sku}", s.read)
	mux.HandleFunc("POST /api/v1/inventory/reservations", s.reserve)
	mux.HandleFunc("/", notFound)
	return mux
}

func (s *inventory) read(w http.ResponseWriter, r *http.Request) {
	sku := r.PathValue("sku")
	s.mu.Lock()
	available, ok := s.stock[sku]
	s.mu.Unlock()
	if !ok {
		problem(w, http.StatusNotFound, "there is no product %q", sku)
		return
	}
	reply(w, http.StatusOK, map[string]any{"sku": sku, "available": available})
}

func (s *inventory) reserve(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Items []lineItem `json:"items"`
	}
	if !read(w, r, &wanted) {
		return
	}
	if fault := faultIn(wanted.Items); fault != "" {
		problem(w, http.StatusUnprocessableEntity, "%s", fault)
		return
	}
	id, short := s.take(wanted.Items)
	if short != "" {
		problem(w, http.StatusConflict, "there is not enough of %q", short)
		return
	}
	reply(w, http.StatusCreated, map[string]any{"id": id, "items": wanted.Items})
}

// take lowers the stock by all the items, or by none and names the one there is too little of.
func (s *inventory) take(items []lineItem) (id, short string) {
	wanted := map[string]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		wanted[item.SKU] += item.Quantity
		if item.Quantity > s.stock[item.SKU] || wanted[item.SKU] > s.stock[item.SKU] {
			return "", item.SKU
		}
	}
	for sku, quantity := range wanted {
		s.stock[sku] -= quantity
	}
	s.reserved++
	return strconv.Itoa(s.reserved), ""
}
