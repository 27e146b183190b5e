#!/bin/sh
# The stage "simulation" of scripts/test: tests/sim is a workspace of its own, without RocksDB and gRPC.
set -eu

manifest=tests/sim/Cargo.toml
profile=checked
foreign=$(cargo tree --manifest-path "$manifest" --edges normal,build --prefix none |
  grep -E '^(rocksdb|librocksdb-sys|cc|cmake|bindgen|cxx|tonic|prost|h2) ' || true)
if [ -n "$foreign" ]; then
  echo "the simulation must not depend on RocksDB, gRPC or C++, but it does:" >&2
  echo "$foreign" >&2
  exit 1
fi
cargo clippy --manifest-path "$manifest" --profile "$profile" --all-targets -- -D warnings
cargo test --manifest-path "$manifest" --profile "$profile"
