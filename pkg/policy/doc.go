// Package policy reads the user's language: YAML documents, strictly, with the place of everything, so that every
// Problem can be shown where it is, all of them in one run.
package policy
