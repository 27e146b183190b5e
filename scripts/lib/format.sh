#!/bin/sh
# The stage "format" of scripts/test. To format instead of checking: cargo fmt --all.
set -eu

for manifest in Cargo.toml tests/sim/Cargo.toml; do
  if [ -f "$manifest" ]; then
    cargo fmt --manifest-path "$manifest" --all --check -- --color never
  fi
done
