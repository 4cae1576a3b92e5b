#!/usr/bin/env bash
# Checks the format of the Go code and runs go vet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Files deleted but not yet committed are still listed by git.
unformatted=$(git ls-files -co --exclude-standard '*.go' | while read -r file; do [ ! -e "$file" ] || gofmt -l "$file"; done)
if [ -n "$unformatted" ]; then
  printf 'not formatted, which "make fmt" does:\n%s\n' "$unformatted" >&2
  exit 1
fi
go vet ./...
