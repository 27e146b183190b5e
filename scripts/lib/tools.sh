#!/bin/sh
# Installs what a fresh Debian or Ubuntu lacks to build and test the store. Sourced by lib/common.sh.
#
# May be run again at any time: what is there is left alone, and package lists are fetched only if something is
# missing. Uses sudo where the user is not root.

# ensure_packages PACKAGE...: installs them with apt.
ensure_packages() {
  have apt-get || fail "missing: $*" "install these packages (Debian's names) with this system's own tool"
  tools_sudo=
  if [ "$(id -u)" -ne 0 ]; then
    have sudo || fail "missing: $*" "run as root: apt-get install $*"
    tools_sudo=sudo
  fi
  step "installing with apt: $*"
  tools_log=$(mktemp)
  {
    $tools_sudo apt-get update -q &&
      $tools_sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  } >"$tools_log" 2>&1 || {
    tail -n 20 "$tools_log" >&2
    rm -f "$tools_log"
    fail "apt could not install $*" "read the lines above; the network or the package lists may be the cause"
  }
  rm -f "$tools_log"
}

# The folder with libclang, which the RocksDB binding needs while it builds; empty if there is none.
find_libclang() {
  if [ -n "${LIBCLANG_PATH:-}" ]; then
    printf '%s\n' "$LIBCLANG_PATH"
    return
  fi
  # The newest of LLVM's own folders, whose headers lie beside it; else wherever the system has one.
  for tools_folder in $(find /usr/lib -maxdepth 1 -name 'llvm-*' 2>/dev/null | sort -rV) /usr/lib /usr/lib64; do
    tools_file=$(find "$tools_folder/" -maxdepth 2 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null | head -n 1)
    if [ -n "$tools_file" ]; then
      dirname "$tools_file"
      return
    fi
  done
}

# Everything for `cargo build`: a C++ compiler, libclang, git, curl, the pinned Rust toolchain.
ensure_toolchain() {
  tools_missing=
  have c++ || tools_missing="$tools_missing g++"
  have pkg-config || tools_missing="$tools_missing pkg-config"
  have git || tools_missing="$tools_missing git"
  have curl || tools_missing="$tools_missing curl ca-certificates"
  [ -n "$(find_libclang)" ] || tools_missing="$tools_missing libclang-dev"
  # shellcheck disable=SC2086 # a list of packages
  [ -z "$tools_missing" ] || ensure_packages $tools_missing
  ensure_rust
}

# The toolchain that rust-toolchain.toml names.
ensure_rust() {
  have cargo || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  export PATH
  tools_pin=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  if ! have cargo; then
    step "installing Rust $tools_pin with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
      sh -s -- -y --no-modify-path --profile minimal --default-toolchain none >&2 ||
      fail "rustup could not be installed" "install Rust $tools_pin from https://rustup.rs and run this again"
  fi
  have rustup || return 0
  [ -z "${RUSTUP_TOOLCHAIN:-}" ] || return 0
  rustup toolchain list 2>/dev/null | grep -q "^$tools_pin-" && return 0
  # The same compiler may be there under another name, such as "stable": then nothing has to be fetched.
  for tools_name in $(rustup toolchain list 2>/dev/null | sed 's/ .*//'); do
    if [ "$(rustup run "$tools_name" rustc --version 2>/dev/null | cut -d ' ' -f 2)" = "$tools_pin" ] &&
      rustup run "$tools_name" cargo clippy --version >/dev/null 2>&1; then
      RUSTUP_TOOLCHAIN=$tools_name
      export RUSTUP_TOOLCHAIN
      return 0
    fi
  done
  step "installing Rust $tools_pin"
  rustup toolchain install "$tools_pin" --profile minimal --component rustfmt --component clippy >&2 ||
    fail "Rust $tools_pin could not be installed" "run: rustup toolchain install $tools_pin"
}

# What the tests need beyond the build: Go for the real etcd, Python for its client, the checker of these scripts.
ensure_test_tools() {
  tools_missing=
  have go || tools_missing="$tools_missing golang-go"
  have python3 || tools_missing="$tools_missing python3"
  python3 -c 'import ensurepip' 2>/dev/null || tools_missing="$tools_missing python3-venv"
  have shellcheck || tools_missing="$tools_missing shellcheck"
  # shellcheck disable=SC2086 # a list of packages
  [ -z "$tools_missing" ] || ensure_packages $tools_missing
  tools_go=$(go env GOVERSION | sed 's/^go//')
  tools_wanted=$(sed -n 's/^go \([0-9.]*\).*/\1/p' tests/peers/etcd/go.mod 2>/dev/null)
  if [ -n "$tools_wanted" ] && [ "$(printf '%s\n%s\n' "$tools_wanted" "$tools_go" | sort -V | head -n 1)" != "$tools_wanted" ]; then
    # From 1.21 on, Go fetches a newer self through its module proxy.
    case $tools_go in
      1.1[0-9]* | 1.20* | 1.[0-9].* | 1.[0-9])
        fail "Go $tools_go is too old to build the real etcd" "install Go $tools_wanted or newer from https://go.dev/dl"
        ;;
      *) export GOTOOLCHAIN=auto ;;
    esac
  fi
}
