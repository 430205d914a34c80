# Sourced by the scripts beside it: what they need from Debian, installed where that is allowed.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need_packages PACKAGE…: installs the missing ones as root; otherwise prints the command and exits 1.
need_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || fail "this script knows Debian's packages only; please install by hand: $*"
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    echo "Missing packages. Please run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  say "Installing: ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
  "${apt[@]}" update || fail "apt-get update failed"
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null || fail "apt-get install failed"
}

need_rust() {
  command -v cargo >/dev/null || fail "cargo is not installed; Longspan builds with Rust $(rust_version) or newer (rustup, https://rustup.rs)"
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -1; }

# What compiling takes: a C compiler for aws-lc.
build_packages=(gcc libc6-dev make ca-certificates)
