package main

import (
	"slices"
	"sync"
)

// A shelf keeps so many entries; a new one then pushes the oldest out.
const shelfSize = 10_000

// shelf holds the newest entries of a service by number, counted from 1. It is safe for concurrent use.
type shelf[T any] struct {
	mu      sync.Mutex
	entries []T            // entries[i] has the number dropped+1+i
	dropped int            // how many were pushed out
	byKey   map[string]int // idempotency key to number
	keys    map[int]string
}

func newShelf[T any]() *shelf[T] {
	return &shelf[T]{byKey: map[string]int{}, keys: map[int]string{}}
}

// add stores what build makes of the next number. A key, if not empty, that was seen before returns
// the entry it stored then, and false.
func (s *shelf[T]) add(key string, build func(number int) T) (entry T, added bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, seen := s.byKey[key]; seen && key != "" {
		return s.entries[n-s.dropped-1], false
	}
	number := s.dropped + len(s.entries) + 1
	entry = build(number)
	s.entries = append(s.entries, entry)
	if key != "" {
		s.byKey[key], s.keys[number] = number, key
	}
	s.trim()
	return entry, true
}

func (s *shelf[T]) trim() {
	if len(s.entries) <= shelfSize {
		return
	}
	s.entries = s.entries[1:]
	s.dropped++
	delete(s.byKey, s.keys[s.dropped])
	delete(s.keys, s.dropped)
}

func (s *shelf[T]) get(number int) (entry T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := number - s.dropped - 1
	if at < 0 || at >= len(s.entries) {
		return entry, false
	}
	return s.entries[at], true
}

// set puts another entry in the place of one; where there is none any more, it does nothing.
func (s *shelf[T]) set(number int, entry T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := number - s.dropped - 1; at >= 0 && at < len(s.entries) {
		s.entries[at] = entry
	}
}

// newest returns up to n entries, the latest first.
func (s *shelf[T]) newest(n int) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := slices.Clone(s.entries[max(0, len(s.entries)-n):])
	slices.Reverse(last)
	return last
}
