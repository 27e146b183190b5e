#!/bin/sh
# Builds RocksDB once per machine and hands it to every cargo build. Sourced by lib/common.sh.
#
# RocksDB is 343 C++ files and about half an hour of one core: far more than all of our own code. Cargo alone would
# build it once per profile and once per target folder. So a throw-away cargo project builds the library of the pinned
# crate with this workspace's flags, and the result is kept in the cache, named after everything that can change it.
# A plain `cargo build` without these variables still works and builds RocksDB inside target/.

# What decides the library's bytes: crate, features, compiler flags, compiler, machine.
rocksdb_key() {
  {
    sed -n '/^name = "librocksdb-sys"/{n;p;}' Cargo.lock
    sed -n 's/^rocksdb = //p' Cargo.toml
    sed -n 's/^rustflags = //p' .cargo/config.toml
    c++ -dumpfullversion
    c++ -dumpmachine
  } | short_hash
}

# The folder of the library that belongs to this clone.
rocksdb_dir() {
  rocksdb_version=$(sed -n 's/^rocksdb = .*version = "=\([^"]*\)".*/\1/p' Cargo.toml)
  printf '%s/rocksdb-%s-%s\n' "$(cache_dir)" "$rocksdb_version" "$(rocksdb_key)"
}

# Exports what the build script of the binding reads; builds the library first where it is missing.
ensure_rocksdb() {
  LIBCLANG_PATH=$(find_libclang)
  ROCKSDB_LIB_DIR=$(rocksdb_dir)
  ROCKSDB_STATIC=1
  if [ ! -f "$ROCKSDB_LIB_DIR/librocksdb.a" ]; then
    mkdir -p "$ROCKSDB_LIB_DIR"
    # Two clones may come here at once: the second waits and finds the library.
    exec 9>"$ROCKSDB_LIB_DIR/lock"
    if have flock && ! flock -n 9; then
      say "another clone is building RocksDB; waiting for it"
      flock 9
    fi
    [ -f "$ROCKSDB_LIB_DIR/librocksdb.a" ] || build_rocksdb "$ROCKSDB_LIB_DIR"
    exec 9>&-
  fi
  export LIBCLANG_PATH ROCKSDB_LIB_DIR ROCKSDB_STATIC
}

# build_rocksdb FOLDER
build_rocksdb() {
  step "building RocksDB: once per machine, about 30 minutes divided by $(nproc) cores"
  rocksdb_work=$(mktemp -d "$1/build.XXXXXX")
  mkdir -p "$rocksdb_work/.cargo" "$rocksdb_work/src"
  cp .cargo/config.toml "$rocksdb_work/.cargo/"
  cp rust-toolchain.toml "$rocksdb_work/"
  : >"$rocksdb_work/src/lib.rs"
  cat >"$rocksdb_work/Cargo.toml" <<TOML
[package]
name = "rocksdb-once"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
rocksdb = $(sed -n 's/^rocksdb = //p' Cargo.toml)
librocksdb-sys = { version = "=$(sed -n '/^name = "librocksdb-sys"/{n;s/version = "\([^+"]*\).*/\1/p;}' Cargo.lock)", default-features = false }
TOML
  (
    cd "$rocksdb_work" || exit 1
    unset ROCKSDB_LIB_DIR ROCKSDB_STATIC
    CARGO_TARGET_DIR=$rocksdb_work/target LIBCLANG_PATH=$(find_libclang) cargo build --release >build.log 2>&1
  ) 9>&- &
  rocksdb_pid=$!
  rocksdb_watch "$rocksdb_work/target" "$rocksdb_pid"
  if ! wait "$rocksdb_pid"; then
    tail -n 30 "$rocksdb_work/build.log" >&2
    fail "RocksDB could not be built" "the whole log is $rocksdb_work/build.log"
  fi
  rocksdb_built=$(find "$rocksdb_work/target" -name librocksdb.a | head -n 1)
  # A rename is atomic: nobody ever links half a library.
  mv "$rocksdb_built" "$1/librocksdb.a"
  rm -rf "$rocksdb_work"
}

# rocksdb_watch FOLDER PID: tells how many files are compiled; on one line where somebody watches, else every 2 minutes.
rocksdb_watch() {
  rocksdb_seconds=0
  while kill -0 "$2" 2>/dev/null; do
    sleep 2
    rocksdb_seconds=$((rocksdb_seconds + 2))
    rocksdb_line="RocksDB: $(find "$1" -path '*librocksdb-sys*' -name '*.o' 2>/dev/null | wc -l) of 343 files, $((rocksdb_seconds / 60)) min"
    if [ -t 2 ]; then
      printf '\r%s ' "$rocksdb_line" >&2
    elif [ $((rocksdb_seconds % 120)) -eq 0 ]; then
      say "$rocksdb_line"
    fi
  done
  [ ! -t 2 ] || printf '\n' >&2
}
