package main

import (
	"net/http"
	"slices"
)

// product is a dish on the menu.
type product struct {
	SKU   string `json:"sku"`
	Name  string `json:"name"`
	Cents int    `json:"cents"`
	Notes string `json:"notes"`
}

// menu lists what can be ordered, always in the same order.
func menu() []product {
	return []product{
		{"pizza-margherita", "Pizza Margherita", 950, "Tomato, mozzarella and basil on a thin base, from the stone oven."},
		{"pizza-funghi", "Pizza Funghi", 1090, "Tomato, mozzarella and fresh mushrooms, with parsley on top."},
		{"pad-thai", "Pad Thai", 1250, "Rice noodles with tofu, bean sprouts, peanuts and a wedge of lime."},
		{"falafel-wrap", "Falafel Wrap", 780, "Five falafel, pickled turnip, parsley and sesame sauce in flat bread."},
		{"ramen-shoyu", "Shoyu Ramen", 1390, "Wheat noodles in soy broth with egg, leek and braised pork."},
		{"salad-greek", "Greek Salad", 890, "Tomato, cucumber, olives and sheep's cheese, with oregano and oil."},
		{"tiramisu", "Tiramisu", 590, "Coffee, mascarpone and cocoa; made this morning, eaten cold."},
		{"lemonade", "Lemonade", 350, "Pressed lemons, a little sugar and a lot of ice, half a litre."},
	}
}

// catalog is the service that shows what can be ordered.
type catalog struct{ products []product }

func newCatalog() *catalog { return &catalog{menu()} }

func (c *catalog) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/products", c.list)
	mux.HandleFunc("GET /api/v1/products/{sku}", c.read)
	mux.HandleFunc("/", notFound)
	return mux
}

func (c *catalog) list(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"products": c.products})
}

func (c *catalog) read(w http.ResponseWriter, r *http.Request) {
	sku := r.PathValue("sku")
	at := slices.IndexFunc(c.products, func(p product) bool { return p.SKU == sku })
	if at < 0 {
		problem(w, http.StatusNotFound, "there is no product %q", sku)
		return
	}
	reply(w, http.StatusOK, c.products[at])
}
