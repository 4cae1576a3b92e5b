package policy

import "strings"

// suggestion is the way out for a word that is not known: the nearest one, or all when they are few.
func suggestion(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) == 0 {
		return ""
	}
	if len(known) > 24 {
		return "sluice schema prints what is allowed"
	}
	return "one of: " + strings.Join(known, ", ")
}

// Nearest is the known word most like the one given, "" when none is near.
func Nearest(word string, known []string) string {
	best, nearest := len(word)/3+2, ""
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < best {
			best, nearest = d, k
		}
	}
	return nearest
}

// distance is the Levenshtein distance, of the first 64 bytes.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
