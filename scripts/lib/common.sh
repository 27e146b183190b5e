#!/bin/sh
# What all scripts share: messages, the cache folder, and the two things a build needs.
#
# To be sourced from the root of the clone by a script with `set -eu`. Offers:
#   say, step, fail          messages on stderr
#   cache_dir, target_dir    folders outside the clone, so that a fresh clone builds warm
#   ensure_toolchain         compiler, libclang, cargo: installs what is missing   (lib/tools.sh)
#   ensure_rocksdb           RocksDB, built once per machine                       (lib/rocksdb.sh)

[ -f Cargo.toml ] || {
  echo "scripts must be run from the root of the clone" >&2
  exit 1
}

say() {
  printf '%s\n' "$*" >&2
}

# A line that tells what begins now; bold where somebody watches.
step() {
  if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then
    printf '\033[1m%s\033[0m\n' "$*" >&2
  else
    printf '%s\n' "$*" >&2
  fi
}

# fail PROBLEM REMEDY
fail() {
  say "error: $1"
  say "  help: $2"
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# Everything that is built once and used by every clone.
cache_dir() {
  printf '%s\n' "${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}"
}

# Twelve characters that change with the text on stdin.
short_hash() {
  sha256sum | cut -c 1-12
}

# Where cargo builds. One folder for all clones and one per compiler: cargo keeps the clones' own crates apart and
# locks the folder, so two clones may build at once.
target_dir() {
  if [ -n "${CARGO_TARGET_DIR:-}" ]; then
    printf '%s\n' "$CARGO_TARGET_DIR"
  else
    printf '%s/target-%s\n' "$(cache_dir)" "$(rustc -vV | short_hash)"
  fi
}

# Gives cargo the shared folder, and drops those of compilers that nobody has used for two weeks.
use_shared_target() {
  if [ -z "${CARGO_TARGET_DIR:-}" ]; then
    CARGO_TARGET_DIR=$(target_dir)
    export CARGO_TARGET_DIR
    mkdir -p "$CARGO_TARGET_DIR"
    touch "$CARGO_TARGET_DIR/last-used"
    find "$(cache_dir)" -mindepth 2 -maxdepth 2 -path '*/target-*/last-used' -mtime +14 | while read -r stamp; do
      say "removing the build folder of a compiler no longer used: ${stamp%/last-used}"
      rm -rf "${stamp%/last-used}"
    done
  fi
}

# The commit for `keelson version`; empty outside a clone.
git_commit() {
  git rev-parse --short=12 HEAD 2>/dev/null || true
}

# The release in the workspace's Cargo.toml.
workspace_version() {
  sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1
}

# shellcheck source=scripts/lib/tools.sh
. scripts/lib/tools.sh
# shellcheck source=scripts/lib/rocksdb.sh
. scripts/lib/rocksdb.sh
