#!/usr/bin/env bash
# Builds the real peers that the tests compare Keelson with: etcd, etcdctl and etcdutl of one pinned release,
# from the Go module proxy, and the small Go and Python client environments.
#
# Everything goes to a cache outside the clone, one folder per name and version, and a folder that is complete
# is left alone, so the script is cheap to call again. The versions are those of tests/peers/etcd/go.mod and of
# tests/clients/go/go.mod; their go.sum files pin every byte.
#
#   tests/peers/build.sh            all peers
#   tests/peers/build.sh etcd ...   only the named ones: etcd etcdctl etcdutl go-client rust-client promql python
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tests=$(dirname "$here")
cache=${KEELSON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keelson}/peers
mkdir -p "$cache"

etcd_version() {
  (cd "$here/etcd" && go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)
}

# Builds one tool of the pinned etcd release. $1 is the name of the binary, $2 its package.
build_etcd_tool() {
  local name=$1 package=$2 version folder
  version=$(etcd_version)
  folder=$cache/$name-${version#v}
  if [[ ! -x $folder/$name ]]; then
    echo "building $name ${version}" >&2
    mkdir -p "$folder"
    (cd "$here/etcd" && CGO_ENABLED=0 nice go build -mod=readonly -trimpath -ldflags '-s -w' -o "$folder/$name.new" "$package")
    mv "$folder/$name.new" "$folder/$name"
  fi
  echo "$folder/$name"
}

# The Go client program is rebuilt whenever a source is newer than the binary: it changes with the tests.
build_go_client() {
  local folder=$cache/go-client
  mkdir -p "$folder"
  if [[ ! -x $folder/keelson-go-client || -n $(find "$tests/clients/go" -newer "$folder/keelson-go-client" -type f) ]]; then
    echo "building the Go client program" >&2
    (cd "$tests/clients/go" && CGO_ENABLED=0 nice go build -mod=readonly -trimpath -ldflags '-s -w' -o "$folder/keelson-go-client" .)
    touch "$folder/keelson-go-client"
  fi
  echo "$folder/keelson-go-client"
}

# Prometheus' query engine with a program of ours around it, rebuilt as the Go client program is.
build_promql() {
  local folder=$cache/promql
  mkdir -p "$folder"
  if [[ ! -x $folder/keelson-promql || -n $(find "$here/promql" -newer "$folder/keelson-promql" -type f) ]]; then
    echo "building the evaluator of Prometheus rules" >&2
    (cd "$here/promql" && CGO_ENABLED=0 nice go build -mod=readonly -trimpath -ldflags '-s -w' -o "$folder/keelson-promql" .)
    touch "$folder/keelson-promql"
  fi
  echo "$folder/keelson-promql"
}

# The Rust client program; the client's build script wants protoc, which Debian has.
build_rust_client() {
  local folder=$cache/rust-client
  if [[ ! -x $folder/keelson-rust-client || -n $(find "$tests/clients/rust" -newer "$folder/keelson-rust-client" -name '*.rs' -o -newer "$folder/keelson-rust-client" -name 'Cargo.*') ]]; then
    if ! command -v protoc >/dev/null; then
      echo "the Rust client needs protoc: apt-get install protobuf-compiler" >&2
      exit 1
    fi
    echo "building the Rust client program" >&2
    mkdir -p "$folder"
    (cd "$tests/clients/rust" && CARGO_TARGET_DIR=$folder/target nice cargo build --quiet --locked)
    cp "$folder/target/debug/keelson-rust-client" "$folder/keelson-rust-client"
  fi
  echo "$folder/keelson-rust-client"
}

# A virtual environment that holds the Python clients, keyed by the content of the requirements file.
build_python() {
  local requirements=$tests/clients/python/requirements.txt key folder
  key=$(sha256sum "$requirements" | cut -c1-12)
  folder=$cache/python-$key
  if [[ ! -e $folder/complete ]]; then
    echo "creating the Python client environment" >&2
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    touch "$folder/complete"
  fi
  echo "$folder/bin/python"
}

build() {
  case $1 in
    etcd) build_etcd_tool etcd go.etcd.io/etcd/server/v3 ;;
    etcdctl) build_etcd_tool etcdctl go.etcd.io/etcd/etcdctl/v3 ;;
    etcdutl) build_etcd_tool etcdutl go.etcd.io/etcd/etcdutl/v3 ;;
    go-client) build_go_client ;;
    rust-client) build_rust_client ;;
    promql) build_promql ;;
    python) build_python ;;
    *) echo "unknown peer: $1" >&2; exit 2 ;;
  esac
}

if [[ $# -eq 0 ]]; then
  set -- etcd etcdctl etcdutl go-client rust-client promql python
fi
for peer in "$@"; do
  build "$peer"
done
