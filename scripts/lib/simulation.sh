#!/bin/sh
# The stage "simulation" of scripts/test: tests/sim is a workspace of its own, without RocksDB and gRPC.
set -eu

manifest=tests/sim/Cargo.toml
if [ ! -f "$manifest" ]; then
  echo "there is no simulation yet"
  exit 0
fi
profile=release
if grep -q '^\[profile.checked\]' "$manifest"; then
  profile=checked
fi
cargo clippy --manifest-path "$manifest" --profile "$profile" --all-targets -- -D warnings
cargo test --manifest-path "$manifest" --profile "$profile"
